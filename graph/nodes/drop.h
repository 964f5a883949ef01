/* SPDX-License-Identifier: Apache-2.0 */
/* Whose packets are dropped: that is counted, and what captures go by. */
#ifndef NODES_DROP_H
#define NODES_DROP_H

#include "dataplane.h"

#define NO_PORT RTE_MAX_ETHPORTS

/* The port of the guest that the packet is from or for; of a packet of no interface, where it came
 * in. A frame of the slow path belongs to the port that it was to leave by. NO_PORT: it is a tap's
 * copy, which is nobody's loss. */
uint16_t dps_drop_port(const struct worker *w, const struct rte_mbuf *m);

static inline void
drop_count(struct worker *w, uint16_t port, enum drop_reason reason)
{
	if (likely(port != NO_PORT))
		add_as_only_writer(&w->drops[port][reason], 1);
}

/* Whether a capture wants what is dropped of the port's packets. */
static inline bool
drop_is_watched(const struct worker *w, uint16_t port)
{
	return port != NO_PORT && load_relaxed(&w->taps[port][TAP_DROPS]) != NULL;
}

#endif
