/* SPDX-License-Identifier: Apache-2.0 */
/* A trace: which nodes packets visit. While one runs each node of a worker's graph has another
 * process function, which notes the visits of traced packets and calls the node's own one; without
 * a trace nothing of it is in the packets' way.
 *
 * All packets that a walk takes in have left the graph at its end, so the records of a walk are
 * finished then: the last node of each tells what became of the packet. A packet's record is its
 * pkt_meta's record, counted from one, if that record is of this very buffer. Copies and fragments
 * have the number, too, but are no such buffer. */
#ifndef NODES_TRACE_H
#define NODES_TRACE_H

#include "dataplane.h"

/* Between walks: hand over what the last one has recorded. A trace runs. */
void dps_trace_finish(struct worker *w);

#endif
