/* SPDX-License-Identifier: Apache-2.0 */

/* Which way frames take through the domains, and rules that come and go meanwhile. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fake.h"

static const struct match all;

static struct match
from(const struct cx_vport *v)
{
	struct match m = { 0 };

	match_source(&m, v);
	return m;
}

/* As the driver lets a representor's queue send to its VF, and an uplink's to the wire. */
static void
let_queue_send(uint32_t sqn, struct cx_vport *to)
{
	struct cx_table *root = table(fdb, 0), *one = table(fdb, 1);
	struct match m = { 0 };

	MATCH(&m, misc_parameters.source_port, CX_VPORT_MANAGER, 0xffff);
	MATCH(&m, misc_parameters.source_sqn, sqn, 0xffffff);
	assert_non_null(rule(root, 12, &m, jump(one), NULL));
	assert_non_null(rule(one, 65532, &m, vport(to), NULL));
}

/* A frame that no rule takes goes to the kernel's netdev of the port it has come from. */
static void
misses_go_to_the_twin(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	from_far(VF(2), &f);
	assert_memory_equal(came(FAKE_TWIN, VF(2))->data, f.data, f.len);
	from_far(PF0, &f);
	came(FAKE_TWIN, PF0);
	from_far(PF1, &f);
	came(FAKE_TWIN, PF1);
}

/* What the FDB misses is received by the rules of the port that it has come from. */
static void
misses_are_received_by_the_representor(void **state)
{
	struct match vf = from(VF(0)), pf = from(PF0);
	struct cx_table *root = table(rx, 0), *next = table(rx, 10), *switch_root = table(fdb, 0),
			*t = table(fdb, 1);
	struct frame f = udp4_frame(1, 2);

	(void)state;
	assert_non_null(rule(switch_root, 0, &all, jump(t), NULL));
	assert_non_null(rule(root, 5, &vf, mark(0xabc), tir(7), NULL));
	assert_non_null(rule(root, 5, &pf, jump(next), NULL));
	assert_non_null(
		rule(next, 5, &pf, set(rx, MLX5_MODI_META_DATA_REG_B, 0, 0, 0x1234), tir(8), NULL));
	from_far(VF(0), &f);
	came(FAKE_TIR, NULL);
	assert_int_equal(fake_seen[0].tirn, 7);
	assert_true(fake_seen[0].meta.marked);
	assert_int_equal(fake_seen[0].meta.mark, 0xabc);
	from_far(PF0, &f);
	came(FAKE_TIR, NULL);
	assert_int_equal(fake_seen[0].tirn, 8);
	assert_false(fake_seen[0].meta.marked);
	assert_int_equal(fake_seen[0].meta.reg_b, 0x1234);
	from_far(VF(1), &f);
	came(FAKE_TWIN, VF(1));
}

/* Software steering has nothing behind its tables in NIC RX; a root table has the kernel's
 * rules. */
static void
nic_rx_tables_end_in_a_drop(void **state)
{
	struct cx_table *root = table(rx, 0), *next = table(rx, 10);
	struct match vf = from(VF(0)), other = from(VF(1));
	struct frame f = udp4_frame(1, 2);

	(void)state;
	assert_non_null(rule(root, 5, &vf, jump(next), NULL));
	assert_non_null(rule(root, 5, &other, miss(), NULL));
	from_far(VF(0), &f);
	nothing_came();
	assert_int_equal(fake_stat(VF(0), "rx_default_dropped"), 1);
	from_far(VF(1), &f);
	came(FAKE_TWIN, VF(1));
}

static void
the_registers_that_the_kernel_passes_reach_nic_rx(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1), *second = table(fdb, 2),
			*rx_root = table(rx, 0);
	struct match c1 = { 0 }, c2 = { 0 };
	struct frame f = udp4_frame(1, 2);

	(void)state;
	MATCH(&c1, misc_parameters_2.metadata_reg_c_1, 5, 0xff);
	MATCH(&c2, misc_parameters_2.metadata_reg_c_2, 6, 0xff);
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	assert_non_null(
		rule(t, 0, &all, set(fdb, MLX5_MODI_META_REG_C_1, 0, 0, 5), jump(second), NULL));
	assert_non_null(rule(second, 0, &all, set(fdb, MLX5_MODI_META_REG_C_2, 0, 0, 6), NULL));
	assert_non_null(rule(rx_root, 0, &c2, drop(), NULL));
	assert_non_null(rule(rx_root, 1, &c1, tir(7), NULL));
	from_far(VF(0), &f);
	came(FAKE_TIR, NULL);
}

static void
queues_send_by_their_rules(void **state)
{
	struct frame f = udp4_frame(1, 2);

	(void)state;
	let_queue_send(0x100, VF(1));
	let_queue_send(0x101, PF0);
	from_sq(VF(1), 0x100, &f);
	assert_memory_equal(came(FAKE_FAR, VF(1))->data, f.data, f.len);
	from_sq(PF0, 0x101, &f);
	came(FAKE_FAR, PF0);
	/* Other ports' frames are not theirs. */
	from_far(VF(1), &f);
	came(FAKE_TWIN, VF(1));
}

/* What a queue sends can be steered before it comes into the switch. */
static void
queues_send_through_nic_tx(void **state)
{
	struct cx_table *root = table(tx, 0), *t = table(tx, 1);
	struct frame f = udp4_frame(1, 2);
	struct match m = { 0 };

	(void)state;
	let_queue_send(0x100, VF(1));
	let_queue_send(0x101, VF(2));
	MATCH(&m, misc_parameters.source_sqn, 0x101, 0xffffff);
	assert_non_null(rule(root, 1, &m, jump(t), NULL));
	assert_non_null(rule(t, 1, &all, drop(), NULL));
	from_sq(VF(1), 0x100, &f);
	came(FAKE_FAR, VF(1));
	from_sq(VF(2), 0x101, &f);
	nothing_came();
	assert_int_equal(fake_stat(VF(2), "rule_dropped"), 1);
}

static void
a_pf_without_a_switch_has_nic_domains(void **state)
{
	struct cx_table *root = table(rx1, 0);
	struct frame f = udp4_frame(1, 2);
	struct match m = { 0 };

	(void)state;
	from_sq(PF1, 0x100, &f);
	came(FAKE_FAR, PF1);
	MATCH(&m, outer_headers.ip_version, 4, 0xf);
	assert_non_null(rule(root, 1, &m, tir(3), NULL));
	from_far(PF1, &f);
	came(FAKE_TIR, NULL);
	/* Its root table is not PF0's. */
	from_far(PF0, &f);
	came(FAKE_TWIN, PF0);
}

static void
what_the_kernel_sends_leaves(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_mbuf *m = rte_pktmbuf_alloc(cx_pool());

	(void)state;
	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, f.len), f.data, f.len);
	cx_steer_from_twin(VF(1), m);
	came(FAKE_FAR, VF(1));
}

/* Each copy is made of the frame as it is at this point; a header is put on one alone. */
static void
mirrors_copy(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1), *next = table(fdb, 2);
	struct frame f = udp4_frame(1, 2), header = { 0 };
	struct match m = from(VF(0));

	(void)state;
	frame_eth(&header, MAC_C, MAC_B, 0x86dd);
	frame_ipv6(&header, "fc00:1::1", "fc00:2::1", 17, 64, 0);
	frame_udp(&header, 0, 3010, 0);
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	assert_non_null(rule(t, 0, &m, set(fdb, MLX5_MODI_OUT_DMAC_15_0, 0, 16, 0xffff),
			     mirror(fdb, reformat(fdb, ENCAP_L2, &header), vport(PF0), jump(next)),
			     NULL));
	assert_non_null(rule(next, 0, &all, set(fdb, MLX5_MODI_OUT_SMAC_15_0, 0, 16, 0xeeee),
			     vport(VF(1)), NULL));
	from_far(VF(0), &f);
	assert_int_equal(fake_n, 2);
	assert_ptr_equal(fake_seen[0].vport, PF0);
	assert_int_equal(fake_seen[0].frame.len, f.len + header.len);
	assert_memory_equal(fake_seen[0].frame.data + header.len, "\x02\x00\x00\x00\xff\xff" MAC_A,
			    12);
	assert_ptr_equal(fake_seen[1].vport, VF(1));
	assert_int_equal(fake_seen[1].frame.len, f.len);
	assert_memory_equal(fake_seen[1].frame.data,
			    "\x02\x00\x00\x00\xff\xff\x02\x00\x00\x00\xee\xee", 12);
}

static void
one_frame_in_so_many_is_sampled(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1), *next = table(fdb, 2);
	struct cx_action *sample = vport(PF0);
	struct mlx5dv_dr_action *actions[] = { (void *)sample };
	struct mlx5dv_dr_flow_sampler_attr attr = {
		.sample_ratio = 3,
		.default_next_table = (void *)next,
		.num_sample_actions = 1,
		.sample_actions = actions,
	};
	struct frame f = udp4_frame(1, 2);
	uint32_t i, sampled = 0;

	(void)state;
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	assert_non_null(
		rule(t, 0, &all, keep(fake_glue.dr_create_flow_action_sampler(&attr)), NULL));
	assert_non_null(rule(next, 0, &all, vport(VF(1)), NULL));
	for (i = 0; i < 9; i++) {
		fake_n = 0;
		from_far(VF(0), &f);
		assert_ptr_equal(fake_seen[fake_n - 1].vport, VF(1));
		sampled += fake_n - 1;
	}
	assert_int_equal(sampled, 3);
}

/* A CX-5 puts the source's tag back behind the sampler. */
static void
a_cx5_restores_the_source(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1), *next = table(fdb, 2);
	struct cx_action *sample = miss();
	struct mlx5dv_dr_action *actions[] = { (void *)sample };
	struct mlx5dv_dr_flow_sampler_attr attr = {
		.sample_ratio = 2,
		.default_next_table = (void *)next,
		.num_sample_actions = 1,
		.sample_actions = actions,
	};
	struct frame f = udp4_frame(1, 2);
	struct match other = from(VF(2));

	(void)state;
	fake_profile.steering_format = 0;
	MLX5_SET(set_action_in, &attr.action, action_type, MLX5_MODIFICATION_TYPE_SET);
	MLX5_SET(set_action_in, &attr.action, field, MLX5_MODI_META_REG_C_0);
	MLX5_SET(set_action_in, &attr.action, data, VF(2)->meta_tag);
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	assert_non_null(
		rule(t, 0, &all, keep(fake_glue.dr_create_flow_action_sampler(&attr)), NULL));
	assert_non_null(rule(next, 0, &other, vport(VF(1)), NULL));
	from_far(VF(0), &f);
	came(FAKE_FAR, VF(1));
	from_far(PF0, &f);
	assert_int_equal(fake_n, 2);
	assert_int_equal(fake_seen[0].where, FAKE_TWIN);
	assert_int_equal(fake_seen[1].where, FAKE_TWIN);
}

/* A mirror may copy into the table that it is in: the firmware ignores levels there. */
static void
frames_do_not_go_round_for_ever(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);
	struct cx_action *again = jump(t);
	struct frame f = udp4_frame(1, 2);

	(void)state;
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	assert_non_null(rule(t, 0, &all, mirror(fdb, NULL, again, counter(1)), NULL));
	from_far(VF(0), &f);
	nothing_came();
	assert_int_equal(fake_stat(VF(0), "too_many_tables"), 1);
}

static void
rules_are_dumped(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);
	struct match m = from(VF(0));
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	(void)state;
	assert_non_null(file);
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	MATCH(&m, outer_headers.ip_version, 4, 4);
	MATCH(&m, outer_headers.ip_protocol, 6, 0xff);
	MATCH_IPV4(&m, outer_headers.dst_ipv4_dst_ipv6, "10.0.0.2");
	assert_non_null(rule(t, 3, &m, add(fdb, MLX5_MODI_OUT_IPV4_TTL, 0xff), flow_hit(2, 3),
			     counter(7), mirror(fdb, NULL, vport(PF0), vport(VF(1))), NULL));
	cx_steering_dump(file);
	fclose(file);
	assert_string_equal(
		text,
		"pf0 fdb level 0 priority 0: -> table(pf0 fdb level 1)\n"
		"pf0 fdb level 1 priority 3: outer_headers.ip_protocol=0x6/0xff "
		"misc_parameters_2.metadata_reg_c_0=0x10000/0xffff0000 outer_headers.ip_version=0x4/0xf "
		"outer_headers.dst=0a000002000000000000000000000000/ffffffff000000000000000000000000 -> "
		"modify(OUT_IPV4_TTL[7:0]+=0xff), flow_hit, counter, array(vport(pf0) | vport(vf1))\n");
	free(text);
}

/* ---- rules that come and go while frames pass ---- */

static atomic_bool stop;
static _Atomic uint64_t passed;

static void *
reader(void *arg)
{
	struct frame f = udp4_frame(1, 2);

	(void)arg;
	cx_steering_online();
	while (!load_relaxed(&stop)) {
		fake_n = 0;
		from_far(VF(0), &f);
		assert_int_equal(fake_n, 1);
		cx_steering_quiescent();
		atomic_fetch_add_explicit(&passed, 1, memory_order_relaxed);
	}
	cx_steering_offline();
	return NULL;
}

static struct mlx5dv_flow_match_parameters *
value_of(const struct match *m)
{
	static uint64_t room[(sizeof(struct mlx5dv_flow_match_parameters) + CX_FTE_SIZE) /
				     sizeof(uint64_t) +
			     1];
	struct mlx5dv_flow_match_parameters *value = (void *)room;

	value->match_sz = CX_FTE_SIZE;
	memcpy(value->match_buf, m->value, CX_FTE_SIZE);
	return value;
}

static void
to_port(struct match *m, uint16_t port)
{
	MATCH(m, outer_headers.ip_version, 4, 4);
	MATCH(m, outer_headers.ip_protocol, 17, 0xff);
	MATCH(m, outer_headers.udp_dport, port, 0xffff);
}

static void
rules_come_and_go_under_traffic(void **state)
{
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);
	struct match m = { 0 };
	struct cx_matcher *of;
	void *actions[] = { vport(VF(1)) };
	pthread_t thread;
	uint32_t i;

	(void)state;
	store_relaxed(&stop, false);
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	to_port(&m, 2);
	of = matcher(t, 1, &m);
	assert_int_equal(pthread_create(&thread, NULL, reader, NULL), 0);
	for (i = 0; i < 300 || load_relaxed(&passed) < 300; i++) {
		struct cx_action *own =
			fake_glue.dr_create_flow_action_dest_port(fdb, VF(2)->ib_port);
		void *r[3];

		actions[0] = own;
		r[0] = fake_glue.dv_create_flow(of, value_of(&m), 1, actions);
		r[1] = fake_glue.dv_create_flow(of, value_of(&m), 1, actions);
		r[2] = fake_glue.dv_create_flow(of, value_of(&m), 1, actions);
		assert_non_null(r[2]);
		assert_int_equal(fake_glue.dv_destroy_flow(r[0]), 0);
		assert_int_equal(fake_glue.dv_destroy_flow(r[2]), 0);
		assert_int_equal(fake_glue.dv_destroy_flow(r[1]), 0);
		assert_int_equal(fake_glue.destroy_flow_action(own), 0);
	}
	store_relaxed(&stop, true);
	pthread_join(thread, NULL);
	fake_n = 0;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Time of so many frames in seconds. */
static double
send(uint32_t n)
{
	struct frame f = udp4_frame(1, 2);
	double start = now();

	for (; n > 0; n--) {
		fake_n = 0;
		from_far(VF(0), &f);
	}
	fake_n = 0;
	return now() - start;
}

/* What a frame costs does not depend on how many rules of a shape there are. */
static void
many_rules_cost_no_more_than_one(void **state)
{
	enum { RULES = 50000, FRAMES = 20000 };
	static void *rules[RULES];
	struct cx_table *root = table(fdb, 0), *t = table(fdb, 1);
	void *actions[] = { vport(VF(1)) };
	double few, many, start, inserted;
	struct match m = { 0 };
	struct cx_matcher *of;
	uint32_t i;

	(void)state;
	assert_non_null(rule(root, 0, &all, jump(t), NULL));
	to_port(&m, 2);
	of = matcher(t, 1, &m);
	rules[0] = fake_glue.dv_create_flow(of, value_of(&m), 1, actions);
	send(FRAMES);
	few = send(FRAMES);
	start = now();
	for (i = 1; i < RULES; i++) {
		to_port(&m, 2 + i);
		rules[i] = fake_glue.dv_create_flow(of, value_of(&m), 1, actions);
		assert_non_null(rules[i]);
	}
	inserted = now() - start;
	many = send(FRAMES);
	print_message("%.0f rules/s; %.0f ns a frame with one rule, %.0f with %u\n",
		      RULES / inserted, 1e9 * few / FRAMES, 1e9 * many / FRAMES, RULES);
	for (i = 0; i < RULES; i++)
		assert_int_equal(fake_glue.dv_destroy_flow(rules[i]), 0);
	/* A list would be a thousand times slower: even a loaded machine shows the difference. */
	assert_true(many < 20 * few);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_reset, fake_check)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(misses_go_to_the_twin),
		TEST(misses_are_received_by_the_representor),
		TEST(nic_rx_tables_end_in_a_drop),
		TEST(the_registers_that_the_kernel_passes_reach_nic_rx),
		TEST(queues_send_by_their_rules),
		TEST(queues_send_through_nic_tx),
		TEST(a_pf_without_a_switch_has_nic_domains),
		TEST(what_the_kernel_sends_leaves),
		TEST(mirrors_copy),
		TEST(one_frame_in_so_many_is_sampled),
		TEST(a_cx5_restores_the_source),
		TEST(frames_do_not_go_round_for_ever),
		TEST(rules_are_dumped),
		TEST(rules_come_and_go_under_traffic),
		TEST(many_rules_cost_no_more_than_one),
	};

	return cmocka_run_group_tests(tests, fake_setup, fake_end);
}
