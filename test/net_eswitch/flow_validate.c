/* SPDX-License-Identifier: Apache-2.0 */

/* From the API's view of a rule to the NIC's: attributes, pattern, actions. Validation is this and
 * nothing else. */

#include <errno.h>
#include <string.h>

#include "eswitch.h"

/* The limits of net_mlx5 on a ConnectX: its own priorities follow, and the root tables of NIC RX
 * and TX are small. */
#define MAX_PRIORITY 21843
#define MAX_PRIORITY_NIC_ROOT 3

static int
check_priority(const struct rte_flow_attr *attr, struct rte_flow_error *error)
{
	uint32_t max = attr->transfer || attr->group > 0 ? MAX_PRIORITY : MAX_PRIORITY_NIC_ROOT;

	if (attr->priority <= max)
		return 0;
	return esw_flow_error(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ATTR_PRIORITY, attr,
			      "priority %u is out of range, the lowest one is %u", attr->priority,
			      max);
}

static int
check_attr(const struct esw_port *port, const struct rte_flow_attr *attr,
	   struct rte_flow_error *error)
{
	int ret;

	if (attr->transfer && attr->group == UINT32_MAX)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ATTR_GROUP, attr,
				      "there is no group %u", attr->group);
	ret = check_priority(attr, error);
	if (ret < 0)
		return ret;
	if (attr->transfer && !esw_port_in_switch(port))
		return esw_flow_error(
			error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ATTR_TRANSFER, attr,
			"transfer rules are not supported: PF1 is not in switchdev mode");
	if (attr->ingress + attr->egress + attr->transfer != 1)
		return esw_flow_error(
			error, EINVAL, RTE_FLOW_ERROR_TYPE_ATTR, attr,
			"exactly one of ingress, egress and transfer has to be given");
	return 0;
}

/* Understands a rule, or refuses it. */
int
esw_rule_compile(struct esw_port *port, const struct rte_flow_attr *attr,
		 const struct rte_flow_item *items, const struct rte_flow_action *actions,
		 struct esw_rule *rule, struct rte_flow_error *error)
{
	int ret;

	memset(rule, 0, offsetof(struct esw_rule, draft));
	if (attr == NULL)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ATTR, NULL,
				      "attributes are missing");
	if (items == NULL)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ITEM_NUM, NULL,
				      "the pattern is missing");
	if (actions == NULL)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ACTION_NUM, NULL,
				      "actions are missing");
	ret = check_attr(port, attr, error);
	if (ret < 0)
		return ret;
	rule->info.attr = *attr;
	ret = esw_rule_pattern(port, items, rule, error);
	if (ret < 0)
		return ret;
	return esw_rule_actions(port, actions, rule, error);
}
