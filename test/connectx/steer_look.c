/* SPDX-License-Identifier: Apache-2.0 */

/* What the card's parser finds in a frame beyond net_eswitch's. */

#include <netinet/in.h>
#include <string.h>

#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_udp.h>
#include <rte_vxlan.h>

#include "steer.h"

#define TAG_C 1
#define TAG_S 2

struct bytes {
	const uint8_t *data;
	uint32_t len;
};

static rte_be16_t
word(const struct bytes *b, uint32_t at)
{
	rte_be16_t value = 0;

	if (at + sizeof(value) <= b->len)
		memcpy(&value, b->data + at, sizeof(value));
	return value;
}

static bool
is_tag(rte_be16_t type)
{
	return type == RTE_BE16(RTE_ETHER_TYPE_VLAN) || type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* The tags of an Ethernet header at an offset: what kind the first is, its TCI, and the EtherType behind up to two. */
static void
look_at_link(struct esw_key *key, int layer, const struct bytes *b, uint32_t at)
{
	rte_be16_t type;
	uint32_t tags;

	at += 2 * RTE_ETHER_ADDR_LEN;
	type = word(b, at);
	if (is_tag(type))
		key->card.tags[layer] = type == RTE_BE16(RTE_ETHER_TYPE_VLAN) ? TAG_C : TAG_S;
	if (is_tag(type) && layer == ESW_INNER)
		key->card.inner_tci = word(b, at + 2);
	for (tags = 0; is_tag(type) && tags < 2; tags++) {
		at += RTE_VLAN_HLEN;
		type = word(b, at);
	}
	key->card.type[layer] = type;
}

static void
look_at_ip(struct esw_key *key, int layer, const struct bytes *b, uint32_t at)
{
	uint32_t first = (uint32_t)rte_be_to_cpu_16(word(b, at)) << 16 | rte_be_to_cpu_16(word(b, at + 2));

	if (key->l3[layer].version == 4)
		key->card.ihl[layer] = first >> 24 & RTE_IPV4_HDR_IHL_MASK;
	else
		key->card.flow_label[layer] = first & RTE_IPV6_HDR_FL_MASK;
}

static void
look_at_icmp(struct esw_key *key, int layer, const struct bytes *b, uint32_t at)
{
	key->card.icmp_type = key->l3[layer].icmp_type;
	key->card.icmp_code = key->l3[layer].icmp_code;
	memcpy(&key->card.icmp_data, b->data + at + offsetof(struct rte_icmp_hdr, icmp_ident),
	       sizeof(key->card.icmp_data));
}

static void
look_at_layer(struct esw_packet *p, int layer, const struct bytes *b)
{
	struct esw_key *key = &p->key;
	uint8_t l4 = key->l3[layer].l4;

	if (p->off.l3[layer] == 0)
		return;
	look_at_ip(key, layer, b, p->off.l3[layer]);
	if (l4 == IPPROTO_ICMP || l4 == IPPROTO_ICMPV6)
		look_at_icmp(key, layer, b, p->off.l4[layer]);
}

static void
look(struct esw_packet *p)
{
	struct bytes b = { .data = rte_pktmbuf_mtod(p->m, const uint8_t *), .len = p->m->data_len };
	struct esw_key *key = &p->key;
	int layer;

	look_at_link(key, ESW_OUTER, &b, 0);
	if (key->vxlan) {
		uint32_t vxlan = p->off.l4[ESW_OUTER] + sizeof(struct rte_udp_hdr);

		key->card.vxlan_reserved = b.data[vxlan + sizeof(struct rte_vxlan_hdr) - 1];
		look_at_link(key, ESW_INNER, &b, vxlan + sizeof(struct rte_vxlan_hdr));
	}
	for (layer = 0; layer < ESW_L3_MAX; layer++)
		look_at_layer(p, layer, &b);
}

void
cx_look(struct esw_packet *p, const struct cx_origin *origin)
{
	if (p->stale) {
		esw_packet_refresh(p);
		look(p);
	}
	p->key.card.sqn = origin->sqn;
	p->key.card.vport = origin->vport;
	p->key.card.side = origin->side;
	p->key.card.reg_a = origin->reg_a;
}
