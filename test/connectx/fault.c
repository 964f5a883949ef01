/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Faults for tests: commands that fail or take their time, far sides that stand still, links that
 * are down, a device that is gone. The README has the words for them; net_eswitch has the same ones
 * where they mean the same.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "fault.h"

static struct cx_faults faults = { .code = ESW_FAULT_DEFAULT_CODE };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What is being set; it counts once all of it is understood. */
struct change {
	struct esw_fault_plan plan[CX_CALLS];
	struct esw_fault_settings settings;
	bool removed[CX_PFS];
	struct esw_fault_reader reader;
};

static_assert(CX_PFS * CX_MAX_VPORTS <= ESW_FAULT_PORTS, "more ports than faults can be set for");

#define REFUSE(c, ...) (snprintf((c)->reader.message, (c)->reader.size, __VA_ARGS__), -EINVAL)

const char *
cx_call_name(enum cx_call call)
{
	static const char *const names[CX_CALLS] = {
		[CX_CALL_RULE] = "create",   [CX_CALL_DESTROY] = "destroy",
		[CX_CALL_TABLE] = "table",   [CX_CALL_MATCHER] = "matcher",
		[CX_CALL_ACTION] = "action", [CX_CALL_OBJECT] = "object",
		[CX_CALL_ANY] = "call",
	};

	return names[call];
}

/* The call that a key names behind fail_, or CX_CALLS. */
static enum cx_call
call_of(const char *key)
{
	enum cx_call call = 0;

	if (strncmp(key, "fail_", 5) != 0)
		return CX_CALLS;
	while (call < CX_CALLS && strcmp(cx_call_name(call), key + 5) != 0)
		call++;
	return call;
}

static int
port_number(const void *nic, const char *name)
{
	const struct cx_port *port = cx_port_by_name(name);
	int n = 0;

	(void)nic; /* there is one card */
	if (port == NULL)
		return -ENODEV;
	while (cx_port_at(n) != port)
		n++;
	return n;
}

static int
set_removed(struct change *c, const char *value)
{
	const struct cx_port *port = cx_port_by_name(value);

	if (port == NULL || port->vport->id != CX_VPORT_UPLINK)
		return REFUSE(c, "the card has no PF %s", value);
	c->removed[port->vport->dev->pf] = true;
	return 0;
}

static int
set_value(struct change *c, const char *key, char *value)
{
	enum cx_call call = call_of(key);
	int ret;

	if (call < CX_CALLS)
		return esw_plan_parse(&c->plan[call], faults.calls[call], value, c->reader.message,
				      c->reader.size);
	if (strcmp(key, "remove") == 0)
		return set_removed(c, value);
	ret = esw_fault_read(&c->reader, &c->settings, key, value);
	return ret == -ENOENT ? REFUSE(c, "there is no fault %s", key) : ret;
}

static int
set_pairs(struct change *c, char *pairs)
{
	char *save, *pair, *value;
	int ret = 0;

	for (pair = strtok_r(pairs, ",", &save); ret == 0 && pair != NULL;
	     pair = strtok_r(NULL, ",", &save)) {
		value = strchr(pair, '=');
		if (value == NULL || value[1] == '\0')
			return REFUSE(c, "%s: wanted KEY=VALUE", pair);
		*value++ = '\0';
		if (strlen(value) >= ESW_FAULT_VALUE)
			return REFUSE(c, "the value of %s is too long", pair);
		ret = set_value(c, pair, value);
	}
	return ret;
}

static void
begin(struct change *c)
{
	const struct cx_port *port;
	uint32_t n;

	memcpy(c->plan, faults.plan, sizeof(c->plan));
	c->settings.code = faults.code;
	c->settings.create_delay_us = load_relaxed(&faults.create_delay_us);
	for (n = 0; (port = cx_port_at(n)) != NULL; n++) {
		c->settings.far_stopped[n] = load_relaxed(&port->far_stopped);
		c->settings.link_down[n] = load_relaxed(&port->link_down);
	}
}

static void
take(const struct change *c)
{
	struct cx_port *port;
	uint32_t n, pf;

	memcpy(faults.plan, c->plan, sizeof(faults.plan));
	faults.code = c->settings.code;
	store_relaxed(&faults.create_delay_us, c->settings.create_delay_us);
	for (n = 0; (port = cx_port_at(n)) != NULL; n++) {
		store_relaxed(&port->far_stopped, c->settings.far_stopped[n]);
		if (load_relaxed(&port->link_down) != c->settings.link_down[n]) {
			store_relaxed(&port->link_down, c->settings.link_down[n]);
			cx_port_link(port);
		}
	}
	for (pf = 0; pf < CX_PFS; pf++)
		if (c->removed[pf])
			cx_hca_fail(&cx_hcas[pf].dev);
}

/* Takes KEY=VALUE,... or nothing of it; on error message says why. */
int
cx_fault_set(const char *pairs, char *message, size_t size)
{
	struct change c = { .reader = { .name = "the card",
					.port_number = port_number,
					.message = message,
					.size = size } };
	char *copy = strdup(pairs);
	int ret;

	if (copy == NULL)
		return REFUSE(&c, "no memory");
	pthread_mutex_lock(&lock);
	begin(&c);
	ret = set_pairs(&c, copy);
	if (ret == 0)
		take(&c);
	pthread_mutex_unlock(&lock);
	free(copy);
	return ret;
}

/* Ends all faults; a device that is gone does not come back. */
void
cx_fault_clear(void)
{
	const struct change none = { .settings.code = ESW_FAULT_DEFAULT_CODE };

	pthread_mutex_lock(&lock);
	take(&none);
	pthread_mutex_unlock(&lock);
}

void
cx_fault_read(struct cx_faults *out)
{
	pthread_mutex_lock(&lock);
	*out = faults;
	pthread_mutex_unlock(&lock);
}

static int
count(enum cx_call call, const char *what)
{
	uint64_t nth, any;
	int code = 0;

	pthread_mutex_lock(&lock);
	nth = ++faults.calls[call];
	any = ++faults.calls[CX_CALL_ANY];
	if (esw_plan_fails(&faults.plan[call], nth) ||
	    esw_plan_fails(&faults.plan[CX_CALL_ANY], any)) {
		faults.failed[call]++;
		faults.failed[CX_CALL_ANY]++;
		code = faults.code;
	}
	pthread_mutex_unlock(&lock);
	if (code != 0) {
		fprintf(stderr, "connectx: fault injected into %s %" PRIu64 " (%s)\n",
			cx_call_name(call), nth, what);
		errno = code;
	}
	return code;
}

int
cx_fault_create(const char *what)
{
	uint32_t delay = load_relaxed(&faults.create_delay_us);

	if (strcmp(what, "table") == 0)
		return count(CX_CALL_TABLE, what);
	if (strcmp(what, "matcher") == 0)
		return count(CX_CALL_MATCHER, what);
	if (strcmp(what, "action") == 0)
		return count(CX_CALL_ACTION, what);
	if (strcmp(what, "rule") != 0)
		return count(CX_CALL_OBJECT, what);
	if (delay > 0)
		usleep(delay);
	return count(CX_CALL_RULE, what);
}

int
cx_fault_destroy(const char *what)
{
	/* Of the others the driver does not look at what becomes of a destroy. */
	return strcmp(what, "rule") == 0 ? count(CX_CALL_DESTROY, what) : 0;
}
