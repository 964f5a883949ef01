/* SPDX-License-Identifier: Apache-2.0 */
/* drop_*: the end of a packet. One node for each reason, so that each has its own counter. What a
 * capture watches goes on to tap_drop. */
#include "drop.h"

#include <netinet/in.h>

#include <rte_ip.h>

#include "compat.h"
#include "mark.h"
#include "node.h"
#include "tables.h"

enum { NEXT_TAP, NB_EDGES };

/* The interface that a frame from the wire is for: by the tunnel from which the NIC has taken it,
 * or by the tunnel that it is in. NULL: none of this node. */
static const struct iface *
iface_of_wire(const struct worker *w, const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(eth + 1);
	const struct tunnel *t;

	if (rte_pktmbuf_data_len(m) < sizeof(*eth))
		return NULL;
	if (w->ports[m->port].marks && is_mark(&eth->src_addr)) {
		t = &w->tunnels[mark_tunnel(&eth->src_addr)];
		return t->used ? &w->ifaces[t->iface] : NULL;
	}
	if (rte_pktmbuf_data_len(m) < OUTER_LEN ||
	    eth->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV6) ||
	    (ip->proto != IPPROTO_IPIP && ip->proto != IPPROTO_IPV6))
		return NULL;
	return dps_iface_by_underlay(w, ipv6_dst(ip));
}

uint16_t
dps_drop_port(const struct worker *w, const struct rte_mbuf *m)
{
	const struct iface *to;

	if (m->port >= RTE_MAX_ETHPORTS)
		return NO_PORT;
	if (w->ports[m->port].vf)
		return m->port;
	to = iface_of_wire(w, m);
	return to != NULL ? to->port : m->port;
}

static uint16_t
drop(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs,
     enum drop_reason reason)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t i, port, unwatched = 0;
	struct rte_mbuf *m;

	for (i = 0; i < nb_objs; i++) {
		m = objs[i];
		port = dps_drop_port(w, m);
		drop_count(w, port, reason);
		if (likely(!drop_is_watched(w, port))) {
			objs[unwatched++] = m;
			continue;
		}
		pkt_meta(m)->drop_reason = reason;
		rte_node_enqueue_x1(graph, node, NEXT_TAP, m);
	}
	rte_pktmbuf_free_bulk((struct rte_mbuf **)objs, unwatched);
	return nb_objs;
}

#define DROP_NODE(NAME, reason)                                                                 \
	static uint16_t drop_##reason##_process(struct rte_graph *graph, struct rte_node *node, \
						void **objs, uint16_t nb_objs)                  \
	{                                                                                       \
		return drop(graph, node, objs, nb_objs, DROP_##NAME);                           \
	}                                                                                       \
	static struct rte_node_register drop_##reason = {                                       \
		.name = "drop_" #reason,                                                        \
		.process = drop_##reason##_process,                                             \
		.nb_edges = NB_EDGES,                                                           \
		.next_nodes = { [NEXT_TAP] = "tap_drop" },                                      \
	};                                                                                      \
	RTE_NODE_REGISTER(drop_##reason);

DROP_REASON_LIST(DROP_NODE)

/* The ends of what is no packet's loss. */

static uint16_t
free_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	RTE_SET_USED(graph);
	RTE_SET_USED(node);
	rte_pktmbuf_free_bulk((struct rte_mbuf **)objs, nb_objs);
	return nb_objs;
}

/* a tap's copy that does not fit the uplink; it has no bytes any more */
static struct rte_node_register drop_copy_too_big = {
	.name = "drop_copy_too_big",
	.process = free_process,
};
RTE_NODE_REGISTER(drop_copy_too_big);

/* what tap_drop has looked at, after a drop_ node has counted it */
static struct rte_node_register free_node = {
	.name = "free",
	.process = free_process,
};
RTE_NODE_REGISTER(free_node);
