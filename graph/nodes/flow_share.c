/* SPDX-License-Identifier: Apache-2.0 */
#include "flow_share.h"

#define SAMPLE 8u /* flows of which the one that is idle for the longest time makes room */

uint32_t
dps_share_count(const struct dataplane *dp)
{
	uint32_t n = 0;
	uint16_t i;

	for (i = 0; i < dp->nb_ports; i++)
		n += dp->ports[i].vf ? 2 : 0;
	return n;
}

static void
list_append(struct worker *w, struct flow_share *s, struct flow *f)
{
	uint32_t ref = f - w->flows + 1;

	f->next = 0;
	f->prev = s->last;
	if (s->last != 0)
		w->flows[s->last - 1].next = ref;
	else
		s->first = ref;
	s->last = ref;
}

static void
list_remove(struct worker *w, struct flow_share *s, const struct flow *f)
{
	if (f->prev != 0)
		w->flows[f->prev - 1].next = f->next;
	else
		s->first = f->next;
	if (f->next != 0)
		w->flows[f->next - 1].prev = f->prev;
	else
		s->last = f->prev;
}

void
dps_share_add(struct worker *w, struct flow *f, uint16_t share)
{
	f->share = share;
	list_append(w, &w->shares[share], f);
	add_as_only_writer(&w->shares[share].flows, 1);
}

void
dps_share_remove(struct worker *w, struct flow *f)
{
	list_remove(w, &w->shares[f->share], f);
	add_as_only_writer(&w->shares[f->share].flows, -1);
}

static struct flow_share *
largest_share(struct worker *w)
{
	struct flow_share *largest = &w->shares[0];
	uint32_t i;

	for (i = 1; i < 2u * w->dp->nb_ports; i++)
		if (load_relaxed(&w->shares[i].flows) > load_relaxed(&largest->flows))
			largest = &w->shares[i];
	return largest;
}

/* When hardware has last seen a packet of a flow is not known here: such a flow goes only if there
 * is no other. */
static bool
goes_before(const struct flow *a, const struct flow *b)
{
	bool in_hardware = flow_has(a, FLOW_OFFLOADED), other = flow_has(b, FLOW_OFFLOADED);

	return in_hardware != other ? other :
				      load_relaxed(&a->last_seen) < load_relaxed(&b->last_seen);
}

/* The first flows of the list are looked at, and go to its end: it is as a clock's hand, and
 * packets need not move flows. */
struct flow *
dps_share_victim(struct worker *w)
{
	struct flow_share *s = largest_share(w);
	struct flow *f, *victim = NULL;
	uint32_t i;

	for (i = 0; i < load_relaxed(&s->flows) && (i < SAMPLE || victim == NULL); i++) {
		f = &w->flows[s->first - 1];
		list_remove(w, s, f);
		list_append(w, s, f);
		if (load_relaxed(&f->last_seen) != w->now &&
		    (victim == NULL || goes_before(f, victim)))
			victim = f;
	}
	return victim;
}
