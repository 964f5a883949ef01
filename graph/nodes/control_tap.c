/* SPDX-License-Identifier: Apache-2.0 */
/* The control side of taps. Every worker owns one of its own for each port and side. */
#include <errno.h>

#include <rte_malloc.h>

#include "control.h"
#include "tap.h"
#include "worker.h"

struct tap_request {
	struct tap *tap;
	uint16_t port;
	uint8_t side;
};

static_assert(sizeof(struct tap_request) <= REQUEST_ARG_SIZE, "requests hold any argument");

static int
do_nothing(struct worker *w, const void *arg)
{
	RTE_SET_USED(w);
	RTE_SET_USED(arg);
	return 0;
}

static int
do_put_tap(struct worker *w, const void *arg)
{
	const struct tap_request *r = arg;

	tap_put(w, r->port, r->side, r->tap);
	return 0;
}

/* Find out what has become of a change that was not confirmed in time, and free the tap that the worker does not use. It
 * keeps the order of requests: once it has answered a later one, this change was made, or never will be. */
static int
settle(struct worker *w)
{
	struct tap_change *c = &w->tap_change;
	int rc;

	if (!c->pending)
		return 0;
	rc = worker_call(w, do_nothing, c, sizeof(*c));
	if (rc < 0)
		return rc;
	rte_free(w->taps[c->port][c->side] == c->after ? c->before : c->after);
	c->pending = false;
	return 0;
}

/* Put a tap, or none, in the place of the worker's, which is the caller's then. The new one belongs to the worker, also
 * after an error. */
static int
exchange(struct worker *w, uint16_t port, uint8_t side, struct tap *after, struct tap **before)
{
	struct tap_request r = {.tap = after, .port = port, .side = side};
	struct tap *old;
	int rc;

	*before = NULL;
	rc = settle(w);
	if (rc < 0) {
		rte_free(after);
		return rc;
	}
	old = w->taps[port][side];
	rc = worker_call(w, do_put_tap, &r, sizeof(r));
	if (rc == 0)
		*before = old;
	else if (rc == -ETIMEDOUT)
		w->tap_change = (struct tap_change){.pending = true, .port = port, .side = side, .before = old, .after = after};
	else
		rte_free(after);
	return rc;
}

int
dataplane_set_tap(struct dataplane *dp, const struct tap_conf *conf, const struct tap_condition *conditions,
		  uint32_t nb_conditions, struct tap_counters *replaced)
{
	struct tap *taps[RTE_MAX_LCORE], *old;
	uint16_t i;
	int rc;

	*replaced = (struct tap_counters){0};
	rc = tap_create(dp, conf, conditions, nb_conditions, taps, dp->nb_workers);
	if (rc < 0)
		return rc;
	for (i = 0; rc == 0 && i < dp->nb_workers; i++) {
		rc = exchange(dp->workers[i], conf->port, conf->side, taps[i], &old);
		if (old != NULL)
			tap_add_counters(old, replaced);
		rte_free(old);
	}
	for (; i < dp->nb_workers; i++)
		rte_free(taps[i]);
	return rc;
}

static bool
has_tap(const struct dataplane *dp, uint16_t port, uint8_t side)
{
	uint16_t i;

	if (port >= RTE_MAX_ETHPORTS || side >= TAP_SIDES)
		return false;
	for (i = 0; i < dp->nb_workers; i++)
		if (__atomic_load_n(&dp->workers[i]->taps[port][side], __ATOMIC_ACQUIRE) != NULL)
			return true;
	return false;
}

/* A worker that does not answer is no reason to let the others go on. */
int
dataplane_remove_tap(struct dataplane *dp, uint16_t port, uint8_t side, struct tap_counters *out)
{
	struct tap *old;
	int rc, error = 0;
	uint16_t i;

	*out = (struct tap_counters){0};
	if (!has_tap(dp, port, side))
		return -ENOENT;
	for (i = 0; i < dp->nb_workers; i++) {
		rc = exchange(dp->workers[i], port, side, NULL, &old);
		if (rc < 0)
			error = rc;
		if (old == NULL)
			continue;
		tap_add_counters(old, out);
		rte_free(old);
	}
	return error;
}

int
dataplane_tap_counters(const struct dataplane *dp, uint16_t port, uint8_t side, struct tap_counters *out)
{
	const struct tap *t;
	uint16_t i;

	*out = (struct tap_counters){0};
	if (!has_tap(dp, port, side))
		return -ENOENT;
	for (i = 0; i < dp->nb_workers; i++) {
		t = __atomic_load_n(&dp->workers[i]->taps[port][side], __ATOMIC_ACQUIRE);
		if (t != NULL)
			tap_add_counters(t, out);
	}
	return 0;
}

void
taps_free(struct worker *w)
{
	uint16_t port;

	settle(w);
	for (port = 0; port < RTE_MAX_ETHPORTS; port++) {
		rte_free(w->taps[port][TAP_RX]);
		rte_free(w->taps[port][TAP_TX]);
	}
}
