/* SPDX-License-Identifier: Apache-2.0 */

/* Applications that use one NIC from many threads, while packets flow. ASan sees what is used too
 * late. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "nic.h"
#include "report.h"

#define SECONDS 2
#define STANDING 32
#define WRITERS 3

static atomic_bool stop;

/* A thread that changes rules; what it sees is looked at when it has ended. */
struct writer {
	pthread_t thread;
	int port;
	unsigned int seed;
	uint64_t created;
	uint64_t failures;
	struct rte_flow *flow[STANDING];
};

static bool
running(void)
{
	return !load_relaxed(&stop);
}

/* A rule that some of the packets meet: of one of a few shapes, groups and priorities, which come
 * and go with it. */
static struct rte_flow *
create(struct writer *w)
{
	static const uint8_t prefixes[] = { 0, 8, 24, 32 };
	uint32_t n = rand_r(&w->seed), group = n % 3;
	uint8_t prefix = prefixes[(n >> 4) % RTE_DIM(prefixes)];
	const struct rte_flow_attr attr = { .transfer = 1,
					    .group = group,
					    .priority = (n >> 8) % 3 };
	const struct rte_flow_item_ipv4 ip = { .hdr.dst_addr = RTE_BE32(0x0a000002) };
	const struct rte_flow_item_ipv4 mask = {
		.hdr.dst_addr = rte_cpu_to_be_32(prefix == 0 ? 0 : UINT32_MAX << (32 - prefix))
	};
	const struct rte_flow_item *items =
		ITEMS(ITEM(ETH), ITEM(IPV4, .spec = &ip, .mask = &mask));

	if (group < 2 && (n & 0x10000))
		return rte_flow_create(nic.port[w->port], &attr, items,
				       ACTIONS(ACTION(COUNT),
					       SAMPLE(1, ENCAP(udp_header, 62), TO(PF0)),
					       JUMP(group + 1)),
				       NULL);
	return rte_flow_create(nic.port[w->port], &attr, items,
			       ACTIONS(AGE(1), ACTION(COUNT), TO(VF3)), NULL);
}

static void
replace(struct writer *w, uint32_t at)
{
	struct rte_flow_query_count count = { 0 };
	uint16_t port = nic.port[w->port];

	if (w->flow[at] != NULL) {
		w->failures += rte_flow_query(port, w->flow[at], ACTIONS(ACTION(COUNT)), &count,
					      NULL) != 0;
		w->failures += rte_flow_destroy(port, w->flow[at], NULL) != 0;
	}
	w->flow[at] = create(w);
	w->failures += w->flow[at] == NULL;
	w->created++;
}

static void *
write_rules(void *arg)
{
	struct writer *w = arg;
	uint32_t i;

	while (running())
		replace(w, rand_r(&w->seed) % STANDING);
	for (i = 0; i < STANDING; i++)
		if (w->flow[i] != NULL)
			w->failures += rte_flow_destroy(nic.port[w->port], w->flow[i], NULL) != 0;
	return NULL;
}

static void *
read_rules(void *arg)
{
	FILE *nowhere = fopen("/dev/null", "w");
	struct rte_eth_xstat xstats[200];
	uint64_t *failures = arg;
	void *contexts[8];

	while (running()) {
		*failures += rte_flow_dev_dump(nic.port[VF0], NULL, nowhere, NULL) != 0;
		*failures += rte_flow_get_aged_flows(nic.port[VF0], contexts, RTE_DIM(contexts),
						     NULL) < 0;
		*failures += rte_flow_validate(nic.port[PF0], &transfer, ITEMS(ITEM(ETH)),
					       ACTIONS(TO(VF0)), NULL) != 0;
		*failures +=
			rte_eth_xstats_get(nic.port[VF0], xstats, RTE_DIM(xstats)) < ESW_STAT_MAX;
	}
	fclose(nowhere);
	return NULL;
}

static void
take_all(void)
{
	int port;

	for (port = 0; port < NIC_PORTS; port++) {
		while (nic_left(port).len > 0)
			;
		while (nic_received(port).len > 0)
			;
	}
}

static uint64_t
forward(uint64_t until)
{
	struct frame burst[ESW_BURST];
	uint64_t sent = 0;
	uint32_t i;

	for (i = 0; i < ESW_BURST; i++)
		burst[i] = udp4_frame(i, i);
	while (rte_rdtsc() < until) {
		nic_arrive_together(VF0, burst, ESW_BURST);
		sent += ESW_BURST;
		take_all();
	}
	return sent;
}

static void
serves_many_threads_while_packets_flow(void **state)
{
	static struct writer writers[WRITERS] = { { .port = VF0 },
						  { .port = VF0 },
						  { .port = VF3 } };
	uint64_t sent, created = 0, read_failures = 0;
	pthread_t reader;
	uint32_t i;

	(void)state;
	for (i = 0; i < WRITERS; i++) {
		writers[i].seed = i;
		assert_int_equal(pthread_create(&writers[i].thread, NULL, write_rules, &writers[i]),
				 0);
	}
	assert_int_equal(pthread_create(&reader, NULL, read_rules, &read_failures), 0);
	sent = forward(rte_rdtsc() + SECONDS * rte_get_tsc_hz());
	store_relaxed(&stop, true);
	assert_int_equal(pthread_join(reader, NULL), 0);
	for (i = 0; i < WRITERS; i++) {
		assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
		assert_int_equal(writers[i].failures, 0);
		assert_true(writers[i].created > 0);
		created += writers[i].created;
	}
	assert_int_equal(read_failures, 0);
	/* Each packet either hits or misses, whatever changes around it; both do happen. */
	assert_int_equal(nic_stat(VF0, "hits") + nic_stat(VF0, "misses"), sent);
	assert_int_not_equal(nic_stat(VF0, "hits"), 0);
	assert_int_not_equal(nic_stat(VF0, "sampled"), 0);
	report("net_eswitch in C: %lu rules came and went from %u threads while %lu packets flowed",
	       created, WRITERS, sent);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(serves_many_threads_while_packets_flow, nic_clean),
	};

	return cmocka_run_group_tests(tests, nic_setup, nic_teardown);
}
