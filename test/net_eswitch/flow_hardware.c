/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the card refuses of a rule that its driver finds valid: rte_flow_validate does not see it,
 * rte_flow_create does. The card's own library (rdma-core's software steering) takes actions in
 * certain orders only, and jumps to tables of a higher level.
 */

#include <errno.h>

#include "eswitch.h"

/* net_mlx5 leaves room between the tables of groups below this one. */
#define SCALED_GROUPS 65531
#define SCALE 10

#define MAX_TAGS 2

/* Where a packet is between two actions. */
enum state { PLAIN, DECAPSULATED, MODIFIED, POPPED, PUSHED, ENCAPSULATED, DONE };

#define IN(state) (1u << (state))

/* What the card does with packets that come from the wire, and with those that it sends, which a
 * guest's are too. */
enum direction { RX, TX };

/* The states in which the card takes an action. */
struct order {
	uint32_t decap;
	uint32_t modify;
	uint32_t pop;
	uint32_t push;
	uint32_t encap;
};

static const struct order orders[] = {
	[RX] = {
		.decap = IN(PLAIN),
		.modify = IN(PLAIN) | IN(DECAPSULATED) | IN(POPPED),
		.pop = IN(PLAIN) | IN(DECAPSULATED),
		.push = IN(PLAIN) | IN(DECAPSULATED) | IN(MODIFIED) | IN(PUSHED),
		.encap = IN(PLAIN) | IN(DECAPSULATED) | IN(MODIFIED) | IN(POPPED) | IN(PUSHED),
	},
	[TX] = {
		.decap = 0,
		.modify = IN(PLAIN) | IN(POPPED),
		.pop = IN(PLAIN),
		.push = IN(PLAIN) | IN(MODIFIED) | IN(POPPED) | IN(PUSHED),
		.encap = IN(PLAIN) | IN(MODIFIED) | IN(POPPED) | IN(PUSHED),
	},
};

struct machine {
	const struct esw_port *port;
	const struct esw_rule *rule;
	struct rte_flow_error *error;
	enum direction direction;
	enum state state;
	bool modified; /* all changes of headers are one action, at the place of the first */
	uint32_t pushed;
};

/* The level of a group's table. Groups of the same level are one table. */
uint32_t
esw_group_level(uint32_t group)
{
	return group < SCALED_GROUPS ? group * SCALE : group;
}

static int
refuse(const struct machine *m, int code)
{
	return esw_flow_error(m->error, code, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
			      "the card refuses the rule: %s",
			      code == EINVAL ? "the group is not above its own" :
					       "the order of the actions");
}

static int
go(struct machine *m, uint32_t from, enum state to)
{
	if (!(from & IN(m->state)))
		return refuse(m, ENOTSUP);
	m->state = to;
	return 0;
}

static int
modify(struct machine *m)
{
	if (m->modified)
		return 0;
	m->modified = true;
	return go(m, orders[m->direction].modify, MODIFIED);
}

/* Marks are of NIC RX; with extended metadata they are a change of a register. */
static int
mark(struct machine *m)
{
	if (esw_port_has_metadata(m->port))
		return modify(m);
	return m->rule->info.attr.ingress && m->state != DONE ? 0 : refuse(m, ENOTSUP);
}

static int
push(struct machine *m)
{
	return ++m->pushed > MAX_TAGS ? refuse(m, ENOTSUP) :
					go(m, orders[m->direction].push, PUSHED);
}

static int
jump(struct machine *m)
{
	if (esw_group_level(m->rule->info.jump) <= esw_group_level(m->rule->info.attr.group))
		return refuse(m, EINVAL);
	return go(m, ~IN(DONE), DONE);
}

static int
step(struct machine *m, enum esw_op op)
{
	switch (op) {
	case ESW_OP_SET_MAC_SRC:
	case ESW_OP_SET_MAC_DST:
	case ESW_OP_DEC_TTL:
	case ESW_OP_SET_FIELD:
	case ESW_OP_META:
	case ESW_OP_TAG:
		return modify(m);
	case ESW_OP_MARK:
	case ESW_OP_FLAG:
		return mark(m);
	case ESW_OP_DECAP:
		return go(m, orders[m->direction].decap, DECAPSULATED);
	case ESW_OP_ENCAP:
		return go(m, orders[m->direction].encap, ENCAPSULATED);
	case ESW_OP_POP_VLAN:
		return go(m, orders[m->direction].pop, POPPED);
	case ESW_OP_PUSH_VLAN:
		return push(m);
	case ESW_OP_AGE:
		return m->rule->listed.ages && m->state == DONE ? refuse(m, ENOTSUP) : 0;
	case ESW_OP_SAMPLE:
	case ESW_OP_PORT:
		return go(m, ~IN(DONE), DONE);
	case ESW_OP_JUMP:
		return jump(m);
	case ESW_OP_COUNT:
	case ESW_OP_QUEUE:
	case ESW_OP_RSS:
	case ESW_OP_DROP:
		/* The driver puts these last. */
		return 0;
	}
	return 0;
}

/*
 * In a rule that mirrors the sample is where packets go: the driver puts the fate into it, and an
 * encapsulation that follows the sample.
 */
static bool
is_in_mirror(const struct esw_listed *listed, enum esw_op op, bool sampled)
{
	if (!listed->mirror || listed->split)
		return false;
	return op == ESW_OP_PORT || op == ESW_OP_JUMP || (op == ESW_OP_ENCAP && sampled);
}

static int
run(struct machine *m)
{
	const struct esw_listed *listed = &m->rule->listed;
	bool sampled = false;
	uint32_t i;
	int ret;

	for (i = 0; i < listed->n; i++) {
		if (listed->op[i] == ESW_OP_JUMP && is_in_mirror(listed, ESW_OP_JUMP, sampled)) {
			struct machine only = { .rule = m->rule, .error = m->error };

			/* It was not tried what the card says of a mirror that jumps back; that
			 * would be a loop. */
			ret = jump(&only);
		} else {
			ret = is_in_mirror(listed, listed->op[i], sampled) ? 0 :
									     step(m, listed->op[i]);
		}
		if (ret < 0)
			return ret;
		if (listed->op[i] != ESW_OP_SAMPLE)
			continue;
		sampled = true;
		if (listed->split) {
			m->state = PLAIN;
			m->modified = false;
			m->pushed = 0;
		}
	}
	return 0;
}

/*
 * What the driver cannot make a mirror of. One whose original is dropped has one place to go: the
 * driver makes a sampler of it, which encapsulates nothing, and which the card refuses in front of
 * the drop.
 */
static int
check_mirror(const struct esw_rule *rule, struct rte_flow_error *error)
{
	const struct esw_listed *listed = &rule->listed;
	bool fate = false, bad = listed->sample_counts, dropped = false;
	uint32_t i;

	for (i = 0; i < listed->n; i++) {
		dropped = dropped || listed->op[i] == ESW_OP_DROP;
		bad = bad || (listed->op[i] == ESW_OP_SAMPLE && fate && listed->split);
		fate = fate || listed->op[i] == ESW_OP_PORT;
	}
	if (!listed->mirror || !(bad || dropped))
		return 0;
	return esw_flow_error(error, bad || listed->sample_encaps ? EINVAL : ENOTSUP,
			      RTE_FLOW_ERROR_TYPE_ACTION, NULL, "action SAMPLE: cannot be made");
}

/* The root tables of NIC RX and TX are the kernel's: it sorts the actions, but rdma-core does not
 * pass all of them on. */
static int
check_root(const struct esw_rule *rule, struct rte_flow_error *error)
{
	const struct esw_listed *listed = &rule->listed;
	uint32_t i;

	for (i = 0; i < listed->n; i++)
		if (listed->op[i] == ESW_OP_SAMPLE || listed->op[i] == ESW_OP_POP_VLAN ||
		    listed->op[i] == ESW_OP_PUSH_VLAN)
			return esw_flow_error(
				error, ENOTSUP, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
				"the card refuses the rule: no samples and VLAN actions in group 0");
	return 0;
}

/* A rule for all ports is in the tables of both directions, of which a ConnectX-5 cannot do this in
 * one. The driver looks at the rule's own port only. */
static int
check_both_directions(const struct machine *m)
{
	const struct esw_listed *listed = &m->rule->listed;
	uint32_t i;

	if (m->port->nic->card != ESW_CX5)
		return 0;
	for (i = 0; i < listed->n; i++)
		if (listed->op[i] == ESW_OP_PUSH_VLAN || listed->op[i] == ESW_OP_POP_VLAN ||
		    listed->op[i] == ESW_OP_ENCAP)
			return esw_flow_error(m->error, EINVAL, RTE_FLOW_ERROR_TYPE_UNSPECIFIED,
					      NULL, "the card refuses the rule: not for all ports");
	return 0;
}

/* Says whether the card takes a rule that is valid. */
int
esw_rule_hardware(const struct esw_port *port, const struct esw_rule *rule,
		  struct rte_flow_error *error)
{
	const struct rte_flow_attr *attr = &rule->info.attr;
	struct machine m = { .port = port, .rule = rule, .error = error, .direction = RX };
	int ret = check_mirror(rule, error);

	if (ret < 0)
		return ret;
	if (!attr->transfer && attr->group == 0)
		return check_root(rule, error);
	/* The card has tables of its own for each direction: a rule for all ports is in both. */
	if (attr->transfer && rule->info.any_source) {
		ret = check_both_directions(&m);
		if (ret == 0)
			ret = run(&m);
		if (ret < 0)
			return ret;
		m = (struct machine){ .port = port, .rule = rule, .error = error };
	}
	if (attr->egress ||
	    (attr->transfer && (rule->info.any_source || rule->info.source->kind == ESW_VF)))
		m.direction = TX;
	return run(&m);
}
