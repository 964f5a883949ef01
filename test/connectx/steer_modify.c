/* SPDX-License-Identifier: Apache-2.0 */

/* Modify header: commands as the programmer's manual has them, decoded once and run on packets. */

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <mlx5_prm.h>

#include "steer.h"

#define COMMAND_SIZE sizeof(uint64_t)

enum place {
	LINK,       /* bytes of the Ethernet header */
	ETHER_TYPE, /* behind the tags */
	VID,
	DSCP,
	ECN,
	TTL,
	ADDRESS, /* four bytes of one */
	PORT,
	TCP_FLAGS,
	TCP_NUMBER,
	REGISTER_A,
	REGISTER_B,
	REGISTER_C,
};

/* Commands of one action may not be of different IP versions or L4 protocols. */
struct cx_field {
	const char *name;
	uint16_t id; /* enum mlx5_modification_field */
	uint8_t bits;
	enum place place;
	uint8_t at;             /* bytes into the header, or the register's number */
	enum esw_field address; /* whose bytes or port */
	uint8_t version;
	uint8_t proto;
};

#define FIELD(f, width, where) .name = #f, .id = MLX5_MODI_##f, .bits = width, .place = where
#define ADDRESS6(f, which, byte)                                                             \
	{                                                                                    \
		FIELD(f, 32, ADDRESS), .at = byte, .address = ESW_IPV6_##which, .version = 6 \
	}
#define PORTS(f, which, protocol)                                                \
	{                                                                        \
		FIELD(f, 16, PORT), .address = ESW_TP_##which, .proto = protocol \
	}

/* All that rdma-core knows for software steering. */
static const struct cx_field fields[] = {
	{ FIELD(OUT_SMAC_47_16, 32, LINK), .at = 6 },
	{ FIELD(OUT_SMAC_15_0, 16, LINK), .at = 10 },
	{ FIELD(OUT_ETHERTYPE, 16, ETHER_TYPE) },
	{ FIELD(OUT_DMAC_47_16, 32, LINK), .at = 0 },
	{ FIELD(OUT_DMAC_15_0, 16, LINK), .at = 4 },
	{ FIELD(OUT_IP_DSCP, 6, DSCP) },
	{ FIELD(OUT_IP_ECN, 2, ECN) },
	{ FIELD(OUT_TCP_FLAGS, 9, TCP_FLAGS), .proto = IPPROTO_TCP },
	PORTS(OUT_TCP_SPORT, SRC, IPPROTO_TCP),
	PORTS(OUT_TCP_DPORT, DST, IPPROTO_TCP),
	{ FIELD(OUT_IPV4_TTL, 8, TTL), .version = 4 },
	{ FIELD(OUT_IPV6_HOPLIMIT, 8, TTL), .version = 6 },
	PORTS(OUT_UDP_SPORT, SRC, IPPROTO_UDP),
	PORTS(OUT_UDP_DPORT, DST, IPPROTO_UDP),
	ADDRESS6(OUT_SIPV6_127_96, SRC, 0),
	ADDRESS6(OUT_SIPV6_95_64, SRC, 4),
	ADDRESS6(OUT_SIPV6_63_32, SRC, 8),
	ADDRESS6(OUT_SIPV6_31_0, SRC, 12),
	ADDRESS6(OUT_DIPV6_127_96, DST, 0),
	ADDRESS6(OUT_DIPV6_95_64, DST, 4),
	ADDRESS6(OUT_DIPV6_63_32, DST, 8),
	ADDRESS6(OUT_DIPV6_31_0, DST, 12),
	{ FIELD(OUT_SIPV4, 32, ADDRESS), .address = ESW_IPV4_SRC, .version = 4 },
	{ FIELD(OUT_DIPV4, 32, ADDRESS), .address = ESW_IPV4_DST, .version = 4 },
	{ FIELD(OUT_FIRST_VID, 16, VID) },
	{ FIELD(OUT_TCP_SEQ_NUM, 32, TCP_NUMBER), .at = offsetof(struct rte_tcp_hdr, sent_seq) },
	{ FIELD(OUT_TCP_ACK_NUM, 32, TCP_NUMBER), .at = offsetof(struct rte_tcp_hdr, recv_ack) },
	{ FIELD(META_DATA_REG_A, 32, REGISTER_A) },
	{ FIELD(META_DATA_REG_B, 32, REGISTER_B) },
	{ FIELD(META_REG_C_0, 32, REGISTER_C), .at = 0 },
	{ FIELD(META_REG_C_1, 32, REGISTER_C), .at = 1 },
	{ FIELD(META_REG_C_2, 32, REGISTER_C), .at = 2 },
	{ FIELD(META_REG_C_3, 32, REGISTER_C), .at = 3 },
	{ FIELD(META_REG_C_4, 32, REGISTER_C), .at = 4 },
	{ FIELD(META_REG_C_5, 32, REGISTER_C), .at = 5 },
};

static const struct cx_field *
find_field(uint32_t id)
{
	uint32_t i;

	for (i = 0; i < RTE_DIM(fields); i++)
		if (fields[i].id == id)
			return &fields[i];
	return NULL;
}

/* Registers that a domain does not have. */
static bool
has_field(const struct cx_domain *domain, const struct cx_field *f)
{
	switch (f->place) {
	case REGISTER_A:
		return domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_TX;
	case REGISTER_B:
		return domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_RX;
	default:
		return true;
	}
}

static bool
may_add(const struct cx_field *f)
{
	return f->place == TTL || f->place == TCP_NUMBER;
}

static int
decode_set(const struct cx_domain *domain, const void *command, struct cx_modify_step *step)
{
	uint32_t bits = MLX5_GET(set_action_in, command, length);

	step->field = find_field(MLX5_GET(set_action_in, command, field));
	step->at = MLX5_GET(set_action_in, command, offset);
	step->bits = bits == 0 ? 32 : bits;
	step->value = MLX5_GET(set_action_in, command, data);
	if (step->field == NULL || !has_field(domain, step->field) ||
	    step->at + step->bits > step->field->bits)
		return EINVAL;
	return 0;
}

static int
decode_add(const void *command, struct cx_modify_step *step)
{
	step->field = find_field(MLX5_GET(set_action_in, command, field));
	step->value = MLX5_GET(set_action_in, command, data);
	if (step->field == NULL || !may_add(step->field))
		return EINVAL;
	step->bits = step->field->bits;
	return 0;
}

static int
decode_copy(const struct cx_domain *domain, const void *command, struct cx_modify_step *step)
{
	uint32_t bits = MLX5_GET(copy_action_in, command, length);

	step->field = find_field(MLX5_GET(copy_action_in, command, dst_field));
	step->from = find_field(MLX5_GET(copy_action_in, command, src_field));
	step->at = MLX5_GET(copy_action_in, command, dst_offset);
	step->from_at = MLX5_GET(copy_action_in, command, src_offset);
	step->bits = bits == 0 ? 32 : bits;
	if (step->field == NULL || step->from == NULL)
		return EINVAL;
	if (!has_field(domain, step->field) || !has_field(domain, step->from))
		return EINVAL;
	if (step->at + step->bits > step->field->bits ||
	    step->from_at + step->bits > step->from->bits)
		return EINVAL;
	return 0;
}

static int
decode(const struct cx_domain *domain, const void *command, struct cx_modify_step *step)
{
	step->op = MLX5_GET(set_action_in, command, action_type);
	switch (step->op) {
	case CX_MODIFY_SET:
		return decode_set(domain, command, step);
	case CX_MODIFY_ADD:
		return decode_add(command, step);
	case CX_MODIFY_COPY:
		return decode_copy(domain, command, step);
	default:
		return cx_refuse(EOPNOTSUPP, "modify header: command %u", step->op);
	}
}

/* One action rewrites headers of one kind. */
static int
check_kinds(const struct cx_modify *modify)
{
	uint8_t version = 0, proto = 0;
	uint32_t i;

	for (i = 0; i < modify->n; i++) {
		const struct cx_field *f = modify->step[i].field;

		if (version != 0 && f->version != 0 && f->version != version)
			return ENOTSUP;
		if (proto != 0 && f->proto != 0 && f->proto != proto)
			return EINVAL;
		version = f->version != 0 ? f->version : version;
		proto = f->proto != 0 ? f->proto : proto;
	}
	return 0;
}

static int
decode_all(const struct cx_domain *domain, const void *commands, struct cx_modify *modify)
{
	uint64_t command;
	uint32_t i;
	int ret;

	for (i = 0; i < modify->n; i++) {
		/* The driver has them at odd addresses. */
		memcpy(&command, (const uint8_t *)commands + i * sizeof(command), sizeof(command));
		ret = decode(domain, &command, &modify->step[i]);
		if (ret != 0)
			return ret;
	}
	return check_kinds(modify);
}

struct cx_action *
cx_modify_create(struct cx_domain *domain, uint32_t flags, size_t size, const void *commands)
{
	uint32_t n = size / COMMAND_SIZE;
	struct cx_modify *modify;
	struct cx_action *action;
	int ret;

	if ((flags & ~MLX5DV_DR_ACTION_FLAGS_ROOT_LEVEL) != 0 || size % COMMAND_SIZE != 0 || n == 0)
		return cx_fail(EINVAL);
	modify = calloc(1, sizeof(*modify) + n * sizeof(modify->step[0]));
	if (modify == NULL)
		return cx_fail(ENOMEM);
	modify->n = n;
	ret = decode_all(domain, commands, modify);
	action = ret == 0 ? cx_action_new(CX_ACTION_MODIFY, domain) : cx_fail(ret);
	if (action == NULL) {
		free(modify);
		return NULL;
	}
	action->root = (flags & MLX5DV_DR_ACTION_FLAGS_ROOT_LEVEL) != 0;
	action->modify = modify;
	return action;
}

static uint8_t *
data_at(const struct cx_flight *flight, uint32_t at, uint32_t n)
{
	return at + n > flight->p.m->data_len ? NULL :
						rte_pktmbuf_mtod_offset(flight->p.m, uint8_t *, at);
}

static uint32_t
load(const uint8_t *at, uint32_t n)
{
	uint32_t value = 0;

	for (; n > 0; n--)
		value = value << 8 | *at++;
	return value;
}

static void
store(uint8_t *at, uint32_t n, uint32_t value)
{
	for (; n > 0; n--, value >>= 8)
		at[n - 1] = value;
}

/* How many VLAN tags the frame has, up to the two that a card looks behind. */
static uint32_t
count_tags(const struct cx_flight *flight)
{
	const uint8_t *type;
	uint32_t tags;

	for (tags = 0; tags < 2; tags++) {
		type = data_at(flight, 2 * RTE_ETHER_ADDR_LEN + tags * RTE_VLAN_HLEN, 2);
		if (type == NULL ||
		    !((type[0] == 0x81 && type[1] == 0x00) || (type[0] == 0x88 && type[1] == 0xa8)))
			break;
	}
	return tags;
}

/* Where the address is in its IP header. */
static size_t
address_at(const struct cx_field *f)
{
	switch (f->address) {
	case ESW_IPV4_SRC:
		return offsetof(struct rte_ipv4_hdr, src_addr);
	case ESW_IPV4_DST:
		return offsetof(struct rte_ipv4_hdr, dst_addr);
	case ESW_IPV6_SRC:
		return offsetof(struct rte_ipv6_hdr, src_addr);
	default:
		return offsetof(struct rte_ipv6_hdr, dst_addr);
	}
}

/* The word of TTL and protocol, or of next header and hop limit. */
static size_t
ttl_at(uint8_t version)
{
	return version == 4 ? offsetof(struct rte_ipv4_hdr, time_to_live) :
			      offsetof(struct rte_ipv6_hdr, proto);
}

/* Where what the field is a part of begins; NULL if the packet has no such header. The key is up to
 * date. */
static uint8_t *
find(const struct cx_flight *flight, const struct cx_field *f)
{
	const struct esw_packet *p = &flight->p;
	const struct esw_l3 *l3 = &p->key.l3[ESW_OUTER];
	uint32_t ip = p->off.l3[ESW_OUTER], l4 = p->off.l4[ESW_OUTER];
	uint32_t tags = count_tags(flight);

	switch (f->place) {
	case LINK:
		return data_at(flight, f->at, f->bits / 8);
	case ETHER_TYPE:
		return data_at(flight, 2 * RTE_ETHER_ADDR_LEN + tags * RTE_VLAN_HLEN, 2);
	case VID:
		return tags == 0 ? NULL : data_at(flight, 2 * RTE_ETHER_ADDR_LEN + 2, 2);
	case DSCP:
	case ECN:
		return ip == 0 ? NULL : data_at(flight, ip, 2);
	case TTL:
		return ip == 0 ? NULL : data_at(flight, ip + ttl_at(l3->version), 2);
	case ADDRESS:
		if (l3->version != f->version)
			return NULL;
		return data_at(flight, ip + address_at(f), f->version == 4 ? 4 : 16);
	case PORT:
		if (l3->l4 != IPPROTO_TCP && l3->l4 != IPPROTO_UDP)
			return NULL;
		return data_at(flight, l4 + (f->address == ESW_TP_SRC ? 0 : 2), 2);
	case TCP_FLAGS:
		return l3->l4 != IPPROTO_TCP ?
			       NULL :
			       data_at(flight, l4 + offsetof(struct rte_tcp_hdr, data_off), 2);
	case TCP_NUMBER:
		return l3->l4 != IPPROTO_TCP ? NULL : data_at(flight, l4 + f->at, 4);
	default:
		return NULL;
	}
}

/* How far from its end the traffic class is in the first word of an IP header. */
static uint32_t
tos_shift(const struct cx_flight *flight)
{
	return flight->p.key.l3[ESW_OUTER].version == 4 ? 0 : 4;
}

/* Where the time to live is in its word. */
static uint32_t
ttl_shift(const struct cx_flight *flight)
{
	return flight->p.key.l3[ESW_OUTER].version == 4 ? 8 : 0;
}

static uint32_t *
find_register(struct cx_flight *flight, const struct cx_field *f)
{
	switch (f->place) {
	case REGISTER_A:
		return &flight->origin.reg_a;
	case REGISTER_B:
		return &flight->meta.reg_b;
	default:
		return &flight->p.key.reg_c[f->at];
	}
}

static bool
is_register(const struct cx_field *f)
{
	return f->place == REGISTER_A || f->place == REGISTER_B || f->place == REGISTER_C;
}

/* False if the packet does not have the field. */
static bool
read_field(struct cx_flight *flight, const struct cx_field *f, uint32_t *value)
{
	const uint8_t *at;

	if (is_register(f)) {
		*value = *find_register(flight, f);
		return true;
	}
	esw_packet_refresh(&flight->p);
	at = find(flight, f);
	if (at == NULL)
		return false;
	switch (f->place) {
	case DSCP:
		*value = load(at, 2) >> tos_shift(flight) >> 2 & 0x3f;
		break;
	case ECN:
		*value = load(at, 2) >> tos_shift(flight) & 3;
		break;
	case TTL:
		*value = load(at, 2) >> ttl_shift(flight) & 0xff;
		break;
	case ADDRESS:
		*value = load(at + f->at, 4);
		break;
	case TCP_FLAGS:
		*value = load(at, 2) & 0x1ff;
		break;
	default:
		*value = load(at, f->bits / 8);
		break;
	}
	return true;
}

/* Replaces bits of the word at an offset of the IP header. */
static void
set_in_ip_word(struct cx_flight *flight, const uint8_t *at, uint32_t shift, uint32_t mask,
	       uint32_t value)
{
	const uint8_t *ip =
		rte_pktmbuf_mtod_offset(flight->p.m, const uint8_t *, flight->p.off.l3[ESW_OUTER]);
	uint32_t word = (load(at, 2) & ~(mask << shift)) | value << shift;

	esw_set_ip_word(&flight->p, at - ip, rte_cpu_to_be_16(word));
}

static void
set_address(struct cx_flight *flight, const struct cx_field *f, const uint8_t *at, uint32_t value)
{
	uint8_t address[16];

	memcpy(address, at, f->version == 4 ? 4 : 16);
	store(address + f->at, 4, value);
	esw_set_field(&flight->p, f->address, address);
}

static void
set_tcp_number(struct cx_flight *flight, const struct cx_field *f, uint32_t value)
{
	esw_set_l4_word(&flight->p, f->at, rte_cpu_to_be_16(value >> 16));
	esw_set_l4_word(&flight->p, f->at + 2, rte_cpu_to_be_16(value));
}

/* The packet has the field: it has been read. */
static void
write_field(struct cx_flight *flight, const struct cx_field *f, uint32_t value)
{
	uint8_t *at;
	rte_be16_t port;

	if (is_register(f)) {
		*find_register(flight, f) = value;
		return;
	}
	at = find(flight, f);
	switch (f->place) {
	case DSCP:
		set_in_ip_word(flight, at, tos_shift(flight) + 2, 0x3f, value);
		break;
	case ECN:
		set_in_ip_word(flight, at, tos_shift(flight), 3, value);
		break;
	case TTL:
		set_in_ip_word(flight, at, ttl_shift(flight), 0xff, value);
		break;
	case ADDRESS:
		set_address(flight, f, at, value);
		break;
	case PORT:
		port = rte_cpu_to_be_16(value);
		esw_set_field(&flight->p, f->address, &port);
		break;
	case TCP_FLAGS:
		esw_set_l4_word(&flight->p, offsetof(struct rte_tcp_hdr, data_off),
				rte_cpu_to_be_16((load(at, 2) & ~0x1ffu) | value));
		break;
	case TCP_NUMBER:
		set_tcp_number(flight, f, value);
		break;
	default:
		store(at, f->bits / 8, value);
		flight->p.stale = true;
		break;
	}
}

static uint32_t
ones(uint32_t bits)
{
	return bits == 32 ? UINT32_MAX : (1u << bits) - 1;
}

/* A packet without the field stays as it is. */
static void
run_step(struct cx_flight *flight, const struct cx_modify_step *step)
{
	uint32_t mask = ones(step->bits) << step->at, value = step->value, old;

	if (step->op == CX_MODIFY_COPY) {
		if (!read_field(flight, step->from, &value))
			return;
		value >>= step->from_at;
	}
	if (!read_field(flight, step->field, &old))
		return;
	if (step->op == CX_MODIFY_ADD)
		value += old;
	write_field(flight, step->field, (old & ~mask) | (value << step->at & mask));
}

void
cx_modify_run(struct cx_flight *flight, const struct cx_modify *modify)
{
	uint32_t i;

	for (i = 0; i < modify->n; i++)
		run_step(flight, &modify->step[i]);
}

void
cx_modify_dump(FILE *file, const struct cx_modify *modify)
{
	uint32_t i;

	fputs("modify(", file);
	for (i = 0; i < modify->n; i++) {
		const struct cx_modify_step *step = &modify->step[i];
		uint32_t last = step->at + step->bits - 1;

		fprintf(file, "%s%s[%u:%u]", i == 0 ? "" : ", ", step->field->name, last, step->at);
		if (step->op == CX_MODIFY_COPY)
			fprintf(file, "=%s[%u:%u]", step->from->name,
				step->from_at + step->bits - 1, step->from_at);
		else
			fprintf(file, "%s%#x", step->op == CX_MODIFY_ADD ? "+=" : "=", step->value);
	}
	fputc(')', file);
}
