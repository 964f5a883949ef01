/* SPDX-License-Identifier: Apache-2.0 */
/* tx: send packets out of one port. Cloned for each port; the worker says by which queue. */
#include <rte_ethdev.h>

#include "node.h"

static uint16_t
tx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct node_ctx *ctx = node_ctx(node);
	uint16_t sent;

	sent = rte_eth_tx_burst(ctx->port, ctx->queue, (struct rte_mbuf **)objs, nb_objs);
	if (unlikely(sent < nb_objs))
		rte_node_enqueue(graph, node, 0, &objs[sent], nb_objs - sent);
	return nb_objs;
}

static struct rte_node_register tx_node = {
	.name = "tx",
	.process = tx_process,
	.nb_edges = 1,
	.next_nodes = {"drop_tx"},
};
RTE_NODE_REGISTER(tx_node);
