/* SPDX-License-Identifier: Apache-2.0 */
/* classify_guest: what a guest sent is forwarded, left to the slow path (ARP, neighbour discovery,
 * DHCP, pings of its gateway), or dropped. What is addressed to another guest is forwarded,
 * whatever its protocol. */
#include <netinet/in.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_per_lcore.h>
#include <rte_udp.h>

#include "bucket.h"
#include "compat.h"
#include "explain.h"
#include "gateway.h"
#include "node.h"
#include "parse.h"

enum {
	NEXT_LOOKUP,
	NEXT_PUNT,
	NEXT_MALFORMED,
	NEXT_NO_INTERFACE,
	NEXT_NOT_FOR_US,
	NEXT_MULTICAST,
	NEXT_TAGGED,
	NEXT_UNSUPPORTED,
	NEXT_MOVED
};

#define DHCP_SERVER 67
#define DHCPV6_SERVER 547

/* The groups that the gateway is in. It answers for all addresses, so it is in every solicited-node
 * group. */
static const uint8_t all_nodes[16] = { 0xff, 0x02, [15] = 1 };
static const uint8_t all_routers[16] = { 0xff, 0x02, [15] = 2 };
static const uint8_t dhcpv6_servers[16] = { 0xff, 0x02, [13] = 1, [15] = 2 };
static const uint8_t solicited_node[13] = { 0xff, 0x02, [11] = 1, [12] = 0xff };

/* Each guest port's bucket for copies to the slow path, and the copy that the lcore has made: see
 * note_source. */
static _Atomic uint64_t copies_full[RTE_MAX_ETHPORTS];
static RTE_DEFINE_PER_LCORE(struct rte_mbuf *, copy);

/* Whether a packet may be for the slow path, to judge by its destination. */
static __rte_always_inline bool
is_ipv4_to_node(const struct rte_ipv4_hdr *ip)
{
	return ip->dst_addr == rte_cpu_to_be_32(GATEWAY_IPV4) || ip->dst_addr == UINT32_MAX;
}

static inline bool
is_ipv4_control(const struct rte_ipv4_hdr *ip, uint32_t len)
{
	bool to_gateway = ip->dst_addr == rte_cpu_to_be_32(GATEWAY_IPV4);
	uint32_t ihl = rte_ipv4_hdr_len(ip);
	const struct rte_udp_hdr *udp = RTE_PTR_ADD(ip, ihl);

	if (likely(!is_ipv4_to_node(ip)))
		return false;
	if (ip->next_proto_id == IPPROTO_ICMP)
		return to_gateway;
	return ip->next_proto_id == IPPROTO_UDP && len >= ihl + sizeof(*udp) &&
	       (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_OFFSET_MASK)) == 0 &&
	       udp->dst_port == rte_cpu_to_be_16(DHCP_SERVER);
}

/* A guest asks another whether it is still there by unicast. The gateway has answered for that one,
 * so it is asked. */
static inline bool
is_reachability_probe(const struct rte_ipv6_hdr *ip, uint32_t len)
{
	const struct nd_message *nd = (const struct nd_message *)(ip + 1);

	return nd->type == ND_NEIGHBOUR_SOLICITATION && ip->hop_limits == ND_HOP_LIMIT &&
	       len >= sizeof(*ip) + sizeof(*nd) &&
	       memcmp(nd->target, &ip->dst_addr, sizeof(ip->dst_addr)) == 0;
}

static inline bool
is_ipv6_control(const struct iface *i, const struct rte_ipv6_hdr *ip, uint32_t len)
{
	const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
	const struct rte_icmp_hdr *icmp = (const struct rte_icmp_hdr *)(ip + 1);
	bool to_gateway = is_gateway_ipv6(i, ipv6_dst(ip));

	if (len < sizeof(*ip) + sizeof(*udp))
		return false;
	if (ip->proto == IPPROTO_UDP)
		return udp->dst_port == rte_cpu_to_be_16(DHCPV6_SERVER) &&
		       (to_gateway ||
			memcmp(&ip->dst_addr, dhcpv6_servers, sizeof(dhcpv6_servers)) == 0);
	if (ip->proto != IPPROTO_ICMPV6)
		return false;
	if (to_gateway)
		return true;
	if (icmp->icmp_type < ND_ROUTER_SOLICITATION || icmp->icmp_type > ND_REDIRECT)
		return false;
	return memcmp(&ip->dst_addr, solicited_node, sizeof(solicited_node)) == 0 ||
	       memcmp(&ip->dst_addr, all_routers, sizeof(all_routers)) == 0 ||
	       memcmp(&ip->dst_addr, all_nodes, sizeof(all_nodes)) == 0 ||
	       is_reachability_probe(ip, len);
}

bool
dps_is_for_slow_path(const struct iface *i, const struct flow_key *key)
{
	struct {
		union {
			struct rte_ipv4_hdr v4;
			struct rte_ipv6_hdr v6;
		};
		uint8_t room[8];
	} packet = { 0 };
	uint8_t *l4 = (uint8_t *)&packet;

	if (key->kind & KEY_IPV6) {
		packet.v6.proto = key->proto;
		memcpy(&packet.v6.dst_addr, flow_key_dst(key), 16);
		l4 += sizeof(packet.v6);
		memcpy(l4, &key->sport, 4);
		return is_ipv6_control(i, &packet.v6, sizeof(packet.v6) + 8);
	}
	packet.v4.version_ihl = RTE_IPV4_VHL_DEF;
	packet.v4.next_proto_id = key->proto;
	memcpy(&packet.v4.dst_addr, flow_key_dst(key), 4);
	l4 += sizeof(packet.v4);
	memcpy(l4, &key->sport, 4);
	return is_ipv4_control(&packet.v4, sizeof(packet.v4) + 8);
}

static inline enum punt_kind
kind_ipv4(const struct rte_ipv4_hdr *ip)
{
	return ip->next_proto_id == IPPROTO_ICMP ? PUNT_ECHO : PUNT_OTHER;
}

static inline enum punt_kind
kind_ipv6(const struct rte_ipv6_hdr *ip)
{
	if (ip->proto != IPPROTO_ICMPV6)
		return PUNT_OTHER;
	switch (((const struct rte_icmp_hdr *)(ip + 1))->icmp_type) {
	case ND_ROUTER_SOLICITATION:
		return PUNT_ROUTERS;
	case ND_NEIGHBOUR_SOLICITATION:
	case ND_NEIGHBOUR_ADVERTISEMENT:
		return PUNT_NEIGHBOURS;
	case ICMPV6_ECHO_REQUEST:
		return PUNT_ECHO;
	default:
		return PUNT_OTHER;
	}
}

static inline rte_edge_t
punt(struct rte_mbuf *m, enum punt_kind kind)
{
	pkt_meta(m)->punt_kind = kind;
	return NEXT_PUNT;
}

/* Whether the frame is what nearly all are: IPv4 that is to be forwarded, from the guest's known
 * MAC to us. */
static __rte_always_inline bool
is_plain(const struct port_state *port, const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + 1);

	return port->iface != NO_IFACE && m->nb_segs == 1 &&
	       rte_pktmbuf_data_len(m) >= ETH_LEN + sizeof(*ip) &&
	       memcmp(eth, &port->mac, sizeof(*eth)) == 0 && !is_ipv4_to_node(ip);
}

/* Whether the frame is from the guest's known MAC to us: then no more is to be looked at of its
 * addresses. */
static __rte_always_inline bool
is_from_known_mac(const struct port_state *port, const struct rte_ether_hdr *eth)
{
	return memcmp(eth, &port->mac, 2 * RTE_ETHER_ADDR_LEN) == 0;
}

/* A guest whose MAC changes in place may not say so. The slow path gets a copy of a frame from
 * another MAC than the known one, at most one a second of each port. */
static inline void
note_source(const struct worker *w, const struct rte_ether_addr *source, struct rte_mbuf *m)
{
	if (rte_is_same_ether_addr(source, &w->ports[m->port].guest_mac))
		return;
	if (RTE_PER_LCORE(copy) == NULL &&
	    bucket_take(&copies_full[m->port], w->now, rte_get_tsc_hz(), 1))
		RTE_PER_LCORE(copy) = rte_pktmbuf_copy(
			m, m->pool, 0, UINT32_MAX); /* without a buffer: the next one */
}

static __rte_noinline rte_edge_t
classify_other(const struct worker *w, const struct port_state *port, struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth;
	const struct rte_ipv4_hdr *ip4;
	const struct rte_ipv6_hdr *ip6;
	uint32_t len;
	bool known, group = false;

	if (unlikely(port->iface == NO_IFACE))
		return NEXT_NO_INTERFACE;
	if (unlikely(!node_has_header(m)))
		return NEXT_MALFORMED;
	eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	known = is_from_known_mac(port, eth);
	if (unlikely(!known)) {
		if (rte_is_multicast_ether_addr(&eth->src_addr))
			return NEXT_MALFORMED;
		group = rte_is_multicast_ether_addr(&eth->dst_addr);
		if (!group && !rte_is_same_ether_addr(&eth->dst_addr, &port->mac))
			return NEXT_NOT_FOR_US;
	}
	if (unlikely(node_is_tag(eth->ether_type))) {
		if (!node_remove_priority(m))
			return NEXT_TAGGED;
		eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	}
	len = rte_pktmbuf_data_len(m) - ETH_LEN;
	if (eth->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4)) {
		if (unlikely(len < sizeof(struct rte_ipv4_hdr)))
			return NEXT_MALFORMED;
		ip4 = (const struct rte_ipv4_hdr *)(eth + 1);
		if (unlikely(is_ipv4_control(ip4, len)))
			return punt(m, kind_ipv4(ip4));
	} else if (eth->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6)) {
		if (unlikely(len < sizeof(struct rte_ipv6_hdr)))
			return NEXT_MALFORMED;
		ip6 = (const struct rte_ipv6_hdr *)(eth + 1);
		if (unlikely(is_ipv6_control(&w->ifaces[port->iface], ip6, len)))
			return punt(m, kind_ipv6(ip6));
	} else {
		return eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_ARP) ? punt(m, PUNT_NEIGHBOURS) :
									 NEXT_UNSUPPORTED;
	}
	if (unlikely(group))
		return NEXT_MULTICAST;
	if (unlikely(!known))
		note_source(w, &eth->src_addr, m);
	return NEXT_LOOKUP;
}

static __rte_always_inline rte_edge_t
classify(const struct worker *w, struct rte_mbuf *m)
{
	const struct port_state *port = &w->ports[m->port];

	return likely(is_plain(port, m)) ? NEXT_LOOKUP : classify_other(w, port, m);
}

static uint16_t
classify_guest_process(struct rte_graph *graph, struct rte_node *node, void **objs,
		       uint16_t nb_objs)
{
	uint16_t done = node_for_each(graph, node, objs, nb_objs, PREFETCH_AHEAD, classify);

	if (unlikely(RTE_PER_LCORE(copy) != NULL)) {
		rte_node_enqueue_x1(graph, node, NEXT_MOVED, RTE_PER_LCORE(copy));
		RTE_PER_LCORE(copy) = NULL;
	}
	return done;
}

static struct rte_node_register classify_guest_node = {
	.name = "classify_guest",
	.process = classify_guest_process,
	.nb_edges = 9,
	.next_nodes = {
		[NEXT_LOOKUP] = "flow_lookup",
		[NEXT_PUNT] = "punt",
		[NEXT_MALFORMED] = "drop_malformed",
		[NEXT_NO_INTERFACE] = "drop_no_interface",
		[NEXT_NOT_FOR_US] = "drop_not_for_us",
		[NEXT_MULTICAST] = "drop_multicast",
		[NEXT_TAGGED] = "drop_tagged",
		[NEXT_UNSUPPORTED] = "drop_unsupported",
		[NEXT_MOVED] = "guest_moved",
	},
};
RTE_NODE_REGISTER(classify_guest_node);
