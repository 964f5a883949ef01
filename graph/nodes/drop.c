/* SPDX-License-Identifier: Apache-2.0 */
/* drop_*: the end of a packet. One node for each reason, so that each has its own counter. What a
 * capture watches goes on to tap_drop. */
#include "drop.h"
#include "node.h"

enum { NEXT_TAP, NB_EDGES };

static uint16_t
drop(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs,
     enum drop_reason reason)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t i, unwatched = 0;
	struct rte_mbuf *m;

	for (i = 0; i < nb_objs; i++) {
		m = objs[i];
		drop_count(w, m, reason);
		if (likely(!drop_is_watched(w, m))) {
			objs[unwatched++] = m;
			continue;
		}
		pkt_meta(m)->drop_reason = reason;
		rte_node_enqueue_x1(graph, node, NEXT_TAP, m);
	}
	rte_pktmbuf_free_bulk((struct rte_mbuf **)objs, unwatched);
	return nb_objs;
}

#define DROP_NODE(NAME, reason)                                                                 \
	static uint16_t drop_##reason##_process(struct rte_graph *graph, struct rte_node *node, \
						void **objs, uint16_t nb_objs)                  \
	{                                                                                       \
		return drop(graph, node, objs, nb_objs, DROP_##NAME);                           \
	}                                                                                       \
	static struct rte_node_register drop_##reason = {                                       \
		.name = "drop_" #reason,                                                        \
		.process = drop_##reason##_process,                                             \
		.nb_edges = NB_EDGES,                                                           \
		.next_nodes = { [NEXT_TAP] = "tap_drop" },                                      \
	};                                                                                      \
	RTE_NODE_REGISTER(drop_##reason);

DROP_REASON_LIST(DROP_NODE)

/* The ends of what is no packet's loss. */

static uint16_t
free_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	RTE_SET_USED(graph);
	RTE_SET_USED(node);
	rte_pktmbuf_free_bulk((struct rte_mbuf **)objs, nb_objs);
	return nb_objs;
}

/* a tap's copy that does not fit the uplink; it has no bytes any more */
static struct rte_node_register drop_copy_too_big = {
	.name = "drop_copy_too_big",
	.process = free_process,
};
RTE_NODE_REGISTER(drop_copy_too_big);

/* what tap_drop has looked at, after a drop_ node has counted it */
static struct rte_node_register free_node = {
	.name = "free",
	.process = free_process,
};
RTE_NODE_REGISTER(free_node);
