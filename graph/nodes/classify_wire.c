/* SPDX-License-Identifier: Apache-2.0 */
/* classify_wire: what came in by an uplink is guest traffic, encapsulated or decapsulated by the
 * NIC, underlay control (ICMPv6 for this node, which the slow path answers or waits for), or
 * dropped. */
#include <netinet/in.h>
#include <string.h>

#include <rte_ip.h>

#include "compat.h"
#include "mark.h"
#include "node.h"
#include "parse.h"

enum {
	NEXT_LOOKUP,
	NEXT_PUNT,
	NEXT_MALFORMED,
	NEXT_NOT_FOR_US,
	NEXT_TAGGED,
	NEXT_UNSUPPORTED,
	NEXT_UNKNOWN_MARK
};

/* Whether that is the link-local address that RFC 4291 makes of a MAC. */
static inline bool
is_link_local_of(const struct rte_ether_addr *mac, const uint8_t *addr)
{
	const uint8_t *b = mac->addr_bytes;
	const uint8_t eui64[16] = { 0xfe, 0x80, [8] = b[0] ^ 2, b[1], b[2],
				    0xff, 0xfe, b[3],           b[4], b[5] };

	return memcmp(addr, eui64, sizeof(eui64)) == 0;
}

static inline bool
is_nodes(const struct worker *w, const struct port_state *port, const uint8_t *addr)
{
	return memcmp(addr, w->dp->node_ip, sizeof(w->dp->node_ip)) == 0 ||
	       is_link_local_of(&port->mac, addr);
}

static rte_edge_t
punt_if(bool for_us, struct rte_mbuf *m, enum punt_kind kind)
{
	pkt_meta(m)->punt_kind = kind;
	return for_us ? NEXT_PUNT : NEXT_NOT_FOR_US;
}

/* The uplink's router is known by its MAC, so others on the link cannot use up its budget: it would
 * seem silent, or find this node no more. */
static enum punt_kind
known_or(const struct worker *w, const struct port_state *port, const struct rte_mbuf *m,
	 enum punt_kind kind)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct uplink *u = &w->uplinks[w->dp->ports[port->slot].pf];

	return rte_is_same_ether_addr(&eth->src_addr, &u->router_mac) ? PUNT_KNOWN_ROUTER : kind;
}

/* What does not come from the link, or says too little, is none of neighbour discovery. */
static rte_edge_t
classify_control(const struct worker *w, const struct port_state *port, struct rte_mbuf *m)
{
	const struct rte_ipv6_hdr *ip =
		rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, ETH_LEN);
	const struct nd_message *nd = (const struct nd_message *)(ip + 1);
	uint32_t len = rte_pktmbuf_data_len(m) - OUTER_LEN;

	if (len < offsetof(struct nd_message, target))
		return NEXT_MALFORMED;
	switch (nd->type) {
	case ND_NEIGHBOUR_SOLICITATION:
		if (len < sizeof(*nd) || ip->hop_limits != ND_HOP_LIMIT)
			return NEXT_MALFORMED;
		return punt_if(is_nodes(w, port, nd->target) ||
				       rte_hash_lookup(w->underlay_hash, nd->target) >= 0,
			       m, known_or(w, port, m, PUNT_NEIGHBOURS));
	case ND_NEIGHBOUR_ADVERTISEMENT: /* of the router, which is asked whether it still has its
					    MAC */
		if (len < sizeof(*nd) || ip->hop_limits != ND_HOP_LIMIT)
			return NEXT_MALFORMED;
		return punt_if(is_link_local_of(&port->mac, ipv6_dst(ip)), m,
			       known_or(w, port, m, PUNT_NEIGHBOURS));
	case ND_ROUTER_ADVERTISEMENT:
		return ip->hop_limits == ND_HOP_LIMIT ?
			       punt_if(true, m, known_or(w, port, m, PUNT_ROUTERS)) :
			       NEXT_MALFORMED;
	case ICMPV6_ECHO_REPLY: /* of the routers, which are asked by echo requests */
		return punt_if(is_nodes(w, port, ipv6_dst(ip)), m,
			       known_or(w, port, m, PUNT_ROUTERS));
	case ICMPV6_ECHO_REQUEST:
		return punt_if(is_nodes(w, port, ipv6_dst(ip)), m, PUNT_ECHO);
	default:
		return NEXT_UNSUPPORTED;
	}
}

static __rte_always_inline rte_edge_t
classify(const struct worker *w, struct rte_mbuf *m)
{
	const struct port_state *port = &w->ports[m->port];
	const struct rte_ether_hdr *eth;
	const struct rte_ipv6_hdr *ip;

	if (unlikely(!node_packet_is_whole(m)))
		return NEXT_MALFORMED;
	eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	if (unlikely(!rte_is_same_ether_addr(&eth->dst_addr, &port->mac) &&
		     !rte_is_multicast_ether_addr(&eth->dst_addr)))
		return NEXT_NOT_FOR_US;
	if (unlikely(node_is_tag(eth->ether_type))) {
		if (!node_remove_priority(m))
			return NEXT_TAGGED;
		eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	}
	if (port->marks && is_mark(&eth->src_addr))
		return likely(w->tunnels[mark_tunnel(&eth->src_addr)].used) ? NEXT_LOOKUP :
									      NEXT_UNKNOWN_MARK;
	if (unlikely(eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6)))
		return NEXT_UNSUPPORTED;
	if (unlikely(rte_pktmbuf_data_len(m) < OUTER_LEN))
		return NEXT_MALFORMED;
	ip = (const struct rte_ipv6_hdr *)(eth + 1);
	if (likely(ip->proto == IPPROTO_IPIP || ip->proto == IPPROTO_IPV6)) {
		if (unlikely(rte_be_to_cpu_16(ip->payload_len) >
			     rte_pktmbuf_data_len(m) - OUTER_LEN))
			return NEXT_MALFORMED;
		return NEXT_LOOKUP;
	}
	return ip->proto == IPPROTO_ICMPV6 ? classify_control(w, port, m) : NEXT_UNSUPPORTED;
}

static uint16_t
classify_wire_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	return node_for_each(graph, node, objs, nb_objs, PREFETCH_AHEAD, classify);
}

static struct rte_node_register classify_wire_node = {
	.name = "classify_wire",
	.process = classify_wire_process,
	.nb_edges = 7,
	.next_nodes = {
		[NEXT_LOOKUP] = "flow_lookup",
		[NEXT_PUNT] = "punt",
		[NEXT_MALFORMED] = "drop_malformed",
		[NEXT_NOT_FOR_US] = "drop_not_for_us",
		[NEXT_TAGGED] = "drop_tagged",
		[NEXT_UNSUPPORTED] = "drop_unsupported",
		[NEXT_UNKNOWN_MARK] = "drop_unknown_mark",
	},
};
RTE_NODE_REGISTER(classify_wire_node);
