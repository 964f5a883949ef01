/* SPDX-License-Identifier: Apache-2.0 */
/* flow_route: the first packets of a flow, and those after a change of the configuration. Resolve
 * the route and keep the verdict in the flow table. What is dropped is not kept. */
#include "explain.h"
#include "flow.h"
#include "node.h"
#include "peer.h"
#include "tables.h"

enum {
	NEXT_OVERFLOW = NEXT_FORWARDS,
	NEXT_SPOOFED,
	NEXT_NO_ROUTE,
	NEXT_NO_NEIGHBOUR,
	NEXT_UNKNOWN_UNDERLAY,
	NEXT_MARTIAN_SOURCE,
	NEXT_UNSPECIFIED,
	NEXT_LOOPBACK,
	NEXT_LINK_LOCAL,
	NEXT_MULTICAST,
	NEXT_BROADCAST,
	NEXT_RESERVED,
	NEXT_TO_GATEWAY,
	NEXT_WRONG_PEER,
	NEXT_LOCAL_SOURCE,
	NB_EDGES,
};

static const rte_edge_t drop_edges[] = {
	[RESOLVED_SPOOFED] = NEXT_SPOOFED,
	[RESOLVED_NO_ROUTE] = NEXT_NO_ROUTE,
	[RESOLVED_NO_NEIGHBOUR] = NEXT_NO_NEIGHBOUR,
	[RESOLVED_UNKNOWN_UNDERLAY] = NEXT_UNKNOWN_UNDERLAY,
	[RESOLVED_MARTIAN_SOURCE] = NEXT_MARTIAN_SOURCE,
	[RESOLVED_UNSPECIFIED] = NEXT_UNSPECIFIED,
	[RESOLVED_LOOPBACK] = NEXT_LOOPBACK,
	[RESOLVED_LINK_LOCAL] = NEXT_LINK_LOCAL,
	[RESOLVED_MULTICAST] = NEXT_MULTICAST,
	[RESOLVED_BROADCAST] = NEXT_BROADCAST,
	[RESOLVED_RESERVED] = NEXT_RESERVED,
	[RESOLVED_TO_GATEWAY] = NEXT_TO_GATEWAY,
	[RESOLVED_WRONG_PEER] = NEXT_WRONG_PEER,
	[RESOLVED_LOCAL_SOURCE] = NEXT_LOCAL_SOURCE,
};

static rte_edge_t
route(struct worker *w, struct rte_mbuf *m)
{
	struct flow_key key = { 0 };
	enum resolution res;
	struct verdict v;
	uint8_t tcp_flags;
	uint32_t pos;

	parse_packet(w, m, &key, &tcp_flags); /* flow_lookup has checked the packet */
	res = dps_resolve(w, &key, &v);
	if (v.from_peer && !peer_is_right(w, m, &key, &v))
		return NEXT_WRONG_PEER; /* no error either: it would go to somebody else */
	if (res != RESOLVED)
		return drop_edges[res];
	pos = dps_flow_put(w, &key, &v);
	if (unlikely(pos == FLOW_NONE)) {
		pkt_meta(m)->flow = dps_flow_spare(w, &key, &v);
		return NEXT_OVERFLOW;
	}
	pkt_meta(m)->flow = pos;
	flow_touch(w, &w->flows[pos], m, tcp_flags);
	return v.next;
}

static struct rte_node_register flow_route_node;

const char *
dps_resolution_node(enum resolution res)
{
	return res == RESOLVED ? NULL : flow_route_node.next_nodes[drop_edges[res]];
}

static uint16_t
flow_route_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		rte_node_enqueue_x1(graph, node, route(w, objs[i]), objs[i]);
	return nb_objs;
}

static struct rte_node_register flow_route_node = {
	.name = "flow_route",
	.process = flow_route_process,
	.nb_edges = NB_EDGES,
	.next_nodes = {
		[NEXT_DELIVER] = "deliver",
		[NEXT_ENCAP] = "encap",
		[NEXT_DECAP] = "decap",
		[NEXT_OVERFLOW] = "flow_overflow",
		[NEXT_SPOOFED] = "drop_spoofed",
		[NEXT_NO_ROUTE] = "icmp_no_route",
		[NEXT_NO_NEIGHBOUR] = "drop_no_neighbour",
		[NEXT_UNKNOWN_UNDERLAY] = "drop_unknown_underlay",
		[NEXT_MARTIAN_SOURCE] = "drop_martian_source",
		[NEXT_UNSPECIFIED] = "drop_unspecified",
		[NEXT_LOOPBACK] = "drop_loopback",
		[NEXT_LINK_LOCAL] = "drop_link_local",
		[NEXT_MULTICAST] = "drop_multicast",
		[NEXT_BROADCAST] = "drop_broadcast",
		[NEXT_RESERVED] = "drop_reserved",
		[NEXT_TO_GATEWAY] = "drop_to_gateway",
		[NEXT_WRONG_PEER] = "drop_wrong_peer",
		[NEXT_LOCAL_SOURCE] = "drop_local_source",
	},
};
RTE_NODE_REGISTER(flow_route_node);
