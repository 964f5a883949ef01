/* SPDX-License-Identifier: Apache-2.0 */
/* punt: leave packets to the slow path. Each port has a rate of its own, and a share of the ring that no other can take:
 * whatever comes in by one port, the others' packets find room, and do not wait longer than for every share once. */
#include "node.h"

enum { NEXT_FULL, NEXT_RATE, NB_EDGES };

#define PUNTED NB_EDGES

/* Take a token of the port's bucket, which holds a burst and is filled at the port's rate: punt_full[port] is when it is
 * full again. */
static bool
within_rate(struct worker *w, uint16_t port)
{
	const struct dataplane *dp = w->dp;
	uint64_t full = RTE_MAX(w->punt_full[port], w->now);

	if (full - w->now > dp->punt_interval * (dp->punt_burst - 1))
		return false;
	w->punt_full[port] = full + dp->punt_interval;
	return true;
}

static rte_edge_t
punt(struct worker *w, struct rte_mbuf *m)
{
	struct dataplane *dp = w->dp;
	uint32_t *waiting = &dp->punts_waiting[m->port];

	if (!within_rate(w, m->port))
		return NEXT_RATE;
	if (__atomic_fetch_add(waiting, 1, __ATOMIC_RELAXED) < dp->punt_burst && rte_ring_mp_enqueue(dp->punts, m) == 0)
		return PUNTED;
	__atomic_fetch_sub(waiting, 1, __ATOMIC_RELAXED);
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
