/* SPDX-License-Identifier: Apache-2.0 */
/* classify_guest: what a guest sent is forwarded, left to the slow path (ARP, neighbour discovery, DHCP, pings of its
 * gateway), or dropped. */
#include <netinet/in.h>
#include <string.h>

#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "gateway.h"
#include "node.h"

enum { NEXT_LOOKUP, NEXT_PUNT, NEXT_MALFORMED, NEXT_NO_INTERFACE, NEXT_NOT_FOR_US, NEXT_MULTICAST };

#define ND_FIRST 133 /* router solicitation */
#define ND_LAST 137  /* redirect */
#define DHCP_SERVER 67
#define DHCPV6_SERVER 547

static inline bool
is_ipv4_control(const struct rte_ipv4_hdr *ip, uint32_t len)
{
	uint32_t ihl = rte_ipv4_hdr_len(ip);
	const struct rte_udp_hdr *udp = RTE_PTR_ADD(ip, ihl);

	if (ip->next_proto_id == IPPROTO_ICMP)
		return ip->dst_addr == rte_cpu_to_be_32(GATEWAY_IPV4);
	return ip->next_proto_id == IPPROTO_UDP && len >= ihl + sizeof(*udp) &&
	       (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_OFFSET_MASK)) == 0 &&
	       udp->dst_port == rte_cpu_to_be_16(DHCP_SERVER);
}

static inline bool
is_ipv6_control(const struct rte_ipv6_hdr *ip, uint32_t len)
{
	const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
	const struct rte_icmp_hdr *icmp = (const struct rte_icmp_hdr *)(ip + 1);

	if (len < sizeof(*ip) + sizeof(*udp))
		return false;
	if (ip->proto == IPPROTO_ICMPV6)
		return (icmp->icmp_type >= ND_FIRST && icmp->icmp_type <= ND_LAST) ||
		       memcmp(ip->dst_addr, gateway_ipv6, sizeof(gateway_ipv6)) == 0;
	return ip->proto == IPPROTO_UDP && udp->dst_port == rte_cpu_to_be_16(DHCPV6_SERVER);
}

static __rte_always_inline rte_edge_t
classify(const struct worker *w, struct rte_mbuf *m)
{
	const struct port_state *port = &w->ports[m->port];
	const struct rte_ether_hdr *eth;
	bool group, control;
	uint32_t len;

	if (unlikely(port->iface == NO_IFACE))
		return NEXT_NO_INTERFACE;
	if (unlikely(!node_packet_is_whole(m)))
		return NEXT_MALFORMED;
	eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	group = rte_is_multicast_ether_addr(&eth->dst_addr);
	if (unlikely(!group && !rte_is_same_ether_addr(&eth->dst_addr, &port->mac)))
		return NEXT_NOT_FOR_US;
	len = rte_pktmbuf_data_len(m) - ETH_LEN;
	if (eth->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4)) {
		if (unlikely(len < sizeof(struct rte_ipv4_hdr)))
			return NEXT_MALFORMED;
		control = is_ipv4_control((const struct rte_ipv4_hdr *)(eth + 1), len);
	} else if (eth->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6)) {
		if (unlikely(len < sizeof(struct rte_ipv6_hdr)))
			return NEXT_MALFORMED;
		control = is_ipv6_control((const struct rte_ipv6_hdr *)(eth + 1), len);
	} else {
		return NEXT_PUNT;
	}
	if (unlikely(control))
		return NEXT_PUNT;
	return likely(!group) ? NEXT_LOOKUP : NEXT_MULTICAST;
}

static uint16_t
classify_guest_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	return node_for_each(graph, node, objs, nb_objs, classify);
}

static struct rte_node_register classify_guest_node = {
	.name = "classify_guest",
	.process = classify_guest_process,
	.nb_edges = 6,
	.next_nodes = {
		[NEXT_LOOKUP] = "flow_lookup",
		[NEXT_PUNT] = "punt",
		[NEXT_MALFORMED] = "drop_malformed",
		[NEXT_NO_INTERFACE] = "drop_no_interface",
		[NEXT_NOT_FOR_US] = "drop_not_for_us",
		[NEXT_MULTICAST] = "drop_multicast",
	},
};
RTE_NODE_REGISTER(classify_guest_node);
