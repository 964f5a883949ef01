/* SPDX-License-Identifier: Apache-2.0 */

/* What each action does to a frame, and which orders of actions are refused. */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "fake.h"

/* A table that all frames from PF0 and the VFs come to. */
static struct cx_table *
first_table(void)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);
	struct match all = { 0 };

	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	return t;
}

static struct match
from(const struct cx_vport *v)
{
	struct match m = { 0 };

	match_source(&m, v);
	return m;
}

/* Has the frame come from VF 0, or PF0, through a rule with that action, and returns what leaves by
 * VF 1. */
static const struct frame *
through(struct cx_vport *source, const struct frame *f, struct cx_action *action)
{
	struct match m = from(source);

	assert_non_null(action);
	assert_non_null(rule(first_table(), 1, &m, action, vport(VF(1)), NULL));
	from_far(source, f);
	return came(FAKE_FAR, VF(1));
}

static struct frame
tcp4(void)
{
	struct frame f = tcp4_frame(0x10);
	struct rte_ipv4_hdr *ip = (void *)(f.data + 14);
	struct rte_tcp_hdr *tcp = (void *)(f.data + 34);

	tcp->cksum = 0;
	tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
	checksums_are_right(&f);
	return f;
}

static struct frame
tcp6(void)
{
	struct frame f = { 0 };
	struct rte_tcp_hdr *tcp = (void *)(f.data + 54);

	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00:1::3", "fc00:2::4", IPPROTO_TCP, 62, 20);
	frame_tcp(&f, 0x1234, 0x5678, 0x12);
	tcp->cksum = rte_ipv6_udptcp_cksum((void *)(f.data + 14), tcp);
	checksums_are_right(&f);
	return f;
}

struct modify_case {
	uint32_t field, at, bits, value;
	struct frame (*frame)(void);
	uint32_t where, n; /* bytes of the frame */
	uint32_t want;     /* what they are then */
};

static void
every_field_is_set(void **state)
{
	static const struct modify_case cases[] = {
		{ MLX5_MODI_OUT_DMAC_47_16, 0, 0, 0x0a0b0c0d, tcp4, 0, 4, 0x0a0b0c0d },
		{ MLX5_MODI_OUT_DMAC_15_0, 0, 16, 0x0e0f, tcp4, 4, 2, 0x0e0f },
		{ MLX5_MODI_OUT_SMAC_47_16, 0, 0, 0x1a1b1c1d, tcp4, 6, 4, 0x1a1b1c1d },
		{ MLX5_MODI_OUT_SMAC_15_0, 0, 16, 0x1e1f, tcp4, 10, 2, 0x1e1f },
		{ MLX5_MODI_OUT_ETHERTYPE, 0, 16, 0x88b5, tcp4, 12, 2, 0x88b5 },
		{ MLX5_MODI_OUT_IP_DSCP, 0, 6, 0x2e, tcp4, 15, 1, 0xb8 },
		{ MLX5_MODI_OUT_IP_ECN, 0, 2, 3, tcp4, 15, 1, 3 },
		{ MLX5_MODI_OUT_IP_DSCP, 0, 6, 0x2e, tcp6, 14, 2, 0x6b80 },
		{ MLX5_MODI_OUT_IP_ECN, 0, 2, 3, tcp6, 14, 2, 0x6030 },
		{ MLX5_MODI_OUT_IPV4_TTL, 0, 8, 9, tcp4, 22, 1, 9 },
		{ MLX5_MODI_OUT_IPV6_HOPLIMIT, 0, 8, 9, tcp6, 21, 1, 9 },
		{ MLX5_MODI_OUT_SIPV4, 0, 0, 0xc0000201, tcp4, 26, 4, 0xc0000201 },
		{ MLX5_MODI_OUT_DIPV4, 0, 0, 0xc0000202, tcp4, 30, 4, 0xc0000202 },
		{ MLX5_MODI_OUT_SIPV6_127_96, 0, 0, 0x20010db8, tcp6, 22, 4, 0x20010db8 },
		{ MLX5_MODI_OUT_SIPV6_95_64, 0, 0, 0x11121314, tcp6, 26, 4, 0x11121314 },
		{ MLX5_MODI_OUT_SIPV6_63_32, 0, 0, 0x21222324, tcp6, 30, 4, 0x21222324 },
		{ MLX5_MODI_OUT_SIPV6_31_0, 0, 0, 0x31323334, tcp6, 34, 4, 0x31323334 },
		{ MLX5_MODI_OUT_DIPV6_127_96, 0, 0, 0x20010db8, tcp6, 38, 4, 0x20010db8 },
		{ MLX5_MODI_OUT_DIPV6_95_64, 0, 0, 0x11121314, tcp6, 42, 4, 0x11121314 },
		{ MLX5_MODI_OUT_DIPV6_63_32, 0, 0, 0x21222324, tcp6, 46, 4, 0x21222324 },
		{ MLX5_MODI_OUT_DIPV6_31_0, 0, 0, 0x31323334, tcp6, 50, 4, 0x31323334 },
		{ MLX5_MODI_OUT_TCP_SPORT, 0, 16, 4711, tcp4, 34, 2, 4711 },
		{ MLX5_MODI_OUT_TCP_DPORT, 0, 16, 4712, tcp6, 56, 2, 4712 },
		{ MLX5_MODI_OUT_TCP_FLAGS, 0, 9, 0x1c2, tcp4, 46, 2, 0x51c2 },
		{ MLX5_MODI_OUT_TCP_SEQ_NUM, 0, 0, 0x41424344, tcp4, 38, 4, 0x41424344 },
		{ MLX5_MODI_OUT_TCP_ACK_NUM, 0, 0, 0x51525354, tcp6, 62, 4, 0x51525354 },
		/* Parts of fields. */
		{ MLX5_MODI_OUT_DMAC_47_16, 8, 8, 0xff, tcp4, 0, 4, 0x0200ff00 },
		{ MLX5_MODI_OUT_DIPV4, 0, 8, 0x63, tcp4, 30, 4, 0x0a000063 },
	};
	uint32_t i, k, value;

	for (i = 0; i < RTE_DIM(cases); i++) {
		const struct modify_case *c = &cases[i];
		struct frame f = c->frame();
		const struct frame *got =
			through(VF(0), &f, set(fdb, c->field, c->at, c->bits, c->value));

		assert_int_equal(got->len, f.len);
		for (k = 0, value = 0; k < c->n; k++)
			value = value << 8 | got->data[c->where + k];
		assert_int_equal(value, c->want);
		if (c->field != MLX5_MODI_OUT_ETHERTYPE)
			checksums_are_right(got);
		fake_check(state);
		fake_reset(state);
	}
}

static void
the_ttl_is_decremented(void **state)
{
	struct frame v4 = tcp4(), v6 = tcp6();
	const struct frame *got = through(VF(0), &v4, add(fdb, MLX5_MODI_OUT_IPV4_TTL, 0xff));

	assert_int_equal(got->data[22], 63);
	checksums_are_right(got);
	fake_check(state);
	fake_reset(state);
	got = through(VF(0), &v6, add(fdb, MLX5_MODI_OUT_IPV6_HOPLIMIT, 0xff));
	assert_int_equal(got->data[21], 61);
}

static void
a_frame_without_the_field_stays_as_it_is(void **state)
{
	struct frame f = { 0 };
	const struct frame *got;

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x0806);
	frame_fill(&f, 0, 46);
	got = through(VF(0), &f, set(fdb, MLX5_MODI_OUT_IPV4_TTL, 0, 8, 9));
	assert_int_equal(got->len, f.len);
	assert_memory_equal(got->data, f.data, f.len);
}

/* A register that one table writes is there in the next. */
static void
registers_are_written_and_copied(void **state)
{
	struct cx_table *t = first_table(), *second = table(fdb, 2), *third = table(fdb, 3);
	struct match m = from(VF(0)), by_c2 = { 0 }, by_c3 = { 0 };
	struct frame f = tcp4();

	(void)state;
	assert_non_null(rule(t, 1, &m, set(fdb, MLX5_MODI_META_REG_C_2, 8, 16, 0xbeef),
			     jump(second), NULL));
	MATCH(&by_c2, misc_parameters_2.metadata_reg_c_2, 0xbeef00, 0xffffffff);
	assert_non_null(rule(second, 1, &by_c2,
			     copy(fdb, MLX5_MODI_META_REG_C_2, MLX5_MODI_META_REG_C_3, 0),
			     jump(third), NULL));
	MATCH(&by_c3, misc_parameters_2.metadata_reg_c_3, 0xbeef00, 0xffffffff);
	assert_non_null(rule(third, 1, &by_c3, vport(VF(2)), NULL));
	from_far(VF(0), &f);
	came(FAKE_FAR, VF(2));
}

/* The driver's memory of commands is not aligned. */
static void
commands_may_lie_anywhere(void **state)
{
	uint8_t room[3 * sizeof(uint64_t)] = { 0 };
	uint64_t command = 0;
	struct frame f = tcp4();
	uint32_t at;

	for (at = 0; at < sizeof(command); at++) {
		MLX5_SET(set_action_in, &command, action_type, MLX5_MODIFICATION_TYPE_SET);
		MLX5_SET(set_action_in, &command, field, MLX5_MODI_OUT_IPV4_TTL);
		MLX5_SET(set_action_in, &command, length, 8);
		MLX5_SET(set_action_in, &command, data, 9);
		memcpy(room + at, &command, sizeof(command));
		assert_int_equal(
			through(VF(0), &f,
				keep(fake_glue.dv_create_flow_action_modify_header(
					NULL, 0, fdb, 0, sizeof(command), (void *)(room + at))))
				->data[22],
			9);
		fake_check(state);
		fake_reset(state);
	}
}

static struct cx_action *
two_commands(uint32_t field, uint32_t other)
{
	uint64_t commands[2] = { 0 };

	MLX5_SET(set_action_in, &commands[0], action_type, MLX5_MODIFICATION_TYPE_SET);
	MLX5_SET(set_action_in, &commands[0], field, field);
	MLX5_SET(set_action_in, &commands[0], length, 8);
	MLX5_SET(set_action_in, &commands[1], action_type, MLX5_MODIFICATION_TYPE_SET);
	MLX5_SET(set_action_in, &commands[1], field, other);
	MLX5_SET(set_action_in, &commands[1], length, 8);
	return keep(fake_glue.dv_create_flow_action_modify_header(NULL, 0, fdb, 0, sizeof(commands),
								  commands));
}

static void
modify_headers_are_refused_as_rdma_core_does(void **state)
{
	(void)state;
	assert_null(set(fdb, MLX5_MODI_META_REG_C_6, 0, 0, 1));
	assert_int_equal(errno, EINVAL);
	assert_null(set(fdb, MLX5_MODI_IN_DIPV4, 0, 0, 1));
	assert_int_equal(errno, EINVAL);
	assert_null(set(fdb, MLX5_MODI_OUT_TCP_SPORT, 1, 16, 1));
	assert_int_equal(errno, EINVAL);
	assert_null(set(fdb, MLX5_MODI_META_DATA_REG_A, 0, 0, 1));
	assert_int_equal(errno, EINVAL);
	assert_non_null(set(tx, MLX5_MODI_META_DATA_REG_A, 0, 0, 1));
	assert_null(set(tx, MLX5_MODI_META_DATA_REG_B, 0, 0, 1));
	assert_int_equal(errno, EINVAL);
	assert_non_null(set(rx, MLX5_MODI_META_DATA_REG_B, 0, 0, 1));
	assert_null(add(fdb, MLX5_MODI_OUT_DIPV4, 1));
	assert_int_equal(errno, EINVAL);
	assert_null(copy(fdb, MLX5_MODI_OUT_TCP_SPORT, MLX5_MODI_META_REG_C_2, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(two_commands(MLX5_MODI_OUT_IPV4_TTL, MLX5_MODI_OUT_IPV6_HOPLIMIT));
	assert_int_equal(errno, ENOTSUP);
	assert_null(two_commands(MLX5_MODI_OUT_TCP_SPORT, MLX5_MODI_OUT_UDP_SPORT));
	assert_int_equal(errno, EINVAL);
}

static struct frame
tunnel_header(uint8_t proto, bool udp)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_C, MAC_B, 0x86dd);
	frame_ipv6(&f, "fc00:1::1", "fc00:2::1", proto, 64, 0);
	if (udp)
		frame_udp(&f, 0, 4789, 0);
	return f;
}

/* An L3 tunnel takes the place of the link layer; its length is the card's to fill. */
static void
an_l3_tunnel_is_put_on(void **state)
{
	struct frame f = tcp4(), header = tunnel_header(IPPROTO_IPIP, false);
	const struct frame *got = through(VF(0), &f, reformat(fdb, ENCAP_L3, &header));
	const struct rte_ipv6_hdr *ip = (const void *)(got->data + 14);

	(void)state;
	assert_int_equal(got->len, f.len - 14 + header.len);
	assert_int_equal(rte_be_to_cpu_16(ip->payload_len), f.len - 14);
	assert_memory_equal(got->data, header.data, 18);
	assert_memory_equal(got->data + header.len, f.data + 14, f.len - 14);
}

/* An L2 tunnel goes before the frame; the UDP header has its length and a source port that depends
 * on the flow. */
static void
an_l2_tunnel_is_put_on(void **state)
{
	struct frame a = udp4_frame(1, 2), b = udp4_frame(3, 4),
		     header = tunnel_header(IPPROTO_UDP, true);
	const struct rte_udp_hdr *udp;
	const struct frame *got;
	struct match m = from(VF(0));
	uint16_t port;

	(void)state;
	assert_non_null(
		rule(first_table(), 1, &m, reformat(fdb, ENCAP_L2, &header), vport(PF0), NULL));
	from_far(VF(0), &a);
	got = came(FAKE_FAR, PF0);
	udp = (const void *)(got->data + 54);
	assert_int_equal(got->len, a.len + header.len);
	assert_memory_equal(got->data + header.len, a.data, a.len);
	assert_int_equal(rte_be_to_cpu_16(udp->dgram_len), a.len + 8);
	port = rte_be_to_cpu_16(udp->src_port);
	assert_true(port >= 49152);
	from_far(VF(0), &a);
	came(FAKE_FAR, PF0);
	assert_int_equal(rte_be_to_cpu_16(udp->src_port), port);
	from_far(VF(0), &b);
	came(FAKE_FAR, PF0);
	assert_int_not_equal(rte_be_to_cpu_16(udp->src_port), port);
}

static void
an_l3_tunnel_is_taken_off(void **state)
{
	struct frame f = ipip_frame(), link = { 0 };
	const struct frame *got;

	(void)state;
	frame_eth(&link, MAC_A, MAC_C, 0x0800);
	got = through(PF0, &f, reformat(fdb, DECAP_L3, &link));
	assert_int_equal(got->len, f.len - 40);
	assert_memory_equal(got->data, link.data, 14);
	assert_memory_equal(got->data + 14, f.data + 54, f.len - 54);
}

static void
what_is_no_tunnel_cannot_be_taken_off(void **state)
{
	struct match m = from(PF0);
	struct frame f = tcp4(), link = { 0 };
	struct cx_table *t = first_table();

	(void)state;
	frame_eth(&link, MAC_A, MAC_C, 0x0800);
	assert_non_null(rule(t, 2, &m, reformat(fdb, DECAP_L2, NULL), vport(VF(1)), NULL));
	from_far(PF0, &f);
	assert_non_null(rule(t, 1, &m, reformat(fdb, DECAP_L3, &link), vport(VF(1)), NULL));
	from_far(PF0, &f);
	nothing_came();
	assert_int_equal(fake_stat(PF0, "decap_failed"), 2);
}

static void
vxlan_is_taken_off(void **state)
{
	struct frame f = tunnel_header(IPPROTO_UDP, true), inner = tcp4();
	struct rte_ipv6_hdr *ip = (void *)(f.data + 14);
	const struct frame *got;

	(void)state;
	frame_bytes(&f, "\x08\0\0\0\0\0\x03\0", 8);
	frame_bytes(&f, inner.data, inner.len);
	ip->payload_len = rte_cpu_to_be_16(f.len - 54);
	got = through(PF0, &f, reformat(fdb, DECAP_L2, NULL));
	assert_int_equal(got->len, inner.len);
	assert_memory_equal(got->data, inner.data, inner.len);
}

static void
reformats_are_refused_as_rdma_core_does(void **state)
{
	struct frame header = tunnel_header(IPPROTO_IPIP, false);

	(void)state;
	assert_null(reformat(rx, ENCAP_L3, &header));
	assert_int_equal(errno, EINVAL);
	assert_null(reformat(tx, DECAP_L2, NULL));
	assert_int_equal(errno, EINVAL);
	assert_non_null(reformat(tx, ENCAP_L2, &header));
	assert_non_null(reformat(rx, DECAP_L2, NULL));
	assert_null(reformat(fdb, 17, &header));
	assert_int_equal(errno, EINVAL);
}

static void
tags_are_pushed_and_popped(void **state)
{
	struct frame f = tcp4();
	struct frame pushed = *through(VF(0), &f, push_vlan(0x8100, 0x2005));
	const struct frame *got;

	assert_int_equal(pushed.len, f.len + 4);
	assert_memory_equal(pushed.data + 12, "\x81\x00\x20\x05\x08\x00", 6);
	fake_check(state);
	fake_reset(state);
	got = through(VF(0), &pushed, pop_vlan());
	assert_int_equal(got->len, f.len);
	assert_memory_equal(got->data, f.data, f.len);
	assert_null(push_vlan(0x0800, 5));
	assert_int_equal(errno, EINVAL);
}

static void
the_vlan_is_set(void **state)
{
	struct frame f = { 0 };
	const struct frame *got;

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x8100);
	frame_vlan(&f, 0xb064, 0x0806);
	frame_fill(&f, 0, 46);
	got = through(VF(0), &f, set(fdb, MLX5_MODI_OUT_FIRST_VID, 0, 12, 7));
	assert_memory_equal(got->data + 12, "\x81\x00\xb0\x07\x08\x06", 6);
}

/* Counters and ages see the frame as it came, wherever they are in the list. */
static void
hits_are_counted(void **state)
{
	struct frame f = tcp4(), header = tunnel_header(IPPROTO_IPIP, false);
	struct match m = from(VF(0));

	(void)state;
	assert_non_null(rule(first_table(), 1, &m, flow_hit(9, 77),
			     reformat(fdb, ENCAP_L3, &header), vport(PF0), counter(5), NULL));
	from_far(VF(0), &f);
	came(FAKE_FAR, PF0);
	assert_int_equal(fake_counters[5].packets, 1);
	assert_int_equal(fake_counters[5].bytes, f.len);
	assert_int_equal(fake_aso_hits, 1);
	assert_int_equal(fake_aso_object, 9);
	assert_int_equal(fake_aso_offset, 77);
}

/* ---- orders ---- */

enum { MAX_ACTIONS = 5 };

struct order_case {
	const char *name;
	uint8_t format;      /* of the steering: 0 CX-5, 1 CX-6 Dx */
	char domain;         /* w: FDB from the wire, v: FDB from a vport, r, t: NIC */
	const char *actions; /* a letter each */
	int error;
};

static struct cx_action *
action_of(char letter, struct cx_domain *d, struct cx_table *next)
{
	struct frame header = tunnel_header(IPPROTO_IPIP, false), link = { 0 };

	frame_eth(&link, MAC_A, MAC_C, 0x0800);
	switch (letter) {
	case 'd':
		return reformat(d, DECAP_L3, &link);
	case 'D':
		return reformat(d, DECAP_L2, NULL);
	case 'e':
		return reformat(d, ENCAP_L2, &header);
	case 'E':
		return reformat(d, ENCAP_L3, &header);
	case 'm':
		return set(d, MLX5_MODI_META_REG_C_2, 0, 0, 1);
	case 'c':
		return counter(1);
	case 'a':
		return flow_hit(1, 1);
	case 'p':
		return pop_vlan();
	case 'P':
		return push_vlan(0x8100, 1);
	case 't':
		return mark(1);
	case 'J':
		return jump(next);
	case 'V':
		return vport(VF(1));
	case 'X':
		return drop();
	case 'M':
		return miss();
	default:
		return tir(1);
	}
}

static void
orders_are_refused_as_rdma_core_does(void **state)
{
	static const struct order_case cases[] = {
		{ "fate alone", 1, 'v', "V", 0 },
		{ "nothing", 1, 'v', "", 0 },
		{ "count behind the fate", 1, 'v', "Vc", 0 },
		{ "age behind the fate", 1, 'v', "Va", EOPNOTSUPP },
		{ "two fates", 1, 'v', "VJ", EOPNOTSUPP },
		{ "two counters", 1, 'v', "ccV", EINVAL },
		{ "two modify headers", 1, 'v', "mmV", EINVAL },
		{ "decap from the wire", 1, 'w', "dJ", 0 },
		{ "decap from a vport", 1, 'v', "dJ", EOPNOTSUPP },
		{ "L2 decap from a vport", 1, 'v', "DJ", EOPNOTSUPP },
		{ "decap, modify", 1, 'w', "dmJc", 0 },
		{ "modify, decap", 1, 'w', "mdJ", EOPNOTSUPP },
		{ "decap, drop", 1, 'w', "dX", EOPNOTSUPP },
		{ "modify, encap", 1, 'v', "mEV", 0 },
		{ "encap, modify", 1, 'v', "EmV", EOPNOTSUPP },
		{ "encap, encap", 1, 'v', "EeV", EOPNOTSUPP },
		{ "encap from the wire", 1, 'w', "EV", 0 },
		{ "encap from the wire", 0, 'w', "EV", EINVAL },
		{ "encap, age", 1, 'v', "EaV", 0 },
		{ "encap from the wire, age", 1, 'w', "EaV", 0 },
		{ "encap, age in RX", 1, 'w', "EacV", 0 },
		{ "drop", 1, 'v', "cX", 0 },
		{ "modify, drop", 1, 'v', "mX", EOPNOTSUPP },
		{ "miss", 1, 'v', "M", 0 },
		{ "tag in the switch", 1, 'v', "tV", EOPNOTSUPP },
		{ "TIR in the switch", 1, 'v', "Q", EOPNOTSUPP },
		{ "pop from a vport", 1, 'v', "pV", 0 },
		{ "pop from a vport", 0, 'v', "pV", EINVAL },
		{ "pop from the wire", 0, 'w', "pV", 0 },
		{ "pop twice", 1, 'w', "ppV", 0 },
		{ "pop thrice", 1, 'w', "pppV", EINVAL },
		{ "pop, push from the wire", 1, 'w', "pPV", EOPNOTSUPP },
		{ "pop, push from a vport", 1, 'v', "pPV", 0 },
		{ "pop, modify", 1, 'w', "pmV", 0 },
		{ "modify, pop", 1, 'w', "mpV", EOPNOTSUPP },
		{ "push from the wire", 0, 'w', "PV", EINVAL },
		{ "push from a vport", 0, 'v', "PV", 0 },
		{ "push thrice", 1, 'v', "PPPV", ENOTSUP },
		{ "push, encap", 1, 'v', "PEV", 0 },
		{ "push, modify", 1, 'v', "PmV", EOPNOTSUPP },
		{ "mark, TIR", 1, 'r', "tQ", 0 },
		{ "modify, mark, TIR", 1, 'r', "mtQ", 0 },
		{ "drop in RX", 1, 'r', "X", 0 },
		{ "mark in TX", 1, 't', "tJ", EOPNOTSUPP },
		{ "TIR in TX", 1, 't', "Q", EOPNOTSUPP },
		{ "encap in TX", 1, 't', "EJ", 0 },
		{ "port in RX", 1, 'r', "V", EINVAL },
	};
	uint32_t i, k;

	for (i = 0; i < RTE_DIM(cases); i++) {
		const struct order_case *c = &cases[i];
		struct cx_domain *d = c->domain == 'r' ? rx : c->domain == 't' ? tx : fdb;
		struct cx_table *t = table(d, 2), *next = table(d, 3);
		struct match m = from(c->domain == 'w' ? PF0 : VF(0));
		struct cx_action *actions[MAX_ACTIONS] = { NULL };
		struct cx_rule *made;

		fake_profile.steering_format = 1;
		for (k = 0; c->actions[k] != 0; k++) {
			actions[k] = action_of(c->actions[k], d, next);
			assert_non_null(actions[k]);
		}
		fake_profile.steering_format = c->format;
		made = rule(t, 1, &m, actions[0], actions[1], actions[2], actions[3], NULL);
		if ((made == NULL ? errno : 0) != c->error)
			fail_msg("%s: %d instead of %d", c->name, made == NULL ? errno : 0,
				 c->error);
		fake_check(state);
		fake_reset(state);
	}
}

/* A rule that is on both sides of the switch has to be right on both. */
static void
both_sides_are_checked(void **state)
{
	struct match all = { 0 };
	struct cx_table *t = table(fdb, 1);

	(void)state;
	assert_null(rule(t, 1, &all, reformat(fdb, DECAP_L2, NULL), vport(VF(1)), NULL));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_non_null(rule(t, 1, &all, vport(VF(1)), NULL));
}

static void
jumps_lead_up(void **state)
{
	struct match all = { 0 };
	struct cx_table *two = table(fdb, 2), *one = table(fdb, 1), *other_two = table(fdb, 2),
			*in_rx = table(rx, 5);

	(void)state;
	assert_null(rule(two, 1, &all, jump(two), NULL));
	assert_int_equal(errno, EINVAL);
	assert_null(rule(two, 1, &all, jump(other_two), NULL));
	assert_int_equal(errno, EINVAL);
	assert_null(rule(two, 1, &all, jump(one), NULL));
	assert_int_equal(errno, EINVAL);
	assert_null(rule(two, 1, &all, jump(in_rx), NULL));
	assert_int_equal(errno, EINVAL);
	assert_non_null(rule(one, 1, &all, jump(two), NULL));
	assert_null(jump(table(fdb, 0)));
	assert_int_equal(errno, EINVAL);
}

static void
root_tables_know_fewer_actions(void **state)
{
	struct match all = { 0 };
	struct cx_table *root = table(fdb, 0);
	uint32_t id = 1;

	(void)state;
	assert_null(rule(root, 1, &all, vport(VF(1)), NULL));
	assert_int_equal(errno, ENOTSUP);
	assert_null(rule(root, 1, &all, flow_hit(1, 1), drop(), NULL));
	assert_int_equal(errno, ENOTSUP);
	assert_null(rule(root, 1, &all, set(fdb, MLX5_MODI_META_REG_C_2, 0, 0, 1), drop(), NULL));
	assert_int_equal(errno, EINVAL);
	/* How the driver finds out whether counters of a bulk can be distinguished there. */
	assert_null(rule(root, 1, &all,
			 keep(fake_glue.dv_create_flow_action_counter(&id, UINT16_MAX)), NULL));
	assert_int_equal(errno, EINVAL);
	assert_non_null(rule(root, 1, &all, keep(fake_glue.dv_create_flow_action_counter(&id, 3)),
			     drop(), NULL));
}

static void
actions_of_the_switch_need_one(void **state)
{
	(void)state;
	assert_null(keep(fake_glue.dr_create_flow_action_dest_port(rx, 1)));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(keep(fake_glue.dr_create_flow_action_dest_port(fdb, 5)));
	assert_int_equal(errno, EINVAL);
	assert_null(fake_glue.dr_create_domain(fake_pf1.context, MLX5DV_DR_DOMAIN_TYPE_FDB));
	assert_int_equal(errno, EOPNOTSUPP);
}

static void
a_cx5_has_no_flow_hits(void **state)
{
	uint32_t object = 1;

	(void)state;
	fake_profile.steering_format = 0;
	assert_null(flow_hit(1, 1));
	assert_int_equal(errno, EOPNOTSUPP);
	fake_profile.steering_format = 1;
	assert_null(
		keep(fake_glue.dv_create_flow_action_aso((void *)rx, &object, 1, FIRST_HIT, 4)));
	assert_int_equal(errno, EINVAL);
}

static void
what_nobody_has_asked_for_is_refused_by_name(void **state)
{
	uint32_t object = 1;

	(void)state;
	assert_null(fake_glue.dv_create_flow_action_dest_ibv_qp(NULL));
	assert_string_equal(fake_refused, "action: destination QP");
	assert_null(fake_glue.dv_create_flow_action_meter(NULL));
	assert_string_equal(fake_refused, "action: meter");
	assert_null(fake_glue.dr_create_flow_action_send_to_kernel(NULL, 3));
	assert_string_equal(fake_refused, "action: send to kernel, priority 3");
	assert_null(fake_glue.dv_create_flow_action_aso((void *)rx, &object, 1, 2, 5));
	assert_string_equal(fake_refused, "action: ASO with flags 0x2");
}

static void
arrays_are_refused_as_rdma_core_does(void **state)
{
	struct frame header = tunnel_header(IPPROTO_IPIP, false), link = { 0 };
	struct mlx5dv_dr_action_dest_attr one = { .type = MLX5DV_DR_ACTION_DEST,
						  .dest = (void *)vport(VF(1)) };
	struct mlx5dv_dr_action_dest_attr *dests[] = { &one };

	(void)state;
	frame_eth(&link, MAC_A, MAC_C, 0x0800);
	assert_null(fake_glue.dr_create_flow_action_dest_array(fdb, 1, dests));
	assert_int_equal(errno, EINVAL);
	assert_null(mirror(fdb, NULL, drop(), vport(VF(1))));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(mirror(rx, NULL, vport(VF(1)), tir(1)));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(mirror(fdb, reformat(fdb, DECAP_L3, &link), vport(PF0), vport(VF(1))));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(mirror(tx, NULL, tir(1), tir(2)));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_non_null(mirror(fdb, reformat(fdb, ENCAP_L2, &header), vport(PF0), miss()));
}

static struct cx_action *
sampler(struct cx_table *next, uint32_t ratio, struct cx_action *sampled, uint32_t field)
{
	struct mlx5dv_dr_action *actions[] = { (void *)sampled };
	struct mlx5dv_dr_flow_sampler_attr attr = {
		.sample_ratio = ratio,
		.default_next_table = (void *)next,
		.num_sample_actions = 1,
		.sample_actions = actions,
	};

	MLX5_SET(set_action_in, &attr.action, action_type, MLX5_MODIFICATION_TYPE_SET);
	MLX5_SET(set_action_in, &attr.action, field, field);
	MLX5_SET(set_action_in, &attr.action, data, VF(0)->meta_tag);
	return keep(fake_glue.dr_create_flow_action_sampler(&attr));
}

static void
samplers_are_refused_as_rdma_core_does(void **state)
{
	struct cx_table *next = table(fdb, 3);
	struct match all = { 0 };

	(void)state;
	assert_null(sampler(next, 0, vport(VF(1)), 0));
	assert_int_equal(errno, EINVAL);
	assert_null(sampler(next, 2, drop(), 0));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(sampler(next, 2, counter(1), 0));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(sampler(table(tx, 3), 2, counter(1), 0));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_null(rule(next, 1, &all, sampler(next, 2, vport(VF(1)), 0), NULL));
	assert_int_equal(errno, EINVAL);
	fake_profile.steering_format = 0;
	assert_null(sampler(next, 2, vport(VF(1)), MLX5_MODI_META_REG_C_1));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_non_null(sampler(next, 2, vport(VF(1)), MLX5_MODI_META_REG_C_0));
}

/* What is in use stays. */
static void
nothing_in_use_can_be_destroyed(void **state)
{
	struct match all = { 0 };
	struct cx_table *t = table(fdb, 1), *next = table(fdb, 2);
	struct cx_action *to = jump(next), *out = vport(VF(1)), *second = vport(VF(2));
	struct cx_action *both = mirror(fdb, NULL, out, second);
	struct cx_rule *made = rule(t, 1, &all, to, NULL);

	(void)state;
	assert_non_null(made);
	assert_int_equal(fake_glue.dr_destroy_domain(fdb), EBUSY);
	assert_int_equal(fake_glue.dr_destroy_flow_tbl(t), EBUSY);
	assert_int_equal(fake_glue.dr_destroy_flow_tbl(next), EBUSY);
	assert_int_equal(fake_glue.dv_destroy_flow_matcher(made->matcher), EBUSY);
	assert_int_equal(fake_glue.destroy_flow_action(to), EBUSY);
	assert_int_equal(fake_glue.destroy_flow_action(out), EBUSY);
	assert_non_null(both);
}

static void
calls_fail_as_a_test_asks(void **state)
{
	struct match all = { 0 };
	struct cx_table *t = table(fdb, 1);
	struct cx_action *out = drop();
	struct cx_rule *made = rule(t, 1, &all, out, NULL);
	static const char *const what[] = { "table", "matcher", "action", "rule" };
	uint32_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(what); i++) {
		struct cx_steering_counts before = cx_steering_counts();

		fake_fail = what[i];
		switch (i) {
		case 0:
			assert_null(table(fdb, 2));
			break;
		case 1:
			assert_null(matcher(t, 2, &all));
			break;
		case 2:
			assert_null(drop());
			break;
		default:
			assert_null(rule(t, 1, &all, out, NULL));
			before.matchers++;
			break;
		}
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(cx_steering_counts().tables, before.tables);
		assert_int_equal(cx_steering_counts().matchers, before.matchers);
		assert_int_equal(cx_steering_counts().actions, before.actions);
		assert_int_equal(cx_steering_counts().rules, before.rules);
	}
	fake_fail = "rule";
	assert_int_equal(fake_glue.dv_destroy_flow(made), ENOMEM);
	fake_fail = "action";
	assert_int_equal(fake_glue.destroy_flow_action(out), ENOMEM);
	fake_fail = "matcher";
	assert_int_equal(fake_glue.dv_destroy_flow_matcher(made->matcher), ENOMEM);
	fake_fail = "table";
	assert_int_equal(fake_glue.dr_destroy_flow_tbl(t), ENOMEM);
}

/* ---- frames of any content ---- */

static uint32_t
random_below(uint32_t n)
{
	return (uint32_t)random() % n;
}

/* One of those that have headers, cut short and with bytes of it replaced. */
static struct frame
damaged_frame(void)
{
	struct frame frames[] = { tcp4(), tcp6(), udp4_frame(1, 4789), ipip_frame() };
	struct frame f = frames[random_below(RTE_DIM(frames))];
	uint32_t i;

	frame_bytes(&f, "\x08\0\0\0\0\0\x03\0", 8);
	frame_bytes(&f, frames[0].data, frames[0].len);
	for (i = random_below(4); i > 0; i--)
		f.data[random_below(f.len)] = random();
	f.len = 1 + random_below(f.len);
	return f;
}

/* Whatever comes: each action leaves a frame that can leave, or drops it. The sanitizers watch. */
static void
no_frame_does_harm(void **state)
{
	static const char *const orders[] = {
		"dJ", "DJ", "eV", "EV", "pV", "PV", "dEV", "DPV", "mV"
	};
	static const uint32_t all_fields[] = {
		MLX5_MODI_OUT_DMAC_15_0, MLX5_MODI_OUT_ETHERTYPE,  MLX5_MODI_OUT_IP_DSCP,
		MLX5_MODI_OUT_IP_ECN,    MLX5_MODI_OUT_IPV4_TTL,   MLX5_MODI_OUT_IPV6_HOPLIMIT,
		MLX5_MODI_OUT_SIPV4,     MLX5_MODI_OUT_DIPV6_31_0, MLX5_MODI_OUT_TCP_SPORT,
		MLX5_MODI_OUT_UDP_DPORT, MLX5_MODI_OUT_TCP_FLAGS,  MLX5_MODI_OUT_TCP_SEQ_NUM,
		MLX5_MODI_OUT_FIRST_VID,
	};
	struct match wire = from(PF0), any = { 0 };
	uint32_t i, k, n;

	srandom(1);
	for (i = 0; i < RTE_DIM(orders) + RTE_DIM(all_fields); i++) {
		struct cx_table *t = first_table(), *next = table(fdb, 3);
		struct cx_action *actions[MAX_ACTIONS] = { NULL };

		if (i < RTE_DIM(orders)) {
			for (k = 0; orders[i][k] != 0; k++)
				actions[k] = action_of(orders[i][k], fdb, next);
		} else {
			actions[0] = set(fdb, all_fields[i - RTE_DIM(orders)], 0, 2, 3);
			actions[1] = vport(VF(1));
		}
		assert_non_null(rule(t, 1, &wire, actions[0], actions[1], actions[2], NULL));
		assert_non_null(rule(next, 1, &any, vport(VF(1)), NULL));
		for (n = 0; n < 3000; n++) {
			struct frame f = damaged_frame();

			from_far(PF0, &f);
			assert_true(fake_n <= 1);
			fake_n = 0;
		}
		fake_check(state);
		fake_reset(state);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_reset, fake_check)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_field_is_set),
		TEST(the_ttl_is_decremented),
		TEST(a_frame_without_the_field_stays_as_it_is),
		TEST(registers_are_written_and_copied),
		TEST(commands_may_lie_anywhere),
		TEST(modify_headers_are_refused_as_rdma_core_does),
		TEST(an_l3_tunnel_is_put_on),
		TEST(an_l2_tunnel_is_put_on),
		TEST(an_l3_tunnel_is_taken_off),
		TEST(what_is_no_tunnel_cannot_be_taken_off),
		TEST(vxlan_is_taken_off),
		TEST(reformats_are_refused_as_rdma_core_does),
		TEST(tags_are_pushed_and_popped),
		TEST(the_vlan_is_set),
		TEST(hits_are_counted),
		TEST(orders_are_refused_as_rdma_core_does),
		TEST(both_sides_are_checked),
		TEST(jumps_lead_up),
		TEST(root_tables_know_fewer_actions),
		TEST(actions_of_the_switch_need_one),
		TEST(a_cx5_has_no_flow_hits),
		TEST(what_nobody_has_asked_for_is_refused_by_name),
		TEST(arrays_are_refused_as_rdma_core_does),
		TEST(samplers_are_refused_as_rdma_core_does),
		TEST(nothing_in_use_can_be_destroyed),
		TEST(calls_fail_as_a_test_asks),
		TEST(no_frame_does_harm),
	};

	return cmocka_run_group_tests(tests, fake_setup, fake_end);
}
