/* SPDX-License-Identifier: Apache-2.0 */
/* guest_moved: copies of frames that came from another MAC than the guest's, on their way to the
 * slow path, which may learn it. The node counts them. */
#include "node.h"

static uint16_t
guest_moved_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		pkt_meta(objs[i])->punt_kind = PUNT_OTHER;
	rte_node_next_stream_move(graph, node, 0);
	return nb_objs;
}

static struct rte_node_register guest_moved_node = {
	.name = "guest_moved",
	.process = guest_moved_process,
	.nb_edges = 1,
	.next_nodes = { "punt" },
};
RTE_NODE_REGISTER(guest_moved_node);
