/* SPDX-License-Identifier: Apache-2.0 */
/* The flow table of a worker. */
#ifndef NODES_FLOW_H
#define NODES_FLOW_H

#include <rte_hash_crc.h>

#include "parse.h"

#define FLOW_NONE UINT32_MAX

/* Two chains of the CRC run side by side. */
static __rte_always_inline uint32_t
flow_key_hash(const struct flow_key *key)
{
	const uint64_t *q = (const uint64_t *)key;
	uint32_t a, b;

	a = rte_hash_crc_8byte(q[0], 0x9e3779b9);
	b = rte_hash_crc_8byte(q[1], 0x7f4a7c15);
	a = rte_hash_crc_8byte(q[2], a);
	b = rte_hash_crc_8byte(q[3], b);
	a = rte_hash_crc_8byte(q[4], a);
	b = rte_hash_crc_8byte(q[5], b);
	a = rte_hash_crc_8byte(q[6], a);
	return rte_hash_crc_8byte((uint64_t)a << 32 | b, 0);
}

static __rte_always_inline void
flow_set_state(struct flow *f, uint8_t tcp_flags)
{
	if (tcp_flags & (RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG))
		f->state = FLOW_CLOSING;
	else if (tcp_flags & RTE_TCP_SYN_FLAG)
		f->state = FLOW_NEW;
	else if (f->state == FLOW_NEW)
		f->state = FLOW_ESTABLISHED;
}

void flow_announce(struct worker *w, struct flow *f);

/* Account a packet, and announce the flow if that is due. A flow without TCP has no flags and is established. */
static __rte_always_inline void
flow_touch(struct worker *w, struct flow *f, struct rte_mbuf *m)
{
	uint8_t tcp_flags = pkt_meta(m)->tcp_flags;

	f->packets++;
	f->bytes += rte_pktmbuf_pkt_len(m);
	f->last_seen = w->now;
	if (unlikely(f->state != FLOW_ESTABLISHED || (tcp_flags & TCP_NO_OFFLOAD)))
		flow_set_state(f, tcp_flags);
	if (unlikely((f->flags & FLOW_PENDING) && !(tcp_flags & TCP_NO_OFFLOAD) && f->state != FLOW_CLOSING))
		flow_announce(w, f);
}

int flow_table_create(struct worker *w, uint32_t capacity, uint32_t spare);
void flow_table_free(struct worker *w);

/* The flow of key with verdict v, made if it is not there. FLOW_NONE: the table is full. */
uint32_t flow_put(struct worker *w, const struct flow_key *key, const struct verdict *v);
/* An entry outside the table for one packet of this walk. */
uint32_t flow_spare(struct worker *w, const struct flow_key *key, const struct verdict *v);

/* Between walks: end idle flows, resolve stale ones again. */
void flow_sweep(struct worker *w);
/* The configuration has changed: no verdict stands until it was resolved again. */
void flow_invalidate(struct worker *w);

/* An id names the worker, a use of a table's place, and the place. */
#define FLOW_ID_POS_BITS 24
#define FLOW_ID_SERIAL_BITS 32

static inline uint16_t
flow_id_worker(uint64_t id)
{
	return id >> (FLOW_ID_POS_BITS + FLOW_ID_SERIAL_BITS);
}

int flow_set_offloaded(struct worker *w, uint64_t id, bool on);
int flow_delete(struct worker *w, uint64_t id);

/* From another thread, while the worker goes on. Returns the number copied, from position *pos on, and moves it. */
uint32_t flow_read(const struct worker *w, uint32_t *pos, struct flow_info *out, uint32_t max);

#endif
