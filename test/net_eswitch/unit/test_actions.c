/* SPDX-License-Identifier: Apache-2.0 */

/* Rewriting of fields and tags, VXLAN, and indirect actions. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "nic.h"

#define ETH ITEM(ETH)
#define UDP ITEM(UDP)
#define SET_IPV4(which, address) \
	ACTION(SET_IPV4_##which, CONF(set_ipv4, .ipv4_addr = RTE_BE32(address)))
#define SET_IPV6(which, last) \
	ACTION(SET_IPV6_##which, CONF(set_ipv6, .ipv6_addr = ADDR6(0xfd, [15] = (last))))
#define SET_TP(which, n) ACTION(SET_TP_##which, CONF(set_tp, .port = RTE_BE16(n)))
#define PUSH(type) ACTION(OF_PUSH_VLAN, CONF(of_push_vlan, .ethertype = RTE_BE16(type)))

enum { L3 = 14, L4_IPV4 = L3 + 20, L4_IPV6 = L3 + 40 };

/* Fills the L4 checksum of a frame without tags and options. */
static void
fill_checksum(struct frame *f, bool ipv6, bool tcp)
{
	uint8_t *ip = f->data + L3, *l4 = f->data + (ipv6 ? L4_IPV6 : L4_IPV4);
	uint8_t *at = l4 + (tcp ? offsetof(struct rte_tcp_hdr, cksum) :
				  offsetof(struct rte_udp_hdr, dgram_cksum));
	uint16_t sum;

	memset(at, 0, sizeof(sum));
	sum = ipv6 ? rte_ipv6_udptcp_cksum((void *)ip, l4) : rte_ipv4_udptcp_cksum((void *)ip, l4);
	memcpy(at, &sum, sizeof(sum));
}

static struct frame
udp6_frame(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00::a", "fc00::b", IPPROTO_UDP, 64, 8 + 31);
	frame_udp(&f, 7, 8, 31);
	frame_fill(&f, 'u', 31);
	return f;
}

static void
rewrites_ipv4_and_tcp(void **state)
{
	struct frame f = tcp4_frame(0x10), got;
	const uint8_t addresses[] = { 192, 168, 1, 2, 255, 255, 255, 254 };

	(void)state;
	fill_checksum(&f, false, true);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(TCP)),
		 ACTIONS(SET_IPV4(SRC, 0xc0a80102), SET_IPV4(DST, 0xfffffffe), SET_TP(SRC, 65535),
			 SET_TP(DST, 0), TO(VF3)));
	nic_arrive(VF0, &f);
	got = nic_left(VF3);
	assert_int_equal(got.len, f.len);
	assert_memory_equal(got.data + L3 + 12, addresses, sizeof(addresses));
	assert_memory_equal(got.data + L4_IPV4, "\xff\xff\0\0", 4);
	assert_int_equal(rte_raw_cksum(got.data + L3, 20), 0xffff);
	assert_int_equal(rte_ipv4_udptcp_cksum_verify((void *)(got.data + L3), got.data + L4_IPV4),
			 0);
	/* All else is as it was. */
	memcpy(f.data + L3 + 10, got.data + L3 + 10, 2 + sizeof(addresses) + 4);
	memcpy(f.data + L4_IPV4 + 16, got.data + L4_IPV4 + 16, 2);
	assert_memory_equal(got.data, f.data, f.len);
}

static void
rewrites_ipv6_and_udp(void **state)
{
	struct frame f = udp6_frame(), got;
	uint8_t address[16] = { 0xfd };

	(void)state;
	fill_checksum(&f, true, false);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV6), UDP),
		 ACTIONS(SET_IPV6(SRC, 1), SET_IPV6(DST, 2), SET_TP(SRC, 1000), SET_TP(DST, 2000),
			 TO(VF3)));
	nic_arrive(VF0, &f);
	got = nic_left(VF3);
	assert_int_equal(got.len, f.len);
	address[15] = 1;
	assert_memory_equal(got.data + L3 + 8, address, sizeof(address));
	address[15] = 2;
	assert_memory_equal(got.data + L3 + 24, address, sizeof(address));
	assert_memory_equal(got.data + L4_IPV6, "\x03\xe8\x07\xd0", 4);
	assert_int_equal(rte_ipv6_udptcp_cksum_verify((void *)(got.data + L3), got.data + L4_IPV6),
			 0);
}

/* Whatever the port becomes, the checksum is right, and never says that there is none. */
static void
keeps_a_udp_checksum(void **state)
{
	struct frame f = udp4_frame(1, 2), got;
	uint32_t port;

	(void)state;
	fill_checksum(&f, false, false);
	for (port = 1; port < 65536; port += 251) {
		const struct rte_flow_action_set_tp conf = { .port = rte_cpu_to_be_16(port) };
		struct rte_flow *flow =
			nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP),
				 ACTIONS(ACTION(SET_TP_DST, .conf = &conf), TO(VF3)));

		nic_arrive(VF0, &f);
		got = nic_left(VF3);
		assert_int_equal(
			rte_ipv4_udptcp_cksum_verify((void *)(got.data + L3), got.data + L4_IPV4),
			0);
		assert_memory_not_equal(got.data + L4_IPV4 + 6, "\0\0", 2);
		nic_destroy(VF0, flow);
	}
}

static void
leaves_no_udp_checksum_alone(void **state)
{
	struct frame f = udp4_frame(1, 2), got;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP),
		 ACTIONS(SET_IPV4(SRC, 1), SET_TP(SRC, 9), TO(VF3)));
	nic_arrive(VF0, &f);
	got = nic_left(VF3);
	assert_memory_equal(got.data + L4_IPV4 + 6, "\0\0", 2);
	assert_int_equal(rte_raw_cksum(got.data + L3, 20), 0xffff);
}

/* A fragment's payload may look like ports and checksums. */
static void
rewrites_only_the_ip_header_of_fragments(void **state)
{
	struct frame f = udp4_frame(1, 2), got;
	struct rte_ipv4_hdr *ip = (void *)(f.data + L3);

	(void)state;
	ip->fragment_offset = RTE_BE16(RTE_IPV4_HDR_MF_FLAG | 3);
	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(SET_IPV4(DST, 0x01020304), TO(VF3)));
	nic_arrive(VF0, &f);
	got = nic_left(VF3);
	assert_int_equal(rte_raw_cksum(got.data + L3, 20), 0xffff);
	assert_memory_equal(got.data + L4_IPV4, f.data + L4_IPV4, f.len - L4_IPV4);
}

static void
rewrites_what_was_inside(void **state)
{
	struct frame f = ipip_frame(), got;

	(void)state;
	nic_rule(PF0, transfer, ITEMS(ETH, ITEM(IPV6)),
		 ACTIONS(DECAP(54), ENCAP(eth_header, 14), JUMP(1)));
	nic_rule(PF0, transfer_group(1), ITEMS(ETH, ITEM(IPV4), ITEM(TCP)),
		 ACTIONS(SET_IPV4(DST, 0x01020304), SET_TP(DST, 81), TO(VF0)));
	nic_arrive(PF0, &f);
	got = nic_left(VF0);
	assert_int_equal(got.len, f.len - 40);
	assert_memory_equal(got.data + L3 + 16, "\1\2\3\4", 4);
	assert_memory_equal(got.data + L4_IPV4 + 2, "\0\x51", 2);
	assert_int_equal(rte_raw_cksum(got.data + L3, 20), 0xffff);
}

static struct frame
tagged_frame(uint16_t tci)
{
	struct frame plain = udp4_frame(1, 2), f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x8100);
	frame_vlan(&f, tci, 0x0800);
	frame_bytes(&f, plain.data + L3, plain.len - L3);
	return f;
}

static void
pops_and_pushes_tags(void **state)
{
	struct frame plain = udp4_frame(1, 2), tagged = tagged_frame(0x6005),
		     zero = tagged_frame(0), twice = { 0 };
	struct rte_flow *flow;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(VLAN)), ACTIONS(ACTION(OF_POP_VLAN), TO(VF3)));
	nic_arrive(VF0, &tagged);
	nic_assert_left(VF3, &plain);
	/* Without an item that says more the new tag is 0. */
	nic_rule(VF3, transfer, ITEMS(ETH), ACTIONS(PUSH(0x8100), TO(VF0)));
	nic_arrive(VF3, &plain);
	nic_assert_left(VF0, &zero);
	/* With one it is the old tag's. */
	frame_eth(&twice, MAC_B, MAC_A, 0x88a8);
	frame_vlan(&twice, 0x6005, 0x8100);
	frame_bytes(&twice, tagged.data + L3, tagged.len - L3);
	flow = nic_rule(
		PF0, transfer,
		ITEMS(ETH,
		      ITEM(VLAN,
			   .spec = &(const struct rte_flow_item_vlan){ .hdr.vlan_tci =
									       RTE_BE16(0x6005) },
			   .mask = &(const struct rte_flow_item_vlan){ .hdr.vlan_tci =
									       RTE_BE16(0xefff) })),
		ACTIONS(PUSH(0x88a8), TO(VF0)));
	nic_arrive(PF0, &tagged);
	nic_assert_left(VF0, &twice);
	nic_destroy(PF0, flow);
	nic_assert_quiet();
}

/* What follows sees the packet as it is then. */
static void
matches_again_what_was_rewritten(void **state)
{
	const struct rte_flow_item_udp spec = { .hdr.dst_port = RTE_BE16(53) },
				       mask = { .hdr.dst_port = UINT16_MAX };
	struct frame tagged = tagged_frame(5), got;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(VLAN), ITEM(IPV4), UDP),
		 ACTIONS(ACTION(OF_POP_VLAN), SET_TP(DST, 53), JUMP(1)));
	nic_rule(VF0, transfer_group(1),
		 ITEMS(ITEM(ETH, .spec = &(const struct rte_flow_item_eth){ .has_vlan = 0 },
			    .mask = &(const struct rte_flow_item_eth){ .has_vlan = 1 }),
		       ITEM(IPV4), ITEM(UDP, .spec = &spec, .mask = &mask)),
		 ACTIONS(TO(VF3)));
	nic_arrive(VF0, &tagged);
	got = nic_left(VF3);
	assert_int_equal(got.len, tagged.len - 4);
	nic_assert_quiet();
}

static struct frame
vxlan_frame(uint8_t flags, uint8_t vni)
{
	struct frame inner = tcp4_frame(0x10), f = { 0 };
	const uint8_t header[] = { flags, 0, 0, 0, 0, 0, vni, 0 };

	frame_eth(&f, MAC_B, MAC_C, 0x0800);
	frame_ipv4(&f, "192.0.2.1", "192.0.2.2", IPPROTO_UDP, 64, 8 + sizeof(header) + inner.len);
	frame_udp(&f, 50000, 4789, sizeof(header) + inner.len);
	frame_bytes(&f, header, sizeof(header));
	frame_bytes(&f, inner.data, inner.len);
	return f;
}

static void
matches_vxlan(void **state)
{
	const struct rte_flow_item_vxlan vni = { .vni = { 0, 0, 7 } };
	const struct rte_flow_item_eth inner_eth = { .hdr.src_addr.addr_bytes = MAC_A };
	const struct rte_flow_item_eth source = { .hdr.src_addr.addr_bytes =
							  "\xff\xff\xff\xff\xff\xff" };
	const struct rte_flow_item_tcp port = { .hdr.dst_port = RTE_BE16(80) },
				       mask = { .hdr.dst_port = UINT16_MAX };
	struct frame seven = vxlan_frame(8, 7), eight = vxlan_frame(8, 8), none = vxlan_frame(0, 7);
	struct rte_flow_attr last = { .transfer = 1, .priority = 1 };

	(void)state;
	nic_rule(VF0, last, ITEMS(ETH, ITEM(IPV4), UDP, ITEM(VXLAN)), ACTIONS(TO(PF0)));
	nic_rule(VF0, transfer,
		 ITEMS(ETH, ITEM(IPV4), UDP, ITEM(VXLAN, .spec = &vni),
		       ITEM(ETH, .spec = &inner_eth, .mask = &source), ITEM(IPV4),
		       ITEM(TCP, .spec = &port, .mask = &mask)),
		 ACTIONS(TO(VF3)));
	nic_arrive(VF0, &seven);
	nic_assert_left(VF3, &seven);
	nic_arrive(VF0, &eight);
	nic_assert_left(PF0, &eight);
	/* The item by itself is the UDP port; what follows is not looked for without the I flag. */
	nic_arrive(VF0, &none);
	nic_assert_left(PF0, &none);
	nic_assert_quiet();
}

static void
shares_a_counter(void **state)
{
	struct frame udp = udp4_frame(1, 2), tcp = tcp4_frame(0x10);
	struct rte_flow_query_count count = { .reset = 1 };
	struct rte_flow_action_handle *handle;
	struct rte_flow *a, *b;

	(void)state;
	handle = rte_flow_action_handle_create(nic.port[VF0], NULL, ACTIONS(ACTION(COUNT)), NULL);
	assert_non_null(handle);
	a = nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP),
		     ACTIONS(ACTION(INDIRECT, .conf = handle), TO(VF3)));
	b = nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(TCP)),
		     ACTIONS(ACTION(INDIRECT, .conf = handle), TO(VF3)));
	nic_arrive(VF0, &udp);
	nic_arrive(VF0, &tcp);
	nic_arrive(VF0, &tcp);
	assert_int_equal(rte_flow_query(nic.port[VF0], a, ACTIONS(ACTION(COUNT)), &count, NULL), 0);
	assert_int_equal(count.hits, 3);
	nic_arrive(VF0, &udp);
	assert_int_equal(rte_flow_action_handle_query(nic.port[VF0], handle, &count, NULL), 0);
	assert_int_equal(count.hits, 1);
	assert_int_equal(count.bytes, udp.len);
	/* It outlives the rules, and not the other way round. */
	nic_destroy(VF0, a);
	assert_int_equal(rte_flow_action_handle_destroy(nic.port[VF0], handle, NULL), -EBUSY);
	nic_destroy(VF0, b);
	assert_int_equal(rte_flow_action_handle_query(nic.port[VF0], handle, &count, NULL), 0);
	assert_int_equal(rte_flow_action_handle_destroy(nic.port[VF3], handle, NULL), -EINVAL);
	assert_int_equal(rte_flow_action_handle_destroy(nic.port[VF0], handle, NULL), 0);
}

/* An age that rules have can be destroyed, as with net_mlx5: it goes with the last of them. */
static void
leaves_an_age_to_its_rules(void **state)
{
	const struct rte_flow_action_age age = { .timeout = 1000 };
	struct rte_flow_query_age query = { 0 };
	struct rte_flow_action_handle *handle;
	struct frame f = udp4_frame(1, 2);
	struct rte_flow *flow;

	(void)state;
	handle = rte_flow_action_handle_create(nic.port[VF0], NULL,
					       ACTIONS(ACTION(AGE, .conf = &age)), NULL);
	assert_non_null(handle);
	flow = nic_rule(VF0, transfer, ITEMS(ETH),
			ACTIONS(ACTION(INDIRECT, .conf = handle), TO(VF3)));
	assert_int_equal(rte_flow_action_handle_destroy(nic.port[VF0], handle, NULL), 0);
	assert_int_equal(rte_flow_action_handle_query(nic.port[VF0], handle, &query, NULL),
			 -EINVAL);
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(ACTION(AGE)), &query, NULL),
			 0);
	assert_int_equal(query.aged, 0);
	nic_destroy(VF0, flow);
}

/* In the kernel's root table an age is a counter, which has to be the rule's own. */
static void
takes_no_age_beside_a_shared_counter_in_a_root_table(void **state)
{
	const struct rte_flow_attr attr = { .ingress = 1 }, deeper = { .ingress = 1, .group = 1 };
	const struct rte_flow_action_age age = { .timeout = 1000 };
	struct rte_flow_action_handle *handle;
	const struct rte_flow_action actions[] = { ACTION(INDIRECT), ACTION(AGE, .conf = &age),
						   ACTION(DROP), ACTION(END) };
	const struct rte_flow_action turned[] = { ACTION(AGE, .conf = &age), ACTION(INDIRECT),
						  ACTION(DROP), ACTION(END) };
	struct rte_flow_action first[4], last[4];

	(void)state;
	handle = rte_flow_action_handle_create(nic.port[PF1], NULL, ACTIONS(ACTION(COUNT)), NULL);
	assert_non_null(handle);
	memcpy(first, actions, sizeof(first));
	memcpy(last, turned, sizeof(last));
	first[0].conf = last[1].conf = handle;
	assert_int_equal(rte_flow_validate(nic.port[PF1], &attr, ITEMS(ETH), first, NULL), -EINVAL);
	assert_int_equal(rte_flow_validate(nic.port[PF1], &attr, ITEMS(ETH), last, NULL), -EINVAL);
	assert_int_equal(rte_flow_validate(nic.port[PF1], &deeper, ITEMS(ETH), first, NULL), 0);
	assert_int_equal(rte_flow_action_handle_destroy(nic.port[PF1], handle, NULL), 0);
}

/* It is the IP header that says which protocol it is; the ports are not there, and read as 0. */
static void
takes_fragments_for_their_protocol(void **state)
{
	const struct rte_flow_item_udp port = { .hdr.dst_port = RTE_BE16(2) };
	struct frame f = udp4_frame(1, 2);
	struct rte_ipv4_hdr *ip = (void *)(f.data + L3);

	(void)state;
	ip->fragment_offset = RTE_BE16(RTE_IPV4_HDR_MF_FLAG | 3);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(UDP, .spec = &port)),
		 ACTIONS(ACTION(DROP)));
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(TCP)), ACTIONS(ACTION(DROP)));
	nic_arrive(VF0, &f);
	nic_assert_received(VF0, &f);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP), ACTIONS(TO(VF3)));
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
}

static void
shares_an_age(void **state)
{
	const struct rte_flow_action_age age = { .timeout = 1, .context = &nic };
	struct rte_flow_query_age query = { 0 };
	struct rte_flow_action_handle *handle;
	struct frame f = udp4_frame(1, 2);
	void *context = NULL;
	int waited;

	(void)state;
	handle = rte_flow_action_handle_create(nic.port[VF0], NULL,
					       ACTIONS(ACTION(AGE, .conf = &age)), NULL);
	assert_non_null(handle);
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4)),
		 ACTIONS(ACTION(INDIRECT, .conf = handle), TO(VF3)));
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV6)),
		 ACTIONS(ACTION(INDIRECT, .conf = handle), TO(VF3)));
	/* Either rule's packets keep it young. */
	for (waited = 0; waited < 10; waited++) {
		nic_arrive(VF0, &f);
		usleep(200000);
	}
	assert_int_equal(rte_flow_get_aged_flows(nic.port[VF0], NULL, 0, NULL), 0);
	for (waited = 0;
	     waited < 50 && rte_flow_get_aged_flows(nic.port[VF0], &context, 1, NULL) == 0;
	     waited++)
		usleep(100000);
	assert_ptr_equal(context, &nic);
	assert_int_equal(rte_flow_action_handle_query(nic.port[VF0], handle, &query, NULL), 0);
	assert_int_equal(query.aged, 1);
	assert_int_equal(rte_flow_flush(nic.port[VF0], NULL), 0);
	assert_int_equal(rte_flow_action_handle_destroy(nic.port[VF0], handle, NULL), 0);
	assert_int_equal(rte_flow_get_aged_flows(nic.port[VF0], NULL, 0, NULL), 0);
}

static void
refuses_indirect_actions(void **state)
{
	const struct rte_flow_attr *attr = &transfer;
	struct rte_flow_action_handle *handle;
	uint16_t port = nic.port[VF0];

	(void)state;
	assert_null(rte_flow_action_handle_create(port, NULL, ACTIONS(JUMP(1)), NULL));
	assert_int_equal(rte_errno, ENOTSUP);
	assert_null(rte_flow_action_handle_create(port, NULL, ACTIONS(AGE(0)), NULL));
	assert_int_equal(rte_errno, EINVAL);
	assert_null(rte_flow_action_handle_create(port, NULL, ACTIONS(ACTION(AGE)), NULL));
	assert_int_equal(rte_errno, EINVAL);
	handle = rte_flow_action_handle_create(port, NULL, ACTIONS(ACTION(COUNT)), NULL);
	assert_non_null(handle);
	assert_int_equal(rte_flow_action_handle_update(port, handle, ACTIONS(ACTION(COUNT)), NULL),
			 -ENOTSUP);
	assert_int_equal(rte_flow_validate(nic.port[VF3], attr, ITEMS(ETH),
					   ACTIONS(ACTION(INDIRECT, .conf = handle), TO(VF3)),
					   NULL),
			 -EINVAL);
	assert_int_equal(
		rte_flow_validate(port, attr, ITEMS(ETH),
				  ACTIONS(ACTION(INDIRECT, .conf = handle), ACTION(COUNT), TO(VF3)),
				  NULL),
		-EINVAL);
	assert_int_equal(
		rte_flow_validate(
			port, attr, ITEMS(ETH),
			ACTIONS(SAMPLE(1, ACTION(INDIRECT, .conf = handle), TO(VF3)), TO(PF0)),
			NULL),
		-ENOTSUP);
	/* What is left is freed with the port. */
}

static uint64_t
hits(struct rte_flow *flow)
{
	struct rte_flow_query_count count = { 0 };

	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(ACTION(COUNT)), &count, NULL),
			 0);
	return count.hits;
}

/* UDP to the port n leaves for n + 1, and is counted. */
static struct rte_flow *
rule_of(uint16_t n)
{
	const struct rte_flow_item_udp udp = { .hdr.dst_port = rte_cpu_to_be_16(n) };
	const struct rte_flow_item_udp mask = { .hdr.dst_port = UINT16_MAX };

	return nic_rule(VF0, transfer,
			ITEMS(ETH, ITEM(IPV4), ITEM(UDP, .spec = &udp, .mask = &mask)),
			ACTIONS(ACTION(SET_TP_DST, CONF(set_tp, .port = rte_cpu_to_be_16(n + 1))),
				ACTION(COUNT), TO(VF3)));
}

static void
assert_rewritten(uint16_t n)
{
	const rte_be16_t port = rte_cpu_to_be_16(n + 1);
	struct frame f = udp4_frame(9, n);

	nic_arrive(VF0, &f);
	f = nic_left(VF3);
	assert_memory_equal(f.data + L4_IPV4 + 2, &port, sizeof(port));
}

/* Many programs, made and given up in another order. */
static void
keeps_the_actions_of_many_rules_apart(void **state)
{
	const struct esw_programs *programs = &nic.esw[VF0]->nic->programs;
	struct rte_flow *flows[500];
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(flows); i++)
		flows[i] = rule_of(1000 + i);
	assert_int_equal(programs->n, RTE_DIM(flows));
	for (i = 0; i < RTE_DIM(flows); i += 2)
		nic_destroy(VF0, flows[i]);
	/* The last ones are freed when the pipeline has come round. */
	assert_true(programs->n >= RTE_DIM(flows) / 2 && programs->n <= RTE_DIM(flows));
	for (i = 1; i < RTE_DIM(flows); i += 2)
		assert_rewritten(1000 + i);
	for (i = 1; i < RTE_DIM(flows); i += 2)
		assert_int_equal(hits(flows[i]), 1);
	assert_int_equal(rte_flow_flush(nic.port[VF0], NULL), 0);
	assert_int_equal(programs->n, 0);
}

/* Rules with the same actions have one program, and yet each its own counter, and its own turn to
 * sample. */
static void
shares_the_actions_of_rules_but_not_their_state(void **state)
{
	const struct rte_flow_item_ipv4 mask = { .hdr.dst_addr = UINT32_MAX };
	const struct rte_flow_item_ipv4 first = { .hdr.dst_addr = RTE_BE32(0x0a000002) };
	const struct rte_flow_item_ipv4 second = { .hdr.dst_addr = RTE_BE32(0x0a000003) };
	const struct esw_programs *programs = &nic.esw[VF0]->nic->programs;
	struct frame to_first = udp4_frame(1, 2), to_second = to_first;
	struct rte_flow *a, *b;

	(void)state;
	to_second.data[L3 + 19] = 3;
	a = nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4, .spec = &first, .mask = &mask)),
		     ACTIONS(SAMPLE(2), ACTION(COUNT), TO(VF3)));
	b = nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4, .spec = &second, .mask = &mask)),
		     ACTIONS(SAMPLE(2), ACTION(COUNT), TO(VF3)));
	nic_rule(VF3, transfer, ITEMS(ETH), ACTIONS(SAMPLE(3), ACTION(COUNT), TO(VF0)));
	assert_int_equal(programs->n, 2);
	nic_arrive(VF0, &to_first);
	nic_arrive(VF0, &to_second);
	assert_int_equal(nic_stat(VF0, "sampled"), 0);
	nic_arrive(VF0, &to_first);
	assert_int_equal(nic_stat(VF0, "sampled"), 1);
	assert_int_equal(hits(a), 2);
	assert_int_equal(hits(b), 1);
	nic_destroy(VF0, a);
	nic_arrive(VF0, &to_second);
	assert_int_equal(nic_stat(VF0, "sampled"), 2);
	assert_int_equal(hits(b), 2);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, nic_clean)
	const struct CMUnitTest tests[] = {
		TEST(rewrites_ipv4_and_tcp),
		TEST(rewrites_ipv6_and_udp),
		TEST(keeps_a_udp_checksum),
		TEST(leaves_no_udp_checksum_alone),
		TEST(rewrites_only_the_ip_header_of_fragments),
		TEST(rewrites_what_was_inside),
		TEST(pops_and_pushes_tags),
		TEST(matches_again_what_was_rewritten),
		TEST(matches_vxlan),
		TEST(shares_a_counter),
		TEST(shares_an_age),
		TEST(takes_no_age_beside_a_shared_counter_in_a_root_table),
		TEST(takes_fragments_for_their_protocol),
		TEST(leaves_an_age_to_its_rules),
		TEST(refuses_indirect_actions),
		TEST(keeps_the_actions_of_many_rules_apart),
		TEST(shares_the_actions_of_rules_but_not_their_state),
	};

	return cmocka_run_group_tests(tests, nic_setup, nic_teardown);
}
