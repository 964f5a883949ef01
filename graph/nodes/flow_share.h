/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds how much of a worker's flow table. A port with a guest has two shares: the flows that
 * its guest sends, and those that come to it from the wire. Each share is guaranteed the same
 * number of entries, and may borrow those that nobody uses. If a share below its guarantee finds
 * the table full, the largest share loses an entry: it must have borrowed some. */
#ifndef NODES_FLOW_SHARE_H
#define NODES_FLOW_SHARE_H

#include "flow.h"

/* The share of flows with this key and verdict. */
static inline uint16_t
share_of(const struct worker *w, const struct flow_key *key, const struct verdict *v)
{
	return key->kind & KEY_WIRE ? 2 * v->slot + 1 : 2 * w->ports[key->port].slot;
}

static inline bool
share_is_owed(const struct worker *w, uint16_t share)
{
	return load_relaxed(&w->shares[share].flows) < w->guaranteed;
}

/* The number of shares that there are. */
uint32_t dps_share_count(const struct dataplane *dp);

void dps_share_add(struct worker *w, struct flow *f, uint16_t share);
void dps_share_remove(struct worker *w, struct flow *f);

/* The flow of the largest share that is to make room, or NULL if each of them has a packet in this
 * walk. */
struct flow *dps_share_victim(struct worker *w);

#endif
