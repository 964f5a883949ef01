/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Faults for tests: calls of rte_flow that fail, rules that take their time, far sides that stand
 * still, links that are down, ports that are removed. The README has the words for them.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_alarm.h>
#include <rte_kvargs.h>
#include <rte_string_fns.h>

#include "eswitch.h"

static const char *const call_names[ESW_CALLS] = {
	[ESW_CALL_VALIDATE] = "validate", [ESW_CALL_CREATE] = "create",
	[ESW_CALL_DESTROY] = "destroy",   [ESW_CALL_FLUSH] = "flush",
	[ESW_CALL_QUERY] = "query",       [ESW_CALL_ISOLATE] = "isolate",
	[ESW_CALL_ANY] = "call",
};

/* What is being set; it counts once all of it is understood. */
struct change {
	const struct esw_nic *nic;
	struct esw_fault_plan plan[ESW_CALLS];
	struct esw_fault_settings settings;
	bool removed[ESW_MAX_PORTS];
	struct esw_fault_reader reader;
};

static_assert(ESW_MAX_PORTS <= ESW_FAULT_PORTS, "more ports than faults can be set for");

#define REFUSE(c, ...) (snprintf((c)->reader.message, (c)->reader.size, __VA_ARGS__), -EINVAL)

const char *
esw_call_name(enum esw_call call)
{
	return call_names[call];
}

static int
port_number(const void *nic, const char *name)
{
	const struct esw_port *port = esw_nic_port_by_name(nic, name);

	return port == NULL ? -ENODEV : (int)port->index;
}

/* The call that a key names behind fail_, or ESW_CALLS. */
static enum esw_call
call_of(const char *key)
{
	enum esw_call call = 0;

	if (strncmp(key, "fail_", 5) != 0)
		return ESW_CALLS;
	while (call < ESW_CALLS && strcmp(call_names[call], key + 5) != 0)
		call++;
	return call;
}

static int
set_value(struct change *c, const char *key, char *value)
{
	enum esw_call call = call_of(key);
	int ret;

	if (call < ESW_CALLS)
		return esw_plan_parse(&c->plan[call], c->nic->faults.calls[call], value,
				      c->reader.message, c->reader.size);
	if (strcmp(key, "remove") == 0)
		return esw_fault_read_ports(&c->reader, c->removed, value, true);
	ret = esw_fault_read(&c->reader, &c->settings, key, value);
	return ret == -ENOENT ? REFUSE(c, "there is no fault %s", key) : ret;
}

static int
set_pair(const char *key, const char *value, void *opaque)
{
	struct change *c = opaque;
	char copy[ESW_FAULT_VALUE];

	if (value == NULL || value[0] == '\0')
		return REFUSE(c, "%s needs a value", key);
	if (rte_strscpy(copy, value, sizeof(copy)) < 0)
		return REFUSE(c, "the value of %s is too long", key);
	return set_value(c, key, copy);
}

/* Whether a devarg is about a fault, and not about a port. */
bool
esw_fault_is_key(const char *key)
{
	return esw_fault_is_common(key) || strcmp(key, "remove") == 0 || call_of(key) < ESW_CALLS;
}

/* Notifies the application of links that have changed and of ports that are gone. */
static void
report_news(void *arg)
{
	struct rte_eth_dev *changed[ESW_MAX_PORTS], *gone[ESW_MAX_PORTS];
	struct esw_nic *nic = arg;
	uint32_t i;

	pthread_mutex_lock(&nic->flow_lock);
	for (i = 0; i < nic->ports; i++) {
		changed[i] = nic->port[i]->link_news ? nic->port[i]->dev : NULL;
		nic->port[i]->link_news = false;
		gone[i] = nic->port[i]->removal_news ? nic->port[i]->dev : NULL;
		nic->port[i]->removal_news = false;
	}
	pthread_mutex_unlock(&nic->flow_lock);
	/* Without the lock: the callback may well call rte_flow. */
	for (i = 0; i < nic->ports; i++) {
		if (changed[i] != NULL)
			esw_ethdev_link_changed(changed[i]);
		if (gone[i] != NULL)
			esw_ethdev_removed(gone[i]);
	}
}

/* Waits for report_news, which may be under way. */
void
esw_fault_stop(struct esw_nic *nic)
{
	rte_eal_alarm_cancel(report_news, nic);
}

/* As with a card, the news come on the interrupt thread. */
static void
report_soon(const struct esw_port *port)
{
	if (rte_eal_alarm_set(1, report_news, port->nic) < 0)
		ESW_LOG(ERR, "%s: cannot notify the application: no alarm\n", port->name);
}

static void
set_link(struct esw_port *port, bool down)
{
	if (load_relaxed(&port->link_down) == (down || port->removed))
		return;
	store_relaxed(&port->link_down, down || port->removed);
	port->link_news = true;
	report_soon(port);
}

static void
set_removed(struct esw_port *port, bool removed)
{
	if (!removed || port->removed)
		return;
	port->removed = true;
	port->removal_news = true;
	report_soon(port);
}

static void
take(struct esw_nic *nic, const struct change *c)
{
	uint32_t i;

	memcpy(nic->faults.plan, c->plan, sizeof(c->plan));
	nic->faults.code = c->settings.code;
	store_relaxed(&nic->faults.create_delay_us, c->settings.create_delay_us);
	for (i = 0; i < nic->ports; i++) {
		store_relaxed(&nic->port[i]->far_stopped, c->settings.far_stopped[i]);
		set_removed(nic->port[i], c->removed[i]);
		set_link(nic->port[i], c->settings.link_down[i]);
	}
}

static void
begin(struct change *c, const struct esw_nic *nic)
{
	uint32_t i;

	c->nic = nic;
	c->reader.name = nic->name;
	c->reader.nic = nic;
	c->reader.port_number = port_number;
	memcpy(c->plan, nic->faults.plan, sizeof(c->plan));
	c->settings.code = nic->faults.code;
	c->settings.create_delay_us = load_relaxed(&nic->faults.create_delay_us);
	for (i = 0; i < nic->ports; i++) {
		c->settings.far_stopped[i] = load_relaxed(&nic->port[i]->far_stopped);
		c->settings.link_down[i] = load_relaxed(&nic->port[i]->link_down);
	}
}

/* Takes KEY=VALUE,... or nothing of it; on error message says why. */
int
esw_fault_set(struct esw_nic *nic, const char *pairs, char *message, size_t size)
{
	struct change c = { .reader = { .message = message, .size = size } };
	struct rte_kvargs *kvargs = rte_kvargs_parse(pairs, NULL);
	int ret;

	if (kvargs == NULL)
		return REFUSE(&c, "wanted KEY=VALUE,... instead of %s", pairs);
	pthread_mutex_lock(&nic->flow_lock);
	begin(&c, nic);
	ret = rte_kvargs_process(kvargs, NULL, set_pair, &c);
	if (ret == 0)
		take(nic, &c);
	pthread_mutex_unlock(&nic->flow_lock);
	rte_kvargs_free(kvargs);
	return ret;
}

/* Ends all faults. */
void
esw_fault_clear(struct esw_nic *nic)
{
	const struct change none = { .nic = nic, .settings.code = ESW_FAULT_DEFAULT_CODE };

	pthread_mutex_lock(&nic->flow_lock);
	take(nic, &none);
	pthread_mutex_unlock(&nic->flow_lock);
}

/* Calls of all kinds that are still to come and to fail. */
uint32_t
esw_fault_pending(const struct esw_nic *nic)
{
	uint32_t pending = 0;
	enum esw_call call;

	for (call = 0; call < ESW_CALLS; call++)
		pending += esw_plan_pending(&nic->faults.plan[call], nic->faults.calls[call]);
	return pending;
}

/* Counts a call of rte_flow, and fails it when that is planned. The caller has the NIC's lock. */
int
esw_fault_call(struct esw_nic *nic, enum esw_call call, struct rte_flow_error *error)
{
	struct esw_faults *f = &nic->faults;
	uint64_t nth = ++f->calls[call];
	uint64_t any = ++f->calls[ESW_CALL_ANY];

	if (!esw_plan_fails(&f->plan[call], nth) && !esw_plan_fails(&f->plan[ESW_CALL_ANY], any))
		return 0;
	f->failed[call]++;
	f->failed[ESW_CALL_ANY]++;
	return esw_flow_error(error, f->code, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
			      "fault injected into %s %" PRIu64, call_names[call], nth);
}

/* How long a rule's creation is to take, in microseconds. */
uint32_t
esw_fault_create_delay(const struct esw_nic *nic)
{
	return load_relaxed(&nic->faults.create_delay_us);
}
