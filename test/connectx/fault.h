/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CX_FAULT_H
#define CX_FAULT_H

#include "../../graph/nodes/atomic.h"
#include "../net_eswitch/plan.h"

/* The commands that can be made to fail; CX_CALL_ANY numbers them all. */
enum cx_call {
	CX_CALL_RULE,    /* its creation; also counts as net_eswitch's fail_create */
	CX_CALL_DESTROY, /* of a rule */
	CX_CALL_TABLE,
	CX_CALL_MATCHER,
	CX_CALL_ACTION,
	CX_CALL_OBJECT, /* of DevX */
	CX_CALL_ANY,
	CX_CALLS,
};

struct cx_faults {
	struct esw_fault_plan plan[CX_CALLS];
	uint64_t calls[CX_CALLS];
	uint64_t failed[CX_CALLS];
	int code;
	_Atomic uint32_t create_delay_us;
};

const char *cx_call_name(enum cx_call call);
void cx_fault_read(struct cx_faults *out);

#endif
