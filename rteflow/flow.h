/* SPDX-License-Identifier: Apache-2.0 */

#ifndef DPS_RTEFLOW_H
#define DPS_RTEFLOW_H

#include <stddef.h>
#include <stdint.h>

/*
 * A rule comes from Go as rte_flow takes it, in one piece of memory: a struct
 * rf_rule, then in any order the list of items, the list of actions, each with
 * its END, and what these point at. Each spec, mask, last and conf has RF_ROOM
 * bytes, zeros behind the struct. Pointers are offsets from the struct rf_rule,
 * until flow.c makes them pointers; NULL is 0, and an indirect action's handle
 * is what it is.
 *
 * rte_flow_*() calls copy what they are given, so the memory is Go's again
 * after the call.
 */

#define RF_ROOM 64

struct rf_rule {
	uint32_t size; /* of the memory; the next rule follows */
	uint32_t group;
	uint32_t priority;
	uint32_t ingress;
	uint32_t egress;
	uint32_t transfer;
	uint32_t items;   /* offset of the list */
	uint32_t actions; /* likewise */
};

/* struct rte_flow_item and so on, with offsets. */
struct rf_item {
	uint32_t type;
	uint64_t spec;
	uint64_t last;
	uint64_t mask;
};

struct rf_action {
	uint32_t type;
	uint64_t conf;
};

struct rf_sample {
	uint32_t ratio;
	uint64_t actions;
};

struct rf_raw_encap {
	uint64_t data;
	uint64_t preserve;
	uint64_t size;
};

struct rf_raw_decap {
	uint64_t data;
	uint64_t size;
};

enum rf_cause { RF_CAUSE_UNKNOWN, RF_CAUSE_ITEM, RF_CAUSE_ACTION };

/* What rte_flow_error said, copied: its pointers do not outlive the call. */
struct rf_error {
	int32_t type;
	int32_t cause; /* enum rf_cause */
	int32_t index; /* of the item or action */
	int32_t sub;   /* of the action within a sample, or -1 */
	char message[256];
};

/* What an age action knows. */
struct rf_age {
	uint32_t aged;
	uint32_t idle_known;
	uint32_t idle;
};

/*
 * Each returns 0 or a negative errno, and rf_aged() the number of contexts;
 * on an error all of err is valid.
 */
int rf_validate(uint16_t port, uint8_t *rule, size_t len, struct rf_error *err);
/* n rules; stops at the first that fails. */
int rf_create(uint16_t port, uint8_t *rules, size_t len, uint32_t n, uintptr_t *flows,
	      uint32_t *created, struct rf_error *err);
/* Likewise. */
int rf_destroy(uint16_t port, const uintptr_t *flows, uint32_t n, uint32_t *destroyed,
	       struct rf_error *err);
int rf_query_count(uint16_t port, uintptr_t flow, uint64_t *packets, uint64_t *bytes,
		   struct rf_error *err);
int rf_query_age(uint16_t port, uintptr_t flow, struct rf_age *age, struct rf_error *err);
int rf_indirect_create(uint16_t port, uint8_t *rule, size_t len, uintptr_t *handle,
		       struct rf_error *err);
int rf_indirect_destroy(uint16_t port, uintptr_t handle, struct rf_error *err);
int rf_indirect_query_count(uint16_t port, uintptr_t handle, uint64_t *packets, uint64_t *bytes,
			    struct rf_error *err);
int rf_indirect_query_age(uint16_t port, uintptr_t handle, struct rf_age *age,
			  struct rf_error *err);
/* text is to be freed, also after an error. */
int rf_dev_dump(uint16_t port, char **text, size_t *len, struct rf_error *err);
int rf_flush(uint16_t port, struct rf_error *err);
int rf_isolate(uint16_t port, int on, struct rf_error *err);
int rf_aged(uint16_t port, uint64_t *contexts, uint32_t n, struct rf_error *err);
int rf_transfer_proxy(uint16_t port, uint16_t *proxy, struct rf_error *err);

#endif
