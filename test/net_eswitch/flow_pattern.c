/* SPDX-License-Identifier: Apache-2.0 */

/* Reads the items of a rule's pattern into what the hash tables match, and refuses what the card refuses. */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_vxlan.h>

#include "eswitch.h"

/* The largest item that is read. */
#define ITEM_MAX 64

/* How deep a header lies, for the order of rules of equal priority. */
enum { DEPTH_PORT, DEPTH_L2, DEPTH_L3, DEPTH_L4, DEPTH_TUNNEL, DEPTH_INNER_L3, DEPTH_INNER_L4 };

struct reader {
	struct esw_port *port;
	struct esw_rule *rule;
	struct rte_flow_error *error;
	const struct rte_flow_item *item;
	char name[32];
	bool port_item;
	bool vxlan;
	bool inner_eth;
	rte_be16_t l3_type;	/* what the L2 items say follows, 0: anything */
	int l3;			/* IP headers read so far */
	bool l4;
};

/* An item's spec and mask, the mask's default filled in. Without a spec both are zero: any such header matches. */
struct values {
	uint8_t spec[ITEM_MAX] __rte_aligned(8);
	uint8_t mask[ITEM_MAX] __rte_aligned(8);
	uint8_t last[ITEM_MAX] __rte_aligned(8);
	bool range;
};

#define REFUSE(r, code, what, ...) \
	esw_flow_error((r)->error, code, RTE_FLOW_ERROR_TYPE_ITEM, (r)->item, "item %s: " what, (r)->name, ##__VA_ARGS__)

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
read_values(struct reader *r, const void *supported, const void *default_mask, size_t size, struct values *v)
{
	const struct rte_flow_item *item = r->item;
	const uint8_t *allowed = supported;
	size_t i;

	memset(v, 0, sizeof(*v));
	if (item->spec == NULL) {
		if (item->mask != NULL || item->last != NULL)
			return REFUSE(r, EINVAL, "mask or last without a spec");
		return 0;
	}
	memcpy(v->mask, item->mask != NULL ? item->mask : default_mask, size);
	for (i = 0; i < size; i++)
		if ((v->mask[i] & ~allowed[i]) != 0)
			return REFUSE(r, ENOTSUP, "the mask looks at a field that is not supported (byte %zu)", i);
	copy_masked(v->spec, item->spec, v->mask, size);
	if (item->last == NULL)
		return 0;
	copy_masked(v->last, item->last, v->mask, size);
	v->range = memcmp(v->last, v->spec, size) != 0;
	return 0;
}

static int
no_range(struct reader *r, const struct values *v)
{
	return v->range ? REFUSE(r, EINVAL, "ranges (last) are not supported") : 0;
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
#define L3(layer, field) (KEY(l3) + (layer) * sizeof(struct esw_l3) + offsetof(struct esw_l3, field))
#define COPY(r, offset, v, type, field) \
	require(r, offset, (v)->spec + offsetof(type, field), (v)->mask + offsetof(type, field), \
		sizeof(((type *)0)->field))

static void
deepen(struct reader *r, uint32_t depth)
{
	r->rule->pattern.depth = RTE_MAX(r->rule->pattern.depth, depth);
}

static int
read_port(struct reader *r, uint32_t ethdev, bool full_mask, bool any)
{
	struct esw_port *port;

	if (!r->rule->info.attr.transfer)
		return REFUSE(r, EINVAL, "is valid in transfer rules only");
	if (r->port_item)
		return REFUSE(r, ENOTSUP, "the pattern names a source port already");
	r->port_item = true;
	if (any)
		return 0;
	if (!full_mask)
		return REFUSE(r, ENOTSUP, "partial masks are not supported");
	port = esw_nic_port_by_ethdev(r->port->nic, ethdev);
	if (port == NULL && !rte_eth_dev_is_valid_port(ethdev))
		return REFUSE(r, ENODEV, "there is no port %u", ethdev);
	if (port == NULL || !esw_port_in_switch(port))
		return REFUSE(r, EINVAL, "port %u is not in this switch domain", ethdev);
	r->rule->info.source = port;
	return 0;
}

static int
read_represented_port(struct reader *r)
{
	const struct rte_flow_item_ethdev all = { .port_id = UINT16_MAX };
	const struct rte_flow_item_ethdev *spec, *mask;
	struct values v;
	int ret = read_values(r, &all, &all, sizeof(all), &v);

	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	return read_port(r, spec->port_id, mask->port_id == UINT16_MAX, r->item->spec == NULL);
}

static int
read_port_id(struct reader *r)
{
	const struct rte_flow_item_port_id all = { .id = UINT32_MAX };
	const struct rte_flow_item_port_id *spec, *mask;
	struct values v;
	int ret = read_values(r, &all, &all, sizeof(all), &v);

	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	return read_port(r, spec->id, mask->id == UINT32_MAX, r->item->spec == NULL);
}

/* Reads the Ethernet header of the frame that VXLAN carries. */
static int
read_inner_eth(struct reader *r)
{
	struct rte_flow_item_eth all;
	const struct rte_flow_item_eth *spec, *mask;
	struct values v;
	int ret;

	if (r->inner_eth)
		return REFUSE(r, ENOTSUP, "multiple L2 layers are not supported");
	if (r->l3 > 1)
		return REFUSE(r, EINVAL, "L2 cannot follow L3");
	memset(&all, 0, sizeof(all));
	memset(&all.hdr, 0xff, sizeof(all.hdr));
	ret = read_values(r, &all, &rte_flow_item_eth_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	r->inner_eth = true;
	COPY(r, KEY(inner_eth_dst), &v, struct rte_flow_item_eth, hdr.dst_addr);
	COPY(r, KEY(inner_eth_src), &v, struct rte_flow_item_eth, hdr.src_addr);
	COPY(r, KEY(inner_eth_type), &v, struct rte_flow_item_eth, hdr.ether_type);
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	if (mask->hdr.ether_type == UINT16_MAX)
		r->l3_type = spec->hdr.ether_type;
	return 0;
}

static int
read_eth(struct reader *r)
{
	struct rte_flow_item_eth all;
	const struct rte_flow_item_eth *spec, *mask;
	struct values v;
	int ret;

	if (r->vxlan)
		return read_inner_eth(r);
	if (r->rule->has_eth)
		return REFUSE(r, ENOTSUP, "multiple L2 layers are not supported");
	if (r->l3 > 0)
		return REFUSE(r, EINVAL, "L2 cannot follow L3");
	if (r->rule->has_vlan)
		return REFUSE(r, EINVAL, "cannot follow a VLAN");
	memset(&all, 0, sizeof(all));
	memset(&all.hdr, 0xff, sizeof(all.hdr));
	all.has_vlan = 1;
	ret = read_values(r, &all, &rte_flow_item_eth_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	r->rule->has_eth = true;
	deepen(r, DEPTH_L2);
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	COPY(r, KEY(eth_dst), &v, struct rte_flow_item_eth, hdr.dst_addr);
	COPY(r, KEY(eth_src), &v, struct rte_flow_item_eth, hdr.src_addr);
	COPY(r, KEY(eth_type), &v, struct rte_flow_item_eth, hdr.ether_type);
	if (mask->has_vlan)
		require_byte(r, KEY(cvlan), spec->has_vlan);
	if (mask->hdr.ether_type == UINT16_MAX)
		r->l3_type = spec->hdr.ether_type;
	return 0;
}

static int
read_vlan(struct reader *r)
{
	struct rte_flow_item_vlan all;
	const struct rte_flow_item_vlan *spec, *mask;
	struct values v;
	int ret;

	if (r->rule->has_vlan)
		return REFUSE(r, EINVAL, "multiple VLAN layers are not supported");
	if (r->l3 > 0)
		return REFUSE(r, EINVAL, "cannot follow L3");
	memset(&all, 0, sizeof(all));
	memset(&all.hdr, 0xff, sizeof(all.hdr));
	all.has_more_vlan = 1;
	ret = read_values(r, &all, &rte_flow_item_vlan_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	r->rule->has_vlan = true;
	deepen(r, DEPTH_L2);
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	if (r->rule->pattern.mask.cvlan && !r->rule->pattern.key.cvlan)
		return REFUSE(r, EINVAL, "the L2 item before it says that there is none");
	require_byte(r, KEY(cvlan), 1);
	COPY(r, KEY(vlan_tci), &v, struct rte_flow_item_vlan, hdr.vlan_tci);
	COPY(r, KEY(eth_type), &v, struct rte_flow_item_vlan, hdr.eth_proto);
	if (mask->has_more_vlan)
		require_byte(r, KEY(svlan), spec->has_more_vlan);
	r->l3_type = mask->hdr.eth_proto == UINT16_MAX ? spec->hdr.eth_proto : 0;
	return 0;
}

/* Begins an IP header; returns its layer, or an error. Inside another IP header it says which protocol carries it. */
static int
begin_l3(struct reader *r, rte_be16_t type, uint8_t carried_as)
{
	int layer = r->l3;

	if (r->l4)
		return REFUSE(r, EINVAL, "L3 cannot follow L4");
	if (layer == ESW_L3_MAX)
		return REFUSE(r, ENOTSUP, "more than two L3 layers are not supported");
	if (layer == ESW_OUTER || r->vxlan) {
		if (r->l3_type != 0 && r->l3_type != type)
			return REFUSE(r, EINVAL, "the EtherType before it says something else");
	} else {
		const struct esw_l3 *outer = &r->rule->pattern.key.l3[ESW_OUTER];

		if (r->rule->pattern.mask.l3[ESW_OUTER].proto != 0 && outer->proto != carried_as)
			return REFUSE(r, EINVAL, "the protocol of the outer header says something else");
		require_byte(r, L3(ESW_OUTER, proto), carried_as);
	}
	r->l3++;
	require_byte(r, L3(layer, version), type == RTE_BE16(RTE_ETHER_TYPE_IPV4) ? 4 : 6);
	deepen(r, layer == ESW_OUTER ? DEPTH_L3 : DEPTH_INNER_L3);
	return layer;
}

static int
read_ipv4_fragment(struct reader *r, int layer, const struct values *v)
{
	const struct rte_flow_item_ipv4 *spec = (const void *)v->spec;
	const struct rte_flow_item_ipv4 *last = (const void *)v->last;
	const struct rte_flow_item_ipv4 *mask = (const void *)v->mask;
	const rte_be16_t full = RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK);

	if (mask->hdr.fragment_offset == 0)
		return no_range(r, v);
	if (mask->hdr.fragment_offset != full)
		return REFUSE(r, EINVAL, "fragment_offset takes the full mask 0x3fff only");
	if (spec->hdr.fragment_offset == 0 && !v->range) {
		require_byte(r, L3(layer, fragment), 0);
		return 0;
	}
	if (v->range && last->hdr.fragment_offset == full) {
		require_byte(r, L3(layer, fragment), 1);
		return 0;
	}
	return REFUSE(r, ENOTSUP, "of fragment_offset only 0 and ranges up to 0x3fff are supported");
}

static int
read_ipv4(struct reader *r)
{
	struct rte_flow_item_ipv4 all;
	const struct rte_flow_item_ipv4 *mask;
	struct values v;
	int layer, ret;

	memset(&all, 0xff, sizeof(all));
	all.hdr.version_ihl = 0;
	all.hdr.total_length = 0;
	all.hdr.packet_id = 0;
	all.hdr.hdr_checksum = 0;
	ret = read_values(r, &all, &rte_flow_item_ipv4_mask, sizeof(all), &v);
	if (ret < 0)
		return ret;
	layer = begin_l3(r, RTE_BE16(RTE_ETHER_TYPE_IPV4), IPPROTO_IPIP);
	if (layer < 0)
		return layer;
	mask = (const void *)v.mask;
	if (mask->hdr.next_proto_id != 0 && mask->hdr.next_proto_id != UINT8_MAX)
		return REFUSE(r, EINVAL, "partial masks of the protocol are not supported");
	require(r, L3(layer, src), v.spec + offsetof(struct rte_flow_item_ipv4, hdr.src_addr),
		v.mask + offsetof(struct rte_flow_item_ipv4, hdr.src_addr), sizeof(all.hdr.src_addr));
	require(r, L3(layer, dst), v.spec + offsetof(struct rte_flow_item_ipv4, hdr.dst_addr),
		v.mask + offsetof(struct rte_flow_item_ipv4, hdr.dst_addr), sizeof(all.hdr.dst_addr));
	COPY(r, L3(layer, proto), &v, struct rte_flow_item_ipv4, hdr.next_proto_id);
	COPY(r, L3(layer, ttl), &v, struct rte_flow_item_ipv4, hdr.time_to_live);
	COPY(r, L3(layer, tos), &v, struct rte_flow_item_ipv4, hdr.type_of_service);
	return read_ipv4_fragment(r, layer, &v);
}

static int
check_ipv6_proto(struct reader *r, const struct rte_flow_item_ipv6 *spec, const struct rte_flow_item_ipv6 *mask)
{
	if (mask->hdr.proto == 0)
		return 0;
	if (mask->hdr.proto != UINT8_MAX)
		return REFUSE(r, EINVAL, "partial masks of the next header are not supported");
	switch (spec->hdr.proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_DSTOPTS:
		return REFUSE(r, EINVAL, "the next header is not to be an extension header");
	default:
		return 0;
	}
}

static int
read_ipv6(struct reader *r)
{
	const uint32_t traffic_class = RTE_BE32(0x0ff00000);
	struct rte_flow_item_ipv6 all;
	const struct rte_flow_item_ipv6 *spec, *mask;
	uint8_t tos, tos_mask;
	struct values v;
	int layer, ret;

	memset(&all, 0, sizeof(all));
	memset(&all.hdr, 0xff, sizeof(all.hdr));
	all.hdr.vtc_flow = traffic_class;
	all.hdr.payload_len = 0;
	all.has_frag_ext = 1;
	ret = read_values(r, &all, &rte_flow_item_ipv6_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	ret = check_ipv6_proto(r, spec, mask);
	if (ret < 0)
		return ret;
	layer = begin_l3(r, RTE_BE16(RTE_ETHER_TYPE_IPV6), IPPROTO_IPV6);
	if (layer < 0)
		return layer;
	tos = rte_be_to_cpu_32(spec->hdr.vtc_flow) >> 20;
	tos_mask = rte_be_to_cpu_32(mask->hdr.vtc_flow) >> 20;
	require(r, L3(layer, tos), &tos, &tos_mask, 1);
	require(r, L3(layer, src), v.spec + offsetof(struct rte_flow_item_ipv6, hdr.src_addr),
		v.mask + offsetof(struct rte_flow_item_ipv6, hdr.src_addr), sizeof(all.hdr.src_addr));
	require(r, L3(layer, dst), v.spec + offsetof(struct rte_flow_item_ipv6, hdr.dst_addr),
		v.mask + offsetof(struct rte_flow_item_ipv6, hdr.dst_addr), sizeof(all.hdr.dst_addr));
	COPY(r, L3(layer, proto), &v, struct rte_flow_item_ipv6, hdr.proto);
	COPY(r, L3(layer, ttl), &v, struct rte_flow_item_ipv6, hdr.hop_limits);
	if (mask->has_frag_ext)
		require_byte(r, L3(layer, fragment), spec->has_frag_ext);
	return 0;
}

/* Begins an L4 header; returns the layer of the IP header before it, or an error. */
static int
begin_l4(struct reader *r, uint8_t proto, uint8_t version)
{
	int layer = r->l3 - 1;
	const struct esw_l3 *key, *mask;

	if (layer < 0)
		return REFUSE(r, EINVAL, "L3 is mandatory before L4");
	if (r->l4)
		return REFUSE(r, EINVAL, "multiple L4 layers are not supported");
	key = &r->rule->pattern.key.l3[layer];
	mask = &r->rule->pattern.mask.l3[layer];
	if (version != 0 && key->version != version)
		return REFUSE(r, EINVAL, "IPv%u is mandatory before it", version);
	if (mask->proto != 0 && key->proto != proto)
		return REFUSE(r, EINVAL, "the protocol of the IP header says something else");
	r->l4 = true;
	require_byte(r, L3(layer, l4), proto);
	deepen(r, layer == ESW_OUTER ? DEPTH_L4 : DEPTH_INNER_L4);
	return layer;
}

static int
read_tcp(struct reader *r)
{
	struct rte_flow_item_tcp all;
	struct values v;
	int layer, ret;

	memset(&all, 0, sizeof(all));
	all.hdr.src_port = all.hdr.dst_port = UINT16_MAX;
	all.hdr.tcp_flags = UINT8_MAX;
	ret = read_values(r, &all, &rte_flow_item_tcp_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	layer = begin_l4(r, IPPROTO_TCP, 0);
	if (layer < 0)
		return layer;
	COPY(r, L3(layer, src_port), &v, struct rte_flow_item_tcp, hdr.src_port);
	COPY(r, L3(layer, dst_port), &v, struct rte_flow_item_tcp, hdr.dst_port);
	COPY(r, L3(layer, tcp_flags), &v, struct rte_flow_item_tcp, hdr.tcp_flags);
	return 0;
}

static int
read_udp(struct reader *r)
{
	struct rte_flow_item_udp all;
	struct values v;
	int layer, ret;

	memset(&all, 0, sizeof(all));
	all.hdr.src_port = all.hdr.dst_port = UINT16_MAX;
	ret = read_values(r, &all, &rte_flow_item_udp_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	layer = begin_l4(r, IPPROTO_UDP, 0);
	if (layer < 0)
		return layer;
	COPY(r, L3(layer, src_port), &v, struct rte_flow_item_udp, hdr.src_port);
	COPY(r, L3(layer, dst_port), &v, struct rte_flow_item_udp, hdr.dst_port);
	return 0;
}

static int
read_icmp(struct reader *r)
{
	struct rte_flow_item_icmp all;
	struct values v;
	int layer, ret;

	memset(&all, 0, sizeof(all));
	all.hdr.icmp_type = all.hdr.icmp_code = UINT8_MAX;
	all.hdr.icmp_ident = UINT16_MAX;
	ret = read_values(r, &all, &rte_flow_item_icmp_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	layer = begin_l4(r, IPPROTO_ICMP, 4);
	if (layer < 0)
		return layer;
	COPY(r, L3(layer, icmp_type), &v, struct rte_flow_item_icmp, hdr.icmp_type);
	COPY(r, L3(layer, icmp_code), &v, struct rte_flow_item_icmp, hdr.icmp_code);
	COPY(r, L3(layer, icmp_ident), &v, struct rte_flow_item_icmp, hdr.icmp_ident);
	return 0;
}

static int
read_icmp6(struct reader *r)
{
	struct rte_flow_item_icmp6 all;
	struct values v;
	int layer, ret;

	memset(&all, 0, sizeof(all));
	all.type = all.code = UINT8_MAX;
	ret = read_values(r, &all, &rte_flow_item_icmp6_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	layer = begin_l4(r, IPPROTO_ICMPV6, 6);
	if (layer < 0)
		return layer;
	COPY(r, L3(layer, icmp_type), &v, struct rte_flow_item_icmp6, type);
	COPY(r, L3(layer, icmp_code), &v, struct rte_flow_item_icmp6, code);
	return 0;
}

static int
begin_vxlan(struct reader *r)
{
	const struct esw_l3 *key = &r->rule->pattern.key.l3[ESW_OUTER];
	const struct esw_l3 *mask = &r->rule->pattern.mask.l3[ESW_OUTER];

	if (r->vxlan || r->l3 == ESW_L3_MAX)
		return REFUSE(r, ENOTSUP, "multiple tunnel layers are not supported");
	if (!r->l4 || key->l4 != IPPROTO_UDP)
		return REFUSE(r, EINVAL, "UDP is mandatory before it");
	if (mask->dst_port == UINT16_MAX && key->dst_port != RTE_BE16(RTE_VXLAN_DEFAULT_PORT))
		return REFUSE(r, ENOTSUP, "the UDP destination port is to be %u", RTE_VXLAN_DEFAULT_PORT);
	r->vxlan = true;
	r->l4 = false;
	r->l3_type = 0;
	require_byte(r, KEY(vxlan), 1);
	deepen(r, DEPTH_TUNNEL);
	return 0;
}

static int
read_vxlan(struct reader *r)
{
	static const uint8_t no_vni[3];
	struct rte_flow_item_vxlan all;
	const struct rte_flow_item_vxlan *spec, *mask;
	struct values v;
	int ret;

	memset(&all, 0, sizeof(all));
	memset(all.vni, 0xff, sizeof(all.vni));
	ret = read_values(r, &all, &rte_flow_item_vxlan_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret == 0)
		ret = begin_vxlan(r);
	if (ret < 0)
		return ret;
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	if (memcmp(mask->vni, no_vni, sizeof(no_vni)) != 0 && memcmp(spec->vni, no_vni, sizeof(no_vni)) == 0)
		return REFUSE(r, ENOTSUP, "a VNI of 0 cannot be matched");
	COPY(r, KEY(vni), &v, struct rte_flow_item_vxlan, vni);
	return 0;
}

/* Reads an item that is one register, at that offset of the key; supported has the register's bits. */
static int
read_register(struct reader *r, size_t offset, uint32_t supported)
{
	uint32_t already, mask;
	struct values v;
	int ret;

	if (!r->port->nic->metadata)
		return REFUSE(r, ENOTSUP, "needs extended metadata (dv_xmeta_en=1)");
	if (r->item->spec == NULL)
		return REFUSE(r, EINVAL, "needs a spec");
	ret = read_values(r, &supported, &supported, sizeof(supported), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	memcpy(&mask, v.mask, sizeof(mask));
	if (mask == 0)
		return REFUSE(r, EINVAL, "the mask is 0");
	memcpy(&already, (uint8_t *)&r->rule->pattern.mask + offset, sizeof(already));
	if (already != 0)
		return REFUSE(r, EINVAL, "is given twice");
	require(r, offset, v.spec, v.mask, sizeof(uint32_t));
	return 0;
}

static int
read_tag(struct reader *r)
{
	const struct rte_flow_item_tag all = { .data = UINT32_MAX, .index = UINT8_MAX };
	const struct rte_flow_item_tag *spec, *mask;
	struct values v;
	int ret;

	if (r->item->spec == NULL)
		return REFUSE(r, EINVAL, "needs a spec");
	ret = read_values(r, &all, &rte_flow_item_tag_mask, sizeof(all), &v);
	if (ret == 0)
		ret = no_range(r, &v);
	if (ret < 0)
		return ret;
	spec = (const void *)v.spec;
	mask = (const void *)v.mask;
	if (mask->data == 0)
		return REFUSE(r, EINVAL, "the mask is 0");
	if (mask->index != UINT8_MAX)
		return REFUSE(r, EINVAL, "partial masks of the index are not supported");
	if (spec->index >= ESW_TAGS)
		return REFUSE(r, ENOTSUP, "there is no tag %u", spec->index);
	if (r->rule->tags & 1u << spec->index)
		return REFUSE(r, EINVAL, "index %u is given twice", spec->index);
	r->rule->tags |= 1u << spec->index;
	require(r, KEY(metadata.tag) + spec->index * sizeof(uint32_t), &spec->data, &mask->data, sizeof(uint32_t));
	return 0;
}

static int
read_item(struct reader *r)
{
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
	case RTE_FLOW_ITEM_TYPE_TCP:
		return read_tcp(r);
	case RTE_FLOW_ITEM_TYPE_UDP:
		return read_udp(r);
	case RTE_FLOW_ITEM_TYPE_ICMP:
		return read_icmp(r);
	case RTE_FLOW_ITEM_TYPE_ICMP6:
		return read_icmp6(r);
	case RTE_FLOW_ITEM_TYPE_VXLAN:
		return read_vxlan(r);
	case RTE_FLOW_ITEM_TYPE_MARK:
		return read_register(r, KEY(metadata.mark), ESW_MARK_MASK);
	case RTE_FLOW_ITEM_TYPE_META:
		return read_register(r, KEY(metadata.meta), UINT32_MAX);
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

/* Reads the pattern into rule->pattern and rule->info.source. */
int
esw_rule_pattern(struct esw_port *port, const struct rte_flow_item *items, struct esw_rule *rule,
		 struct rte_flow_error *error)
{
	struct reader r = { .port = port, .rule = rule, .error = error };
	int ret;

	rule->info.source = port;
	rule->pattern.priority = rule->info.attr.priority;
	for (r.item = items; r.item->type != RTE_FLOW_ITEM_TYPE_END; r.item++) {
		name_item(&r);
		ret = read_item(&r);
		if (ret < 0)
			return ret;
	}
	return 0;
}
