/* SPDX-License-Identifier: Apache-2.0 */
/* punt: leave packets to the slow path. Each kind of a port's packets has a rate of its own, and a
 * share of the ring that no other can take: whatever comes in, the others find room, and do not
 * wait longer than for every share once. */
#include "bucket.h"
#include "node.h"

enum { NEXT_FULL, NEXT_RATE, NB_EDGES };

#define PUNTED NB_EDGES

static rte_edge_t
punt(struct worker *w, struct rte_mbuf *m)
{
	struct dataplane *dp = w->dp;
	uint8_t kind = pkt_meta(m)->punt_kind;
	_Atomic uint32_t *waiting = &dp->punts_waiting[m->port][kind];

	if (!bucket_take(&dp->punt_full[m->port][kind], w->now, dp->punt_interval, dp->punt_burst))
		return NEXT_RATE;
	if (atomic_fetch_add_explicit(waiting, 1, memory_order_relaxed) < dp->punt_burst &&
	    rte_ring_mp_enqueue(dp->punts, m) == 0)
		return PUNTED;
	atomic_fetch_sub_explicit(waiting, 1, memory_order_relaxed);
	return NEXT_FULL;
}

static uint16_t
punt_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	rte_edge_t next;
	uint16_t i;

	for (i = 0; i < nb_objs; i++) {
		next = punt(w, objs[i]);
		if (unlikely(next != PUNTED))
			rte_node_enqueue_x1(graph, node, next, objs[i]);
	}
	w->wake_punts = true;
	return nb_objs;
}

static struct rte_node_register punt_node = {
	.name = "punt",
	.process = punt_process,
	.nb_edges = NB_EDGES,
	.next_nodes = {
		[NEXT_FULL] = "drop_punt_full",
		[NEXT_RATE] = "drop_punt_rate",
	},
};
RTE_NODE_REGISTER(punt_node);
