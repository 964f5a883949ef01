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

	key->card.icmp_type = l3->icmp_type;
	key->card.icmp_code = l3->icmp_code;
	memcpy(&key->card.icmp_data, data, sizeof(data));
}

static void
look(struct esw_packet *p)
{
	struct esw_key *key = &p->key;
	uint32_t vxlan;
	int layer;

	if (key->vxlan) {
		vxlan = p->off.l4[ESW_OUTER] + sizeof(struct rte_udp_hdr);
		vxlan += sizeof(struct rte_vxlan_hdr);
		key->card.vxlan_reserved =
			*rte_pktmbuf_mtod_offset(p->m, const uint8_t *, vxlan - 1);
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
