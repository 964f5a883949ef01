/* SPDX-License-Identifier: Apache-2.0 */
/* decap: from the wire to a local guest. The sending hypervisor has counted the hop. Where the NIC
 * has decapsulated, only the Ethernet header is left to be replaced. */
#include "node.h"

enum { NEXT_OVERSIZE, NEXT_TX };

static __rte_always_inline rte_edge_t
decap(const struct worker *w, struct rte_mbuf *m)
{
	const struct verdict *v = &w->flows[pkt_meta(m)->flow].verdict;
	uint16_t l3 = pkt_meta(m)->l3;

	if (unlikely(rte_pktmbuf_data_len(m) > l3 + v->mtu))
		return NEXT_OVERSIZE;
	/* an IP header is behind l3: flow_lookup has checked */
	memcpy(rte_pktmbuf_adj(m, l3 - ETH_LEN), v->header, ETH_LEN);
	return NEXT_TX + v->slot;
}

static uint16_t
decap_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	return node_for_each(graph, node, objs, nb_objs, 0, decap);
}

/* The ports' tx nodes follow when a graph is built. */
static struct rte_node_register decap_node = {
	.name = "decap",
	.process = decap_process,
	.nb_edges = NEXT_TX,
	.next_nodes = { [NEXT_OVERSIZE] = "oversize" },
};
RTE_NODE_REGISTER(decap_node);
