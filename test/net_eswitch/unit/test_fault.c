/* SPDX-License-Identifier: Apache-2.0 */

/* What telemetry's socket offers: faults (devargs set them too), and what they do, and the NIC's
 * rules. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "nic.h"

#define NIC "net_eswitch_unit"
#define FAULT "/net_eswitch/fault," NIC
#define COUNTERS "/net_eswitch/counters," NIC

static void
assert_says(const char *command, const char *part)
{
	const char *answer = nic_ask(command);

	if (strstr(answer, part) == NULL)
		fail_msg("%s: %s lacks %s", command, answer, part);
}

static uint64_t
number(const char *command, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(nic_ask(command), quoted);
	assert_non_null(at);
	return strtoull(at + strlen(quoted), NULL, 10);
}

static int
clean(void **state)
{
	nic_ask(FAULT ",clear");
	return nic_clean(state);
}

static struct rte_flow *
create(struct rte_flow_error *error)
{
	return rte_flow_create(nic.port[VF0], &transfer, ITEMS(ITEM(ETH)), ACTIONS(TO(VF3)), error);
}

static int
validate(void)
{
	return rte_flow_validate(nic.port[VF0], &transfer, ITEMS(ITEM(ETH)), ACTIONS(TO(VF3)),
				 NULL);
}

static void
fails_the_calls_that_are_named(void **state)
{
	static const bool fails[] = { false, true, false, false, true, false, true, true, true };
	struct rte_flow_error error;
	size_t i;

	(void)state;
	assert_says(FAULT ",fail_create=2:5:7+,fail_errno=12", "\"fail_create\":\"2:5:7+\"");
	assert_says(FAULT, "\"pending\":3");
	for (i = 0; i < RTE_DIM(fails); i++) {
		error.message = NULL;
		assert_int_equal(create(&error) == NULL, fails[i]);
		if (!fails[i])
			continue;
		assert_int_equal(rte_errno, ENOMEM);
		assert_non_null(strstr(error.message, "fault injected into create"));
	}
	assert_says(FAULT, "\"pending\":0");
	assert_int_equal(validate(), 0);
	nic_ask(FAULT ",clear");
	assert_non_null(create(NULL));
}

static void
fails_validation_and_destruction(void **state)
{
	struct rte_flow *flow = create(NULL);
	struct frame f = udp4_frame(1, 2);

	(void)state;
	assert_non_null(flow);
	assert_says(FAULT ",fail_validate=1,fail_destroy=1:2", "\"fail_destroy\":\"1:2\"");
	assert_int_equal(validate(), -EIO);
	assert_int_equal(validate(), 0);
	/* A rule that could not be destroyed is still installed. */
	assert_int_equal(rte_flow_destroy(nic.port[VF0], flow, NULL), -EIO);
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
	assert_int_equal(rte_flow_destroy(nic.port[VF0], flow, NULL), -EIO);
	nic_destroy(VF0, flow);
	nic_arrive(VF0, &f);
	nic_assert_received(VF0, &f);
}

static void
fails_the_other_calls(void **state)
{
	struct rte_flow_query_count count = { 0 };
	struct rte_flow *flow = nic_rule(VF0, transfer, ITEMS(), ACTIONS(ACTION(COUNT), TO(VF3)));

	(void)state;
	nic_ask(FAULT ",fail_query=1,fail_flush=1,fail_isolate=1");
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(ACTION(COUNT)), &count, NULL),
			 -EIO);
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(ACTION(COUNT)), &count, NULL),
			 0);
	assert_int_equal(rte_flow_flush(nic.port[VF0], NULL), -EIO);
	assert_int_equal(rte_flow_query(nic.port[VF0], flow, ACTIONS(ACTION(COUNT)), &count, NULL),
			 0);
	assert_int_equal(rte_flow_flush(nic.port[VF0], NULL), 0);
	assert_int_equal(rte_flow_isolate(nic.port[VF0], 0, NULL), -EIO);
}

static void
numbers_calls_of_all_kinds(void **state)
{
	struct rte_flow *flow;

	(void)state;
	nic_ask(FAULT ",fail_call=2:4");
	assert_int_equal(validate(), 0);
	assert_null(create(NULL));
	flow = create(NULL);
	assert_non_null(flow);
	assert_int_equal(rte_flow_destroy(nic.port[VF0], flow, NULL), -EIO);
	nic_destroy(VF0, flow);
}

static void
counts_calls(void **state)
{
	uint64_t creates = number(COUNTERS, "create"), failed = number(COUNTERS, "failed_create");
	uint64_t calls = number(COUNTERS, "call");

	(void)state;
	nic_ask(FAULT ",fail_create=1");
	create(NULL);
	create(NULL);
	validate();
	assert_int_equal(number(COUNTERS, "create"), creates + 2);
	assert_int_equal(number(COUNTERS, "failed_create"), failed + 1);
	assert_int_equal(number(COUNTERS, "call"), calls + 3);
}

static void
numbers_calls_from_when_it_is_told(void **state)
{
	(void)state;
	nic_ask(FAULT ",fail_create=1:2");
	assert_null(create(NULL));
	/* Another fault changes nothing about this one, the same one begins anew. */
	nic_ask(FAULT ",fail_destroy=9");
	assert_null(create(NULL));
	assert_non_null(create(NULL));
	nic_ask(FAULT ",fail_create=2");
	assert_non_null(create(NULL));
	assert_null(create(NULL));
	nic_ask(FAULT ",fail_create=1");
	nic_ask(FAULT ",fail_create=0");
	assert_non_null(create(NULL));
}

static void
takes_its_time(void **state)
{
	uint64_t start;

	(void)state;
	assert_says(FAULT ",create_delay_us=50000", "\"create_delay_us\":50000");
	start = rte_rdtsc();
	assert_non_null(create(NULL));
	/* The kernel's clock and the TSC may differ a little. */
	assert_true(rte_rdtsc() - start >= rte_get_tsc_hz() / 25);
}

static void
stops_a_far_side(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_mbuf *m;

	(void)state;
	nic_rule(VF0, transfer, ITEMS(), ACTIONS(TO(VF3)));
	assert_says(FAULT ",far_stop=vf3", "\"far_stop\":\"vf3\"");
	nic_arrive(VF0, &f);
	assert_int_equal(nic_stat(VF3, "far_tx_errors"), 1);
	nic_arrive(VF3, &f);
	assert_int_equal(nic_stat(VF3, "fault_dropped"), 1);
	/* The application's packets stay the application's. */
	m = rte_pktmbuf_alloc(nic.pool);
	assert_non_null(rte_pktmbuf_append(m, 64));
	assert_int_equal(rte_eth_tx_burst(nic.port[VF3], 0, &m, 1), 0);
	rte_pktmbuf_free(m);
	nic_assert_quiet();
	assert_says(FAULT ",far_start=" NIC "_representor_vf3", "\"far_stop\":\"\"");
	nic_arrive(VF0, &f);
	nic_assert_left(VF3, &f);
	nic_assert_quiet();
}

static int
on_event(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)port;
	(void)event;
	(void)ret;
	atomic_fetch_add_explicit((atomic_int *)arg, 1, memory_order_relaxed);
	return 0;
}

static void
wait_for(const atomic_int *events, int n)
{
	int waited;

	for (waited = 0; waited < 2000 && load_relaxed(events) != n; waited++)
		usleep(1000);
	assert_int_equal(load_relaxed(events), n);
}

static void
ask_for_link_events(int port, int on)
{
	assert_int_equal(rte_eth_dev_stop(nic.port[port]), 0);
	nic.esw[port]->dev->data->dev_conf.intr_conf.lsc = on;
	assert_int_equal(rte_eth_dev_start(nic.port[port]), 0);
}

static void
drops_the_link(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_eth_link link;
	atomic_int events = 0;

	(void)state;
	ask_for_link_events(PF0, 1);
	assert_int_equal(rte_eth_dev_callback_register(nic.port[PF0], RTE_ETH_EVENT_INTR_LSC,
						       on_event, &events),
			 0);
	nic_rule(VF0, transfer, ITEMS(), ACTIONS(TO(PF0)));
	assert_says(FAULT ",link_down=pf0", "\"link_down\":\"pf0\"");
	wait_for(&events, 1);
	assert_int_equal(rte_eth_link_get_nowait(nic.port[PF0], &link), 0);
	assert_int_equal(link.link_status, RTE_ETH_LINK_DOWN);
	nic_arrive(VF0, &f);
	nic_arrive(PF0, &f);
	nic_send(PF0, &f);
	nic_assert_quiet();
	assert_int_equal(nic_stat(PF0, "fault_dropped"), 3);
	nic_ask(FAULT ",clear");
	wait_for(&events, 2);
	assert_int_equal(rte_eth_link_get_nowait(nic.port[PF0], &link), 0);
	assert_int_equal(link.link_status, RTE_ETH_LINK_UP);
	nic_arrive(VF0, &f);
	nic_assert_left(PF0, &f);
	assert_int_equal(rte_eth_dev_callback_unregister(nic.port[PF0], RTE_ETH_EVENT_INTR_LSC,
							 on_event, &events),
			 0);
	ask_for_link_events(PF0, 0);
}

/* For good: no other test may need the port. */
static void
removes_a_port(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_eth_link link;
	atomic_int events = 0;

	(void)state;
	nic.esw[VF3]->dev->data->dev_conf.intr_conf.rmv = 1;
	assert_int_equal(rte_eth_dev_callback_register(nic.port[VF3], RTE_ETH_EVENT_INTR_RMV,
						       on_event, &events),
			 0);
	nic_ask(FAULT ",remove=vf3");
	wait_for(&events, 1);
	nic_ask(FAULT ",remove=vf3");
	nic_ask(FAULT ",clear");
	assert_int_equal(rte_eth_link_get_nowait(nic.port[VF3], &link), 0);
	assert_int_equal(link.link_status, RTE_ETH_LINK_DOWN);
	nic_arrive(VF3, &f);
	nic_assert_quiet();
	assert_int_equal(load_relaxed(&events), 1);
	assert_int_equal(rte_eth_dev_callback_unregister(nic.port[VF3], RTE_ETH_EVENT_INTR_RMV,
							 on_event, &events),
			 0);
}

static void
refuses_faults_that_make_no_sense(void **state)
{
	static const char *const bad[] = {
		"",
		"fail_create",
		"fail_create=",
		"fail_create=x",
		"fail_create=-1",
		"fail_create=0:1",
		"fail_create=1x",
		"fail_create=1++",
		"fail_create=1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17",
		"fail_jump=1",
		"fail_errno=x",
		"fail_errno=99999",
		"create_delay_us=10000001",
		"far_stop=vf1",
		"link_down=",
		"nonsense=1",
		"fail_create=1,far_stop=vf1",
	};
	char command[200];
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(bad); i++) {
		snprintf(command, sizeof(command), FAULT ",%s", bad[i]);
		if (bad[i][0] != '\0')
			assert_says(command, "\"error\":");
		assert_says(FAULT, "\"fail_create\":\"0\"");
	}
	assert_says("/net_eswitch/fault", "\"error\":");
	assert_says("/net_eswitch/fault,other", "there is no NIC other");
}

/* Packs the pages of a list of rules together, and returns how many pages there were. */
static int
list_rules(char *text, size_t size)
{
	char command[100];
	int lines = 0, pages = 0;

	for (text[0] = '\0';; pages++) {
		const char *at;

		snprintf(command, sizeof(command), "/net_eswitch/rules," NIC ",%d", lines);
		at = strchr(nic_ask(command), ':');
		assert_non_null(at);
		assert_true(strlen(text) + strlen(at) < size);
		strcat(text, at);
		if (strcmp(at, ":\"\"}") == 0)
			return pages;
		while ((at = strstr(at, "\\n")) != NULL) {
			lines++;
			at++;
		}
	}
}

static void
lists_rules(void **state)
{
	static char text[200000];
	char line[200];
	uint16_t i;

	(void)state;
	assert_string_equal(nic_ask("/net_eswitch/rules," NIC), "{\"/net_eswitch/rules\":\"\"}");
	for (i = 0; i < 1000; i++)
		nic_rule(i % 2 ? PF0 : VF0, transfer_group(i), ITEMS(), ACTIONS(TO(VF3)));
	assert_true(list_rules(text, sizeof(text)) > 1);
	for (i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line),
			 "on %s from %s transfer group %u priority 0 pattern actions port=vf3\\n",
			 i % 2 ? "pf0" : "vf0", i % 2 ? "pf0" : "vf0", i);
		if (strstr(text, line) == NULL)
			fail_msg("%s is not in the list", line);
	}
}

static void
has_faults_from_the_start(void **state)
{
	struct frame f = udp4_frame(1, 2);
	struct rte_eth_link link;
	uint64_t start;

	(void)state;
	assert_says(FAULT, "\"fail_create\":\"1:3+\"");
	assert_says(FAULT, "\"fail_errno\":28");
	assert_int_equal(rte_eth_link_get_nowait(nic.port[VF0], &link), 0);
	assert_int_equal(link.link_status, RTE_ETH_LINK_DOWN);
	nic_arrive(VF3, &f);
	assert_int_equal(nic_stat(VF3, "fault_dropped"), 1);
	start = rte_rdtsc();
	assert_null(create(NULL));
	assert_int_equal(rte_errno, ENOSPC);
	/* The kernel's clock and the TSC may differ a little. */
	assert_true(rte_rdtsc() - start >= rte_get_tsc_hz() / 25);
	assert_non_null(create(NULL));
	assert_null(create(NULL));
}

static void
reads_devargs(void **state)
{
	struct esw_devargs args;

	(void)state;
	assert_int_equal(esw_devargs_parse("pf0=a,fail_create=3:5+,vf0=b,link_down=vf0", &args), 0);
	assert_int_equal(args.ports, 2);
	assert_string_equal(args.faults, "fail_create=3:5+,link_down=vf0");
	assert_int_equal(esw_devargs_parse("pf0=a,fail_jump=1", &args), -EINVAL);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, clean)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_faults_from_the_start),
		TEST(fails_the_calls_that_are_named),
		TEST(fails_validation_and_destruction),
		TEST(fails_the_other_calls),
		TEST(numbers_calls_of_all_kinds),
		TEST(counts_calls),
		TEST(numbers_calls_from_when_it_is_told),
		TEST(takes_its_time),
		TEST(stops_a_far_side),
		TEST(drops_the_link),
		TEST(refuses_faults_that_make_no_sense),
		TEST(reads_devargs),
		TEST(lists_rules),
		TEST(removes_a_port),
	};

	nic_telemetry = true;
	nic_devargs =
		"fail_create=1:3+,fail_errno=28,link_down=vf0,far_stop=vf3,create_delay_us=50000";
	return cmocka_run_group_tests(tests, nic_setup, nic_teardown);
}
