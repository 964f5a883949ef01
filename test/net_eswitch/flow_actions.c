/* SPDX-License-Identifier: Apache-2.0 */

/* Turns a rule's list of actions into a program, and refuses what the card refuses. */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "eswitch.h"

#define BIT(op) (1u << (op))
#define QUEUES (BIT(ESW_OP_QUEUE) | BIT(ESW_OP_RSS))
#define NIC_FATES (BIT(ESW_OP_JUMP) | QUEUES | BIT(ESW_OP_DROP))
#define SWITCH_FATES (BIT(ESW_OP_JUMP) | BIT(ESW_OP_PORT) | BIT(ESW_OP_DROP))
#define FATES (NIC_FATES | SWITCH_FATES)
#define MODIFIES                                                                   \
	(BIT(ESW_OP_SET_MAC_SRC) | BIT(ESW_OP_SET_MAC_DST) | BIT(ESW_OP_DEC_TTL) | \
	 BIT(ESW_OP_SET_FIELD) | BIT(ESW_OP_META) | BIT(ESW_OP_TAG))
#define MARKS (BIT(ESW_OP_MARK) | BIT(ESW_OP_FLAG))
#define VLAN_OPS (BIT(ESW_OP_POP_VLAN) | BIT(ESW_OP_PUSH_VLAN))
#define BESIDES_DROP (BIT(ESW_OP_DROP) | BIT(ESW_OP_COUNT) | BIT(ESW_OP_AGE) | BIT(ESW_OP_SAMPLE))

struct compiler {
	struct esw_port *port;
	struct esw_rule *rule;
	struct rte_flow_error *error;
	struct esw_draft *draft;
	const struct rte_flow_action *action;
	char name[32];
	uint32_t which;         /* of the action's type: what tells it from its likes */
	struct compiler *outer; /* of a sample's actions: the rule's */
	uint32_t seen;          /* steps so far, as bits */
	uint32_t shape;         /* SHAPE_*: tunnel actions so far */
	struct esw_step fate;   /* kept until the end, wherever it is in the list */
	struct esw_port *target;
	const struct rte_flow_action *sample;
	uint32_t behind_sample; /* steps, as bits */
	bool mirror; /* the sample is a mirror: one to a port of the switch, of all packets */
	bool mirror_encap;
	struct esw_port *mirror_target;
	bool counter_conf; /* the count action has a configuration */
	bool own_age;
};

/* What raw_decap and raw_encap made of the packet. A new link layer alone is neither. */
enum { SHAPE_ENCAP = 1, SHAPE_DECAP = 2 };

#define REFUSE_AS(c, code, kind, what, ...)                                                        \
	esw_flow_error((c)->error, code, RTE_FLOW_ERROR_TYPE_##kind, (c)->action,                  \
		       "action %s%s: " what, (c)->outer != NULL ? "in a sample, " : "", (c)->name, \
		       ##__VA_ARGS__)
#define REFUSE(c, code, what, ...) REFUSE_AS(c, code, ACTION, what, ##__VA_ARGS__)

static int compile_list(struct compiler *c, const struct rte_flow_action *actions);

static void
start_draft(struct compiler *c, struct esw_draft *draft)
{
	draft->next = NULL;
	draft->steps = 0;
	draft->size = 0;
	c->draft = draft;
}

static void
name_action(struct compiler *c)
{
	if (rte_flow_conv(RTE_FLOW_CONV_OP_ACTION_NAME, c->name, sizeof(c->name),
			  (const void *)(uintptr_t)c->action->type, NULL) < 0)
		snprintf(c->name, sizeof(c->name), "%d", c->action->type);
}

/* Notes an action at its place in the list: the card will look at the order. */
static void
note(struct compiler *c, enum esw_op op)
{
	struct esw_listed *listed = &c->rule->listed;

	if (c->outer != NULL)
		return;
	if (c->seen & BIT(ESW_OP_SAMPLE))
		c->behind_sample |= BIT(op);
	if (listed->n < RTE_DIM(listed->op))
		listed->op[listed->n++] = op;
}

/* Appends a step; NULL, with the error set, when the list is too long. */
static struct esw_step *
append_step(struct compiler *c, enum esw_op op)
{
	struct esw_step *step;

	/* One place is kept for the fate. */
	if (c->draft->steps == ESW_MAX_STEPS - 1) {
		REFUSE(c, ENOTSUP, "too many actions");
		return NULL;
	}
	step = memset(&c->draft->step[c->draft->steps++], 0, sizeof(*step));
	step->op = op;
	c->seen |= BIT(op);
	return step;
}

/* The same of an action of its own. */
static struct esw_step *
append(struct compiler *c, enum esw_op op)
{
	note(c, op);
	return append_step(c, op);
}

static void
set_fate(struct compiler *c, enum esw_op op)
{
	note(c, op);
	c->seen |= BIT(op);
	c->fate.op = op;
}

static int
compile_count(struct compiler *c)
{
	if ((c->seen & BIT(ESW_OP_COUNT)) ||
	    (c->outer != NULL && (c->outer->seen & BIT(ESW_OP_COUNT))))
		return REFUSE(c, EINVAL, "is given twice");
	if (append(c, ESW_OP_COUNT) == NULL)
		return -rte_errno;
	c->counter_conf = c->action->conf != NULL;
	c->rule->info.counted = true;
	return 0;
}

static int
check_age(struct compiler *c)
{
	return c->seen & BIT(ESW_OP_AGE) ? REFUSE(c, EINVAL, "is given twice") : 0;
}

/* Whether the card cannot keep ages itself, so that the driver takes a counter of the rule's own
 * for one. */
static bool
ages_by_counter(const struct compiler *c)
{
	const struct rte_flow_attr *attr = &c->rule->info.attr;

	return c->port->nic->card == ESW_CX5 || (!attr->transfer && attr->group == 0);
}

static int
compile_age(struct compiler *c)
{
	const struct rte_flow_action_age *age = c->action->conf;
	int ret;

	if (age->timeout == 0)
		return REFUSE(c, EINVAL, "the timeout is 0");
	ret = check_age(c);
	if (ret == 0 && c->rule->info.shared_count != NULL && ages_by_counter(c))
		ret = REFUSE(c, EINVAL, "needs a counter of the rule's own");
	if (ret < 0)
		return ret;
	if (append(c, ESW_OP_AGE) == NULL)
		return -rte_errno;
	c->own_age = true;
	c->rule->info.age_timeout = age->timeout;
	c->rule->info.age_context = age->context;
	return 0;
}

static int
compile_indirect_count(struct compiler *c, struct rte_flow_action_handle *handle)
{
	int ret = compile_count(c);

	if (ret == 0 && c->own_age && ages_by_counter(c))
		ret = REFUSE(c, EINVAL, "the rule's age needs a counter of its own");
	if (ret == 0)
		c->rule->info.shared_count = handle;
	return ret;
}

static int
compile_indirect_age(struct compiler *c, struct rte_flow_action_handle *handle)
{
	const struct rte_flow_attr *attr = &c->rule->info.attr;
	int ret;

	if (!attr->transfer && attr->group == 0)
		return REFUSE_AS(c, ENOTSUP, UNSPECIFIED,
				 "a shared age is not supported in group 0");
	ret = check_age(c);
	if (ret < 0)
		return ret;
	if (append(c, ESW_OP_AGE) == NULL)
		return -rte_errno;
	c->rule->info.shared_age = handle;
	return 0;
}

static int
compile_indirect(struct compiler *c)
{
	/* The API says const; the rule will be one of its users. */
	struct rte_flow_action_handle *handle =
		(struct rte_flow_action_handle *)(uintptr_t)c->action->conf;

	if (handle->owner != c->port)
		return REFUSE(c, EINVAL, "is not of this port");
	return handle->type == RTE_FLOW_ACTION_TYPE_COUNT ? compile_indirect_count(c, handle) :
							    compile_indirect_age(c, handle);
}

static int
compile_mac(struct compiler *c)
{
	const struct rte_flow_action_set_mac *mac = c->action->conf;
	struct esw_step *step;

	if (c->shape & SHAPE_ENCAP)
		return REFUSE(c, EINVAL, "cannot follow an encapsulation");
	if (!c->rule->headers[ESW_OUTER].l2 && !c->rule->headers[ESW_INNER].l2)
		return REFUSE(c, EINVAL, "no L2 item in the pattern");
	step = append(c, c->which);
	if (step == NULL)
		return -rte_errno;
	memcpy(&step->mac, mac->mac_addr, sizeof(step->mac));
	return 0;
}

/* The pattern's headers that are the outermost ones at this point. */
static const struct esw_headers *
outermost(const struct compiler *c)
{
	return &c->rule->headers[c->shape & SHAPE_DECAP ? ESW_INNER : ESW_OUTER];
}

static int
compile_ttl(struct compiler *c)
{
	if (c->shape & SHAPE_ENCAP)
		return REFUSE(c, EINVAL, "cannot follow an encapsulation");
	if (outermost(c)->version == 0)
		return REFUSE(c, EINVAL, "no such IP item in the pattern");
	return append(c, ESW_OP_DEC_TTL) == NULL ? -rte_errno : 0;
}

static int
check_mark(struct compiler *c)
{
	if (c->seen & MARKS)
		return REFUSE(c, EINVAL, "the packet has a mark already");
	if (c->rule->info.attr.egress)
		return REFUSE_AS(c, ENOTSUP, ATTR_EGRESS, "is not supported for egress traffic");
	return 0;
}

static int
compile_mark(struct compiler *c)
{
	const struct rte_flow_action_mark *mark = c->action->conf;
	struct esw_step *step;
	int ret;

	if (mark->id > ESW_MARK_MAX)
		return REFUSE_AS(c, EINVAL, ACTION_CONF, "%u is above %u", mark->id, ESW_MARK_MAX);
	ret = check_mark(c);
	if (ret < 0)
		return ret;
	step = append(c, ESW_OP_MARK);
	if (step == NULL)
		return -rte_errno;
	step->mark = mark->id;
	return 0;
}

static int
compile_flag(struct compiler *c)
{
	int ret = check_mark(c);

	if (ret < 0)
		return ret;
	return append(c, ESW_OP_FLAG) == NULL ? -rte_errno : 0;
}

static int
append_register(struct compiler *c, enum esw_op op, uint32_t which, uint32_t value, uint32_t mask)
{
	struct esw_step *step;

	if (mask == 0)
		return REFUSE(c, EINVAL, "the mask is 0");
	step = append(c, op);
	if (step == NULL)
		return -rte_errno;
	step->which = which;
	step->set.value = value & mask;
	step->set.mask = mask;
	return 0;
}

static int
compile_meta(struct compiler *c)
{
	const struct rte_flow_action_set_meta *meta = c->action->conf;
	const struct rte_flow_attr *attr = &c->rule->info.attr;

	if (attr->transfer && !esw_port_has_metadata(c->port))
		return REFUSE(
			c, ENOTSUP,
			"is not supported in transfer rules without extended metadata (dv_xmeta_en=1)");
	if (meta->mask & ~esw_port_meta_mask(c->port, attr))
		return REFUSE(c, EINVAL, "there are 16 bits of metadata");
	return append_register(c, ESW_OP_META, 0, meta->data, meta->mask);
}

static int
compile_tag(struct compiler *c)
{
	const struct rte_flow_action_set_tag *tag = c->action->conf;

	if (tag->mask == 0)
		return REFUSE(c, EINVAL, "the mask is 0");
	if (tag->index >= ESW_TAGS)
		return REFUSE_AS(c, tag->index < ESW_TAG_NAMES ? ENOTSUP : EINVAL, ITEM,
				 "there is no tag %u", tag->index);
	if (c->rule->info.attr.ingress && (c->seen & (BIT(ESW_OP_DROP) | QUEUES)))
		return REFUSE(c, EINVAL, "has no effect behind the fate of an ingress rule");
	return append_register(c, ESW_OP_TAG, tag->index, tag->data, tag->mask);
}

/* Whether the pattern has what a field is of, in the header that is the outermost one at this
 * point. */
static int
check_field(struct compiler *c)
{
	const struct esw_headers *h = outermost(c);

	switch ((enum esw_field)c->which) {
	case ESW_IPV4_SRC:
	case ESW_IPV4_DST:
		return h->version == 4 ? 0 : REFUSE(c, EINVAL, "no such IPv4 item in the pattern");
	case ESW_IPV6_SRC:
	case ESW_IPV6_DST:
		if (h->version != 6)
			return REFUSE(c, EINVAL, "no such IPv6 item in the pattern");
		return c->rule->icmp6 ? REFUSE(c, ENOTSUP, "cannot change an address of ICMPv6") :
					0;
	case ESW_TP_SRC:
	case ESW_TP_DST:
		break;
	}
	return h->l4 != 0 ? 0 : REFUSE(c, EINVAL, "no such TCP or UDP item in the pattern");
}

static const uint8_t field_sizes[] = {
	[ESW_IPV4_SRC] = sizeof(struct rte_flow_action_set_ipv4),
	[ESW_IPV4_DST] = sizeof(struct rte_flow_action_set_ipv4),
	[ESW_IPV6_SRC] = sizeof(struct rte_flow_action_set_ipv6),
	[ESW_IPV6_DST] = sizeof(struct rte_flow_action_set_ipv6),
	[ESW_TP_SRC] = sizeof(struct rte_flow_action_set_tp),
	[ESW_TP_DST] = sizeof(struct rte_flow_action_set_tp),
};

/* The configurations are the value and nothing else. */
static int
compile_field(struct compiler *c)
{
	struct esw_step *step;
	int ret;

	if (c->shape & SHAPE_ENCAP)
		return REFUSE(c, EINVAL, "cannot follow an encapsulation");
	ret = check_field(c);
	if (ret < 0)
		return ret;
	step = append(c, ESW_OP_SET_FIELD);
	if (step == NULL)
		return -rte_errno;
	step->which = c->which;
	memcpy(step->field.value, c->action->conf, field_sizes[c->which]);
	return 0;
}

static int
check_vlan(struct compiler *c)
{
	if (c->seen & BIT(ESW_OP_PORT))
		return REFUSE(c, EINVAL, "the port comes after it");
	if (!c->rule->info.attr.transfer && c->port->kind == ESW_VF)
		return REFUSE_AS(c, ENOTSUP, UNSPECIFIED,
				 "is not supported outside of the switch on a representor");
	return 0;
}

static int
compile_pop_vlan(struct compiler *c)
{
	int ret;

	if (c->seen & VLAN_OPS)
		return REFUSE(c, ENOTSUP, "multiple VLAN actions are not supported");
	if (!outermost(c)->vlan)
		return REFUSE_AS(c, ENOTSUP, UNSPECIFIED, "no such VLAN item in the pattern");
	ret = check_vlan(c);
	if (ret < 0)
		return ret;
	return append(c, ESW_OP_POP_VLAN) == NULL ? -rte_errno : 0;
}

/* The new tag has the PCP and the VID that the pattern wants of the tag there is; 0 where it does
 * not say. */
static int
tci_of_pattern(struct compiler *c, uint16_t *tci)
{
	static const uint16_t parts[] = { 0xe000, 0x0fff };
	uint16_t key = rte_be_to_cpu_16(c->rule->pattern.key.l2[ESW_OUTER].tci);
	uint16_t mask = rte_be_to_cpu_16(c->rule->pattern.mask.l2[ESW_OUTER].tci);
	size_t i;

	for (i = 0; i < RTE_DIM(parts); i++) {
		if ((mask & parts[i]) == parts[i])
			*tci |= key & parts[i];
		else if ((mask & parts[i]) != 0)
			return REFUSE(
				c, EINVAL,
				"the pattern's mask of PCP or VID is not full: which is the new tag to have?");
	}
	return 0;
}

static int
compile_push_vlan(struct compiler *c)
{
	const struct rte_flow_action_of_push_vlan *push = c->action->conf;
	struct esw_step *step;
	uint16_t tci = 0;
	int ret;

	if (push->ethertype != RTE_BE16(RTE_ETHER_TYPE_VLAN) &&
	    push->ethertype != RTE_BE16(RTE_ETHER_TYPE_QINQ))
		return REFUSE(c, EINVAL, "0x%04x is no EtherType of a VLAN tag",
			      rte_be_to_cpu_16(push->ethertype));
	ret = check_vlan(c);
	if (ret == 0)
		ret = tci_of_pattern(c, &tci);
	if (ret < 0)
		return ret;
	step = append(c, ESW_OP_PUSH_VLAN);
	if (step == NULL)
		return -rte_errno;
	step->push.type = push->ethertype;
	step->push.tci = tci;
	return 0;
}

static int
check_encap(struct compiler *c, const struct rte_flow_action_raw_encap *encap)
{
	if (encap->data == NULL || encap->size == 0)
		return REFUSE(c, EINVAL, "the data is empty");
	if (encap->size > ESW_ENCAP_MAX)
		return REFUSE(c, EINVAL, "%zu bytes are more than %u", encap->size, ESW_ENCAP_MAX);
	if (encap->preserve != NULL)
		return REFUSE(c, ENOTSUP, "preserve is not supported");
	return 0;
}

/* Gives the step, if there was room for it, its header. */
static int
set_header(struct compiler *c, struct esw_step *step, const struct rte_flow_action_raw_encap *encap)
{
	struct esw_encap *header;

	if (step == NULL)
		return -rte_errno;
	header = esw_draft_room(c->draft, sizeof(*header) + encap->size, &step->encap);
	if (header == NULL)
		return REFUSE(c, ENOTSUP, "too many headers");
	esw_encap_init(header, encap->data, encap->size);
	return 0;
}

/* A tunnel header. The link layer of a decapsulated packet is compile_decap's. */
static int
compile_encap(struct compiler *c)
{
	const struct rte_flow_action_raw_encap *encap = c->action->conf;
	int ret = check_encap(c, encap);

	if (ret < 0)
		return ret;
	if (encap->size <= ESW_L2_MAX)
		return REFUSE(c, ENOTSUP,
			      "%zu bytes are too small a header, but right after a raw_decap",
			      encap->size);
	if (c->shape & SHAPE_ENCAP)
		return REFUSE(c, EINVAL, "there can be only one encapsulation");
	if (!c->rule->info.attr.transfer && c->port->kind == ESW_VF)
		return REFUSE_AS(c, ENOTSUP, UNSPECIFIED,
				 "is not supported outside of the switch on a representor");
	c->shape |= SHAPE_ENCAP;
	return set_header(c, append(c, ESW_OP_ENCAP), encap);
}

static int
check_decap(struct compiler *c)
{
	const struct rte_flow_attr *attr = &c->rule->info.attr;

	if (c->shape & SHAPE_DECAP)
		return REFUSE(c, ENOTSUP, "there can be only one decapsulation");
	if (c->shape & SHAPE_ENCAP)
		return REFUSE(c, ENOTSUP, "cannot follow an encapsulation");
	if ((c->seen & MODIFIES) || (esw_port_has_metadata(c->port) && (c->seen & MARKS)))
		return REFUSE(c, EINVAL, "cannot follow an action that modifies the packet");
	if (attr->egress)
		return REFUSE_AS(c, ENOTSUP, ATTR_EGRESS, "is not supported for egress traffic");
	if (!attr->transfer && c->port->kind == ESW_VF)
		return REFUSE_AS(c, ENOTSUP, UNSPECIFIED,
				 "is not supported outside of the switch on a representor");
	c->shape |= SHAPE_DECAP;
	return 0;
}

/* The raw_encap right behind the current action, or NULL. */
static const struct rte_flow_action *
following_encap(const struct compiler *c)
{
	const struct rte_flow_action *next = c->action + 1;

	while (next->type == RTE_FLOW_ACTION_TYPE_VOID)
		next++;
	return next->type == RTE_FLOW_ACTION_TYPE_RAW_ENCAP ? next : NULL;
}

static int
set_decap(struct esw_step *step, enum esw_decap_kind kind, size_t size)
{
	if (step == NULL)
		return -rte_errno;
	step->decap.kind = kind;
	step->decap.size = RTE_MIN(size, (size_t)UINT16_MAX);
	return 0;
}

/* The link layer goes and a tunnel header comes: to the card it is an encapsulation at L3. */
static int
compile_l3_encap(struct compiler *c, size_t size)
{
	return set_decap(append_step(c, ESW_OP_DECAP), ESW_DECAP_LINK, size);
}

/* The tunnel header goes and a link layer comes; that raw_encap is part of this. */
static int
compile_l3_decap(struct compiler *c, size_t size, const struct rte_flow_action *next)
{
	int ret = check_decap(c);

	if (ret == 0)
		ret = set_decap(append(c, ESW_OP_DECAP), ESW_DECAP_TUNNEL, size);
	if (ret < 0)
		return ret;
	c->action = next;
	return set_header(c, append_step(c, ESW_OP_ENCAP), next->conf);
}

static int
compile_l2_decap(struct compiler *c, size_t size)
{
	int ret = check_decap(c);

	return ret < 0 ? ret : set_decap(append(c, ESW_OP_DECAP), ESW_DECAP_BYTES, size);
}

static int
compile_decap(struct compiler *c)
{
	const struct rte_flow_action_raw_decap *decap = c->action->conf;
	const struct rte_flow_action *next = following_encap(c);
	const struct rte_flow_action_raw_encap *encap = next == NULL ? NULL : next->conf;
	size_t size = decap == NULL ? 0 : decap->size;
	int ret;

	if (next == NULL)
		return compile_l2_decap(c, size);
	if (encap == NULL)
		return REFUSE(c, EINVAL, "the raw_encap behind it needs a configuration");
	ret = check_encap(c, encap);
	if (ret < 0)
		return ret;
	if (size > ESW_L2_MAX)
		return encap->size <= ESW_L2_MAX ? compile_l3_decap(c, size, next) :
						   compile_l2_decap(c, size);
	if (encap->size > ESW_L2_MAX)
		return compile_l3_encap(c, size);
	return REFUSE(c, ENOTSUP, "%zu bytes cannot be combined with a raw_encap of %zu", size,
		      encap->size);
}

static int
compile_jump(struct compiler *c)
{
	const struct rte_flow_action_jump *jump = c->action->conf;
	const struct rte_flow_attr *attr = &c->rule->info.attr;

	if (c->seen & FATES)
		return REFUSE(c, EINVAL, "there can be only one fate action");
	if (attr->transfer && jump->group == UINT32_MAX)
		return REFUSE_AS(c, EINVAL, ATTR_GROUP, "there is no group %u", jump->group);
	if (!attr->transfer && jump->group == 0)
		return REFUSE_AS(c, EINVAL, ACTION_CONF, "nothing can jump to group 0");
	set_fate(c, ESW_OP_JUMP);
	c->rule->info.jumps = true;
	c->rule->info.jump = jump->group;
	return 0;
}

static int
compile_port(struct compiler *c, uint32_t ethdev)
{
	struct esw_port *port;

	if (c->seen & FATES)
		return REFUSE(c, EINVAL, "there can be only one fate action");
	port = esw_nic_port_by_ethdev(c->port->nic, ethdev);
	if (port == NULL && !rte_eth_dev_is_valid_port(ethdev))
		return REFUSE_AS(c, ENODEV, ACTION_CONF, "there is no port %u", ethdev);
	if (port == NULL || !esw_port_in_switch(port))
		return REFUSE(c, EINVAL, "port %u is not in this switch domain", ethdev);
	set_fate(c, ESW_OP_PORT);
	c->fate.port = port;
	c->target = port;
	return 0;
}

static int
check_port_action(struct compiler *c)
{
	if (!c->rule->info.attr.transfer)
		return REFUSE_AS(c, ENOTSUP, UNSPECIFIED, "is valid in transfer rules only");
	if (c->action->conf == NULL)
		return REFUSE_AS(c, ENOTSUP, ACTION_CONF, "needs a configuration");
	return 0;
}

static int
compile_port_id(struct compiler *c)
{
	const struct rte_flow_action_port_id *conf = c->action->conf;
	int ret = check_port_action(c);

	return ret < 0 ? ret : compile_port(c, conf->original ? c->port->ethdev : conf->id);
}

static int
compile_represented_port(struct compiler *c)
{
	const struct rte_flow_action_ethdev *conf = c->action->conf;
	int ret = check_port_action(c);

	return ret < 0 ? ret : compile_port(c, conf->port_id);
}

static int
compile_queue(struct compiler *c)
{
	const struct rte_flow_action_queue *queue = c->action->conf;

	if (c->seen & NIC_FATES)
		return REFUSE(c, EINVAL, "there can be only one fate action");
	if (c->rule->info.attr.egress)
		return REFUSE_AS(c, ENOTSUP, ATTR_EGRESS, "is not supported for egress traffic");
	if (queue->index >= c->port->dev->data->nb_rx_queues)
		return REFUSE_AS(c, EINVAL, ACTION_CONF, "the port has no queue %u", queue->index);
	set_fate(c, ESW_OP_QUEUE);
	c->fate.queue = queue->index;
	return 0;
}

#define RSS_KEY 40

static int
check_rss_hash(struct compiler *c, const struct rte_flow_action_rss *rss)
{
	if (rss->func != RTE_ETH_HASH_FUNCTION_DEFAULT &&
	    rss->func != RTE_ETH_HASH_FUNCTION_TOEPLITZ)
		return REFUSE_AS(c, ENOTSUP, ACTION_CONF, "the hash function is not supported");
	if (rss->level > 2)
		return REFUSE_AS(c, ENOTSUP, ACTION_CONF, "level %u is not supported", rss->level);
	if (rss->key_len != RSS_KEY && (rss->key_len != 0 || rss->key != NULL))
		return REFUSE_AS(c, ENOTSUP, ACTION_CONF, "the key has %u bytes, not %u",
				 rss->key_len, RSS_KEY);
	return 0;
}

static int
check_rss_queues(struct compiler *c, const struct rte_flow_action_rss *rss)
{
	uint32_t i;

	if (rss->queue_num > ESW_RSS_QUEUES)
		return REFUSE_AS(c, ENOTSUP, ACTION_CONF, "%u queues are more than %u",
				 rss->queue_num, ESW_RSS_QUEUES);
	if (rss->queue_num == 0)
		return REFUSE_AS(c, EINVAL, ACTION_CONF, "there are no queues");
	for (i = 0; i < rss->queue_num; i++)
		if (rss->queue[i] >= c->port->dev->data->nb_rx_queues)
			return REFUSE_AS(c, EINVAL, ACTION_CONF, "the port has no queue %u",
					 rss->queue[i]);
	return 0;
}

static int
check_rss(struct compiler *c, const struct rte_flow_action_rss *rss)
{
	const struct esw_headers *inner = &c->rule->headers[ESW_INNER];
	int ret;

	if (c->seen & NIC_FATES)
		return REFUSE(c, EINVAL, "there can be only one fate action");
	ret = check_rss_hash(c, rss);
	if (ret == 0)
		ret = check_rss_queues(c, rss);
	if (ret < 0)
		return ret;
	if (c->rule->info.attr.egress)
		return REFUSE_AS(c, ENOTSUP, ATTR_EGRESS, "is not supported for egress traffic");
	if (rss->level > 1 && !inner->l2 && inner->version == 0 && !c->rule->pattern.mask.vxlan)
		return REFUSE_AS(c, EINVAL, ACTION_CONF, "level %u needs a tunnel in the pattern",
				 rss->level);
	return 0;
}

/* The hash is always one of all headers, whatever the configuration says of its key and fields. */
static int
compile_rss(struct compiler *c)
{
	const struct rte_flow_action_rss *rss = c->action->conf;
	int ret = check_rss(c, rss);
	uint32_t i;

	if (ret < 0)
		return ret;
	set_fate(c, ESW_OP_RSS);
	c->fate.rss.n = rss->queue_num;
	for (i = 0; i < rss->queue_num; i++)
		c->fate.rss.queue[i] = rss->queue[i];
	return 0;
}

/* The actions that a sample may have. */
static int
check_nested(struct compiler *c)
{
	bool transfer = c->rule->info.attr.transfer;

	switch (c->action->type) {
	case RTE_FLOW_ACTION_TYPE_RAW_ENCAP:
	case RTE_FLOW_ACTION_TYPE_PORT_ID:
	case RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT:
	case RTE_FLOW_ACTION_TYPE_QUEUE:
	case RTE_FLOW_ACTION_TYPE_RSS:
		return 0;
	case RTE_FLOW_ACTION_TYPE_MARK:
		return transfer ? REFUSE(c, ENOTSUP,
					 "is not supported in a sample of a transfer rule") :
				  0;
	case RTE_FLOW_ACTION_TYPE_COUNT:
		return transfer ? 0 :
				  REFUSE(c, ENOTSUP,
					 "is not supported there: count outside of the sample");
	default:
		return REFUSE(c, ENOTSUP, "is not supported there");
	}
}

static int
check_sample(struct compiler *c, const struct rte_flow_action_sample *sample)
{
	if (sample->ratio == 0)
		return REFUSE(c, EINVAL, "the ratio starts from 1");
	if (c->seen & BIT(ESW_OP_SAMPLE))
		return REFUSE(c, EINVAL, "multiple samples are not supported");
	if (c->seen & BIT(ESW_OP_JUMP))
		return REFUSE(c, EINVAL, "cannot follow a jump");
	return 0;
}

static int
check_transfer_sample(struct compiler *c, const struct compiler *nested,
		      const struct rte_flow_action_sample *sample)
{
	if (sample->actions == NULL || sample->actions->type == RTE_FLOW_ACTION_TYPE_END)
		return 0;
	if (sample->ratio > 1)
		return REFUSE(
			c, ENOTSUP,
			"with a ratio above 1 a transfer rule takes no actions in the sample");
	if (nested->seen & QUEUES)
		return REFUSE(c, ENOTSUP, "a queue is not supported in a transfer rule");
	if (nested->target == NULL)
		return REFUSE(c, EINVAL, "needs a destination port");
	c->mirror = true;
	return 0;
}

/* What is true of a sample's actions as a whole. */
static int
check_sample_fate(struct compiler *c, const struct compiler *nested,
		  const struct rte_flow_action_sample *sample)
{
	if (c->rule->info.attr.egress)
		return REFUSE(c, ENOTSUP, "is not supported for egress traffic");
	if (c->rule->info.attr.transfer)
		return check_transfer_sample(c, nested, sample);
	if (!(nested->seen & QUEUES))
		return REFUSE(c, EINVAL, "of ingress traffic needs a queue");
	return nested->shape & SHAPE_ENCAP ?
		       REFUSE(c, ENOTSUP, "ingress traffic cannot be encapsulated") :
		       0;
}

/* Appends the step, and the program that is for the copies. */
static int
append_sample(struct compiler *c, uint32_t ratio, const struct esw_draft *draft)
{
	struct esw_step *step = append(c, ESW_OP_SAMPLE);
	struct esw_program *program;

	if (step == NULL)
		return -rte_errno;
	step->sample.ratio = ratio;
	program = esw_draft_room(c->draft, esw_draft_packed(draft), &step->sample.program);
	if (program == NULL)
		return REFUSE(c, ENOTSUP, "too many actions");
	esw_draft_pack(draft, program);
	return 0;
}

static int
compile_sample(struct compiler *c)
{
	const struct rte_flow_action_sample *sample = c->action->conf;
	struct compiler nested = {
		.port = c->port, .rule = c->rule, .error = c->error, .outer = c
	};
	struct esw_draft draft;
	int ret = check_sample(c, sample);

	if (ret < 0)
		return ret;
	start_draft(&nested, &draft);
	if (sample->actions != NULL)
		ret = compile_list(&nested, sample->actions);
	if (ret == 0)
		ret = check_sample_fate(c, &nested, sample);
	if (ret < 0)
		return ret;
	c->sample = c->action;
	c->rule->listed.sample_counts = nested.seen & BIT(ESW_OP_COUNT);
	c->rule->listed.sample_encaps = nested.shape & SHAPE_ENCAP;
	c->seen |= nested.seen & BIT(ESW_OP_COUNT);
	c->mirror_encap = nested.shape & SHAPE_ENCAP;
	c->mirror_target = nested.target;
	return append_sample(c, sample->ratio, &draft);
}

static int
compile_drop(struct compiler *c)
{
	/* A drop behind another fate is refused with the whole. */
	set_fate(c, ESW_OP_DROP);
	return 0;
}

/* The actions there are. The others that a card has get their line here. */
static const struct action_type {
	enum rte_flow_action_type type;
	bool conf; /* takes a configuration */
	int (*compile)(struct compiler *c);
	uint32_t which; /* tells it from others of the same function */
} action_types[] = {
	{ RTE_FLOW_ACTION_TYPE_COUNT, false, compile_count, 0 },
	{ RTE_FLOW_ACTION_TYPE_AGE, true, compile_age, 0 },
	{ RTE_FLOW_ACTION_TYPE_SAMPLE, true, compile_sample, 0 },
	{ RTE_FLOW_ACTION_TYPE_RAW_ENCAP, true, compile_encap, 0 },
	{ RTE_FLOW_ACTION_TYPE_RAW_DECAP, false, compile_decap, 0 },
	{ RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, true, compile_mac, ESW_OP_SET_MAC_SRC },
	{ RTE_FLOW_ACTION_TYPE_SET_MAC_DST, true, compile_mac, ESW_OP_SET_MAC_DST },
	{ RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC, true, compile_field, ESW_IPV4_SRC },
	{ RTE_FLOW_ACTION_TYPE_SET_IPV4_DST, true, compile_field, ESW_IPV4_DST },
	{ RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC, true, compile_field, ESW_IPV6_SRC },
	{ RTE_FLOW_ACTION_TYPE_SET_IPV6_DST, true, compile_field, ESW_IPV6_DST },
	{ RTE_FLOW_ACTION_TYPE_SET_TP_SRC, true, compile_field, ESW_TP_SRC },
	{ RTE_FLOW_ACTION_TYPE_SET_TP_DST, true, compile_field, ESW_TP_DST },
	{ RTE_FLOW_ACTION_TYPE_OF_POP_VLAN, false, compile_pop_vlan, 0 },
	{ RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN, true, compile_push_vlan, 0 },
	{ RTE_FLOW_ACTION_TYPE_SET_META, true, compile_meta, 0 },
	{ RTE_FLOW_ACTION_TYPE_SET_TAG, true, compile_tag, 0 },
	{ RTE_FLOW_ACTION_TYPE_INDIRECT, true, compile_indirect, 0 },
	{ RTE_FLOW_ACTION_TYPE_DEC_TTL, false, compile_ttl, 0 },
	{ RTE_FLOW_ACTION_TYPE_MARK, true, compile_mark, 0 },
	{ RTE_FLOW_ACTION_TYPE_FLAG, false, compile_flag, 0 },
	{ RTE_FLOW_ACTION_TYPE_JUMP, true, compile_jump, 0 },
	{ RTE_FLOW_ACTION_TYPE_PORT_ID, false, compile_port_id, 0 },
	{ RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, false, compile_represented_port, 0 },
	{ RTE_FLOW_ACTION_TYPE_QUEUE, true, compile_queue, 0 },
	{ RTE_FLOW_ACTION_TYPE_RSS, true, compile_rss, 0 },
	{ RTE_FLOW_ACTION_TYPE_DROP, false, compile_drop, 0 },
};

static const struct action_type *
find_type(enum rte_flow_action_type type)
{
	size_t i;

	for (i = 0; i < RTE_DIM(action_types); i++)
		if (action_types[i].type == type)
			return &action_types[i];
	return NULL;
}

static int
compile_action(struct compiler *c)
{
	const struct action_type *type = find_type(c->action->type);
	int ret;

	if (c->outer != NULL) {
		ret = check_nested(c);
		if (ret < 0)
			return ret;
	}
	if (type == NULL)
		return REFUSE(c, ENOTSUP, "is not supported");
	if (type->conf && c->action->conf == NULL)
		return REFUSE(c, EINVAL, "needs a configuration");
	c->which = type->which;
	return type->compile(c);
}

/* Compiles a list, without judging the whole. */
static int
compile_list(struct compiler *c, const struct rte_flow_action *actions)
{
	int ret;

	for (c->action = actions; c->action->type != RTE_FLOW_ACTION_TYPE_END; c->action++) {
		name_action(c);
		if (c->action->type == RTE_FLOW_ACTION_TYPE_VOID && c->outer == NULL)
			continue;
		ret = compile_action(c);
		if (ret < 0)
			return ret;
	}
	if (c->seen & FATES)
		c->draft->step[c->draft->steps++] = c->fate;
	return 0;
}

#define REFUSE_WHOLE(c, code, kind, what) \
	esw_flow_error((c)->error, code, RTE_FLOW_ERROR_TYPE_##kind, NULL, what)

static int
check_fate(const struct compiler *c)
{
	const struct rte_flow_attr *attr = &c->rule->info.attr;

	if ((c->seen & BIT(ESW_OP_DROP)) && (c->seen & ~BESIDES_DROP))
		return REFUSE_WHOLE(c, EINVAL, ACTION,
				    "action DROP: only COUNT, AGE and SAMPLE may stand beside it");
	if (attr->transfer && (c->seen & QUEUES))
		return REFUSE_WHOLE(c, ENOTSUP, ACTION,
				    "actions QUEUE and RSS: are not supported in transfer rules");
	if ((attr->transfer && !(c->seen & SWITCH_FATES)) ||
	    (attr->ingress && !(c->seen & NIC_FATES)))
		return REFUSE_WHOLE(c, EINVAL, ACTION, "no fate action");
	return 0;
}

/* Whether the rule is for what guests send: the card handles it as it handles what it sends. */
static bool
from_guest(const struct compiler *c)
{
	return c->rule->info.source->kind == ESW_VF;
}

static int
check_reformat(const struct compiler *c)
{
	const struct rte_flow_attr *attr = &c->rule->info.attr;
	bool cx5 = c->port->nic->card == ESW_CX5;
	uint32_t both = SHAPE_ENCAP | SHAPE_DECAP;

	if ((c->shape & both) == both)
		return REFUSE_WHOLE(c, ENOTSUP, ACTION,
				    "encapsulation and decapsulation cannot be combined");
	if ((c->seen & BIT(ESW_OP_PUSH_VLAN)) &&
	    (attr->ingress || (attr->transfer && cx5 && !from_guest(c))))
		return REFUSE_WHOLE(c, ENOTSUP, ATTR_INGRESS,
				    "action OF_PUSH_VLAN: is not supported for ingress traffic");
	if (attr->ingress && (c->shape & SHAPE_ENCAP))
		return REFUSE_WHOLE(c, ENOTSUP, ACTION,
				    "action RAW_ENCAP: is not supported for ingress traffic");
	if ((c->seen & BIT(ESW_OP_POP_VLAN)) &&
	    (attr->egress || (attr->transfer && cx5 && from_guest(c))))
		return REFUSE_WHOLE(c, ENOTSUP, ATTR_EGRESS,
				    "action OF_POP_VLAN: is not supported for egress traffic");
	return 0;
}

/*
 * Whether the card itself notes hits for the rule's age. It does so unless the driver can take the
 * rule's counter for that.
 */
static bool
ages_in_hardware(const struct compiler *c)
{
	return (c->seen & BIT(ESW_OP_AGE)) && !(c->own_age && c->counter_conf) &&
	       !ages_by_counter(c);
}

#define REFUSE_SAMPLE(c, code, what)                                              \
	esw_flow_error((c)->error, code, RTE_FLOW_ERROR_TYPE_ACTION, (c)->sample, \
		       "action SAMPLE: " what)

static bool
modifies_behind_sample(const struct compiler *c)
{
	uint32_t modifies = MODIFIES | VLAN_OPS | BIT(ESW_OP_DECAP);

	if (esw_port_has_metadata(c->port))
		modifies |= MARKS;
	return c->behind_sample & modifies;
}

/* A ConnectX-5 loses the registers of a packet that it duplicates. */
static int
check_mirror_cx5(const struct compiler *c)
{
	if (modifies_behind_sample(c))
		return REFUSE_SAMPLE(
			c, EINVAL,
			"a ConnectX-5 cannot change what it has mirrored of a guest's packets");
	if (c->seen & BIT(ESW_OP_JUMP))
		return REFUSE_SAMPLE(c, EINVAL,
				     "a ConnectX-5 cannot mirror a guest's packets and jump");
	return 0;
}

/* What a mirrored packet and the original may not do together. */
static int
check_mirror(const struct compiler *c)
{
	if (c->port->nic->card == ESW_CX5 && from_guest(c)) {
		int ret = check_mirror_cx5(c);

		if (ret < 0)
			return ret;
	}
	if (ages_in_hardware(c) && (c->behind_sample & BIT(ESW_OP_AGE)))
		return REFUSE_SAMPLE(c, ENOTSUP, "an age that the card keeps cannot follow");
	if (c->mirror_target->kind == ESW_VF && c->mirror_encap)
		return REFUSE_SAMPLE(c, ENOTSUP, "an encapsulated copy can go to the uplink only");
	if (c->mirror_target->kind == ESW_PF0 && !c->mirror_encap && (c->seen & BIT(ESW_OP_JUMP)))
		return REFUSE_SAMPLE(c, ENOTSUP,
				     "a copy to the uplink before a jump needs an encapsulation");
	if (c->target != NULL && c->target->kind == ESW_VF && (c->shape & SHAPE_ENCAP))
		return REFUSE_SAMPLE(c, ENOTSUP,
				     "the packet cannot be encapsulated towards a representor");
	return 0;
}

static int
check_whole(const struct compiler *c)
{
	int ret = check_fate(c);

	if (ret == 0)
		ret = check_reformat(c);
	if (ret == 0 && c->mirror)
		ret = check_mirror(c);
	if (ret == 0 && c->rule->info.attr.egress && c->port->kind == ESW_VF)
		ret = REFUSE_WHOLE(c, EINVAL, ITEM,
				   "egress rules are not supported on a representor");
	return ret;
}

/*
 * The driver makes one action of all changes of fields, at the place of the first, and the card
 * adds no tag before that. So they come first here, too: behind three tags the headers are not
 * found any more.
 */
static void
changes_first(struct esw_draft *draft)
{
	struct esw_step moved;
	uint32_t i, to;

	for (i = 1; i < draft->steps; i++) {
		moved = draft->step[i];
		if (!(BIT(moved.op) & MODIFIES))
			continue;
		for (to = i; to > 0 && draft->step[to - 1].op == ESW_OP_PUSH_VLAN; to--)
			draft->step[to] = draft->step[to - 1];
		draft->step[to] = moved;
	}
}

/* Compiles the actions into rule->draft. */
int
esw_rule_actions(struct esw_port *port, const struct rte_flow_action *actions,
		 struct esw_rule *rule, struct rte_flow_error *error)
{
	struct compiler c = { .port = port, .rule = rule, .error = error };
	int ret;

	start_draft(&c, &rule->draft);
	ret = compile_list(&c, actions);
	if (ret == 0)
		ret = check_whole(&c);
	changes_first(&rule->draft);
	rule->listed.mirror = c.mirror;
	rule->listed.split = c.sample != NULL && (!c.mirror || modifies_behind_sample(&c));
	rule->listed.ages = ages_in_hardware(&c);
	return ret;
}
