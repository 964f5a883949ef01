/* SPDX-License-Identifier: Apache-2.0 */

/* rte_flow's operations. All of them take the NIC's lock, so that applications may call them from
 * any thread. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_ethdev.h>

#include "eswitch.h"

static struct esw_port *
port_of(const struct rte_eth_dev *dev)
{
	return dev->data->dev_private;
}

static int
flow_validate(struct rte_eth_dev *dev, const struct rte_flow_attr *attr,
	      const struct rte_flow_item items[], const struct rte_flow_action actions[],
	      struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	struct esw_rule rule;
	int ret;

	pthread_mutex_lock(&port->nic->flow_lock);
	ret = esw_fault_call(port->nic, ESW_CALL_VALIDATE, error);
	if (ret == 0)
		ret = esw_rule_compile(port, attr, items, actions, &rule, error);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return ret;
}

/* The groups of the rule's domain: the switch's, or those of its port. */
static struct esw_groups *
groups_of(const struct esw_rule_info *info)
{
	if (info->attr.transfer)
		return &info->source->nic->transfer;
	return info->attr.ingress ? &info->source->ingress : &info->source->egress;
}

static void
set_counter(struct rte_flow *flow)
{
	if (flow->info.shared_count != NULL)
		flow->counter = &flow->info.shared_count->counter;
	else if (flow->info.counted)
		flow->counter = &flow->own_counter;
}

static void
set_age(struct rte_flow *flow)
{
	if (flow->info.shared_age != NULL) {
		flow->age = &flow->info.shared_age->age;
	} else if (flow->info.age_timeout != 0) {
		flow->age = &flow->own_age;
		flow->age->last_hit = &flow->own_last_hit;
		flow->age->timeout = flow->info.age_timeout;
		flow->age->context = flow->info.age_context != NULL ? flow->info.age_context : flow;
		flow->age->port = flow->owner;
	}
	if (flow->age != NULL)
		flow->last_hit = flow->age->last_hit;
}

/* Counts the flow among the users of its indirect actions, or no longer. */
static void
use_handles(struct rte_flow *flow, int by)
{
	if (flow->info.shared_count != NULL)
		esw_indirect_use(flow->info.shared_count, by);
	if (flow->info.shared_age != NULL)
		esw_indirect_use(flow->info.shared_age, by);
}

/* Whether rules would find the packet as it was before. */
static bool
leaves_packet(const struct esw_draft *draft)
{
	uint32_t i;

	for (i = 0; i < draft->steps; i++) {
		switch (draft->step[i].op) {
		case ESW_OP_COUNT:
		case ESW_OP_AGE:
		case ESW_OP_SAMPLE:
		case ESW_OP_JUMP:
			break;
		default:
			return false;
		}
	}
	return true;
}

/* Tells the program where it jumps to, if it does: with its last step. */
static int
link_jump(struct esw_rule *rule)
{
	struct esw_draft *draft = &rule->draft;
	struct esw_group *jump;

	if (!rule->info.jumps)
		return 0;
	jump = esw_group_get(groups_of(&rule->info), esw_group_level(rule->info.jump));
	if (jump == NULL)
		return -ENOMEM;
	draft->step[draft->steps - 1].jump = jump;
	draft->next = leaves_packet(draft) ? jump : NULL;
	return 0;
}

static struct rte_flow *
flow_new(struct esw_port *owner, const struct esw_rule *rule)
{
	struct rte_flow *flow = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*flow));

	if (flow == NULL)
		return NULL;
	memset(flow, 0, sizeof(*flow));
	flow->owner = owner;
	flow->info = rule->info;
	set_counter(flow);
	set_age(flow);
	flow->group = esw_group_get(groups_of(&flow->info), esw_group_level(flow->info.attr.group));
	flow->program = esw_program_get(&owner->nic->programs, &rule->draft);
	return flow;
}

/* The pipeline has left it. */
static void
flow_free(struct rte_flow *flow)
{
	if (flow == NULL)
		return;
	if (flow->program != NULL)
		esw_program_put(&flow->owner->nic->programs, flow->program);
	free(flow);
}

/* Puts the flow into the tables: from now on packets meet it. */
static int
insert(struct rte_flow *flow, const struct esw_pattern *pattern)
{
	struct esw_nic *nic = flow->owner->nic;
	int ret;

	if (flow->age == &flow->own_age)
		esw_age_add(nic, flow->age);
	ret = esw_match_insert(nic->rcu, flow->group, &flow->entry, pattern);
	if (ret < 0)
		esw_age_remove(nic, &flow->own_age);
	return ret;
}

/* Installs the rule; NULL without memory. */
static struct rte_flow *
add(struct esw_port *port, struct esw_rule *rule, struct rte_flow_error *error)
{
	struct rte_flow *flow = link_jump(rule) < 0 ? NULL : flow_new(port, rule);

	if (flow == NULL || flow->group == NULL || flow->program == NULL ||
	    insert(flow, &rule->pattern) < 0) {
		flow_free(flow);
		esw_flow_error(error, ENOMEM, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL, "no memory");
		return NULL;
	}
	use_handles(flow, 1);
	TAILQ_INSERT_TAIL(&port->flows, flow, owned);
	return flow;
}

static void
delay(const struct esw_nic *nic)
{
	uint32_t us = esw_fault_create_delay(nic);

	if (us > 0)
		usleep(us);
}

static struct rte_flow *
flow_create(struct rte_eth_dev *dev, const struct rte_flow_attr *attr,
	    const struct rte_flow_item items[], const struct rte_flow_action actions[],
	    struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	struct rte_flow *flow = NULL;
	struct esw_rule rule;
	int ret;

	delay(port->nic);
	pthread_mutex_lock(&port->nic->flow_lock);
	ret = esw_fault_call(port->nic, ESW_CALL_CREATE, error);
	if (ret == 0)
		ret = esw_rule_compile(port, attr, items, actions, &rule, error);
	if (ret == 0)
		ret = esw_rule_hardware(port, &rule, error);
	if (ret == 0)
		flow = add(port, &rule, error);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return flow;
}

/* Takes a flow out of everything. The pipeline may still be at it. */
static void
detach(struct rte_flow *flow)
{
	struct esw_port *port = flow->owner;

	TAILQ_REMOVE(&port->flows, flow, owned);
	esw_age_remove(port->nic, &flow->own_age);
	esw_match_remove(port->nic->rcu, flow->group, &flow->entry);
}

/* Ends a flow that was taken out, and that the pipeline is not at any more. */
static void
end(struct rte_flow *flow)
{
	use_handles(flow, -1);
	flow_free(flow);
}

/* How many destroyed rules may wait for the pipeline. */
#define GONE_MAX 4096

static void
end_all(struct esw_nic *nic, struct esw_flow_list *flows)
{
	struct rte_flow *flow;

	while ((flow = TAILQ_FIRST(flows)) != NULL) {
		TAILQ_REMOVE(flows, flow, owned);
		nic->nb_gone--;
		end(flow);
	}
}

/* Frees the destroyed rules; waits for the pipeline. */
static void
end_gone(struct esw_nic *nic)
{
	esw_pipeline_wait(nic);
	end_all(nic, &nic->waiting);
	end_all(nic, &nic->gone);
}

/* Ends a flow that was taken out, once the pipeline is not at it any more: a wait for each would
 * make the removal of many rules slow. */
static void
end_later(struct esw_nic *nic, struct rte_flow *flow)
{
	TAILQ_INSERT_TAIL(&nic->gone, flow, owned);
	nic->nb_gone++;
	if (TAILQ_EMPTY(&nic->waiting) || rte_rcu_qsbr_check(nic->rcu, nic->gone_token, false)) {
		end_all(nic, &nic->waiting);
		TAILQ_CONCAT(&nic->waiting, &nic->gone, owned);
		nic->gone_token = rte_rcu_qsbr_start(nic->rcu);
	}
	if (nic->nb_gone > GONE_MAX)
		end_gone(nic);
}

static bool
owns(const struct esw_port *port, const struct rte_flow *flow)
{
	return flow != NULL && flow->owner == port;
}

static int
flow_destroy(struct rte_eth_dev *dev, struct rte_flow *flow, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	bool shares;
	int ret;

	if (!owns(port, flow))
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_HANDLE, flow,
				      "no rule of this port");
	pthread_mutex_lock(&port->nic->flow_lock);
	ret = esw_fault_call(port->nic, ESW_CALL_DESTROY, error);
	if (ret == 0) {
		shares = flow->info.shared_count != NULL || flow->info.shared_age != NULL;
		detach(flow);
		end_later(port->nic, flow);
		if (shares) /* its indirect actions are free at once */
			end_gone(port->nic);
	}
	pthread_mutex_unlock(&port->nic->flow_lock);
	return ret;
}

/* Destroys all rules that were created on the port. */
void
esw_flow_flush_port(struct esw_port *port)
{
	struct esw_nic *nic = port->nic;
	struct rte_flow *flow;

	pthread_mutex_lock(&nic->flow_lock);
	while ((flow = TAILQ_FIRST(&port->flows)) != NULL) {
		detach(flow);
		TAILQ_INSERT_TAIL(&nic->gone, flow, owned);
		nic->nb_gone++;
	}
	end_gone(nic); /* also those of before: the port may go now */
	pthread_mutex_unlock(&nic->flow_lock);
}

/* For the calls that do without the NIC's lock, or take it later. */
static int
count_call(struct esw_port *port, enum esw_call call, struct rte_flow_error *error)
{
	int ret;

	pthread_mutex_lock(&port->nic->flow_lock);
	ret = esw_fault_call(port->nic, call, error);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return ret;
}

static int
flow_flush(struct rte_eth_dev *dev, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	int ret = count_call(port, ESW_CALL_FLUSH, error);

	if (ret == 0)
		esw_flow_flush_port(port);
	return ret;
}

/* What a counter says; with reset it starts anew. */
int
esw_flow_query_counter(struct esw_counter *counter, struct rte_flow_query_count *out)
{
	uint64_t hits = load_relaxed(&counter->hits);
	uint64_t bytes = load_relaxed(&counter->bytes);

	out->hits_set = 1;
	out->bytes_set = 1;
	out->hits = hits - counter->base_hits;
	out->bytes = bytes - counter->base_bytes;
	if (out->reset) {
		counter->base_hits = hits;
		counter->base_bytes = bytes;
	}
	return 0;
}

int
esw_flow_query_age(const struct esw_age *age, struct rte_flow_query_age *out)
{
	out->reserved = 0;
	out->aged = age->state == ESW_AGE_AGED;
	out->sec_since_last_hit_valid = !out->aged;
	out->sec_since_last_hit = out->aged ? 0 : esw_age_idle_seconds(age);
	return 0;
}

static int
query_action(struct rte_flow *flow, const struct rte_flow_action *action, void *data,
	     struct rte_flow_error *error)
{
	switch (action->type) {
	case RTE_FLOW_ACTION_TYPE_VOID:
		return 0;
	case RTE_FLOW_ACTION_TYPE_COUNT:
		if (flow->counter != NULL)
			return esw_flow_query_counter(flow->counter, data);
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ACTION, action,
				      "the rule does not count");
	case RTE_FLOW_ACTION_TYPE_AGE:
		if (flow->age != NULL)
			return esw_flow_query_age(flow->age, data);
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ACTION, action,
				      "the rule does not age");
	default:
		return esw_flow_error(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ACTION, action,
				      "only COUNT and AGE can be queried");
	}
}

static int
flow_query(struct rte_eth_dev *dev, struct rte_flow *flow, const struct rte_flow_action *action,
	   void *data, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	int ret;

	if (!owns(port, flow))
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_HANDLE, flow,
				      "no rule of this port");
	pthread_mutex_lock(&port->nic->flow_lock);
	ret = esw_fault_call(port->nic, ESW_CALL_QUERY, error);
	for (; ret == 0 && action->type != RTE_FLOW_ACTION_TYPE_END; action++)
		ret = query_action(flow, action, data, error);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return ret;
}

static int
flow_isolate(struct rte_eth_dev *dev, int set, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	int ret = count_call(port, ESW_CALL_ISOLATE, error);

	if (ret < 0)
		return ret;
	if (dev->data->dev_started)
		return esw_flow_error(error, EBUSY, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
				      "the port has to be stopped first");
	store_relaxed(&port->isolated, set != 0);
	return 0;
}

static int
flow_aged(struct rte_eth_dev *dev, void **contexts, uint32_t n, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	struct esw_age *age;
	uint32_t found = 0;

	if (n > 0 && contexts == NULL)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
				      "contexts are missing");
	pthread_mutex_lock(&port->nic->flow_lock);
	TAILQ_FOREACH(age, &port->aged, next) {
		if (n > 0 && found == n)
			break;
		if (n > 0)
			contexts[found] = age->context;
		found++;
	}
	port->aged_notified = false;
	pthread_mutex_unlock(&port->nic->flow_lock);
	return found;
}

static void
dump(FILE *file, const struct rte_flow *flow)
{
	esw_dump_rule(file, flow);
	esw_dump_counters(file, flow);
	fputc('\n', file);
}

static int
flow_dump(struct rte_eth_dev *dev, struct rte_flow *flow, FILE *file, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);

	if (flow != NULL && !owns(port, flow))
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_HANDLE, flow,
				      "no rule of this port");
	pthread_mutex_lock(&port->nic->flow_lock);
	if (flow != NULL) {
		dump(file, flow);
	} else {
		TAILQ_FOREACH(flow, &port->flows, owned)
			dump(file, flow);
	}
	pthread_mutex_unlock(&port->nic->flow_lock);
	return 0;
}

static int
flow_proxy(struct rte_eth_dev *dev, uint16_t *proxy, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	struct esw_port *pf0 = esw_nic_pf0(port->nic);

	if (!esw_port_in_switch(port) || pf0->dev == NULL)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
				      "there is no transfer proxy: %s",
				      pf0->dev == NULL ? "PF0 is closed" :
							 "PF1 is not in switchdev mode");
	*proxy = pf0->ethdev;
	return 0;
}

static const struct rte_flow_ops flow_ops = {
	.validate = flow_validate,
	.create = flow_create,
	.destroy = flow_destroy,
	.flush = flow_flush,
	.query = flow_query,
	.isolate = flow_isolate,
	.dev_dump = flow_dump,
	.get_aged_flows = flow_aged,
	.pick_transfer_proxy = flow_proxy,
	.action_handle_create = esw_indirect_create,
	.action_handle_destroy = esw_indirect_destroy,
	.action_handle_update = esw_indirect_update,
	.action_handle_query = esw_indirect_query,
};

int
esw_flow_ops_get(struct rte_eth_dev *dev __rte_unused, const struct rte_flow_ops **ops)
{
	*ops = &flow_ops;
	return 0;
}
