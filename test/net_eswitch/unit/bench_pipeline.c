/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How fast packets go through the rules, with 10, 1,000 and 100,000 rules of one shape: parsing,
 * two lookups (group 0 jumps, as in dpservice), the rewriting of a packet that leaves for the wire,
 * count and age. The rules encapsulate for a number of peers, 256 or as many as there are rules.
 * Bursts come from this thread, so that neither far sides nor the waiting for them are measured.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_random.h>

#include "../eswitch.h"
#include "frame.h"

#define NIC "net_eswitch_bench"
#define BURSTS 30000
#define VNET 2

static uint16_t pf0, vf0;
static struct rte_mempool *pool;
static struct frame frame;

static void
check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, rte_strerror(rte_errno));
	exit(EXIT_FAILURE);
}

static void
create(uint32_t group, const struct rte_flow_item *items, const struct rte_flow_action *actions)
{
	const struct rte_flow_attr attr = { .transfer = 1, .group = group };
	struct rte_flow_error error = { .message = "" };

	check(rte_flow_create(vf0, &attr, items, actions, &error) != NULL, error.message);
}

static void
create_base(void)
{
	const struct rte_flow_item items[] = { { .type = RTE_FLOW_ITEM_TYPE_ETH },
					       { .type = RTE_FLOW_ITEM_TYPE_END } };
	const struct rte_flow_action_jump jump = { .group = VNET };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_JUMP, .conf = &jump },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};

	create(0, items, actions);
}

/* The nth rule, to one of the peers. */
static void
create_flow(uint32_t n, uint32_t peers)
{
	const struct rte_flow_item_ipv4 ip = { .hdr = { .src_addr = RTE_BE32(0x0a000001),
							.next_proto_id = IPPROTO_TCP,
							.dst_addr = rte_cpu_to_be_32(0x0b000000 +
										     n) } };
	const struct rte_flow_item_ipv4 ip_mask = { .hdr = { .src_addr = UINT32_MAX,
							     .dst_addr = UINT32_MAX,
							     .next_proto_id = UINT8_MAX } };
	const struct rte_flow_item_tcp tcp = { .hdr = { .src_port = RTE_BE16(1000),
							.dst_port = RTE_BE16(80) } };
	const struct rte_flow_item_tcp tcp_mask = {
		.hdr = { .src_port = UINT16_MAX, .dst_port = UINT16_MAX, .tcp_flags = 7 }
	};
	const struct rte_flow_item items[] = {
		{ .type = RTE_FLOW_ITEM_TYPE_ETH },
		{ .type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &ip, .mask = &ip_mask },
		{ .type = RTE_FLOW_ITEM_TYPE_TCP, .spec = &tcp, .mask = &tcp_mask },
		{ .type = RTE_FLOW_ITEM_TYPE_END },
	};
	uint8_t header[54] = {
		2,         [12] = 0x86, [13] = 0xdd, [14] = 0x60, [20] = IPPROTO_IPIP,
		[21] = 64, [22] = 0xfc
	};
	const rte_be32_t peer = rte_cpu_to_be_32(n % peers);
	const struct rte_flow_action_raw_decap decap = { .size = 14 };
	const struct rte_flow_action_raw_encap encap = { .data = header, .size = sizeof(header) };
	const struct rte_flow_action_age age = { .timeout = 1000 };
	const struct rte_flow_action_ethdev to = { .port_id = pf0 };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_DEC_TTL },
		{ .type = RTE_FLOW_ACTION_TYPE_RAW_DECAP, .conf = &decap },
		{ .type = RTE_FLOW_ACTION_TYPE_RAW_ENCAP, .conf = &encap },
		{ .type = RTE_FLOW_ACTION_TYPE_AGE, .conf = &age },
		{ .type = RTE_FLOW_ACTION_TYPE_COUNT },
		{ .type = RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, .conf = &to },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};

	memcpy(&header[50], &peer, sizeof(peer));
	create(VNET, items, actions);
}

static void
make_burst(struct rte_mbuf **pkts, uint32_t rules)
{
	rte_be32_t to;
	uint32_t i;

	check(rte_pktmbuf_alloc_bulk(pool, pkts, ESW_BURST) == 0, "mbufs");
	for (i = 0; i < ESW_BURST; i++) {
		uint8_t *data = (uint8_t *)rte_pktmbuf_append(pkts[i], frame.len);

		to = rte_cpu_to_be_32(0x0b000000 + rte_rand_max(rules));
		memcpy(data, frame.data, frame.len);
		memcpy(data + 14 + 16, &to, sizeof(to));
	}
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Nanoseconds for a packet: the median of the bursts, which leaves out those that other programs
 * interrupt. */
static double
measure(struct esw_output *out, struct esw_port *from, uint32_t rules)
{
	static uint64_t spent[BURSTS];
	struct rte_mbuf *pkts[ESW_BURST];
	uint64_t begin;
	uint32_t i;

	for (i = 0; i < BURSTS; i++) {
		make_burst(pkts, rules);
		begin = rte_rdtsc_precise();
		esw_pipeline_burst(out, from, pkts, ESW_BURST);
		spent[i] = rte_rdtsc_precise() - begin;
	}
	qsort(spent, BURSTS, sizeof(spent[0]), compare);
	return spent[BURSTS / 2] * 1e9 / rte_get_tsc_hz() / ESW_BURST;
}

static void
start(void)
{
	char prefix[32];
	char *args[] = { "bench",       "--no-huge",      "-m",  "128", "--no-pci",
			 "--no-shconf", "--no-telemetry", "-l",  "0",   "--log-level",
			 "lib.eal:4",   "--file-prefix",  prefix };

	snprintf(prefix, sizeof(prefix), "eswbench%d", getpid());
	check(rte_eal_init(RTE_DIM(args), args) >= 0, "EAL");
	check(rte_vdev_init("net_null0", "no-rx=1") == 0 &&
		      rte_vdev_init("net_null1", "no-rx=1") == 0,
	      "net_null");
	pool = rte_pktmbuf_pool_create("bench", 1023, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
				       SOCKET_ID_ANY);
	check(pool != NULL, "pool");
	frame = tcp4_frame(0x10);
}

/* Lets a new NIC have more and more rules. */
static void
run(struct esw_output *out, uint32_t peers)
{
	static const uint32_t steps[] = { 10, 1000, 100000 };
	struct esw_port *from;
	uint32_t i, before, rules = 0;
	uint64_t begin;
	double ns;

	check(rte_vdev_init(NIC, "pf0=net_null0,vf0=net_null1") == 0, NIC);
	check(rte_eth_dev_get_port_by_name(NIC, &pf0) == 0, "PF0");
	check(rte_eth_dev_get_port_by_name(NIC "_representor_vf0", &vf0) == 0, "VF0");
	from = rte_eth_devices[vf0].data->dev_private;
	out->nic = from->nic;
	create_base();
	for (i = 0; i < RTE_DIM(steps); i++) {
		before = rules;
		begin = rte_rdtsc();
		while (rules < steps[i])
			create_flow(rules++, peers);
		printf("%6u rules, %6u peers: %7.0f creates/s, ", rules, RTE_MIN(rules, peers),
		       (rules - before) / ((double)(rte_rdtsc() - begin) / rte_get_tsc_hz()));
		fflush(stdout);
		ns = measure(out, from, rules);
		printf("%5.1f ns a packet, %5.2f million packets/s\n", ns, 1000 / ns);
	}
	check(from->stat[ESW_STAT_MISSES] == 0, "packets have missed the rules");
	check(rte_vdev_uninit(NIC) == 0, "removal");
}

int
main(void)
{
	struct esw_output *out = calloc(1, sizeof(*out));

	check(out != NULL, "memory");
	start();
	run(out, 256);
	run(out, UINT32_MAX);
	free(out);
	return rte_eal_cleanup() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
