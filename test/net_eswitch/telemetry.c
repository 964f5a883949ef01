/* SPDX-License-Identifier: Apache-2.0 */

/* DPDK telemetry: faults are set, and what the NIC was asked is seen, while the application
 * runs. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_string_fns.h>
#include <rte_telemetry.h>

#include "eswitch.h"

#define PARAMS_MAX 1024

/* Answers that something is wrong. Failing the command would say no more than null. */
static int
answer_error(struct rte_tel_data *data, const char *message)
{
	int ret = rte_tel_data_start_dict(data);

	return ret < 0 ? ret : rte_tel_data_add_dict_string(data, "error", message);
}

typedef int (*answer)(struct esw_nic *nic, char *args, struct rte_tel_data *data);

/* Splits VDEV[,ARGS] and lets fn answer for that NIC. */
static int
ask(const char *params, struct rte_tel_data *data, answer fn)
{
	char copy[PARAMS_MAX], message[RTE_TEL_MAX_STRING_LEN];
	struct esw_nic *nic;
	char *args;
	int ret;

	if (params == NULL || rte_strscpy(copy, params, sizeof(copy)) < 0)
		return answer_error(data, "which NIC? wanted the name of its vdev");
	args = strchr(copy, ',');
	if (args != NULL)
		*args++ = '\0';
	nic = esw_nic_find_locked(copy);
	if (nic == NULL) {
		snprintf(message, sizeof(message), "there is no NIC %.64s", copy);
		return answer_error(data, message);
	}
	ret = fn(nic, args, data);
	esw_nics_unlock();
	return ret;
}

static int
add_number(struct rte_tel_data *data, const char *prefix, const char *name, uint64_t n)
{
	char key[64];

	snprintf(key, sizeof(key), "%s%s", prefix, name);
	return esw_tel_add_number(data, key, n);
}

static int
add_plan(struct rte_tel_data *data, enum esw_call call, const struct esw_fault_plan *plan)
{
	char key[64], text[RTE_TEL_MAX_STRING_LEN];

	snprintf(key, sizeof(key), "fail_%s", esw_call_name(call));
	esw_plan_text(plan, text, sizeof(text));
	return rte_tel_data_add_dict_string(data, key, text);
}

static bool
is_far_stopped(const struct esw_port *port)
{
	return load_relaxed(&port->far_stopped);
}

static bool
is_link_down(const struct esw_port *port)
{
	return load_relaxed(&port->link_down);
}

/* Adds the names of the ports for which it is so. */
static int
add_ports(struct rte_tel_data *data, const char *key, const struct esw_nic *nic,
	  bool (*is)(const struct esw_port *))
{
	char text[RTE_TEL_MAX_STRING_LEN] = "";
	size_t at = 0;
	uint32_t i;

	for (i = 0; i < nic->ports && at < sizeof(text); i++)
		if (is(nic->port[i]))
			at += snprintf(text + at, sizeof(text) - at, "%s%s", at == 0 ? "" : ":",
				       nic->port[i]->label);
	return rte_tel_data_add_dict_string(data, key, text);
}

static int
show_faults(const struct esw_nic *nic, struct rte_tel_data *data)
{
	enum esw_call call;
	int ret = rte_tel_data_start_dict(data);

	for (call = 0; ret == 0 && call < ESW_CALLS; call++)
		ret = add_plan(data, call, &nic->faults.plan[call]);
	if (ret == 0)
		ret = esw_tel_add_number(data, "fail_errno", nic->faults.code);
	if (ret == 0)
		ret = esw_tel_add_number(data, "create_delay_us", esw_fault_create_delay(nic));
	if (ret == 0)
		ret = esw_tel_add_number(data, "pending", esw_fault_pending(nic));
	if (ret == 0)
		ret = add_ports(data, "far_stop", nic, is_far_stopped);
	if (ret == 0)
		ret = add_ports(data, "link_down", nic, is_link_down);
	return ret;
}

static int
answer_fault(struct esw_nic *nic, char *args, struct rte_tel_data *data)
{
	char message[RTE_TEL_MAX_STRING_LEN];
	int ret;

	if (args != NULL && strcmp(args, "clear") == 0)
		esw_fault_clear(nic);
	else if (args != NULL && esw_fault_set(nic, args, message, sizeof(message)) < 0)
		return answer_error(data, message);
	pthread_mutex_lock(&nic->flow_lock);
	ret = show_faults(nic, data);
	pthread_mutex_unlock(&nic->flow_lock);
	return ret;
}

static int
answer_counters(struct esw_nic *nic, char *args __rte_unused, struct rte_tel_data *data)
{
	enum esw_call call;
	int ret = rte_tel_data_start_dict(data);

	pthread_mutex_lock(&nic->flow_lock);
	for (call = 0; ret == 0 && call < ESW_CALLS; call++) {
		ret = add_number(data, "", esw_call_name(call), nic->faults.calls[call]);
		if (ret == 0)
			ret = add_number(data, "failed_", esw_call_name(call),
					 nic->faults.failed[call]);
	}
	pthread_mutex_unlock(&nic->flow_lock);
	return ret;
}

/* Adds the rule's line to the text of that size; false when it has no room any more. */
static bool
add_rule(char *text, size_t size, const struct rte_flow *flow)
{
	size_t len = 0, at = strlen(text);
	char *line = NULL;
	FILE *file = open_memstream(&line, &len);
	bool fits;

	if (file == NULL)
		return false;
	esw_dump_rule(file, flow);
	fputc('\n', file);
	fits = fclose(file) == 0 && len < size - at;
	if (fits)
		memcpy(text + at, line, len + 1);
	free(line);
	return fits;
}

/* Lines for as many rules as an answer holds, from the one of that number on. */
static void
list_rules(const struct esw_nic *nic, uint64_t first, char *text, size_t size)
{
	const struct rte_flow *flow;
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < nic->ports; i++)
		TAILQ_FOREACH(flow, &nic->port[i]->flows, owned)
			if (n++ >= first && !add_rule(text, size, flow))
				return;
}

static int
answer_rules(struct esw_nic *nic, char *args, struct rte_tel_data *data)
{
	uint64_t first = args == NULL ? 0 : strtoull(args, NULL, 10);
	char text[RTE_TEL_MAX_SINGLE_STRING_LEN] = "";

	pthread_mutex_lock(&nic->flow_lock);
	list_rules(nic, first, text, sizeof(text));
	pthread_mutex_unlock(&nic->flow_lock);
	return rte_tel_data_string(data, text);
}

static int
command_fault(const char *command __rte_unused, const char *params, struct rte_tel_data *data)
{
	return ask(params, data, answer_fault);
}

static int
command_counters(const char *command __rte_unused, const char *params, struct rte_tel_data *data)
{
	return ask(params, data, answer_counters);
}

static int
command_rules(const char *command __rte_unused, const char *params, struct rte_tel_data *data)
{
	return ask(params, data, answer_rules);
}

RTE_INIT(esw_telemetry)
{
	rte_telemetry_register_cmd(
		"/net_eswitch/fault", command_fault,
		"Shows or sets faults. Parameters: VDEV, VDEV,clear or VDEV,KEY=VALUE,...");
	rte_telemetry_register_cmd("/net_eswitch/counters", command_counters,
				   "Calls of rte_flow that a NIC got and failed. Parameter: VDEV");
	rte_telemetry_register_cmd(
		"/net_eswitch/rules", command_rules,
		"Rules installed in a NIC, a line each. Parameters: VDEV or VDEV,FIRST");
}
