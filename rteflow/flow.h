/* SPDX-License-Identifier: Apache-2.0 */

#ifndef DPS_RTEFLOW_H
#define DPS_RTEFLOW_H

#include <stddef.h>
#include <stdint.h>

/*
 * A rule comes from Go as flat bytes, every number a uint32_t in host order:
 *
 *   rule:   group priority ingress egress transfer n_items n_actions
 *           item[n_items] action[n_actions]
 *   item:   type size ranged, then spec[size] mask[size], and last[size] if
 *           ranged; the bytes are what the type's struct begins with. Of size
 *           0: no spec, mask and last.
 *   action: type size conf[size]
 *   conf:   the type's struct, but for
 *           raw_encap, raw_decap: the header
 *           age: timeout, then the context in 8 bytes
 *           sample: ratio n_actions action[n_actions]
 *           indirect: the handle in 8 bytes
 *
 * rte_flow_*() calls copy what they are given, so the C form of a rule lives
 * for one call.
 */

enum rf_cause { RF_CAUSE_UNKNOWN, RF_CAUSE_ITEM, RF_CAUSE_ACTION };

/* What rte_flow_error said, copied: its pointers do not outlive the call. */
struct rf_error {
	int32_t type;
	int32_t cause;	/* enum rf_cause */
	int32_t index;	/* of the item or action */
	int32_t sub;	/* of the action within a sample, or -1 */
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
int rf_validate(uint16_t port, const uint8_t *rule, size_t len,
		struct rf_error *err);
int rf_create(uint16_t port, const uint8_t *rule, size_t len, uintptr_t *flow,
	      struct rf_error *err);
/* n rules in a row, of the given lengths; stops at the first that fails. */
int rf_create_batch(uint16_t port, const uint8_t *rules, const uint32_t *lens,
		    uint32_t n, uintptr_t *flows, uint32_t *created,
		    struct rf_error *err);
int rf_destroy(uint16_t port, uintptr_t flow, struct rf_error *err);
int rf_query_count(uint16_t port, uintptr_t flow, uint64_t *packets,
		   uint64_t *bytes, struct rf_error *err);
int rf_query_age(uint16_t port, uintptr_t flow, struct rf_age *age,
		 struct rf_error *err);
int rf_indirect_create(uint16_t port, const uint8_t *rule, size_t len,
		       uintptr_t *handle, struct rf_error *err);
int rf_indirect_destroy(uint16_t port, uintptr_t handle, struct rf_error *err);
int rf_indirect_query_count(uint16_t port, uintptr_t handle, uint64_t *packets,
			    uint64_t *bytes, struct rf_error *err);
int rf_indirect_query_age(uint16_t port, uintptr_t handle, struct rf_age *age,
			  struct rf_error *err);
/* text is to be freed, also after an error. */
int rf_dev_dump(uint16_t port, char **text, size_t *len, struct rf_error *err);
int rf_flush(uint16_t port, struct rf_error *err);
int rf_isolate(uint16_t port, int on, struct rf_error *err);
int rf_aged(uint16_t port, uint64_t *contexts, uint32_t n, struct rf_error *err);
int rf_transfer_proxy(uint16_t port, uint16_t *proxy, struct rf_error *err);

#endif
