/* SPDX-License-Identifier: Apache-2.0 */
/* From a packet to its flow's key. */
#ifndef NODES_PARSE_H
#define NODES_PARSE_H

#include <netinet/in.h>
#include <string.h>

#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane.h"
#include "icmp.h"
#include "mark.h"

#define TCP_NO_OFFLOAD (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG)

#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_NEIGHBOUR_SOLICITATION 135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_REDIRECT 137
#define ND_HOP_LIMIT 255

/* A neighbour solicitation's, or advertisement's, beginning. */
struct nd_message {
	uint8_t type;
	uint8_t code;
	rte_be16_t checksum;
	rte_be32_t reserved;
	uint8_t target[16];
} __attribute__((__packed__));

/* Ports, or type and code, where they can be read. The packet is forwarded either way. */
static __rte_always_inline void
parse_l4(const uint8_t *l4, uint32_t len, struct flow_key *key, uint8_t *tcp_flags)
{
	switch (key->proto) {
	case IPPROTO_TCP:
		if (unlikely(len < sizeof(struct rte_tcp_hdr)))
			break;
		memcpy(&key->sport, l4, 4);
		*tcp_flags = ((const struct rte_tcp_hdr *)l4)->tcp_flags;
		return;
	case IPPROTO_UDP:
		if (unlikely(len < sizeof(struct rte_udp_hdr)))
			break;
		memcpy(&key->sport, l4, 4);
		return;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (unlikely(len < sizeof(struct rte_icmp_hdr)))
			break;
		memcpy(&key->sport, l4, 2);
		return;
	default:
		return;
	}
	key->kind |= KEY_OPAQUE;
}

/* Both parsers: len counts the bytes of the frame from the IP header on. False: malformed. ntohs is
 * one instruction, DPDK's conversion is three that the compiler cannot mend. */
static __rte_always_inline bool
parse_ipv4(const uint8_t *l3, uint32_t len, struct flow_key *key, uint8_t *tcp_flags)
{
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)l3;
	uint32_t ihl, total;

	if (unlikely(len < sizeof(*ip) || (ip->version_ihl >> 4) != 4))
		return false;
	ihl = (ip->version_ihl & RTE_IPV4_HDR_IHL_MASK) * RTE_IPV4_IHL_MULTIPLIER;
	total = ntohs(ip->total_length);
	if (unlikely(ihl < sizeof(*ip) || total < ihl || total > len))
		return false;
	memcpy(key->src, &ip->src_addr, 4);
	memcpy(key->dst, &ip->dst_addr, 4);
	key->proto = ip->next_proto_id;
	if (unlikely(ip->fragment_offset &
		     rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)))
		key->kind |= KEY_OPAQUE;
	else
		parse_l4(l3 + ihl, total - ihl, key, tcp_flags);
	return true;
}

static __rte_always_inline bool
parse_ipv6(const uint8_t *l3, uint32_t len, struct flow_key *key, uint8_t *tcp_flags)
{
	const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)l3;
	uint32_t payload;

	if (unlikely(len < sizeof(*ip) || (l3[0] >> 4) != 6))
		return false;
	payload = ntohs(ip->payload_len);
	if (unlikely(payload > len - sizeof(*ip)))
		return false;
	memcpy(key->src, &ip->src_addr, 16);
	memcpy(key->dst, &ip->dst_addr, 16);
	key->kind |= KEY_IPV6;
	key->proto = ip->proto; /* an extension header counts as a protocol without ports */
	parse_l4(l3 + sizeof(*ip), payload, key, tcp_flags);
	return true;
}

/* Where the packet comes from, and its IP header begins. Returns whether that is IPv6. */
static __rte_always_inline bool
parse_outer(const struct worker *w, const struct rte_mbuf *m, struct flow_key *key, uint8_t *l3)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv6_hdr *outer = (const struct rte_ipv6_hdr *)(eth + 1);
	const struct port_state *port = &w->ports[m->port];

	*l3 = ETH_LEN;
	if (port->vf)
		return eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6);
	key->kind = KEY_WIRE;
	if (port->marks && is_mark(&eth->src_addr)) {
		memcpy(key->outer, w->tunnels[mark_tunnel(&eth->src_addr)].underlay, 16);
		return eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6);
	}
	*l3 = OUTER_LEN;
	memcpy(key->outer, &outer->dst_addr, 16);
	return outer->proto == IPPROTO_IPV6;
}

/* Fill key and the packet's meta data. The frame has been classified: what its IP header comes
 * behind is there. */
static __rte_always_inline bool
parse_packet(const struct worker *w, struct rte_mbuf *m, struct flow_key *key)
{
	struct pkt_meta *meta = pkt_meta(m);
	const uint8_t *l3;
	uint32_t len;
	bool ipv6;

	memset(key, 0, sizeof(*key));
	key->port = m->port;
	meta->flow = 0;
	meta->tcp_flags = 0;
	meta->l3 = 0;
	meta->punt_kind = 0;
	ipv6 = parse_outer(w, m, key, &meta->l3);
	l3 = rte_pktmbuf_mtod_offset(m, const uint8_t *, meta->l3);
	len = rte_pktmbuf_data_len(m) - meta->l3;
	if (ipv6)
		return parse_ipv6(l3, len, key, &meta->tcp_flags);
	return parse_ipv4(l3, len, key, &meta->tcp_flags);
}

/* Whether the flow's packets are ICMP errors, which quote the packet that they are about. */
static inline bool
key_is_icmp_error(const struct flow_key *key)
{
	uint8_t type = rte_be_to_cpu_16(key->sport) >> 8;

	if (key->kind & KEY_OPAQUE)
		return false;
	if (key->kind & KEY_IPV6)
		return key->proto == IPPROTO_ICMPV6 && type < ICMPV6_INFORMATIONAL;
	return key->proto == IPPROTO_ICMP &&
	       (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
		type == ICMP_PARAMETER_PROBLEM);
}

/* Whether hardware can match this flow: by ports, or an echo. */
static inline bool
key_is_offloadable(const struct flow_key *key)
{
	uint16_t type_code = rte_be_to_cpu_16(key->sport);

	if (key->kind & KEY_OPAQUE)
		return false;
	switch (key->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return true;
	case IPPROTO_ICMP:
		return !(key->kind & KEY_IPV6) &&
		       (type_code == ICMP_ECHO_REQUEST << 8 || type_code == ICMP_ECHO_REPLY << 8);
	case IPPROTO_ICMPV6:
		return (key->kind & KEY_IPV6) && (type_code == ICMPV6_ECHO_REQUEST << 8 ||
						  type_code == ICMPV6_ECHO_REPLY << 8);
	default:
		return false;
	}
}

#endif
