/* SPDX-License-Identifier: Apache-2.0 */

/* The far sides: ethdevs that the NIC owns, so that applications do not see them. */

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_mempool.h>

#include "eswitch.h"

/* Buffers of one far side: what is in the pipeline, and what a far side keeps until it is sent. */
#define POOL_SIZE 2047
#define DESCS 512

/* Times a far side that takes no packets is asked again before they are dropped. */
#define SEND_TRIES 4

/* Buffer sizes to try: some drivers (net_af_packet) refuse buffers smaller than their own
 * frames. */
static const uint16_t buffer_sizes[] = { 2048, 9728, 16384, UINT16_MAX - RTE_PKTMBUF_HEADROOM };

static int
new_pool(struct esw_port *port, uint16_t size)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "esw_far_%u_%u", port->far.ethdev, size);
	port->far.pool = rte_pktmbuf_pool_create(name, POOL_SIZE, 0, 0, size + RTE_PKTMBUF_HEADROOM,
						 port->nic->vdev->device.numa_node);
	return port->far.pool == NULL ? -rte_errno : 0;
}

static int
setup_rx(struct esw_port *port)
{
	uint32_t i;
	int ret = -ENOMEM;

	for (i = 0; i < RTE_DIM(buffer_sizes); i++) {
		if (buffer_sizes[i] < esw_far_mtu(port) + RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN)
			continue;
		ret = new_pool(port, buffer_sizes[i]);
		if (ret < 0)
			return ret;
		ret = rte_eth_rx_queue_setup(port->far.ethdev, 0, DESCS,
					     port->nic->vdev->device.numa_node, NULL,
					     port->far.pool);
		if (ret == 0)
			return 0;
		rte_mempool_free(port->far.pool);
		port->far.pool = NULL;
	}
	return ret;
}

static int
start(struct esw_port *port)
{
	struct rte_eth_conf conf = { 0 };
	uint16_t far = port->far.ethdev;
	uint16_t rx_descs = DESCS, tx_descs = DESCS;
	int ret;

	ret = rte_eth_dev_configure(far, 1, 1, &conf);
	if (ret < 0)
		return ret;
	ret = rte_eth_dev_adjust_nb_rx_tx_desc(far, &rx_descs, &tx_descs);
	if (ret < 0)
		return ret;
	ret = setup_rx(port);
	if (ret < 0)
		return ret;
	ret = rte_eth_tx_queue_setup(far, 0, tx_descs, port->nic->vdev->device.numa_node, NULL);
	if (ret < 0)
		return ret;
	ret = rte_eth_dev_start(far);
	if (ret < 0)
		return ret;
	port->far.configured = true;
	/* Everything there is to see has to arrive; devices that cannot be switched
	 * do so anyway. */
	ret = rte_eth_promiscuous_enable(far);
	return ret == -ENOTSUP ? 0 : ret;
}

static int
claim(struct esw_port *port, const char *name)
{
	int ret;

	if (rte_eth_dev_get_port_by_name(name, &port->far.ethdev) < 0) {
		ESW_LOG(ERR, "%s: no ethdev %s: its --vdev comes before the NIC's\n", port->name,
			name);
		return -ENODEV;
	}
	ret = rte_eth_dev_owner_set(port->far.ethdev, &port->nic->owner);
	if (ret < 0) {
		ESW_LOG(ERR, "%s: ethdev %s has an owner already\n", port->name, name);
		return ret;
	}
	port->far.claimed = true;
	return 0;
}

/* Takes the ethdev as the port's far side, and starts it. On error esw_far_close undoes what was
 * done. */
int
esw_far_open(struct esw_port *port, const char *name)
{
	int ret;

	ret = claim(port, name);
	if (ret < 0)
		return ret;
	ret = start(port);
	if (ret < 0) {
		ESW_LOG(ERR, "%s: cannot start far side %s: %s\n", port->name, name,
			rte_strerror(-ret));
		return ret;
	}
	ret = rte_eth_macaddr_get(port->far.ethdev, &port->mac);
	if (ret < 0)
		return ret;
	store_relaxed(&port->mtu, esw_far_mtu(port));
	return 0;
}

/* Gives the far side back, stopped. */
void
esw_far_close(struct esw_port *port)
{
	if (port->far.claimed && rte_eth_dev_is_valid_port(port->far.ethdev)) {
		if (port->far.configured && rte_eth_dev_stop(port->far.ethdev) < 0)
			ESW_LOG(ERR, "%s: cannot stop its far side\n", port->name);
		rte_eth_dev_owner_unset(port->far.ethdev, port->nic->owner.id);
	}
	port->far.claimed = false;
	port->far.configured = false;
	rte_mempool_free(port->far.pool);
	port->far.pool = NULL;
}

static bool
is_set(const atomic_bool *fault)
{
	return load_relaxed(fault);
}

static void
lose(struct esw_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	esw_count(port, ESW_STAT_FAULT_DROPPED, n);
	rte_pktmbuf_free_bulk(pkts, n);
}

uint16_t
esw_far_receive(struct esw_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	n = rte_eth_rx_burst(port->far.ethdev, 0, pkts, n);
	if (n == 0 || (!is_set(&port->link_down) && !is_set(&port->far_stopped)))
		return n;
	/* What comes now is lost: it shall not come all at once afterwards. */
	lose(port, pkts, n);
	return 0;
}

/* Sends out of the far side; returns how many it took. */
uint16_t
esw_far_send(struct esw_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t bytes = 0;
	uint16_t i, sent = 0;
	int tries;

	if (is_set(&port->far_stopped))
		return 0;
	if (is_set(&port->link_down)) {
		lose(port, pkts, n);
		return n;
	}
	/* Sizes first: what is sent is not ours to look at any more. */
	for (i = 0; i < n; i++)
		bytes += pkts[i]->pkt_len;
	pthread_mutex_lock(&port->far.lock);
	for (tries = 0; sent < n && tries < SEND_TRIES; tries++)
		sent += rte_eth_tx_burst(port->far.ethdev, 0, pkts + sent, n - sent);
	pthread_mutex_unlock(&port->far.lock);
	for (i = sent; i < n; i++)
		bytes -= pkts[i]->pkt_len;
	esw_count(port, ESW_STAT_FAR_TX_PACKETS, sent);
	esw_count(port, ESW_STAT_FAR_TX_BYTES, bytes);
	return sent;
}

static bool
is_tagged(const struct rte_mbuf *m, uint32_t offset)
{
	rte_be16_t buffer, type;
	const void *at = rte_pktmbuf_read(m, offset, sizeof(buffer), &buffer);

	if (at == NULL)
		return false;
	memcpy(&type, at, sizeof(type));
	return type == RTE_BE16(RTE_ETHER_TYPE_VLAN) || type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* Whether a frame is within the port's MTU, which counts neither the Ethernet header nor VLAN
 * tags. */
bool
esw_far_fits(struct esw_port *port, const struct rte_mbuf *m)
{
	uint32_t limit = load_relaxed(&port->mtu) + RTE_ETHER_HDR_LEN;
	uint32_t type = RTE_ETHER_HDR_LEN - RTE_ETHER_TYPE_LEN;
	int tags;

	for (tags = 0; m->pkt_len > limit; tags++) {
		if (tags == 2 || !is_tagged(m, type))
			return false;
		type += RTE_VLAN_HLEN;
		limit += RTE_VLAN_HLEN;
	}
	return true;
}

/* Asks or sets something of the kernel interface behind the far side; -ENODEV when there is none,
 * -ENXIO when it was deleted. */
static int
kernel_request(uint16_t ethdev, unsigned long request, struct ifreq *ifr)
{
	struct rte_eth_dev_info info;
	int fd, ret;

	if (rte_eth_dev_info_get(ethdev, &info) < 0 || info.if_index == 0)
		return -ENODEV;
	if (if_indextoname(info.if_index, ifr->ifr_name) == NULL)
		return -ENXIO;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, request, ifr) < 0 ? -errno : 0;
	close(fd);
	return ret == -ENODEV ? -ENXIO : ret;
}

/*
 * The far side's MTU. Drivers over a kernel interface do not know that interface's, so it is asked
 * itself. Where the far side has none, it is what was set last.
 */
uint32_t
esw_far_mtu(const struct esw_port *port)
{
	struct ifreq ifr = { 0 };
	uint16_t mtu;

	if (kernel_request(port->far.ethdev, SIOCGIFMTU, &ifr) == 0)
		return ifr.ifr_mtu;
	if (load_relaxed(&port->mtu) != 0)
		return load_relaxed(&port->mtu);
	if (rte_eth_dev_get_mtu(port->far.ethdev, &mtu) < 0)
		return RTE_ETHER_MTU;
	return mtu;
}

/* Sets the far side's MTU; a far side that has none takes any. */
int
esw_far_set_mtu(struct esw_port *port, uint16_t mtu)
{
	struct ifreq ifr = { .ifr_mtu = mtu };
	int ret = kernel_request(port->far.ethdev, SIOCSIFMTU, &ifr);

	if (ret == -ENODEV)
		ret = rte_eth_dev_set_mtu(port->far.ethdev, mtu);
	return ret == -ENOTSUP ? 0 : ret;
}

int
esw_far_set_mac(struct esw_port *port, struct rte_ether_addr *mac)
{
	int ret = rte_eth_dev_default_mac_addr_set(port->far.ethdev, mac);

	return ret == -ENOTSUP ? 0 : ret;
}

/* What the far side had to drop, or found broken, before the NIC saw it. */
uint64_t
esw_far_rx_errors(const struct esw_port *port)
{
	struct rte_eth_stats stats;

	if (rte_eth_stats_get(port->far.ethdev, &stats) < 0)
		return 0;
	return stats.imissed + stats.ierrors + stats.rx_nombuf;
}

/* Drivers over a kernel interface do not know whether that has a carrier, or is there at all, so it
 * is asked itself. */
void
esw_far_link(const struct esw_port *port, struct rte_eth_link *link)
{
	struct ethtool_value carrier = { .cmd = ETHTOOL_GLINK };
	struct ifreq ifr = { .ifr_data = (void *)&carrier };
	int ret;

	if (rte_eth_link_get_nowait(port->far.ethdev, link) < 0) {
		memset(link, 0, sizeof(*link));
		return;
	}
	ret = kernel_request(port->far.ethdev, SIOCETHTOOL, &ifr);
	if (ret == -ENXIO || (ret == 0 && carrier.data == 0))
		link->link_status = RTE_ETH_LINK_DOWN;
}
