/* SPDX-License-Identifier: Apache-2.0 */
/* What the graph would do with a packet, from the nodes that would decide about it. */
#ifndef NODES_EXPLAIN_H
#define NODES_EXPLAIN_H

#include "tables.h"

/* classify_guest: whether the slow path gets the packets with this key, sent by this interface's
 * guest. */
bool dps_is_for_slow_path(const struct iface *i, const struct flow_key *key);
/* flow_route: where a packet goes to end. NULL if it is RESOLVED. */
const char *dps_resolution_node(enum resolution res);

#endif
