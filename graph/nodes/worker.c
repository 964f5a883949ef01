/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include <rte_cycles.h>

#include "compat.h"
#include "flow.h"

#define IDLE_WALKS 32          /* empty walks before the worker sleeps */
#define IDLE_SLEEP_NS 50000
#define CALL_TIMEOUT_MS 2000
#define CALL_POLL_NS 20000
#define CALL_SPIN_US 30 /* a busy worker answers within a walk or two: sooner than a sleeper wakes */

enum request_state { REQUEST_SENT, REQUEST_DONE, REQUEST_ABANDONED };

/* Belongs to the caller and the worker together; the one that leaves last frees it. */
struct request {
	request_fn fn;
	int result;
	uint32_t state; /* enum request_state */
	uint8_t arg[REQUEST_ARG_SIZE] __rte_aligned(16);
};

static void
nap(long ns)
{
	struct timespec ts = {.tv_nsec = ns};

	nanosleep(&ts, NULL);
}

/* Move from REQUEST_SENT to state. False: the other side was first, and has left. */
static bool
request_leave(struct request *r, uint32_t state)
{
	uint32_t sent = REQUEST_SENT;

	return __atomic_compare_exchange_n(&r->state, &sent, state, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void
handle_requests(struct worker *w)
{
	struct request *r;

	while (rte_ring_sc_dequeue(w->requests, (void **)&r) == 0) {
		r->result = r->fn(w, r->arg);
		if (!request_leave(r, REQUEST_DONE))
			free(r);
	}
}

void
worker_drain_requests(struct worker *w)
{
	handle_requests(w);
}

static int
wait_for_answer(struct request *r)
{
	uint64_t start = rte_rdtsc();
	uint64_t spin_end = start + rte_get_tsc_hz() / US_PER_S * CALL_SPIN_US;
	uint64_t deadline = start + rte_get_tsc_hz() / MS_PER_S * CALL_TIMEOUT_MS;
	int result;

	while (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) == REQUEST_SENT) {
		if (rte_rdtsc() > deadline && request_leave(r, REQUEST_ABANDONED))
			return -ETIMEDOUT; /* the worker frees it */
		if (rte_rdtsc() < spin_end)
			rte_pause();
		else
			nap(CALL_POLL_NS);
	}
	result = r->result;
	free(r);
	return result;
}

int
worker_call(struct worker *w, request_fn fn, const void *arg, size_t size)
{
	struct request *r;

	if (!w->running) {
		w->now = rte_rdtsc();
		return fn(w, arg);
	}
	if (size > REQUEST_ARG_SIZE)
		return -EINVAL;
	if (posix_memalign((void **)&r, 16, sizeof(*r)) != 0)
		return -ENOMEM;
	*r = (struct request){.fn = fn, .state = REQUEST_SENT};
	memcpy(r->arg, arg, size);
	if (rte_ring_mp_enqueue(w->requests, r) < 0) {
		free(r);
		return -ETIMEDOUT;
	}
	return wait_for_answer(r);
}

/* A failed write means that the reader has not even seen the last one: it will look. */
static void
wake(int fd, bool *due)
{
	if (likely(!*due))
		return;
	eventfd_write(fd, 1);
	*due = false;
}

/* An idle worker leaves its core to others. Returns the number of empty walks in a row. */
static uint32_t
rest(struct worker *w, uint32_t idle)
{
	if (w->work > 0) {
		w->work = 0;
		return 0;
	}
	if (idle < IDLE_WALKS)
		return idle + 1;
	nap(IDLE_SLEEP_NS);
	return idle;
}

int
worker_main(void *worker)
{
	struct worker *w = worker;
	uint32_t idle = 0;

	prctl(PR_SET_TIMERSLACK, 1UL); /* sleep as long as asked for, not 50 us more */
	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		w->now = rte_rdtsc();
		rte_graph_walk(w->graph);
		if (unlikely(!rte_ring_empty(w->requests)))
			handle_requests(w);
		flow_sweep(w);
		wake(w->dp->punt_fd, &w->wake_punts);
		wake(w->dp->event_fd, &w->wake_events);
		idle = rest(w, idle);
	}
	return 0;
}
