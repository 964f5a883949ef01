/* SPDX-License-Identifier: Apache-2.0 */
/* tap_drop: copy what is dropped, with the reason in the copy's label. All ports' packets come here
 * that have such a tap. */
#include "drop.h"
#include "node.h"
#include "tap.h"

/* Where a label has the reason: see wire.DropLabel in Go. */
#define LABEL_REASON_SHIFT 12
#define VNI_SHIFT 8

static_assert(DROP_REASONS <= 1 << (18 - LABEL_REASON_SHIFT),
	      "a reason is below the mark of drops");
static_assert(RTE_MAX_ETHPORTS < 1 << LABEL_REASON_SHIFT, "a port's label is below the reason");

/* The label is the flow label, or the VNI of a VXLAN header, which is the last word. */
static void
put_reason(const struct tap *t, struct rte_mbuf *copy, uint32_t reason)
{
	bool vxlan = t->header_len == TAP_MAX_HEADER;
	uint32_t at = vxlan ? t->header_len - sizeof(rte_be32_t) : ETH_LEN;
	uint32_t bits = reason << (LABEL_REASON_SHIFT + (vxlan ? VNI_SHIFT : 0));
	uint8_t *word = rte_pktmbuf_mtod_offset(copy, uint8_t *, at);
	rte_be32_t value;

	memcpy(&value, word, sizeof(value)); /* it is not aligned */
	value |= rte_cpu_to_be_32(bits);
	memcpy(word, &value, sizeof(value));
}

static uint16_t
tap_drop_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	const struct worker *w = node_ctx(node)->w;
	struct tap_look look;
	struct rte_mbuf *m;
	struct tap *t;
	uint16_t i;

	for (i = 0; i < nb_objs; i++) {
		m = objs[i];
		t = load_relaxed(&w->taps[dps_drop_port(w, m)][TAP_DROPS]);
		dps_tap_look(w, t, m, &look);
		if (look.copy != NULL && rte_pktmbuf_data_len(look.copy) > 0)
			put_reason(t, look.copy, pkt_meta(m)->drop_reason);
		dps_tap_commit(graph, node, t, &look);
	}
	rte_node_next_stream_move(graph, node, TAP_NEXT_ON);
	return nb_objs;
}

/* The edges are added when a graph is built. */
static struct rte_node_register tap_drop_node = {
	.name = "tap_drop",
	.process = tap_drop_process,
};
RTE_NODE_REGISTER(tap_drop_node);
