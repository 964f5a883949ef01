/* SPDX-License-Identifier: Apache-2.0 */
/* icmp_*: tell a packet's sender why it was not forwarded. One node for each reason. The packet
 * becomes the error, and counts as dropped; one that must not be answered, or would be one too
 * many, goes to the drop node. */
#include <rte_cycles.h>

#include "bucket.h"
#include "drop.h"
#include "icmp.h"
#include "node.h"
#include "parse.h"
#include "tables.h"

enum { NEXT_DROP, NEXT_TAP, NEXT_TX };

/* For each interface, and for what comes to it from the wire: a router's errors are few. */
#define ERRORS_PER_SECOND 100
#define ERRORS_AT_ONCE 50

/* An error, and what it tells of. */
struct answer {
	struct icmp_error error;
	enum drop_reason reason;
};

static const struct answer time_exceeded = { { .type4 = 11, .type6 = 3 }, DROP_TTL };
static const struct answer too_big = { { .type4 = 3, .code4 = 4, .type6 = 2 }, DROP_TOO_BIG };
static const struct answer no_route = { { .type4 = 3, .type6 = 1 }, DROP_NO_ROUTE };

static bool
take_token(struct worker *w, const struct verdict *back, const struct flow_key *key)
{
	return bucket_take(&w->dp->errors_full[back->iface][(key->kind & KEY_WIRE) != 0], w->now,
			   rte_get_tsc_hz() / ERRORS_PER_SECOND, ERRORS_AT_ONCE);
}

/* Make the error of the packet. False: it is not answered. */
static bool
become_error(struct worker *w, struct rte_mbuf *m, const struct icmp_error *e, struct verdict *back)
{
	struct flow_key key = { 0 };
	uint8_t tcp_flags;
	uint16_t l3;

	if (!parse_packet(w, m, &key, &tcp_flags))
		return false;
	l3 = pkt_meta(m)->l3;
	return dps_icmp_may_answer(rte_pktmbuf_mtod_offset(m, const uint8_t *, l3)) &&
	       dps_resolve_back(w, &key, back) && take_token(w, back, &key) &&
	       dps_icmp_make_error(m, l3, e, w->ifaces[back->iface].gateway_ipv6, back);
}

/* The packet as it is now, for tap_drop; NULL: nobody watches, or there is no buffer. */
static struct rte_mbuf *
keep_for_tap(const struct worker *w, uint16_t port, const struct rte_mbuf *m,
	     enum drop_reason reason)
{
	struct rte_mbuf *kept;

	if (likely(!drop_is_watched(w, port)))
		return NULL;
	kept = rte_pktmbuf_copy(m, w->dp->pool, 0, UINT32_MAX);
	if (kept != NULL)
		pkt_meta(kept)->drop_reason = reason;
	return kept;
}

static void
answer(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m, const struct answer *a)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t port = dps_drop_port(w, m);
	struct rte_mbuf *kept = keep_for_tap(w, port, m, a->reason);
	struct verdict back;

	if (!become_error(w, m, &a->error, &back)) {
		rte_pktmbuf_free(kept);
		rte_node_enqueue_x1(graph, node, NEXT_DROP, m);
		return;
	}
	drop_count(w, port, a->reason);
	if (kept != NULL)
		rte_node_enqueue_x1(graph, node, NEXT_TAP, kept);
	rte_node_enqueue_x1(graph, node, NEXT_TX + back.slot, m);
}

static uint16_t
icmp_time_exceeded_process(struct rte_graph *graph, struct rte_node *node, void **objs,
			   uint16_t nb_objs)
{
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		answer(graph, node, objs[i], &time_exceeded);
	return nb_objs;
}

static uint16_t
icmp_too_big_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	const struct worker *w = node_ctx(node)->w;
	struct answer a = too_big;
	uint16_t i;

	for (i = 0; i < nb_objs; i++) {
		a.error.mtu = w->flows[pkt_meta(objs[i])->flow].verdict.mtu;
		answer(graph, node, objs[i], &a);
	}
	return nb_objs;
}

static uint16_t
icmp_no_route_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		answer(graph, node, objs[i], &no_route);
	return nb_objs;
}

/* The ports' tx nodes follow when a graph is built. */
#define ICMP_NODE(reason, drop)                                                \
	static struct rte_node_register icmp_##reason = {                      \
		.name = "icmp_" #reason,                                       \
		.process = icmp_##reason##_process,                            \
		.nb_edges = NEXT_TX,                                           \
		.next_nodes = { [NEXT_DROP] = drop, [NEXT_TAP] = "tap_drop" }, \
	};                                                                     \
	RTE_NODE_REGISTER(icmp_##reason)

ICMP_NODE(time_exceeded, "drop_ttl");
ICMP_NODE(too_big, "drop_too_big");
ICMP_NODE(no_route, "drop_no_route");
