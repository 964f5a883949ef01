/* SPDX-License-Identifier: Apache-2.0 */

/* Packets through the whole NIC. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "nic.h"

#define ETH ITEM(ETH)
#define ATTR_PRIORITY(n) ((struct rte_flow_attr){ .transfer = 1, .priority = (n) })

/* UDP to a port. */
#define UDP_TO(n)                                                                           \
	ITEM(UDP, .spec = &(const struct rte_flow_item_udp){ .hdr.dst_port = RTE_BE16(n) }, \
	     .mask = &(const struct rte_flow_item_udp){ .hdr.dst_port = UINT16_MAX })

static void
shows_its_ports_and_hides_their_far_sides(void **state)
{
	struct rte_eth_dev_info pf0, pf1, vf3;
	uint16_t port, seen = 0;

	(void)state;
	RTE_ETH_FOREACH_DEV(port)
	seen++;
	assert_int_equal(seen, NIC_PORTS);
	assert_int_equal(rte_eth_dev_info_get(nic.port[PF0], &pf0), 0);
	assert_int_equal(rte_eth_dev_info_get(nic.port[PF1], &pf1), 0);
	assert_int_equal(rte_eth_dev_info_get(nic.port[VF3], &vf3), 0);
	assert_int_equal(pf0.switch_info.domain_id, vf3.switch_info.domain_id);
	assert_int_equal(pf1.switch_info.domain_id, RTE_ETH_DEV_SWITCH_DOMAIN_ID_INVALID);
	assert_string_equal(pf0.switch_info.name, vf3.switch_info.name);
	assert_int_equal(vf3.switch_info.port_id, 3);
	assert_int_equal(pf0.if_index, 0);
	assert_true(*vf3.dev_flags & RTE_ETH_DEV_REPRESENTOR);
	assert_false(*pf0.dev_flags & RTE_ETH_DEV_REPRESENTOR);
	assert_true(*pf0.dev_flags & RTE_ETH_DEV_FLOW_OPS_THREAD_SAFE);
	assert_int_equal(nic.esw[VF3]->dev->data->representor_id, 3);
}

static void
says_how_representors_are_numbered(void **state)
{
	struct rte_eth_representor_info *info = calloc(1, sizeof(*info) + sizeof(info->ranges[0]));

	(void)state;
	assert_non_null(info);
	assert_int_equal(rte_eth_representor_info_get(nic.port[PF0], NULL), 1);
	info->nb_ranges_alloc = 1;
	assert_int_equal(rte_eth_representor_info_get(nic.port[PF0], info), 1);
	assert_int_equal(info->nb_ranges, 1);
	assert_int_equal(info->ranges[0].type, RTE_ETH_REPRESENTOR_VF);
	/* As the representor itself says. */
	assert_true(info->ranges[0].id_base + 3 - info->ranges[0].vf ==
		    nic.esw[VF3]->dev->data->representor_id);
	assert_true(info->ranges[0].id_end >= 3);
	assert_int_equal(rte_eth_representor_info_get(nic.port[PF1], info), -ENOTSUP);
	free(info);
}

static void
takes_the_mac_of_the_far_side(void **state)
{
	struct rte_ether_addr near, far;

	(void)state;
	assert_int_equal(rte_eth_macaddr_get(nic.port[VF0], &near), 0);
	assert_int_equal(rte_eth_macaddr_get(nic.far[VF0], &far), 0);
	assert_memory_equal(&near, &far, sizeof(near));
}

static void
shows_what_the_far_side_has_lost(void **state)
{
	struct rte_eth_dev_data *far = rte_eth_devices[nic.far[VF0]].data;

	(void)state;
	/* As a driver that had no buffer. */
	far->rx_mbuf_alloc_failed += 3;
	assert_int_equal(nic_stat(VF0, "far_rx_errors"), 3);
	assert_int_equal(nic_stat(VF3, "far_rx_errors"), 0);
	assert_int_equal(rte_eth_xstats_reset(nic.port[VF0]), 0);
	assert_int_equal(nic_stat(VF0, "far_rx_errors"), 0);
	far->rx_mbuf_alloc_failed++;
	assert_int_equal(nic_stat(VF0, "far_rx_errors"), 1);
}

static void
gives_misses_to_the_source_port(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_eth_stats stats;
	int port;

	(void)state;
	for (port = 0; port < NIC_PORTS; port++) {
		nic_arrive(port, &f);
		nic_assert_received(port, &f);
		nic_assert_quiet();
		assert_int_equal(nic_stat(port, "misses"), port == PF1 ? 0 : 1);
		assert_int_equal(rte_eth_stats_get(nic.port[port], &stats), 0);
		assert_int_equal(stats.ipackets, 1);
		assert_int_equal(stats.ibytes, f.len);
	}
}

static void
sends_what_the_application_sends_past_the_rules(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(ACTION(DROP)));
	nic_send(VF0, &f);
	nic_assert_left(VF0, &f);
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "far_tx_packets"), 1);
}

static void
forwards_hits_unseen(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_flow *flow;

	(void)state;
	flow = nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(TO(VF3)));
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "hits"), 1);
	/* Other ports' packets are not the rule's. */
	nic_arrive(VF3, &f);
	nic_assert_received(VF3, &f);
	nic_destroy(VF0, flow);
	nic_arrive(VF0, &f);
	nic_assert_received(VF0, &f);
	nic_assert_quiet();
}

static void
lets_a_rule_name_another_source_port(void **state)
{
	struct frame f = udp4_frame(1, 2);
	const struct rte_flow_item_ethdev vf0 = { .port_id = nic.port[VF0] };
	const struct rte_flow_item_port_id vf3 = { .id = nic.port[VF3] };

	(void)state;
	nic_rule(PF0, transfer, ITEMS(ITEM(REPRESENTED_PORT, .spec = &vf0), ETH), ACTIONS(TO(PF0)));
	nic_rule(PF0, transfer, ITEMS(ITEM(PORT_ID, .spec = &vf3), ETH), ACTIONS(TO_ID(VF0)));
	nic_arrive(VF0, &f);
	nic_assert_left(PF0, &f);
	nic_arrive(VF3, &f);
	nic_assert_left(VF0, &f);
	nic_arrive(PF0, &f);
	nic_assert_received(PF0, &f);
	nic_assert_quiet();
}

/* A switch's ports share their groups: a rule for all of them, whatever port it was created on, has
 * its place among those for one. PF1 is outside. */
static void
lets_a_rule_be_for_all_ports(void **state)
{
	const struct rte_flow_attr late = { .transfer = 1, .group = 1, .priority = 1 };
	const struct rte_flow_attr first = { .transfer = 1, .group = 1 };
	const struct rte_flow_item_ethdev vf0 = { .port_id = nic.port[VF0] };
	const struct rte_flow_item *any = ITEMS(ITEM(REPRESENTED_PORT), ETH);
	const struct rte_flow_item *both = ITEMS(ITEM(REPRESENTED_PORT), ITEM(PORT_ID), ETH);
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(VF3, transfer, any, ACTIONS(JUMP(1)));
	nic_rule(PF0, late, any, ACTIONS(TO(VF3)));
	nic_rule(PF0, first, ITEMS(ITEM(REPRESENTED_PORT, .spec = &vf0), ETH), ACTIONS(TO(PF0)));
	nic_arrive(VF0, &f);
	nic_assert_left(PF0, &f);
	nic_arrive(PF0, &f);
	nic_assert_left(VF3, &f);
	nic_arrive(PF1, &f);
	nic_assert_received(PF1, &f);
	nic_rule(PF0, first, both, ACTIONS(ACTION(DROP)));
	nic_arrive(PF0, &f);
	nic_arrive(VF3, &f);
	nic_assert_left(VF3, &f);
	nic_assert_quiet();
}

static void
jumps_and_misses_in_any_group(void **state)
{
	struct frame hit = udp4_frame(1, 53), miss = udp4_frame(1, 54);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(JUMP(2)));
	nic_rule(VF0, transfer_group(2), ITEMS(ETH, ITEM(IPV4), UDP_TO(53)), ACTIONS(TO(PF0)));
	nic_arrive(VF0, &hit);
	nic_assert_left(PF0, &hit);
	nic_arrive(VF0, &miss);
	nic_assert_received(VF0, &miss);
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "hits"), 1);
	assert_int_equal(nic_stat(VF0, "misses"), 1);
}

/* What a header of 62 bytes around f is to look like; the UDP source port is the NIC's to
 * choose. */
static struct frame
encapsulated(const struct frame *f, const struct frame *got)
{
	struct frame want = { 0 };
	struct rte_ipv6_hdr *ip;
	struct rte_udp_hdr *udp;

	frame_bytes(&want, udp_header, sizeof(udp_header));
	frame_bytes(&want, f->data, f->len);
	ip = (void *)(want.data + 14);
	ip->payload_len = rte_cpu_to_be_16(8 + f->len);
	udp = (void *)(want.data + 54);
	udp->dgram_len = ip->payload_len;
	memcpy(&udp->src_port, got->data + 54, 2);
	return want;
}

static uint16_t
assert_left_encapsulated(int port, const struct frame *f)
{
	struct frame got = nic_left(port);
	struct frame want = encapsulated(f, &got);
	uint16_t source;

	assert_int_equal(got.len, want.len);
	assert_memory_equal(got.data, want.data, want.len);
	source = got.data[54] << 8 | got.data[55];
	assert_true(source >= 49152);
	return source;
}

static void
mirrors_with_encapsulation_before_a_jump(void **state)
{
	struct frame f = udp4_frame(1, 2), other = udp4_frame(1, 3);
	uint16_t first;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH),
		 ACTIONS(ACTION(COUNT), SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(ETH), ACTIONS(TO(VF3)));
	nic_arrive(VF0, &f);
	first = assert_left_encapsulated(PF0, &f);
	nic_assert_left(VF3, &f);
	/* The same flow has the same entropy, another one another. */
	nic_arrive(VF0, &f);
	assert_int_equal(assert_left_encapsulated(PF0, &f), first);
	nic_assert_left(VF3, &f);
	nic_arrive(VF0, &other);
	assert_int_not_equal(assert_left_encapsulated(PF0, &other), first);
	nic_assert_left(VF3, &other);
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "sampled"), 3);
	assert_int_equal(nic_stat(VF0, "encapsulated"), 3);
}

static void
copies_the_packet_as_it_is_at_that_point(void **state)
{
	const struct rte_flow_action_set_mac mac = { .mac_addr = MAC_C };
	struct frame f = udp4_frame(1, 2), changed = f;

	(void)state;
	memcpy(changed.data, MAC_C, 6);
	nic_rule(VF0, transfer, ITEMS(ETH),
		 ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)),
			 ACTION(SET_MAC_DST, .conf = &mac), TO(VF3)));
	nic_rule(VF3, transfer, ITEMS(ETH),
		 ACTIONS(ACTION(SET_MAC_DST, .conf = &mac),
			 SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), TO(VF0)));
	nic_arrive(VF0, &f);
	assert_left_encapsulated(PF0, &f);
	nic_assert_left(VF3, &changed);
	nic_arrive(VF3, &f);
	assert_left_encapsulated(PF0, &changed);
	nic_assert_left(VF0, &changed);
	nic_assert_quiet();
}

static void
mirrors_what_the_slow_path_gets_too(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(PF0, transfer, ITEMS(ETH),
		 ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), JUMP(1)));
	nic_arrive(PF0, &f);
	assert_left_encapsulated(PF0, &f);
	nic_assert_received(PF0, &f);
	nic_assert_quiet();
}

static void
samples_one_in_ratio_to_the_manager(void **state)
{
	struct frame f = udp4_frame(1, 2);
	int i;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(SAMPLE(3), TO(VF3)));
	for (i = 0; i < 6; i++)
		nic_arrive(VF0, &f);
	assert_int_equal(nic_stat(VF0, "sampled"), 2);
	nic_assert_received(PF0, &f);
	nic_assert_received(PF0, &f);
	for (i = 0; i < 6; i++)
		nic_assert_left(VF3, &f);
	nic_assert_quiet();
}

static void
rewrites_between_guests(void **state)
{
	const struct rte_flow_action_set_mac src = { .mac_addr = MAC_B },
					     dst = { .mac_addr = MAC_C };
	struct frame f = udp4_frame(1, 2), want = { 0 };

	(void)state;
	frame_eth(&want, MAC_C, MAC_B, 0x0800);
	frame_ipv4(&want, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 63, 8 + 30);
	frame_udp(&want, 1, 2, 30);
	frame_fill(&want, 'x', 30);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(ACTION(SET_MAC_SRC, .conf = &src), ACTION(SET_MAC_DST, .conf = &dst),
			 ACTION(DEC_TTL), AGE(10), ACTION(COUNT), TO(VF3)));
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &want);
	nic_assert_quiet();
}

/* The decremented TTL's checksum is right for every TTL. */
static void
keeps_the_ipv4_checksum(void **state)
{
	int ttl;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)), ACTIONS(ACTION(DEC_TTL), TO(VF3)));
	for (ttl = 0; ttl < 256; ttl++) {
		struct frame f = { 0 }, got;
		struct rte_ipv4_hdr *ip = (void *)(got.data + 14);

		frame_eth(&f, MAC_B, MAC_A, 0x0800);
		frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, ttl, 8);
		frame_udp(&f, ttl, 2, 0);
		nic_arrive(VF0, &f);
		got = nic_left(VF3);
		assert_int_equal(got.len, f.len);
		assert_int_equal(ip->time_to_live, (uint8_t)(ttl - 1));
		assert_int_equal(rte_raw_cksum(ip, 20), 0xffff);
	}
}

static void
encapsulates_to_the_wire(void **state)
{
	struct frame f = udp4_frame(1, 2), want = { 0 };
	struct rte_ipv6_hdr *ip = (void *)(want.data + 14);

	(void)state;
	frame_bytes(&want, ip_header, sizeof(ip_header));
	frame_ipv4(&want, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 63, 8 + 30);
	frame_udp(&want, 1, 2, 30);
	frame_fill(&want, 'x', 30);
	ip->payload_len = rte_cpu_to_be_16(f.len - 14);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(ACTION(DEC_TTL), DECAP(14), ENCAP(ip_header, 54), AGE(10), ACTION(COUNT),
			 TO(PF0)));
	nic_arrive(VF0, &f);
	nic_assert_left(PF0, &want);
	nic_assert_quiet();
}

/* What is in ipip_frame, but for FIN, SYN and RST. */
static const struct rte_flow_item *
inner_items(void)
{
	static const struct rte_flow_item_tcp spec = { .hdr.dst_port = RTE_BE16(80) };
	static const struct rte_flow_item_tcp mask = { .hdr = { .dst_port = UINT16_MAX,
								.tcp_flags = 0x07 } };
	static const struct rte_flow_item items[] = {
		ETH,
		ITEM(IPV4),
		ITEM(TCP, .spec = &spec, .mask = &mask),
		ITEM(END),
	};

	return items;
}

/* A tunnel of IPv4: the driver refuses patterns that say so in full, or that have two IP items. */
static const struct rte_flow_item *
tunnel_items(void)
{
	static const struct rte_flow_item_ipv6 spec = { .hdr.proto = 0 },
					       mask = { .hdr.proto = 0xfb };
	static const struct rte_flow_item items[] = { ETH, ITEM(IPV6, .spec = &spec, .mask = &mask),
						      ITEM(END) };

	return items;
}

#define L3_DECAP DECAP(54), ENCAP(eth_header, 14)
#define INNER 10

static void
decapsulates_from_the_wire(void **state)
{
	struct frame f = ipip_frame(), want = { 0 };

	(void)state;
	frame_bytes(&want, eth_header, sizeof(eth_header));
	frame_bytes(&want, f.data + 54, f.len - 54);
	nic_rule(PF0, transfer, tunnel_items(), ACTIONS(L3_DECAP, JUMP(INNER)));
	nic_rule(PF0, transfer_group(INNER), inner_items(),
		 ACTIONS(AGE(10), ACTION(COUNT), TO(VF3)));
	nic_arrive(PF0, &f);
	nic_assert_left(VF3, &want);
	assert_int_equal(nic_stat(PF0, "decapsulated"), 1);
	/* What no rule of the second group takes is the application's, as it is then. */
	f.data[54 + 20 + 13] |= 1;
	want.data[14 + 20 + 13] |= 1;
	nic_arrive(PF0, &f);
	nic_assert_received(PF0, &want);
	nic_assert_quiet();
}

/* A packet that is no tunnel has nothing behind its header. */
static void
drops_what_carries_nothing(void **state)
{
	struct frame bare = { 0 }, cut = ipip_frame(), fragment = ipip_frame();

	(void)state;
	frame_eth(&bare, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&bare, "fc00::1", "fc00::2", IPPROTO_UDP, 64, 8);
	frame_udp(&bare, 1, 2, 0);
	cut.len = 60;
	fragment.data[20] = IPPROTO_FRAGMENT;
	nic_rule(PF0, transfer, ITEMS(ETH, ITEM(IPV6)),
		 ACTIONS(ACTION(COUNT), L3_DECAP, JUMP(INNER)));
	nic_rule(PF0, transfer_group(INNER), ITEMS(ETH), ACTIONS(TO(VF3)));
	nic_arrive(PF0, &bare);
	nic_arrive(PF0, &cut);
	nic_arrive(PF0, &fragment);
	assert_int_equal(nic_stat(PF0, "malformed"), 3);
	assert_int_equal(nic_stat(PF0, "decapsulated"), 0);
	nic_assert_quiet();
}

#define TAG_IS(i, v, m)                                                                   \
	ITEM(TAG, .spec = &(const struct rte_flow_item_tag){ .index = (i), .data = (v) }, \
	     .mask = &(const struct rte_flow_item_tag){ .index = UINT8_MAX, .data = (m) })

/* The first rule says who has sent, and the flows' rules ask for it. */
static void
matches_tags_behind_a_decapsulation(void **state)
{
	const struct rte_flow_action_set_tag tag = { .data = 0x70001,
						     .mask = UINT32_MAX,
						     .index = 2 };
	struct frame f = ipip_frame(), want = { 0 };

	(void)state;
	frame_bytes(&want, eth_header, sizeof(eth_header));
	frame_bytes(&want, f.data + 54, f.len - 54);
	nic_rule(PF0, transfer, tunnel_items(),
		 ACTIONS(L3_DECAP, ACTION(SET_TAG, .conf = &tag), JUMP(INNER)));
	nic_rule(PF0, transfer_group(INNER), ITEMS(TAG_IS(2, 0x70002, UINT32_MAX), ETH, ITEM(IPV4)),
		 ACTIONS(TO(VF0)));
	nic_rule(PF0, transfer_group(INNER), ITEMS(TAG_IS(2, 0x60000, 0xffff0000), ETH, ITEM(IPV4)),
		 ACTIONS(TO(VF0)));
	nic_rule(PF0, transfer_group(INNER), ITEMS(TAG_IS(2, 0x70000, 0xffff0000), ETH, ITEM(IPV4)),
		 ACTIONS(TO(VF3)));
	nic_arrive(PF0, &f);
	nic_assert_left(VF3, &want);
	nic_assert_quiet();
}

/* Groups that large have tables of their own next to each other: 70000 is one, and so is 65534. */
static void
jumps_to_large_groups(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(JUMP(65534)));
	nic_rule(VF0, transfer_group(65534), ITEMS(ETH), ACTIONS(JUMP(70000)));
	nic_rule(VF0, transfer_group(70000), ITEMS(ETH), ACTIONS(TO(VF3)));
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
	nic_assert_quiet();
}

#define ETH_TYPE(t)                                                                           \
	ITEM(ETH, .spec = &(const struct rte_flow_item_eth){ .hdr.ether_type = RTE_BE16(t) }, \
	     .mask = &(const struct rte_flow_item_eth){ .hdr.ether_type = UINT16_MAX })
#define HAS_VLAN(v)                                                             \
	ITEM(ETH, .spec = &(const struct rte_flow_item_eth){ .has_vlan = (v) }, \
	     .mask = &(const struct rte_flow_item_eth){ .has_vlan = 1 })

/* To the card a frame is tagged when the tag is 0x8100; one of 0x88a8 it looks behind, and counts
 * the frame as untagged. */
static void
knows_one_kind_of_tag(void **state)
{
	struct frame plain = udp4_frame(1, 2), customer = { 0 }, service = { 0 };
	const struct {
		const struct rte_flow_item *items;
		bool plain, customer, service;
	} rules[] = {
		{ ITEMS(HAS_VLAN(0)), true, false, true },
		{ ITEMS(HAS_VLAN(1)), false, true, false },
		{ ITEMS(ETH, ITEM(VLAN)), false, true, false },
		{ ITEMS(HAS_VLAN(0), ITEM(VLAN)), false, true, false },
		{ ITEMS(ETH, ITEM(IPV4)), true, true, true },
		{ ITEMS(ETH_TYPE(0x0800), ITEM(IPV4)), true, false, true },
		{ ITEMS(ETH_TYPE(0x8100)), false, true, false },
		{ ITEMS(ETH_TYPE(0x88a8)), false, false, true },
		{ ITEMS(ETH_TYPE(0x88a8), ITEM(VLAN)), false, false, true },
		{ ITEMS(ETH_TYPE(0x0806)), false, false, false },
	};
	size_t i;

	(void)state;
	frame_eth(&customer, MAC_B, MAC_A, 0x8100);
	frame_vlan(&customer, 5, 0x0800);
	frame_bytes(&customer, plain.data + 14, plain.len - 14);
	service = customer;
	service.data[12] = 0x88;
	service.data[13] = 0xa8;
	for (i = 0; i < RTE_DIM(rules); i++) {
		struct rte_flow *flow = nic_rule(VF0, transfer, rules[i].items, ACTIONS(TO(VF3)));

		nic_arrive(VF0, &plain);
		assert_int_equal(nic_left(VF3).len != 0, rules[i].plain);
		nic_arrive(VF0, &customer);
		assert_int_equal(nic_left(VF3).len != 0, rules[i].customer);
		nic_arrive(VF0, &service);
		assert_int_equal(nic_left(VF3).len != 0, rules[i].service);
		while (nic_received(VF0).len > 0)
			;
		nic_destroy(VF0, flow);
	}
}

/* A flow stays in its queue; the flows are spread. */
static void
spreads_by_a_rule(void **state)
{
	const uint16_t queues[] = { 0, 1, 1 };
	const struct rte_flow_action_rss rss = { .queue_num = RTE_DIM(queues), .queue = queues };
	struct rte_mbuf *m;
	uint32_t i, flows[2] = { 0 };
	uint16_t queue;

	(void)state;
	nic_rule(PF0, ingress, ITEMS(ETH, ITEM(IPV4)), ACTIONS(ACTION(RSS, .conf = &rss)));
	for (i = 0; i < 60; i++) {
		struct frame f = udp4_frame(i, 2);

		nic_arrive(PF0, &f);
		queue = rte_eth_rx_burst(nic.port[PF0], 0, &m, 1) == 1 ? 0 : 1;
		if (queue == 1)
			assert_int_equal(rte_eth_rx_burst(nic.port[PF0], 1, &m, 1), 1);
		rte_pktmbuf_free(m);
		nic_arrive(PF0, &f);
		assert_int_equal(rte_eth_rx_burst(nic.port[PF0], queue, &m, 1), 1);
		rte_pktmbuf_free(m);
		flows[queue]++;
	}
	assert_true(flows[0] > 5 && flows[1] > flows[0]);
}

/* As in hardware: where the tunnel's header ends is the parser's to say, not the action's size. */
static void
decapsulates_behind_extension_headers(void **state)
{
	struct frame f = { 0 }, plain = ipip_frame(), want = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00::1", "fc00::2", IPPROTO_DSTOPTS, 64, 8 + plain.len - 54);
	frame_bytes(&f, "\x04\0\1\4\0\0\0\0", 8);
	frame_bytes(&f, plain.data + 54, plain.len - 54);
	frame_bytes(&want, eth_header, sizeof(eth_header));
	frame_bytes(&want, plain.data + 54, plain.len - 54);
	nic_rule(PF0, transfer, tunnel_items(), ACTIONS(L3_DECAP, TO(VF3)));
	nic_arrive(PF0, &f);
	nic_assert_left(VF3, &want);
	nic_assert_quiet();
}

static void
fills_ipv4_headers(void **state)
{
	struct frame header = { 0 }, f = udp4_frame(1, 2), got;
	struct rte_ipv4_hdr *ip = (void *)(got.data + 14);
	struct rte_udp_hdr *udp = (void *)(got.data + 34);

	(void)state;
	frame_eth(&header, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&header, "192.0.2.1", "192.0.2.2", IPPROTO_UDP, 64, 0);
	frame_udp(&header, 7, 4789, 0);
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(ENCAP(header.data, header.len), TO(PF0)));
	nic_arrive(VF0, &f);
	got = nic_left(PF0);
	assert_int_equal(got.len, header.len + f.len);
	assert_int_equal(rte_be_to_cpu_16(ip->total_length), 28 + f.len);
	assert_int_equal(rte_raw_cksum(ip, 20), 0xffff);
	assert_int_equal(rte_be_to_cpu_16(udp->dgram_len), 8 + f.len);
	assert_int_equal(udp->dgram_cksum, 0);
	assert_true(rte_be_to_cpu_16(udp->src_port) >= 49152);
	assert_int_equal(rte_be_to_cpu_16(udp->dst_port), 4789);
	assert_memory_equal(got.data + header.len, f.data, f.len);
}

static void
prepends_headers_it_does_not_know(void **state)
{
	struct frame f = udp4_frame(1, 2), got;
	uint8_t header[ESW_ENCAP_MAX];

	(void)state;
	memset(header, 0xee, sizeof(header));
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(ENCAP(header, sizeof(header)), TO(PF0)));
	nic_arrive(VF0, &f);
	got = nic_left(PF0);
	assert_int_equal(got.len, sizeof(header) + f.len);
	assert_memory_equal(got.data, header, sizeof(header));
	assert_memory_equal(got.data + sizeof(header), f.data, f.len);
}

static struct frame
frame_of_payload(uint16_t n)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x88b5);
	frame_fill(&f, 1, n);
	return f;
}

static void
drops_what_exceeds_the_mtu(void **state)
{
	struct frame fits = frame_of_payload(1500 - 62), exceeds = frame_of_payload(1500 - 61),
		     tagged = { 0 };
	struct frame full = frame_of_payload(1500), over = frame_of_payload(1501);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH),
		 ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(ETH), ACTIONS(TO(VF3)));
	/* Of the 62 bytes 14 are the new link layer, which does not count; the old one, 14 as well,
	 * now does. */
	nic_arrive(VF0, &fits);
	nic_assert_left(VF3, &fits);
	assert_left_encapsulated(PF0, &fits);
	assert_int_equal(nic_stat(PF0, "oversize"), 0);
	nic_arrive(VF0, &exceeds);
	nic_assert_left(VF3, &exceeds);
	assert_int_equal(nic_stat(PF0, "oversize"), 1);
	nic_arrive(VF0, &full);
	nic_assert_left(VF3, &full);
	nic_arrive(VF0, &over);
	assert_int_equal(nic_stat(VF3, "oversize"), 1);
	/* A tag does not count. */
	frame_eth(&tagged, MAC_B, MAC_A, 0x8100);
	frame_vlan(&tagged, 5, 0x88b5);
	frame_fill(&tagged, 1, 1500);
	nic_arrive(VF0, &tagged);
	nic_assert_left(VF3, &tagged);
	/* The application's frames are measured too. */
	nic_send(VF3, &over);
	assert_int_equal(nic_stat(VF3, "oversize"), 2);
	nic_assert_quiet();
}

static void
obeys_a_new_mtu(void **state)
{
	struct frame f = frame_of_payload(2000);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(TO(VF3)));
	assert_int_equal(rte_eth_dev_set_mtu(nic.port[VF3], 2000), 0);
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
	assert_int_equal(rte_eth_dev_set_mtu(nic.port[VF3], 1500), 0);
	nic_arrive(VF0, &f);
	nic_assert_quiet();
}

static void
counts_and_resets(void **state)
{
	struct rte_flow_query_count count = { .reset = 1 };
	struct frame f = udp4_frame(1, 2);
	struct rte_flow *flow;
	const struct rte_flow_action *what = ACTIONS(ACTION(COUNT));

	(void)state;
	flow = nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(ACTION(COUNT), TO(VF3)));
	nic_arrive(VF0, &f);
	nic_arrive(VF0, &f);
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, what, &count, NULL), 0);
	assert_int_equal(count.hits, 2);
	assert_int_equal(count.bytes, 2 * f.len);
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, what, &count, NULL), 0);
	assert_int_equal(count.hits, 0);
	assert_int_equal(rte_flow_query(nic.port[VF3], flow, what, &count, NULL), -EINVAL);
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(AGE(1)), &count, NULL),
			 -EINVAL);
}

static int
on_aged(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)port;
	(void)event;
	(void)ret;
	atomic_fetch_add_explicit((atomic_int *)arg, 1, memory_order_relaxed);
	return 0;
}

static void
reports_aged_flows(void **state)
{
	const struct rte_flow_action_age age = { .timeout = 1, .context = &nic };
	struct rte_flow_query_age query = { 0 };
	struct rte_flow *named, *unnamed;
	void *contexts[4];
	atomic_int events = 0;
	int waited;

	(void)state;
	assert_int_equal(rte_eth_dev_callback_register(nic.port[VF0], RTE_ETH_EVENT_FLOW_AGED,
						       on_aged, &events),
			 0);
	named = nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)),
			 ACTIONS(ACTION(AGE, .conf = &age), TO(VF3)));
	unnamed = nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV6)), ACTIONS(AGE(1), TO(VF3)));
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(VLAN)), ACTIONS(AGE(1000), TO(VF3)));
	assert_int_equal(rte_flow_get_aged_flows(nic.port[VF0], NULL, 0, NULL), 0);
	for (waited = 0; waited < 50 && rte_flow_get_aged_flows(nic.port[VF0], NULL, 0, NULL) < 2;
	     waited++)
		usleep(100000);
	assert_int_equal(rte_flow_get_aged_flows(nic.port[VF0], contexts, 4, NULL), 2);
	assert_ptr_equal(contexts[0], &nic);
	assert_ptr_equal(contexts[1], unnamed);
	for (waited = 0; waited < 50 && load_relaxed(&events) == 0; waited++)
		usleep(100000);
	assert_int_not_equal(load_relaxed(&events), 0);
	assert_int_equal(rte_flow_query(nic.port[VF0], named, ACTIONS(AGE(1)), &query, NULL), 0);
	assert_int_equal(query.aged, 1);
	nic_destroy(VF0, named);
	assert_int_equal(rte_flow_get_aged_flows(nic.port[VF0], contexts, 4, NULL), 1);
	assert_int_equal(rte_eth_dev_callback_unregister(nic.port[VF0], RTE_ETH_EVENT_FLOW_AGED,
							 on_aged, &events),
			 0);
}

static void
keeps_busy_flows_young(void **state)
{
	struct rte_flow_query_age query = { 0 };
	uint64_t last, pause = 0, hz = rte_get_tsc_hz();
	struct frame f = udp4_frame(1, 2);
	struct rte_flow *flow;
	int i;

	(void)state;
	flow = nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(AGE(2), TO(VF3)));
	last = rte_rdtsc();
	for (i = 0; i < 16; i++) {
		nic_arrive(VF0, &f);
		pause = RTE_MAX(pause, rte_rdtsc() - last);
		last = rte_rdtsc();
		usleep(200000);
	}
	/* On a machine that stalls the flow was not busy. */
	if (pause > hz || rte_rdtsc() - last > hz)
		skip();
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(AGE(1)), &query, NULL), 0);
	assert_int_equal(query.aged, 0);
	assert_int_equal(query.sec_since_last_hit_valid, 1);
	assert_int_equal(rte_flow_get_aged_flows(nic.port[VF0], NULL, 0, NULL), 0);
}

/* Only from the root table does a card hand on what no rule takes. */
static void
drops_what_an_ingress_rule_sends_astray(void **state)
{
	struct frame to_one = udp4_frame(9, 1), to_two = udp4_frame(9, 2);

	(void)state;
	nic_rule(PF1, ingress, ITEMS(ETH, ITEM(IPV4)), ACTIONS(JUMP(1)));
	nic_rule(PF1, (struct rte_flow_attr){ .ingress = 1, .group = 1 },
		 ITEMS(ETH, ITEM(IPV4), UDP_TO(1)), ACTIONS(QUEUE(0)));
	nic_arrive(PF1, &to_one);
	nic_assert_received(PF1, &to_one);
	nic_arrive(PF1, &to_two);
	nic_assert_quiet();
	assert_int_equal(nic_stat(PF1, "dropped"), 1);
}

static void
runs_ingress_rules_on_misses(void **state)
{
	struct frame to_one = udp4_frame(9, 1), to_two = udp4_frame(9, 2),
		     to_three = udp4_frame(9, 3);
	const struct rte_flow_action_mark mark = { .id = 77 };
	struct rte_mbuf *m;

	(void)state;
	nic_rule(PF1, ingress, ITEMS(ETH, ITEM(IPV4), UDP_TO(1)),
		 ACTIONS(ACTION(MARK, .conf = &mark), QUEUE(1)));
	nic_rule(PF1, ingress, ITEMS(ETH, ITEM(IPV4), UDP_TO(2)), ACTIONS(ACTION(DROP)));
	nic_arrive(PF1, &to_one);
	assert_int_equal(rte_eth_rx_burst(nic.port[PF1], 0, &m, 1), 0);
	assert_int_equal(rte_eth_rx_burst(nic.port[PF1], 1, &m, 1), 1);
	assert_true(m->ol_flags & RTE_MBUF_F_RX_FDIR_ID);
	assert_int_equal(m->hash.fdir.hi, 77);
	rte_pktmbuf_free(m);
	nic_arrive(PF1, &to_two);
	assert_int_equal(nic_stat(PF1, "dropped"), 1);
	nic_arrive(PF1, &to_three);
	nic_assert_received(PF1, &to_three);
	nic_assert_quiet();
	assert_int_equal(nic_stat(PF1, "ingress_hits"), 2);
}

static void
isolates_a_port(void **state)
{
	struct frame named = udp4_frame(1, 53), unnamed = udp4_frame(1, 54);
	uint16_t port = nic.port[VF0];

	(void)state;
	assert_int_equal(rte_flow_isolate(port, 1, NULL), -EBUSY);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(rte_flow_isolate(port, 1, NULL), 0);
	assert_int_equal(rte_eth_dev_start(port), 0);
	nic_rule(VF0, ingress, ITEMS(ETH, ITEM(IPV4), UDP_TO(53)), ACTIONS(QUEUE(0)));
	nic_arrive(VF0, &named);
	nic_assert_received(VF0, &named);
	nic_arrive(VF0, &unnamed);
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "isolated_dropped"), 1);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(rte_flow_isolate(port, 0, NULL), 0);
	assert_int_equal(rte_eth_dev_start(port), 0);
}

static void
forwards_from_ports_that_are_stopped(void **state)
{
	struct frame hit = udp4_frame(1, 53), miss = udp4_frame(1, 54);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP_TO(53)), ACTIONS(TO(VF3)));
	assert_int_equal(rte_eth_dev_stop(nic.port[VF0]), 0);
	nic_arrive(VF0, &hit);
	nic_assert_left(VF3, &hit);
	nic_arrive(VF0, &miss);
	assert_int_equal(nic_stat(VF0, "rx_not_started"), 1);
	assert_int_equal(rte_eth_dev_start(nic.port[VF0]), 0);
	nic_assert_quiet();
}

static void
forwards_although_nobody_receives(void **state)
{
	struct frame hit = udp4_frame(1, 53), miss = udp4_frame(1, 54);
	int i;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP_TO(53)), ACTIONS(TO(VF3)));
	for (i = 0; i < 200; i++) {
		nic_arrive(VF0, &miss);
		nic_arrive(VF0, &hit);
		nic_assert_left(VF3, &hit);
	}
	assert_int_equal(nic_stat(VF0, "rx_full"), 200 - 64);
	for (i = 0; i < 64; i++)
		nic_assert_received(VF0, &miss);
	nic_assert_quiet();
}

static void
survives_hostile_frames(void **state)
{
	struct frame seeds[] = { udp4_frame(1, 2), ipip_frame(), tcp4_frame(2) };
	unsigned int seed = 5;
	int i, k;

	(void)state;
	nic_rule(PF0, transfer, ITEMS(ETH),
		 ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), JUMP(1)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH, ITEM(IPV6)), ACTIONS(L3_DECAP, JUMP(INNER)));
	nic_rule(PF0, transfer_group(INNER), ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(ACTION(DEC_TTL), TO(VF3)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(ACTION(DEC_TTL), DECAP(14), ENCAP(ip_header, 54), TO(PF0)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH), ACTIONS(DECAP(60), TO(PF0)));
	for (i = 0; i < 1500; i++) {
		struct frame f = seeds[i % 3];

		for (k = rand_r(&seed) % 4; k > 0; k--)
			f.data[rand_r(&seed) % f.len] = rand_r(&seed);
		if (i % 2)
			f.len = rand_r(&seed) % (f.len + 1);
		nic_arrive(PF0, &f);
		for (k = 0; k < NIC_PORTS; k++)
			while (nic_left(k).len > 0)
				;
		while (nic_received(PF0).len > 0)
			;
	}
	assert_int_equal(nic_stat(PF0, "far_rx_packets"), 1500);
	assert_int_not_equal(nic_stat(PF0, "malformed"), 0);
}

#define OUT_MAX 4

/* What comes out of the NIC for the first len bytes of f, behind which the mbuf is filled with some
 * byte. */
static void
run_cut(const struct frame *f, uint16_t len, uint8_t behind, struct frame out[OUT_MAX])
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic.pool);
	int port, n = 0;

	assert_non_null(m);
	memset(rte_pktmbuf_mtod(m, void *), behind, rte_pktmbuf_tailroom(m));
	memcpy(rte_pktmbuf_append(m, len), f->data, len);
	nic_arrive_mbuf(PF0, m);
	for (port = 0; port < NIC_PORTS; port++)
		while ((out[n] = nic_left(port)).len > 0)
			assert_true(++n < OUT_MAX);
	out[n] = nic_received(PF0);
}

/* Frames that are cut short, at any byte, are what they are, whatever memory has behind them. */
static void
looks_at_nothing_behind_a_packet(void **state)
{
	const struct rte_flow_action_of_push_vlan push = { .ethertype = RTE_BE16(0x88a8) };
	struct frame tagged = { 0 },
		     seeds[] = { udp4_frame(1, 4789), ipip_frame(), tcp4_frame(2), tagged };
	static struct frame zeros[OUT_MAX], ones[OUT_MAX];
	uint16_t len;
	size_t i, k;

	(void)state;
	frame_eth(&tagged, MAC_B, MAC_A, 0x8100);
	frame_vlan(&tagged, 5, 0x0800);
	frame_bytes(&tagged, seeds[0].data + 14, seeds[0].len - 14);
	seeds[3] = tagged;
	nic_rule(PF0, transfer, ITEMS(ETH),
		 ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), JUMP(1)));
	nic_rule(PF0, transfer_group(1), tunnel_items(), ACTIONS(L3_DECAP, JUMP(INNER)));
	nic_rule(PF0, transfer_group(INNER), inner_items(), ACTIONS(ACTION(DEC_TTL), TO(VF3)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH, ITEM(VLAN), ITEM(IPV4)),
		 ACTIONS(ACTION(OF_POP_VLAN), TO(VF3)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH, ITEM(IPV4), UDP_TO(4789)),
		 ACTIONS(ACTION(DEC_TTL), ACTION(OF_PUSH_VLAN, .conf = &push), TO(VF3)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(ACTION(DEC_TTL), DECAP(14), ENCAP(ip_header, 54), TO(PF0)));
	for (i = 0; i < RTE_DIM(seeds); i++) {
		for (len = 14; len <= seeds[i].len; len++) {
			run_cut(&seeds[i], len, 0, zeros);
			run_cut(&seeds[i], len, UINT8_MAX, ones);
			for (k = 0; k < OUT_MAX; k++) {
				assert_int_equal(zeros[k].len, ones[k].len);
				assert_memory_equal(zeros[k].data, ones[k].data, zeros[k].len);
			}
		}
	}
	assert_int_not_equal(nic_stat(PF0, "sampled"), 0);
	assert_int_not_equal(nic_stat(PF0, "decapsulated"), 0);
	assert_int_not_equal(nic_stat(VF3, "far_tx_packets"), 0);
}

/* An IPv4 header and nothing else goes out by a tunnel, and comes from one. */
static void
takes_the_smallest_frames(void **state)
{
	struct frame f = { 0 }, tunnelled = { 0 }, want = { 0 }, bare = { 0 };

	(void)state;
	frame_eth(&bare, MAC_B, MAC_A, 0x88b5);
	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", 253, 64, 0);
	frame_bytes(&tunnelled, ip_header, sizeof(ip_header));
	frame_bytes(&tunnelled, f.data + 14, 20);
	tunnelled.data[14 + 5] = 20;
	frame_bytes(&want, eth_header, sizeof(eth_header));
	frame_bytes(&want, f.data + 14, 20);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(DECAP(14), ENCAP(ip_header, 54), TO(PF0)));
	nic_rule(PF0, transfer, tunnel_items(), ACTIONS(L3_DECAP, TO(VF3)));
	nic_rule(VF3, transfer, ITEMS(ETH), ACTIONS(TO(VF0)));
	nic_arrive(VF0, &f);
	nic_assert_left(PF0, &tunnelled);
	nic_arrive(PF0, &tunnelled);
	nic_assert_left(VF3, &want);
	nic_arrive(VF3, &bare);
	nic_assert_left(VF0, &bare);
	nic_assert_quiet();
}

/* The frame in three mbufs: the first ends at the offset, the second has one byte. */
static struct rte_mbuf *
in_segments(const struct frame *f, uint16_t at)
{
	struct rte_mbuf *head = NULL, *segment;
	uint16_t begin[] = { 0, at, at + 1, f->len };
	int i;

	for (i = 0; i < 3; i++) {
		segment = rte_pktmbuf_alloc(nic.pool);
		assert_non_null(segment);
		memcpy(rte_pktmbuf_append(segment, begin[i + 1] - begin[i]), f->data + begin[i],
		       begin[i + 1] - begin[i]);
		if (head == NULL)
			head = segment;
		else
			assert_int_equal(rte_pktmbuf_chain(head, segment), 0);
	}
	return head;
}

static void
takes_packets_in_segments(void **state)
{
	struct frame f = udp4_frame(1, 2);
	uint16_t at;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(UDP)),
		 ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)), TO(VF3)));
	for (at = 1; at < f.len; at++) {
		nic_arrive_mbuf(VF0, in_segments(&f, at));
		assert_left_encapsulated(PF0, &f);
		nic_assert_left(VF3, &f);
	}
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "hits"), f.len - 1);
}

/* Others may look at a packet, too: what a rule rewrites is a copy. */
static void
leaves_shared_packets_alone(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_mbuf *m = in_segments(&f, 20), *clone;

	(void)state;
	assert_int_equal(rte_pktmbuf_linearize(m), 0);
	clone = rte_pktmbuf_clone(m, nic.pool);
	assert_non_null(clone);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)), ACTIONS(ACTION(DEC_TTL), TO(VF3)));
	nic_arrive_mbuf(VF0, clone);
	rte_mbuf_refcnt_update(m, 1);
	nic_arrive_mbuf(VF0, m);
	assert_int_equal(nic_left(VF3).data[14 + 8], 63);
	assert_int_equal(nic_left(VF3).data[14 + 8], 63);
	assert_memory_equal(rte_pktmbuf_mtod(m, void *), f.data, f.len);
	assert_int_equal(rte_mbuf_refcnt_read(m), 1);
	rte_pktmbuf_free(m);
	nic_assert_quiet();
}

/* A tag that the far side's driver has taken off is of the frame all the same. */
static void
puts_stripped_tags_back(void **state)
{
	struct frame f = udp4_frame(1, 2), want = { 0 };
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic.pool);

	(void)state;
	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, f.len), f.data, f.len);
	m->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	m->vlan_tci = 0x2005;
	frame_eth(&want, MAC_B, MAC_A, 0x8100);
	frame_vlan(&want, 0x2005, 0x0800);
	frame_bytes(&want, f.data + 14, f.len - 14);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(VLAN)), ACTIONS(TO(VF3)));
	assert_int_equal(rte_ring_enqueue(nic.in[VF0], m), 0);
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &want);
	nic_assert_received(VF0, &f);
	nic_assert_quiet();
}

static void
drops_what_is_no_frame(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(), ACTIONS(TO(VF3)));
	for (f.len = 0; f.len < 14; f.len++)
		nic_arrive(VF0, &f);
	assert_int_equal(nic_stat(VF0, "malformed"), 14);
	nic_assert_quiet();
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
}

/* 20,000 rules come and go while packets flow; each packet is either forwarded or missed, none is
 * lost. */
static void
changes_rules_while_packets_flow(void **state)
{
	struct rte_flow_item_ipv4 spec = { .hdr.dst_addr = 0 };
	struct frame f = udp4_frame(1, 2);
	struct rte_flow *flow[64] = { 0 };
	rte_be32_t source;
	uint64_t n;
	int i;

	(void)state;
	memcpy(&source, f.data + 26, 4);
	memcpy(&spec.hdr.dst_addr, f.data + 30, 4);
	for (i = 0; i < 20000; i++) {
		struct rte_mbuf *m;

		if (flow[i % 64] != NULL)
			nic_destroy(VF0, flow[i % 64]);
		spec.hdr.src_addr = i % 3 ? (uint32_t)i : source;
		flow[i % 64] =
			nic_rule(VF0, transfer_group(0), ITEMS(ETH, ITEM(IPV4, .spec = &spec)),
				 ACTIONS(ACTION(COUNT), TO(VF3)));
		if (i % 64 == 0)
			nic_arrive(VF0, &f);
		while (nic_left(VF3).len > 0 || rte_eth_rx_burst(nic.port[VF0], 0, &m, 1) == 1)
			;
	}
	n = nic_stat(VF0, "hits") + nic_stat(VF0, "misses");
	assert_int_equal(n, nic_stat(VF0, "far_rx_packets"));
}

/* Frames of a burst that take ways of different length come out in the order they came in, and all
 * are looked at anew. */
static void
keeps_the_order_of_a_burst(void **state)
{
	const struct rte_flow_action_set_tp port = { .port = RTE_BE16(1000) };
	struct frame in[ESW_BURST], out;
	uint32_t i;

	(void)state;
	/* To port 0 at once, to 1 by one more group, to 2 by rewriting into 1000, to 3 by more
	 * groups than are looked at ahead. */
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP_TO(0)), ACTIONS(TO(VF3)));
	nic_rule(VF0, ATTR_PRIORITY(1), ITEMS(ETH), ACTIONS(JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(ETH, ITEM(IPV4), UDP_TO(1)), ACTIONS(TO(VF3)));
	nic_rule(VF0, transfer_group(1), ITEMS(ETH, ITEM(IPV4), UDP_TO(2)),
		 ACTIONS(ACTION(SET_TP_DST, .conf = &port), JUMP(9)));
	for (i = 1; i < 9; i++)
		nic_rule(VF0, transfer_group(i), ITEMS(ETH, ITEM(IPV4), UDP_TO(3)),
			 ACTIONS(JUMP(i + 1)));
	nic_rule(VF0, transfer_group(9), ITEMS(ETH, ITEM(IPV4), UDP_TO(3)), ACTIONS(TO(VF3)));
	nic_rule(VF0, transfer_group(9), ITEMS(ETH, ITEM(IPV4), UDP_TO(1000)), ACTIONS(TO(VF3)));
	for (i = 0; i < ESW_BURST; i++)
		in[i] = udp4_frame(i, (3 * i) % 4);
	nic_arrive_together(VF0, in, ESW_BURST);
	for (i = 0; i < ESW_BURST; i++) {
		out = nic_left(VF3);
		assert_int_equal(out.len, in[i].len);
		assert_int_equal(out.data[35], i);
		assert_int_equal(out.data[36] << 8 | out.data[37],
				 (3 * i) % 4 == 2 ? 1000 : (3 * i) % 4);
	}
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "hits"), ESW_BURST);
}

static void
configure_queues(int port, uint16_t queues, uint32_t mq_mode)
{
	struct rte_eth_conf conf = { .rxmode.mq_mode = mq_mode };
	uint16_t id = nic.port[port], q;

	if (mq_mode == RTE_ETH_MQ_RX_RSS)
		conf.rx_adv_conf.rss_conf.rss_hf = RTE_ETH_RSS_UDP;
	assert_int_equal(rte_eth_dev_stop(id), 0);
	assert_int_equal(rte_eth_dev_configure(id, queues, 1, &conf), 0);
	for (q = 0; q < queues; q++)
		assert_int_equal(rte_eth_rx_queue_setup(id, q, 64, 0, NULL, nic.pool), 0);
	assert_int_equal(rte_eth_tx_queue_setup(id, 0, 64, 0, NULL), 0);
	assert_int_equal(rte_eth_dev_start(id), 0);
}

/* The queue that a frame without a rule comes by. */
static int
queue_of(const struct frame *f)
{
	struct rte_mbuf *m;
	uint16_t q;

	nic_arrive(VF0, f);
	for (q = 0; q < 2; q++) {
		if (rte_eth_rx_burst(nic.port[VF0], q, &m, 1) == 0)
			continue;
		rte_pktmbuf_free(m);
		return q;
	}
	fail_msg("no frame");
	return -1;
}

static void
spreads_misses_if_told_to(void **state)
{
	int used[2] = { 0 }, first;
	uint16_t port;
	struct frame f;

	(void)state;
	for (port = 1; port <= 32; port++) {
		f = udp4_frame(port, 2);
		assert_int_equal(queue_of(&f), 0);
	}
	configure_queues(VF0, 2, RTE_ETH_MQ_RX_RSS);
	for (port = 1; port <= 32; port++) {
		f = udp4_frame(port, 2);
		first = queue_of(&f);
		assert_int_equal(queue_of(&f), first);
		used[first]++;
	}
	assert_true(used[0] > 4 && used[1] > 4);
	configure_queues(VF0, 2, RTE_ETH_MQ_RX_NONE);
	assert_int_equal(queue_of(&f), 0);
	nic_assert_quiet();
}

static void
refuses_devargs_that_make_no_sense(void **state)
{
	static const char *const bad[] = {
		"",
		"pf1=net_null0",
		"card=cx4",
		"card",
		"pf0=",
		"pf0=no_such_ethdev",
		"pf0=net_ring_far0",
		"pf2=x",
		"vf=x",
		"vf0=x",
		"pf0=a,pf0=b",
		"pf0=a,vf4096=b",
		"pf0=a,vf-1=b",
		"pf0=a,vf1x=b",
		"=,",
		"pf0",
	};
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(bad); i++)
		if (rte_vdev_init("net_eswitch_bad", bad[i]) == 0)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(rte_eth_dev_count_avail(), NIC_PORTS);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, nic_clean)
	const struct CMUnitTest tests[] = {
		TEST(shows_its_ports_and_hides_their_far_sides),
		TEST(says_how_representors_are_numbered),
		TEST(takes_the_mac_of_the_far_side),
		TEST(shows_what_the_far_side_has_lost),
		TEST(gives_misses_to_the_source_port),
		TEST(sends_what_the_application_sends_past_the_rules),
		TEST(forwards_hits_unseen),
		TEST(lets_a_rule_name_another_source_port),
		TEST(lets_a_rule_be_for_all_ports),
		TEST(jumps_and_misses_in_any_group),
		TEST(mirrors_with_encapsulation_before_a_jump),
		TEST(copies_the_packet_as_it_is_at_that_point),
		TEST(mirrors_what_the_slow_path_gets_too),
		TEST(samples_one_in_ratio_to_the_manager),
		TEST(rewrites_between_guests),
		TEST(keeps_the_ipv4_checksum),
		TEST(encapsulates_to_the_wire),
		TEST(decapsulates_from_the_wire),
		TEST(drops_what_carries_nothing),
		TEST(matches_tags_behind_a_decapsulation),
		TEST(jumps_to_large_groups),
		TEST(knows_one_kind_of_tag),
		TEST(spreads_by_a_rule),
		TEST(decapsulates_behind_extension_headers),
		TEST(fills_ipv4_headers),
		TEST(prepends_headers_it_does_not_know),
		TEST(drops_what_exceeds_the_mtu),
		TEST(obeys_a_new_mtu),
		TEST(counts_and_resets),
		TEST(reports_aged_flows),
		TEST(keeps_busy_flows_young),
		TEST(runs_ingress_rules_on_misses),
		TEST(drops_what_an_ingress_rule_sends_astray),
		TEST(isolates_a_port),
		TEST(forwards_from_ports_that_are_stopped),
		TEST(forwards_although_nobody_receives),
		TEST(survives_hostile_frames),
		TEST(looks_at_nothing_behind_a_packet),
		TEST(takes_the_smallest_frames),
		TEST(takes_packets_in_segments),
		TEST(leaves_shared_packets_alone),
		TEST(puts_stripped_tags_back),
		TEST(drops_what_is_no_frame),
		TEST(keeps_the_order_of_a_burst),
		TEST(changes_rules_while_packets_flow),
		TEST(spreads_misses_if_told_to),
		TEST(refuses_devargs_that_make_no_sense),
	};

	return cmocka_run_group_tests(tests, nic_setup, nic_teardown);
}
