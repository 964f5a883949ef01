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

#include "compat.h"
#include "dataplane.h"
#include "flow_key.h"
#include "icmp.h"
#include "mark.h"

#define TCP_NO_OFFLOAD (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG)

/* In a fragment_offset. */
#define IPV4_IS_FRAGMENT RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)

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

/* A packet's ports, or type and code, as they lie in its key. They are zero where they cannot be
 * read, and kind says so: the packet is forwarded either way. */
static __rte_always_inline uint32_t
parse_l4(const uint8_t *l4, uint32_t len, uint8_t proto, uint8_t *kind, uint8_t *tcp_flags)
{
	uint32_t ports = 0;

	switch (proto) {
	case IPPROTO_TCP:
		if (unlikely(len < sizeof(struct rte_tcp_hdr)))
			break;
		memcpy(&ports, l4, 4);
		*tcp_flags = ((const struct rte_tcp_hdr *)l4)->tcp_flags;
		return ports;
	case IPPROTO_UDP:
		if (unlikely(len < sizeof(struct rte_udp_hdr)))
			break;
		memcpy(&ports, l4, 4);
		return ports;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (unlikely(len < sizeof(struct rte_icmp_hdr)))
			break;
		memcpy(&ports, l4, 2);
		return ports;
	default:
		return ports;
	}
	*kind |= KEY_OPAQUE;
	return 0;
}

/* Both parsers: len counts the bytes of the frame from the IP header on. False: malformed. ntohs is
 * one instruction, DPDK's conversion is three that the compiler cannot mend. */
static inline bool
parse_ipv4(const uint8_t *l3, uint32_t len, uint16_t port, uint8_t kind, struct flow_key *key,
	   uint8_t *tcp_flags)
{
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)l3;
	uint32_t ihl, total, ports = 0;

	if (unlikely(len < sizeof(*ip) || (ip->version_ihl >> 4) != 4))
		return false;
	ihl = rte_ipv4_hdr_len(ip);
	total = ntohs(ip->total_length);
	if (unlikely(ihl < sizeof(*ip) || total < ihl || total > len))
		return false;
	if (unlikely(ip->fragment_offset & IPV4_IS_FRAGMENT))
		kind |= KEY_OPAQUE;
	else
		ports = parse_l4(l3 + ihl, total - ihl, ip->next_proto_id, &kind, tcp_flags);
	flow_key_set_ipv4(key, &ip->src_addr);
	flow_key_set_common(key, ports, port, ip->next_proto_id, kind);
	return true;
}

static __rte_always_inline bool
parse_ipv6(const uint8_t *l3, uint32_t len, uint16_t port, uint8_t kind, struct flow_key *key,
	   uint8_t *tcp_flags)
{
	const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)l3;
	uint32_t payload, ports;

	if (unlikely(len < sizeof(*ip) || (l3[0] >> 4) != 6))
		return false;
	payload = ntohs(ip->payload_len);
	if (unlikely(payload > len - sizeof(*ip)))
		return false;
	flow_key_set_ipv6(key, &ip->src_addr, &ip->dst_addr);
	/* an extension header counts as a protocol without ports */
	ports = parse_l4(l3 + sizeof(*ip), payload, ip->proto, &kind, tcp_flags);
	flow_key_set_common(key, ports, port, ip->proto, kind);
	return true;
}

/* Where the packet comes from, and where its IP header begins. Returns the kind of its key. */
static __rte_always_inline uint8_t
parse_outer(const struct worker *w, const struct rte_mbuf *m, struct flow_key *key, uint8_t *l3)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv6_hdr *outer = (const struct rte_ipv6_hdr *)(eth + 1);
	const struct port_state *port = &w->ports[m->port];
	uint8_t kind = eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6) ? KEY_IPV6 : 0;

	*l3 = ETH_LEN;
	if (port->vf)
		return kind;
	if (port->marks && is_mark(&eth->src_addr)) {
		memcpy(key->outer, w->tunnels[mark_tunnel(&eth->src_addr)].underlay, 16);
		return KEY_WIRE | kind;
	}
	*l3 = OUTER_LEN;
	memcpy(key->outer, &outer->dst_addr, 16);
	return KEY_WIRE | (outer->proto == IPPROTO_IPV6 ? KEY_IPV6 : 0);
}

/* Fill the key of a packet, and where its IP header begins in its meta data. The frame has been
 * classified: what its IP header comes behind is there. False: malformed. */
static __rte_always_inline bool
parse_packet(const struct worker *w, struct rte_mbuf *m, struct flow_key *key, uint8_t *tcp_flags)
{
	struct pkt_meta *meta = pkt_meta(m);
	uint8_t kind = parse_outer(w, m, key, &meta->l3);
	const uint8_t *l3 = rte_pktmbuf_mtod_offset(m, const uint8_t *, meta->l3);
	uint32_t len = rte_pktmbuf_data_len(m) - meta->l3;

	*tcp_flags = 0;
	if (kind & KEY_IPV6)
		return parse_ipv6(l3, len, m->port, kind, key, tcp_flags);
	return parse_ipv4(l3, len, m->port, kind, key, tcp_flags);
}

static __rte_always_inline uint32_t
parse_ports(const void *l4)
{
	uint32_t ports;

	memcpy(&ports, l4, sizeof(ports));
	return ports;
}

/* The same, for nearly all of a guest's packets: IPv4 with TCP or UDP, in one piece, without
 * options, and as long as they say. False: that one may be another, or malformed. Where its IP
 * header begins is known, so it is not noted. */
static __rte_always_inline bool
parse_plain(const struct worker *w, const struct rte_mbuf *m, struct flow_key *key,
	    uint8_t *tcp_flags)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + 1);
	uint32_t total;

	if (unlikely(!w->ports[m->port].vf || eth->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) ||
		     ip->version_ihl != RTE_IPV4_VHL_DEF ||
		     (ip->fragment_offset & IPV4_IS_FRAGMENT)))
		return false;
	total = ntohs(ip->total_length);
	if (unlikely(total + ETH_LEN > rte_pktmbuf_data_len(m)))
		return false;
	flow_key_set_ipv4(key, &ip->src_addr);
	if (ip->next_proto_id == IPPROTO_UDP &&
	    likely(total >= sizeof(*ip) + sizeof(struct rte_udp_hdr))) {
		*tcp_flags = 0;
		flow_key_set_common(key, parse_ports(ip + 1), m->port, IPPROTO_UDP, 0);
		return true;
	}
	if (ip->next_proto_id == IPPROTO_TCP &&
	    likely(total >= sizeof(*ip) + sizeof(struct rte_tcp_hdr))) {
		*tcp_flags = ((const struct rte_tcp_hdr *)(ip + 1))->tcp_flags;
		flow_key_set_common(key, parse_ports(ip + 1), m->port, IPPROTO_TCP, 0);
		return true;
	}
	return false;
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
