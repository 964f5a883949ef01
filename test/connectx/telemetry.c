/* SPDX-License-Identifier: Apache-2.0 */

/* DPDK telemetry: faults are set, and rules, counters and refusals are seen, while the application
 * runs. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "../net_eswitch/compat.h"
#include "device.h"
#include "fault.h"

/* Answers that something is wrong. Failing the command would say no more than null. */
static int
answer_error(struct rte_tel_data *data, const char *message)
{
	int ret = rte_tel_data_start_dict(data);

	return ret < 0 ? ret : rte_tel_data_add_dict_string(data, "error", message);
}

static int
add_ports(struct rte_tel_data *data, const char *key, bool (*is)(const struct cx_port *))
{
	char text[RTE_TEL_MAX_STRING_LEN] = "";
	const struct cx_port *port;
	size_t at = 0;
	uint32_t n;

	for (n = 0; (port = cx_port_at(n)) != NULL && at < sizeof(text); n++)
		if (is(port))
			at += snprintf(text + at, sizeof(text) - at, "%s%s",
				       at == 0 ? "" : ESW_FAULT_SEPARATOR, port->vport->name);
	return rte_tel_data_add_dict_string(data, key, text);
}

static bool
is_far_stopped(const struct cx_port *port)
{
	return load_relaxed(&port->far_stopped);
}

static bool
is_link_down(const struct cx_port *port)
{
	return load_relaxed(&port->link_down);
}

static bool
is_removed(const struct cx_port *port)
{
	return port->vport->id == CX_VPORT_UPLINK && cx_hca_failed(port->vport->dev);
}

static int
show_faults(struct rte_tel_data *data)
{
	struct cx_faults faults;
	uint32_t pending = 0;
	enum cx_call call;
	int ret = rte_tel_data_start_dict(data);

	cx_fault_read(&faults);
	for (call = 0; ret == 0 && call < CX_CALLS; call++) {
		char key[64], text[RTE_TEL_MAX_STRING_LEN];

		snprintf(key, sizeof(key), "fail_%s", cx_call_name(call));
		esw_plan_text(&faults.plan[call], text, sizeof(text));
		pending += esw_plan_pending(&faults.plan[call], faults.calls[call]);
		ret = rte_tel_data_add_dict_string(data, key, text);
	}
	if (ret == 0)
		ret = esw_tel_add_number(data, "fail_errno", faults.code);
	if (ret == 0)
		ret = esw_tel_add_number(data, "create_delay_us",
					 load_relaxed(&faults.create_delay_us));
	if (ret == 0)
		ret = esw_tel_add_number(data, "pending", pending);
	if (ret == 0)
		ret = add_ports(data, "far_stop", is_far_stopped);
	if (ret == 0)
		ret = add_ports(data, "link_down", is_link_down);
	if (ret == 0)
		ret = add_ports(data, "removed", is_removed);
	return ret;
}

static int
command_fault(const char *command, const char *params, struct rte_tel_data *data)
{
	char message[RTE_TEL_MAX_STRING_LEN];

	(void)command;
	if (params != NULL && strcmp(params, "clear") == 0)
		cx_fault_clear();
	else if (params != NULL && cx_fault_set(params, message, sizeof(message)) < 0)
		return answer_error(data, message);
	return show_faults(data);
}

static int
command_counters(const char *command, const char *params, struct rte_tel_data *data)
{
	struct cx_faults faults;
	enum cx_call call;
	int ret = rte_tel_data_start_dict(data);

	(void)command;
	(void)params;
	cx_fault_read(&faults);
	for (call = 0; ret == 0 && call < CX_CALLS; call++) {
		char key[64];

		ret = esw_tel_add_number(data, cx_call_name(call), faults.calls[call]);
		snprintf(key, sizeof(key), "failed_%s", cx_call_name(call));
		if (ret == 0)
			ret = esw_tel_add_number(data, key, faults.failed[call]);
	}
	return ret;
}

/* What exists: of DevX by type, and of steering. */
static int
command_objects(const char *command, const char *params, struct rte_tel_data *data)
{
	struct cx_steering_counts counts = cx_steering_counts();
	enum cx_type type;
	int ret = rte_tel_data_start_dict(data);

	(void)command;
	(void)params;
	for (type = CX_UMEM; ret == 0 && type < CX_TYPES; type++)
		ret = esw_tel_add_number(data, cx_type_name(type), cx_object_count(type));
	if (ret == 0)
		ret = esw_tel_add_number(data, "table", counts.tables);
	if (ret == 0)
		ret = esw_tel_add_number(data, "matcher", counts.matchers);
	if (ret == 0)
		ret = esw_tel_add_number(data, "rule", counts.rules);
	if (ret == 0)
		ret = esw_tel_add_number(data, "action", counts.actions);
	return ret;
}

/* As many whole lines of text, from the one of that number on, as an answer holds. */
static void
page(const char *lines, uint64_t first, char *text, size_t size)
{
	const char *end;
	size_t n;

	for (; first > 0 && *lines != '\0'; first--) {
		end = strchr(lines, '\n');
		if (end == NULL)
			return;
		lines = end + 1;
	}
	for (; (end = strchr(lines, '\n')) != NULL; lines = end + 1) {
		n = end + 1 - lines;
		if (n >= size)
			return;
		memcpy(text, lines, n);
		text[n] = '\0';
		text += n;
		size -= n;
	}
}

/* CARD,FIRST: the rules from the one of that number on, a line each, as one string. */
static int
command_rules(const char *command, const char *params, struct rte_tel_data *data)
{
	const char *name = cx_config.profile->name, *first;
	char text[RTE_TEL_MAX_SINGLE_STRING_LEN] = "", *lines = NULL;
	size_t size = 0, n = strlen(name);
	FILE *file;

	(void)command;
	if (params == NULL || strncmp(params, name, n) != 0 ||
	    (params[n] != '\0' && params[n] != ','))
		return answer_error(data, "which card? wanted its profile: cx5, cx6dx or cx7");
	first = params[n] == ',' ? params + n + 1 : "0";
	file = open_memstream(&lines, &size);
	if (file == NULL)
		return -ENOMEM;
	cx_steering_dump(file);
	if (fclose(file) == 0)
		page(lines, strtoull(first, NULL, 10), text, sizeof(text));
	free(lines);
	return rte_tel_data_string(data, text);
}

static int
add_port(struct rte_tel_data *data, struct cx_port *port)
{
	struct rte_tel_data *counters = rte_tel_data_alloc();
	uint32_t i, n;
	int ret;

	if (counters == NULL)
		return -ENOMEM;
	cx_port_read_drops(port);
	n = atomic_load_explicit(&port->stats, memory_order_acquire);
	ret = rte_tel_data_start_dict(counters);
	for (i = 0; ret == 0 && i < n; i++)
		ret = esw_tel_add_number(counters, port->stat[i].name,
					 load_relaxed(&port->stat[i].n));
	return ret != 0 ? ret :
			  rte_tel_data_add_dict_container(data, port->vport->name, counters, 0);
}

static int
command_ports(const char *command, const char *params, struct rte_tel_data *data)
{
	struct cx_port *port;
	uint32_t n;
	int ret = rte_tel_data_start_dict(data);

	(void)command;
	(void)params;
	for (n = 0; ret == 0 && (port = cx_port_at(n)) != NULL; n++)
		ret = add_port(data, port);
	return ret;
}

static int
command_refusals(const char *command, const char *params, struct rte_tel_data *data)
{
	const char *text;
	uint32_t n;
	int ret = rte_tel_data_start_array(data, RTE_TEL_STRING_VAL);

	(void)command;
	(void)params;
	for (n = 0; ret == 0 && (text = cx_refusal(n)) != NULL; n++)
		ret = rte_tel_data_add_array_string(data, text);
	return ret;
}

__attribute__((constructor)) static void
add_commands(void)
{
	rte_telemetry_register_cmd(
		"/connectx/fault", command_fault,
		"Shows or sets faults. Parameters: none, clear or KEY=VALUE,...");
	rte_telemetry_register_cmd("/connectx/counters", command_counters,
				   "Commands that the card got and failed");
	rte_telemetry_register_cmd("/connectx/objects", command_objects,
				   "How many objects exist, by type");
	rte_telemetry_register_cmd(
		"/connectx/rules", command_rules,
		"Rules installed in the card, a line each. Parameters: CARD or CARD,FIRST");
	rte_telemetry_register_cmd("/connectx/ports", command_ports, "Counters of each port");
	rte_telemetry_register_cmd("/connectx/refusals", command_refusals,
				   "What the card does not know and was asked for");
}
