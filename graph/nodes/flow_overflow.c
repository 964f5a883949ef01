/* SPDX-License-Identifier: Apache-2.0 */
/* flow_overflow: packets that found the flow table full. They are forwarded all the same; the node
 * counts them. */
#include "node.h"

static uint16_t
flow_overflow_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		rte_node_enqueue_x1(graph, node, w->flows[pkt_meta(objs[i])->flow].verdict.next,
				    objs[i]);
	return nb_objs;
}

static struct rte_node_register flow_overflow_node = {
	.name = "flow_overflow",
	.process = flow_overflow_process,
	.nb_edges = NEXT_FORWARDS,
	.next_nodes = {
		[NEXT_DELIVER] = "deliver",
		[NEXT_ENCAP] = "encap",
		[NEXT_DECAP] = "decap",
	},
};
RTE_NODE_REGISTER(flow_overflow_node);
