/* SPDX-License-Identifier: Apache-2.0 */

/* What matchers and rules look at in a frame, and which of them are refused. */

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "fake.h"

/* Frames whose fields all differ from one another's. */
static struct frame
tcp4(void)
{
	struct frame f = { 0 };

	frame_eth(&f, "\x02\x03\x04\x05\x06\x07", "\x12\x13\x14\x15\x16\x17", 0x0800);
	frame_ipv4(&f, "10.1.2.3", "10.4.5.6", IPPROTO_TCP, 61, 20);
	f.data[15] = 0xb9; /* DSCP 0x2e, ECN 1 */
	frame_tcp(&f, 0x1234, 0x5678, 0xd2);
	return f;
}

static struct frame
udp6(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00:1::3", "fc00:2::4", IPPROTO_UDP, 62, 8);
	f.data[14] = 0x6b; /* traffic class 0xb9, flow label 0x12345 */
	f.data[15] = 0x91;
	f.data[16] = 0x23;
	f.data[17] = 0x45;
	frame_udp(&f, 0x2345, 0x6789, 0);
	return f;
}

static struct frame
icmp4(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_ICMP, 64, 8);
	frame_icmp(&f, 8, 1, 0x1111, 0x2222);
	return f;
}

static struct frame
icmp6(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00:1::3", "fc00:2::4", IPPROTO_ICMPV6, 62, 8);
	frame_icmp(&f, 128, 2, 0x1111, 0x2222);
	return f;
}

static struct frame
tagged(uint16_t tpid, uint16_t tci)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, tpid);
	frame_vlan(&f, tci, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 64, 8);
	frame_udp(&f, 1, 2, 0);
	return f;
}

static struct frame
cvlan(void)
{
	return tagged(0x8100, 0xb064);
}
static struct frame
svlan(void)
{
	return tagged(0x88a8, 0x0064);
}

static struct frame
twice(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x88a8);
	frame_vlan(&f, 5, 0x8100);
	frame_vlan(&f, 6, 0x86dd);
	frame_ipv6(&f, "fc00:1::3", "fc00:2::4", IPPROTO_NONE, 62, 0);
	return f;
}

static struct frame
fragment(void)
{
	struct frame f = udp4_frame(1, 2);

	f.data[20] = 0x20;
	return f;
}

static struct frame
arp(void)
{
	struct frame f = { 0 };

	frame_eth(&f, "\xff\xff\xff\xff\xff\xff", MAC_A, 0x0806);
	frame_fill(&f, 0, 46);
	return f;
}

static struct frame
vxlan(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "192.0.2.1", "192.0.2.2", IPPROTO_UDP, 64, 8 + 8 + 18 + 40 + 20);
	frame_udp(&f, 50000, 4789, 8 + 18 + 40 + 20);
	frame_bytes(&f, "\x08\x00\x00\x00\xab\xcd\xef\x77", 8);
	frame_eth(&f, "\x22\x23\x24\x25\x26\x27", "\x32\x33\x34\x35\x36\x37", 0x8100);
	frame_vlan(&f, 0x5042, 0x86dd);
	frame_ipv6(&f, "fc00:3::1", "fc00:3::2", IPPROTO_TCP, 33, 20);
	f.data[f.len - 39] = 0x0a; /* flow label 0xabc00 */
	f.data[f.len - 38] = 0xbc;
	frame_tcp(&f, 0x4321, 0x8765, 0x12);
	return f;
}

/* What a field is in a frame; it is looked at together with an IP version, as software steering
 * asks for. */
struct field_case {
	const char *name;
	uint32_t at, bits;
	struct frame (*frame)(void);
	uint32_t value;
	uint8_t outer, inner; /* IP versions, 0: not looked at */
};

#define F(field, frame, value, ...)                                                      \
	{                                                                                \
#field, __mlx5_bit_off(fte_match_param, field),                          \
			__mlx5_bit_sz(fte_match_param, field), frame, value, __VA_ARGS__ \
	}

static const struct field_case cases[] = {
	F(outer_headers.dmac_47_16, tcp4, 0x02030405, 0, 0),
	F(outer_headers.dmac_15_0, tcp4, 0x0607, 0, 0),
	F(outer_headers.smac_47_16, tcp4, 0x12131415, 0, 0),
	F(outer_headers.smac_15_0, tcp4, 0x1617, 0, 0),
	F(outer_headers.ethertype, arp, 0x0806, 0, 0),
	F(outer_headers.ethertype, cvlan, 0x0800, 0, 0),
	F(outer_headers.ethertype, twice, 0x86dd, 0, 0),
	F(outer_headers.cvlan_tag, cvlan, 1, 0, 0),
	F(outer_headers.svlan_tag, cvlan, 0, 0, 0),
	F(outer_headers.cvlan_tag, svlan, 0, 0, 0),
	F(outer_headers.svlan_tag, svlan, 1, 0, 0),
	F(outer_headers.svlan_tag, twice, 1, 0, 0),
	F(outer_headers.cvlan_tag, tcp4, 0, 0, 0),
	F(outer_headers.first_vid, cvlan, 0x064, 0, 0),
	F(outer_headers.first_vid, twice, 5, 0, 0),
	F(outer_headers.first_prio, cvlan, 5, 0, 0),
	F(outer_headers.first_cfi, cvlan, 1, 0, 0),
	F(outer_headers.ip_protocol, tcp4, IPPROTO_TCP, 4, 0),
	F(outer_headers.ip_protocol, udp6, IPPROTO_UDP, 6, 0),
	F(outer_headers.ip_dscp, tcp4, 0x2e, 4, 0),
	F(outer_headers.ip_ecn, tcp4, 1, 4, 0),
	F(outer_headers.ip_dscp, udp6, 0x2e, 6, 0),
	F(outer_headers.ip_ecn, udp6, 1, 6, 0),
	F(outer_headers.ip_ttl_hoplimit, tcp4, 61, 4, 0),
	F(outer_headers.ip_ttl_hoplimit, udp6, 62, 6, 0),
	F(outer_headers.ipv4_ihl, tcp4, 5, 4, 0),
	F(outer_headers.frag, fragment, 1, 4, 0),
	F(outer_headers.frag, tcp4, 0, 4, 0),
	F(outer_headers.tcp_sport, tcp4, 0x1234, 4, 0),
	F(outer_headers.tcp_dport, tcp4, 0x5678, 4, 0),
	F(outer_headers.udp_sport, udp6, 0x2345, 6, 0),
	F(outer_headers.udp_dport, udp6, 0x6789, 6, 0),
	F(misc_parameters.source_port, tcp4, 1, 0, 0),
	F(misc_parameters.outer_ipv6_flow_label, udp6, 0x12345, 6, 0),
	F(misc_parameters.vxlan_vni, vxlan, 0xabcdef, 0, 0),
	F(misc_parameters.inner_ipv6_flow_label, vxlan, 0xabc00, 0, 6),
	F(misc_parameters_2.metadata_reg_c_0, tcp4, 0x10000, 0, 0),
	F(misc_parameters_2.metadata_reg_c_5, tcp4, 0, 0, 0),
	F(misc_parameters_3.icmp_type, icmp4, 8, 4, 0),
	F(misc_parameters_3.icmp_code, icmp4, 1, 4, 0),
	F(misc_parameters_3.icmp_header_data, icmp4, 0x11112222, 4, 0),
	F(misc_parameters_3.icmpv6_type, icmp6, 128, 6, 0),
	F(misc_parameters_3.icmpv6_code, icmp6, 2, 6, 0),
	F(misc_parameters_3.icmpv6_header_data, icmp6, 0x11112222, 6, 0),
	F(misc_parameters_5.tunnel_header_1, vxlan, 0xabcdef77, 0, 0),
	F(inner_headers.dmac_47_16, vxlan, 0x22232425, 0, 0),
	F(inner_headers.dmac_15_0, vxlan, 0x2627, 0, 0),
	F(inner_headers.smac_47_16, vxlan, 0x32333435, 0, 0),
	F(inner_headers.smac_15_0, vxlan, 0x3637, 0, 0),
	F(inner_headers.ethertype, vxlan, 0x86dd, 0, 0),
	F(inner_headers.cvlan_tag, vxlan, 1, 0, 0),
	F(inner_headers.first_vid, vxlan, 0x042, 0, 0),
	F(inner_headers.first_prio, vxlan, 2, 0, 0),
	F(inner_headers.ip_protocol, vxlan, IPPROTO_TCP, 0, 6),
	F(inner_headers.ip_ttl_hoplimit, vxlan, 33, 0, 6),
	F(inner_headers.tcp_sport, vxlan, 0x4321, 0, 6),
	F(inner_headers.tcp_dport, vxlan, 0x8765, 0, 6),
	F(inner_headers.ip_protocol, ipip_frame, IPPROTO_TCP, 6, 4),
};

static void
put(uint8_t *fte, uint32_t at, uint32_t bits, uint32_t value)
{
	for (; bits > 0; bits--, value >>= 1) {
		uint32_t bit = at + bits - 1;

		fte[bit / 8] = (fte[bit / 8] & ~(0x80 >> bit % 8)) | (value & 1) << (7 - bit % 8);
	}
}

static struct match
match_of(const struct field_case *c, uint32_t value)
{
	struct match m = { 0 };

	if (c->outer != 0)
		MATCH(&m, outer_headers.ip_version, c->outer, c->outer);
	if (c->inner != 0)
		MATCH(&m, inner_headers.ip_version, c->inner, c->inner);
	put(m.mask, c->at, c->bits, UINT32_MAX);
	put(m.value, c->at, c->bits, value);
	return m;
}

static struct cx_table *
from_root(void)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);
	struct match all = { 0 };

	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	return t;
}

/* A rule of each field takes a frame that has its value, and lets one pass that has not: every bit
 * of it counts. */
static void
every_field_is_compared(void **state)
{
	uint32_t i, bit;

	for (i = 0; i < RTE_DIM(cases); i++) {
		const struct field_case *c = &cases[i];
		struct frame f = c->frame();
		struct cx_table *t;
		struct match m = match_of(c, c->value);

		t = from_root();
		assert_non_null(rule(t, 1, &m, vport(VF(1)), NULL));
		from_far(VF(0), &f);
		came(FAKE_FAR, VF(1));
		fake_check(state);
		fake_reset(state);
		for (bit = 0; bit < c->bits; bit++) {
			m = match_of(c, c->value ^ 1u << bit);
			t = from_root();
			/* A source that is no port's may be refused, or match nothing. */
			rule(t, 1, &m, vport(VF(1)), NULL);
			from_far(VF(0), &f);
			came(FAKE_TWIN, VF(0));
			fake_check(state);
			fake_reset(state);
		}
	}
}

static void
tcp_flags_are_compared(void **state)
{
	struct cx_table *t = from_root();
	struct frame f = tcp4();
	struct match m = { 0 };

	(void)state;
	MATCH(&m, outer_headers.ip_version, 4, 4);
	MATCH(&m, outer_headers.ip_protocol, IPPROTO_TCP, 0xff);
	MATCH(&m, outer_headers.tcp_flags, 0x02, 0x07);
	assert_non_null(rule(t, 1, &m, vport(VF(1)), NULL));
	from_far(VF(0), &f);
	came(FAKE_FAR, VF(1));
	f.data[47] = 0x13;
	from_far(VF(0), &f);
	came(FAKE_TWIN, VF(0));
}

static void
addresses_are_compared(void **state)
{
	struct frame v4 = tcp4(), v6 = udp6();
	struct cx_table *t = from_root();
	struct match a = { 0 }, b = { 0 };

	(void)state;
	MATCH(&a, outer_headers.ip_version, 4, 4);
	MATCH_IPV4(&a, outer_headers.src_ipv4_src_ipv6, "10.1.2.3");
	MATCH_IPV4(&a, outer_headers.dst_ipv4_dst_ipv6, "10.4.5.6");
	MATCH(&b, outer_headers.ip_version, 6, 6);
	MATCH_IPV6(&b, outer_headers.src_ipv4_src_ipv6, "fc00:1::3");
	MATCH_IPV6(&b, outer_headers.dst_ipv4_dst_ipv6, "fc00:2::4");
	assert_non_null(rule(t, 1, &a, vport(VF(1)), NULL));
	assert_non_null(rule(t, 1, &b, vport(VF(2)), NULL));
	from_far(VF(0), &v4);
	came(FAKE_FAR, VF(1));
	from_far(VF(0), &v6);
	came(FAKE_FAR, VF(2));
	v4.data[33]++;
	from_far(VF(0), &v4);
	came(FAKE_TWIN, VF(0));
	v6.data[37]++;
	from_far(VF(0), &v6);
	came(FAKE_TWIN, VF(0));
}

/* In a root table the kernel's way of saying the version is known, too. */
static void
root_tables_know_the_version_as_a_number(void **state)
{
	struct frame v4 = tcp4(), v6 = udp6();
	struct match m = { 0 };
	struct cx_table *root = table(rx, 0);

	(void)state;
	MATCH(&m, outer_headers.ip_version, 6, 0xf);
	MATCH_IPV6(&m, outer_headers.dst_ipv4_dst_ipv6, "fc00:2::4");
	memset(m.mask + MLX5_BYTE_OFF(fte_match_param, outer_headers.dst_ipv4_dst_ipv6) + 8, 0, 8);
	assert_non_null(rule(root, 4, &m, tir(7), NULL));
	from_far(VF(0), &v6);
	came(FAKE_TIR, NULL);
	from_far(VF(0), &v4);
	came(FAKE_TWIN, VF(0));
}

static void
inner_headers_are_outer_ones_behind_a_decap(void **state)
{
	struct cx_table *t = from_root(), *next = table(fdb, 2);
	struct frame f = ipip_frame(), link = { 0 };
	struct match all = { 0 }, m = { 0 };

	(void)state;
	frame_eth(&link, MAC_C, MAC_B, 0x0800);
	match_source(&all, PF0);
	assert_non_null(rule(t, 1, &all, reformat(fdb, DECAP_L3, &link), jump(next), NULL));
	MATCH(&m, outer_headers.ip_version, 4, 4);
	MATCH(&m, outer_headers.ip_protocol, IPPROTO_TCP, 0xff);
	MATCH_IPV4(&m, outer_headers.dst_ipv4_dst_ipv6, "10.0.0.2");
	assert_non_null(rule(next, 1, &m, vport(VF(1)), NULL));
	from_far(PF0, &f);
	assert_memory_equal(came(FAKE_FAR, VF(1))->data, link.data, link.len);
}

struct refusal {
	const char *name;
	uint32_t at, bits;
};

#define R(field)                                                \
	{                                                       \
#field, __mlx5_bit_off(fte_match_param, field), \
			__mlx5_bit_sz(fte_match_param, field)   \
	}

static void
unknown_fields_are_refused_by_name(void **state)
{
	static const struct refusal refusals[] = {
		R(misc_parameters.gre_protocol),
		R(misc_parameters.geneve_vni),
		R(misc_parameters.outer_second_vid),
		R(misc_parameters_2.metadata_reg_c_6),
		R(misc_parameters_3.gtpu_teid),
		R(misc_parameters_3.outer_tcp_seq_num),
		R(misc_parameters_5.tunnel_header_0),
		R(outer_headers.l4_ok),
		R(inner_headers.l3_ok),
		R(misc_parameters.source_vhci_port),
	};
	char text[128];
	uint32_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(refusals); i++) {
		struct match m = { 0 };

		put(m.mask, refusals[i].at, refusals[i].bits, UINT32_MAX);
		assert_null(matcher(table(fdb, 1), 0, &m));
		assert_int_equal(errno, EOPNOTSUPP);
		snprintf(text, sizeof(text), "match: %s", refusals[i].name);
		assert_string_equal(fake_refused, text);
	}
}

/* Reserved bits have no name, and are refused nevertheless; also the ninth TCP flag, and sections
 * nobody knows. */
static void
no_bit_is_ignored(void **state)
{
	uint32_t bit;

	(void)state;
	for (bit = 0; bit < 8 * CX_FTE_SIZE; bit++) {
		struct match m = { 0 };
		struct cx_matcher *made;

		m.mask[bit / 8] = 0x80 >> bit % 8;
		made = matcher(table(fdb, 0), 0, &m);
		if (made == NULL)
			assert_string_not_equal(fake_refused, "");
		fake_check(state);
		fake_reset(state);
	}
}

static void
masks_are_refused_as_rdma_core_does(void **state)
{
	struct match partial = { 0 }, lone = { 0 }, port = { 0 }, version = { 0 }, sqn = { 0 };
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);

	(void)state;
	MATCH(&sqn, misc_parameters.source_sqn, 1, 0xffffff);
	MATCH(&partial, outer_headers.ip_version, 4, 0xf);
	assert_null(matcher(t, 0, &partial));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_non_null(matcher(root, 0, &partial));
	MATCH(&lone, outer_headers.ip_protocol, 6, 0xff);
	assert_null(matcher(t, 0, &lone));
	assert_int_equal(errno, EOPNOTSUPP);
	MATCH(&port, misc_parameters.source_port, 0, 0xff);
	assert_null(matcher(t, 0, &port));
	assert_int_equal(errno, ENOTSUP);
	assert_null(matcher(table(tx, 1), 0, &sqn));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_non_null(matcher(table(tx, 0), 0, &sqn));
	MATCH(&version, outer_headers.ip_version, 6, 4);
	assert_null(rule(t, 0, &version, drop(), NULL));
	assert_non_null(matcher(root, 15, &port));
	assert_null(matcher(root, 16, &port));
	assert_int_equal(errno, EINVAL);
}

static void
values_have_to_be_within_the_mask(void **state)
{
	struct match m = { 0 };

	(void)state;
	MATCH(&m, outer_headers.dmac_47_16, 0x101, 0xff);
	assert_null(rule(table(fdb, 1), 0, &m, drop(), NULL));
	assert_int_equal(errno, EINVAL);
}

/* A rule for the one side of the switch does not see the other's frames, also when it does not look
 * at the source. */
static void
rules_belong_to_sides(void **state)
{
	struct frame f = tcp4();
	struct match wire = { 0 };
	struct cx_table *t = from_root();

	(void)state;
	MATCH(&wire, misc_parameters.source_port, CX_VPORT_UPLINK, 0xffff);
	match_source(&wire, PF0);
	assert_non_null(rule(t, 1, &wire, vport(VF(1)), NULL));
	from_far(PF0, &f);
	came(FAKE_FAR, VF(1));
	from_far(VF(0), &f);
	came(FAKE_TWIN, VF(0));
}

/* A rule for packets from the wire and from a vport at once is accepted, and matches nothing. */
static void
a_rule_of_neither_side_matches_nothing(void **state)
{
	struct frame f = tcp4();
	struct match m = { 0 };
	struct cx_table *t = from_root();

	(void)state;
	MATCH(&m, misc_parameters.source_port, CX_VPORT_UPLINK, 0xffff);
	match_source(&m, VF(0));
	assert_non_null(rule(t, 1, &m, vport(VF(1)), NULL));
	from_far(PF0, &f);
	came(FAKE_TWIN, PF0);
	from_far(VF(0), &f);
	came(FAKE_TWIN, VF(0));
}

static void
the_lowest_priority_comes_first(void **state)
{
	struct frame f = tcp4();
	struct match all = { 0 }, m = { 0 };
	struct cx_table *t = from_root();

	(void)state;
	MATCH(&m, outer_headers.ip_version, 4, 4);
	assert_non_null(rule(t, 3, &all, vport(VF(1)), NULL));
	assert_non_null(rule(t, 2, &m, vport(VF(2)), NULL));
	from_far(VF(0), &f);
	came(FAKE_FAR, VF(2));
}

static void
duplicates_are_refused_when_asked(void **state)
{
	struct match m = { 0 };
	struct cx_table *t = table(fdb, 1);

	(void)state;
	MATCH(&m, outer_headers.ip_version, 4, 4);
	assert_non_null(rule(t, 3, &m, vport(VF(1)), NULL));
	assert_non_null(rule(t, 3, &m, vport(VF(2)), NULL));
	fake_glue.dr_allow_duplicate_rules(fdb, 0);
	assert_null(rule(t, 3, &m, vport(VF(2)), NULL));
	assert_int_equal(errno, EEXIST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_field_is_compared, fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(tcp_flags_are_compared, fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(addresses_are_compared, fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(root_tables_know_the_version_as_a_number,
						fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(inner_headers_are_outer_ones_behind_a_decap,
						fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(unknown_fields_are_refused_by_name, fake_reset,
						fake_check),
		cmocka_unit_test_setup_teardown(no_bit_is_ignored, fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(masks_are_refused_as_rdma_core_does, fake_reset,
						fake_check),
		cmocka_unit_test_setup_teardown(values_have_to_be_within_the_mask, fake_reset,
						fake_check),
		cmocka_unit_test_setup_teardown(rules_belong_to_sides, fake_reset, fake_check),
		cmocka_unit_test_setup_teardown(a_rule_of_neither_side_matches_nothing, fake_reset,
						fake_check),
		cmocka_unit_test_setup_teardown(the_lowest_priority_comes_first, fake_reset,
						fake_check),
		cmocka_unit_test_setup_teardown(duplicates_are_refused_when_asked, fake_reset,
						fake_check),
	};

	return cmocka_run_group_tests(tests, fake_setup, fake_end);
}
