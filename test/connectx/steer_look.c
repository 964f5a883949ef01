/* SPDX-License-Identifier: Apache-2.0 */

/* What the card's parser finds in a frame beyond net_eswitch's. */

#include <netinet/in.h>
#include <string.h>

#include <rte_udp.h>
#include <rte_vxlan.h>

#include "steer.h"

static void
look_at_icmp(struct esw_key *key, const struct esw_l3 *l3)
{
	const rte_be16_t data[] = { l3->icmp_ident, l3->icmp_seq };

<<<<<<< HEAD
	key->card.icmp_type = l3->icmp_type;
	key->card.icmp_code = l3->icmp_code;
	memcpy(&key->card.icmp_data, data, sizeof(data));
=======
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
>>>>>>> wt-connectx
}

static void
look(struct esw_packet *p)
{
	struct esw_key *key = &p->key;
	uint32_t vxlan;
	int layer;

	if (key->vxlan) {
		vxlan = p->off.l4[ESW_OUTER] + sizeof(struct rte_udp_hdr);
		key->card.vxlan_reserved = *rte_pktmbuf_mtod_offset(p->m, const uint8_t *, vxlan + sizeof(struct rte_vxlan_hdr) - 1);
	}
	for (layer = 0; layer < ESW_L3_MAX; layer++)
		if (key->l3[layer].l4 == IPPROTO_ICMP || key->l3[layer].l4 == IPPROTO_ICMPV6)
			look_at_icmp(key, &key->l3[layer]);
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
