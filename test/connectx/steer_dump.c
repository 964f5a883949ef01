/* SPDX-License-Identifier: Apache-2.0 */

/* Rules as text: the names are those of the programmer's manual and of rdma-core. */

#include "steer.h"

static const char *
domain_name(const struct cx_domain *domain)
{
	switch (domain->type) {
	case MLX5DV_DR_DOMAIN_TYPE_NIC_RX:
		return "rx";
	case MLX5DV_DR_DOMAIN_TYPE_NIC_TX:
		return "tx";
	default:
		return "fdb";
	}
}

static void
dump_table(FILE *file, const struct cx_table *table)
{
	fprintf(file, "pf%u %s level %u", table->domain->dev->pf, domain_name(table->domain),
		table->level);
}

static void
dump_header(FILE *file, const char *name, const struct esw_encap *header)
{
	uint32_t i;

	fprintf(file, "%s(", name);
	for (i = 0; i < header->size; i++)
		fprintf(file, "%02x", header->data[i]);
	fputc(')', file);
}

static void
dump_array(FILE *file, const struct cx_array *array)
{
	uint32_t i;

	fputs("array(", file);
	for (i = 0; i < array->n; i++) {
		fputs(i == 0 ? "" : " | ", file);
		if (array->to[i].encap != NULL) {
			cx_action_dump(file, array->to[i].encap);
			fputc(' ', file);
		}
		cx_action_dump(file, array->to[i].to);
	}
	fputc(')', file);
}

static void
dump_sampler(FILE *file, const struct cx_sampler *sampler)
{
	uint32_t i;

	fprintf(file, "sampler(1/%u", sampler->ratio);
	for (i = 0; i < sampler->n; i++) {
		fputs(i == 0 ? " " : ", ", file);
		cx_action_dump(file, sampler->action[i]);
	}
	fputs(" | ", file);
	dump_table(file, sampler->next);
	fputc(')', file);
}

void
cx_action_dump(FILE *file, const struct cx_action *action)
{
	switch (action->type) {
	case CX_ACTION_DROP:
		fputs("drop", file);
		break;
	case CX_ACTION_MISS:
		fputs("miss", file);
		break;
	case CX_ACTION_TABLE:
		fputs("table(", file);
		dump_table(file, action->table);
		fputc(')', file);
		break;
	case CX_ACTION_VPORT:
		fprintf(file, "vport(%s)", action->vport->name);
		break;
	case CX_ACTION_TIR:
		fprintf(file, "tir(%u)", action->tirn);
		break;
	case CX_ACTION_ARRAY:
		dump_array(file, action->array);
		break;
	case CX_ACTION_SAMPLER:
		dump_sampler(file, action->sampler);
		break;
	case CX_ACTION_TAG:
		fprintf(file, "tag(%#x)", action->tag);
		break;
	case CX_ACTION_COUNTER:
		fputs("counter", file);
		break;
	case CX_ACTION_FLOW_HIT:
		fputs("flow_hit", file);
		break;
	case CX_ACTION_MODIFY:
		cx_modify_dump(file, action->modify);
		break;
	case CX_ACTION_DECAP_L2:
		fputs("l2_tunnel_to_l2", file);
		break;
	case CX_ACTION_DECAP_L3:
		dump_header(file, "l3_tunnel_to_l2", action->header);
		break;
	case CX_ACTION_ENCAP_L2:
		dump_header(file, "l2_to_l2_tunnel", action->header);
		break;
	case CX_ACTION_ENCAP_L3:
		dump_header(file, "l2_to_l3_tunnel", action->header);
		break;
	case CX_ACTION_PUSH_VLAN:
		fprintf(file, "push_vlan(%#x, %#x)", action->vlan.type, action->vlan.tci);
		break;
	case CX_ACTION_POP_VLAN:
		fputs("pop_vlan", file);
		break;
	case CX_ACTIONS:
		break;
	}
}

/* One line. Under the lock. */
void
cx_rule_dump(FILE *file, const struct cx_rule *rule)
{
	struct esw_key key, mask;
	uint32_t i;

	dump_table(file, rule->matcher->table);
	fprintf(file, " priority %u:", rule->matcher->priority);
	if (rule->sides == 0) {
		fputs(" nothing", file);
	} else {
		esw_match_pattern(&rule->entry, &key, &mask);
		cx_match_dump(file, &key, &mask);
	}
	fputs(" ->", file);
	for (i = 0; i < rule->actions; i++) {
		fputs(i == 0 ? " " : ", ", file);
		cx_action_dump(file, rule->action[i]);
	}
	fputc('\n', file);
}
