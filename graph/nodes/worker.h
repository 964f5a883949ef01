/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's thread, and requests to it. */
#ifndef NODES_WORKER_H
#define NODES_WORKER_H

#include "dataplane.h"

#define REQUEST_ARG_SIZE 96

typedef int (*request_fn)(struct worker *w, const void *arg);

/* The lcore's main function. */
int worker_main(void *worker);

/* Run fn with a copy of arg in the worker's thread, between two walks, and wait for it; in the caller's while the
 * worker is stopped. -ETIMEDOUT: no answer in time; the request may still be carried out later. */
int worker_call(struct worker *w, request_fn fn, const void *arg, size_t size);

/* Carry out what is left in the ring. The worker has stopped. */
void worker_drain_requests(struct worker *w);

#endif
