/* SPDX-License-Identifier: Apache-2.0 */
/* tap_rx: copy what has come in by a port, before anything is done to it. Cloned for each port. */
#include "node.h"
#include "tap.h"

static uint16_t
tap_rx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	const struct node_ctx *ctx = node_ctx(node);
	struct tap *t = load_relaxed(&ctx->w->taps[ctx->port][TAP_RX]);
	struct tap_look look;
	uint16_t i;

	for (i = 0; i < nb_objs; i++) {
		if (i + PREFETCH_AHEAD < nb_objs)
			node_prefetch(objs[i + PREFETCH_AHEAD]);
		dps_tap_look(ctx->w, t, objs[i], &look);
		dps_tap_commit(graph, node, t, &look);
	}
	rte_node_next_stream_move(graph, node, TAP_NEXT_ON);
	return nb_objs;
}

/* The edges are added when a graph is built. */
static struct rte_node_register tap_rx_node = {
	.name = "tap_rx",
	.process = tap_rx_process,
};
RTE_NODE_REGISTER(tap_rx_node);
