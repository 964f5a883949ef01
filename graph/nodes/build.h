/* SPDX-License-Identifier: Apache-2.0 */
/* Build the rte_graph of a worker. */
#ifndef NODES_BUILD_H
#define NODES_BUILD_H

#include "dataplane.h"

/* Clone rx, tx and the taps for the ports, and lead the forwarding nodes to them. What it makes is
 * DPDK's for good; it is used again when a graph with the same ports is built. */
int dps_build_nodes(const struct dataplane *dp);
/* Create the worker's graph of these nodes. */
int dps_build_graph(struct worker *w, const char *prefix);
void dps_build_destroy(struct worker *w);

#endif
