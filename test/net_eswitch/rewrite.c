/* SPDX-License-Identifier: Apache-2.0 */

/* What actions do to the bytes of a packet. */

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "rewrite.h"

/* UDP source ports that carry the entropy of a flow (RFC 7348, section 5). */
#define ENTROPY_FIRST 49152
#define ENTROPY_MASK 0x3fff

void
esw_packet_init(struct esw_packet *p, struct rte_mbuf *m, uint16_t vport)
{
	p->m = m;
	p->marked = false;
	p->flagged = false;
	memset(&p->key.metadata, 0, sizeof(p->key.metadata));
	p->key.card.vport = vport;
	p->stale = true;
	esw_packet_refresh(p);
}

/* Looks at the headers again if something has changed them. */
void
esw_packet_refresh(struct esw_packet *p)
{
	struct esw_metadata metadata = p->key.metadata;
	uint16_t vport = p->key.card.vport;

	if (!p->stale)
		return;
	esw_parse(rte_pktmbuf_mtod(p->m, const uint8_t *), p->m->data_len, &p->key, &p->off);
	p->key.metadata = metadata;
	p->key.card.vport = vport;
	p->stale = false;
}

/* Takes a header as given; a NIC does not validate it, and fills what it recognises. */
void
esw_encap_init(struct esw_encap *encap, const uint8_t *data, uint16_t size)
{
	struct esw_offsets off;
	struct esw_key key;

	memset(encap, 0, sizeof(*encap));
	memcpy(encap->data, data, size);
	encap->size = size;
	/* The lengths in the header are still to be filled, so the parser shall not trust them. */
	esw_parse_template(data, size, &key, &off);
	encap->l3 = off.l3[ESW_OUTER];
	encap->version = key.l3[ESW_OUTER].version;
	if (key.l3[ESW_OUTER].l4 == IPPROTO_UDP)
		encap->udp = off.l4[ESW_OUTER];
}

/* Room for n bytes before the data, if need be by moving it. */
static int
make_headroom(struct rte_mbuf *m, uint16_t n)
{
	uint16_t missing;

	if (rte_pktmbuf_headroom(m) >= n)
		return 0;
	missing = n - rte_pktmbuf_headroom(m);
	if (rte_pktmbuf_tailroom(m) < missing)
		return -ENOSPC;
	memmove(rte_pktmbuf_mtod_offset(m, uint8_t *, missing), rte_pktmbuf_mtod(m, uint8_t *),
		m->data_len);
	m->data_off += missing;
	return 0;
}

static void
fill_ip_length(const struct esw_encap *encap, uint8_t *data, uint32_t total)
{
	uint32_t len = total - encap->l3;

	if (encap->version == 4) {
		struct rte_ipv4_hdr *ip = (void *)(data + encap->l3);

		ip->total_length = rte_cpu_to_be_16(len);
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	} else {
		struct rte_ipv6_hdr *ip = (void *)(data + encap->l3);

		ip->payload_len = rte_cpu_to_be_16(len - sizeof(*ip));
	}
}

/* Prepends the header and fills the lengths, the IPv4 checksum and, as entropy, the UDP source
 * port. */
int
esw_encap(struct esw_packet *p, const struct esw_encap *encap, uint32_t hash)
{
	uint8_t *data;
	uint32_t total;

	if (p->m->pkt_len + encap->size > UINT16_MAX || make_headroom(p->m, encap->size) < 0)
		return -ENOSPC;
	data = (uint8_t *)rte_pktmbuf_prepend(p->m, encap->size);
	total = p->m->pkt_len;
	memcpy(data, encap->data, encap->size);
	if (encap->l3 != 0)
		fill_ip_length(encap, data, total);
	if (encap->udp != 0) {
		struct rte_udp_hdr *udp = (void *)(data + encap->udp);

		udp->dgram_len = rte_cpu_to_be_16(total - encap->udp);
		udp->src_port = rte_cpu_to_be_16(ENTROPY_FIRST + (hash & ENTROPY_MASK));
	}
	p->stale = true;
	return 0;
}

/* Where the headers to be removed end; 0: there is no such header. */
static uint16_t
decap_end(const struct esw_packet *p, const struct esw_decap *decap)
{
	if (decap->kind == ESW_DECAP_TUNNEL)
		return p->off.l3[ESW_INNER];
	if (decap->kind == ESW_DECAP_LINK && p->off.l3[ESW_OUTER] != 0)
		return p->off.l3[ESW_OUTER];
	return decap->size;
}

/* Removes headers; an error when the packet does not have them, and of a tunnel nothing carried in
 * it. */
int
esw_decap(struct esw_packet *p, const struct esw_decap *decap)
{
	uint16_t end;

	esw_packet_refresh(p);
	end = decap_end(p, decap);
	/* Something has to be left. */
	if (end == 0 || end >= p->m->data_len)
		return -EINVAL;
	rte_pktmbuf_adj(p->m, end);
	p->stale = true;
	return 0;
}

void
esw_set_mac(struct esw_packet *p, const struct rte_ether_addr *mac, bool source)
{
	size_t offset = source ? offsetof(struct rte_ether_hdr, src_addr) :
				 offsetof(struct rte_ether_hdr, dst_addr);

	if (p->m->data_len < sizeof(struct rte_ether_hdr))
		return;
	memcpy(rte_pktmbuf_mtod_offset(p->m, uint8_t *, offset), mac, sizeof(*mac));
	p->stale = true;
}

/* RFC 1624, equation 3: the checksum after a word under it has changed. */
static rte_be16_t
adjust(rte_be16_t checksum, rte_be16_t old, rte_be16_t now)
{
	/* One's complement sums do not care about the byte order. */
	uint32_t sum = (uint16_t)~checksum + (uint16_t)~old + now;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static rte_be16_t
word_at(const uint8_t *at)
{
	rte_be16_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static void
set_word(uint8_t *at, rte_be16_t word)
{
	memcpy(at, &word, sizeof(word));
}

/* Where the checksum of a TCP or UDP header lies, or NULL: of others, and where UDP has none, there
 * is nothing to fix. */
static uint8_t *
l4_checksum(const struct esw_packet *p)
{
	uint8_t *l4 = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l4[ESW_OUTER]);
	uint8_t *udp = l4 + offsetof(struct rte_udp_hdr, dgram_cksum);

	if (p->off.l4[ESW_OUTER] == 0)
		return NULL;
	switch (p->key.l3[ESW_OUTER].l4) {
	case IPPROTO_TCP:
		return l4 + offsetof(struct rte_tcp_hdr, cksum);
	case IPPROTO_UDP:
		return word_at(udp) == 0 ? NULL : udp;
	default:
		return NULL;
	}
}

/* Replaces n words, which the checksums cover that are not NULL. */
static void
set_words(struct esw_packet *p, uint8_t *at, const uint8_t *value, uint32_t n, uint8_t *ip_checksum)
{
	uint8_t *l4 = l4_checksum(p);
	rte_be16_t old, now;
	uint32_t i;

	for (i = 0; i < n; i++) {
		old = word_at(at + 2 * i);
		now = word_at(value + 2 * i);
		set_word(at + 2 * i, now);
		if (ip_checksum != NULL)
			set_word(ip_checksum, adjust(word_at(ip_checksum), old, now));
		if (l4 != NULL)
			set_word(l4, adjust(word_at(l4), old, now));
	}
	/* A UDP checksum of 0 would say that there is none. */
	if (l4 != NULL && word_at(l4) == 0 && p->key.l3[ESW_OUTER].l4 == IPPROTO_UDP)
		set_word(l4, UINT16_MAX);
	p->stale = true;
}

static void
set_ipv4(struct esw_packet *p, size_t offset, const void *value)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l3[ESW_OUTER]);

	if (p->key.l3[ESW_OUTER].version == 4)
		set_words(p, ip + offset, value, 2,
			  ip + offsetof(struct rte_ipv4_hdr, hdr_checksum));
}

static void
set_ipv6(struct esw_packet *p, size_t offset, const void *value)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l3[ESW_OUTER]);

	if (p->key.l3[ESW_OUTER].version == 6)
		set_words(p, ip + offset, value, 8, NULL);
}

static void
set_port(struct esw_packet *p, size_t offset, const void *value)
{
	uint8_t *l4 = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l4[ESW_OUTER]);

	if (p->off.l4[ESW_OUTER] != 0 &&
	    (p->key.l3[ESW_OUTER].l4 == IPPROTO_TCP || p->key.l3[ESW_OUTER].l4 == IPPROTO_UDP))
		set_words(p, l4 + offset, value, 1, NULL);
}

/* Replaces a field; a packet that does not have it stays as it is. */
void
esw_set_field(struct esw_packet *p, enum esw_field field, const void *value)
{
	esw_packet_refresh(p);
	switch (field) {
	case ESW_IPV4_SRC:
		set_ipv4(p, offsetof(struct rte_ipv4_hdr, src_addr), value);
		break;
	case ESW_IPV4_DST:
		set_ipv4(p, offsetof(struct rte_ipv4_hdr, dst_addr), value);
		break;
	case ESW_IPV6_SRC:
		set_ipv6(p, offsetof(struct rte_ipv6_hdr, src_addr), value);
		break;
	case ESW_IPV6_DST:
		set_ipv6(p, offsetof(struct rte_ipv6_hdr, dst_addr), value);
		break;
	case ESW_TP_SRC:
		set_port(p, offsetof(struct rte_udp_hdr, src_port), value);
		break;
	case ESW_TP_DST:
		set_port(p, offsetof(struct rte_udp_hdr, dst_port), value);
		break;
	}
}

/* Without an IP header there is nothing to replace. */
void
esw_set_ip_word(struct esw_packet *p, size_t offset, rte_be16_t word)
{
	uint8_t *ip, *checksum;

	esw_packet_refresh(p);
	if (p->off.l3[ESW_OUTER] == 0)
		return;
	ip = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l3[ESW_OUTER]);
	checksum = ip + offsetof(struct rte_ipv4_hdr, hdr_checksum);
	if (p->key.l3[ESW_OUTER].version == 4)
		set_word(checksum, adjust(word_at(checksum), word_at(ip + offset), word));
	set_word(ip + offset, word);
	p->stale = true;
}

/* The offset has to be within the header that the parser has found; without one there is nothing to
 * replace. */
void
esw_set_l4_word(struct esw_packet *p, size_t offset, rte_be16_t word)
{
	esw_packet_refresh(p);
	if (p->off.l4[ESW_OUTER] == 0)
		return;
	set_words(p, rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l4[ESW_OUTER] + offset),
		  (const uint8_t *)&word, 1, NULL);
}

/* Removes the outermost tag. */
int
esw_pop_vlan(struct esw_packet *p)
{
	uint8_t *data = rte_pktmbuf_mtod(p->m, uint8_t *);

	esw_packet_refresh(p);
	if (!p->key.l2[ESW_OUTER].cvlan && !p->key.l2[ESW_OUTER].svlan)
		return -EINVAL;
	memmove(data + RTE_VLAN_HLEN, data, 2 * RTE_ETHER_ADDR_LEN);
	rte_pktmbuf_adj(p->m, RTE_VLAN_HLEN);
	p->stale = true;
	return 0;
}

/* Adds an outermost tag of that EtherType. */
int
esw_push_vlan(struct esw_packet *p, rte_be16_t type, uint16_t tci)
{
	rte_be16_t tag[] = { type, rte_cpu_to_be_16(tci) };
	uint8_t *data;

	if (make_headroom(p->m, RTE_VLAN_HLEN) < 0)
		return -ENOSPC;
	data = (uint8_t *)rte_pktmbuf_prepend(p->m, RTE_VLAN_HLEN);
	if (data == NULL)
		return -ENOSPC;
	memmove(data, data + RTE_VLAN_HLEN, 2 * RTE_ETHER_ADDR_LEN);
	memcpy(data + 2 * RTE_ETHER_ADDR_LEN, tag, sizeof(tag));
	p->stale = true;
	return 0;
}

/* Decrements as the card does: modulo 256, without an opinion on packets whose time is up. */
void
esw_dec_ttl(struct esw_packet *p)
{
	uint8_t *data;

	esw_packet_refresh(p);
	if (p->off.l3[ESW_OUTER] == 0)
		return;
	data = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l3[ESW_OUTER]);
	if (p->key.l3[ESW_OUTER].version == 4) {
		struct rte_ipv4_hdr *ip = (void *)data;
		rte_be16_t old = rte_cpu_to_be_16(ip->time_to_live << 8);

		ip->time_to_live--;
		ip->hdr_checksum =
			adjust(ip->hdr_checksum, old, rte_cpu_to_be_16(ip->time_to_live << 8));
	} else {
		((struct rte_ipv6_hdr *)data)->hop_limits--;
	}
	p->stale = true;
}
