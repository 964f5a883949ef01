/* SPDX-License-Identifier: Apache-2.0 */
#include "build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>

#include "node.h"
#include "tap.h"

/* The nodes that lead to the ports' tx nodes: how many other edges they have before. */
static const struct {
	const char *name;
	uint16_t static_edges;
} to_tx[] = { { "inject", 0 },
	      { "deliver", 2 },
	      { "encap", 3 },
	      { "decap", 1 },
	      { "icmp_time_exceeded", 2 },
	      { "icmp_too_big", 2 },
	      { "icmp_no_route", 2 } };

static void
node_name(char *name, const char *parent, const struct port *port)
{
	snprintf(name, RTE_NODE_NAMESIZE, "%s-%s", parent, port->name);
}

/* The port's own node of this kind; one left from an earlier graph is as good as new. */
static rte_node_t
clone_for_port(const char *parent, const struct port *port)
{
	char name[RTE_NODE_NAMESIZE];
	rte_node_t id;

	node_name(name, parent, port);
	id = rte_node_from_name(name);
	if (id != RTE_NODE_ID_INVALID)
		return id;
	return rte_node_clone(rte_node_from_name(parent), port->name);
}

/* Names of nodes, for edges. */
struct names {
	char text[RTE_MAX_ETHPORTS + TAP_NEXT_OUT][RTE_NODE_NAMESIZE];
	const char *list[RTE_MAX_ETHPORTS + TAP_NEXT_OUT];
	uint16_t count;
};

static void
add_name(struct names *n, const char *name)
{
	snprintf(n->text[n->count], RTE_NODE_NAMESIZE, "%s", name);
	n->list[n->count] = n->text[n->count];
	n->count++;
}

static void
add_port_name(struct names *n, const char *parent, const struct port *port)
{
	char name[RTE_NODE_NAMESIZE];

	node_name(name, parent, port);
	add_name(n, name);
}

/* Give a node edges behind its first ones. Those left from a graph with other ports are cut
 * first. */
static int
add_edges(rte_node_t id, uint16_t first, struct names *to)
{
	if (rte_node_edge_count(id) > first &&
	    rte_node_edge_shrink(id, first) == RTE_EDGE_ID_INVALID)
		return -rte_errno;
	return rte_node_edge_update(id, first, to->list, to->count) == 0 ? -rte_errno : 0;
}

/* A tap's copies leave by an uplink, the packets themselves go on. */
static int
add_tap_edges(const struct dataplane *dp, rte_node_t id, const char *on)
{
	struct names to = { 0 };
	uint16_t i;

	add_name(&to, on);
	add_name(&to, "drop_copy_too_big");
	for (i = 0; i < dp->nb_ports; i++)
		if (!dp->ports[i].vf)
			add_port_name(&to, "tx", &dp->ports[i]);
	return add_edges(id, TAP_NEXT_ON, &to);
}

static int
clone_tap(const struct dataplane *dp, const char *parent, const struct port *port, const char *on)
{
	rte_node_t id = clone_for_port(parent, port);

	return id == RTE_NODE_ID_INVALID ? -rte_errno : add_tap_edges(dp, id, on);
}

static int
clone_rx(const struct dataplane *dp, const struct port *port)
{
	const char *classify = port->vf ? "classify_guest" : "classify_wire";
	rte_node_t rx = clone_for_port("rx", port);
	struct names to = { 0 };
	int rc;

	if (rx == RTE_NODE_ID_INVALID)
		return -rte_errno;
	rc = clone_tap(dp, "tap_rx", port, classify);
	if (rc < 0)
		return rc;
	add_name(&to, classify);
	add_port_name(&to, "tap_rx", port);
	return add_edges(rx, RX_NEXT_CLASSIFY, &to);
}

static int
clone_tx(const struct dataplane *dp, const struct port *port)
{
	rte_node_t tx = clone_for_port("tx", port);
	struct names to = { 0 };
	int rc;

	if (tx == RTE_NODE_ID_INVALID)
		return -rte_errno;
	if (!port->vf)
		return 0;
	rc = clone_tap(dp, "tap_tx", port, "drop_tx");
	if (rc < 0)
		return rc;
	add_port_name(&to, "tap_tx", port);
	return add_edges(tx, TX_NEXT_TAP, &to);
}

static int
lead_to_tx(const struct dataplane *dp, const char *from, uint16_t static_edges)
{
	struct names to = { 0 };
	uint16_t i;

	for (i = 0; i < dp->nb_ports; i++)
		add_port_name(&to, "tx", &dp->ports[i]);
	return add_edges(rte_node_from_name(from), static_edges, &to);
}

int
dps_build_nodes(const struct dataplane *dp)
{
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_ports; i++) {
		rc = clone_rx(dp, &dp->ports[i]);
		if (rc == 0)
			rc = clone_tx(dp, &dp->ports[i]);
		if (rc < 0)
			return rc;
	}
	rc = add_tap_edges(dp, rte_node_from_name("tap_drop"), "free");
	if (rc < 0)
		return rc;
	for (i = 0; i < RTE_DIM(to_tx); i++) {
		rc = lead_to_tx(dp, to_tx[i].name, to_tx[i].static_edges);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The port whose node this is; NULL: all ports'. */
static const struct port *
port_of(const struct dataplane *dp, const char *node)
{
	const char *name = strchr(node, '-');
	uint16_t i;

	for (i = 0; name != NULL && i < dp->nb_ports; i++)
		if (strcmp(name + 1, dp->ports[i].name) == 0)
			return &dp->ports[i];
	return NULL;
}

/* Tell every node of the graph whose it is, and those of a port which. */
static void
bind_nodes(struct worker *w)
{
	const struct port *port;
	struct rte_node *node;
	rte_graph_off_t off;
	rte_node_t count;

	rte_graph_foreach_node(count, off, w->graph, node) {
		struct node_ctx *ctx = node_ctx(node);

		*ctx = (struct node_ctx){ .w = w, .queue = w->index };
		port = port_of(w->dp, node->name);
		if (port == NULL)
			continue;
		ctx->port = port->id;
		if (strncmp(node->name, "rx-", strlen("rx-")) == 0)
			w->tap_points[port->id][TAP_RX] = ctx;
		else if (strncmp(node->name, "tx-", strlen("tx-")) == 0)
			w->tap_points[port->id][TAP_TX] = ctx;
	}
}

int
dps_build_graph(struct worker *w, const char *prefix)
{
	char names[RTE_MAX_ETHPORTS][RTE_NODE_NAMESIZE], graph_name[RTE_GRAPH_NAMESIZE];
	const char *patterns[RTE_MAX_ETHPORTS + 1];
	struct rte_graph_param param = { .socket_id = SOCKET_ID_ANY, .node_patterns = patterns };
	const struct dataplane *dp = w->dp;
	uint16_t i;

	for (i = 0; i < dp->nb_ports; i++) {
		node_name(names[i], "rx", &dp->ports[i]);
		patterns[param.nb_node_patterns++] = names[i];
	}
	if (w->index == 0)
		patterns[param.nb_node_patterns++] = "inject"; /* its ring has one consumer */
	snprintf(graph_name, sizeof(graph_name), "%s_%u", prefix, w->lcore);
	if (rte_graph_create(graph_name, &param) == RTE_GRAPH_ID_INVALID)
		return -rte_errno;
	w->graph = rte_graph_lookup(graph_name);
	bind_nodes(w);
	return 0;
}

void
dps_build_destroy(struct worker *w)
{
	if (w->graph != NULL)
		rte_graph_destroy(w->graph->id);
	w->graph = NULL;
}
