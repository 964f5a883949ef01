/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any frame through any of a few rules, which have all the actions there are. Of the input the
 * first byte says which rule, the second how the mbuf is made.
 */

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_flow.h>

#include "../unit/nic.h"
#include "harness.h"

/* So many bytes before a frame that no header needs it to be moved, and so few that any does. */
#define ROOM 512
#define NO_ROOM 4
#define FRAME_MAX 2000

enum { TIGHT = 1, SEGMENTED = 2, STRIPPED = 4 };

#define TO_PORT(p) ACTION(REPRESENTED_PORT, CONF(ethdev, .port_id = (p)))

static struct esw_group *group[32];
static uint32_t groups;

static void
rule(const struct rte_flow_item *items, const struct rte_flow_action *actions)
{
	const struct rte_flow_attr attr = { .transfer = 1, .group = 1 + groups };
	struct rte_flow_error error = { .message = "" };

	harness_require(rte_flow_create(harness.pf0, &attr, items, actions, &error) != NULL,
			error.message);
	group[groups] = esw_group_get(&harness.from->nic->transfer, attr.group);
	harness_require(++groups < RTE_DIM(group), "too many rules");
}

#define HEADER_BYTES 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64

static const uint8_t udp6[132] = { HEADER_BYTES, [54] = 0x0b, 0xb8, 0x0b, 0xc2 };
static const uint8_t udp4[42] = { 2, [12] = 8, 0, 0x45, [23] = 17 };
static const uint8_t link_layer[14] = { 2, [12] = 8 };

static void
make_rules(void)
{
	const struct rte_flow_item *eth = ITEMS(ITEM(ETH)), *ip4 = ITEMS(ITEM(ETH), ITEM(IPV4));
	const struct rte_flow_item *ip6 = ITEMS(ITEM(ETH), ITEM(IPV6)),
				   *udp = ITEMS(ITEM(ETH), ITEM(IPV4), ITEM(UDP));
	const struct rte_flow_item *tag = ITEMS(ITEM(ETH), ITEM(VLAN));
	uint16_t pf0 = harness.pf0, vf1 = harness.vf1;

	rule(eth, ACTIONS(ACTION(COUNT), AGE(60), SAMPLE(1, ENCAP(udp6, 62), TO_PORT(pf0)),
			  TO_PORT(vf1)));
	rule(eth, ACTIONS(SAMPLE(1, ENCAP(udp6, 132), TO_PORT(pf0)),
			  ACTION(OF_PUSH_VLAN, CONF(of_push_vlan, .ethertype = RTE_BE16(0x8100))),
			  TO_PORT(vf1)));
	rule(eth, ACTIONS(SAMPLE(1, TO_PORT(vf1)), JUMP(100)));
	rule(eth, ACTIONS(ENCAP(udp4, 42), TO_PORT(pf0)));
	rule(eth, ACTIONS(DECAP(60), TO_PORT(vf1)));
	rule(eth, ACTIONS(ACTION(SET_MAC_SRC, CONF(set_mac, .mac_addr = { 2 })),
			  ACTION(SET_MAC_DST, CONF(set_mac, .mac_addr = { 4 })), TO_PORT(vf1)));
	rule(eth, ACTIONS(ACTION(OF_PUSH_VLAN, CONF(of_push_vlan, .ethertype = RTE_BE16(0x88a8))),
			  JUMP(100)));
	rule(tag, ACTIONS(ACTION(OF_POP_VLAN), JUMP(100)));
	rule(ip4, ACTIONS(ACTION(DEC_TTL), DECAP(14), ENCAP(udp6, 54), TO_PORT(pf0)));
	rule(ip6, ACTIONS(ACTION(DEC_TTL), DECAP(14), ENCAP(udp6, 62), TO_PORT(pf0)));
	rule(ip6,
	     ACTIONS(DECAP(54), ENCAP(link_layer, 14),
		     ACTION(SET_TAG, CONF(set_tag, .data = 1, .mask = 1, .index = 2)), JUMP(100)));
	rule(ip4, ACTIONS(ACTION(SET_IPV4_SRC, CONF(set_ipv4, .ipv4_addr = 1)),
			  ACTION(SET_IPV4_DST, CONF(set_ipv4, .ipv4_addr = 2)), TO_PORT(vf1)));
	rule(ip6,
	     ACTIONS(ACTION(SET_IPV6_SRC, CONF(set_ipv6, .ipv6_addr = ADDR6(1))),
		     ACTION(SET_IPV6_DST, CONF(set_ipv6, .ipv6_addr = ADDR6(2))), TO_PORT(vf1)));
	rule(udp, ACTIONS(ACTION(SET_TP_SRC, CONF(set_tp, .port = 1)),
			  ACTION(SET_TP_DST, CONF(set_tp, .port = 2)), JUMP(100)));
	rule(eth, ACTIONS(ACTION(MARK, CONF(mark, .id = 7)),
			  ACTION(SET_TAG, CONF(set_tag, .data = 1, .mask = 1, .index = 1)),
			  ACTION(SET_META, CONF(set_meta, .data = 1, .mask = 1)), JUMP(100)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t how, *bytes;
	struct rte_mbuf *m, *tail;

	if (groups == 0) {
		/* Tunnels come from the wire. */
		harness.from = rte_eth_devices[harness.pf0].data->dev_private;
		make_rules();
	}
	harness.from->nic->transfer_root = group[input_byte(&in) % groups];
	how = input_byte(&in);
	if (in.size > FRAME_MAX)
		return 0;
	m = rte_pktmbuf_alloc(harness.pool);
	m->data_off = how & TIGHT ? NO_ROOM : ROOM;
	bytes = (uint8_t *)rte_pktmbuf_append(m, in.size);
	memcpy(bytes, in.data, in.size);
	if (how & STRIPPED) {
		m->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
		m->vlan_tci = size;
	}
	if ((how & SEGMENTED) && in.size > 1) {
		tail = rte_pktmbuf_alloc(harness.pool);
		memcpy(rte_pktmbuf_append(tail, in.size / 2), bytes + in.size - in.size / 2,
		       in.size / 2);
		rte_pktmbuf_trim(m, in.size / 2);
		harness_require(rte_pktmbuf_chain(m, tail) == 0, "no chain");
	}
	/* Behind the frame there is nothing. With little room before it the NIC may move it there,
	 * though. */
	if (!(how & TIGHT))
		ASAN_POISON_MEMORY_REGION(bytes + m->data_len, (uint8_t *)m->buf_addr + m->buf_len -
								       bytes - m->data_len);
	harness_run(m);
	/* The mbuf is the pool's again, its buffer is as it was. */
	ASAN_UNPOISON_MEMORY_REGION(m->buf_addr, m->buf_len);
	return 0;
}
