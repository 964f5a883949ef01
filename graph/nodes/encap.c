/* SPDX-License-Identifier: Apache-2.0 */
/* encap: from a local guest to another hypervisor, IP in IPv6. */
#include "node.h"
#include "rewrite.h"

enum { NEXT_TTL, NEXT_OVERSIZE, NEXT_NO_HEADROOM, NEXT_TX };

static __rte_always_inline rte_edge_t
encap(const struct worker *w, struct rte_mbuf *m)
{
	const struct verdict *v = &w->flows[pkt_meta(m)->flow].verdict;
	struct rte_ipv6_hdr *outer;
	uint8_t *eth;

	if (unlikely(rte_pktmbuf_data_len(m) > ETH_LEN + v->mtu))
		return NEXT_OVERSIZE;
	if (unlikely(!rewrite_dec_ttl(rte_pktmbuf_mtod_offset(m, uint8_t *, ETH_LEN))))
		return NEXT_TTL;
	eth = (uint8_t *)rte_pktmbuf_prepend(m, IPV6_LEN);
	if (unlikely(eth == NULL))
		return NEXT_NO_HEADROOM;
	memcpy(eth, v->header, OUTER_LEN);
	outer = (struct rte_ipv6_hdr *)(eth + ETH_LEN);
	outer->payload_len = rte_cpu_to_be_16(rte_pktmbuf_data_len(m) - OUTER_LEN);
	return NEXT_TX + v->slot;
}

static uint16_t
encap_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	return node_for_each(graph, node, objs, nb_objs, 0, encap);
}

/* The ports' tx nodes follow when a graph is built. */
static struct rte_node_register encap_node = {
	.name = "encap",
	.process = encap_process,
	.nb_edges = NEXT_TX,
	.next_nodes = {
		[NEXT_TTL] = "icmp_time_exceeded",
		[NEXT_OVERSIZE] = "oversize",
		[NEXT_NO_HEADROOM] = "drop_no_headroom",
	},
};
RTE_NODE_REGISTER(encap_node);
