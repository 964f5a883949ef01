/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's thread, and requests to it. */
#ifndef NODES_WORKER_H
#define NODES_WORKER_H

#include "dataplane.h"

/* Returns 0 or a negative errno, and does nothing that takes long: no packet is forwarded
 * meanwhile. */
typedef int (*request_fn)(struct worker *w, const void *arg);

/* The lcore's main function. */
int dps_worker_main(void *worker);

/* Requests. One caller at a time sends them, while no worker is being started or stopped.
 *
 * A worker looks for a request after each walk: within microseconds, or when it is idle, 50 us. It
 * does not look while it has no CPU or is in the code of a driver. If it has not taken the request
 * after 2 s the caller takes it back, and it is never carried out; a request that was taken is
 * waited for to its end. So -ETIMEDOUT always means that nothing was done. These 2 s are of a
 * caller that runs: when the process is stopped or the machine starved, and both stand still, the
 * worker has its 2 s afterwards. Who calls holds the graph's lock, so that all other users of the
 * graph wait meanwhile, too. */

/* Run fn in the worker's thread, between two walks; in the caller's while the worker is stopped. */
int dps_worker_call(struct worker *w, request_fn fn, const void *arg);

/* Nothing but wait until the worker answers. */
int dps_worker_ping(struct worker *w);

/* Run make, which does not fail, in all workers, or in none: -ETIMEDOUT. Between the first and the
 * last one packets may still be handled by the old state or by the new one. */
int dps_workers_change(struct worker *const *workers, uint16_t count, request_fn make,
		       const void *arg);

#endif
