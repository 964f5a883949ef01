/* SPDX-License-Identifier: Apache-2.0 */
#include "tap_key.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

/* ---- conditions ---- */

#define FIELD(name, member) \
	[TAP_##name] = { offsetof(union tap_key, member), sizeof(((union tap_key *)0)->member) },

static const struct {
	uint8_t offset;
	uint8_t size;
} fields[TAP_FIELDS] = { TAP_FIELD_LIST(FIELD) };

static bool
is_zero(const uint8_t *bytes, uint32_t n)
{
	while (n > 0 && bytes[n - 1] == 0)
		n--;
	return n == 0;
}

/* To a NIC, a frame is of IP if its IP header is whole. */
static void
require_version(union tap_key *value, union tap_key *mask, rte_be16_t type, rte_be16_t type_mask)
{
	if (type_mask != UINT16_MAX)
		return;
	if (type == RTE_BE16(RTE_ETHER_TYPE_IPV4))
		value->version = 4;
	else if (type == RTE_BE16(RTE_ETHER_TYPE_IPV6))
		value->version = 6;
	else
		return;
	mask->version = UINT8_MAX;
}

bool
dps_tap_key_require(union tap_key *value, union tap_key *mask, uint8_t field,
		    const uint8_t bytes[16], const uint8_t bits[16])
{
	uint8_t *v, *m, i;

	if (field >= TAP_FIELDS || !is_zero(bits + fields[field].size, 16 - fields[field].size))
		return false;
	v = (uint8_t *)value + fields[field].offset;
	m = (uint8_t *)mask + fields[field].offset;
	if (!is_zero(m, fields[field].size))
		return false;
	for (i = 0; i < fields[field].size; i++) {
		m[i] = bits[i];
		v[i] = bytes[i] & bits[i];
	}
	if (field == TAP_ETHER_TYPE)
		require_version(value, mask, value->eth_type, mask->eth_type);
	if (field == TAP_VLAN_TYPE)
		require_version(value, mask, value->vlan_type, mask->vlan_type);
	return true;
}

/* ---- packets: what is cut short is as if it were not there ---- */

#define MAX_TAGS 2
#define MAX_IPV6_EXTENSIONS 8
#define IPV6_EXTENSION_UNIT 8
#define IPV6_FRAGMENT_BITS \
	0xfff9 /* offset and more fragments; without these it is a whole packet (RFC 6946) */

/* A place in a packet that may lie in several buffers. */
struct cursor {
	const struct rte_mbuf *m;
	uint32_t len; /* of the packet, without padding */
	uint32_t at;
	uint8_t copy[sizeof(struct rte_ipv6_hdr)] __rte_aligned(8); /* the longest header */
};

static bool
has(const struct cursor *c, uint32_t n)
{
	return c->len - c->at >= n;
}

/* The next n bytes, until the next call, or NULL when the packet ends before. Does not move. */
static const void *
peek(struct cursor *c, uint32_t n)
{
	return has(c, n) ? rte_pktmbuf_read(c->m, c->at, n, c->copy) : NULL;
}

/* The packet ends n bytes from here: what follows it in the frame is padding. */
static void
limit(struct cursor *c, uint32_t n)
{
	c->len = RTE_MIN(c->len, c->at + n);
}

static bool
is_tag(rte_be16_t type)
{
	return type == RTE_BE16(RTE_ETHER_TYPE_VLAN) || type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* Returns the EtherType behind the tags, 0 if there is none. */
static rte_be16_t
read_ethernet(struct cursor *c, union tap_key *key)
{
	const struct rte_ether_hdr *eth = peek(c, sizeof(*eth));
	const struct rte_vlan_hdr *vlan;
	rte_be16_t type;
	int tags;

	if (eth == NULL)
		return 0;
	memcpy(&key->eth_dst, &eth->dst_addr, sizeof(key->eth_dst));
	memcpy(&key->eth_src, &eth->src_addr, sizeof(key->eth_src));
	key->eth_type = type = eth->ether_type;
	c->at += sizeof(*eth);
	for (tags = 0; is_tag(type); tags++) {
		vlan = peek(c, sizeof(*vlan));
		if (vlan == NULL || tags == MAX_TAGS)
			return 0;
		type = vlan->eth_proto;
		if (tags == 0) {
			key->tagged = 1;
			key->vlan_tci = vlan->vlan_tci;
			key->vlan_type = type;
		}
		c->at += sizeof(*vlan);
	}
	return type;
}

static void
read_tcp(struct cursor *c, union tap_key *key)
{
	const struct rte_tcp_hdr *tcp = peek(c, sizeof(*tcp));

	if (tcp == NULL)
		return;
	key->l4 = 1;
	key->src_port = tcp->src_port;
	key->dst_port = tcp->dst_port;
	key->tcp_flags = tcp->tcp_flags;
}

static void
read_udp(struct cursor *c, union tap_key *key)
{
	const struct rte_udp_hdr *udp = peek(c, sizeof(*udp));

	if (udp == NULL)
		return;
	key->l4 = 1;
	key->src_port = udp->src_port;
	key->dst_port = udp->dst_port;
}

static void
read_icmp(struct cursor *c, union tap_key *key)
{
	const struct rte_icmp_hdr *icmp = peek(c, sizeof(*icmp));

	if (icmp == NULL)
		return;
	key->l4 = 1;
	key->icmp_type = icmp->icmp_type;
	key->icmp_code = icmp->icmp_code;
}

static void
read_l4(struct cursor *c, union tap_key *key)
{
	switch (key->proto) {
	case IPPROTO_TCP:
		read_tcp(c, key);
		break;
	case IPPROTO_UDP:
		read_udp(c, key);
		break;
	case IPPROTO_ICMP:
		if (key->version == 4)
			read_icmp(c, key);
		break;
	case IPPROTO_ICMPV6:
		if (key->version == 6)
			read_icmp(c, key);
		break;
	}
}

/* Both readers of IP headers: true if what proto names follows. */
static bool
read_ipv4(struct cursor *c, union tap_key *key)
{
	const struct rte_ipv4_hdr *ip = peek(c, sizeof(*ip));
	uint32_t len;

	if (ip == NULL || (ip->version_ihl >> 4) != 4)
		return false;
	len = rte_ipv4_hdr_len(ip);
	if (len < sizeof(*ip) || !has(c, len))
		return false;
	key->version = 4;
	key->proto = ip->next_proto_id;
	key->tos = ip->type_of_service;
	key->ttl = ip->time_to_live;
	key->fragment = (ip->fragment_offset &
			 RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0;
	memcpy(key->src, &ip->src_addr, sizeof(ip->src_addr));
	memcpy(key->dst, &ip->dst_addr, sizeof(ip->dst_addr));
	limit(c, RTE_MAX(rte_be_to_cpu_16(ip->total_length), len));
	c->at += len;
	return key->fragment == 0;
}

static bool
is_extension(uint8_t proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_FRAGMENT;
}

/* Go on behind one extension header, which names the next one. False: the packet ends before. */
static bool
skip_ipv6_extension(struct cursor *c, union tap_key *key, bool *fragment)
{
	bool is_fragment = key->proto == IPPROTO_FRAGMENT;
	const uint8_t *ext = peek(c, IPV6_EXTENSION_UNIT);
	uint32_t len;

	if (ext == NULL)
		return false;
	len = is_fragment ? IPV6_EXTENSION_UNIT : (ext[1] + 1u) * IPV6_EXTENSION_UNIT;
	if (!has(c, len))
		return false;
	*fragment = is_fragment && ((ext[2] << 8 | ext[3]) & IPV6_FRAGMENT_BITS) != 0;
	key->proto = ext[0];
	c->at += len;
	return true;
}

/* Go on to what the extension headers stand before, and make that the packet's protocol, or none if
 * it is not found. True unless that is so, or it is of a fragment. */
static bool
skip_ipv6_extensions(struct cursor *c, union tap_key *key)
{
	bool fragment = false;
	int n;

	for (n = 0; n < MAX_IPV6_EXTENSIONS; n++) {
		if (!is_extension(key->proto))
			return true;
		if (!skip_ipv6_extension(c, key, &fragment))
			break;
		if (fragment)
			return false;
	}
	key->proto = IPPROTO_NONE;
	return false;
}

static bool
read_ipv6(struct cursor *c, union tap_key *key)
{
	const struct rte_ipv6_hdr *ip = peek(c, sizeof(*ip));
	uint32_t word;

	if (ip == NULL)
		return false;
	word = rte_be_to_cpu_32(ip->vtc_flow);
	if (word >> 28 != 6)
		return false;
	key->version = 6;
	key->proto = ip->proto;
	key->tos = word >> 20;
	key->ttl = ip->hop_limits;
	memcpy(key->src, &ip->src_addr, sizeof(key->src));
	memcpy(key->dst, &ip->dst_addr, sizeof(key->dst));
	c->at += sizeof(*ip);
	limit(c, rte_be_to_cpu_16(ip->payload_len));
	return skip_ipv6_extensions(c, key);
}

static bool
read_ip(struct cursor *c, rte_be16_t type, union tap_key *key)
{
	if (type == RTE_BE16(RTE_ETHER_TYPE_IPV4))
		return read_ipv4(c, key);
	return type == RTE_BE16(RTE_ETHER_TYPE_IPV6) && read_ipv6(c, key);
}

void
dps_tap_key_read(const struct rte_mbuf *m, union tap_key *key)
{
	struct cursor c = { .m = m, .len = rte_pktmbuf_pkt_len(m) };

	*key = (union tap_key){ 0 };
	if (read_ip(&c, read_ethernet(&c, key), key))
		read_l4(&c, key);
}

bool
dps_tap_key_read_inner(const struct rte_mbuf *m, union tap_key *key)
{
	struct cursor c = { .m = m, .len = rte_pktmbuf_pkt_len(m) };
	union tap_key outer = { 0 };
	bool whole = read_ip(&c, read_ethernet(&c, &outer), &outer);
	rte_be16_t type;

	if (outer.version != 6 || (outer.proto != IPPROTO_IPIP && outer.proto != IPPROTO_IPV6))
		return false;
	*key = (union tap_key){ 0 };
	if (!whole)
		return true;
	type = outer.proto == IPPROTO_IPIP ? RTE_BE16(RTE_ETHER_TYPE_IPV4) :
					     RTE_BE16(RTE_ETHER_TYPE_IPV6);
	if (read_ip(&c, type, key))
		read_l4(&c, key);
	if (key->version != 0)
		key->eth_type = type;
	return true;
}
