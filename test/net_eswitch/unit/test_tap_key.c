/* SPDX-License-Identifier: Apache-2.0 */

/* What the packet graph's taps see in a packet is what the NIC sees in it: the parsers side by
 * side, on frames of any kind. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "../../../graph/nodes/tap_key.h"
#include "../key.h"
#include "frame.h"
#include "report.h"

#define FRAMES 300000
#define SEGMENTS_MAX 64

static unsigned int seed = 1;

static uint32_t
any(uint32_t n)
{
	return rand_r(&seed) % n;
}

#define PICK(list) list[any(RTE_DIM(list))]

static const uint8_t l4_protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6,
				     IPPROTO_SCTP };
static const uint8_t extensions[] = { IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS,
				      IPPROTO_FRAGMENT };
static const uint16_t tags[] = { 0x8100, 0x88a8, 0x9100 };

/* Of what an IP header says that follows it: all of the frame, or perhaps less. */
static uint16_t
any_length(void)
{
	return any(4) == 0 ? any(160) : 2000;
}

static void
add_l4(struct frame *f, uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		frame_tcp(f, any(3), any(3), any(256));
		break;
	case IPPROTO_UDP:
		frame_udp(f, any(3), any(3), 0);
		break;
	default:
		frame_icmp(f, any(256), any(256), 1, 1);
	}
	frame_fill(f, 7, any(20));
}

static void add_ip(struct frame *f, uint16_t type, int depth);

static void
add_payload(struct frame *f, uint8_t proto, int depth)
{
	if (proto == IPPROTO_IPIP || proto == IPPROTO_IPV6)
		add_ip(f, proto == IPPROTO_IPIP ? 0x0800 : 0x86dd, depth + 1);
	else
		add_l4(f, proto);
}

static uint8_t
any_proto(int depth)
{
	if (depth > 2 || any(2) == 0)
		return PICK(l4_protos);
	return any(2) == 0 ? IPPROTO_IPIP : IPPROTO_IPV6;
}

static void
add_ipv4(struct frame *f, int depth)
{
	uint8_t proto = any_proto(depth), *ip = f->data + f->len;
	uint16_t options = any(4) == 0 ? 4 * any(11) : 0;

	frame_ipv4(f, "10.0.0.1", "10.0.0.2", proto, any(256), any_length());
	ip[0] = 0x45 + options / 4;
	ip[1] = any(256);
	if (any(5) == 0)
		ip[6 + any(2)] = any(256);
	frame_fill(f, 1, options);
	add_payload(f, proto, depth);
}

/* Extension headers, each of which names the next one. Returns where the last one does. */
static uint8_t *
add_extensions(struct frame *f, uint8_t *next)
{
	int n = any(4) == 0 ? any(12) : 0;

	for (; n > 0; n--) {
		uint8_t *ext = f->data + f->len;

		*next = PICK(extensions);
		frame_fill(f, 0, 8);
		next = ext;
		if (any(4) == 0)
			ext[2 + any(2)] = any(256);
		if (any(3) == 0) {
			ext[1] = any(3);
			frame_fill(f, 0, 8 * ext[1]);
		}
	}
	return next;
}

static void
add_ipv6(struct frame *f, int depth)
{
	uint8_t proto = any_proto(depth), *ip = f->data + f->len;

	frame_ipv6(f, "fc00::1", "fc00::2", 0, any(256), any_length());
	ip[0] |= any(16);
	ip[1] = any(256);
	*add_extensions(f, &ip[6]) = proto;
	add_payload(f, proto, depth);
}

static void
add_ip(struct frame *f, uint16_t type, int depth)
{
	if (type == 0x0800)
		add_ipv4(f, depth);
	else
		add_ipv6(f, depth);
}

static struct frame
any_frame(void)
{
	struct frame f = { 0 };
	uint16_t type = any(2) == 0 ? 0x0800 : 0x86dd;
	uint32_t n = any(3) == 0 ? any(4) : 0;

	frame_eth(&f, MAC_B, MAC_A, n > 0 ? PICK(tags) : type);
	for (; n > 0; n--)
		frame_vlan(&f, any(4096), n > 1 ? PICK(tags) : type);
	add_ip(&f, type, 0);
	for (n = any(8) < 3 ? any(4) : 0; n > 0; n--)
		f.data[any(f.len)] = any(256);
	if (any(4) == 0)
		f.len = any(f.len + 1);
	return f;
}

/* A packet that lies in one buffer or many, each of which ends where its bytes end, so that ASan
 * sees any step beyond. */
struct packet {
	struct rte_mbuf mbufs[SEGMENTS_MAX];
	uint32_t count;
};

static void
packet_make(struct packet *p, const struct frame *f)
{
	uint32_t at = 0, n;

	memset(p, 0, sizeof(*p));
	do {
		struct rte_mbuf *m = &p->mbufs[p->count++];

		n = f->len - at;
		if (any(2) == 0 && p->count < SEGMENTS_MAX && n > 0)
			n = any(n) + 1;
		m->buf_addr = malloc(n + (n == 0));
		assert_non_null(m->buf_addr);
		memcpy(m->buf_addr, f->data + at, n);
		m->data_len = n;
		at += n;
		if (p->count > 1)
			m[-1].next = m;
	} while (at < f->len);
	p->mbufs[0].pkt_len = f->len;
	p->mbufs[0].nb_segs = p->count;
}

static void
packet_free(struct packet *p)
{
	while (p->count > 0)
		free(p->mbufs[--p->count].buf_addr);
}

static void
same_layer(const union tap_key *tap, const struct esw_l3 *nic, uint16_t l4)
{
	assert_int_equal(tap->version, nic->version);
	assert_int_equal(tap->proto, nic->proto);
	assert_int_equal(tap->tos, nic->tos);
	assert_int_equal(tap->ttl, nic->ttl);
	assert_int_equal(tap->fragment, nic->version == 4 && nic->fragment);
	assert_memory_equal(tap->src, nic->src, sizeof(tap->src));
	assert_memory_equal(tap->dst, nic->dst, sizeof(tap->dst));
	assert_int_equal(tap->l4, l4 != 0);
	assert_int_equal(tap->src_port, nic->src_port);
	assert_int_equal(tap->dst_port, nic->dst_port);
	assert_int_equal(tap->tcp_flags, nic->tcp_flags);
	assert_int_equal(tap->icmp_type, nic->icmp_type);
	assert_int_equal(tap->icmp_code, nic->icmp_code);
}

/* The NIC looks behind the tags, as a card does; the tap at what is on the wire. */
static void
same_tags(const union tap_key *tap, const struct esw_l2 *nic)
{
	const rte_be16_t vlan = RTE_BE16(RTE_ETHER_TYPE_VLAN), qinq = RTE_BE16(RTE_ETHER_TYPE_QINQ);

	assert_int_equal(tap->eth_type, nic->cvlan ? vlan : nic->svlan ? qinq : nic->type);
	assert_int_equal(tap->vlan_tci, nic->tci);
	if (tap->tagged && tap->vlan_type != vlan && tap->vlan_type != qinq)
		assert_int_equal(tap->vlan_type, nic->type);
}

static void
same_frame(const union tap_key *tap, const struct esw_key *nic, const struct esw_offsets *off)
{
	assert_memory_equal(&tap->eth_dst, &nic->l2[ESW_OUTER].dst, sizeof(tap->eth_dst));
	assert_memory_equal(&tap->eth_src, &nic->l2[ESW_OUTER].src, sizeof(tap->eth_src));
	same_tags(tap, &nic->l2[ESW_OUTER]);
	same_layer(tap, &nic->l3[ESW_OUTER], off->l4[ESW_OUTER]);
}

static void
sees_what_the_nic_sees(void **state)
{
	uint32_t i, tunnels = 0, whole = 0, split = 0;

	(void)state;
	for (i = 0; i < FRAMES; i++) {
		struct frame f = any_frame();
		struct esw_offsets off;
		struct packet packet;
		union tap_key key;
		struct esw_key nic;
		const struct esw_l3 *outer = &nic.l3[ESW_OUTER], *inner = &nic.l3[ESW_INNER];
		bool tunnel;

		packet_make(&packet, &f);
		esw_parse(f.data, f.len, &nic, &off);
		dps_tap_key_read(packet.mbufs, &key);
		same_frame(&key, &nic, &off);
		tunnel = outer->version == 6 &&
			 (outer->proto == IPPROTO_IPIP || outer->proto == IPPROTO_IPV6);
		assert_int_equal(dps_tap_key_read_inner(packet.mbufs, &key), tunnel);
		if (tunnel)
			same_layer(&key, inner, off.l4[ESW_INNER]);
		tunnels += tunnel;
		whole += off.l4[ESW_OUTER] != 0 || off.l4[ESW_INNER] != 0;
		split += packet.count > 1;
		packet_free(&packet);
	}
	report("frames that a tap and the NIC see alike: %u, %u of them tunnels, %u with a transport header, %u in pieces",
	       i, tunnels, whole, split);
	assert_true(tunnels > FRAMES / 20 && whole > FRAMES / 5 && split > FRAMES / 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sees_what_the_nic_sees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
