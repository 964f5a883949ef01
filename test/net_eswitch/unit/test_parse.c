/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "../key.h"
#include "frame.h"

static struct esw_key key;
static struct esw_offsets off;

/* Parses a copy that ends where the frame ends, so that ASan sees any step beyond. */
static void
parse(const struct frame *f)
{
	uint8_t *copy = malloc(f->len + 1);

	assert_non_null(copy);
	memcpy(copy, f->data, f->len);
	esw_parse(copy, f->len, &key, &off);
	free(copy);
}

static void
reads_udp_over_ipv4(void **state)
{
	struct frame f = udp4_frame(53, 5353);

	(void)state;
	parse(&f);
	assert_memory_equal(&key.l2[ESW_OUTER].dst, MAC_B, 6);
	assert_memory_equal(&key.l2[ESW_OUTER].src, MAC_A, 6);
	assert_int_equal(key.l2[ESW_OUTER].type, RTE_BE16(0x0800));
	assert_int_equal(key.l2[ESW_OUTER].cvlan, 0);
	assert_int_equal(key.l3[0].version, 4);
	assert_int_equal(key.l3[0].proto, IPPROTO_UDP);
	assert_int_equal(key.l3[0].l4, IPPROTO_UDP);
	assert_int_equal(key.l3[0].ttl, 64);
	assert_int_equal(key.l3[0].src_port, RTE_BE16(53));
	assert_int_equal(key.l3[0].dst_port, RTE_BE16(5353));
	assert_memory_equal(key.l3[0].src, "\x0a\x00\x00\x01", 4);
	assert_int_equal(off.l3[0], 14);
	assert_int_equal(off.l4[0], 34);
	assert_int_equal(key.l3[1].version, 0);
	assert_int_equal(off.l3[1], 0);
}

static void
reads_tcp_flags(void **state)
{
	struct frame f = tcp4_frame(0x12);

	(void)state;
	parse(&f);
	assert_int_equal(key.l3[0].l4, IPPROTO_TCP);
	assert_int_equal(key.l3[0].tcp_flags, 0x12);
}

static void
reads_both_headers_of_ipip(void **state)
{
	struct frame f = ipip_frame();

	(void)state;
	parse(&f);
	assert_int_equal(key.l3[0].version, 6);
	assert_int_equal(key.l3[0].proto, IPPROTO_IPIP);
	assert_int_equal(key.l3[0].l4, 0);
	assert_int_equal(key.l3[1].version, 4);
	assert_int_equal(key.l3[1].l4, IPPROTO_TCP);
	assert_int_equal(key.l3[1].dst_port, RTE_BE16(80));
	assert_int_equal(off.l3[1], 54);
	assert_int_equal(off.l4[1], 74);
}

static void
reads_ipv6_in_ipv6(void **state)
{
	struct frame f = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00::1", "fc00::2", IPPROTO_IPV6, 64, 40 + 8);
	frame_ipv6(&f, "2001::1", "2001::2", IPPROTO_ICMPV6, 63, 8);
	frame_icmp(&f, 128, 0, 7, 1);
	parse(&f);
	assert_int_equal(key.l3[1].version, 6);
	assert_int_equal(key.l3[1].ttl, 63);
	assert_int_equal(key.l3[1].l4, IPPROTO_ICMPV6);
	assert_int_equal(key.l3[1].icmp_type, 128);
	assert_int_equal(key.l3[1].icmp_ident, RTE_BE16(7));
}

static void
reads_vlan_tags(void **state)
{
	struct frame f = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x88a8);
	frame_vlan(&f, 5, 0x8100);
	frame_vlan(&f, 6, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_ICMP, 64, 8);
	frame_icmp(&f, 8, 0, 1, 1);
	parse(&f);
	assert_int_equal(key.l2[ESW_OUTER].type, RTE_BE16(0x0800));
	assert_int_equal(key.l2[ESW_OUTER].cvlan, 0);
	assert_int_equal(key.l2[ESW_OUTER].svlan, 1);
	assert_int_equal(key.l2[ESW_OUTER].tci, RTE_BE16(5));
	assert_int_equal(key.l3[0].ihl, 5);
	assert_int_equal(key.l3[0].l4, IPPROTO_ICMP);
	assert_int_equal(off.l3[0], 22);
}

static void
skips_ipv4_options(void **state)
{
	struct frame f = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 64, 4 + 8);
	f.data[14] = 0x46;
	frame_fill(&f, 1, 4);
	frame_udp(&f, 1, 2, 0);
	parse(&f);
	assert_int_equal(off.l4[0], 38);
	assert_int_equal(key.l3[0].dst_port, RTE_BE16(2));
}

static void
skips_ipv6_extensions(void **state)
{
	struct frame f = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00::1", "fc00::2", IPPROTO_HOPOPTS, 64, 8 + 16 + 8);
	frame_bytes(&f, "\x3c\0\1\4\0\0\0\0", 8);                   /* then destination options */
	frame_bytes(&f, "\x11\1\1\14\0\0\0\0\0\0\0\0\0\0\0\0", 16); /* then UDP */
	frame_udp(&f, 1, 2, 0);
	parse(&f);
	assert_int_equal(key.l3[0].proto, IPPROTO_UDP);
	assert_int_equal(off.l4[0], 14 + 40 + 24);
}

static void
does_not_look_into_fragments(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	f.data[20] = 0x20; /* more fragments */
	parse(&f);
	assert_int_equal(key.l3[0].fragment, 1);
	assert_int_equal(key.l3[0].l4, IPPROTO_UDP);
	assert_int_equal(off.l4[0], 0);
	assert_int_equal(key.l3[0].dst_port, 0);
	f.data[20] = 0x40; /* don't fragment */
	parse(&f);
	assert_int_equal(key.l3[0].fragment, 0);
	assert_int_equal(key.l3[0].l4, IPPROTO_UDP);
}

static void
does_not_look_into_ipv6_fragments(void **state)
{
	struct frame f = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00::1", "fc00::2", IPPROTO_FRAGMENT, 64, 8 + 8);
	frame_bytes(&f, "\x11\0\0\1\0\0\0\1", 8);
	frame_udp(&f, 1, 2, 0);
	parse(&f);
	assert_int_equal(key.l3[0].fragment, 1);
	assert_int_equal(key.l3[0].proto, IPPROTO_UDP);
	assert_int_equal(key.l3[0].l4, IPPROTO_UDP);
	assert_int_equal(off.l4[0], 0);
	f.data[14 + 40 + 3] = 0; /* an atomic fragment */
	parse(&f);
	assert_int_equal(key.l3[0].fragment, 0);
	assert_int_equal(key.l3[0].l4, IPPROTO_UDP);
}

static void
takes_padding_for_padding(void **state)
{
	struct frame f = { 0 };

	(void)state;
	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 64, 0);
	frame_fill(&f, 9, 26);
	parse(&f);
	assert_int_equal(key.l3[0].version, 4);
	assert_int_equal(key.l3[0].l4, IPPROTO_UDP);
	assert_int_equal(off.l4[0], 0);
}

static void
knows_the_layers_only_as_far_as_they_are_there(void **state)
{
	struct frame f = ipip_frame();
	uint16_t whole = f.len;

	(void)state;
	for (f.len = 0; f.len <= whole; f.len++) {
		parse(&f);
		assert_int_equal(key.l2[ESW_OUTER].type != 0, f.len >= 14);
		assert_int_equal(key.l3[0].version, f.len >= 54 ? 6 : 0);
		assert_int_equal(key.l3[1].version, f.len >= 74 ? 4 : 0);
		assert_int_equal(key.l3[1].l4, f.len >= 74 ? IPPROTO_TCP : 0);
		assert_int_equal(off.l4[1] != 0, f.len >= 94);
	}
}

/* Whatever the bytes are: no read beyond the end (ASan), and offsets within the frame. */
static void
survives_any_bytes(void **state)
{
	struct frame seeds[] = { udp4_frame(1, 2), tcp4_frame(2), ipip_frame() };
	unsigned int seed = 1;
	int i, k;

	(void)state;
	for (i = 0; i < 20000; i++) {
		struct frame f = seeds[i % 3];

		for (k = rand_r(&seed) % 6; k > 0; k--)
			f.data[rand_r(&seed) % f.len] = rand_r(&seed);
		f.len = rand_r(&seed) % (f.len + 1);
		parse(&f);
		for (k = 0; k < ESW_L3_MAX; k++) {
			assert_true(off.l3[k] <= f.len);
			assert_true(off.l4[k] <= f.len);
			assert_int_equal(off.l3[k] != 0, key.l3[k].version != 0);
			assert_true(off.l4[k] == 0 || key.l3[k].l4 != 0);
		}
	}
}

static void
hashes_flows(void **state)
{
	struct frame a = udp4_frame(1, 2), b = udp4_frame(1, 3);
	uint32_t hash;

	(void)state;
	parse(&a);
	hash = esw_flow_hash(&key);
	a.data[a.len - 1] ^= 1;
	a.data[22]--; /* TTL */
	parse(&a);
	assert_int_equal(esw_flow_hash(&key), hash);
	parse(&b);
	assert_int_not_equal(esw_flow_hash(&key), hash);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_udp_over_ipv4),
		cmocka_unit_test(reads_tcp_flags),
		cmocka_unit_test(reads_both_headers_of_ipip),
		cmocka_unit_test(reads_ipv6_in_ipv6),
		cmocka_unit_test(reads_vlan_tags),
		cmocka_unit_test(skips_ipv4_options),
		cmocka_unit_test(skips_ipv6_extensions),
		cmocka_unit_test(does_not_look_into_fragments),
		cmocka_unit_test(does_not_look_into_ipv6_fragments),
		cmocka_unit_test(takes_padding_for_padding),
		cmocka_unit_test(knows_the_layers_only_as_far_as_they_are_there),
		cmocka_unit_test(survives_any_bytes),
		cmocka_unit_test(hashes_flows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
