/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static int
parse_number(const char *text, uint64_t max, uint64_t *n, const char **rest)
{
	char *end;

	errno = 0;
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	*n = strtoull(text, &end, 10);
	if (errno != 0 || *n > max)
		return -EINVAL;
	*rest = end;
	return 0;
}

static int
parse_nth(struct esw_fault_plan *plan, const char *text, char *message, size_t size)
{
	const char *rest;
	uint64_t n;

	if (parse_number(text, UINT32_MAX, &n, &rest) < 0 || n == 0 ||
	    (rest[0] != '\0' && strcmp(rest, "+") != 0)) {
		snprintf(message, size, "%s is no number of a call", text);
		return -EINVAL;
	}
	if (rest[0] == '+') {
		plan->from = n;
		return 0;
	}
	if (plan->n == ESW_FAULT_NTH) {
		snprintf(message, size, "more than %u calls", ESW_FAULT_NTH);
		return -EINVAL;
	}
	plan->nth[plan->n++] = n;
	return 0;
}

int
esw_plan_parse(struct esw_fault_plan *plan, uint64_t calls, char *value, char *message, size_t size)
{
	char *save, *text;
	int ret = 0;

	memset(plan, 0, sizeof(*plan));
	plan->base = calls;
	if (strcmp(value, "0") == 0)
		return 0;
	for (text = strtok_r(value, ESW_FAULT_SEPARATOR, &save); ret == 0 && text != NULL;
	     text = strtok_r(NULL, ESW_FAULT_SEPARATOR, &save))
		ret = parse_nth(plan, text, message, size);
	return ret;
}

bool
esw_plan_fails(const struct esw_fault_plan *plan, uint64_t calls)
{
	uint64_t nth = calls - plan->base;
	uint32_t i;

	for (i = 0; i < plan->n; i++)
		if (plan->nth[i] == nth)
			return true;
	return plan->from != 0 && nth >= plan->from;
}

uint32_t
esw_plan_pending(const struct esw_fault_plan *plan, uint64_t calls)
{
	uint64_t nth = calls - plan->base;
	uint32_t i, pending = plan->from > nth;

	for (i = 0; i < plan->n; i++)
		pending += plan->nth[i] > nth;
	return pending;
}

void
esw_plan_text(const struct esw_fault_plan *plan, char *text, size_t size)
{
	size_t at = 0;
	uint32_t i;

	snprintf(text, size, "0");
	for (i = 0; i < plan->n && at < size; i++)
		at += snprintf(text + at, size - at, "%s%" PRIu64,
			       i == 0 ? "" : ESW_FAULT_SEPARATOR, plan->nth[i]);
	if (plan->from != 0 && at < size)
		snprintf(text + at, size - at, "%s%" PRIu64 "+", at == 0 ? "" : ESW_FAULT_SEPARATOR,
			 plan->from);
}

static int
read_number(const struct esw_fault_reader *r, const char *value, uint64_t max, uint64_t *n)
{
	const char *rest;

	if (parse_number(value, max, n, &rest) == 0 && rest[0] == '\0')
		return 0;
	snprintf(r->message, r->size, "%s is no number up to %" PRIu64, value, max);
	return -EINVAL;
}

int
esw_fault_read_ports(const struct esw_fault_reader *r, bool *flags, char *value, bool on)
{
	char *save, *text;
	int number;

	for (text = strtok_r(value, ESW_FAULT_SEPARATOR, &save); text != NULL;
	     text = strtok_r(NULL, ESW_FAULT_SEPARATOR, &save)) {
		number = r->port_number(r->nic, text);
		if (number < 0) {
			snprintf(r->message, r->size, "%s has no port %s", r->name, text);
			return -EINVAL;
		}
		flags[number] = on;
	}
	return 0;
}

enum common { FAIL_ERRNO, CREATE_DELAY, FAR_STOP, FAR_START, LINK_DOWN, LINK_UP, COMMON };

static enum common
common_of(const char *key)
{
	static const char *const keys[COMMON] = {
		[FAIL_ERRNO] = "fail_errno", [CREATE_DELAY] = "create_delay_us",
		[FAR_STOP] = "far_stop",     [FAR_START] = "far_start",
		[LINK_DOWN] = "link_down",   [LINK_UP] = "link_up",
	};
	enum common i = 0;

	while (i < COMMON && strcmp(key, keys[i]) != 0)
		i++;
	return i;
}

bool
esw_fault_is_common(const char *key)
{
	return common_of(key) < COMMON;
}

int
esw_fault_read(const struct esw_fault_reader *r, struct esw_fault_settings *s, const char *key,
	       char *value)
{
	uint64_t n = 0;
	int ret;

	switch (common_of(key)) {
	case FAIL_ERRNO:
		ret = read_number(r, value, ESW_FAULT_ERRNO_MAX, &n);
		s->code = n == 0 ? ESW_FAULT_DEFAULT_CODE : (int)n;
		return ret;
	case CREATE_DELAY:
		ret = read_number(r, value, ESW_FAULT_DELAY_MAX, &n);
		s->create_delay_us = n;
		return ret;
	case FAR_STOP:
		return esw_fault_read_ports(r, s->far_stopped, value, true);
	case FAR_START:
		return esw_fault_read_ports(r, s->far_stopped, value, false);
	case LINK_DOWN:
		return esw_fault_read_ports(r, s->link_down, value, true);
	case LINK_UP:
		return esw_fault_read_ports(r, s->link_down, value, false);
	default:
		return -ENOENT;
	}
}
