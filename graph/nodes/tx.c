/* SPDX-License-Identifier: Apache-2.0 */
/* tx: send packets out of one port. Cloned for each port; the worker says by which queue. */
#include <rte_ethdev.h>

#include "node.h"
#include "tap.h"

static uint16_t
tx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct node_ctx *ctx = node_ctx(node);
	uint16_t sent;

	if (unlikely(ctx->tapped)) {
		rte_node_next_stream_move(graph, node, TX_NEXT_TAP);
		return nb_objs;
	}
	sent = rte_eth_tx_burst(ctx->port, ctx->queue, (struct rte_mbuf **)objs, nb_objs);
	if (unlikely(sent < nb_objs))
		rte_node_enqueue(graph, node, TX_NEXT_DROP, &objs[sent], nb_objs - sent);
	return nb_objs;
}

/* A VF's edge to tap_tx is added when a graph is built. */
static struct rte_node_register tx_node = {
	.name = "tx",
	.process = tx_process,
	.nb_edges = TX_NEXT_TAP,
	.next_nodes = { [TX_NEXT_DROP] = "drop_tx" },
};
RTE_NODE_REGISTER(tx_node);
