/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Any rule: it is refused, with an error that says why, or it is installed, is dumped, meets
 * packets and goes. The input is items and actions, each a type and what it points at, which ends
 * where its type does, so that ASan sees any step beyond.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>

#include "../unit/frame.h"
#include "harness.h"

#define LIST_MAX 20
#define POINTERS_MAX 256

/* Everything that a rule points at. */
struct memory {
	void *pointer[POINTERS_MAX];
	uint32_t n;
};

struct type {
	int type;
	size_t size; /* of a spec or a configuration */
};

#define ITEM_TYPE(t, s)                                                  \
	{                                                                \
		RTE_FLOW_ITEM_TYPE_##t, sizeof(struct rte_flow_item_##s) \
	}
#define ACTION_TYPE(t, s)                                                    \
	{                                                                    \
		RTE_FLOW_ACTION_TYPE_##t, sizeof(struct rte_flow_action_##s) \
	}
#define BARE_ACTION(t)                      \
	{                                   \
		RTE_FLOW_ACTION_TYPE_##t, 0 \
	}

static const struct type item_types[] = {
	{ RTE_FLOW_ITEM_TYPE_VOID, 0 },
	ITEM_TYPE(ETH, eth),
	ITEM_TYPE(VLAN, vlan),
	ITEM_TYPE(IPV4, ipv4),
	ITEM_TYPE(IPV6, ipv6),
	ITEM_TYPE(TCP, tcp),
	ITEM_TYPE(UDP, udp),
	ITEM_TYPE(ICMP, icmp),
	ITEM_TYPE(ICMP6, icmp6),
	ITEM_TYPE(VXLAN, vxlan),
	ITEM_TYPE(MARK, mark),
	ITEM_TYPE(META, meta),
	ITEM_TYPE(TAG, tag),
	ITEM_TYPE(REPRESENTED_PORT, ethdev),
	ITEM_TYPE(PORT_ID, port_id),
	ITEM_TYPE(GENEVE, geneve),
};

static const struct type action_types[] = {
	BARE_ACTION(VOID),
	BARE_ACTION(COUNT),
	ACTION_TYPE(AGE, age),
	ACTION_TYPE(SAMPLE, sample),
	ACTION_TYPE(RAW_ENCAP, raw_encap),
	ACTION_TYPE(RAW_DECAP, raw_decap),
	ACTION_TYPE(SET_MAC_SRC, set_mac),
	ACTION_TYPE(SET_MAC_DST, set_mac),
	ACTION_TYPE(SET_IPV4_SRC, set_ipv4),
	ACTION_TYPE(SET_IPV4_DST, set_ipv4),
	ACTION_TYPE(SET_IPV6_SRC, set_ipv6),
	ACTION_TYPE(SET_IPV6_DST, set_ipv6),
	ACTION_TYPE(SET_TP_SRC, set_tp),
	ACTION_TYPE(SET_TP_DST, set_tp),
	BARE_ACTION(OF_POP_VLAN),
	ACTION_TYPE(OF_PUSH_VLAN, of_push_vlan),
	ACTION_TYPE(SET_META, set_meta),
	ACTION_TYPE(SET_TAG, set_tag),
	BARE_ACTION(INDIRECT),
	BARE_ACTION(DEC_TTL),
	ACTION_TYPE(MARK, mark),
	ACTION_TYPE(JUMP, jump),
	ACTION_TYPE(PORT_ID, port_id),
	ACTION_TYPE(REPRESENTED_PORT, ethdev),
	ACTION_TYPE(QUEUE, queue),
	BARE_ACTION(DROP),
	BARE_ACTION(FLAG),
	ACTION_TYPE(RSS, rss),
};

static struct rte_flow_action_handle *shared[2];

static void *
new_memory(struct memory *memory, size_t size)
{
	void *p = malloc(size == 0 ? 1 : size);

	harness_require(p != NULL && memory->n < POINTERS_MAX, "no memory");
	memory->pointer[memory->n++] = p;
	return p;
}

static void *
read_memory(struct input *in, struct memory *memory, size_t size)
{
	void *p = new_memory(memory, size);

	input_bytes(in, p, size);
	return p;
}

static const struct rte_flow_item *
read_items(struct input *in, struct memory *memory)
{
	uint32_t i, n = input_byte(in) % LIST_MAX;
	struct rte_flow_item *items = new_memory(memory, (n + 1) * sizeof(*items));

	memset(items, 0, (n + 1) * sizeof(*items));
	for (i = 0; i < n; i++) {
		const struct type *type = &item_types[input_byte(in) % RTE_DIM(item_types)];
		uint8_t has = input_byte(in);

		items[i].type = type->type;
		if (has & 1)
			items[i].spec = read_memory(in, memory, type->size);
		if (has & 2)
			items[i].mask = read_memory(in, memory, type->size);
		if (has & 4)
			items[i].last = read_memory(in, memory, type->size);
	}
	items[n].type = RTE_FLOW_ITEM_TYPE_END;
	return items;
}

static const struct rte_flow_action *read_actions(struct input *in, struct memory *memory,
						  int depth);

/* What is a pointer in a configuration cannot be any bytes. */
static void
read_pointers(struct input *in, struct memory *memory, const struct rte_flow_action *action,
	      void *conf, int depth)
{
	struct rte_flow_action_raw_encap *encap = conf;
	struct rte_flow_action_raw_decap *decap = conf;
	struct rte_flow_action_sample *sample = conf;
	struct rte_flow_action_rss *rss = conf;
	bool null = input_byte(in) == 255;

	switch (action->type) {
	case RTE_FLOW_ACTION_TYPE_RAW_ENCAP:
		encap->size = input_byte(in);
		encap->data = null ? NULL : read_memory(in, memory, encap->size);
		encap->preserve = NULL;
		break;
	case RTE_FLOW_ACTION_TYPE_RAW_DECAP:
		decap->data = NULL;
		break;
	case RTE_FLOW_ACTION_TYPE_SAMPLE:
		sample->actions = null || depth == 2 ? NULL : read_actions(in, memory, depth + 1);
		break;
	case RTE_FLOW_ACTION_TYPE_RSS:
		rss->queue_num = input_byte(in);
		rss->queue = read_memory(in, memory, rss->queue_num * sizeof(rss->queue[0]));
		rss->key = NULL;
		break;
	default:
		break;
	}
}

static const struct rte_flow_action *
read_actions(struct input *in, struct memory *memory, int depth)
{
	uint32_t i, n = input_byte(in) % LIST_MAX;
	struct rte_flow_action *actions = new_memory(memory, (n + 1) * sizeof(*actions));

	memset(actions, 0, (n + 1) * sizeof(*actions));
	for (i = 0; i < n && memory->n < POINTERS_MAX / 2; i++) {
		const struct type *type = &action_types[input_byte(in) % RTE_DIM(action_types)];
		void *conf = NULL;

		actions[i].type = type->type;
		if (type->type == RTE_FLOW_ACTION_TYPE_INDIRECT) {
			actions[i].conf = shared[input_byte(in) % RTE_DIM(shared)];
		} else if (type->size > 0 && input_byte(in) != 255) {
			conf = read_memory(in, memory, type->size);
			read_pointers(in, memory, &actions[i], conf, depth);
			actions[i].conf = conf;
		}
	}
	actions[i].type = RTE_FLOW_ACTION_TYPE_END;
	return actions;
}

static void
make_shared(void)
{
	static const struct rte_flow_action_age age = { .timeout = 60 };
	static const struct rte_flow_action kinds[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_COUNT },
		{ .type = RTE_FLOW_ACTION_TYPE_AGE, .conf = &age },
	};
	size_t i;

	for (i = 0; i < RTE_DIM(shared); i++) {
		shared[i] = rte_flow_action_handle_create(harness.vf0, NULL, &kinds[i], NULL);
		harness_require(shared[i] != NULL, "no indirect action");
	}
}

static void
meet(const struct frame *f)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(harness.pool);

	memcpy(rte_pktmbuf_append(m, f->len), f->data, f->len);
	harness_run(m);
}

/* What may happen to an installed rule. */
static void
live(struct rte_flow *flow, uint32_t group)
{
	static const struct rte_flow_action what[] = { { .type = RTE_FLOW_ACTION_TYPE_COUNT },
						       { .type = RTE_FLOW_ACTION_TYPE_END } };
	static struct frame udp, tcp, ipip;
	struct rte_flow_query_count count = { 0 };
	char *line = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&line, &len);

	harness_require(file != NULL && rte_flow_dev_dump(harness.vf0, flow, file, NULL) == 0 &&
				fclose(file) == 0 && len > 1 && line[len - 1] == '\n',
			"no dump");
	free(line);
	if (udp.len == 0) {
		udp = udp4_frame(1, 2);
		tcp = tcp4_frame(2);
		ipip = ipip_frame();
	}
	harness.from->nic->transfer_root =
		esw_group_get(&harness.from->nic->transfer, esw_group_level(group));
	harness.from->ingress_root = esw_group_get(&harness.from->ingress, esw_group_level(group));
	meet(&udp);
	meet(&tcp);
	meet(&ipip);
	if (rte_flow_query(harness.vf0, flow, what, &count, NULL) == 0)
		harness_require(count.hits_set == 1, "a query without an answer");
	harness_require(rte_flow_destroy(harness.vf0, flow, NULL) == 0, "a rule that stays");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct memory memory = { .n = 0 };
	struct rte_flow_error error = { 0 };
	struct rte_flow_attr attr = { 0 };
	uint8_t flags = input_byte(&in);
	const struct rte_flow_item *items;
	const struct rte_flow_action *actions;
	struct rte_flow *flow;
	int ret;

	if (shared[0] == NULL)
		make_shared();
	attr.transfer = flags & 1;
	attr.ingress = flags >> 1;
	attr.egress = flags >> 2;
	input_bytes(&in, &attr.priority, flags & 8 ? sizeof(attr.priority) : 1);
	input_bytes(&in, &attr.group, flags & 16 ? sizeof(attr.group) : 1);
	items = read_items(&in, &memory);
	actions = read_actions(&in, &memory, 0);
	ret = rte_flow_validate(harness.vf0, &attr, items, actions, &error);
	if (ret < 0)
		harness_require(error.message != NULL && error.message[0] != '\0' &&
					error.type != RTE_FLOW_ERROR_TYPE_NONE,
				"a refusal without a reason");
	flow = rte_flow_create(harness.vf0, &attr, items, actions, &error);
	harness_require(flow == NULL || ret == 0, "created what is not valid");
	if (flow != NULL)
		live(flow, attr.group);
	else
		harness_require(error.message != NULL && error.message[0] != '\0',
				"a refusal without a reason");
	while (memory.n > 0)
		free(memory.pointer[--memory.n]);
	return 0;
}
