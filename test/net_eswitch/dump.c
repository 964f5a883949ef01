/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rules as text, a line each. It says what the NIC holds, all of it, and nothing that differs
 * between two NICs with the same rules, but for the counters at the end.
 */

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "eswitch.h"

/* A register is in the byte order of the CPU. */
enum format { DECIMAL, HEX, MAC, ADDRESS, REGISTER };

struct field {
	const char *name;
	uint16_t offset;
	uint16_t size;
	enum format format;
};

#define FIELD(name, type, field, format)                                        \
	{                                                                       \
		name, offsetof(type, field), sizeof(((type *)0)->field), format \
	}

static const struct field key_fields[] = {
	FIELD("eth.dst", struct esw_key, l2[ESW_OUTER].dst, MAC),
	FIELD("eth.src", struct esw_key, l2[ESW_OUTER].src, MAC),
	FIELD("eth.type", struct esw_key, l2[ESW_OUTER].type, HEX),
	FIELD("vlan", struct esw_key, l2[ESW_OUTER].cvlan, DECIMAL),
	FIELD("svlan", struct esw_key, l2[ESW_OUTER].svlan, DECIMAL),
	FIELD("vlan.tci", struct esw_key, l2[ESW_OUTER].tci, HEX),
	FIELD("vni", struct esw_key, vni, DECIMAL),
	FIELD("inner.eth.dst", struct esw_key, l2[ESW_INNER].dst, MAC),
	FIELD("inner.eth.src", struct esw_key, l2[ESW_INNER].src, MAC),
	FIELD("inner.eth.type", struct esw_key, l2[ESW_INNER].type, HEX),
	FIELD("inner.vlan", struct esw_key, l2[ESW_INNER].cvlan, DECIMAL),
	FIELD("inner.svlan", struct esw_key, l2[ESW_INNER].svlan, DECIMAL),
	FIELD("inner.vlan.tci", struct esw_key, l2[ESW_INNER].tci, HEX),
	FIELD("mark", struct esw_key, metadata.mark, REGISTER),
	FIELD("meta", struct esw_key, metadata.meta, REGISTER),
	FIELD("tag[0]", struct esw_key, metadata.tag[0], REGISTER),
	FIELD("tag[1]", struct esw_key, metadata.tag[1], REGISTER),
	FIELD("tag[2]", struct esw_key, metadata.tag[2], REGISTER),
};

static const struct field l3_fields[] = {
	FIELD("ip", struct esw_l3, version, DECIMAL),
	FIELD("ip.src", struct esw_l3, src, ADDRESS),
	FIELD("ip.dst", struct esw_l3, dst, ADDRESS),
	FIELD("ip.proto", struct esw_l3, proto, DECIMAL),
	FIELD("ip.ttl", struct esw_l3, ttl, DECIMAL),
	FIELD("ip.tos", struct esw_l3, tos, HEX),
	FIELD("ip.fragment", struct esw_l3, fragment, DECIMAL),
	FIELD("ip.ihl", struct esw_l3, ihl, DECIMAL),
	FIELD("ip.flow", struct esw_l3, flow_label, HEX),
	FIELD("l4", struct esw_l3, l4, DECIMAL),
	FIELD("l4.src", struct esw_l3, src_port, DECIMAL),
	FIELD("l4.dst", struct esw_l3, dst_port, DECIMAL),
	FIELD("tcp.flags", struct esw_l3, tcp_flags, HEX),
	FIELD("icmp.type", struct esw_l3, icmp_type, DECIMAL),
	FIELD("icmp.code", struct esw_l3, icmp_code, DECIMAL),
	FIELD("icmp.ident", struct esw_l3, icmp_ident, DECIMAL),
	FIELD("icmp.seq", struct esw_l3, icmp_seq, DECIMAL),
};

static const char *const op_names[] = {
	[ESW_OP_COUNT] = "count",
	[ESW_OP_AGE] = "age",
	[ESW_OP_SAMPLE] = "sample",
	[ESW_OP_ENCAP] = "raw_encap",
	[ESW_OP_DECAP] = "raw_decap",
	[ESW_OP_SET_MAC_SRC] = "set_mac_src",
	[ESW_OP_SET_MAC_DST] = "set_mac_dst",
	[ESW_OP_DEC_TTL] = "dec_ttl",
	[ESW_OP_SET_FIELD] = "set",
	[ESW_OP_POP_VLAN] = "of_pop_vlan",
	[ESW_OP_PUSH_VLAN] = "of_push_vlan",
	[ESW_OP_MARK] = "mark",
	[ESW_OP_FLAG] = "flag",
	[ESW_OP_META] = "set_meta",
	[ESW_OP_TAG] = "set_tag",
	[ESW_OP_JUMP] = "jump",
	[ESW_OP_PORT] = "port",
	[ESW_OP_QUEUE] = "queue",
	[ESW_OP_RSS] = "rss",
	[ESW_OP_DROP] = "drop",
};

/* A field of one to eight bytes in network byte order. */
static uint64_t
number(const uint8_t *bytes, size_t size)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < size; i++)
		n = n << 8 | bytes[i];
	return n;
}

static bool
all_are(const uint8_t *bytes, size_t size, uint8_t value)
{
	size_t i;

	for (i = 0; i < size; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static void
print_hex(FILE *file, const uint8_t *bytes, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		fprintf(file, "%02x", bytes[i]);
}

static void
print_mac(FILE *file, const void *mac)
{
	char text[RTE_ETHER_ADDR_FMT_SIZE];

	rte_ether_format_addr(text, sizeof(text), mac);
	fputs(text, file);
}

static void
print_address(FILE *file, const void *address, uint8_t version)
{
	char text[INET6_ADDRSTRLEN];

	if (inet_ntop(version == 4 ? AF_INET : AF_INET6, address, text, sizeof(text)) != NULL)
		fputs(text, file);
}

static void
print_value(FILE *file, const struct field *field, const uint8_t *bytes, uint8_t version, bool mask)
{
	uint32_t reg;

	switch (field->format) {
	case REGISTER:
		memcpy(&reg, bytes, sizeof(reg));
		fprintf(file, "0x%x", reg);
		return;
	case MAC:
		print_mac(file, bytes);
		return;
	case ADDRESS:
		print_address(file, bytes, version);
		return;
	case HEX:
	case DECIMAL:
		fprintf(file, mask || field->format == HEX ? "0x%" PRIx64 : "%" PRIu64,
			number(bytes, field->size));
		return;
	}
}

/* NAME=SPEC, or NAME=SPEC/MASK when the mask does not look at all of it; nothing when it looks at
 * nothing. */
static void
print_field(FILE *file, const char *prefix, const struct field *field, const void *key,
	    const void *mask, uint8_t version)
{
	const uint8_t *spec_bytes = (const uint8_t *)key + field->offset;
	const uint8_t *mask_bytes = (const uint8_t *)mask + field->offset;
	size_t size = field->format == ADDRESS && version == 4 ? 4 : field->size;

	if (all_are(mask_bytes, size, 0))
		return;
	fprintf(file, " %s%s=", prefix, field->name);
	print_value(file, field, spec_bytes, version, false);
	if (all_are(mask_bytes, size, UINT8_MAX))
		return;
	fputc('/', file);
	print_value(file, field, mask_bytes, version, true);
}

static void
print_pattern(FILE *file, const struct rte_flow *flow)
{
	static const char *const prefixes[ESW_L3_MAX] = { "", "inner." };
	struct esw_key key, mask;
	int layer;
	size_t i;

	esw_match_pattern(&flow->entry, &key, &mask);
	fputs(" pattern", file);
	for (i = 0; i < RTE_DIM(key_fields); i++)
		print_field(file, "", &key_fields[i], &key, &mask, 0);
	for (layer = 0; layer < ESW_L3_MAX; layer++)
		for (i = 0; i < RTE_DIM(l3_fields); i++)
			print_field(file, prefixes[layer], &l3_fields[i], &key.l3[layer],
				    &mask.l3[layer], key.l3[layer].version);
}

static void
print_set_field(FILE *file, const struct esw_step *step)
{
	static const char *const names[] = {
		[ESW_IPV4_SRC] = "ipv4_src", [ESW_IPV4_DST] = "ipv4_dst",
		[ESW_IPV6_SRC] = "ipv6_src", [ESW_IPV6_DST] = "ipv6_dst",
		[ESW_TP_SRC] = "tp_src",     [ESW_TP_DST] = "tp_dst",
	};

	fprintf(file, "_%s=", names[step->which]);
	if (step->which == ESW_TP_SRC || step->which == ESW_TP_DST)
		fprintf(file, "%" PRIu64, number(step->field.value, sizeof(uint16_t)));
	else
		print_address(file, step->field.value, step->which <= ESW_IPV4_DST ? 4 : 6);
}

static void print_program(FILE *file, const struct rte_flow *flow,
			  const struct esw_program *program);

static void
print_encap(FILE *file, const struct esw_encap *encap)
{
	fputc('=', file);
	print_hex(file, encap->data, encap->size);
}

static void
print_queues(FILE *file, const struct esw_rss *rss)
{
	uint16_t i;

	for (i = 0; i < rss->n; i++)
		fprintf(file, "%c%u", i == 0 ? '=' : ',', rss->queue[i]);
}

static void
print_step(FILE *file, const struct rte_flow *flow, const struct esw_program *program,
	   const struct esw_step *step)
{
	fprintf(file, " %s", op_names[step->op]);
	switch (step->op) {
	case ESW_OP_DEC_TTL:
	case ESW_OP_POP_VLAN:
	case ESW_OP_FLAG:
	case ESW_OP_DROP:
		return;
	case ESW_OP_COUNT:
		fputs(flow->info.shared_count != NULL ? "=shared" : "", file);
		return;
	case ESW_OP_AGE:
		fprintf(file, "=%u%s", flow->age->timeout,
			flow->info.shared_age != NULL ? ",shared" : "");
		return;
	case ESW_OP_SET_FIELD:
		print_set_field(file, step);
		return;
	case ESW_OP_PUSH_VLAN:
		fprintf(file, "=0x%x,tci=0x%x", rte_be_to_cpu_16(step->push.type), step->push.tci);
		return;
	case ESW_OP_META:
		fprintf(file, "=0x%x/0x%x", step->set.value, step->set.mask);
		return;
	case ESW_OP_TAG:
		fprintf(file, "[%u]=0x%x/0x%x", step->which, step->set.value, step->set.mask);
		return;
	case ESW_OP_SAMPLE:
		fprintf(file, "=%u {", step->sample.ratio);
		print_program(file, flow, esw_program_data(program, step->sample.program));
		fputs(" }", file);
		return;
	case ESW_OP_ENCAP:
		print_encap(file, esw_program_data(program, step->encap));
		return;
	case ESW_OP_DECAP:
		fprintf(file, "=%u", step->decap.size);
		return;
	case ESW_OP_SET_MAC_SRC:
	case ESW_OP_SET_MAC_DST:
		fputc('=', file);
		print_mac(file, &step->mac);
		return;
	case ESW_OP_MARK:
		fprintf(file, "=%u", step->mark);
		return;
	case ESW_OP_JUMP:
		fprintf(file, "=%u", flow->info.jump);
		return;
	case ESW_OP_PORT:
		fprintf(file, "=%s", step->port->label);
		return;
	case ESW_OP_RSS:
		print_queues(file, &step->rss);
		return;
	case ESW_OP_QUEUE:
		fprintf(file, "=%u", step->queue);
		return;
	}
}

static void
print_program(FILE *file, const struct rte_flow *flow, const struct esw_program *program)
{
	uint32_t i;

	for (i = 0; i < program->steps; i++)
		print_step(file, flow, program, &program->step[i]);
}

/* Writes the rule, without a newline. */
void
esw_dump_rule(FILE *file, const struct rte_flow *flow)
{
	const struct rte_flow_attr *attr = &flow->info.attr;

	fprintf(file, "on %s from %s %s group %u priority %u", flow->owner->label,
		flow->info.any_source ? "any" : flow->info.source->label,
		attr->transfer ? "transfer" :
		attr->ingress  ? "ingress" :
				 "egress",
		attr->group, attr->priority);
	print_pattern(file, flow);
	fputs(" actions", file);
	print_program(file, flow, flow->program);
}

/* Writes the counters, which change while the rule is installed, for the end of its line. */
void
esw_dump_counters(FILE *file, const struct rte_flow *flow)
{
	const struct esw_counter *counter = flow->counter;
	bool aged = flow->age != NULL && flow->age->state == ESW_AGE_AGED;

	if (counter == NULL && !aged)
		return;
	fputs(" #", file);
	if (counter != NULL)
		fprintf(file, " %" PRIu64 " packets %" PRIu64 " bytes",
			load_relaxed(&counter->hits), load_relaxed(&counter->bytes));
	if (aged)
		fputs(" aged", file);
}
