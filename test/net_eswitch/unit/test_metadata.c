/* SPDX-License-Identifier: Apache-2.0 */

/* Marks, metadata and tags on a NIC with dv_xmeta_en=1. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <rte_ethdev.h>

#include "nic.h"

#define ETH ITEM(ETH)
#define SET_MARK(n) ACTION(MARK, CONF(mark, .id = (n)))
#define SET_META_UNDER(n, m) ACTION(SET_META, CONF(set_meta, .data = (n), .mask = (m)))
#define SET_META(n) SET_META_UNDER(n, UINT16_MAX)
#define META_IS(n)                                                            \
	ITEM(META, .spec = &(const struct rte_flow_item_meta){ .data = (n) }, \
	     .mask = &(const struct rte_flow_item_meta){ .data = UINT16_MAX })
#define SET_TAG(i, n, m) ACTION(SET_TAG, CONF(set_tag, .index = (i), .data = (n), .mask = (m)))
#define IS(type, t, ...) ITEM(type, .spec = &(const struct rte_flow_item_##t){ __VA_ARGS__ })

static void
takes_marks_and_metadata_to_the_application(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_mbuf *m;

	(void)state;
	/* A place for metadata in mbufs is what an application registers; it stays then. */
	assert_int_equal(rte_flow_dynf_metadata_register(), 0);
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(SET_MARK(0xffffef), JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(IS(MARK, mark, .id = 0xffffef), ETH),
		 ACTIONS(SET_META(99), JUMP(2)));
	nic_arrive(VF0, &f);
	assert_int_equal(rte_eth_rx_burst(nic.port[VF0], 0, &m, 1), 1);
	assert_true(m->ol_flags & RTE_MBUF_F_RX_FDIR_ID);
	assert_int_equal(m->hash.fdir.hi, 0xffffef);
	assert_true(m->ol_flags & RTE_MBUF_DYNFLAG_RX_METADATA);
	assert_int_equal(rte_flow_dynf_metadata_get(m), 99);
	rte_pktmbuf_free(m);
}

static void
matches_metadata_in_ingress_rules(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH), ACTIONS(JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(ETH), ACTIONS(SET_META(5), JUMP(2)));
	nic_rule(VF0, ingress, ITEMS(META_IS(5), ETH), ACTIONS(ACTION(DROP)));
	nic_arrive(VF0, &f);
	nic_assert_quiet();
	assert_int_equal(nic_stat(VF0, "dropped"), 1);
}

static void
matches_tags_under_masks(void **state)
{
	const struct rte_flow_item_tag mask = { .data = 0xf0, .index = UINT8_MAX };
	struct frame f = udp4_frame(1, 2);

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH),
		 ACTIONS(SET_TAG(2, 0xab, 0xff), SET_TAG(2, 0x50, 0xf0), JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(IS(TAG, tag, .index = 2, .data = 0xab)),
		 ACTIONS(ACTION(DROP)));
	nic_rule(VF0, transfer_group(1),
		 ITEMS(ITEM(TAG,
			    .spec = &(const struct rte_flow_item_tag){ .index = 2, .data = 0x50 },
			    .mask = &mask)),
		 ACTIONS(JUMP(2)));
	nic_rule(VF0, transfer_group(2), ITEMS(IS(TAG, tag, .index = 2, .data = 0x5b)),
		 ACTIONS(TO(VF3)));
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
}

/* Registers survive rewriting, which makes the parser look again, but not the way out of the
 * switch. */
static void
keeps_tags_within_the_switch(void **state)
{
	const struct rte_flow_action_set_tp port = { .port = RTE_BE16(9) };
	struct frame f = udp4_frame(1, 2);
	struct frame got;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(UDP)),
		 ACTIONS(SET_TAG(0, 7, UINT32_MAX), ACTION(SET_TP_DST, .conf = &port), JUMP(1)));
	nic_rule(VF0, transfer_group(1), ITEMS(IS(TAG, tag, .index = 0, .data = 7)),
		 ACTIONS(JUMP(2)));
	nic_rule(VF0, ingress, ITEMS(IS(TAG, tag, .index = 0, .data = 7)), ACTIONS(ACTION(DROP)));
	nic_arrive(VF0, &f);
	got = nic_received(VF0);
	assert_int_equal(got.len, f.len);
	assert_int_equal(got.data[14 + 20 + 3], 9);
	/* Nor does the next packet have them. */
	nic_rule(VF3, transfer, ITEMS(IS(TAG, tag, .index = 0, .data = 7)), ACTIONS(ACTION(DROP)));
	nic_arrive(VF3, &f);
	nic_assert_received(VF3, &f);
}

static int
validate(struct rte_flow_attr attr, const struct rte_flow_item *items,
	 const struct rte_flow_action *actions)
{
	return rte_flow_validate(nic.port[VF0], &attr, items, actions, NULL);
}

static void
refuses_what_the_registers_cannot_hold(void **state)
{
	const struct rte_flow_item_mark one = { .id = 1 }, wide = { .id = UINT32_MAX },
					zero = { 0 };

	(void)state;
	assert_int_equal(validate(transfer, ITEMS(ITEM(MARK)), ACTIONS(TO(VF3))), -EINVAL);
	assert_int_equal(validate(transfer, ITEMS(ITEM(MARK, .spec = &one, .mask = &wide)),
				  ACTIONS(TO(VF3))),
			 -ENOTSUP);
	assert_int_equal(validate(transfer, ITEMS(ITEM(MARK, .spec = &one, .mask = &zero)),
				  ACTIONS(TO(VF3))),
			 -EINVAL);
	assert_int_equal(validate(transfer,
				  ITEMS(ITEM(MARK, .spec = &one), ITEM(MARK, .spec = &one)),
				  ACTIONS(TO(VF3))),
			 -EINVAL);
	assert_int_equal(validate(transfer, ITEMS(), ACTIONS(SET_MARK(0xfffff0), TO(VF3))),
			 -EINVAL);
	assert_int_equal(validate(transfer, ITEMS(), ACTIONS(SET_META(1), TO(VF3))), 0);
	assert_int_equal(validate(transfer_group(1), ITEMS(), ACTIONS(SET_META(1), TO(VF3))), 0);
	assert_int_equal(
		validate(transfer_group(1), ITEMS(), ACTIONS(SET_META_UNDER(1, 0x10000), TO(VF3))),
		-EINVAL);
	assert_int_equal(
		validate(transfer_group(1), ITEMS(IS(META, meta, .data = 1)), ACTIONS(TO(VF3))),
		-ENOTSUP);
}

/* It has no part in what the switch does. */
static void
gives_the_second_pf_none(void **state)
{
	const struct rte_flow_item_mark one = { .id = 1 };
	const struct rte_flow_attr attr = { .ingress = 1, .group = 1 };

	(void)state;
	assert_int_equal(rte_flow_validate(nic.port[PF1], &attr, ITEMS(ITEM(MARK, .spec = &one)),
					   ACTIONS(ACTION(DROP)), NULL),
			 -ENOTSUP);
	assert_int_equal(rte_flow_validate(nic.port[PF1], &attr, ITEMS(META_IS(1)),
					   ACTIONS(ACTION(DROP)), NULL),
			 -ENOTSUP);
	assert_int_equal(rte_flow_validate(nic.port[PF1], &attr, ITEMS(ETH),
					   ACTIONS(SET_META_UNDER(1, UINT32_MAX), JUMP(2)), NULL),
			 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, nic_clean)
	const struct CMUnitTest tests[] = {
		TEST(takes_marks_and_metadata_to_the_application),
		TEST(matches_metadata_in_ingress_rules),
		TEST(matches_tags_under_masks),
		TEST(keeps_tags_within_the_switch),
		TEST(refuses_what_the_registers_cannot_hold),
		TEST(gives_the_second_pf_none),
	};

	nic_devargs = "dv_xmeta_en=1";
	return cmocka_run_group_tests(tests, nic_setup, nic_teardown);
}
