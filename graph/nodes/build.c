/* SPDX-License-Identifier: Apache-2.0 */
#include "build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>

#include "node.h"

/* The nodes that lead to the ports' tx nodes: how many other edges they have before. */
static const struct {
	const char *name;
	uint16_t static_edges;
} to_tx[] = {{"inject", 0}, {"deliver", 2}, {"encap", 3}, {"decap", 1},
	     {"icmp_time_exceeded", 1}, {"icmp_too_big", 1}, {"icmp_no_route", 1}};

static void
node_name(char *name, const char *parent, const struct port *port)
{
	snprintf(name, RTE_NODE_NAMESIZE, "%s-%s", parent, port->name);
}

/* The port's own rx or tx node; one left from an earlier graph is as good as new. */
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

static int
clone_nodes(const struct port *port)
{
	const char *next = port->vf ? "classify_guest" : "classify_wire";
	rte_node_t rx = clone_for_port("rx", port), tx = clone_for_port("tx", port);

	if (rx == RTE_NODE_ID_INVALID || tx == RTE_NODE_ID_INVALID)
		return -rte_errno;
	return rte_node_edge_update(rx, 0, &next, 1) == 0 ? -rte_errno : 0;
}

/* Edges left from a graph with other ports are cut first. */
static int
lead_to_tx(const struct dataplane *dp, const char *from, uint16_t static_edges)
{
	char names[RTE_MAX_ETHPORTS][RTE_NODE_NAMESIZE];
	rte_node_t id = rte_node_from_name(from);
	const char *nexts[RTE_MAX_ETHPORTS];
	uint16_t i;

	for (i = 0; i < dp->nb_ports; i++) {
		node_name(names[i], "tx", &dp->ports[i]);
		nexts[i] = names[i];
	}
	if (rte_node_edge_count(id) > static_edges && rte_node_edge_shrink(id, static_edges) == RTE_EDGE_ID_INVALID)
		return -rte_errno;
	return rte_node_edge_update(id, static_edges, nexts, dp->nb_ports) == 0 ? -rte_errno : 0;
}

int
build_nodes(const struct dataplane *dp)
{
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_ports; i++) {
		rc = clone_nodes(&dp->ports[i]);
		if (rc < 0)
			return rc;
	}
	for (i = 0; i < RTE_DIM(to_tx); i++) {
		rc = lead_to_tx(dp, to_tx[i].name, to_tx[i].static_edges);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Tell every node of the graph whose it is, and those of a port which. */
static void
bind_nodes(struct worker *w)
{
	const struct dataplane *dp = w->dp;
	char rx[RTE_NODE_NAMESIZE], tx[RTE_NODE_NAMESIZE];
	struct rte_node *node;
	rte_graph_off_t off;
	rte_node_t count;
	uint16_t i;

	rte_graph_foreach_node(count, off, w->graph, node) {
		struct node_ctx *ctx = node_ctx(node);

		*ctx = (struct node_ctx){.w = w, .queue = w->index};
		for (i = 0; i < dp->nb_ports; i++) {
			node_name(rx, "rx", &dp->ports[i]);
			node_name(tx, "tx", &dp->ports[i]);
			if (strcmp(node->name, rx) == 0 || strcmp(node->name, tx) == 0)
				ctx->port = dp->ports[i].id;
		}
	}
}

int
build_graph(struct worker *w, const char *prefix)
{
	char names[RTE_MAX_ETHPORTS][RTE_NODE_NAMESIZE], graph_name[RTE_GRAPH_NAMESIZE];
	const char *patterns[RTE_MAX_ETHPORTS + 1];
	struct rte_graph_param param = {.socket_id = SOCKET_ID_ANY, .node_patterns = patterns};
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
build_destroy(struct worker *w)
{
	if (w->graph != NULL)
		rte_graph_destroy(w->graph->id);
	w->graph = NULL;
}
