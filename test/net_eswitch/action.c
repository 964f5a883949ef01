/* SPDX-License-Identifier: Apache-2.0 */

/* Runs a rule's actions on a packet, in the pipeline's thread. */

#include "eswitch.h"

static void
count(struct esw_counter *counter, const struct esw_packet *packet)
{
	add_as_only_writer(&counter->hits, 1);
	add_as_only_writer(&counter->bytes, packet->m->pkt_len);
}

static void
mark(struct esw_packet *packet, uint32_t id)
{
	packet->marked = true;
	packet->key.metadata.mark = id;
}

static void
set_register(uint32_t *at, const struct esw_set_register *set)
{
	*at = (*at & ~set->mask) | set->value;
}

static bool
encap(struct esw_port *from, struct esw_packet *packet, const struct esw_encap *header,
      uint32_t hash)
{
	if (esw_encap(packet, header, hash) < 0)
		return false;
	esw_count(from, ESW_STAT_ENCAPSULATED, 1);
	return true;
}

static bool
decap(struct esw_port *from, struct esw_packet *packet, const struct esw_decap *what)
{
	if (esw_decap(packet, what) < 0)
		return false;
	esw_count(from, ESW_STAT_DECAPSULATED, 1);
	return true;
}

static void
finish(struct esw_output *out, struct esw_port *from, const struct esw_step *step,
       struct esw_packet *packet)
{
	switch (step->op) {
	case ESW_OP_PORT:
		esw_output_send(out, step->port, packet->m);
		return;
	case ESW_OP_QUEUE:
		esw_output_receive(from, step->queue, packet);
		break;
	case ESW_OP_RSS:
		esw_packet_refresh(packet);
		esw_output_receive(from, step->rss.queue[esw_flow_hash(&packet->key) % step->rss.n],
				   packet);
		break;
	case ESW_OP_DROP:
	default:
		esw_count(from, ESW_STAT_DROPPED, 1);
		break;
	}
	rte_pktmbuf_free(packet->m);
}

static bool
mirror(struct esw_output *out, struct esw_port *from, const struct esw_program *program,
       struct esw_packet *copy, uint32_t hash)
{
	uint32_t i;

	for (i = 0; i < program->steps; i++) {
		const struct esw_step *step = &program->step[i];

		switch (step->op) {
		case ESW_OP_ENCAP:
			if (!encap(from, copy, esw_program_data(program, step->encap), hash))
				return false;
			break;
		case ESW_OP_MARK:
			mark(copy, step->mark);
			break;
		default:
			finish(out, from, step, copy);
			return true;
		}
	}
	/* A sample that has no actions goes to the manager of the switch. */
	esw_output_receive(esw_nic_pf0(from->nic), 0, copy);
	rte_pktmbuf_free(copy->m);
	return true;
}

/* Duplicates the packet as it is at this point. */
static void
sample(struct esw_output *out, struct esw_port *from, struct rte_flow *flow,
       const struct esw_sample *sample, const struct esw_packet *packet, uint32_t hash)
{
	struct esw_packet copy = *packet;

	if (++flow->unsampled < sample->ratio)
		return;
	flow->unsampled = 0;
	copy.m = rte_pktmbuf_copy(packet->m, from->far.pool, 0, UINT32_MAX);
	if (copy.m == NULL) {
		esw_count(from, ESW_STAT_SAMPLE_FAILED, 1);
		return;
	}
	if (!mirror(out, from, esw_program_data(flow->program, sample->program), &copy, hash)) {
		rte_pktmbuf_free(copy.m);
		esw_count(from, ESW_STAT_SAMPLE_FAILED, 1);
		return;
	}
	esw_count(from, ESW_STAT_SAMPLED, 1);
}

/*
 * Does what the rule says. Returns the group where matching goes on, or NULL when the packet's fate
 * is decided; its mbuf is then gone.
 */
struct esw_group *
esw_flow_run(struct esw_output *out, struct esw_port *from, struct rte_flow *flow,
	     struct esw_packet *packet)
{
	const struct esw_program *program = flow->program;
	uint32_t hash = 0;
	bool hashed = false;
	uint32_t i;

	for (i = 0; i < program->steps; i++) {
		const struct esw_step *step = &program->step[i];

		/* The flow is what the packet was when the rule was found. */
		if (!hashed && (step->op == ESW_OP_SAMPLE || step->op == ESW_OP_ENCAP ||
				step->op == ESW_OP_DECAP)) {
			esw_packet_refresh(packet);
			hash = esw_flow_hash(&packet->key);
			hashed = true;
		}
		switch (step->op) {
		case ESW_OP_COUNT:
			count(flow->counter, packet);
			break;
		case ESW_OP_AGE:
			store_relaxed(flow->last_hit, out->now);
			break;
		case ESW_OP_SAMPLE:
			sample(out, from, flow, &step->sample, packet, hash);
			break;
		case ESW_OP_ENCAP:
			if (!encap(from, packet, esw_program_data(program, step->encap), hash))
				goto malformed;
			break;
		case ESW_OP_DECAP:
			if (!decap(from, packet, &step->decap))
				goto malformed;
			break;
		case ESW_OP_SET_MAC_SRC:
		case ESW_OP_SET_MAC_DST:
			esw_set_mac(packet, &step->mac, step->op == ESW_OP_SET_MAC_SRC);
			break;
		case ESW_OP_DEC_TTL:
			esw_dec_ttl(packet);
			break;
		case ESW_OP_MARK:
			mark(packet, step->mark);
			break;
		case ESW_OP_FLAG:
			packet->flagged = true;
			break;
		case ESW_OP_META:
			set_register(&packet->key.metadata.meta, &step->set);
			break;
		case ESW_OP_TAG:
			set_register(&packet->key.metadata.tag[step->which], &step->set);
			break;
		case ESW_OP_SET_FIELD:
			esw_set_field(packet, step->which, step->field.value);
			break;
		case ESW_OP_POP_VLAN:
			if (esw_pop_vlan(packet) < 0)
				goto malformed;
			break;
		case ESW_OP_PUSH_VLAN:
			if (esw_push_vlan(packet, step->push.type, step->push.tci) < 0)
				goto malformed;
			break;
		case ESW_OP_JUMP:
			return step->jump;
		default:
			finish(out, from, step, packet);
			return NULL;
		}
	}
malformed:
	esw_count(from, ESW_STAT_MALFORMED, 1);
	rte_pktmbuf_free(packet->m);
	return NULL;
}
