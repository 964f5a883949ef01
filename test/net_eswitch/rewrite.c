/* SPDX-License-Identifier: Apache-2.0 */

/* What actions do to the bytes of a packet. */

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_udp.h>

#include "rewrite.h"

/* UDP source ports that carry the entropy of a flow (RFC 7348, section 5). */
#define ENTROPY_FIRST 49152
#define ENTROPY_MASK 0x3fff

void
esw_packet_init(struct esw_packet *p, struct rte_mbuf *m)
{
	p->m = m;
	p->marked = false;
	p->stale = true;
	esw_packet_refresh(p);
}

/* Looks at the headers again if something has changed them. */
void
esw_packet_refresh(struct esw_packet *p)
{
	if (!p->stale)
		return;
	esw_parse(rte_pktmbuf_mtod(p->m, const uint8_t *), p->m->data_len, &p->key, &p->off);
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
	memmove(rte_pktmbuf_mtod_offset(m, uint8_t *, missing), rte_pktmbuf_mtod(m, uint8_t *), m->data_len);
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

/* Prepends the header and fills the lengths, the IPv4 checksum and, as entropy, the UDP source port. */
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

/* Where the headers to be removed end; the action's size where the parser does not know the packet. */
static uint16_t
decap_end(const struct esw_packet *p, const struct esw_decap *decap)
{
	uint16_t end = 0;

	if (decap->kind == ESW_DECAP_LINK)
		end = p->off.l3[ESW_OUTER];
	else if (decap->kind == ESW_DECAP_TUNNEL)
		end = p->off.l3[ESW_INNER];
	return end == 0 ? decap->size : end;
}

/* Removes headers. */
int
esw_decap(struct esw_packet *p, const struct esw_decap *decap)
{
	uint16_t end;

	esw_packet_refresh(p);
	end = decap_end(p, decap);
	/* Something has to be left. */
	if (end >= p->m->data_len)
		return -EINVAL;
	rte_pktmbuf_adj(p->m, end);
	p->stale = true;
	return 0;
}

void
esw_set_mac(struct esw_packet *p, const struct rte_ether_addr *mac, bool source)
{
	struct rte_ether_hdr *eth = rte_pktmbuf_mtod(p->m, struct rte_ether_hdr *);

	if (p->m->data_len < sizeof(*eth))
		return;
	if (source)
		eth->src_addr = *mac;
	else
		eth->dst_addr = *mac;
	p->stale = true;
}

/* Decrements as the card does: modulo 256, without an opinion on packets whose time is up. */
void
esw_dec_ttl(struct esw_packet *p)
{
	uint32_t sum;
	uint8_t *data;

	esw_packet_refresh(p);
	if (p->off.l3[ESW_OUTER] == 0)
		return;
	data = rte_pktmbuf_mtod_offset(p->m, uint8_t *, p->off.l3[ESW_OUTER]);
	if (p->key.l3[ESW_OUTER].version == 4) {
		struct rte_ipv4_hdr *ip = (void *)data;

		/* RFC 1624, equation 3, on the word that holds the TTL. */
		sum = (uint16_t)~rte_be_to_cpu_16(ip->hdr_checksum);
		sum += (uint16_t)~(ip->time_to_live << 8);
		ip->time_to_live--;
		sum += (uint16_t)(ip->time_to_live << 8);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		ip->hdr_checksum = rte_cpu_to_be_16((uint16_t)~sum);
	} else {
		((struct rte_ipv6_hdr *)data)->hop_limits--;
	}
	p->stale = true;
}
