/* SPDX-License-Identifier: Apache-2.0 */
/* Interfaces, routes and uplinks of a worker, and what they say about a flow. */
#ifndef NODES_TABLES_H
#define NODES_TABLES_H

#include "dataplane.h"

int dps_tables_create(struct worker *w);
void dps_tables_free(struct worker *w);

/* Whether a change is possible: 0 or a negative errno. */
int dps_iface_check(const struct worker *w, const struct iface *conf);
int dps_iface_check_delete(const struct worker *w, uint16_t index);
int dps_route_check_add(const struct worker *w, const struct route *r);
int dps_route_check_delete(const struct worker *w, const struct route *r);
int dps_uplink_check(const struct worker *w, const struct uplink *u);
/* -ENOENT: there is no such interface with this underlay address. */
int dps_tunnel_check(const struct worker *w, const struct tunnel *t);

/* Changes that have been checked. */
void dps_iface_set(struct worker *w, const struct iface *conf);
void dps_iface_delete(struct worker *w, uint16_t index);
void dps_route_add(struct worker *w, const struct route *r);
void dps_route_delete(struct worker *w, const struct route *r);
void dps_uplink_set(struct worker *w, const struct uplink *u);
void dps_tunnel_set(struct worker *w, const struct tunnel *t);

enum resolution {
	RESOLVED,
	RESOLVED_SPOOFED,
	RESOLVED_NO_ROUTE,
	RESOLVED_NO_NEIGHBOUR,
	RESOLVED_UNKNOWN_UNDERLAY,
	/* what no router forwards: see martian.h */
	RESOLVED_MARTIAN_SOURCE,
	RESOLVED_UNSPECIFIED,
	RESOLVED_LOOPBACK,
	RESOLVED_LINK_LOCAL,
	RESOLVED_MULTICAST,
	RESOLVED_BROADCAST,
	RESOLVED_RESERVED,
	RESOLVED_TO_GATEWAY,
	RESOLVED_WRONG_PEER, /* from every peer */
	RESOLVED_LOCAL_SOURCE,
};

/* What is to be done with the flow's packets. Where the verdict says from_peer, also beside an
 * error, each packet's peer is to be checked. */
enum resolution dps_resolve(const struct worker *w, const struct flow_key *key, struct verdict *v);
/* What leads back to the sender of such a packet, by a tunnel for one from the wire. False: nothing
 * does. */
bool dps_resolve_back(const struct worker *w, const struct flow_key *key, struct verdict *v);
/* The interface that has an underlay address, or NULL. */
const struct iface *dps_iface_by_underlay(const struct worker *w, const uint8_t *addr);
/* The underlay address on another hypervisor that the longest prefix which holds addr leads to, or
 * NULL. */
const uint8_t *dps_peer_find(const struct worker *w, uint32_t vni, bool is_ipv6,
			     const uint8_t *addr);

#endif
