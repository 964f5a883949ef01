/* SPDX-License-Identifier: Apache-2.0 */
/* icmp_*: tell a packet's sender why it was not forwarded. One node for each reason. The packet
 * becomes the error; one that must not be answered, or would be one too many, is dropped. */
#include <rte_cycles.h>

#include "bucket.h"
#include "icmp.h"
#include "node.h"
#include "parse.h"
#include "tables.h"

enum { NEXT_DROP, NEXT_TX };

/* For each interface, and for what comes to it from the wire: a router's errors are few. */
#define ERRORS_PER_SECOND 100
#define ERRORS_AT_ONCE 50

static const struct icmp_error time_exceeded = { .type4 = 11, .code4 = 0, .type6 = 3, .code6 = 0 };
static const struct icmp_error too_big = { .type4 = 3, .code4 = 4, .type6 = 2, .code6 = 0 };
static const struct icmp_error no_route = { .type4 = 3, .code4 = 0, .type6 = 1, .code6 = 0 };

static bool
take_token(struct worker *w, const struct verdict *back, const struct flow_key *key)
{
	return bucket_take(&w->dp->errors_full[back->iface][(key->kind & KEY_WIRE) != 0], w->now,
			   rte_get_tsc_hz() / ERRORS_PER_SECOND, ERRORS_AT_ONCE);
}

static rte_edge_t
answer(struct worker *w, struct rte_mbuf *m, const struct icmp_error *e)
{
	struct flow_key key;
	struct verdict back;
	uint16_t l3;

	if (!parse_packet(w, m, &key))
		return NEXT_DROP;
	l3 = pkt_meta(m)->l3;
	if (!dps_icmp_may_answer(rte_pktmbuf_mtod_offset(m, const uint8_t *, l3)) ||
	    !dps_resolve_back(w, &key, &back) || !take_token(w, &back, &key) ||
	    !dps_icmp_make_error(m, l3, e, w->ifaces[back.iface].gateway_ipv6, &back))
		return NEXT_DROP;
	return NEXT_TX + back.slot;
}

static uint16_t
icmp_time_exceeded_process(struct rte_graph *graph, struct rte_node *node, void **objs,
			   uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		rte_node_enqueue_x1(graph, node, answer(w, objs[i], &time_exceeded), objs[i]);
	return nb_objs;
}

static uint16_t
icmp_too_big_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	struct icmp_error e = too_big;
	uint16_t i;

	for (i = 0; i < nb_objs; i++) {
		e.mtu = w->flows[pkt_meta(objs[i])->flow].verdict.mtu;
		rte_node_enqueue_x1(graph, node, answer(w, objs[i], &e), objs[i]);
	}
	return nb_objs;
}

static uint16_t
icmp_no_route_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		rte_node_enqueue_x1(graph, node, answer(w, objs[i], &no_route), objs[i]);
	return nb_objs;
}

/* The ports' tx nodes follow when a graph is built. */
#define ICMP_NODE(reason, drop)                           \
	static struct rte_node_register icmp_##reason = { \
		.name = "icmp_" #reason,                  \
		.process = icmp_##reason##_process,       \
		.nb_edges = NEXT_TX,                      \
		.next_nodes = { [NEXT_DROP] = drop },     \
	};                                                \
	RTE_NODE_REGISTER(icmp_##reason)

ICMP_NODE(time_exceeded, "drop_ttl");
ICMP_NODE(too_big, "drop_too_big");
ICMP_NODE(no_route, "drop_no_route");
