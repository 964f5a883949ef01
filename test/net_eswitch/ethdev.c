/* SPDX-License-Identifier: Apache-2.0 */

/* A port as DPDK sees it. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "eswitch.h"

static void
release_queues(struct esw_port *port)
{
	uint32_t i;

	for (i = 0; i < ESW_MAX_QUEUES; i++) {
		if (port->rxq[i] != NULL)
			rte_ring_free(port->rxq[i]->ring);
		free(port->rxq[i]);
		free(port->txq[i]);
		port->rxq[i] = NULL;
		port->txq[i] = NULL;
	}
}

static void
drain(struct esw_rxq *rxq)
{
	struct rte_mbuf *m;

	while (rte_ring_sc_dequeue(rxq->ring, (void **)&m) == 0)
		rte_pktmbuf_free(m);
}

static uint16_t
receive(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct esw_rxq *rxq = queue;
	uint16_t i;

	n = rte_ring_sc_dequeue_burst(rxq->ring, (void **)pkts, n, NULL);
	for (i = 0; i < n; i++)
		rxq->bytes += pkts[i]->pkt_len;
	rxq->packets += n;
	return n;
}

/* Moves the packets the far side can take to the front; the others are dropped. */
static uint16_t
drop_oversize(struct esw_txq *txq, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (esw_far_fits(txq->port, pkts[i])) {
			pkts[kept++] = pkts[i];
			continue;
		}
		esw_count(txq->port, ESW_STAT_OVERSIZE, 1);
		txq->errors++;
		rte_pktmbuf_free(pkts[i]);
	}
	return kept;
}

/* Sends up to ESW_BURST packets; returns how many are gone, sent or dropped. The others are then
 * the last ones. */
static uint16_t
transmit_some(struct esw_txq *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct rte_mbuf *fit[ESW_BURST];
	uint16_t i, kept, sent;
	uint64_t bytes = 0;

	for (i = 0; i < n; i++)
		fit[i] = pkts[i];
	kept = drop_oversize(txq, fit, n);
	for (i = 0; i < kept; i++)
		bytes += fit[i]->pkt_len;
	sent = esw_far_send(txq->port, fit, kept);
	for (i = sent; i < kept; i++) {
		bytes -= fit[i]->pkt_len;
		pkts[n - kept + i] = fit[i];
	}
	txq->packets += sent;
	txq->bytes += bytes;
	return n - (kept - sent);
}

/* What the application sends goes to the far side as it is, past the rules. */
static uint16_t
transmit(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = 0, some, gone;

	while (done < n) {
		some = RTE_MIN(n - done, ESW_BURST);
		gone = transmit_some(queue, pkts + done, some);
		done += gone;
		if (gone < some)
			break;
	}
	return done;
}

static int
dev_configure(struct rte_eth_dev *dev)
{
	struct esw_port *port = dev->data->dev_private;
	uint32_t asked = dev->data->dev_conf.rxmode.mtu;
	int ret;

	/* 1500 is also what ethdev says for an application that did not ask for anything. */
	if (asked != RTE_ETHER_MTU && asked != load_relaxed(&port->mtu)) {
		ret = esw_far_set_mtu(port, asked);
		if (ret < 0)
			return ret;
		store_relaxed(&port->mtu, asked);
	}
	dev->data->mtu = load_relaxed(&port->mtu);
	store_relaxed(&port->spread, dev->data->dev_conf.rxmode.mq_mode & RTE_ETH_MQ_RX_RSS_FLAG ?
					     dev->data->nb_rx_queues :
					     1);
	return 0;
}

static int
link_update(struct rte_eth_dev *dev, int wait __rte_unused)
{
	struct esw_port *port = dev->data->dev_private;
	struct rte_eth_link link = { 0 };

	if (load_relaxed(&port->started) && !load_relaxed(&port->link_down))
		esw_far_link(port, &link);
	return rte_eth_linkstatus_set(dev, &link);
}

/* Looks at the link again, and tells the application if it has asked for that. */
void
esw_ethdev_link_changed(struct rte_eth_dev *dev)
{
	if (!dev->data->dev_started)
		return;
	link_update(dev, 0);
	if (dev->data->dev_conf.intr_conf.lsc)
		rte_eth_dev_callback_process(dev, RTE_ETH_EVENT_INTR_LSC, NULL);
}

/* Tells the application, if it has asked for that, that the port is gone. */
void
esw_ethdev_removed(struct rte_eth_dev *dev)
{
	if (dev->data->dev_conf.intr_conf.rmv)
		rte_eth_dev_callback_process(dev, RTE_ETH_EVENT_INTR_RMV, NULL);
}

static int
dev_start(struct rte_eth_dev *dev)
{
	struct esw_port *port = dev->data->dev_private;
	uint16_t i;

	for (i = 0; i < dev->data->nb_rx_queues; i++)
		dev->data->rx_queue_state[i] = RTE_ETH_QUEUE_STATE_STARTED;
	for (i = 0; i < dev->data->nb_tx_queues; i++)
		dev->data->tx_queue_state[i] = RTE_ETH_QUEUE_STATE_STARTED;
	/* The far side's kernel interface may have got another MTU since. */
	store_relaxed(&port->mtu, esw_far_mtu(port));
	dev->data->mtu = load_relaxed(&port->mtu);
	atomic_store_explicit(&port->started, true, memory_order_release);
	link_update(dev, 0);
	return 0;
}

static int
dev_stop(struct rte_eth_dev *dev)
{
	struct esw_port *port = dev->data->dev_private;
	uint16_t i;

	atomic_store_explicit(&port->started, false, memory_order_release);
	esw_pipeline_wait(port->nic);
	for (i = 0; i < ESW_MAX_QUEUES; i++)
		if (port->rxq[i] != NULL)
			drain(port->rxq[i]);
	for (i = 0; i < dev->data->nb_rx_queues; i++)
		dev->data->rx_queue_state[i] = RTE_ETH_QUEUE_STATE_STOPPED;
	for (i = 0; i < dev->data->nb_tx_queues; i++)
		dev->data->tx_queue_state[i] = RTE_ETH_QUEUE_STATE_STOPPED;
	dev->data->dev_link.link_status = RTE_ETH_LINK_DOWN;
	return 0;
}

static int
dev_close(struct rte_eth_dev *dev)
{
	struct esw_port *port = dev->data->dev_private;

	esw_flow_flush_port(port);
	esw_indirect_free_port(port);
	release_queues(port);
	/* These belong to the port, not to ethdev. */
	dev->data->mac_addrs = NULL;
	dev->data->dev_private = NULL;
	esw_nic_port_closed(port);
	return 0;
}

static void
switch_info(const struct esw_port *port, struct rte_eth_switch_info *info)
{
	if (!esw_port_in_switch(port)) {
		info->name = port->name;
		info->domain_id = RTE_ETH_DEV_SWITCH_DOMAIN_ID_INVALID;
		return;
	}
	info->name = port->nic->name;
	info->domain_id = port->nic->domain;
	info->port_id = port->kind == ESW_VF ? port->vf : UINT16_MAX;
}

static int
dev_infos_get(struct rte_eth_dev *dev, struct rte_eth_dev_info *info)
{
	const struct esw_port *port = dev->data->dev_private;

	info->max_mac_addrs = 1;
	info->min_mtu = RTE_ETHER_MIN_MTU;
	info->max_mtu = UINT16_MAX - RTE_ETHER_HDR_LEN - RTE_ETHER_CRC_LEN - 2 * RTE_VLAN_HLEN;
	info->max_rx_pktlen = UINT16_MAX;
	info->max_rx_queues = ESW_MAX_QUEUES;
	info->max_tx_queues = ESW_MAX_QUEUES;
	info->rx_desc_lim.nb_max = ESW_MAX_DESCS;
	info->rx_desc_lim.nb_min = 1;
	info->rx_desc_lim.nb_align = 1;
	info->tx_desc_lim = info->rx_desc_lim;
	info->flow_type_rss_offloads = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
	info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	info->default_rxportconf.ring_size = 512;
	info->default_txportconf.ring_size = 512;
	info->default_rxportconf.nb_queues = 1;
	info->default_txportconf.nb_queues = 1;
	info->default_rxportconf.burst_size = ESW_BURST;
	info->default_txportconf.burst_size = ESW_BURST;
	switch_info(port, &info->switch_info);
	return 0;
}

/* One range: VF numbers are representors' ids. */
static int
representor_info_get(struct rte_eth_dev *dev, struct rte_eth_representor_info *info)
{
	const struct esw_port *port = dev->data->dev_private;
	struct rte_eth_representor_range *range;

	if (!esw_port_in_switch(port))
		return -ENOTSUP;
	if (info == NULL || info->nb_ranges_alloc == 0)
		return 1;
	info->controller = 0;
	info->pf = 0;
	info->nb_ranges = 1;
	range = &info->ranges[0];
	memset(range, 0, sizeof(*range));
	range->type = RTE_ETH_REPRESENTOR_VF;
	range->id_end = ESW_MAX_VF_ID;
	snprintf(range->name, sizeof(range->name), "vf");
	return 1;
}

static void
rx_queue_release(struct rte_eth_dev *dev, uint16_t queue)
{
	struct esw_port *port = dev->data->dev_private;
	struct esw_rxq *rxq = port->rxq[queue];

	port->rxq[queue] = NULL;
	if (rxq == NULL)
		return;
	drain(rxq);
	rte_ring_free(rxq->ring);
	free(rxq);
}

static int
rx_queue_setup(struct rte_eth_dev *dev, uint16_t queue, uint16_t descs, unsigned int socket,
	       const struct rte_eth_rxconf *conf __rte_unused, struct rte_mempool *pool)
{
	struct esw_port *port = dev->data->dev_private;
	char name[RTE_RING_NAMESIZE];
	struct esw_rxq *rxq;

	rxq = calloc(1, sizeof(*rxq));
	if (rxq == NULL)
		return -ENOMEM;
	snprintf(name, sizeof(name), "esw_%u_%u", port->ethdev, queue);
	rxq->ring = rte_ring_create(name, descs, socket,
				    RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
	if (rxq->ring == NULL) {
		free(rxq);
		return -rte_errno;
	}
	rxq->pool = pool;
	rxq->port_id = port->ethdev;
	port->rxq[queue] = rxq;
	dev->data->rx_queues[queue] = rxq;
	return 0;
}

static void
tx_queue_release(struct rte_eth_dev *dev, uint16_t queue)
{
	struct esw_port *port = dev->data->dev_private;

	free(port->txq[queue]);
	port->txq[queue] = NULL;
}

static int
tx_queue_setup(struct rte_eth_dev *dev, uint16_t queue, uint16_t descs __rte_unused,
	       unsigned int socket __rte_unused, const struct rte_eth_txconf *conf __rte_unused)
{
	struct esw_port *port = dev->data->dev_private;
	struct esw_txq *txq = calloc(1, sizeof(*txq));

	if (txq == NULL)
		return -ENOMEM;
	txq->port = port;
	port->txq[queue] = txq;
	dev->data->tx_queues[queue] = txq;
	return 0;
}

/* Every packet of the far side arrives; there is nothing to switch on or off. */
static int
accept_all(struct rte_eth_dev *dev __rte_unused)
{
	return 0;
}

static int
mtu_set(struct rte_eth_dev *dev, uint16_t mtu)
{
	struct esw_port *port = dev->data->dev_private;
	int ret = esw_far_set_mtu(port, mtu);

	if (ret == 0)
		store_relaxed(&port->mtu, mtu);
	return ret;
}

static int
mac_addr_set(struct rte_eth_dev *dev, struct rte_ether_addr *mac)
{
	return esw_far_set_mac(dev->data->dev_private, mac);
}

static const struct eth_dev_ops ops = {
	.dev_configure = dev_configure,
	.dev_start = dev_start,
	.dev_stop = dev_stop,
	.dev_close = dev_close,
	.dev_infos_get = dev_infos_get,
	.representor_info_get = representor_info_get,
	.rx_queue_setup = rx_queue_setup,
	.rx_queue_release = rx_queue_release,
	.tx_queue_setup = tx_queue_setup,
	.tx_queue_release = tx_queue_release,
	.link_update = link_update,
	.promiscuous_enable = accept_all,
	.promiscuous_disable = accept_all,
	.allmulticast_enable = accept_all,
	.allmulticast_disable = accept_all,
	.mtu_set = mtu_set,
	.mac_addr_set = mac_addr_set,
	.stats_get = esw_stats_get,
	.stats_reset = esw_stats_reset,
	.xstats_get = esw_xstats_get,
	.xstats_get_names = esw_xstats_get_names,
	.xstats_reset = esw_stats_reset,
	.flow_ops_get = esw_flow_ops_get,
};

/* Makes the port an ethdev that applications see. */
int
esw_ethdev_create(struct esw_port *port)
{
	struct rte_eth_dev *dev = rte_eth_dev_allocate(port->name);

	if (dev == NULL) {
		ESW_LOG(ERR, "%s: no ethdev left (this DPDK has %u, far sides included)\n",
			port->name, RTE_MAX_ETHPORTS);
		return -ENOSPC;
	}
	port->dev = dev;
	port->ethdev = dev->data->port_id;
	dev->device = &port->nic->vdev->device;
	dev->intr_handle = NULL;
	dev->dev_ops = &ops;
	dev->rx_pkt_burst = receive;
	dev->tx_pkt_burst = transmit;
	dev->data->dev_private = port;
	dev->data->mac_addrs = &port->mac;
	dev->data->mtu = load_relaxed(&port->mtu);
	dev->data->numa_node = port->nic->vdev->device.numa_node;
	dev->data->promiscuous = 1;
	dev->data->all_multicast = 1;
	dev->data->dev_flags |=
		RTE_ETH_DEV_FLOW_OPS_THREAD_SAFE | RTE_ETH_DEV_INTR_LSC | RTE_ETH_DEV_INTR_RMV;
	if (port->kind == ESW_VF) {
		dev->data->dev_flags |= RTE_ETH_DEV_REPRESENTOR;
		dev->data->representor_id = port->vf;
		dev->data->backer_port_id = esw_nic_pf0(port->nic)->ethdev;
	}
	rte_eth_dev_probing_finish(dev);
	return 0;
}
