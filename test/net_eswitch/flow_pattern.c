/* SPDX-License-Identifier: Apache-2.0 */

/* Reads the items of a rule's pattern into what the hash tables match, and refuses what the card
 * refuses. */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_vxlan.h>

#include "eswitch.h"

/* The largest item that is read. */
#define ITEM_MAX 64

/* The order of rules of equal priority: by the last header of the pattern. One without headers
 * ranks as one of L4. */
enum { DEPTH_L2, DEPTH_L3, DEPTH_L4 };

/* What the driver takes for the outer header of a tunnel, as bits. */
enum { TUNNEL_IPIP = 1, TUNNEL_IPV6 = 2, TUNNEL_VXLAN = 4 };

#define ANY_PROTO UINT8_MAX

struct reader {
	struct esw_port *port;
	struct esw_rule *rule;
	struct rte_flow_error *error;
	const struct rte_flow_item *item;
	char name[32];
	bool represented_port;
	bool port_id;
	uint32_t tunnels;
	bool behind_l2;   /* the item before is one of L2 */
	uint16_t l3_type; /* what that item's EtherType is under its mask, 0: anything */
	uint8_t proto;    /* what the last IP item says of the next one, or ANY_PROTO */
};

/* An item's spec and mask, the mask's default filled in. Without a spec both are zero: any such
 * header matches. */
struct values {
	uint8_t spec[ITEM_MAX] __rte_aligned(8);
	uint8_t mask[ITEM_MAX] __rte_aligned(8);
	uint8_t last[ITEM_MAX] __rte_aligned(8);
	bool range;
};

#define REFUSE_AS(r, code, kind, what, ...)                                                       \
	esw_flow_error((r)->error, code, RTE_FLOW_ERROR_TYPE_##kind, (r)->item, "item %s: " what, \
		       (r)->name, ##__VA_ARGS__)
#define REFUSE(r, code, what, ...) REFUSE_AS(r, code, ITEM, what, ##__VA_ARGS__)

static void
copy_masked(uint8_t *out, const void *in, const uint8_t *mask, size_t size)
{
	const uint8_t *bytes = in;
	size_t i;

	for (i = 0; i < size; i++)
		out[i] = bytes[i] & mask[i];
}

/* Reads spec, last and mask; supported has the bits that a mask may look at. */
static int
read_values(struct reader *r, const void *supported, const void *default_mask, size_t size,
	    struct values *v)
{
	const struct rte_flow_item *item = r->item;
	const uint8_t *allowed = supported;
	size_t i;

	memset(v, 0, sizeof(*v));
	memcpy(v->mask, item->mask != NULL ? item->mask : default_mask, size);
	for (i = 0; i < size; i++)
		if ((v->mask[i] & ~allowed[i]) != 0)
			return REFUSE(r, ENOTSUP,
				      "the mask looks at a field that is not supported (byte %zu)",
				      i);
	if (item->spec == NULL) {
		memset(v->mask, 0, size);
		if (item->mask != NULL || item->last != NULL)
			return REFUSE(r, EINVAL, "mask or last without a spec");
		return 0;
	}
	copy_masked(v->spec, item->spec, v->mask, size);
	if (item->last == NULL)
		return 0;
	copy_masked(v->last, item->last, v->mask, size);
	v->range = memcmp(v->last, v->spec, size) != 0;
	return 0;
}

/* Like read_values, for an item that takes no range. */
static int
read_exact(struct reader *r, const void *supported, const void *default_mask, size_t size,
	   struct values *v)
{
	int ret = read_values(r, supported, default_mask, size, v);

	return ret == 0 && v->range ? REFUSE(r, EINVAL, "ranges (last) are not supported") : ret;
}

/* Adds a condition: the bytes at a field of the key, under mask, equal spec. */
static void
require(struct reader *r, size_t offset, const void *spec, const void *mask, size_t size)
{
	memcpy((uint8_t *)&r->rule->pattern.key + offset, spec, size);
	memcpy((uint8_t *)&r->rule->pattern.mask + offset, mask, size);
}

static void
require_byte(struct reader *r, size_t offset, uint8_t value)
{
	const uint8_t all = UINT8_MAX;

	require(r, offset, &value, &all, 1);
}

#define KEY(field) offsetof(struct esw_key, field)
#define L2(layer, field) \
	(KEY(l2) + (layer) * sizeof(struct esw_l2) + offsetof(struct esw_l2, field))
#define L3(layer, field) \
	(KEY(l3) + (layer) * sizeof(struct esw_l3) + offsetof(struct esw_l3, field))
#define COPY(r, offset, v, type, field)                                                          \
	require(r, offset, (v)->spec + offsetof(type, field), (v)->mask + offsetof(type, field), \
		sizeof(((type *)0)->field))

static void
rank(struct reader *r, uint32_t depth)
{
	r->rule->pattern.depth = depth;
}

/* The headers that the driver counts the item among: behind what it takes for a tunnel they are the
 * inner ones. */
static struct esw_headers *
headers(struct reader *r)
{
	return &r->rule->headers[r->tunnels != 0 ? ESW_INNER : ESW_OUTER];
}

/* The headers that the card looks at: only VXLAN has inner ones, since the driver refuses all that
 * is IP in IP. */
static int
layer_of(const struct reader *r)
{
	return r->tunnels & TUNNEL_VXLAN ? ESW_INNER : ESW_OUTER;
}

/* The rule matches what comes from that port. */
static int
read_port(struct reader *r, uint32_t ethdev)
{
	struct esw_port *port = esw_nic_port_by_ethdev(r->port->nic, ethdev);

	if (port == NULL && !rte_eth_dev_is_valid_port(ethdev))
		return REFUSE_AS(r, ENODEV, ITEM_SPEC, "there is no port %u", ethdev);
	if (port == NULL || !esw_port_in_switch(port))
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "port %u is not in this switch domain",
				 ethdev);
	r->rule->info.source = port;
	return 0;
}

/* Reads an item that names a port by number. A pattern may have one of each kind; the last one
 * tells. */
static int
read_port_item(struct reader *r, bool *seen, const void *all, size_t size, struct values *v)
{
	if (!r->rule->info.attr.transfer)
		return REFUSE(r, EINVAL, "is valid in transfer rules only");
	if (*seen)
		return REFUSE(r, ENOTSUP, "the pattern names a source port already");
	*seen = true;
	r->behind_l2 = false;
	if (r->item->mask != NULL && memcmp(r->item->mask, all, size) != 0)
		return REFUSE_AS(r, ENOTSUP, ITEM_MASK, "partial masks are not supported");
	return read_exact(r, all, all, size, v);
}

static int
read_represented_port(struct reader *r)
{
	const struct rte_flow_item_ethdev all = { .port_id = UINT16_MAX };
	struct values v;
	int ret = read_port_item(r, &r->represented_port, &all, sizeof(all), &v);

	if (ret < 0)
		return ret;
	if (r->item->spec == NULL) {
		/* All ports of the switch, unless the other kind of item says which. */
		r->rule->info.any_source = !r->port_id;
		return 0;
	}
	return read_port(r, ((const struct rte_flow_item_ethdev *)v.spec)->port_id);
}

static int
read_port_id(struct reader *r)
{
	const struct rte_flow_item_port_id all = { .id = UINT32_MAX };
	struct values v;
	int ret = read_port_item(r, &r->port_id, &all, sizeof(all), &v);

	if (ret < 0)
		return ret;
	r->rule->info.any_source = false;
	if (r->item->spec == NULL) {
		r->rule->info.source = r->port;
		return 0;
	}
	return read_port(r, ((const struct rte_flow_item_port_id *)v.spec)->id);
}

static void
require_version(struct reader *r, uint8_t version)
{
	const rte_be16_t none = 0;

	require_byte(r, L3(layer_of(r), version), version);
	/* The card compares the EtherType or the version of IP. */
	require(r, L2(layer_of(r), type), &none, &none, sizeof(none));
}

/* A whole EtherType also says how the frame is tagged; true when that is all that it says. */
static bool
require_type(struct reader *r, int layer, rte_be16_t type)
{
	require_byte(r, L2(layer, cvlan), type == RTE_BE16(RTE_ETHER_TYPE_VLAN));
	switch (type) {
	case RTE_BE16(RTE_ETHER_TYPE_VLAN):
		return true;
	case RTE_BE16(RTE_ETHER_TYPE_QINQ):
		require_byte(r, L2(layer, svlan), 1);
		return true;
	case RTE_BE16(RTE_ETHER_TYPE_IPV4):
		require_version(r, 4);
		return true;
	case RTE_BE16(RTE_ETHER_TYPE_IPV6):
		require_version(r, 6);
		return true;
	default:
		return false;
	}
}

static void
translate_eth(struct reader *r, const struct values *v)
{
	const struct rte_flow_item_eth *spec = (const void *)v->spec, *mask = (const void *)v->mask;
	int layer = layer_of(r);

	COPY(r, L2(layer, dst), v, struct rte_flow_item_eth, hdr.dst_addr);
	COPY(r, L2(layer, src), v, struct rte_flow_item_eth, hdr.src_addr);
	if (mask->hdr.ether_type == UINT16_MAX && require_type(r, layer, spec->hdr.ether_type))
		return;
	if (mask->has_vlan) {
		require_byte(r, L2(layer, cvlan), spec->has_vlan);
		if (spec->has_vlan)
			return;
	}
	COPY(r, L2(layer, type), v, struct rte_flow_item_eth, hdr.ether_type);
}

static int
check_eth(struct reader *r)
{
	const struct esw_headers *h = headers(r);

	if (h->l2)
		return REFUSE(r, ENOTSUP, "multiple L2 layers are not supported");
	if (h->version != 0)
		return REFUSE(r, EINVAL, "L2 cannot follow L3");
	if (h->vlan)
		return REFUSE(r, EINVAL, "cannot follow a VLAN");
	return 0;
}

/* What the item says of the EtherType behind it: only if it comes with a mask. */
static void
end_l2(struct reader *r, rte_be16_t type, rte_be16_t mask)
{
	r->l3_type = r->item->mask == NULL ? 0 : rte_be_to_cpu_16(type & mask);
	r->behind_l2 = true;
	rank(r, DEPTH_L2);
}

static int
read_eth(struct reader *r)
{
	struct rte_flow_item_eth all, no_tag;
	const struct rte_flow_item_eth *spec, *mask;
	struct values v;
	int ret = check_eth(r);

	memset(&no_tag, 0, sizeof(no_tag));
	memset(&no_tag.hdr, 0xff, sizeof(no_tag.hdr));
	all = no_tag;
	all.has_vlan = 1;
	if (ret == 0)
		ret = read_exact(r, &all, &no_tag, sizeof(all), &v);
	if (ret < 0)
		return ret;
	headers(r)->l2 = true;
	translate_eth(r, &v);
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	end_l2(r, spec->hdr.ether_type, mask->hdr.ether_type);
	return 0;
}

static void
require_svlan(struct reader *r, int layer)
{
	require_byte(r, L2(layer, svlan), 1);
	require_byte(r, L2(layer, cvlan), 0);
}

/* A VLAN item asks for a tag of 0x8100, unless something says that there are two, or that the first
 * is one of 0x88a8. */
static void
translate_vlan(struct reader *r, const struct values *v)
{
	const struct rte_flow_item_vlan *spec = (const void *)v->spec,
					*mask = (const void *)v->mask;
	int layer = layer_of(r);

	if (r->rule->pattern.key.l2[layer].svlan == 0)
		require_byte(r, L2(layer, cvlan), 1);
	if (r->item->spec == NULL)
		return;
	COPY(r, L2(layer, tci), v, struct rte_flow_item_vlan, hdr.vlan_tci);
	if (mask->hdr.eth_proto == UINT16_MAX) {
		switch (spec->hdr.eth_proto) {
		case RTE_BE16(RTE_ETHER_TYPE_VLAN):
			require_svlan(r, layer);
			return;
		case RTE_BE16(RTE_ETHER_TYPE_IPV4):
			require_version(r, 4);
			return;
		case RTE_BE16(RTE_ETHER_TYPE_IPV6):
			require_version(r, 6);
			return;
		}
	}
	if (mask->has_more_vlan && spec->has_more_vlan) {
		require_svlan(r, layer);
		return;
	}
	if (mask->has_more_vlan)
		require_byte(r, L2(layer, svlan), 0);
	COPY(r, L2(layer, type), v, struct rte_flow_item_vlan, hdr.eth_proto);
}

static int
read_vlan(struct reader *r)
{
	const struct rte_flow_item_vlan *spec, *mask;
	struct esw_headers *h = headers(r);
	struct rte_flow_item_vlan all;
	struct values v;
	int ret;

	if (h->vlan)
		return REFUSE(r, EINVAL, "multiple VLAN layers are not supported");
	if (h->version != 0 || h->l4 != 0)
		return REFUSE(r, EINVAL, "cannot follow L3 or L4");
	memset(&all, 0, sizeof(all));
	memset(&all.hdr, 0xff, sizeof(all.hdr));
	all.has_more_vlan = 1;
	ret = read_exact(r, &all, &rte_flow_item_vlan_mask, sizeof(all), &v);
	if (ret < 0)
		return ret;
	h->vlan = true;
	translate_vlan(r, &v);
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	end_l2(r, spec->hdr.eth_proto, mask->hdr.eth_proto);
	return 0;
}

/* What an IP item says of the next protocol, if it comes with a mask that looks at it. */
static uint8_t
next_proto(const struct reader *r, uint8_t spec, uint8_t mask)
{
	return r->item->spec == NULL || r->item->mask == NULL || mask == 0 ? ANY_PROTO :
									     spec & mask;
}

/* The first IP header is taken for that of a tunnel if it says that IP follows. */
static void
detect_tunnel(struct reader *r)
{
	if (r->rule->headers[ESW_OUTER].version != 0)
		return;
	if (r->proto == IPPROTO_IPIP)
		r->tunnels |= TUNNEL_IPIP;
	else if (r->proto == IPPROTO_IPV6)
		r->tunnels |= TUNNEL_IPV6;
}

static int
check_l3_type(struct reader *r, uint16_t type)
{
	if (r->behind_l2 && r->l3_type != 0 && r->l3_type != type)
		return REFUSE(r, EINVAL, "the EtherType before it says something else");
	return 0;
}

static int
check_l3_order(struct reader *r)
{
	const struct esw_headers *h = headers(r);

	if (h->version != 0)
		return REFUSE(r, ENOTSUP, "multiple L3 layers are not supported");
	if (h->l4 != 0)
		return REFUSE(r, EINVAL, "L3 cannot follow L4");
	return 0;
}

static int
check_ipv4(struct reader *r)
{
	const struct rte_flow_item_ipv4 *mask = r->item->mask;
	int ret = check_l3_type(r, RTE_ETHER_TYPE_IPV4);

	if (ret < 0)
		return ret;
	if ((r->tunnels & TUNNEL_IPIP) && (r->proto == IPPROTO_IPIP || r->proto == IPPROTO_IPV6))
		return REFUSE(r, EINVAL,
			      "is taken for a tunnel's inner header that has a tunnel in it");
	if (r->tunnels & TUNNEL_IPV6)
		return REFUSE(r, EINVAL,
			      "IPv4 is taken for the inner header of a tunnel that carries IPv6");
	ret = check_l3_order(r);
	if (ret < 0)
		return ret;
	if (mask != NULL && mask->hdr.next_proto_id != 0 && mask->hdr.next_proto_id != UINT8_MAX)
		return REFUSE_AS(r, EINVAL, ITEM_MASK,
				 "partial masks of the protocol are not supported");
	return 0;
}

static int
check_fragment_range(struct reader *r, uint16_t spec, uint16_t last)
{
	if (spec == 1 && last == (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK))
		return 0;
	return REFUSE_AS(r, ENOTSUP, ITEM_LAST,
			 "of fragment_offset only 0 and the range from 1 to 0x3fff are supported");
}

/* A card knows whether a packet is a fragment, and no more. */
static int
check_fragment(struct reader *r, const struct values *v)
{
	const uint16_t full = RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK;
	uint16_t spec =
		rte_be_to_cpu_16(((const struct rte_flow_item_ipv4 *)v->spec)->hdr.fragment_offset);
	uint16_t mask =
		rte_be_to_cpu_16(((const struct rte_flow_item_ipv4 *)v->mask)->hdr.fragment_offset);

	if (spec == 0)
		return 0;
	if ((mask & full) != full)
		return REFUSE_AS(r, EINVAL, ITEM_MASK,
				 "fragment_offset takes the full mask 0x3fff only");
	if (spec == RTE_IPV4_HDR_MF_FLAG || r->item->last == NULL)
		return REFUSE(
			r, ENOTSUP,
			"of fragment_offset only 0 and the range from 1 to 0x3fff are supported");
	return check_fragment_range(
		r, spec,
		rte_be_to_cpu_16(
			((const struct rte_flow_item_ipv4 *)v->last)->hdr.fragment_offset));
}

static void
translate_ipv4(struct reader *r, const struct values *v)
{
	const struct rte_flow_item_ipv4 *spec = (const void *)v->spec,
					*mask = (const void *)v->mask;
	uint8_t ihl = spec->hdr.version_ihl & RTE_IPV4_HDR_IHL_MASK;
	uint8_t ihl_mask = mask->hdr.version_ihl & RTE_IPV4_HDR_IHL_MASK;
	int layer = layer_of(r);

	require_version(r, 4);
	require(r, L3(layer, src), &spec->hdr.src_addr, &mask->hdr.src_addr,
		sizeof(spec->hdr.src_addr));
	require(r, L3(layer, dst), &spec->hdr.dst_addr, &mask->hdr.dst_addr,
		sizeof(spec->hdr.dst_addr));
	COPY(r, L3(layer, proto), v, struct rte_flow_item_ipv4, hdr.next_proto_id);
	COPY(r, L3(layer, ttl), v, struct rte_flow_item_ipv4, hdr.time_to_live);
	COPY(r, L3(layer, tos), v, struct rte_flow_item_ipv4, hdr.type_of_service);
	require(r, L3(layer, ihl), &ihl, &ihl_mask, 1);
	if (mask->hdr.fragment_offset != 0)
		require_byte(r, L3(layer, fragment), spec->hdr.fragment_offset != 0);
}

static void
end_l3(struct reader *r, uint8_t version)
{
	headers(r)->version = version;
	r->behind_l2 = false;
	rank(r, DEPTH_L3);
}

static int
read_ipv4(struct reader *r)
{
	const struct rte_flow_item_ipv4 *spec = r->item->spec, *mask = r->item->mask;
	struct rte_flow_item_ipv4 all, usual;
	struct values v;
	int ret;

	r->proto = spec == NULL || mask == NULL ?
			   ANY_PROTO :
			   next_proto(r, spec->hdr.next_proto_id, mask->hdr.next_proto_id);
	detect_tunnel(r);
	memset(&usual, 0, sizeof(usual));
	usual.hdr.src_addr = usual.hdr.dst_addr = UINT32_MAX;
	usual.hdr.type_of_service = usual.hdr.next_proto_id = usual.hdr.time_to_live = UINT8_MAX;
	all = usual;
	all.hdr.fragment_offset = UINT16_MAX;
	if (mask != NULL && (mask->hdr.version_ihl & RTE_IPV4_HDR_IHL_MASK)) {
		if (r->port->nic->card == ESW_CX5)
			return REFUSE(r, ENOTSUP,
				      "a ConnectX-5 does not look at the header's length");
		all.hdr.version_ihl = mask->hdr.version_ihl;
	}
	ret = check_ipv4(r);
	if (ret == 0)
		ret = read_values(r, &all, &usual, sizeof(all), &v);
	if (ret == 0)
		ret = check_fragment(r, &v);
	if (ret < 0)
		return ret;
	translate_ipv4(r, &v);
	end_l3(r, 4);
	return 0;
}

static bool
is_extension(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_ESP:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return true;
	default:
		return false;
	}
}

static int
check_ipv6(struct reader *r)
{
	const struct rte_flow_item_ipv6 *spec = r->item->spec, *mask = r->item->mask;
	bool whole = spec != NULL && mask != NULL && mask->hdr.proto == UINT8_MAX;
	int ret = check_l3_type(r, RTE_ETHER_TYPE_IPV6);

	if (ret < 0)
		return ret;
	if ((r->tunnels & TUNNEL_IPIP) && whole &&
	    (r->proto == IPPROTO_IPIP || r->proto == IPPROTO_IPV6))
		return REFUSE(r, EINVAL,
			      "is taken for a tunnel's inner header that has a tunnel in it");
	if (whole && is_extension(spec->hdr.proto))
		return REFUSE(r, EINVAL, "the next header is not to be an extension header");
	if (r->tunnels & TUNNEL_IPIP)
		return REFUSE(r, EINVAL,
			      "IPv6 is taken for the inner header of a tunnel that carries IPv4");
	return check_l3_order(r);
}

static void
translate_ipv6(struct reader *r, const struct values *v)
{
	const struct rte_flow_item_ipv6 *spec = (const void *)v->spec,
					*mask = (const void *)v->mask;
	const rte_be32_t label_bits = RTE_BE32(RTE_IPV6_HDR_FL_MASK);
	rte_be32_t label = spec->hdr.vtc_flow & label_bits,
		   label_mask = mask->hdr.vtc_flow & label_bits;
	uint8_t tos = rte_be_to_cpu_32(spec->hdr.vtc_flow) >> RTE_IPV6_HDR_TC_SHIFT;
	uint8_t tos_mask = rte_be_to_cpu_32(mask->hdr.vtc_flow) >> RTE_IPV6_HDR_TC_SHIFT;
	int layer = layer_of(r);

	require_version(r, 6);
	require(r, L3(layer, tos), &tos, &tos_mask, 1);
	require(r, L3(layer, flow_label), &label, &label_mask, sizeof(label));
	require(r, L3(layer, src), &spec->hdr.src_addr, &mask->hdr.src_addr,
		sizeof(spec->hdr.src_addr));
	require(r, L3(layer, dst), &spec->hdr.dst_addr, &mask->hdr.dst_addr,
		sizeof(spec->hdr.dst_addr));
	COPY(r, L3(layer, proto), v, struct rte_flow_item_ipv6, hdr.proto);
	COPY(r, L3(layer, ttl), v, struct rte_flow_item_ipv6, hdr.hop_limits);
	if (mask->has_frag_ext)
		require_byte(r, L3(layer, fragment), spec->has_frag_ext);
}

static int
read_ipv6(struct reader *r)
{
	const struct rte_flow_item_ipv6 *spec = r->item->spec, *mask = r->item->mask;
	struct rte_flow_item_ipv6 all, usual;
	struct values v;
	int ret;

	r->proto = spec == NULL || mask == NULL ? ANY_PROTO :
						  next_proto(r, spec->hdr.proto, mask->hdr.proto);
	detect_tunnel(r);
	memset(&usual, 0, sizeof(usual));
	memset(&usual.hdr, 0xff, sizeof(usual.hdr));
	usual.hdr.payload_len = 0;
	all = usual;
	all.has_frag_ext = 1;
	ret = check_ipv6(r);
	if (ret == 0)
		ret = read_exact(r, &all, &usual, sizeof(all), &v);
	if (ret < 0)
		return ret;
	translate_ipv6(r, &v);
	end_l3(r, 6);
	return 0;
}

/* A field of an L4 item, and where the key has it within a layer. */
struct l4_field {
	uint8_t at;
	uint8_t size;
	uint8_t key;
};

/* The items of L4: they differ only in what this table says. */
static const struct l4_item {
	enum rte_flow_item_type type;
	uint8_t proto;
	uint8_t ip_version; /* that has to be before it; 0: either */
	bool counted;       /* the driver counts it among the rule's headers */
	size_t size;
	const void *default_mask;
	struct l4_field fields[5]; /* up to one of size 0 */
} l4_items[] = {
#define FIELD(item, name, field)                                          \
	{                                                                 \
		offsetof(struct rte_flow_item_##item, name),              \
			sizeof(((struct rte_flow_item_##item *)0)->name), \
			offsetof(struct esw_l3, field)                    \
	}
#define ITEM(kind, item)                                                                \
	.type = RTE_FLOW_ITEM_TYPE_##kind, .size = sizeof(struct rte_flow_item_##item), \
	.default_mask = &rte_flow_item_##item##_mask
	{ ITEM(TCP, tcp), .proto = IPPROTO_TCP, .counted = true,
	  .fields = { FIELD(tcp, hdr.src_port, src_port), FIELD(tcp, hdr.dst_port, dst_port),
		      FIELD(tcp, hdr.tcp_flags, tcp_flags) } },
	{ ITEM(UDP, udp), .proto = IPPROTO_UDP, .counted = true,
	  .fields = { FIELD(udp, hdr.src_port, src_port), FIELD(udp, hdr.dst_port, dst_port) } },
	{ ITEM(ICMP, icmp), .proto = IPPROTO_ICMP, .ip_version = 4,
	  .fields = { FIELD(icmp, hdr.icmp_type, icmp_type), FIELD(icmp, hdr.icmp_code, icmp_code),
		      FIELD(icmp, hdr.icmp_ident, icmp_ident),
		      FIELD(icmp, hdr.icmp_seq_nb, icmp_seq) } },
	{ ITEM(ICMP6, icmp6), .proto = IPPROTO_ICMPV6, .ip_version = 6,
	  .fields = { FIELD(icmp6, type, icmp_type), FIELD(icmp6, code, icmp_code) } },
#undef ITEM
#undef FIELD
};

static int
check_l4(struct reader *r, const struct l4_item *l4)
{
	const struct esw_headers *h = headers(r);

	if (r->proto != ANY_PROTO && r->proto != l4->proto)
		return REFUSE(r, EINVAL, "the protocol of the IP header says something else");
	if (h->version == 0 && l4->ip_version == 0)
		return REFUSE(r, EINVAL, "L3 is mandatory before L4");
	if (l4->ip_version != 0 && h->version != l4->ip_version)
		return REFUSE(r, EINVAL, "IPv%u is mandatory before it", l4->ip_version);
	if (h->l4 != 0)
		return REFUSE(r, EINVAL, "multiple L4 layers are not supported");
	return 0;
}

static int
read_l4(struct reader *r, const struct l4_item *l4)
{
	uint8_t all[ITEM_MAX] = { 0 };
	size_t layer = KEY(l3) + layer_of(r) * sizeof(struct esw_l3);
	const struct l4_field *f;
	struct values v;
	int ret = check_l4(r, l4);

	if (ret < 0)
		return ret;
	for (f = l4->fields; f->size != 0; f++)
		memset(all + f->at, 0xff, f->size);
	ret = read_exact(r, all, l4->default_mask, l4->size, &v);
	if (ret < 0)
		return ret;
	for (f = l4->fields; f->size != 0; f++)
		require(r, layer + f->key, v.spec + f->at, v.mask + f->at, f->size);
	if (l4->counted)
		headers(r)->l4 = l4->proto;
	if (l4->type == RTE_FLOW_ITEM_TYPE_ICMP6)
		r->rule->icmp6 = true;
	require_byte(r, L3(layer_of(r), l4), l4->proto);
	r->behind_l2 = false;
	rank(r, DEPTH_L4);
	return 0;
}

static int
check_vxlan(struct reader *r)
{
	if (r->tunnels != 0)
		return REFUSE(r, ENOTSUP, "multiple tunnel layers are not supported");
	if (r->rule->headers[ESW_OUTER].l4 != IPPROTO_UDP)
		return REFUSE(r, EINVAL, "UDP is mandatory before it");
	return 0;
}

/* To the driver VXLAN is a UDP port, unless the UDP item has named one. Of what is no VXLAN the VNI
 * is 0. */
static void
require_vxlan_port(struct reader *r)
{
	const rte_be16_t port = RTE_BE16(RTE_VXLAN_DEFAULT_PORT), all = UINT16_MAX;

	if (r->rule->pattern.key.l3[ESW_OUTER].dst_port == 0)
		require(r, L3(ESW_OUTER, dst_port), &port, &all, sizeof(port));
}

static int
read_vxlan(struct reader *r)
{
	struct rte_flow_item_vxlan all;
	struct values v;
	int ret = check_vxlan(r);

	memset(&all, 0, sizeof(all));
	memset(all.vni, 0xff, sizeof(all.vni));
	if (ret == 0)
		ret = read_exact(r, &all, &rte_flow_item_vxlan_mask, sizeof(all), &v);
	if (ret < 0)
		return ret;
	r->tunnels |= TUNNEL_VXLAN;
	r->behind_l2 = false;
	require_vxlan_port(r);
	COPY(r, KEY(vni), &v, struct rte_flow_item_vxlan, vni);
	rank(r, DEPTH_L4);
	return 0;
}

/* Reads an item that is one register, at that offset of the key, of which it looks at all without a
 * mask. */
static int
read_register(struct reader *r, size_t offset, uint32_t supported, uint32_t all)
{
	uint32_t already, mask;
	struct values v;
	int ret;

	r->behind_l2 = false;
	if (r->item->type == RTE_FLOW_ITEM_TYPE_META && r->item->spec == NULL)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "needs a spec");
	/* What the application sends has metadata in any case. */
	if (!esw_port_has_metadata(r->port) &&
	    !(r->item->type == RTE_FLOW_ITEM_TYPE_META && r->rule->info.attr.egress))
		return REFUSE(r, ENOTSUP, "needs extended metadata (dv_xmeta_en=1)");
	if (r->item->spec == NULL)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "needs a spec");
	ret = read_exact(r, &supported, &all, sizeof(supported), &v);
	if (ret < 0)
		return ret;
	memcpy(&mask, v.mask, sizeof(mask));
	if (mask == 0)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "the mask is 0");
	memcpy(&already, (uint8_t *)&r->rule->pattern.mask + offset, sizeof(already));
	if (already != 0)
		return REFUSE(r, EINVAL, "is given twice");
	require(r, offset, v.spec, v.mask, sizeof(uint32_t));
	return 0;
}

static int
check_tag(struct reader *r)
{
	const struct rte_flow_item_tag *mask =
		r->item->mask == NULL ? &rte_flow_item_tag_mask : r->item->mask;

	if (r->item->spec == NULL)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "needs a spec");
	if (mask->data == 0)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "the mask is 0");
	return 0;
}

static int
read_tag(struct reader *r)
{
	const struct rte_flow_item_tag all = { .data = UINT32_MAX, .index = UINT8_MAX };
	const struct rte_flow_item_tag *spec, *mask;
	struct values v;
	int ret = check_tag(r);

	if (ret == 0)
		ret = read_exact(r, &all, &rte_flow_item_tag_mask, sizeof(all), &v);
	if (ret < 0)
		return ret;
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	if (mask->index != UINT8_MAX)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC,
				 "partial masks of the index are not supported");
	if (spec->index >= ESW_TAGS)
		return REFUSE(r, spec->index < ESW_TAG_NAMES ? ENOTSUP : EINVAL,
			      "there is no tag %u", spec->index);
	if (r->rule->tags & 1u << spec->index)
		return REFUSE_AS(r, EINVAL, ITEM_SPEC, "index %u is given twice", spec->index);
	r->rule->tags |= 1u << spec->index;
	r->behind_l2 = false;
	require(r, KEY(metadata.tag) + spec->index * sizeof(uint32_t), &spec->data, &mask->data,
		sizeof(uint32_t));
	return 0;
}

static int
read_item(struct reader *r)
{
	size_t i;

	for (i = 0; i < RTE_DIM(l4_items); i++)
		if (r->item->type == l4_items[i].type)
			return read_l4(r, &l4_items[i]);
	switch (r->item->type) {
	case RTE_FLOW_ITEM_TYPE_VOID:
		return 0;
	case RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT:
		return read_represented_port(r);
	case RTE_FLOW_ITEM_TYPE_PORT_ID:
		return read_port_id(r);
	case RTE_FLOW_ITEM_TYPE_ETH:
		return read_eth(r);
	case RTE_FLOW_ITEM_TYPE_VLAN:
		return read_vlan(r);
	case RTE_FLOW_ITEM_TYPE_IPV4:
		return read_ipv4(r);
	case RTE_FLOW_ITEM_TYPE_IPV6:
		return read_ipv6(r);
	case RTE_FLOW_ITEM_TYPE_VXLAN:
		return read_vxlan(r);
	case RTE_FLOW_ITEM_TYPE_MARK:
		return read_register(r, KEY(metadata.mark), ESW_MARK_MASK, ESW_MARK_MASK);
	case RTE_FLOW_ITEM_TYPE_META:
		return read_register(r, KEY(metadata.meta),
				     esw_port_meta_mask(r->port, &r->rule->info.attr), UINT32_MAX);
	case RTE_FLOW_ITEM_TYPE_TAG:
		return read_tag(r);
	default:
		return REFUSE(r, ENOTSUP, "is not supported");
	}
}

static void
name_item(struct reader *r)
{
	if (rte_flow_conv(RTE_FLOW_CONV_OP_ITEM_NAME, r->name, sizeof(r->name),
			  (const void *)(uintptr_t)r->item->type, NULL) < 0)
		snprintf(r->name, sizeof(r->name), "%d", r->item->type);
}

/* Transfer rules are in the switch's tables, those of the other domains in their port's own. */
static void
require_source(struct reader *r)
{
	const struct esw_rule_info *info = &r->rule->info;
	const uint16_t vport = esw_port_vport(info->source), all = UINT16_MAX;

	if (info->attr.transfer && !info->any_source)
		require(r, KEY(card.vport), &vport, &all, sizeof(all));
}

/* Reads the pattern into rule->pattern, and of rule->info the source. */
int
esw_rule_pattern(struct esw_port *port, const struct rte_flow_item *items, struct esw_rule *rule,
		 struct rte_flow_error *error)
{
	struct reader r = { .port = port, .rule = rule, .error = error, .proto = ANY_PROTO };
	int ret;

	rule->info.source = port;
	rule->pattern.priority = rule->info.attr.priority;
	rule->pattern.depth = DEPTH_L4;
	for (r.item = items; r.item->type != RTE_FLOW_ITEM_TYPE_END; r.item++) {
		name_item(&r);
		ret = read_item(&r);
		if (ret < 0)
			return ret;
	}
	require_source(&r);
	return 0;
}
