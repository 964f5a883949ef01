/* SPDX-License-Identifier: Apache-2.0 */

/* Which actions a rule may have in which order: what rdma-core refuses, and with which errno. */

#include <errno.h>

#include "steer.h"

#define BIT(action) (1u << CX_ACTION_##action)

#define DECAPS (BIT(DECAP_L2) | BIT(DECAP_L3))
#define ENCAPS (BIT(ENCAP_L2) | BIT(ENCAP_L3))
#define HITS (BIT(COUNTER) | BIT(FLOW_HIT))

#define MAX_TAGS 2

/* What the packet has come to before the next action. */
enum state { START, DECAPPED, MODIFIED, POPPED, PUSHED, ENCAPPED, ENCAPPED_AND_HIT, ENDED };

/* A rule of the FDB is in the tables of one side or of both; what is received is the wire's
 * side. */
struct place {
	enum mlx5dv_dr_domain_type domain;
	bool rx;
	uint8_t format; /* of the card's steering */
};

static uint32_t
ends(const struct place *place)
{
	switch (place->domain) {
	case MLX5DV_DR_DOMAIN_TYPE_NIC_RX:
		return BIT(TIR) | BIT(TABLE) | BIT(SAMPLER) | BIT(ARRAY);
	case MLX5DV_DR_DOMAIN_TYPE_NIC_TX:
		return BIT(TABLE);
	default:
		return BIT(VPORT) | BIT(TABLE) | BIT(SAMPLER) | BIT(ARRAY);
	}
}

/* Which actions may follow. */
static uint32_t
may_follow(const struct place *place, enum state state)
{
	uint32_t tag = place->domain == MLX5DV_DR_DOMAIN_TYPE_NIC_RX ? BIT(TAG) : 0;
	uint32_t any = ends(place) | HITS | tag;

	switch (state) {
	case START:
		return any | BIT(DROP) | BIT(MISS) | BIT(MODIFY) | BIT(POP_VLAN) | BIT(PUSH_VLAN) |
		       ENCAPS | (place->rx ? DECAPS : 0);
	case DECAPPED:
		return any | BIT(MODIFY) | BIT(POP_VLAN) | BIT(PUSH_VLAN) | ENCAPS;
	case MODIFIED:
	case PUSHED:
		return any | BIT(PUSH_VLAN) | ENCAPS;
	case POPPED:
		return any | BIT(POP_VLAN) | BIT(MODIFY) | ENCAPS |
		       (place->rx ? 0 : BIT(PUSH_VLAN));
	case ENCAPPED:
		return any;
	case ENCAPPED_AND_HIT:
		return ends(place) | HITS;
	default:
		return BIT(COUNTER);
	}
}

static enum state
next_state(const struct place *place, enum state state, enum cx_action_type type)
{
	switch (type) {
	case CX_ACTION_DECAP_L2:
	case CX_ACTION_DECAP_L3:
		return DECAPPED;
	case CX_ACTION_ENCAP_L2:
	case CX_ACTION_ENCAP_L3:
		return ENCAPPED;
	case CX_ACTION_MODIFY:
		return MODIFIED;
	case CX_ACTION_POP_VLAN:
		return POPPED;
	case CX_ACTION_PUSH_VLAN:
		return PUSHED;
	case CX_ACTION_FLOW_HIT:
		return state == ENCAPPED && place->rx ? ENCAPPED_AND_HIT : state;
	case CX_ACTION_TAG:
	case CX_ACTION_COUNTER:
		return state;
	default:
		return ENDED;
	}
}

static int
check_table(const struct cx_matcher *matcher, const struct cx_table *to)
{
	return to->domain != matcher->table->domain || to->level <= matcher->table->level ? EINVAL :
											    0;
}

/* What the action asks for by itself. */
static int
check_one(const struct cx_matcher *matcher, const struct place *place,
	  const struct cx_action *action)
{
	const struct cx_domain *domain = matcher->table->domain;

	if (action->root)
		return EINVAL;
	switch (action->type) {
	case CX_ACTION_TABLE:
		return check_table(matcher, action->table);
	case CX_ACTION_VPORT:
	case CX_ACTION_ARRAY:
		return action->domain == domain ? 0 : EINVAL;
	case CX_ACTION_SAMPLER:
		return action->domain != domain ? EINVAL :
						  check_table(matcher, action->sampler->next);
	/* What a CX-5 cannot do on one of its sides. */
	case CX_ACTION_ENCAP_L2:
	case CX_ACTION_ENCAP_L3:
	case CX_ACTION_PUSH_VLAN:
		return place->rx && place->format == 0 ? EINVAL : 0;
	case CX_ACTION_POP_VLAN:
		return !place->rx && place->format == 0 ? EINVAL : 0;
	default:
		return 0;
	}
}

static int
check_place(const struct cx_matcher *matcher, const struct place *place, uint32_t n,
	    struct cx_action *const actions[])
{
	uint8_t times[CX_ACTIONS] = { 0 };
	enum state state = START;
	uint32_t i;
	int ret;

	for (i = 0; i < n; i++) {
		enum cx_action_type type = actions[i]->type;
		bool tag = type == CX_ACTION_POP_VLAN || type == CX_ACTION_PUSH_VLAN;

		ret = check_one(matcher, place, actions[i]);
		if (ret != 0)
			return ret;
		if (++times[type] > (tag ? MAX_TAGS : 1))
			return type == CX_ACTION_PUSH_VLAN ? ENOTSUP : EINVAL;
		if ((may_follow(place, state) & 1u << type) == 0)
			return EOPNOTSUPP;
		state = next_state(place, state, type);
	}
	return 0;
}

/* Rules of root tables go through the kernel, which is asked for less and puts them into an order
 * of its own. */
static int
check_root(const struct cx_matcher *matcher, uint32_t n, struct cx_action *const actions[])
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		switch (actions[i]->type) {
		case CX_ACTION_VPORT:
		case CX_ACTION_SAMPLER:
		case CX_ACTION_FLOW_HIT:
		case CX_ACTION_POP_VLAN:
		case CX_ACTION_PUSH_VLAN:
			return ENOTSUP;
		case CX_ACTION_COUNTER:
			if (actions[i]->beyond)
				return EINVAL;
			break;
		case CX_ACTION_TABLE:
			if (actions[i]->table->domain != matcher->table->domain)
				return EINVAL;
			break;
		case CX_ACTION_MODIFY:
		case CX_ACTION_DECAP_L2:
		case CX_ACTION_DECAP_L3:
		case CX_ACTION_ENCAP_L2:
		case CX_ACTION_ENCAP_L3:
			if (!actions[i]->root)
				return EINVAL;
			break;
		default:
			break;
		}
	}
	return 0;
}

int
cx_actions_check(const struct cx_matcher *matcher, uint8_t sides, uint32_t n,
		 struct cx_action *const actions[])
{
	const struct cx_domain *domain = matcher->table->domain;
	struct place place = { .domain = domain->type,
			       .format = domain->dev->profile->steering_format };
	int ret = 0;

	if (matcher->table->level == 0)
		return check_root(matcher, n, actions);
	if (domain->type != MLX5DV_DR_DOMAIN_TYPE_FDB) {
		place.rx = domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_RX;
		return check_place(matcher, &place, n, actions);
	}
	if ((sides & CX_SIDE_WIRE) != 0) {
		place.rx = true;
		ret = check_place(matcher, &place, n, actions);
	}
	if (ret == 0 && (sides & CX_SIDE_VPORTS) != 0) {
		place.rx = false;
		ret = check_place(matcher, &place, n, actions);
	}
	return ret;
}
