/* SPDX-License-Identifier: Apache-2.0 */

/* The parser of packets. It never reads past the end: what is cut short is as if it were not
 * there. */

#include <netinet/in.h>
#include <string.h>

#include <rte_hash_crc.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>
#include <rte_vxlan.h>

#include "key.h"

#define MAX_IPV6_EXTENSIONS 8
#define MAX_TAGS 2

/* The I flag of VXLAN: there is a VNI. */
#define VXLAN_HAS_VNI 0x08000000

struct cursor {
	const uint8_t *data;
	uint32_t len;
	uint32_t at;
	bool any_length; /* the lengths in IP headers mean nothing yet */
};

/* Ends the packet n bytes from here: what follows the IP packet in the frame is padding. */
static void
limit(struct cursor *c, uint32_t n)
{
	if (!c->any_length)
		c->len = RTE_MIN(c->len, c->at + n);
}

/* The next n bytes, or NULL when the packet ends before. Does not move. */
static const void *
peek(const struct cursor *c, uint32_t n)
{
	return c->len - c->at < n ? NULL : c->data + c->at;
}

/* Copies the Ethernet header, the one header that is read as if it were aligned: behind an odd
 * tunnel it is not. */
static bool
copy_ethernet(const struct cursor *c, struct rte_ether_hdr *eth)
{
	const void *at = peek(c, sizeof(*eth));

	if (at == NULL)
		return false;
	memcpy(eth, at, sizeof(*eth));
	return true;
}

/* A frame's Ethernet header and tags. */
struct link {
	struct rte_ether_hdr eth;
	rte_be16_t tci;  /* the first tag's */
	rte_be16_t type; /* behind the tags; that of a tag which is cut short, or of a third one */
	bool whole;      /* the headers behind can be looked for */
};

static bool
is_tag(rte_be16_t type)
{
	return type == RTE_BE16(RTE_ETHER_TYPE_VLAN) || type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* Out of line: within parse_l2, which is inlined twice, a frame took 3 % longer to parse. */
static __rte_noinline bool
parse_link(struct cursor *c, struct link *link)
{
	const struct rte_vlan_hdr *vlan;
	int tags;

	if (!copy_ethernet(c, &link->eth))
		return false;
	link->type = link->eth.ether_type;
	c->at += sizeof(link->eth);
	for (tags = 0; is_tag(link->type); tags++) {
		vlan = peek(c, sizeof(*vlan));
		if (tags == MAX_TAGS || vlan == NULL)
			return true;
		if (tags == 0)
			link->tci = vlan->vlan_tci;
		link->type = vlan->eth_proto;
		c->at += sizeof(*vlan);
	}
	link->whole = true;
	return true;
}

/* The Ethernet header and its tags; returns the EtherType of what can be looked at behind these, or
 * 0. */
static inline rte_be16_t
parse_l2(struct cursor *c, struct esw_l2 *l2)
{
	struct link link = { 0 };

	if (!parse_link(c, &link))
		return 0;
	l2->dst = link.eth.dst_addr;
	l2->src = link.eth.src_addr;
	l2->type = link.type;
	l2->cvlan = link.eth.ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN);
	l2->svlan = link.eth.ether_type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
	l2->tci = link.tci;
	return link.whole ? link.type : 0;
}

static void
parse_ports(const struct cursor *c, struct esw_l3 *l3)
{
	const struct rte_udp_hdr *ports = (const void *)(c->data + c->at);

	l3->src_port = ports->src_port;
	l3->dst_port = ports->dst_port;
}

static void
parse_icmp(const struct cursor *c, struct esw_l3 *l3)
{
	const struct rte_icmp_hdr *icmp = (const void *)(c->data + c->at);

	l3->icmp_type = icmp->icmp_type;
	l3->icmp_code = icmp->icmp_code;
	l3->icmp_ident = icmp->icmp_ident;
	l3->icmp_seq = icmp->icmp_seq_nb;
}

/* The protocol if it is one whose header rules can name, else 0. */
static uint8_t
l4_of(const struct esw_l3 *l3)
{
	switch (l3->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return l3->proto;
	case IPPROTO_ICMP:
		return l3->version == 4 ? l3->proto : 0;
	case IPPROTO_ICMPV6:
		return l3->version == 6 ? l3->proto : 0;
	default:
		return 0;
	}
}

/* Reads the header that the IP header says; false when there is none, or not all of it. */
static bool
parse_l4(const struct cursor *c, struct esw_l3 *l3)
{
	const struct rte_tcp_hdr *tcp;

	switch (l3->l4) {
	case IPPROTO_TCP:
		tcp = peek(c, sizeof(*tcp));
		if (tcp == NULL)
			return false;
		parse_ports(c, l3);
		l3->tcp_flags = tcp->tcp_flags;
		break;
	case IPPROTO_UDP:
		if (peek(c, sizeof(struct rte_udp_hdr)) == NULL)
			return false;
		parse_ports(c, l3);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (peek(c, sizeof(struct rte_icmp_hdr)) == NULL)
			return false;
		parse_icmp(c, l3);
		break;
	default:
		return false;
	}
	return true;
}

static bool
parse_ipv4(struct cursor *c, struct esw_l3 *l3)
{
	const struct rte_ipv4_hdr *ip = peek(c, sizeof(*ip));
	uint32_t header;

	if (ip == NULL || (ip->version_ihl >> 4) != 4)
		return false;
	header = (ip->version_ihl & RTE_IPV4_HDR_IHL_MASK) * RTE_IPV4_IHL_MULTIPLIER;
	if (header < sizeof(*ip) || peek(c, header) == NULL)
		return false;
	l3->version = 4;
	l3->proto = ip->next_proto_id;
	l3->ttl = ip->time_to_live;
	l3->tos = ip->type_of_service;
	l3->ihl = ip->version_ihl & RTE_IPV4_HDR_IHL_MASK;
	l3->fragment = (ip->fragment_offset &
			RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0;
	memcpy(l3->src, &ip->src_addr, sizeof(ip->src_addr));
	memcpy(l3->dst, &ip->dst_addr, sizeof(ip->dst_addr));
	limit(c, RTE_MAX(rte_be_to_cpu_16(ip->total_length), header));
	c->at += header;
	return true;
}

/* Walks the extension headers; false when the upper layer cannot be found. */
static bool
skip_ipv6_extensions(struct cursor *c, struct esw_l3 *l3)
{
	const uint8_t *ext;
	uint32_t size;
	int i;

	for (i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
		switch (l3->proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			ext = peek(c, 8);
			if (ext == NULL)
				return false;
			size = 8 * (ext[1] + 1);
			break;
		case IPPROTO_FRAGMENT:
			ext = peek(c, 8);
			if (ext == NULL)
				return false;
			size = 8;
			/* An atomic fragment (RFC 6946) is a whole packet. */
			if (((ext[2] << 8 | ext[3]) & 0xfff9) != 0)
				l3->fragment = 1;
			break;
		default:
			return true;
		}
		if (peek(c, size) == NULL)
			return false;
		l3->proto = ext[0];
		c->at += size;
		if (l3->fragment)
			return true;
	}
	return false;
}

static bool
parse_ipv6(struct cursor *c, struct esw_l3 *l3)
{
	const struct rte_ipv6_hdr *ip = peek(c, sizeof(*ip));
	uint32_t word;

	if (ip == NULL)
		return false;
	word = rte_be_to_cpu_32(ip->vtc_flow);
	if (word >> 28 != 6)
		return false;
	l3->version = 6;
	l3->proto = ip->proto;
	l3->ttl = ip->hop_limits;
	l3->tos = word >> 20;
	l3->flow_label = rte_cpu_to_be_32(word & RTE_IPV6_HDR_FL_MASK);
	memcpy(l3->src, &ip->src_addr, sizeof(l3->src));
	memcpy(l3->dst, &ip->dst_addr, sizeof(l3->dst));
	c->at += sizeof(*ip);
	limit(c, rte_be_to_cpu_16(ip->payload_len));
	if (!skip_ipv6_extensions(c, l3)) {
		/* The upper layer is unknown: no rule that names one may match. */
		l3->proto = IPPROTO_NONE;
		return false;
	}
	return true;
}

/* What an UDP header to VXLAN's port carries; returns the EtherType of the IP header in it, or
 * 0. */
static rte_be16_t
parse_vxlan(struct cursor *c, struct esw_key *key)
{
	const struct rte_vxlan_hdr *vxlan;

	c->at += sizeof(struct rte_udp_hdr);
	vxlan = peek(c, sizeof(*vxlan));
	if (vxlan == NULL || (vxlan->vx_flags & RTE_BE32(VXLAN_HAS_VNI)) == 0)
		return 0;
	key->vxlan = 1;
	memcpy(key->vni, &vxlan->vx_vni, sizeof(key->vni));
	c->at += sizeof(*vxlan);
	return parse_l2(c, &key->l2[ESW_INNER]);
}

/* Parses one IP header of the given EtherType and its L4; returns the EtherType of an IP header
 * within, or 0. */
static rte_be16_t
parse_l3(struct cursor *c, rte_be16_t type, int layer, struct esw_key *key, struct esw_offsets *off)
{
	struct esw_l3 *l3 = &key->l3[layer];
	uint32_t start = c->at;
	bool upper;

	if (type == RTE_BE16(RTE_ETHER_TYPE_IPV4))
		upper = parse_ipv4(c, l3);
	else if (type == RTE_BE16(RTE_ETHER_TYPE_IPV6))
		upper = parse_ipv6(c, l3);
	else
		return 0;
	if (l3->version != 0)
		off->l3[layer] = start;
	l3->l4 = l4_of(l3);
	if (!upper || l3->fragment)
		return 0;
	if (parse_l4(c, l3))
		off->l4[layer] = c->at;
	if (l3->proto == IPPROTO_IPIP)
		return RTE_BE16(RTE_ETHER_TYPE_IPV4);
	if (l3->proto == IPPROTO_IPV6)
		return RTE_BE16(RTE_ETHER_TYPE_IPV6);
	if (layer == ESW_OUTER && off->l4[layer] != 0 && l3->l4 == IPPROTO_UDP &&
	    l3->dst_port == RTE_BE16(RTE_VXLAN_DEFAULT_PORT))
		return parse_vxlan(c, key);
	return 0;
}

static void
parse(struct cursor *c, struct esw_key *key, struct esw_offsets *off)
{
	rte_be16_t type;

	memset(key, 0, sizeof(*key));
	memset(off, 0, sizeof(*off));
	type = parse_l2(c, &key->l2[ESW_OUTER]);
	type = parse_l3(c, type, ESW_OUTER, key, off);
	parse_l3(c, type, ESW_INNER, key, off);
}

/* Fills key and off from a frame of any content. */
void
esw_parse(const uint8_t *data, uint32_t len, struct esw_key *key, struct esw_offsets *off)
{
	/* Offsets are 16 bits wide; no frame is that long, and headers do not lie that deep. */
	struct cursor c = { .data = data, .len = RTE_MIN(len, (uint32_t)UINT16_MAX) };

	parse(&c, key, off);
}

/* Fills key and off from headers whose length fields are not filled yet. */
void
esw_parse_template(const uint8_t *data, uint32_t len, struct esw_key *key, struct esw_offsets *off)
{
	struct cursor c = { .data = data, .len = len, .any_length = true };

	parse(&c, key, off);
}

/* A hash that all packets of a flow share: addresses, protocols and ports, of the inner headers
 * too. */
uint32_t
esw_flow_hash(const struct esw_key *key)
{
	uint32_t hash = 0;
	int layer;

	for (layer = 0; layer < ESW_L3_MAX; layer++) {
		const struct esw_l3 *l3 = &key->l3[layer];

		hash = rte_hash_crc(l3->src, sizeof(l3->src) + sizeof(l3->dst), hash);
		hash = rte_hash_crc_1byte(l3->proto, hash);
		hash = rte_hash_crc_2byte(l3->src_port, hash);
		hash = rte_hash_crc_2byte(l3->dst_port, hash);
	}
	if (key->l3[ESW_OUTER].version == 0)
		hash = rte_hash_crc(&key->l2[ESW_OUTER].dst, 2 * RTE_ETHER_ADDR_LEN, hash);
	return hash;
}
