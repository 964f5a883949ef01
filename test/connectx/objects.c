/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The table of what DevX commands and verbs have made. Commands come one at a time, under a lock;
 * the card's thread looks up without one. What is taken out of the table is freed once that thread
 * has left its round.
 */

#include <errno.h>
#include <stdlib.h>

#include "device.h"

/* Slots of a type. They are the low bits of a number, above them is the type. */
#define SLOT_BITS 13
#define SLOTS (1u << SLOT_BITS)

/* A receive queue has 8 bits for the number of its queue counter (rqc.counter_set_id). */
#define Q_COUNTERS 255u

static struct {
	struct cx_object *_Atomic slot[SLOTS];
	_Atomic uint32_t used; /* all in use are below */
	uint32_t count;
} tables[CX_TYPES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

const char *
cx_type_name(enum cx_type type)
{
	static const char *const names[CX_TYPES] = {
		[CX_UMEM] = "umem",
		[CX_MKEY] = "mkey",
		[CX_UAR] = "uar",
		[CX_PD] = "pd",
		[CX_TD] = "td",
		[CX_CQ] = "cq",
		[CX_SQ] = "sq",
		[CX_RQ] = "rq",
		[CX_RQT] = "rqt",
		[CX_TIR] = "tir",
		[CX_TIS] = "tis",
		[CX_COUNTERS] = "counters",
		[CX_Q_COUNTER] = "q_counter",
		[CX_FLOW_HIT_ASO] = "flow_hit_aso",
		[CX_METER_ASO] = "meter_aso",
		[CX_CT_ASO] = "ct_aso",
		[CX_GENEVE_OPT] = "geneve_opt",
	};

	return names[type];
}

/* Bulks of flow counters have a range of numbers each. */
static uint32_t
id_of(enum cx_type type, uint32_t slot)
{
	switch (type) {
	case CX_Q_COUNTER:
		return 1 + slot;
	case CX_COUNTERS:
		return (1 + slot) << 16;
	default:
		return (uint32_t)type << SLOT_BITS | slot;
	}
}

static uint32_t
slot_of(enum cx_type type, uint32_t id)
{
	switch (type) {
	case CX_Q_COUNTER:
		return id - 1;
	case CX_COUNTERS:
		return (id >> 16) - 1;
	default:
		return id >> SLOT_BITS == (uint32_t)type ? id & (SLOTS - 1) : SLOTS;
	}
}

int
cx_object_add(struct cx_dev *dev, enum cx_type type, void *object)
{
	struct cx_object *o = object;
	uint32_t slot, slots = type == CX_Q_COUNTER ? Q_COUNTERS : SLOTS;

	pthread_mutex_lock(&lock);
	for (slot = 0; slot < slots && load_relaxed(&tables[type].slot[slot]) != NULL; slot++)
		;
	if (slot == slots) {
		pthread_mutex_unlock(&lock);
		return cx_refuse(ENOSPC, "more than %u objects of type %s", slots,
				 cx_type_name(type));
	}
	o->type = type;
	o->id = id_of(type, slot);
	o->dev = dev;
	atomic_store_explicit(&tables[type].slot[slot], o, memory_order_release);
	if (slot >= load_relaxed(&tables[type].used))
		atomic_store_explicit(&tables[type].used, slot + 1, memory_order_release);
	tables[type].count++;
	pthread_mutex_unlock(&lock);
	return 0;
}

void *
cx_object_get(enum cx_type type, uint32_t id)
{
	uint32_t slot = slot_of(type, id);

	return slot < SLOTS ? atomic_load_explicit(&tables[type].slot[slot], memory_order_acquire) :
			      NULL;
}

static void
put(enum cx_type type, uint32_t id, struct cx_object *object)
{
	uint32_t slot = slot_of(type, id);
	struct cx_object *old;

	if (slot >= SLOTS)
		return;
	pthread_mutex_lock(&lock);
	old = atomic_exchange_explicit(&tables[type].slot[slot], object, memory_order_acq_rel);
	if (old != NULL && object == NULL)
		tables[type].count--;
	pthread_mutex_unlock(&lock);
	cx_thread_wait();
	free(old);
}

void
cx_object_replace(enum cx_type type, uint32_t id, void *object)
{
	put(type, id, object);
}

void
cx_object_remove(enum cx_type type, uint32_t id)
{
	put(type, id, NULL);
}

void
cx_object_each(enum cx_type type, void (*fn)(void *object))
{
	uint32_t slot, used = atomic_load_explicit(&tables[type].used, memory_order_acquire);

	for (slot = 0; slot < used; slot++) {
		struct cx_object *o =
			atomic_load_explicit(&tables[type].slot[slot], memory_order_acquire);

		if (o != NULL)
			fn(o);
	}
}

uint32_t
cx_object_count(enum cx_type type)
{
	uint32_t n;

	pthread_mutex_lock(&lock);
	n = tables[type].count;
	pthread_mutex_unlock(&lock);
	return n;
}
