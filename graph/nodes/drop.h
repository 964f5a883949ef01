/* SPDX-License-Identifier: Apache-2.0 */
/* Why packets are dropped, and how that is counted. */
#ifndef NODES_DROP_H
#define NODES_DROP_H

#include "dataplane.h"

/* Count a packet to the port by which it came in; a frame of the slow path, to the port that it was
 * to leave by. A tap's copy has no port and is nobody's loss. */
static inline void
drop_count(struct worker *w, const struct rte_mbuf *m, enum drop_reason reason)
{
	if (likely(m->port < RTE_MAX_ETHPORTS))
		add_as_only_writer(&w->drops[m->port][reason], 1);
}

/* Whether a capture wants what the port's packets are dropped for. */
static inline bool
drop_is_watched(const struct worker *w, const struct rte_mbuf *m)
{
	return m->port < RTE_MAX_ETHPORTS && load_relaxed(&w->taps[m->port][TAP_DROPS]) != NULL;
}

#endif
