/* SPDX-License-Identifier: Apache-2.0 */

/* Where packets leave the rules: the far sides, in bursts, and the RX queues of the ports. */

#include "eswitch.h"

static void
flush_port(struct esw_output *out, struct esw_port *port)
{
	struct rte_mbuf **pkts = out->tx[port->index].pkt;
	uint16_t n = out->tx[port->index].n;
	uint16_t sent;

	if (n == 0)
		return;
	sent = esw_far_send(port, pkts, n);
	if (sent < n) {
		esw_count(port, ESW_STAT_FAR_TX_ERRORS, n - sent);
		rte_pktmbuf_free_bulk(pkts + sent, n - sent);
	}
	out->tx[port->index].n = 0;
}

/* Queues the packet for the far side of a port. */
void
esw_output_send(struct esw_output *out, struct esw_port *port, struct rte_mbuf *m)
{
	if (!esw_far_fits(port, m)) {
		esw_count(port, ESW_STAT_OVERSIZE, 1);
		rte_pktmbuf_free(m);
		return;
	}
	out->tx[port->index].pkt[out->tx[port->index].n++] = m;
	if (out->tx[port->index].n == ESW_BURST)
		flush_port(out, port);
}

/* Sends what is queued. */
void
esw_output_flush(struct esw_output *out)
{
	uint32_t i;

	for (i = 0; i < out->nic->ports; i++)
		flush_port(out, out->nic->port[i]);
}

/* Copies the packet to a queue of the port, into a buffer of the application's. The packet stays
 * the caller's. */
void
esw_output_receive(struct esw_port *port, uint16_t queue, const struct esw_packet *packet)
{
	struct esw_rxq *rxq;
	struct rte_mbuf *m;

	if (!atomic_load_explicit(&port->started, memory_order_acquire)) {
		esw_count(port, ESW_STAT_RX_NOT_STARTED, 1);
		return;
	}
	rxq = port->rxq[queue];
	if (rxq == NULL) {
		esw_count(port, ESW_STAT_RX_NOT_STARTED, 1);
		return;
	}
	if (packet->m->pkt_len + RTE_PKTMBUF_HEADROOM > rte_pktmbuf_data_room_size(rxq->pool)) {
		esw_count(port, ESW_STAT_RX_TOO_LONG, 1);
		return;
	}
	if (rte_ring_full(rxq->ring)) {
		esw_count(port, ESW_STAT_RX_FULL, 1);
		return;
	}
	m = rte_pktmbuf_copy(packet->m, rxq->pool, 0, UINT32_MAX);
	if (m == NULL) {
		esw_count(port, ESW_STAT_RX_NO_MBUF, 1);
		return;
	}
	m->port = port->ethdev;
	m->ol_flags = packet->flagged ? RTE_MBUF_F_RX_FDIR : 0;
	if (packet->marked) {
		m->ol_flags = RTE_MBUF_F_RX_FDIR | RTE_MBUF_F_RX_FDIR_ID;
		m->hash.fdir.hi = packet->key.metadata.mark;
	}
	/* Metadata of 0 is none, and only an application that has asked for it has a place for
	 * it. */
	if (packet->key.metadata.meta != 0 && rte_flow_dynf_metadata_avail()) {
		m->ol_flags |= RTE_MBUF_DYNFLAG_RX_METADATA;
		rte_flow_dynf_metadata_set(m, packet->key.metadata.meta);
	}
	/* The pipeline is the only one that enqueues, so there is room still. */
	rte_ring_sp_enqueue(rxq->ring, m);
}
