/* SPDX-License-Identifier: Apache-2.0 */
/* Interfaces, routes and uplinks of a worker, and what they say about a flow. All return 0 or a negative errno; after
 * an error everything is as before. */
#ifndef NODES_TABLES_H
#define NODES_TABLES_H

#include "dataplane.h"

int tables_create(struct worker *w);
void tables_free(struct worker *w);

int iface_set(struct worker *w, const struct iface *conf);
int iface_delete(struct worker *w, uint16_t index);
int route_add(struct worker *w, const struct route *r);
int route_delete(struct worker *w, const struct route *r);
int uplink_set(struct worker *w, const struct uplink *u);
/* -ENOENT: there is no such interface with this underlay address. */
int tunnel_set(struct worker *w, const struct tunnel *t);

enum resolution {
	RESOLVED,
	RESOLVED_SPOOFED,
	RESOLVED_NO_ROUTE,
	RESOLVED_NO_NEIGHBOUR,
	RESOLVED_UNKNOWN_UNDERLAY,
	RESOLVED_WRONG_PEER, /* whoever the peer is */
	RESOLVED_LOCAL_SOURCE,
};

/* What is to be done with the flow's packets. Where the verdict says from_peer, also beside an error, each packet's peer is to be
 * checked. */
enum resolution resolve(const struct worker *w, const struct flow_key *key, struct verdict *v);
/* What leads back to the sender of such a packet, by a tunnel for one from the wire. False: nothing does. */
bool resolve_back(const struct worker *w, const struct flow_key *key, struct verdict *v);
/* The underlay address on another hypervisor that the longest prefix which holds addr leads to, or NULL. */
const uint8_t *peer_find(const struct worker *w, uint32_t vni, bool is_ipv6, const uint8_t *addr);

#endif
