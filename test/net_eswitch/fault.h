/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_FAULT_H
#define ESW_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../graph/nodes/atomic.h"
#include "plan.h"

struct esw_nic;
struct rte_flow_error;

/* The calls of rte_flow that can be made to fail; ESW_CALL_ANY numbers them all. */
enum esw_call {
	ESW_CALL_VALIDATE,
	ESW_CALL_CREATE,
	ESW_CALL_DESTROY,
	ESW_CALL_FLUSH,
	ESW_CALL_QUERY,
	ESW_CALL_ISOLATE,
	ESW_CALL_ANY,
	ESW_CALLS,
};

struct esw_faults {
	struct esw_fault_plan plan[ESW_CALLS];
	uint64_t calls[ESW_CALLS];
	uint64_t failed[ESW_CALLS];
	int code;
	_Atomic uint32_t create_delay_us;
};

bool esw_fault_is_key(const char *key);
int esw_fault_set(struct esw_nic *nic, const char *pairs, char *message, size_t size);
void esw_fault_clear(struct esw_nic *nic);
void esw_fault_stop(struct esw_nic *nic);
int esw_fault_call(struct esw_nic *nic, enum esw_call call, struct rte_flow_error *error);
uint32_t esw_fault_create_delay(const struct esw_nic *nic);
uint32_t esw_fault_pending(const struct esw_nic *nic);
const char *esw_call_name(enum esw_call call);

#endif
