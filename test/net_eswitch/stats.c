/* SPDX-License-Identifier: Apache-2.0 */

#include <stdio.h>

#include "eswitch.h"

/* All counters are of packets but for those that say bytes. */
static const char *const stat_names[ESW_STAT_MAX] = {
	[ESW_STAT_FAR_RX_PACKETS] = "far_rx_packets",
	[ESW_STAT_FAR_RX_BYTES] = "far_rx_bytes",
	[ESW_STAT_FAR_TX_PACKETS] = "far_tx_packets",
	[ESW_STAT_FAR_TX_BYTES] = "far_tx_bytes",
	[ESW_STAT_FAR_TX_ERRORS] = "far_tx_errors",
	[ESW_STAT_HITS] = "hits",
	[ESW_STAT_MISSES] = "misses",
	[ESW_STAT_INGRESS_HITS] = "ingress_hits",
	[ESW_STAT_SAMPLED] = "sampled",
	[ESW_STAT_SAMPLE_FAILED] = "sample_failed",
	[ESW_STAT_ENCAPSULATED] = "encapsulated",
	[ESW_STAT_DECAPSULATED] = "decapsulated",
	[ESW_STAT_OVERSIZE] = "oversize",
	[ESW_STAT_DROPPED] = "dropped",
	[ESW_STAT_MALFORMED] = "malformed",
	[ESW_STAT_ISOLATED] = "isolated_dropped",
	[ESW_STAT_RX_NOT_STARTED] = "rx_not_started",
	[ESW_STAT_RX_FULL] = "rx_full",
	[ESW_STAT_RX_NO_MBUF] = "rx_no_mbuf",
	[ESW_STAT_RX_TOO_LONG] = "rx_too_long",
	[ESW_STAT_FAULT_DROPPED] = "fault_dropped",
	[ESW_STAT_FAR_RX_ERRORS] = "far_rx_errors",
};

static uint64_t
get(const struct esw_port *port, enum esw_stat stat)
{
	uint64_t n = load_relaxed(&port->stat[stat]);

	/* Counted by the far side, since it was opened; a reset notes how many there were. */
	return stat == ESW_STAT_FAR_RX_ERRORS ? esw_far_rx_errors(port) - n : n;
}

/* The basic counters are the application's side of the port; what the rules did is in the
 * xstats. */
int
esw_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats ESW_QUEUE_STATS)
{
	const struct esw_port *port = dev->data->dev_private;
	uint32_t i;

	for (i = 0; i < ESW_MAX_QUEUES; i++) {
		if (port->rxq[i] != NULL) {
			stats->ipackets += port->rxq[i]->packets;
			stats->ibytes += port->rxq[i]->bytes;
		}
		if (port->txq[i] != NULL) {
			stats->opackets += port->txq[i]->packets;
			stats->obytes += port->txq[i]->bytes;
			stats->oerrors += port->txq[i]->errors;
		}
	}
	stats->imissed = get(port, ESW_STAT_RX_FULL) + get(port, ESW_STAT_RX_NOT_STARTED);
	stats->rx_nombuf = get(port, ESW_STAT_RX_NO_MBUF);
	stats->ierrors = get(port, ESW_STAT_RX_TOO_LONG) + get(port, ESW_STAT_MALFORMED);
	return 0;
}

int
esw_stats_reset(struct rte_eth_dev *dev)
{
	struct esw_port *port = dev->data->dev_private;
	uint32_t i;

	for (i = 0; i < ESW_MAX_QUEUES; i++) {
		if (port->rxq[i] != NULL)
			port->rxq[i]->packets = port->rxq[i]->bytes = 0;
		if (port->txq[i] != NULL)
			port->txq[i]->packets = port->txq[i]->bytes = port->txq[i]->errors = 0;
	}
	for (i = 0; i < ESW_STAT_MAX; i++)
		store_relaxed(&port->stat[i],
			      i == ESW_STAT_FAR_RX_ERRORS ? esw_far_rx_errors(port) : 0);
	return 0;
}

int
esw_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *xstats, unsigned int n)
{
	const struct esw_port *port = dev->data->dev_private;
	uint32_t i;

	if (xstats == NULL || n < ESW_STAT_MAX)
		return ESW_STAT_MAX;
	for (i = 0; i < ESW_STAT_MAX; i++) {
		xstats[i].id = i;
		xstats[i].value = get(port, i);
	}
	return ESW_STAT_MAX;
}

int
esw_xstats_get_names(struct rte_eth_dev *dev __rte_unused, struct rte_eth_xstat_name *names,
		     unsigned int n)
{
	uint32_t i;

	if (names == NULL || n < ESW_STAT_MAX)
		return ESW_STAT_MAX;
	for (i = 0; i < ESW_STAT_MAX; i++)
		snprintf(names[i].name, sizeof(names[i].name), "%s", stat_names[i]);
	return ESW_STAT_MAX;
}
