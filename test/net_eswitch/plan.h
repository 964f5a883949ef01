/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_PLAN_H
#define ESW_PLAN_H

/* Which calls of a kind fail, as a test has planned. Both test NICs use it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Calls that a plan can name one by one. */
#define ESW_FAULT_NTH 16

/* Separates numbers, and names of ports; a comma separates devargs. */
#define ESW_FAULT_SEPARATOR ":"

/* The longest value of a fault, and the largest ones. */
#define ESW_FAULT_VALUE 128
#define ESW_FAULT_ERRNO_MAX 4095
#define ESW_FAULT_DELAY_MAX 10000000

/* Calls are numbered from when the plan was set. */
struct esw_fault_plan {
	uint64_t base; /* calls that had been made by then */
	uint32_t n;
	uint64_t nth[ESW_FAULT_NTH];
	uint64_t from; /* this one and all that follow; 0: none */
};

/* Reads N, N+ or several of them; 0 is none. The value is taken apart. 0, or -EINVAL and message
 * says why. */
int esw_plan_parse(struct esw_fault_plan *plan, uint64_t calls, char *value, char *message,
		   size_t size);
/* Whether the last of so many calls is to fail. */
bool esw_plan_fails(const struct esw_fault_plan *plan, uint64_t calls);
/* Calls that are still to come and to fail; those behind N+ count as one until the Nth has come. */
uint32_t esw_plan_pending(const struct esw_fault_plan *plan, uint64_t calls);
/* Writes a plan as it was set. */
void esw_plan_text(const struct esw_fault_plan *plan, char *text, size_t size);
/* Reads a number up to max; 0, or -EINVAL and message says why. */
int esw_fault_number(const char *value, uint64_t max, uint64_t *n, char *message, size_t size);

#endif
