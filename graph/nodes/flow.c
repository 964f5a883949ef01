/* SPDX-License-Identifier: Apache-2.0 */
#include "flow.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <rte_cycles.h>

#include "flow_share.h"
#include "tables.h"

#define SWEEPS_PER_SECOND 1000
#define SWEEP_MIN 16u    /* entries per sweep; the whole table takes a second at most */
#define SWEEP_STALE 256u /* entries per walk after a change of the configuration */
#define READ_ATTEMPTS 8  /* for an entry that the worker is writing */

/* Memory that costs nothing until it is used, in large pages where the kernel has them. NULL for
 * want of memory. */
static void *
table_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_HUGEPAGE); /* if it has none, all works the same */
	return p;
}

static void
table_release(void *p, size_t size)
{
	if (p != NULL)
		munmap(p, size);
}

static size_t
flows_size(const struct worker *w)
{
	return ((size_t)w->capacity + w->nb_spare + 1) * sizeof(*w->flows);
}

static size_t
gone_size(const struct worker *w)
{
	return w->capacity * sizeof(*w->gone);
}

static size_t
buckets_size(const struct worker *w)
{
	return ((size_t)w->bucket_mask + 1) * sizeof(*w->buckets);
}

int
dps_flow_table_create(struct worker *w, uint32_t capacity, uint32_t spare)
{
	if (capacity == 0 || capacity > 1u << FLOW_ID_POS_BITS)
		return -EINVAL;
	if (getrandom(w->secrets, sizeof(w->secrets), 0) != sizeof(w->secrets))
		return -EIO;
	w->capacity = capacity;
	w->nb_spare = spare;
	w->guaranteed = capacity / RTE_MAX(dps_share_count(w->dp), 1u);
	w->bucket_mask = rte_align32pow2(RTE_MAX(2 * capacity / BUCKET_SLOTS, 2u)) - 1;
	w->generation = 1; /* an unused entry has 0 */
	w->none = table_alloc(flows_size(w));
	w->flows = w->none + 1;
	w->buckets = table_alloc(buckets_size(w));
	w->gone = table_alloc(gone_size(w));
	return w->none != NULL && w->buckets != NULL && w->gone != NULL ? 0 : -ENOMEM;
}

void
dps_flow_table_free(struct worker *w)
{
	table_release(w->none, flows_size(w));
	table_release(w->buckets, buckets_size(w));
	table_release(w->gone, gone_size(w));
}

/* Readers copy an entry and look whether seq was even, and the same, before and after. */
static void
write_begin(struct flow *f)
{
	add_as_only_writer(&f->seq, 1);
	atomic_thread_fence(memory_order_release);
}

static void
write_end(struct flow *f)
{
	atomic_store_explicit(&f->seq, load_relaxed(&f->seq) + 1, memory_order_release);
}

static uint64_t
next_id(struct worker *w, uint32_t pos)
{
	return (uint64_t)w->index << (FLOW_ID_POS_BITS + FLOW_ID_SERIAL_BITS) |
	       (uint64_t)++w->serial << FLOW_ID_POS_BITS | pos;
}

static void
flow_init(struct worker *w, uint32_t pos, uint32_t hash, const struct flow_key *key)
{
	struct flow *f = &w->flows[pos];

	f->id = next_id(w, pos);
	f->packets = 0;
	f->bytes = 0;
	f->hash = hash;
	f->key = *key;
	store_relaxed(&f->state, key->proto == IPPROTO_TCP ? FLOW_NEW : FLOW_ESTABLISHED);
	store_relaxed(&f->flags, FLOW_USED);
	if (w->offload && key_is_offloadable(key))
		flow_add_flags(f, FLOW_CANDIDATE);
}

/* Of the uplinks only PF0 belongs to the NIC's switch. */
static bool
port_is_in_switch(const struct port *p)
{
	return p->vf || p->pf == 0;
}

/* Whether hardware sees the packets come and can send them on. */
static bool
passes_switch(const struct worker *w, const struct flow_key *key, const struct verdict *v)
{
	const struct port *ports = w->dp->ports;

	return port_is_in_switch(&ports[w->ports[key->port].slot]) &&
	       port_is_in_switch(&ports[v->slot]);
}

static void
set_verdict(struct worker *w, struct flow *f, const struct verdict *v)
{
	f->verdict = *v;
	f->generation = w->generation;
	flow_clear_flags(f, FLOW_PENDING);
	if (flow_has(f, FLOW_CANDIDATE) && passes_switch(w, &f->key, v))
		flow_add_flags(f, FLOW_PENDING);
}

/* Notes a flow that has ended; send_gone reports it to the control side at the end of the walk.
 * There is always room: only flows that were announced are noted, and none is announced while some
 * wait. */
static void
report_gone(struct worker *w, struct flow *f)
{
	if (!flow_has(f, FLOW_KNOWN))
		return;
	w->gone[(w->gone_first + w->nb_gone) % w->capacity] = f->id;
	w->nb_gone++;
	flow_clear_flags(f, FLOW_KNOWN | FLOW_OFFLOADED);
}

/* Send what fits into the ring. */
static void
send_gone(struct worker *w)
{
	struct flow_info info = { .event = EVENT_GONE };

	while (w->nb_gone > 0) {
		info.id = w->gone[w->gone_first];
		if (rte_ring_mp_enqueue_elem(w->dp->events, &info, sizeof(info)) < 0)
			return;
		w->wake_events = true;
		w->gone_first = (w->gone_first + 1) % w->capacity;
		w->nb_gone--;
	}
}

static void
move_to_share(struct worker *w, struct flow *f, uint16_t share)
{
	if (f->share == share)
		return;
	dps_share_remove(w, f);
	dps_share_add(w, f, share);
}

/* Take over the verdict of the current configuration. One that is the same as before is no news.
 * With another one the flow leaves hardware, and begins anew for the control side: whatever that
 * still does to the flow's last id comes to nothing. */
static void
flow_refresh(struct worker *w, struct flow *f, const struct verdict *v)
{
	if (memcmp(&f->verdict, v, sizeof(*v)) != 0) {
		report_gone(w, f);
		move_to_share(w, f, share_of(w, &f->key, v));
		write_begin(f);
		f->id = next_id(w, f - w->flows);
		set_verdict(w, f, v);
		write_end(f);
	}
	f->generation = w->generation;
}

static uint32_t
find_in(const struct worker *w, const struct flow_bucket *b, const struct flow_key *key,
	uint32_t hash)
{
	uint32_t i;

	for (i = 0; i < BUCKET_SLOTS; i++)
		if (b->ref[i] != 0 && b->hash[i] == hash &&
		    flow_key_equal(&w->flows[b->ref[i] - 1].key, key))
			return b->ref[i] - 1;
	return FLOW_NONE;
}

uint32_t
dps_flow_find(const struct worker *w, const struct flow_key *key, uint32_t hash)
{
	const struct flow_bucket *b = flow_bucket(w, hash);
	uint32_t pos = find_in(w, b, key, hash);

	return pos != FLOW_NONE ? pos : find_in(w, flow_other_bucket(w, b, hash), key, hash);
}

static bool
bucket_add(struct flow_bucket *b, uint32_t hash, uint32_t ref)
{
	uint32_t i;

	for (i = 0; i < BUCKET_SLOTS; i++) {
		if (b->ref[i] == 0) {
			b->hash[i] = hash;
			b->ref[i] = ref;
			return true;
		}
	}
	return false;
}

static bool
bucket_remove(struct flow_bucket *b, uint32_t ref)
{
	uint32_t i;

	for (i = 0; i < BUCKET_SLOTS; i++) {
		if (b->ref[i] == ref) {
			b->hash[i] = 0;
			b->ref[i] = 0;
			return true;
		}
	}
	return false;
}

/* Move one of a full bucket's references to its other bucket. */
static bool
bucket_make_room(const struct worker *w, struct flow_bucket *b)
{
	uint32_t i;

	for (i = 0; i < BUCKET_SLOTS; i++) {
		if (bucket_add(flow_other_bucket(w, b, b->hash[i]), b->hash[i], b->ref[i])) {
			b->ref[i] = 0;
			return true;
		}
	}
	return false;
}

/* With twice as many slots as flows this fails only for a table that is next to full. */
static bool
index_add(struct worker *w, uint32_t pos, uint32_t hash)
{
	struct flow_bucket *b = flow_bucket(w, hash);

	return bucket_add(b, hash, pos + 1) ||
	       bucket_add(flow_other_bucket(w, b, hash), hash, pos + 1) ||
	       (bucket_make_room(w, b) && bucket_add(b, hash, pos + 1));
}

static void
index_remove(struct worker *w, uint32_t pos, uint32_t hash)
{
	struct flow_bucket *b = flow_bucket(w, hash);

	if (!bucket_remove(b, pos + 1))
		bucket_remove(flow_other_bucket(w, b, hash), pos + 1);
}

/* The entry that entry_take would take, or FLOW_NONE. */
static uint32_t
entry_peek(const struct worker *w)
{
	uint32_t touched = load_relaxed(&w->nb_touched);

	if (w->first_free != 0)
		return w->first_free - 1;
	return touched < w->capacity ? touched : FLOW_NONE;
}

static void
entry_take(struct worker *w)
{
	if (w->first_free != 0)
		w->first_free = w->flows[w->first_free - 1].hash;
	else
		add_as_only_writer(&w->nb_touched, 1);
	add_as_only_writer(&w->nb_flows, 1);
}

static void
entry_give_back(struct worker *w, uint32_t pos)
{
	w->flows[pos].hash = w->first_free;
	w->first_free = pos + 1;
	add_as_only_writer(&w->nb_flows, -1);
}

static void
flow_remove(struct worker *w, struct flow *f)
{
	uint32_t pos = f - w->flows;

	index_remove(w, pos, f->hash);
	dps_share_remove(w, f);
	write_begin(f);
	store_relaxed(&f->flags, 0);
	f->generation = 0;
	write_end(f);
	entry_give_back(w, pos);
}

static void
flow_end(struct worker *w, struct flow *f)
{
	report_gone(w, f);
	flow_remove(w, f);
}

/* A free entry for a flow of this share, or FLOW_NONE. */
static uint32_t
entry_for(struct worker *w, uint16_t share)
{
	uint32_t pos = entry_peek(w);
	struct flow *victim;

	if (likely(pos != FLOW_NONE) || !share_is_owed(w, share))
		return pos;
	victim = dps_share_victim(w);
	if (victim == NULL)
		return FLOW_NONE;
	add_as_only_writer(&w->shares[victim->share].evicted, 1);
	flow_end(w, victim);
	return entry_peek(w);
}

uint32_t
dps_flow_put(struct worker *w, const struct flow_key *key, const struct verdict *v)
{
	uint32_t hash = flow_key_hash(w, key);
	uint32_t pos = dps_flow_find(w, key, hash);
	uint16_t share;
	struct flow *f;

	if (pos != FLOW_NONE) {
		flow_refresh(w, &w->flows[pos], v);
		return pos;
	}
	share = share_of(w, key, v);
	pos = entry_for(w, share);
	if (pos == FLOW_NONE || !index_add(w, pos, hash))
		return FLOW_NONE;
	entry_take(w);
	f = &w->flows[pos];
	write_begin(f);
	flow_init(w, pos, hash, key);
	set_verdict(w, f, v);
	write_end(f);
	dps_share_add(w, f, share);
	return pos;
}

uint32_t
dps_flow_spare(struct worker *w, const struct flow_key *key, const struct verdict *v)
{
	uint32_t pos = w->capacity + w->next_spare;

	add_as_only_writer(&w->shares[share_of(w, key, v)].overflow, 1);
	w->next_spare = w->next_spare + 1 < w->nb_spare ? w->next_spare + 1 : 0;
	w->flows[pos].key = *key;
	w->flows[pos].verdict = *v;
	return pos;
}

void
dps_flow_copy(const struct worker *w, const struct flow *f, struct flow_info *out)
{
	uint64_t last_seen = load_relaxed(&f->last_seen), now = rte_rdtsc();
	size_t addr_size = f->key.kind & KEY_IPV6 ? 16 : 4;

	memset(out, 0, sizeof(*out));
	out->id = f->id;
	out->share = f->share;
	out->packets = f->packets;
	out->bytes = f->bytes;
	out->idle_ns = now > last_seen ? (double)(now - last_seen) * 1e9 / rte_get_tsc_hz() : 0;
	out->vni = f->verdict.vni;
	out->iface = f->verdict.iface;
	out->in_port = f->key.port;
	out->tx_port = w->dp->ports[f->verdict.slot % RTE_MAX_ETHPORTS].id;
	out->sport = rte_be_to_cpu_16(f->key.sport);
	out->dport = rte_be_to_cpu_16(f->key.dport);
	out->wire = (f->key.kind & KEY_WIRE) != 0;
	out->ipv6 = (f->key.kind & KEY_IPV6) != 0;
	out->proto = f->key.proto;
	out->state = load_relaxed(&f->state);
	out->offloaded = flow_has(f, FLOW_OFFLOADED);
	out->kind = f->verdict.kind;
	out->dec_ttl = f->verdict.dec_ttl;
	out->header_len = f->verdict.header_len;
	memcpy(out->src, flow_key_src(&f->key), addr_size);
	memcpy(out->dst, flow_key_dst(&f->key), addr_size);
	memcpy(out->header, f->verdict.header, sizeof(out->header));
	memcpy(out->outer, f->key.outer, sizeof(out->outer));
	out->from_peer = f->verdict.from_peer;
	if (out->from_peer)
		memcpy(out->peer, f->verdict.peer, sizeof(out->peer));
}

/* Half of the ring is for whoever comes first; of the other half each share has its part. */
static bool
has_room(const struct worker *w, uint16_t share)
{
	return rte_ring_count(w->dp->events) < EVENT_RING / 2 ||
	       load_relaxed(&w->dp->events_waiting[share]) < w->dp->event_share;
}

/* Flows that have gone come first. */
static bool
send_new(struct worker *w, const struct flow *f)
{
	_Atomic uint32_t *waiting = &w->dp->events_waiting[f->share];
	struct flow_info info;

	send_gone(w);
	if (w->nb_gone > 0 || !has_room(w, f->share))
		return false;
	dps_flow_copy(w, f, &info);
	info.event = EVENT_NEW;
	atomic_fetch_add_explicit(waiting, 1, memory_order_relaxed);
	if (rte_ring_mp_enqueue_elem(w->dp->events, &info, sizeof(info)) < 0) {
		atomic_fetch_sub_explicit(waiting, 1, memory_order_relaxed);
		return false;
	}
	w->wake_events = true;
	return true;
}

/* If there is no room the flow stays pending: its next packet tries again. */
void
dps_flow_announce(struct worker *w, struct flow *f)
{
	if (!send_new(w, f))
		return;
	flow_clear_flags(f, FLOW_PENDING);
	flow_add_flags(f, FLOW_KNOWN);
}

void
dps_flow_keep_in_software(struct worker *w, struct flow *f)
{
	report_gone(w, f);
	flow_clear_flags(f, FLOW_CANDIDATE | FLOW_PENDING);
}

static uint64_t
flow_timeout(const struct worker *w, const struct flow *f)
{
	switch (f->key.proto) {
	case IPPROTO_TCP:
		return w->timeouts[TIMEOUT_TCP + load_relaxed(&f->state)];
	case IPPROTO_UDP:
		return w->timeouts[TIMEOUT_UDP];
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return w->timeouts[TIMEOUT_ICMP];
	default:
		return w->timeouts[TIMEOUT_OTHER];
	}
}

/* Hardware has the packets of an offloaded flow, and ages it; but a connection's end is seen
 * here. */
static bool
flow_is_idle(const struct worker *w, const struct flow *f)
{
	uint64_t timeout = flow_timeout(w, f), last_seen = load_relaxed(&f->last_seen);

	if (flow_has(f, FLOW_OFFLOADED) && load_relaxed(&f->state) != FLOW_CLOSING)
		return false;
	return w->now > last_seen && w->now - last_seen > timeout;
}

static void
sweep_flow(struct worker *w, struct flow *f)
{
	struct verdict v;

	if (f->generation != w->generation) {
		if (dps_resolve(w, &f->key, &v) != RESOLVED) {
			flow_end(w, f);
			return;
		}
		flow_refresh(w, f, &v);
	}
	if (flow_is_idle(w, f))
		flow_end(w, f);
}

static void
sweep_entries(struct worker *w, uint32_t n)
{
	struct flow *f;

	while (n-- > 0) {
		f = &w->flows[w->sweep_at];
		if (flow_has(f, FLOW_USED))
			sweep_flow(w, f);
		if (++w->sweep_at == w->capacity)
			w->sweep_at = 0;
	}
}

/* Whether all workers have looked at their flows. The last one that has finds that it is so: each
 * says it of itself before it asks. */
static bool
all_resolved(struct worker *w)
{
	uint16_t i;

	atomic_store_explicit(&w->resolved, w->generation, memory_order_seq_cst);
	for (i = 0; i < w->dp->nb_workers; i++)
		if (atomic_load_explicit(&w->dp->workers[i]->resolved, memory_order_seq_cst) !=
		    w->generation)
			return false;
	return true;
}

/* What has gone since the change is in the ring before. Where there is no room, the next walk tries
 * again. */
static void
send_resolved(struct worker *w)
{
	struct flow_info info = { .event = EVENT_RESOLVED, .id = w->generation };

	if (w->sweep_stale > 0 || w->nb_gone > 0)
		return;
	if (all_resolved(w)) {
		if (rte_ring_mp_enqueue_elem(w->dp->events, &info, sizeof(info)) < 0)
			return;
		w->wake_events = true;
	}
	w->tell_resolved = false;
}

void
dps_flow_sweep(struct worker *w)
{
	uint32_t n;

	if (unlikely(w->sweep_stale > 0)) {
		n = RTE_MIN(w->sweep_stale, SWEEP_STALE);
		sweep_entries(w, n);
		w->sweep_stale -= n;
		w->work++; /* no sleep until it is done */
	}
	if (unlikely(w->now >= w->next_sweep)) {
		w->next_sweep = w->now + rte_get_tsc_hz() / SWEEPS_PER_SECOND;
		sweep_entries(w, RTE_MAX(w->capacity / SWEEPS_PER_SECOND, SWEEP_MIN));
	}
	if (unlikely(w->nb_gone > 0))
		send_gone(w);
	if (unlikely(w->tell_resolved))
		send_resolved(w);
}

void
dps_flow_invalidate(struct worker *w)
{
	if (++w->generation == 0)
		w->generation = 1;
	w->sweep_stale = w->capacity;
	w->tell_resolved = w->offload;
}

struct flow *
dps_flow_by_id(struct worker *w, uint64_t id)
{
	uint32_t pos = id & ((1u << FLOW_ID_POS_BITS) - 1);

	if (pos >= w->capacity || !flow_has(&w->flows[pos], FLOW_USED) || w->flows[pos].id != id)
		return NULL;
	return &w->flows[pos];
}

static struct flow *
candidate_by_id(struct worker *w, uint64_t id)
{
	struct flow *f = dps_flow_by_id(w, id);

	return f != NULL && flow_has(f, FLOW_CANDIDATE) ? f : NULL;
}

int
dps_flow_offload(struct worker *w, uint64_t id)
{
	struct flow *f = candidate_by_id(w, id);

	if (f == NULL)
		return -ENOENT;
	store_relaxed(&f->last_seen, w->now);
	flow_add_flags(f, FLOW_OFFLOADED);
	flow_clear_flags(f, FLOW_PENDING);
	return 0;
}

int
dps_flow_onload(struct worker *w, uint64_t id)
{
	struct flow *f = candidate_by_id(w, id);

	if (f == NULL)
		return -ENOENT;
	store_relaxed(&f->last_seen, w->now);
	flow_clear_flags(f, FLOW_OFFLOADED);
	flow_add_flags(f, FLOW_PENDING);
	return 0;
}

int
dps_flow_delete(struct worker *w, uint64_t id)
{
	struct flow *f = dps_flow_by_id(w, id);

	if (f == NULL)
		return -ENOENT;
	flow_remove(w, f);
	return 0;
}

/* False: nothing there, or the worker does not leave it alone. */
static bool
read_entry(const struct worker *w, const struct flow *f, struct flow_info *out)
{
	uint32_t seq;
	bool used;
	int i;

	for (i = 0; i < READ_ATTEMPTS; i++) {
		seq = atomic_load_explicit(&f->seq, memory_order_acquire);
		if (seq & 1)
			continue;
		used = flow_has(f, FLOW_USED);
		if (used)
			dps_flow_copy(w, f, out);
		atomic_thread_fence(memory_order_acquire);
		if (load_relaxed(&f->seq) == seq)
			return used;
	}
	return false;
}

uint32_t
dps_flow_read(const struct worker *w, uint32_t *pos, struct flow_info *out, uint32_t max)
{
	uint32_t n = 0;

	while (*pos < w->capacity && n < max) {
		if (read_entry(w, &w->flows[*pos], &out[n]))
			n++;
		(*pos)++;
	}
	return n;
}

void
dps_flow_count(const struct worker *w, uint32_t counts[FLOW_STATES][2])
{
	uint32_t touched = load_relaxed(&w->nb_touched), i;
	const struct flow *f;
	uint8_t flags, state;

	for (i = 0; i < touched; i++) {
		f = &w->flows[i];
		flags = load_relaxed(&f->flags);
		state = load_relaxed(&f->state);
		if (flags & FLOW_USED)
			counts[state][(flags & FLOW_OFFLOADED) != 0]++;
	}
}
