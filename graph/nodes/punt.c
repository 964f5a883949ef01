/* SPDX-License-Identifier: Apache-2.0 */
/* punt: leave packets to the slow path. */
#include "node.h"

static uint16_t
punt_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	unsigned int n;

	n = rte_ring_mp_enqueue_burst(w->dp->punts, objs, nb_objs, NULL);
	w->wake_punts = true;
	if (unlikely(n < nb_objs))
		rte_node_enqueue(graph, node, 0, &objs[n], nb_objs - n);
	return nb_objs;
}

static struct rte_node_register punt_node = {
	.name = "punt",
	.process = punt_process,
	.nb_edges = 1,
	.next_nodes = {"drop_punt_full"},
};
RTE_NODE_REGISTER(punt_node);
