/* SPDX-License-Identifier: Apache-2.0 */
/* classify_wire: what came in by an uplink is guest traffic, encapsulated or decapsulated by the NIC, underlay control
 * (ICMPv6), or dropped. */
#include <netinet/in.h>

#include <rte_ip.h>

#include "mark.h"
#include "node.h"

enum { NEXT_LOOKUP, NEXT_PUNT, NEXT_MALFORMED, NEXT_NOT_FOR_US, NEXT_UNSUPPORTED, NEXT_UNKNOWN_MARK };

static __rte_always_inline rte_edge_t
classify(const struct worker *w, struct rte_mbuf *m)
{
	const struct port_state *port = &w->ports[m->port];
	const struct rte_ether_hdr *eth;
	const struct rte_ipv6_hdr *ip;

	if (unlikely(!node_packet_is_whole(m)))
		return NEXT_MALFORMED;
	eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	if (unlikely(!rte_is_same_ether_addr(&eth->dst_addr, &port->mac) && !rte_is_multicast_ether_addr(&eth->dst_addr)))
		return NEXT_NOT_FOR_US;
	if (port->marks && is_mark(&eth->src_addr))
		return likely(w->tunnels[mark_tunnel(&eth->src_addr)].used) ? NEXT_LOOKUP : NEXT_UNKNOWN_MARK;
	if (unlikely(eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6)))
		return NEXT_UNSUPPORTED;
	if (unlikely(rte_pktmbuf_data_len(m) < OUTER_LEN))
		return NEXT_MALFORMED;
	ip = (const struct rte_ipv6_hdr *)(eth + 1);
	if (likely(ip->proto == IPPROTO_IPIP || ip->proto == IPPROTO_IPV6)) {
		if (unlikely(rte_be_to_cpu_16(ip->payload_len) > rte_pktmbuf_data_len(m) - OUTER_LEN))
			return NEXT_MALFORMED;
		return NEXT_LOOKUP;
	}
	return ip->proto == IPPROTO_ICMPV6 ? NEXT_PUNT : NEXT_UNSUPPORTED;
}

static uint16_t
classify_wire_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	return node_for_each(graph, node, objs, nb_objs, classify);
}

static struct rte_node_register classify_wire_node = {
	.name = "classify_wire",
	.process = classify_wire_process,
	.nb_edges = 6,
	.next_nodes = {
		[NEXT_LOOKUP] = "flow_lookup",
		[NEXT_PUNT] = "punt",
		[NEXT_MALFORMED] = "drop_malformed",
		[NEXT_NOT_FOR_US] = "drop_not_for_us",
		[NEXT_UNSUPPORTED] = "drop_unsupported",
		[NEXT_UNKNOWN_MARK] = "drop_unknown_mark",
	},
};
RTE_NODE_REGISTER(classify_wire_node);
