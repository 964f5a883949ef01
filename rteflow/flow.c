/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_errno.h>
#include <rte_string_fns.h>

#include "compat.h"
#include "flow.h"

/* A rule as rte_flow takes it, in the memory that Go has written. */
struct rule {
	uint8_t *memory;
	size_t size;
	struct rte_flow_attr attr;
	struct rte_flow_item *items;
	struct rte_flow_action *actions;
};

static bool
inside(const struct rule *rule, const void *p, size_t size)
{
	size_t offset = (uintptr_t)p - (uintptr_t)rule->memory;

	return offset <= rule->size && size <= rule->size - offset;
}

/* Makes an offset, unless it is 0, the address of size bytes. */
#define REBASE(rule, pointer, size)                                                         \
	((pointer) == NULL || ((pointer) = (void *)((rule)->memory + (uintptr_t)(pointer)), \
			       inside(rule, pointer, size)))

static int
rebase_items(const struct rule *rule)
{
	struct rte_flow_item *item = rule->items;

	for (; inside(rule, item, sizeof(*item)); item++) {
		if (item->type == RTE_FLOW_ITEM_TYPE_END)
			return 0;
		if (!REBASE(rule, item->spec, RF_ROOM) || !REBASE(rule, item->mask, RF_ROOM) ||
		    !REBASE(rule, item->last, RF_ROOM))
			break;
	}
	return -EINVAL;
}

static int rebase_actions(const struct rule *rule, const struct rte_flow_action *list);

/* What a conf points at in turn. */
static int
rebase_conf(const struct rule *rule, enum rte_flow_action_type type, void *conf)
{
	struct rte_flow_action_raw_encap *encap = conf;
	struct rte_flow_action_raw_decap *decap = conf;
	struct rte_flow_action_sample *sample = conf;

	switch (type) {
	case RTE_FLOW_ACTION_TYPE_RAW_ENCAP:
		return REBASE(rule, encap->data, encap->size) ? 0 : -EINVAL;
	case RTE_FLOW_ACTION_TYPE_RAW_DECAP:
		return REBASE(rule, decap->data, decap->size) ? 0 : -EINVAL;
	case RTE_FLOW_ACTION_TYPE_SAMPLE:
		return REBASE(rule, sample->actions, 0) ? rebase_actions(rule, sample->actions) :
							  -EINVAL;
	default:
		return 0;
	}
}

static int
rebase_actions(const struct rule *rule, const struct rte_flow_action *list)
{
	/* It is const only to rte_flow. */
	struct rte_flow_action *action = (void *)(uintptr_t)list;
	int rc;

	for (; inside(rule, action, sizeof(*action)); action++) {
		if (action->type == RTE_FLOW_ACTION_TYPE_END)
			return 0;
		/* The conf of an indirect action is the handle itself. */
		if (action->type == RTE_FLOW_ACTION_TYPE_INDIRECT || action->conf == NULL)
			continue;
		if (!REBASE(rule, action->conf, RF_ROOM))
			break;
		rc = rebase_conf(rule, action->type, (void *)(uintptr_t)action->conf);
		if (rc != 0)
			return rc;
	}
	return -EINVAL;
}

/* Makes the rule of the memory, which has len bytes and may have more rules. */
static int
open_rule(uint8_t *memory, size_t len, struct rule *rule)
{
	const struct rf_rule *head = (const struct rf_rule *)memory;
	int rc;

	if (len < sizeof(*head) || head->size < sizeof(*head) || head->size > len)
		return -EINVAL;
	memset(&rule->attr, 0, sizeof(rule->attr));
	rule->attr.group = head->group;
	rule->attr.priority = head->priority;
	rule->attr.ingress = head->ingress;
	rule->attr.egress = head->egress;
	rule->attr.transfer = head->transfer;
	rule->memory = memory;
	rule->size = head->size;
	rule->items = (struct rte_flow_item *)(memory + head->items);
	rule->actions = (struct rte_flow_action *)(memory + head->actions);
	rc = rebase_items(rule);
	return rc == 0 ? rebase_actions(rule, rule->actions) : rc;
}

/* Whether cause, unless NULL, points into one of the size bytes at p. */
static bool
points_into(const void *cause, const void *p, size_t size)
{
	uintptr_t at = (uintptr_t)cause, start = (uintptr_t)p;

	return p != NULL && at >= start && at - start < size;
}

static int32_t
find_item(const struct rule *rule, const void *cause)
{
	int32_t i;

	for (i = 0; rule->items[i].type != RTE_FLOW_ITEM_TYPE_END; i++) {
		const struct rte_flow_item *item = &rule->items[i];

		if (points_into(cause, item, sizeof(*item)) ||
		    points_into(cause, item->spec, RF_ROOM) ||
		    points_into(cause, item->mask, RF_ROOM) ||
		    points_into(cause, item->last, RF_ROOM))
			return i;
	}
	return -1;
}

static int32_t
find_action(const struct rte_flow_action *actions, const void *cause)
{
	int32_t i;

	for (i = 0; actions[i].type != RTE_FLOW_ACTION_TYPE_END; i++)
		if (points_into(cause, &actions[i], sizeof(actions[i])) ||
		    points_into(cause, actions[i].conf, RF_ROOM))
			return i;
	return -1;
}

/* The sample is the only action that has a list of its own. */
static int32_t
find_sample(const struct rule *rule, const void *cause, int32_t *sub)
{
	const struct rte_flow_action_sample *sample;
	int32_t i;

	for (i = 0; rule->actions[i].type != RTE_FLOW_ACTION_TYPE_END; i++) {
		if (rule->actions[i].type != RTE_FLOW_ACTION_TYPE_SAMPLE)
			continue;
		sample = rule->actions[i].conf;
		*sub = find_action(sample->actions, cause);
		if (*sub >= 0)
			return i;
	}
	return -1;
}

static void
find_cause(const struct rule *rule, const void *cause, struct rf_error *out)
{
	out->index = find_item(rule, cause);
	if (out->index >= 0) {
		out->cause = RF_CAUSE_ITEM;
		return;
	}
	out->index = find_action(rule->actions, cause);
	if (out->index < 0)
		out->index = find_sample(rule, cause, &out->sub);
	if (out->index >= 0)
		out->cause = RF_CAUSE_ACTION;
}

/*
 * rc is what a rte_flow call returned. Drivers forget to set the error, so
 * this relies on none of it.
 */
static int
report(int rc, const struct rte_flow_error *err, const struct rule *rule, struct rf_error *out)
{
	if (rc >= 0)
		return rc;
	memset(out, 0, sizeof(*out));
	out->type = (int32_t)err->type;
	out->sub = -1;
	if (err->message != NULL)
		rte_strscpy(out->message, err->message, sizeof(out->message));
	if (rule != NULL)
		find_cause(rule, err->cause, out);
	return rc;
}

/* A failure of ours, in which no driver had a say. */
static int
report_own(int rc, const char *message, struct rf_error *out)
{
	struct rte_flow_error err = {
		.type = RTE_FLOW_ERROR_TYPE_UNSPECIFIED,
		.message = message,
	};

	return report(rc, &err, NULL, out);
}

int
rf_validate(uint16_t port, uint8_t *memory, size_t len, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	struct rule rule;
	int rc = open_rule(memory, len, &rule);

	if (rc != 0)
		return report_own(rc, "cannot build the rule", out);
	rc = rte_flow_validate(port, &rule.attr, rule.items, rule.actions, &err);
	return report(rc, &err, &rule, out);
}

static int
create(uint16_t port, const struct rule *rule, uintptr_t *flow, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	int rc = 0;

	rte_errno = 0;
	*flow = (uintptr_t)rte_flow_create(port, &rule->attr, rule->items, rule->actions, &err);
	if (*flow == 0)
		rc = rte_errno != 0 ? -rte_errno : -EIO;
	return report(rc, &err, rule, out);
}

int
rf_create(uint16_t port, uint8_t *memory, size_t len, uint32_t n, uintptr_t *flows,
	  uint32_t *created, struct rf_error *out)
{
	struct rule rule;
	int rc = 0;

	for (*created = 0; *created < n; (*created)++) {
		rc = open_rule(memory, len, &rule);
		if (rc != 0)
			return report_own(rc, "cannot build the rule", out);
		rc = create(port, &rule, &flows[*created], out);
		if (rc != 0)
			break;
		memory += rule.size;
		len -= rule.size;
	}
	return rc;
}

int
rf_destroy(uint16_t port, const uintptr_t *flows, uint32_t n, uint32_t *destroyed,
	   struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	int rc = 0;

	for (*destroyed = 0; *destroyed < n; (*destroyed)++) {
		struct rte_flow *flow = (struct rte_flow *)flows[*destroyed];

		rc = rte_flow_destroy(port, flow, &err);
		if (rc != 0)
			break;
	}
	return report(rc, &err, NULL, out);
}

static int
report_count(int rc, const struct rte_flow_error *err, const struct rte_flow_query_count *count,
	     uint64_t *packets, uint64_t *bytes, struct rf_error *out)
{
	*packets = count->hits_set ? count->hits : 0;
	*bytes = count->bytes_set ? count->bytes : 0;
	return report(rc, err, NULL, out);
}

static int
report_age(int rc, const struct rte_flow_error *err, const struct rte_flow_query_age *age,
	   struct rf_age *state, struct rf_error *out)
{
	state->aged = age->aged;
	state->idle_known = age->sec_since_last_hit_valid;
	state->idle = age->sec_since_last_hit;
	return report(rc, err, NULL, out);
}

int
rf_query_count(uint16_t port, uintptr_t flow, uint64_t *packets, uint64_t *bytes,
	       struct rf_error *out)
{
	const struct rte_flow_action_count conf = { 0 };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_COUNT, .conf = &conf },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_query_count count = { 0 };
	struct rte_flow_error err = { 0 };
	int rc = rte_flow_query(port, (struct rte_flow *)flow, actions, &count, &err);

	return report_count(rc, &err, &count, packets, bytes, out);
}

int
rf_query_age(uint16_t port, uintptr_t flow, struct rf_age *state, struct rf_error *out)
{
	const struct rte_flow_action_age conf = { 0 };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_AGE, .conf = &conf },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_query_age age = { 0 };
	struct rte_flow_error err = { 0 };
	int rc = rte_flow_query(port, (struct rte_flow *)flow, actions, &age, &err);

	return report_age(rc, &err, &age, state, out);
}

/* The indirect action comes as a rule of its domain with this one action. */
int
rf_indirect_create(uint16_t port, uint8_t *memory, size_t len, uintptr_t *handle,
		   struct rf_error *out)
{
	struct rte_flow_indir_action_conf conf = { 0 };
	struct rte_flow_error err = { 0 };
	struct rule rule;
	int rc = open_rule(memory, len, &rule);

	if (rc != 0)
		return report_own(rc, "cannot build the action", out);
	conf.ingress = rule.attr.ingress;
	conf.egress = rule.attr.egress;
	conf.transfer = rule.attr.transfer;
	rte_errno = 0;
	*handle = (uintptr_t)rte_flow_action_handle_create(port, &conf, rule.actions, &err);
	if (*handle == 0)
		rc = rte_errno != 0 ? -rte_errno : -EIO;
	return report(rc, &err, &rule, out);
}

int
rf_indirect_destroy(uint16_t port, uintptr_t handle, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	int rc =
		rte_flow_action_handle_destroy(port, (struct rte_flow_action_handle *)handle, &err);

	return report(rc, &err, NULL, out);
}

int
rf_indirect_query_count(uint16_t port, uintptr_t handle, uint64_t *packets, uint64_t *bytes,
			struct rf_error *out)
{
	struct rte_flow_query_count count = { 0 };
	struct rte_flow_error err = { 0 };
	int rc = rte_flow_action_handle_query(port, (struct rte_flow_action_handle *)handle, &count,
					      &err);

	return report_count(rc, &err, &count, packets, bytes, out);
}

int
rf_indirect_query_age(uint16_t port, uintptr_t handle, struct rf_age *state, struct rf_error *out)
{
	struct rte_flow_query_age age = { 0 };
	struct rte_flow_error err = { 0 };
	int rc = rte_flow_action_handle_query(port, (struct rte_flow_action_handle *)handle, &age,
					      &err);

	return report_age(rc, &err, &age, state, out);
}

int
rf_dev_dump(uint16_t port, char **text, size_t *len, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	FILE *stream;
	int rc;

	*text = NULL;
	stream = open_memstream(text, len);
	if (stream == NULL)
		return report_own(-errno, "cannot open a stream", out);
	rc = report(rte_flow_dev_dump(port, NULL, stream, &err), &err, NULL, out);
	if (fclose(stream) != 0 && rc >= 0)
		rc = report_own(-errno, "cannot write to a stream", out);
	return rc;
}

int
rf_flush(uint16_t port, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };

	return report(rte_flow_flush(port, &err), &err, NULL, out);
}

int
rf_isolate(uint16_t port, int on, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };

	return report(rte_flow_isolate(port, on, &err), &err, NULL, out);
}

int
rf_aged(uint16_t port, uint64_t *contexts, uint32_t n, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	int rc = rte_flow_get_aged_flows(port, (void **)contexts, n, &err);

	return report(rc, &err, NULL, out);
}

int
rf_transfer_proxy(uint16_t port, uint16_t *proxy, struct rf_error *out)
{
	struct rte_flow_error err = { 0 };
	int rc = rte_flow_pick_transfer_proxy(port, proxy, &err);

	return report(rc, &err, NULL, out);
}
