/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <rte_string_fns.h>

#include "ethdev.h"

static void
copy_name(char *dst, size_t size, const char *src)
{
	rte_strscpy(dst, src != NULL ? src : "", size);
}

int
dps_port_info(uint16_t port, struct dps_port_info *out)
{
	struct rte_eth_dev_info info;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = rte_eth_dev_info_get(port, &info);
	if (rc == 0)
		rc = rte_eth_dev_get_name_by_port(port, out->name);
	if (rc == 0)
		rc = rte_eth_macaddr_get(port, &out->mac);
	if (rc == 0)
		rc = rte_eth_dev_get_mtu(port, &out->mtu);
	if (rc != 0)
		return rc;

	copy_name(out->driver, sizeof(out->driver), info.driver_name);
	copy_name(out->switch_name, sizeof(out->switch_name), info.switch_info.name);
	out->if_index = info.if_index;
	out->max_rxq = info.max_rx_queues;
	out->max_txq = info.max_tx_queues;
	out->domain = info.switch_info.domain_id;
	out->switch_port = info.switch_info.port_id;
	out->has_domain = info.switch_info.domain_id != RTE_ETH_DEV_SWITCH_DOMAIN_ID_INVALID;
	if (info.dev_flags != NULL)
		out->representor = (*info.dev_flags & RTE_ETH_DEV_REPRESENTOR) != 0;
	return 0;
}

/*
 * rte_eth_dev_configure() would set the MTU to 1500, whatever it was.
 */
static int
current_mtu(uint16_t port, const struct rte_eth_dev_info *info, uint32_t *mtu)
{
	uint16_t now;
	int rc = rte_eth_dev_get_mtu(port, &now);

	if (rc != 0)
		return rc;
	*mtu = RTE_MAX(now, info->min_mtu);
	if (info->max_mtu != 0)
		*mtu = RTE_MIN(*mtu, (uint32_t)info->max_mtu);
	return 0;
}

/* How many descriptors to ask for: ethdev's own answer to 0 comes too late, after the fit to the
 * device's limits. */
static uint16_t
descs_or_default(uint16_t asked, uint16_t device_default, uint16_t fallback)
{
	if (asked != 0)
		return asked;
	return device_default != 0 ? device_default : fallback;
}

/* Several queues: the packets of a flow come by one, as far as the device can tell flows apart. */
static void
spread(const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	uint64_t by =
		info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);

	if (by == 0)
		return;
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rx_adv_conf.rss_conf.rss_hf = by;
}

static atomic_bool removed[RTE_MAX_ETHPORTS];

/* On EAL's interrupt thread. */
static int
note_removal(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	RTE_SET_USED(event);
	RTE_SET_USED(arg);
	RTE_SET_USED(ret);
	atomic_store_explicit(&removed[port], true, memory_order_relaxed);
	return 0;
}

bool
dps_port_removed(uint16_t port)
{
	return port < RTE_MAX_ETHPORTS &&
	       atomic_load_explicit(&removed[port], memory_order_relaxed);
}

/* Ask for the event, if the device has it. */
static int
watch_removal(uint16_t port, const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	atomic_store_explicit(&removed[port], false, memory_order_relaxed);
	if (info->dev_flags == NULL || !(*info->dev_flags & RTE_ETH_DEV_INTR_RMV))
		return 0;
	conf->intr_conf.rmv = 1;
	return rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_RMV, note_removal, NULL);
}

int
dps_port_configure(uint16_t port, const struct dps_port_config *cfg, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;
	uint16_t rxd, txd, q;
	int socket, rc;

	rc = rte_eth_dev_info_get(port, &info);
	if (rc == 0)
		rc = current_mtu(port, &info, &conf.rxmode.mtu);
	if (rc == 0 && cfg->rxq > 1)
		spread(&info, &conf);
	if (rc == 0)
		rc = watch_removal(port, &info, &conf);
	if (rc == 0)
		rc = rte_eth_dev_configure(port, cfg->rxq, cfg->txq, &conf);
	if (rc != 0)
		return rc;
	rxd = descs_or_default(cfg->rxd, info.default_rxportconf.ring_size,
			       RTE_ETH_DEV_FALLBACK_RX_RINGSIZE);
	txd = descs_or_default(cfg->txd, info.default_txportconf.ring_size,
			       RTE_ETH_DEV_FALLBACK_TX_RINGSIZE);
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rxd, &txd);
	if (rc != 0)
		return rc;

	socket = rte_eth_dev_socket_id(port);
	for (q = 0; q < cfg->rxq && rc == 0; q++)
		rc = rte_eth_rx_queue_setup(port, q, rxd, socket, NULL, pool);
	for (q = 0; q < cfg->txq && rc == 0; q++)
		rc = rte_eth_tx_queue_setup(port, q, txd, socket, NULL);
	return rc;
}

int
dps_port_link(uint16_t port, struct dps_port_link *out)
{
	struct rte_eth_link link = { 0 };
	int rc = rte_eth_link_get_nowait(port, &link);

	if (rc != 0)
		return rc;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return 0;
}

int
dps_port_xstats(uint16_t port, struct rte_eth_xstat_name *names, struct rte_eth_xstat *values,
		unsigned int n)
{
	int rc = rte_eth_xstats_get_names(port, names, n);

	if (rc < 0)
		return rc;
	if ((unsigned int)rc > n)
		return -EAGAIN; /* the driver has grown new ones meanwhile */
	rc = rte_eth_xstats_get(port, values, n);
	if (rc > 0 && (unsigned int)rc > n)
		return -EAGAIN;
	return rc;
}
