/* SPDX-License-Identifier: Apache-2.0 */
/* rx: take packets from one queue of a port. Cloned for each port; the worker says which queue. */
#include <rte_ethdev.h>

#include "node.h"
#include "tap.h"

static uint16_t
rx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct node_ctx *ctx = node_ctx(node);
	uint16_t n, i;

	RTE_SET_USED(nb_objs);
	n = rte_eth_rx_burst(ctx->port, ctx->queue, (struct rte_mbuf **)objs, RX_BURST);
	if (n == 0)
		return 0;
	for (i = 0; i < n; i++)
		((struct rte_mbuf *)objs[i])->port =
			ctx->port; /* a ring's driver leaves the sender's */
	node->idx = n;
	ctx->w->work += n;
	rte_node_next_stream_move(graph, node, ctx->tapped ? RX_NEXT_TAP : RX_NEXT_CLASSIFY);
	return n;
}

/* The edges, to classify_guest or classify_wire and to tap_rx, are added when a graph is built. */
static struct rte_node_register rx_node = {
	.name = "rx",
	.flags = RTE_NODE_SOURCE_F,
	.process = rx_process,
};
RTE_NODE_REGISTER(rx_node);
