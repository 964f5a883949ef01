/* SPDX-License-Identifier: Apache-2.0 */
/* The flow table of a worker. */
#ifndef NODES_FLOW_H
#define NODES_FLOW_H

#include <rte_common.h>
#include <rte_vect.h>

#include "flow_key.h"
#include "parse.h"

#define FLOW_NONE UINT32_MAX

static __rte_always_inline struct flow_bucket *
flow_bucket(const struct worker *w, uint32_t hash)
{
	return &w->buckets[hash & w->bucket_mask];
}

/* The only other bucket that a hash may be in; the other's other is the first. */
static __rte_always_inline struct flow_bucket *
flow_other_bucket(const struct worker *w, const struct flow_bucket *b, uint32_t hash)
{
	return &w->buckets[((b - w->buckets) ^ (hash >> 16 | 1)) & w->bucket_mask];
}

/* The slots of a bucket that have the hash, as bits. */
static __rte_always_inline uint32_t
flow_bucket_match(const struct flow_bucket *b, uint32_t hash)
{
#ifdef __SSE2__
	const __m128i wanted = _mm_set1_epi32(hash), *h = (const __m128i *)b->hash;
	__m128i equal =
		_mm_packs_epi32(_mm_cmpeq_epi32(h[0], wanted), _mm_cmpeq_epi32(h[1], wanted));

	return _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128()));
#else
	uint32_t bits = 0, i;

	for (i = 0; i < BUCKET_SLOTS; i++)
		bits |= (uint32_t)(b->hash[i] == hash) << i;
	return bits;
#endif
}

/* The reference in a bucket, or in the hash's other one, that has the hash. Its flow's key is still
 * to be compared. 0: there is none. */
static __rte_always_inline uint32_t
flow_candidate(const struct worker *w, const struct flow_bucket *b, uint32_t hash)
{
	uint32_t bits = flow_bucket_match(b, hash);

	if (unlikely(bits == 0)) {
		b = flow_other_bucket(w, b, hash);
		bits = flow_bucket_match(b, hash);
		if (bits == 0)
			return 0;
	}
	return b->ref[rte_bsf32(bits)];
}

static __rte_always_inline bool
flow_has(const struct flow *f, uint8_t flag)
{
	return load_relaxed(&f->flags) & flag;
}

static inline void
flow_add_flags(struct flow *f, uint8_t flags)
{
	store_relaxed(&f->flags, load_relaxed(&f->flags) | flags);
}

static inline void
flow_clear_flags(struct flow *f, uint8_t flags)
{
	store_relaxed(&f->flags, load_relaxed(&f->flags) & ~flags);
}

static __rte_always_inline void
flow_set_state(struct flow *f, uint8_t tcp_flags)
{
	if (tcp_flags & (RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG))
		store_relaxed(&f->state, FLOW_CLOSING);
	else if (tcp_flags & RTE_TCP_SYN_FLAG)
		store_relaxed(&f->state, FLOW_NEW);
	else if (load_relaxed(&f->state) == FLOW_NEW)
		store_relaxed(&f->state, FLOW_ESTABLISHED);
}

void dps_flow_announce(struct worker *w, struct flow *f);

/* Some members of a flow, read at once. */
typedef uint64_t flow_word __attribute__((may_alias));

/* Whether a packet of the flow needs only to be counted, unless it begins or ends a connection: the
 * verdict is of the present configuration, the flow is established, and nothing of it is to be
 * announced. Nobody but the worker writes these members, so it may read them at once. */
static __rte_always_inline bool
flow_is_settled(const struct flow *f, uint32_t generation)
{
	const uint64_t mask = UINT32_MAX | (uint64_t)UINT8_MAX << 32 | (uint64_t)FLOW_PENDING << 40;

	static_assert(offsetof(struct flow, generation) % 8 == 0 &&
			      offsetof(struct flow, state) ==
				      offsetof(struct flow, generation) + 4 &&
			      offsetof(struct flow, flags) == offsetof(struct flow, generation) + 5,
		      "generation, state and flags are in one word");
	return (*(const flow_word *)&f->generation & mask) ==
	       (generation | (uint64_t)FLOW_ESTABLISHED << 32);
}

static __rte_always_inline void
flow_count(struct flow *f, const struct rte_mbuf *m, uint64_t now)
{
	f->packets++;
	f->bytes += rte_pktmbuf_pkt_len(m);
	store_relaxed(&f->last_seen, now);
}

/* Account a packet, and announce the flow if that is due. A packet without TCP has no flags, and
 * its flow is established. */
static __rte_always_inline void
flow_touch(struct worker *w, struct flow *f, const struct rte_mbuf *m, uint8_t tcp_flags)
{
	flow_count(f, m, w->now);
	if (unlikely(load_relaxed(&f->state) != FLOW_ESTABLISHED || (tcp_flags & TCP_NO_OFFLOAD)))
		flow_set_state(f, tcp_flags);
	if (unlikely(flow_has(f, FLOW_PENDING) && !(tcp_flags & TCP_NO_OFFLOAD) &&
		     load_relaxed(&f->state) != FLOW_CLOSING))
		dps_flow_announce(w, f);
}

int dps_flow_table_create(struct worker *w, uint32_t capacity, uint32_t spare);
void dps_flow_table_free(struct worker *w);

/* The flow of key, or FLOW_NONE. */
uint32_t dps_flow_find(const struct worker *w, const struct flow_key *key, uint32_t hash);
/* The flow of key with verdict v, made if it is not there. FLOW_NONE: the table has no room, see
 * flow_share.h. */
uint32_t dps_flow_put(struct worker *w, const struct flow_key *key, const struct verdict *v);
/* An entry outside the table for one packet of this walk. */
uint32_t dps_flow_spare(struct worker *w, const struct flow_key *key, const struct verdict *v);

/* Between walks: end idle flows, resolve stale ones again. */
void dps_flow_sweep(struct worker *w);
/* The configuration has changed: every verdict is resolved again before it is used. */
void dps_flow_invalidate(struct worker *w);

/* An id holds the worker, a serial number, and the position in the worker's table. */
#define FLOW_ID_POS_BITS 24
#define FLOW_ID_SERIAL_BITS 32

static inline uint16_t
flow_id_worker(uint64_t id)
{
	return id >> (FLOW_ID_POS_BITS + FLOW_ID_SERIAL_BITS);
}

/* The flow with an id, or NULL. */
struct flow *dps_flow_by_id(struct worker *w, uint64_t id);
/* Hardware cannot do this flow justice. It drops without a word what does not fit an MTU. */
void dps_flow_keep_in_software(struct worker *w, struct flow *f);
/* Hardware forwards the flow, or no longer: then its next packet offers it again. -ENOENT: there is
 * no such flow, or hardware is not to have it. */
int dps_flow_offload(struct worker *w, uint64_t id);
int dps_flow_onload(struct worker *w, uint64_t id);
int dps_flow_delete(struct worker *w, uint64_t id);

/* What the control side is told of a flow. */
void dps_flow_copy(const struct worker *w, const struct flow *f, struct flow_info *out);
/* From another thread, while the worker goes on. Adds the flows to counts, by their state and
 * whether hardware forwards them. */
void dps_flow_count(const struct worker *w, uint32_t counts[FLOW_STATES][2]);
/* From another thread, while the worker goes on. Returns the number copied, from position *pos on,
 * and moves it. */
uint32_t dps_flow_read(const struct worker *w, uint32_t *pos, struct flow_info *out, uint32_t max);

#endif
