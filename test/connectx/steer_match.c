/* SPDX-License-Identifier: Apache-2.0 */

/* Translates fte_match_param, as matchers and rules have it, into the key of packets. */

#include <errno.h>
#include <string.h>

#include <mlx5_prm.h>

#include "steer.h"

enum order { HOST, NETWORK };

/* A field of fte_match_param, and where in the key it is. */
struct field {
	const char *name;
	uint16_t at; /* bits from the start of fte_match_param */
	uint8_t bits;
	uint8_t size; /* bytes in the key; 0: the field is not known */
	uint16_t key; /* their offset */
	uint8_t shift;
	enum order order;
};

#define FTE(f)                                                               \
	.name = #f, .at = offsetof(struct mlx5_ifc_fte_match_param_bits, f), \
	.bits = sizeof(((struct mlx5_ifc_fte_match_param_bits *)NULL)->f)
#define KEY(k) .key = offsetof(struct esw_key, k)

#define MAC(headers, field, mac)                                                                \
	{ FTE(headers.field##_47_16), KEY(mac), .size = 4, .order = NETWORK },                  \
	{                                                                                       \
		FTE(headers.field##_15_0), .key = offsetof(struct esw_key, mac) + 4, .size = 2, \
					   .order = NETWORK                                     \
	}

#define TCI(headers, tci)                                                                       \
	{ FTE(headers.first_prio), KEY(tci), .size = 2, .shift = 13, .order = NETWORK },        \
		{ FTE(headers.first_cfi), KEY(tci), .size = 2, .shift = 12, .order = NETWORK }, \
	{                                                                                       \
		FTE(headers.first_vid), KEY(tci), .size = 2, .order = NETWORK                   \
	}

#define LINK(headers, n)                                                          \
	{ FTE(headers.ethertype), KEY(l2[n].type), .size = 2, .order = NETWORK }, \
		{ FTE(headers.cvlan_tag), KEY(l2[n].cvlan), .size = 1 },          \
		{ FTE(headers.svlan_tag), KEY(l2[n].svlan), .size = 1 }, TCI(headers, l2[n].tci)

#define LAYER(headers, n)                                                                          \
	{ FTE(headers.ip_protocol), KEY(l3[n].proto), .size = 1 },                                 \
		{ FTE(headers.ip_dscp), KEY(l3[n].tos), .size = 1, .shift = 2 },                   \
		{ FTE(headers.ip_ecn), KEY(l3[n].tos), .size = 1 },                                \
		{ FTE(headers.frag), KEY(l3[n].fragment), .size = 1 },                             \
		{ FTE(headers.tcp_flags), KEY(l3[n].tcp_flags), .size = 1 },                       \
		{ FTE(headers.tcp_sport), KEY(l3[n].src_port), .size = 2, .order = NETWORK },      \
		{ FTE(headers.tcp_dport), KEY(l3[n].dst_port), .size = 2, .order = NETWORK },      \
		{ FTE(headers.udp_sport), KEY(l3[n].src_port), .size = 2, .order = NETWORK },      \
		{ FTE(headers.udp_dport), KEY(l3[n].dst_port), .size = 2, .order = NETWORK },      \
		{ FTE(headers.ipv4_ihl), KEY(l3[n].ihl), .size = 1 },                              \
		{ FTE(headers.ip_ttl_hoplimit), KEY(l3[n].ttl), .size = 1 },                       \
		{ FTE(headers.l3_ok) }, { FTE(headers.l4_ok) }, { FTE(headers.ipv4_checksum_ok) }, \
	{                                                                                          \
		FTE(headers.l4_checksum_ok)                                                        \
	}

#define UNKNOWN(f)     \
	{              \
		FTE(f) \
	}

/* The addresses and the IP version are not among them: what an address is depends on the
 * version. */
static const struct field fields[] = {
	MAC(outer_headers, smac, l2[ESW_OUTER].src),
	MAC(outer_headers, dmac, l2[ESW_OUTER].dst),
	LINK(outer_headers, ESW_OUTER),
	LAYER(outer_headers, ESW_OUTER),
	MAC(inner_headers, smac, l2[ESW_INNER].src),
	MAC(inner_headers, dmac, l2[ESW_INNER].dst),
	LINK(inner_headers, ESW_INNER),
	LAYER(inner_headers, ESW_INNER),
	{ FTE(misc_parameters.source_sqn), KEY(card.sqn), .size = 4 },
	{ FTE(misc_parameters.source_port), KEY(card.vport), .size = 2 },
	{ FTE(misc_parameters.vxlan_vni), KEY(vni), .size = 3, .order = NETWORK },
	{ FTE(misc_parameters.outer_ipv6_flow_label), KEY(l3[ESW_OUTER].flow_label), .size = 4,
	  .order = NETWORK },
	{ FTE(misc_parameters.inner_ipv6_flow_label), KEY(l3[ESW_INNER].flow_label), .size = 4,
	  .order = NETWORK },
	{ FTE(misc_parameters_2.metadata_reg_c_0), KEY(reg_c[0]), .size = 4 },
	{ FTE(misc_parameters_2.metadata_reg_c_1), KEY(reg_c[1]), .size = 4 },
	{ FTE(misc_parameters_2.metadata_reg_c_2), KEY(reg_c[2]), .size = 4 },
	{ FTE(misc_parameters_2.metadata_reg_c_3), KEY(reg_c[3]), .size = 4 },
	{ FTE(misc_parameters_2.metadata_reg_c_4), KEY(reg_c[4]), .size = 4 },
	{ FTE(misc_parameters_2.metadata_reg_c_5), KEY(reg_c[5]), .size = 4 },
	{ FTE(misc_parameters_2.metadata_reg_a), KEY(card.reg_a), .size = 4 },
	{ FTE(misc_parameters_3.icmp_type), KEY(card.icmp_type), .size = 1 },
	{ FTE(misc_parameters_3.icmp_code), KEY(card.icmp_code), .size = 1 },
	{ FTE(misc_parameters_3.icmp_header_data), KEY(card.icmp_data), .size = 4,
	  .order = NETWORK },
	{ FTE(misc_parameters_3.icmpv6_type), KEY(card.icmp_type), .size = 1 },
	{ FTE(misc_parameters_3.icmpv6_code), KEY(card.icmp_code), .size = 1 },
	{ FTE(misc_parameters_3.icmpv6_header_data), KEY(card.icmp_data), .size = 4,
	  .order = NETWORK },

	UNKNOWN(misc_parameters.gre_c_present),
	UNKNOWN(misc_parameters.gre_k_present),
	UNKNOWN(misc_parameters.gre_s_present),
	UNKNOWN(misc_parameters.source_vhci_port),
	UNKNOWN(misc_parameters.outer_second_prio),
	UNKNOWN(misc_parameters.outer_second_cfi),
	UNKNOWN(misc_parameters.outer_second_vid),
	UNKNOWN(misc_parameters.inner_second_prio),
	UNKNOWN(misc_parameters.inner_second_cfi),
	UNKNOWN(misc_parameters.inner_second_vid),
	UNKNOWN(misc_parameters.outer_second_cvlan_tag),
	UNKNOWN(misc_parameters.inner_second_cvlan_tag),
	UNKNOWN(misc_parameters.outer_second_svlan_tag),
	UNKNOWN(misc_parameters.inner_second_svlan_tag),
	UNKNOWN(misc_parameters.gre_protocol),
	UNKNOWN(misc_parameters.gre_key_h),
	UNKNOWN(misc_parameters.gre_key_l),
	UNKNOWN(misc_parameters.geneve_vni),
	UNKNOWN(misc_parameters.geneve_tlv_option_0_exist),
	UNKNOWN(misc_parameters.geneve_oam),
	UNKNOWN(misc_parameters.geneve_opt_len),
	UNKNOWN(misc_parameters.geneve_protocol_type),
	UNKNOWN(misc_parameters.inner_esp_spi),
	UNKNOWN(misc_parameters.outer_esp_spi),
	UNKNOWN(misc_parameters_2.metadata_reg_c_6),
	UNKNOWN(misc_parameters_2.metadata_reg_c_7),
	UNKNOWN(misc_parameters_2.metadata_reg_b),
	UNKNOWN(misc_parameters_3.inner_tcp_seq_num),
	UNKNOWN(misc_parameters_3.outer_tcp_seq_num),
	UNKNOWN(misc_parameters_3.inner_tcp_ack_num),
	UNKNOWN(misc_parameters_3.outer_tcp_ack_num),
	UNKNOWN(misc_parameters_3.outer_vxlan_gpe_vni),
	UNKNOWN(misc_parameters_3.outer_vxlan_gpe_next_protocol),
	UNKNOWN(misc_parameters_3.outer_vxlan_gpe_flags),
	UNKNOWN(misc_parameters_3.geneve_tlv_option_0_data),
	UNKNOWN(misc_parameters_3.gtpu_teid),
	UNKNOWN(misc_parameters_3.gtpu_msg_type),
	UNKNOWN(misc_parameters_3.gtpu_msg_flags),
	UNKNOWN(misc_parameters_5.tunnel_header_0),
};

/* The two halves of misc_parameters_5.tunnel_header_1, the second word of VXLAN's header. */
#define TUNNEL_1_AT \
	offsetof(struct mlx5_ifc_fte_match_param_bits, misc_parameters_5.tunnel_header_1)

static const struct field vxlan_word[] = {
	{ .name = "misc_parameters_5.tunnel_header_1.vni",
	  .at = TUNNEL_1_AT,
	  .bits = 24,
	  KEY(vni),
	  .size = 3,
	  .order = NETWORK },
	{ .name = "misc_parameters_5.tunnel_header_1.reserved",
	  .at = TUNNEL_1_AT + 24,
	  .bits = 8,
	  KEY(card.vxlan_reserved),
	  .size = 1 },
};

/* What is special in a layer. */
struct layer {
	const char *name;
	struct field version;
	uint16_t src; /* bytes from the start of fte_match_param */
	uint16_t dst;
	uint16_t key_src;
	uint16_t key_dst;
};

#define IP(headers, n)                                                                             \
	{                                                                                          \
		.name = #headers,                                                                  \
		.version = { FTE(headers.ip_version), KEY(l3[n].version), .size = 1 },             \
		.src = offsetof(struct mlx5_ifc_fte_match_param_bits, headers.src_ipv4_src_ipv6) / \
		       8,                                                                          \
		.dst = offsetof(struct mlx5_ifc_fte_match_param_bits, headers.dst_ipv4_dst_ipv6) / \
		       8,                                                                          \
		.key_src = offsetof(struct esw_key, l3[n].src),                                    \
		.key_dst = offsetof(struct esw_key, l3[n].dst)                                     \
	}

static const struct layer layers[ESW_L3_MAX] = { IP(outer_headers, ESW_OUTER),
						 IP(inner_headers, ESW_INNER) };

static uint32_t
ones(uint32_t bits)
{
	return bits == 32 ? UINT32_MAX : (1u << bits) - 1;
}

/* No field lies across a 32-bit word's end. */
static uint32_t
fte_get(const uint8_t *fte, uint32_t at, uint32_t bits)
{
	uint32_t word;

	memcpy(&word, fte + at / 32 * 4, sizeof(word));
	return rte_be_to_cpu_32(word) >> (32 - bits - at % 32) & ones(bits);
}

static void
fte_clear(uint8_t *fte, uint32_t at, uint32_t bits)
{
	uint32_t word;

	memcpy(&word, fte + at / 32 * 4, sizeof(word));
	word &= ~rte_cpu_to_be_32(ones(bits) << (32 - bits - at % 32));
	memcpy(fte + at / 32 * 4, &word, sizeof(word));
}

static bool
is_zero(const uint8_t *bytes, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* The integer that holds the field, in the key. */
static uint32_t
key_get(const struct esw_key *key, const struct field *f)
{
	const uint8_t *at = (const uint8_t *)key + f->key;
	uint32_t i, value = 0;

	if (f->order == HOST) {
		memcpy(&value, at, f->size);
		return value;
	}
	for (i = 0; i < f->size; i++)
		value = value << 8 | at[i];
	return value;
}

static void
key_or(struct esw_key *key, const struct field *f, uint32_t value)
{
	uint8_t *at = (uint8_t *)key + f->key;
	uint32_t i;

	value = key_get(key, f) | value << f->shift;
	if (f->order == HOST) {
		memcpy(at, &value, f->size);
		return;
	}
	for (i = f->size; i > 0; i--, value >>= 8)
		at[i - 1] = value;
}

_Static_assert(RTE_BYTE_ORDER == RTE_LITTLE_ENDIAN,
	       "key_get and key_or copy the lower bytes of integers");

/* Whether rules of software steering can look at this field only when the IP version is given. */
static bool
needs_version(const struct field *f)
{
	static const char *const names[] = { "ip_protocol",    "ip_dscp",   "ip_ecn",
					     "tcp_flags",      "tcp_sport", "tcp_dport",
					     "udp_sport",      "udp_dport", "ipv4_ihl",
					     "ip_ttl_hoplimit" };
	const char *name = strchr(f->name, '.') + 1;
	uint32_t i;

	for (i = 0; i < RTE_DIM(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static bool
in_layer(const struct field *f, const struct layer *layer)
{
	size_t n = strlen(layer->name);

	return strncmp(f->name, layer->name, n) == 0 && f->name[n] == '.';
}

/* Software steering knows masks of the version that say 4 or 6 only, and without it nothing that
 * depends on it. */
static int
check_layer(const struct cx_matcher *matcher, const struct layer *layer)
{
	uint32_t version = fte_get(matcher->fte, layer->version.at, layer->version.bits);
	bool addresses =
		!is_zero(matcher->fte + layer->src, 16) || !is_zero(matcher->fte + layer->dst, 16);
	uint32_t i;

	if (version == 0 && addresses)
		return cx_refuse(EOPNOTSUPP, "match: %s: addresses without ip_version",
				 layer->name);
	if (matcher->table->level == 0)
		return 0;
	if (version != 0 && version != 4 && version != 6)
		return EOPNOTSUPP;
	for (i = 0; version == 0 && i < RTE_DIM(fields); i++)
		if (in_layer(&fields[i], layer) && needs_version(&fields[i]) &&
		    fte_get(matcher->fte, fields[i].at, fields[i].bits) != 0)
			return EOPNOTSUPP;
	return 0;
}

static void
clear_field(uint8_t *fte, const struct field *f)
{
	/* The highest of nine TCP flags, NS, is not in the key. */
	uint32_t unknown = f->bits == 9;

	fte_clear(fte, f->at + unknown, f->bits - unknown);
}

static void
clear_known(uint8_t *fte)
{
	uint32_t i;

	for (i = 0; i < RTE_DIM(fields); i++)
		if (fields[i].size != 0)
			clear_field(fte, &fields[i]);
	for (i = 0; i < RTE_DIM(vxlan_word); i++)
		fte_clear(fte, vxlan_word[i].at, vxlan_word[i].bits);
	for (i = 0; i < ESW_L3_MAX; i++) {
		fte_clear(fte, layers[i].version.at, layers[i].version.bits);
		memset(fte + layers[i].src, 0, 16);
		memset(fte + layers[i].dst, 0, 16);
	}
}

/* Refuses a mask with bits that no field of the key has. */
static int
check_known(const uint8_t *mask)
{
	uint8_t fte[CX_FTE_SIZE];
	uint32_t i;

	memcpy(fte, mask, sizeof(fte));
	clear_known(fte);
	for (i = 0; i < RTE_DIM(fields); i++)
		if (fte_get(fte, fields[i].at, fields[i].bits) != 0)
			return cx_refuse(EOPNOTSUPP, "match: %s", fields[i].name);
	for (i = 0; i < sizeof(fte); i++)
		if (fte[i] != 0)
			return cx_refuse(EOPNOTSUPP, "match: byte %#x of fte_match_param", i);
	return 0;
}

/* Software steering knows whole vports only, and in NIC TX no sources. */
static int
check_source(const struct cx_matcher *matcher)
{
	uint32_t port = MLX5_GET(fte_match_param, matcher->fte, misc_parameters.source_port);
	uint32_t sqn = MLX5_GET(fte_match_param, matcher->fte, misc_parameters.source_sqn);

	if (matcher->table->level == 0)
		return 0;
	if (port != 0 && port != UINT16_MAX)
		return ENOTSUP;
	if (matcher->table->domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_TX && (port != 0 || sqn != 0))
		return EOPNOTSUPP;
	return 0;
}

/* Takes a matcher's mask. The table is set. */
int
cx_match_mask(struct cx_matcher *matcher, uint8_t criteria,
	      const struct mlx5dv_flow_match_parameters *mask)
{
	uint32_t i;
	int ret;

	if (criteria >= 1 << CX_FTE_SECTIONS || mask->match_sz > CX_FTE_SIZE)
		return EINVAL;
	memset(matcher->fte, 0, sizeof(matcher->fte));
	memcpy(matcher->fte, mask->match_buf, mask->match_sz);
	/* A bit of the criteria for each section, in their order. */
	for (i = 0; i < CX_FTE_SECTIONS; i++)
		if ((criteria & 1 << i) == 0)
			memset(matcher->fte + i * CX_FTE_SECTION, 0, CX_FTE_SECTION);
	ret = check_known(matcher->fte);
	for (i = 0; ret == 0 && i < ESW_L3_MAX; i++)
		ret = check_layer(matcher, &layers[i]);
	return ret == 0 ? check_source(matcher) : ret;
}

static void
take(const struct field *f, const uint8_t *mask, const uint8_t *value, struct esw_pattern *pattern)
{
	uint32_t bits = fte_get(mask, f->at, f->bits);

	if (bits == 0)
		return;
	key_or(&pattern->mask, f, bits);
	key_or(&pattern->key, f, fte_get(value, f->at, f->bits) & bits);
}

/* Of an address field IPv4 has the last four bytes. */
static void
take_address(const uint8_t *mask, const uint8_t *value, bool ipv4, uint16_t key,
	     struct esw_pattern *pattern)
{
	uint32_t skip = ipv4 ? 12 : 0, i;

	for (i = 0; i < 16 - skip; i++) {
		((uint8_t *)&pattern->mask)[key + i] = mask[skip + i];
		((uint8_t *)&pattern->key)[key + i] = value[skip + i] & mask[skip + i];
	}
}

/* The card compares what kind of header there is, not bits of its version. */
static int
take_layer(const struct layer *layer, const struct cx_matcher *matcher, const uint8_t *value,
	   struct esw_pattern *pattern)
{
	uint32_t mask = fte_get(matcher->fte, layer->version.at, layer->version.bits);
	uint32_t version = fte_get(value, layer->version.at, layer->version.bits);

	if (mask == 0)
		return 0;
	if (matcher->table->level != 0 && version != mask)
		return EOPNOTSUPP;
	key_or(&pattern->mask, &layer->version, UINT8_MAX);
	key_or(&pattern->key, &layer->version, version);
	take_address(matcher->fte + layer->src, value + layer->src, version == 4, layer->key_src,
		     pattern);
	take_address(matcher->fte + layer->dst, value + layer->dst, version == 4, layer->key_dst,
		     pattern);
	return 0;
}

static bool
within_mask(const uint8_t *value, const uint8_t *mask)
{
	uint32_t i;

	for (i = 0; i < CX_FTE_SIZE; i++)
		if ((value[i] & ~mask[i]) != 0)
			return false;
	return true;
}

/* What a rule with that value matches. */
int
cx_match_value(const struct cx_matcher *matcher, const struct mlx5dv_flow_match_parameters *value,
	       struct esw_pattern *pattern)
{
	uint8_t fte[CX_FTE_SIZE] = { 0 };
	uint32_t i;
	int ret;

	memset(pattern, 0, sizeof(*pattern));
	pattern->priority = matcher->priority;
	if (value->match_sz > sizeof(fte) || value->match_sz % sizeof(uint32_t) != 0)
		return EINVAL;
	memcpy(fte, value->match_buf, value->match_sz);
	for (i = 0; i < CX_FTE_SECTIONS; i++)
		if (is_zero(matcher->fte + i * CX_FTE_SECTION, CX_FTE_SECTION))
			memset(fte + i * CX_FTE_SECTION, 0, CX_FTE_SECTION);
	if (matcher->table->level != 0 && !within_mask(fte, matcher->fte))
		return EINVAL;
	for (i = 0; i < RTE_DIM(fields); i++)
		if (fields[i].size != 0)
			take(&fields[i], matcher->fte, fte, pattern);
	for (i = 0; i < RTE_DIM(vxlan_word); i++)
		take(&vxlan_word[i], matcher->fte, fte, pattern);
	for (i = 0; i < ESW_L3_MAX; i++) {
		ret = take_layer(&layers[i], matcher, fte, pattern);
		if (ret != 0)
			return ret;
	}
	return 0;
}

/*
 * Software steering of the FDB has two sets of tables, and decides by what a rule says of the
 * source which of them it belongs to: by the vport's number, or by its tag in reg_c_0.
 */
uint8_t
cx_match_sides(const struct cx_domain *domain, const struct esw_pattern *pattern)
{
	uint32_t wire = cx_vport_by_id(domain->dev, CX_VPORT_UPLINK)->meta_tag;
	uint8_t sides = CX_SIDES;

	if (pattern->mask.card.vport != 0)
		sides &= pattern->key.card.vport == CX_VPORT_UPLINK ? CX_SIDE_WIRE : CX_SIDE_VPORTS;
	if ((pattern->mask.reg_c[0] & CX_META_MASK) != 0)
		sides &= (pattern->key.reg_c[0] & CX_META_MASK) == wire ? CX_SIDE_WIRE :
									  CX_SIDE_VPORTS;
	return sides;
}

static void
dump_field(FILE *file, const struct field *f, const struct esw_key *key, const struct esw_key *mask)
{
	uint32_t bits = ones(f->bits), m = key_get(mask, f) >> f->shift & bits;

	if (m != 0)
		fprintf(file, " %s=%#x/%#x", f->name, key_get(key, f) >> f->shift & bits, m);
}

static void
dump_address(FILE *file, const char *name, const char *which, const struct esw_key *key,
	     const struct esw_key *mask, uint16_t at)
{
	const uint8_t *bytes[] = { (const uint8_t *)key + at, (const uint8_t *)mask + at };
	uint32_t i, k;

	if (is_zero(bytes[1], 16))
		return;
	fprintf(file, " %s.%s=", name, which);
	for (i = 0; i < RTE_DIM(bytes); i++) {
		for (k = 0; k < 16; k++)
			fprintf(file, "%02x", bytes[i][k]);
		if (i == 0)
			fputc('/', file);
	}
}

/* Whether an earlier field has the same place in the key: what can no longer be distinguished is
 * said once. */
static bool
said(uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (fields[i].size != 0 && fields[i].key == fields[n].key &&
		    fields[i].shift == fields[n].shift)
			return true;
	return false;
}

/* Fields by name, each behind a space. */
void
cx_match_dump(FILE *file, const struct esw_key *key, const struct esw_key *mask)
{
	uint32_t i;

	for (i = 0; i < RTE_DIM(fields); i++)
		if (fields[i].size != 0 && !said(i))
			dump_field(file, &fields[i], key, mask);
	dump_field(file, &vxlan_word[1], key, mask);
	for (i = 0; i < ESW_L3_MAX; i++) {
		dump_field(file, &layers[i].version, key, mask);
		dump_address(file, layers[i].name, "src", key, mask, layers[i].key_src);
		dump_address(file, layers[i].name, "dst", key, mask, layers[i].key_dst);
	}
}
