/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include <rte_cycles.h>

#include "compat.h"
#include "flow.h"
#include "trace.h"

#define IDLE_WALKS 32 /* empty walks before the worker sleeps */
#define IDLE_SLEEP_NS 50000
#define CALL_TIMEOUT_MS 2000
#define CALL_LOOK_MS 10 /* what the time between two looks counts for at most */
#define CALL_POLL_NS 20000
#define CALL_SPIN_US \
	30 /* a busy worker answers within a walk or two: sooner than a sleeper wakes */

/* Belongs to the caller. It is w->request until the worker takes it from there, or the caller takes
 * it back. */
struct request {
	request_fn fn;
	const void *arg;
	int result;
	atomic_bool done;
};

static void
nap(long ns)
{
	struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

/* Only one side can take a request: it is never carried out after the caller has left. */
static bool
request_take(struct worker *w, struct request *r)
{
	return atomic_compare_exchange_strong_explicit(&w->request, &r, NULL, memory_order_acquire,
						       memory_order_relaxed);
}

static void
handle_request(struct worker *w)
{
	struct request *r = load_relaxed(&w->request);

	if (likely(r == NULL) || !request_take(w, r))
		return;
	r->result = r->fn(w, r->arg);
	atomic_store_explicit(&r->done, true, memory_order_release);
}

/* While the caller does not run the worker may not either, as when the process or the machine
 * stands still: time in which the caller has not looked hardly counts. */
static int
wait_for_answer(struct worker *w, struct request *r, uint64_t patience)
{
	const uint64_t look = rte_get_tsc_hz() / MS_PER_S * CALL_LOOK_MS;
	uint64_t start = rte_rdtsc(), last = start, now, waited = 0;
	uint64_t spin_end = start + rte_get_tsc_hz() / US_PER_S * CALL_SPIN_US;

	while (!atomic_load_explicit(&r->done, memory_order_acquire)) {
		now = rte_rdtsc();
		waited += RTE_MIN(now - last, look);
		last = now;
		if (waited > patience && request_take(w, r))
			return -ETIMEDOUT;
		if (now < spin_end)
			rte_pause();
		else
			nap(CALL_POLL_NS);
	}
	return r->result;
}

static int
call(struct worker *w, request_fn fn, const void *arg, uint64_t patience)
{
	struct request r = { .fn = fn, .arg = arg };

	if (!w->running) {
		w->now = rte_rdtsc();
		return fn(w, arg);
	}
	atomic_store_explicit(&w->request, &r, memory_order_release);
	return wait_for_answer(w, &r, patience);
}

int
dps_worker_call(struct worker *w, request_fn fn, const void *arg)
{
	return call(w, fn, arg, rte_get_tsc_hz() / MS_PER_S * CALL_TIMEOUT_MS);
}

static int
do_nothing(struct worker *w, const void *arg)
{
	RTE_SET_USED(w);
	RTE_SET_USED(arg);
	return 0;
}

int
dps_worker_ping(struct worker *w)
{
	return dps_worker_call(w, do_nothing, NULL);
}

/* The others have answered just now when the first worker takes the change. That decides: then they
 * are waited for. */
int
dps_workers_change(struct worker *const *workers, uint16_t count, request_fn make, const void *arg)
{
	uint16_t i;
	int rc = 0;

	for (i = 1; rc == 0 && i < count; i++)
		rc = dps_worker_ping(workers[i]);
	if (rc == 0)
		rc = dps_worker_call(workers[0], make, arg);
	if (rc < 0)
		return rc;
	for (i = 1; i < count; i++)
		call(workers[i], make, arg, UINT64_MAX);
	return 0;
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
dps_worker_main(void *worker)
{
	struct worker *w = worker;
	uint32_t idle = 0;

	prctl(PR_SET_TIMERSLACK, 1UL); /* sleep as long as asked for, not 50 us more */
	while (!load_relaxed(&w->stop)) {
		w->now = rte_rdtsc();
		rte_graph_walk(w->graph);
		if (unlikely(w->trace != NULL))
			dps_trace_finish(w);
		handle_request(w);
		dps_flow_sweep(w);
		wake(w->dp->punt_fd, &w->wake_punts);
		wake(w->dp->event_fd, &w->wake_events);
		idle = rest(w, idle);
	}
	return 0;
}
