/* SPDX-License-Identifier: Apache-2.0 */
/* tap_tx: send packets out of one port, as tx does, and copy those that the port takes. They are
 * the port's then: the copies are made before. Cloned for each VF. */
#include <rte_ethdev.h>

#include "node.h"
#include "tap.h"

static void
send_and_copy(struct rte_graph *graph, struct rte_node *node, struct tap *t, void **objs,
	      uint16_t n)
{
	const struct node_ctx *ctx = node_ctx(node);
	struct tap_look looks[RX_BURST];
	uint16_t sent, i;

	for (i = 0; i < n; i++)
		dps_tap_look(ctx->w, t, objs[i], &looks[i]);
	sent = rte_eth_tx_burst(ctx->port, ctx->queue, (struct rte_mbuf **)objs, n);
	for (i = 0; i < sent; i++)
		dps_tap_commit(graph, node, t, &looks[i]);
	for (; i < n; i++)
		dps_tap_cancel(&looks[i]);
	if (unlikely(sent < n))
		rte_node_enqueue(graph, node, TAP_NEXT_ON, &objs[sent], n - sent);
}

static uint16_t
tap_tx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	const struct node_ctx *ctx = node_ctx(node);
	struct tap *t = load_relaxed(&ctx->w->taps[ctx->port][TAP_TX]);
	uint16_t done, n;

	for (done = 0; done < nb_objs; done += n) {
		n = RTE_MIN(nb_objs - done, (int)RX_BURST);
		send_and_copy(graph, node, t, &objs[done], n);
	}
	return nb_objs;
}

/* The edges are added when a graph is built. */
static struct rte_node_register tap_tx_node = {
	.name = "tap_tx",
	.process = tap_tx_process,
};
RTE_NODE_REGISTER(tap_tx_node);
