/* SPDX-License-Identifier: Apache-2.0 */
/* inject: send the slow path's frames. */
#include "node.h"

static uint16_t
inject_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	rte_edge_t nexts[INJECT_BURST];
	unsigned int n, i;

	RTE_SET_USED(nb_objs);
	n = rte_ring_sc_dequeue_burst(w->dp->inject, objs, INJECT_BURST, NULL);
	if (n == 0)
		return 0;
	for (i = 0; i < n; i++)
		nexts[i] = w->ports[((struct rte_mbuf *)objs[i])->port].slot;
	node->idx = n;
	w->work += n;
	node_enqueue_runs(graph, node, objs, nexts, n);
	return n;
}

/* The edges are the ports' tx nodes, added when a graph is built. */
static struct rte_node_register inject_node = {
	.name = "inject",
	.flags = RTE_NODE_SOURCE_F,
	.process = inject_process,
};
RTE_NODE_REGISTER(inject_node);
