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

/* Room for an item's spec, mask or last and for an action's conf. */
#define STRUCT_ROOM 64
#define MAX_ALIGN 16

static_assert(sizeof(struct rte_flow_item_eth) <= STRUCT_ROOM, "eth");
static_assert(sizeof(struct rte_flow_item_ipv4) <= STRUCT_ROOM, "ipv4");
static_assert(sizeof(struct rte_flow_item_ipv6) <= STRUCT_ROOM, "ipv6");
static_assert(sizeof(struct rte_flow_item_tcp) <= STRUCT_ROOM, "tcp");
static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "contexts are 64 bits");

/*
 * All of a rule's C form lies in one arena. An entry of the flat bytes takes
 * at least 8 bytes there and less than ARENA_FACTOR times that here.
 */
#define ARENA_FACTOR 40

/* A rule whose C form needs no more than this does without an allocation. */
#define SMALL_ARENA 16384

struct arena {
	uint8_t *next;
	uint8_t *end;
};

struct reader {
	const uint8_t *next;
	const uint8_t *end;
};

struct rule {
	void *memory;	/* to be freed, or NULL */
	struct rte_flow_attr attr;
	struct rte_flow_item *items;
	struct rte_flow_action *actions;
	uint32_t n_items;
	uint32_t n_actions;
	/* Last, as it is not initialised. */
	uint8_t small[SMALL_ARENA] __rte_aligned(MAX_ALIGN);
};

/* Room for the C form of len bytes. */
static int
open_arena(struct arena *a, size_t len, struct rule *rule)
{
	size_t size = len * ARENA_FACTOR;

	rule->memory = NULL;
	a->next = rule->small;
	if (size > sizeof(rule->small)) {
		a->next = rule->memory = malloc(size);
		if (rule->memory == NULL)
			return -ENOMEM;
	}
	a->end = a->next + size;
	return 0;
}

/* Zeroed, unlike the arena. */
static void *
take_room(struct arena *a, size_t size)
{
	size_t room = RTE_ALIGN_CEIL(size, (size_t)MAX_ALIGN);
	void *p = a->next;

	if (room < size || room > (size_t)(a->end - a->next))
		return NULL;
	a->next += room;
	memset(p, 0, room);
	return p;
}

static const uint8_t *
take_bytes(struct reader *r, size_t size)
{
	const uint8_t *p = r->next;

	if (size > (size_t)(r->end - r->next))
		return NULL;
	r->next += size;
	return p;
}

static int
take_u32(struct reader *r, uint32_t *values, size_t n)
{
	const uint8_t *p = take_bytes(r, n * sizeof(*values));

	if (p == NULL)
		return -EINVAL;
	memcpy(values, p, n * sizeof(*values));
	return 0;
}

/* A struct that begins with the next size bytes and is zero behind them. */
static int
read_struct(struct reader *r, struct arena *a, size_t size, const void **out)
{
	const uint8_t *p = take_bytes(r, size);
	void *room;

	if (p == NULL || size > STRUCT_ROOM)
		return -EINVAL;
	room = take_room(a, STRUCT_ROOM);
	if (room == NULL)
		return -ENOMEM;
	memcpy(room, p, size);
	*out = room;
	return 0;
}

static int
read_item(struct reader *r, struct arena *a, struct rte_flow_item *item)
{
	uint32_t head[3]; /* type, size, ranged */
	int rc = take_u32(r, head, RTE_DIM(head));

	if (rc != 0)
		return rc;
	item->type = head[0];
	if (head[1] == 0)
		return 0;
	rc = read_struct(r, a, head[1], &item->spec);
	if (rc == 0)
		rc = read_struct(r, a, head[1], &item->mask);
	if (rc == 0 && head[2] != 0)
		rc = read_struct(r, a, head[1], &item->last);
	return rc;
}

static int
read_items(struct reader *r, struct arena *a, uint32_t n,
	   struct rte_flow_item **out)
{
	struct rte_flow_item *items;
	uint32_t i;
	int rc;

	items = take_room(a, ((size_t)n + 1) * sizeof(*items));
	if (items == NULL)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		rc = read_item(r, a, &items[i]);
		if (rc != 0)
			return rc;
	}
	items[n].type = RTE_FLOW_ITEM_TYPE_END;
	*out = items;
	return 0;
}

static int read_actions(struct reader *r, struct arena *a, uint32_t n,
			struct rte_flow_action **out);

static int
read_sample(struct reader *r, struct arena *a, void *conf)
{
	struct rte_flow_action_sample *sample = conf;
	struct rte_flow_action *actions = NULL;
	uint32_t head[2]; /* ratio, n_actions */
	int rc = take_u32(r, head, RTE_DIM(head));

	if (rc != 0)
		return rc;
	rc = read_actions(r, a, head[1], &actions);
	sample->ratio = head[0];
	sample->actions = actions;
	return rc;
}

static int
read_age(struct reader *r, void *conf)
{
	struct rte_flow_action_age *age = conf;
	const uint8_t *context;
	uint32_t timeout;
	int rc = take_u32(r, &timeout, 1);

	context = take_bytes(r, sizeof(age->context));
	if (rc != 0 || context == NULL)
		return -EINVAL;
	age->timeout = timeout;
	memcpy(&age->context, context, sizeof(age->context));
	return 0;
}

/* The conf of an indirect action is the handle itself. */
static int
read_handle(struct reader *r, const void **conf)
{
	const uint8_t *handle = take_bytes(r, sizeof(*conf));

	if (handle == NULL)
		return -EINVAL;
	memcpy(conf, handle, sizeof(*conf));
	return 0;
}

static int
read_port_id(struct reader *r, void *conf)
{
	struct rte_flow_action_port_id *port = conf;

	return take_u32(r, &port->id, 1);
}

/* The whole of r, copied: what a raw_encap or raw_decap points at. */
static int
read_header(struct reader *r, struct arena *a, uint8_t **data, size_t *size)
{
	*size = (size_t)(r->end - r->next);
	*data = take_room(a, *size);
	if (*data == NULL)
		return -ENOMEM;
	memcpy(*data, take_bytes(r, *size), *size);
	return 0;
}

static int
read_conf(struct reader *r, struct arena *a, struct rte_flow_action *action)
{
	struct rte_flow_action_raw_encap *encap;
	struct rte_flow_action_raw_decap *decap;
	void *conf;

	if (action->type == RTE_FLOW_ACTION_TYPE_INDIRECT)
		return read_handle(r, &action->conf);
	conf = take_room(a, STRUCT_ROOM);
	if (conf == NULL)
		return -ENOMEM;
	action->conf = conf;
	switch (action->type) {
	case RTE_FLOW_ACTION_TYPE_RAW_ENCAP:
		encap = conf;
		return read_header(r, a, &encap->data, &encap->size);
	case RTE_FLOW_ACTION_TYPE_RAW_DECAP:
		decap = conf;
		return read_header(r, a, &decap->data, &decap->size);
	case RTE_FLOW_ACTION_TYPE_SAMPLE:
		return read_sample(r, a, conf);
	case RTE_FLOW_ACTION_TYPE_AGE:
		return read_age(r, conf);
	case RTE_FLOW_ACTION_TYPE_PORT_ID:
		return read_port_id(r, conf);
	default:
		return read_struct(r, a, (size_t)(r->end - r->next),
				   &action->conf);
	}
}

static bool
has_conf(uint32_t type)
{
	return type != RTE_FLOW_ACTION_TYPE_DROP &&
	       type != RTE_FLOW_ACTION_TYPE_DEC_TTL &&
	       type != RTE_FLOW_ACTION_TYPE_OF_POP_VLAN;
}

static int
read_action(struct reader *r, struct arena *a, struct rte_flow_action *action)
{
	uint32_t head[2]; /* type, size */
	struct reader conf;
	int rc = take_u32(r, head, RTE_DIM(head));

	if (rc != 0)
		return rc;
	action->type = head[0];
	conf.next = take_bytes(r, head[1]);
	if (conf.next == NULL)
		return -EINVAL;
	conf.end = conf.next + head[1];
	if (!has_conf(head[0]))
		return 0;
	rc = read_conf(&conf, a, action);
	if (rc != 0)
		return rc;
	return conf.next == conf.end ? 0 : -EINVAL;
}

static int
read_actions(struct reader *r, struct arena *a, uint32_t n,
	     struct rte_flow_action **out)
{
	struct rte_flow_action *actions;
	uint32_t i;
	int rc;

	actions = take_room(a, ((size_t)n + 1) * sizeof(*actions));
	if (actions == NULL)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		rc = read_action(r, a, &actions[i]);
		if (rc != 0)
			return rc;
	}
	actions[n].type = RTE_FLOW_ACTION_TYPE_END;
	*out = actions;
	return 0;
}

/* On success free_rule() is due. */
static int
read_rule(const uint8_t *bytes, size_t len, struct rule *rule)
{
	struct reader r = { bytes, bytes + len };
	struct arena a;
	uint32_t head[7];
	int rc = take_u32(&r, head, RTE_DIM(head));

	if (rc != 0)
		return rc;
	memset(&rule->attr, 0, sizeof(rule->attr));
	rule->attr.group = head[0];
	rule->attr.priority = head[1];
	rule->attr.ingress = head[2];
	rule->attr.egress = head[3];
	rule->attr.transfer = head[4];
	rule->n_items = head[5];
	rule->n_actions = head[6];

	rc = open_arena(&a, len, rule);
	if (rc != 0)
		return rc;
	rc = read_items(&r, &a, rule->n_items, &rule->items);
	if (rc == 0)
		rc = read_actions(&r, &a, rule->n_actions, &rule->actions);
	if (rc == 0 && r.next != r.end)
		rc = -EINVAL;
	if (rc != 0)
		free(rule->memory);
	return rc;
}

static void
free_rule(struct rule *rule)
{
	free(rule->memory);
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
	uint32_t i;

	for (i = 0; i < rule->n_items; i++) {
		const struct rte_flow_item *item = &rule->items[i];

		if (points_into(cause, item, sizeof(*item)) ||
		    points_into(cause, item->spec, STRUCT_ROOM) ||
		    points_into(cause, item->mask, STRUCT_ROOM) ||
		    points_into(cause, item->last, STRUCT_ROOM))
			return (int32_t)i;
	}
	return -1;
}

static int32_t
find_action(const struct rte_flow_action *actions, const void *cause)
{
	int32_t i;

	for (i = 0; actions[i].type != RTE_FLOW_ACTION_TYPE_END; i++)
		if (points_into(cause, &actions[i], sizeof(actions[i])) ||
		    points_into(cause, actions[i].conf, STRUCT_ROOM))
			return i;
	return -1;
}

/* The sample is the only action that has a list of its own. */
static int32_t
find_sample(const struct rule *rule, const void *cause, int32_t *sub)
{
	const struct rte_flow_action_sample *sample;
	uint32_t i;

	for (i = 0; i < rule->n_actions; i++) {
		if (rule->actions[i].type != RTE_FLOW_ACTION_TYPE_SAMPLE)
			continue;
		sample = rule->actions[i].conf;
		*sub = find_action(sample->actions, cause);
		if (*sub >= 0)
			return (int32_t)i;
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
report(int rc, const struct rte_flow_error *err, const struct rule *rule,
       struct rf_error *out)
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
rf_validate(uint16_t port, const uint8_t *bytes, size_t len,
	    struct rf_error *out)
{
	struct rte_flow_error err = {0};
	struct rule rule;
	int rc = read_rule(bytes, len, &rule);

	if (rc != 0)
		return report_own(rc, "cannot build the rule", out);
	rc = rte_flow_validate(port, &rule.attr, rule.items, rule.actions, &err);
	rc = report(rc, &err, &rule, out);
	free_rule(&rule);
	return rc;
}

int
rf_create(uint16_t port, const uint8_t *bytes, size_t len, uintptr_t *flow,
	  struct rf_error *out)
{
	struct rte_flow_error err = {0};
	struct rule rule;
	int rc = read_rule(bytes, len, &rule);

	if (rc != 0)
		return report_own(rc, "cannot build the rule", out);
	rte_errno = 0;
	*flow = (uintptr_t)rte_flow_create(port, &rule.attr, rule.items,
					   rule.actions, &err);
	if (*flow == 0)
		rc = rte_errno != 0 ? -rte_errno : -EIO;
	rc = report(rc, &err, &rule, out);
	free_rule(&rule);
	return rc;
}

int
rf_create_batch(uint16_t port, const uint8_t *bytes, const uint32_t *lens,
		uint32_t n, uintptr_t *flows, uint32_t *created,
		struct rf_error *out)
{
	int rc = 0;

	for (*created = 0; *created < n; (*created)++) {
		rc = rf_create(port, bytes, lens[*created], &flows[*created],
			       out);
		if (rc != 0)
			break;
		bytes += lens[*created];
	}
	return rc;
}

int
rf_destroy(uint16_t port, uintptr_t flow, struct rf_error *out)
{
	struct rte_flow_error err = {0};
	int rc = rte_flow_destroy(port, (struct rte_flow *)flow, &err);

	return report(rc, &err, NULL, out);
}

static int
report_count(int rc, const struct rte_flow_error *err,
	     const struct rte_flow_query_count *count, uint64_t *packets,
	     uint64_t *bytes, struct rf_error *out)
{
	*packets = count->hits_set ? count->hits : 0;
	*bytes = count->bytes_set ? count->bytes : 0;
	return report(rc, err, NULL, out);
}

static int
report_age(int rc, const struct rte_flow_error *err,
	   const struct rte_flow_query_age *age, struct rf_age *state,
	   struct rf_error *out)
{
	state->aged = age->aged;
	state->idle_known = age->sec_since_last_hit_valid;
	state->idle = age->sec_since_last_hit;
	return report(rc, err, NULL, out);
}

int
rf_query_count(uint16_t port, uintptr_t flow, uint64_t *packets,
	       uint64_t *bytes, struct rf_error *out)
{
	const struct rte_flow_action_count conf = {0};
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_COUNT, .conf = &conf },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_query_count count = {0};
	struct rte_flow_error err = {0};
	int rc = rte_flow_query(port, (struct rte_flow *)flow, actions, &count,
				&err);

	return report_count(rc, &err, &count, packets, bytes, out);
}

int
rf_query_age(uint16_t port, uintptr_t flow, struct rf_age *state,
	     struct rf_error *out)
{
	const struct rte_flow_action_age conf = {0};
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_AGE, .conf = &conf },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_query_age age = {0};
	struct rte_flow_error err = {0};
	int rc = rte_flow_query(port, (struct rte_flow *)flow, actions, &age,
				&err);

	return report_age(rc, &err, &age, state, out);
}

/* The indirect action comes as a rule of its domain with this one action. */
int
rf_indirect_create(uint16_t port, const uint8_t *bytes, size_t len,
		   uintptr_t *handle, struct rf_error *out)
{
	struct rte_flow_indir_action_conf conf = {0};
	struct rte_flow_error err = {0};
	struct rule rule;
	int rc = read_rule(bytes, len, &rule);

	if (rc != 0)
		return report_own(rc, "cannot build the action", out);
	conf.ingress = rule.attr.ingress;
	conf.egress = rule.attr.egress;
	conf.transfer = rule.attr.transfer;
	rte_errno = 0;
	*handle = (uintptr_t)rte_flow_action_handle_create(port, &conf,
							   rule.actions, &err);
	if (*handle == 0)
		rc = rte_errno != 0 ? -rte_errno : -EIO;
	rc = report(rc, &err, &rule, out);
	free_rule(&rule);
	return rc;
}

int
rf_indirect_destroy(uint16_t port, uintptr_t handle, struct rf_error *out)
{
	struct rte_flow_error err = {0};
	int rc = rte_flow_action_handle_destroy(
		port, (struct rte_flow_action_handle *)handle, &err);

	return report(rc, &err, NULL, out);
}

int
rf_indirect_query_count(uint16_t port, uintptr_t handle, uint64_t *packets,
			uint64_t *bytes, struct rf_error *out)
{
	struct rte_flow_query_count count = {0};
	struct rte_flow_error err = {0};
	int rc = rte_flow_action_handle_query(
		port, (struct rte_flow_action_handle *)handle, &count, &err);

	return report_count(rc, &err, &count, packets, bytes, out);
}

int
rf_indirect_query_age(uint16_t port, uintptr_t handle, struct rf_age *state,
		      struct rf_error *out)
{
	struct rte_flow_query_age age = {0};
	struct rte_flow_error err = {0};
	int rc = rte_flow_action_handle_query(
		port, (struct rte_flow_action_handle *)handle, &age, &err);

	return report_age(rc, &err, &age, state, out);
}

int
rf_dev_dump(uint16_t port, char **text, size_t *len, struct rf_error *out)
{
	struct rte_flow_error err = {0};
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
	struct rte_flow_error err = {0};

	return report(rte_flow_flush(port, &err), &err, NULL, out);
}

int
rf_isolate(uint16_t port, int on, struct rf_error *out)
{
	struct rte_flow_error err = {0};

	return report(rte_flow_isolate(port, on, &err), &err, NULL, out);
}

int
rf_aged(uint16_t port, uint64_t *contexts, uint32_t n, struct rf_error *out)
{
	struct rte_flow_error err = {0};
	int rc = rte_flow_get_aged_flows(port, (void **)contexts, n, &err);

	return report(rc, &err, NULL, out);
}

int
rf_transfer_proxy(uint16_t port, uint16_t *proxy, struct rf_error *out)
{
	struct rte_flow_error err = {0};
	int rc = rte_flow_pick_transfer_proxy(port, proxy, &err);

	return report(rc, &err, NULL, out);
}
