/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_PLAN_H
#define ESW_PLAN_H

/* What the faults of both test NICs have in common: which calls of a kind fail, as a test has
 * planned, and the words for the other faults that both know. */

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

/* What a call fails with unless a test names an errno: no refusal of a NIC's own has it. */
#define ESW_FAULT_DEFAULT_CODE EIO

/* As many ports as either NIC can have. */
#define ESW_FAULT_PORTS 66

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
/* The faults, beside calls that fail, that both NICs know. */
struct esw_fault_settings {
	int code; /* the errno of calls that fail */
	uint32_t create_delay_us;
	bool far_stopped[ESW_FAULT_PORTS]; /* by the port's number */
	bool link_down[ESW_FAULT_PORTS];
};

/* How faults are read for a NIC. */
struct esw_fault_reader {
	const char *name; /* the NIC's, for messages */
	const void *nic;
	int (*port_number)(const void *nic, const char *name); /* negative: there is no such port */
	char *message;                                         /* says why, after -EINVAL */
	size_t size;
};

/* Reads the value, which is taken apart, of fail_errno, create_delay_us, far_stop, far_start,
 * link_down or link_up. 0, -EINVAL, or -ENOENT for any other key. */
int esw_fault_read(const struct esw_fault_reader *r, struct esw_fault_settings *s, const char *key,
		   char *value);
/* Reads names of ports and sets the flags of these. 0 or -EINVAL. */
int esw_fault_read_ports(const struct esw_fault_reader *r, bool *flags, char *value, bool on);
/* Whether esw_fault_read knows the key. */
bool esw_fault_is_common(const char *key);

#endif
