/* SPDX-License-Identifier: Apache-2.0 */
/* deliver: from one local guest to another. */
#include "node.h"
#include "rewrite.h"

enum { NEXT_TTL, NEXT_OVERSIZE, NEXT_TX };

static __rte_always_inline rte_edge_t
deliver(const struct worker *w, struct rte_mbuf *m)
{
	const struct verdict *v = &w->flows[pkt_meta(m)->flow].verdict;
	uint8_t *eth = rte_pktmbuf_mtod(m, uint8_t *);

	if (unlikely(rte_pktmbuf_data_len(m) > ETH_LEN + v->mtu))
		return NEXT_OVERSIZE;
	if (unlikely(!rewrite_dec_ttl(eth + ETH_LEN)))
		return NEXT_TTL;
	memcpy(eth, v->header, 2 * RTE_ETHER_ADDR_LEN); /* the type stays */
	return NEXT_TX + v->slot;
}

static uint16_t
deliver_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	return node_for_each(graph, node, objs, nb_objs, 0, deliver);
}

/* The ports' tx nodes follow when a graph is built. */
static struct rte_node_register deliver_node = {
	.name = "deliver",
	.process = deliver_process,
	.nb_edges = NEXT_TX,
	.next_nodes = { [NEXT_TTL] = "icmp_time_exceeded", [NEXT_OVERSIZE] = "oversize" },
};
RTE_NODE_REGISTER(deliver_node);
