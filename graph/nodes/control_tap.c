/* SPDX-License-Identifier: Apache-2.0 */
/* The control side of taps. Every worker owns one of its own for each port and side. */
#include <errno.h>

#include <rte_malloc.h>

#include "control.h"
#include "tap.h"
#include "worker.h"

struct tap_request {
	struct tap **taps; /* by worker; NULL: none */
	uint16_t port;
	uint8_t side;
};

static int
do_put_tap(struct worker *w, const void *arg)
{
	const struct tap_request *r = arg;

	dps_tap_put(w, r->port, r->side, r->taps[w->index]);
	return 0;
}

/* Replace all workers' taps by these, or by NULLs. The old ones are freed, and their counters
 * summed up. After an error all is as before, and the new ones are the caller's. */
static int
exchange(struct dataplane *dp, uint16_t port, uint8_t side, struct tap **taps,
	 struct tap_counters *sum)
{
	struct tap_request r = { .taps = taps, .port = port, .side = side };
	struct tap *before[RTE_MAX_LCORE];
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_workers; i++)
		before[i] = load_relaxed(&dp->workers[i]->taps[port][side]);
	rc = dps_workers_change(dp->workers, dp->nb_workers, do_put_tap, &r);
	if (rc < 0)
		return rc;
	for (i = 0; i < dp->nb_workers; i++) {
		if (before[i] != NULL)
			dps_tap_add_counters(before[i], sum);
		rte_free(before[i]);
	}
	return 0;
}

int
dps_dataplane_set_tap(struct dataplane *dp, const struct tap_conf *conf,
		      const struct tap_condition *conditions, uint32_t nb_conditions,
		      struct tap_counters *replaced)
{
	struct tap *taps[RTE_MAX_LCORE];
	uint16_t i;
	int rc;

	*replaced = (struct tap_counters){ 0 };
	rc = dps_tap_create(dp, conf, conditions, nb_conditions, taps, dp->nb_workers);
	if (rc < 0)
		return rc;
	rc = exchange(dp, conf->port, conf->side, taps, replaced);
	for (i = 0; rc < 0 && i < dp->nb_workers; i++)
		rte_free(taps[i]);
	return rc;
}

/* All workers have one, or none has. */
static bool
has_tap(const struct dataplane *dp, uint16_t port, uint8_t side)
{
	return port < RTE_MAX_ETHPORTS && side < TAP_SIDES &&
	       load_relaxed(&dp->workers[0]->taps[port][side]) != NULL;
}

int
dps_dataplane_remove_tap(struct dataplane *dp, uint16_t port, uint8_t side,
			 struct tap_counters *out)
{
	struct tap *none[RTE_MAX_LCORE] = { 0 };

	*out = (struct tap_counters){ 0 };
	if (!has_tap(dp, port, side))
		return -ENOENT;
	return exchange(dp, port, side, none, out);
}

int
dps_dataplane_tap_counters(const struct dataplane *dp, uint16_t port, uint8_t side,
			   struct tap_counters *out)
{
	uint16_t i;

	*out = (struct tap_counters){ 0 };
	if (!has_tap(dp, port, side))
		return -ENOENT;
	for (i = 0; i < dp->nb_workers; i++)
		dps_tap_add_counters(load_relaxed(&dp->workers[i]->taps[port][side]), out);
	return 0;
}

void
dps_taps_free(struct worker *w)
{
	uint16_t port, side;

	for (port = 0; port < RTE_MAX_ETHPORTS; port++)
		for (side = 0; side < TAP_SIDES; side++)
			rte_free(load_relaxed(&w->taps[port][side]));
}
