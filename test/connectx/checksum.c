/* SPDX-License-Identifier: Apache-2.0 */

/* Headers and checksums of frames in the card's buffers, which have one segment each. */

#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "device.h"

#define VXLAN_PORT 4789
#define VXLAN_HEADER 8
#define MAX_TAGS 2
#define MAX_EXTENSIONS 8

static const void *
at(const struct rte_mbuf *m, uint32_t offset, uint32_t size)
{
	if (offset > m->pkt_len || size > m->pkt_len - offset)
		return NULL;
	return rte_pktmbuf_mtod_offset(m, const void *, offset);
}

static bool
parse_ipv4(const struct rte_mbuf *m, struct cx_headers *h)
{
	const struct rte_ipv4_hdr *ip = at(m, h->l3, sizeof(*ip));
	uint32_t length, size;
	rte_be16_t fragment;

	if (ip == NULL || ip->version_ihl >> 4 != 4)
		return false;
	size = rte_ipv4_hdr_len(ip);
	length = rte_be_to_cpu_16(ip->total_length);
	if (size < sizeof(*ip) || at(m, h->l3, size) == NULL)
		return false;
	fragment = ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK | RTE_IPV4_HDR_MF_FLAG);
	h->ipv4 = true;
	h->options = size > sizeof(*ip);
	h->fragment = fragment != 0;
	h->proto = ip->next_proto_id;
	h->end = RTE_MIN(m->pkt_len, h->l3 + RTE_MAX(length, size));
	if (!h->fragment)
		h->l4 = h->l3 + size;
	return true;
}

static bool
parse_ipv6(const struct rte_mbuf *m, struct cx_headers *h)
{
	const struct rte_ipv6_hdr *ip = at(m, h->l3, sizeof(*ip));
	uint32_t offset = h->l3 + sizeof(*ip);
	int n;

	if (ip == NULL || (rte_be_to_cpu_32(ip->vtc_flow) >> 28) != 6)
		return false;
	h->ipv6 = true;
	h->proto = ip->proto;
	h->end = RTE_MIN(m->pkt_len, offset + rte_be_to_cpu_16(ip->payload_len));
	for (n = 0; n < MAX_EXTENSIONS; n++) {
		size_t size = 0;
		int next = rte_ipv6_get_next_ext(
			rte_pktmbuf_mtod_offset(m, const uint8_t *, offset), h->proto, &size);

		if (h->proto == IPPROTO_FRAGMENT) {
			h->fragment = true;
			return true;
		}
		if (next < 0)
			break;
		h->options = true;
		if (at(m, offset, size + 2) == NULL)
			return true;
		h->proto = next;
		offset += size;
		if (at(m, offset, 2) == NULL)
			return true;
	}
	h->l4 = offset;
	return true;
}

static bool
parse_ip(const struct rte_mbuf *m, rte_be16_t type, struct cx_headers *h)
{
	bool known = type == RTE_BE16(RTE_ETHER_TYPE_IPV4) ? parse_ipv4(m, h) :
		     type == RTE_BE16(RTE_ETHER_TYPE_IPV6) ? parse_ipv6(m, h) :
							     false;

	if (!known)
		h->l3 = 0;
	/* A header of which the frame has nothing is none. */
	if (h->l4 >= h->end)
		h->l4 = 0;
	return known;
}

bool
cx_headers_parse(const struct rte_mbuf *m, uint32_t offset, bool ethernet, struct cx_headers *h)
{
	const rte_be16_t *type;
	const uint8_t *version;
	int tags;

	memset(h, 0, sizeof(*h));
	if (!ethernet) {
		version = at(m, offset, 1);
		if (version == NULL)
			return false;
		h->l3 = offset;
		return parse_ip(m,
				*version >> 4 == 4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) :
						     RTE_BE16(RTE_ETHER_TYPE_IPV6),
				h);
	}
	offset += 2 * RTE_ETHER_ADDR_LEN;
	type = at(m, offset, sizeof(*type));
	for (tags = 0; type != NULL && tags < MAX_TAGS; tags++) {
		if (*type != RTE_BE16(RTE_ETHER_TYPE_VLAN) &&
		    *type != RTE_BE16(RTE_ETHER_TYPE_QINQ))
			break;
		offset += RTE_VLAN_HLEN;
		type = at(m, offset, sizeof(*type));
	}
	if (type == NULL)
		return false;
	h->l3 = offset + sizeof(*type);
	return parse_ip(m, *type, h);
}

bool
cx_headers_inner(const struct rte_mbuf *m, const struct cx_headers *outer, struct cx_headers *inner)
{
	const struct rte_udp_hdr *udp;

	if (outer->l4 == 0)
		return false;
	switch (outer->proto) {
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
		return cx_headers_parse(m, outer->l4, false, inner);
	case IPPROTO_UDP:
		udp = at(m, outer->l4, sizeof(*udp));
		if (udp == NULL || udp->dst_port != RTE_BE16(VXLAN_PORT))
			return false;
		return cx_headers_parse(m, outer->l4 + sizeof(*udp) + VXLAN_HEADER, true, inner);
	default:
		return false;
	}
}

/* Where the L4 checksum is behind the header, or -1. */
static int
checksum_offset(const struct rte_mbuf *m, const struct cx_headers *h)
{
	if (h->l4 == 0)
		return -1;
	if (h->proto == IPPROTO_TCP && at(m, h->l4, sizeof(struct rte_tcp_hdr)) != NULL)
		return offsetof(struct rte_tcp_hdr, cksum);
	if (h->proto == IPPROTO_UDP && at(m, h->l4, sizeof(struct rte_udp_hdr)) != NULL)
		return offsetof(struct rte_udp_hdr, dgram_cksum);
	return -1;
}

/* Of the pseudo header and all of L4 as it is, not inverted. */
static uint16_t
l4_sum(const struct rte_mbuf *m, const struct cx_headers *h)
{
	struct {
		rte_be32_t length;
		rte_be32_t proto;
	} tail = { rte_cpu_to_be_32(h->end - h->l4), rte_cpu_to_be_32(h->proto) };
	uint32_t addresses = h->ipv4 ? offsetof(struct rte_ipv4_hdr, src_addr) :
				       offsetof(struct rte_ipv6_hdr, src_addr);
	uint32_t size = h->ipv4 ? 8 : 32;
	uint32_t sum =
		rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, h->l3 + addresses), size);

	sum += rte_raw_cksum(&tail, sizeof(tail));
	sum += rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, h->l4), h->end - h->l4);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

void
cx_checksum_set_l3(struct rte_mbuf *m, const struct cx_headers *h)
{
	struct rte_ipv4_hdr *ip;

	if (!h->ipv4)
		return;
	ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, h->l3);
	ip->hdr_checksum = 0;
	ip->hdr_checksum = ~rte_raw_cksum(ip, rte_ipv4_hdr_len(ip));
}

void
cx_checksum_set_l4(struct rte_mbuf *m, const struct cx_headers *h)
{
	int offset = checksum_offset(m, h);
	uint16_t sum = 0;
	void *to;

	if (offset < 0)
		return;
	to = rte_pktmbuf_mtod_offset(m, void *, h->l4 + offset);
	memcpy(to, &sum, sizeof(sum));
	sum = ~l4_sum(m, h);
	if (sum == 0 && h->proto == IPPROTO_UDP)
		sum = 0xffff;
	memcpy(to, &sum, sizeof(sum));
}

bool
cx_checksum_l3_good(const struct rte_mbuf *m, const struct cx_headers *h)
{
	const struct rte_ipv4_hdr *ip;

	if (!h->ipv4)
		return h->ipv6;
	ip = rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, h->l3);
	return rte_raw_cksum(ip, rte_ipv4_hdr_len(ip)) == 0xffff;
}

bool
cx_checksum_l4_good(const struct rte_mbuf *m, const struct cx_headers *h)
{
	int offset = checksum_offset(m, h);
	uint16_t sum;

	if (offset < 0)
		return false;
	memcpy(&sum, rte_pktmbuf_mtod_offset(m, const void *, h->l4 + offset), sizeof(sum));
	if (sum == 0 && h->proto == IPPROTO_UDP)
		return h->ipv4;
	return l4_sum(m, h) == 0xffff;
}

void
cx_checksum_complete(struct rte_mbuf *m, uint32_t start, uint32_t offset)
{
	uint16_t sum;

	if (start > m->pkt_len || offset + sizeof(sum) > m->pkt_len - start)
		return;
	/* The field has the sum of the pseudo header. */
	sum = ~rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, start), m->pkt_len - start);
	if (sum == 0)
		sum = 0xffff;
	memcpy(rte_pktmbuf_mtod_offset(m, void *, start + offset), &sum, sizeof(sum));
}

int
cx_vlan_insert(struct rte_mbuf *m, uint16_t type, uint16_t tci)
{
	struct rte_vlan_hdr tag = { rte_cpu_to_be_16(type), rte_cpu_to_be_16(tci) };
	char *to = m->pkt_len < 2 * RTE_ETHER_ADDR_LEN ? NULL : rte_pktmbuf_prepend(m, sizeof(tag));

	if (to == NULL)
		return ENOBUFS;
	memmove(to, to + sizeof(tag), 2 * RTE_ETHER_ADDR_LEN);
	memcpy(to + 2 * RTE_ETHER_ADDR_LEN, &tag, sizeof(tag));
	return 0;
}
