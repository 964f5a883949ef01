/* SPDX-License-Identifier: Apache-2.0 */

/* What the NIC accepts, and what it refuses: the errno, and what the error names. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "nic.h"
#include "report.h"

#define ITEM_ERROR RTE_FLOW_ERROR_TYPE_ITEM
#define ITEM_SPEC_ERROR RTE_FLOW_ERROR_TYPE_ITEM_SPEC
#define ITEM_MASK_ERROR RTE_FLOW_ERROR_TYPE_ITEM_MASK
#define SPEC(t, ...)                              \
	.spec = &(const struct rte_flow_item_##t) \
	{                                         \
		__VA_ARGS__                       \
	}
#define MASK(t, ...)                              \
	.mask = &(const struct rte_flow_item_##t) \
	{                                         \
		__VA_ARGS__                       \
	}
#define LAST(t, ...)                              \
	.last = &(const struct rte_flow_item_##t) \
	{                                         \
		__VA_ARGS__                       \
	}
#define ETH ITEM(ETH)
#define IPV4_PROTO(p, m) \
	ITEM(IPV4, SPEC(ipv4, .hdr.next_proto_id = (p)), MASK(ipv4, .hdr.next_proto_id = (m)))
#define IPV6_PROTO(p, m) ITEM(IPV6, SPEC(ipv6, .hdr.proto = (p)), MASK(ipv6, .hdr.proto = (m)))
#define FRAGMENT(spec, mask, ...)                                     \
	ITEM(IPV4, SPEC(ipv4, .hdr.fragment_offset = RTE_BE16(spec)), \
	     MASK(ipv4, .hdr.fragment_offset = RTE_BE16(mask)), ##__VA_ARGS__)
#define MAC_CONF CONF(set_mac, .mac_addr = MAC_C)
#define ANY_ETH ITEMS(ETH)
#define IPV4 ITEMS(ETH, ITEM(IPV4))
#define IPV6 ITEMS(ETH, ITEM(IPV6))
/* A tunnel that carries IPv6: the driver counts its only header among the inner ones. */
#define IP6IP6                                                       \
	ITEMS(ETH, ITEM(IPV6, SPEC(ipv6, .hdr.proto = IPPROTO_IPV6), \
			MASK(ipv6, .hdr.proto = UINT8_MAX)))
#define TO_PF0 ACTIONS(TO(PF0))
#define MIRROR SAMPLE(1, ENCAP(udp_header, 62), TO(PF0))

struct refusal {
	int port;
	struct rte_flow_attr attr;
	const struct rte_flow_item *items;
	const struct rte_flow_action *actions;
	int code;
	enum rte_flow_error_type type;
	int cause;           /* index of the item or action; -1: not looked at */
	const char *message; /* part of it */
};

static unsigned int refusals;

static void
assert_refused(const struct refusal *r)
{
	struct rte_flow_error error = { 0 };
	int ret = rte_flow_validate(nic.port[r->port], &r->attr, r->items, r->actions, &error);

	if (ret == 0)
		fail_msg("accepted, wanted: %s", r->message);
	if (ret != -r->code || strstr(error.message, r->message) == NULL)
		fail_msg("%d (%s), wanted %d (%s)", ret, error.message, -r->code, r->message);
	assert_int_equal(error.type, r->type);
	if (r->cause >= 0 && r->type == RTE_FLOW_ERROR_TYPE_ITEM)
		assert_ptr_equal(error.cause, &r->items[r->cause]);
	if (r->cause >= 0 && r->type == RTE_FLOW_ERROR_TYPE_ACTION)
		assert_ptr_equal(error.cause, &r->actions[r->cause]);
	/* Create refuses the same. */
	assert_null(rte_flow_create(nic.port[r->port], &r->attr, r->items, r->actions, NULL));
	refusals++;
}

static void
assert_accepted(int port, struct rte_flow_attr attr, const struct rte_flow_item *items,
		const struct rte_flow_action *actions)
{
	struct rte_flow_error error = { 0 };

	if (rte_flow_validate(nic.port[port], &attr, items, actions, &error) < 0)
		fail_msg("refused: %s", error.message);
}

#define REFUSES(name, ...)                                  \
	static void name(void **state)                      \
	{                                                   \
		const struct refusal r[] = { __VA_ARGS__ }; \
		size_t i;                                   \
                                                            \
		(void)state;                                \
		for (i = 0; i < RTE_DIM(r); i++)            \
			assert_refused(&r[i]);              \
	}

#define ATTR(...) ((struct rte_flow_attr){ __VA_ARGS__ })

REFUSES(refuses_attributes,
	{ VF0, ATTR(.egress = 1, .transfer = 1), ANY_ETH, TO_PF0, EINVAL, RTE_FLOW_ERROR_TYPE_ATTR,
	  -1, "transfer" },
	{ VF0, ATTR(.ingress = 1, .transfer = 1), ANY_ETH, TO_PF0, EINVAL, RTE_FLOW_ERROR_TYPE_ATTR,
	  -1, "transfer" },
	{ VF0, ATTR(.group = 0), ANY_ETH, TO_PF0, EINVAL, RTE_FLOW_ERROR_TYPE_ATTR, -1,
	  "exactly one" },
	{ PF0, ATTR(.egress = 1), ANY_ETH, TO_PF0, ENOTSUP, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, -1,
	  "transfer rules only" },
	{ VF0, ATTR(.egress = 1), ANY_ETH, ACTIONS(ACTION(DROP)), EINVAL, RTE_FLOW_ERROR_TYPE_ITEM,
	  -1, "egress rules" },
	{ PF1, ATTR(.transfer = 1), ANY_ETH, TO_PF0, ENOTSUP, RTE_FLOW_ERROR_TYPE_ATTR_TRANSFER, -1,
	  "PF1 is not in switchdev mode" },
	{ VF0, ATTR(.transfer = 1, .group = UINT32_MAX), ANY_ETH, TO_PF0, EINVAL,
	  RTE_FLOW_ERROR_TYPE_ATTR_GROUP, -1, "group 4294967295" },
	{ VF0, ATTR(.transfer = 1, .priority = 21844), ANY_ETH, TO_PF0, ENOTSUP,
	  RTE_FLOW_ERROR_TYPE_ATTR_PRIORITY, -1, "priority 21844" },
	{ VF0, ATTR(.ingress = 1, .priority = 4), ANY_ETH, ACTIONS(QUEUE(0)), ENOTSUP,
	  RTE_FLOW_ERROR_TYPE_ATTR_PRIORITY, -1, "priority 4" })

REFUSES(refuses_items,
	{ VF0, transfer, ITEMS(ETH, ITEM(GENEVE)), TO_PF0, ENOTSUP, ITEM_ERROR, 1, "GENEVE" },
	{ VF0, transfer, ITEMS(ETH, ETH), TO_PF0, ENOTSUP, ITEM_ERROR, 1, "multiple L2" },
	{ VF0, transfer, ITEMS(ITEM(IPV4), ETH), TO_PF0, EINVAL, ITEM_ERROR, 1,
	  "L2 cannot follow L3" },
	{ VF0, transfer, ITEMS(ETH, ITEM(VLAN), ITEM(VLAN)), TO_PF0, EINVAL, ITEM_ERROR, 2,
	  "multiple VLAN" },
	{ VF0, transfer, ITEMS(ETH, ITEM(UDP)), TO_PF0, EINVAL, ITEM_ERROR, 1, "L3 is mandatory" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV6), ITEM(ICMP)), TO_PF0, EINVAL, ITEM_ERROR, 2,
	  "IPv4 is mandatory" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(ICMP6)), TO_PF0, EINVAL, ITEM_ERROR, 2,
	  "IPv6 is mandatory" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(UDP), ITEM(TCP)), TO_PF0, EINVAL, ITEM_ERROR,
	  3, "multiple L4" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(UDP), ITEM(IPV4)), TO_PF0, ENOTSUP, ITEM_ERROR,
	  3, "multiple L3" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV6), ITEM(IPV4)), TO_PF0, ENOTSUP, ITEM_ERROR, 2,
	  "multiple L3" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPIP, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "has a tunnel in it" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_GRE, 4)), TO_PF0, EINVAL, ITEM_ERROR, 1,
	  "that carries IPv4" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, UINT8_MAX), ITEM(IPV4)), TO_PF0,
	  EINVAL, ITEM_ERROR, 2, "that carries IPv6" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, UINT8_MAX), ITEM(IPV6)), TO_PF0,
	  ENOTSUP, ITEM_ERROR, 2, "multiple L3" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, UINT8_MAX), ITEM(UDP)), TO_PF0, EINVAL,
	  ITEM_ERROR, 2, "protocol of the IP" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, UINT8_MAX), ITEM(VLAN)), TO_PF0,
	  EINVAL, ITEM_ERROR, 2, "follow L3" },
	{ PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, UINT8_MAX), ETH), TO_PF0, EINVAL,
	  ITEM_ERROR, 2, "follow L3" },
	{ VF0, transfer, ITEMS(ETH, IPV4_PROTO(IPPROTO_IPIP, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "has a tunnel in it" },
	{ VF0, transfer, ITEMS(ETH, IPV4_PROTO(IPPROTO_TCP, 4)), TO_PF0, EINVAL, ITEM_ERROR, 1,
	  "has a tunnel in it" },
	{ VF0, transfer, ITEMS(ETH, IPV4_PROTO(IPPROTO_IPV6, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "that carries IPv6" },
	{ VF0, transfer,
	  ITEMS(ITEM(ETH, SPEC(eth, .hdr.ether_type = RTE_BE16(0x86dd)),
		     MASK(eth, .hdr.ether_type = UINT16_MAX)),
		ITEM(IPV4)),
	  TO_PF0, EINVAL, ITEM_ERROR, 1, "EtherType" },
	{ VF0, transfer, ITEMS(ETH, IPV4_PROTO(IPPROTO_TCP, UINT8_MAX), ITEM(UDP)), TO_PF0, EINVAL,
	  ITEM_ERROR, 2, "protocol of the IP header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(1, 1), ITEM(UDP)), TO_PF0, EINVAL, ITEM_ERROR, 2,
	  "protocol of the IP header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_HOPOPTS, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "extension header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_ROUTING, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "extension header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_FRAGMENT, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "extension header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_ESP, UINT8_MAX)), TO_PF0, EINVAL, ITEM_ERROR,
	  1, "extension header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_AH, UINT8_MAX)), TO_PF0, EINVAL, ITEM_ERROR,
	  1, "extension header" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_DSTOPTS, UINT8_MAX)), TO_PF0, EINVAL,
	  ITEM_ERROR, 1, "extension header" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4, MASK(ipv4, .hdr.next_proto_id = UINT8_MAX))), TO_PF0,
	  EINVAL, ITEM_ERROR, 1, "without a spec" },
	{ VF0, transfer, ITEMS(ETH, IPV4_PROTO(1, 1)), TO_PF0, EINVAL, ITEM_MASK_ERROR, -1,
	  "partial masks" },
	{ VF0, transfer,
	  ITEMS(ETH, ITEM(IPV4),
		ITEM(UDP, SPEC(udp, .hdr.dst_port = 1), LAST(udp, .hdr.dst_port = 2))),
	  TO_PF0, EINVAL, ITEM_ERROR, 2, "ranges" },
	{ VF0, transfer,
	  ITEMS(ETH, ITEM(IPV4),
		ITEM(UDP, SPEC(udp, .hdr.dgram_len = 1), MASK(udp, .hdr.dgram_len = 1))),
	  TO_PF0, ENOTSUP, ITEM_ERROR, 2, "mask" },
	{ VF0, transfer, ITEMS(ETH, FRAGMENT(1, 1)), TO_PF0, EINVAL, ITEM_MASK_ERROR, -1,
	  "full mask" },
	{ VF0, transfer, ITEMS(ETH, FRAGMENT(0x2000, 0x3fff)), TO_PF0, ENOTSUP, ITEM_ERROR, 1,
	  "only 0 and the range" },
	{ VF0, transfer, ITEMS(ETH, FRAGMENT(1, 0x3fff)), TO_PF0, ENOTSUP, ITEM_ERROR, 1,
	  "only 0 and the range" },
	{ VF0, transfer, ITEMS(ETH, FRAGMENT(0x4000, 0xffff)), TO_PF0, ENOTSUP, ITEM_ERROR, 1,
	  "only 0 and the range" },
	{ VF0, transfer,
	  ITEMS(ETH, FRAGMENT(1, 0x3fff, LAST(ipv4, .hdr.fragment_offset = RTE_BE16(0x1fff)))),
	  TO_PF0, ENOTSUP, RTE_FLOW_ERROR_TYPE_ITEM_LAST, -1, "only 0 and the range" },
	{ VF0, transfer, ITEMS(ITEM(REPRESENTED_PORT, SPEC(ethdev, .port_id = 31))), TO_PF0, ENODEV,
	  ITEM_SPEC_ERROR, -1, "no port 31" },
	{ VF0, transfer, ITEMS(ITEM(REPRESENTED_PORT, SPEC(ethdev, .port_id = nic.port[PF1]))),
	  TO_PF0, EINVAL, ITEM_SPEC_ERROR, -1, "switch domain" },
	{ VF0, transfer, ITEMS(ITEM(PORT_ID, SPEC(port_id, .id = nic.far[VF0]))), TO_PF0, EINVAL,
	  ITEM_SPEC_ERROR, -1, "switch domain" },
	{ VF0, transfer, ITEMS(ITEM(PORT_ID, SPEC(port_id, .id = 1), MASK(port_id, .id = 1))),
	  TO_PF0, ENOTSUP, ITEM_MASK_ERROR, -1, "partial masks" },
	{ VF0, transfer, ITEMS(ITEM(PORT_ID, SPEC(port_id, .id = nic.port[VF0])), ITEM(PORT_ID)),
	  TO_PF0, ENOTSUP, ITEM_ERROR, 1, "source port already" },
	{ VF0, ingress, ITEMS(ITEM(PORT_ID, SPEC(port_id, .id = nic.port[VF0]))), ACTIONS(QUEUE(0)),
	  EINVAL, ITEM_ERROR, 0, "transfer rules only" })

#define UDP ITEM(UDP)

REFUSES(refuses_vxlan,
	{ VF0, transfer, ITEMS(ETH, ITEM(VXLAN)), TO_PF0, EINVAL, ITEM_ERROR, 1,
	  "UDP is mandatory" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(TCP), ITEM(VXLAN)), TO_PF0, EINVAL, ITEM_ERROR,
	  3, "UDP is mandatory" },
	{ VF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, UINT8_MAX), ITEM(VXLAN)), TO_PF0,
	  ENOTSUP, ITEM_ERROR, 2, "multiple tunnel" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP, ITEM(VXLAN), ITEM(VXLAN)), TO_PF0, ENOTSUP,
	  ITEM_ERROR, 4, "multiple tunnel" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP, ITEM(VXLAN), ETH, ETH), TO_PF0, ENOTSUP,
	  ITEM_ERROR, 5, "multiple L2" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), UDP, ITEM(VXLAN), ITEM(IPV4), ETH), TO_PF0, EINVAL,
	  ITEM_ERROR, 5, "L2 cannot follow" },
	{ VF0, transfer,
	  ITEMS(ETH, ITEM(IPV4), UDP,
		ITEM(VXLAN, SPEC(vxlan, .flags = 8), MASK(vxlan, .flags = 8))),
	  TO_PF0, ENOTSUP, ITEM_ERROR, 3, "not supported" },
	{ VF0, transfer,
	  ITEMS(ETH, ITEM(IPV4), UDP, ITEM(VXLAN),
		ITEM(ETH, SPEC(eth, .hdr.ether_type = RTE_BE16(0x86dd)),
		     MASK(eth, .hdr.ether_type = UINT16_MAX)),
		ITEM(IPV4)),
	  TO_PF0, EINVAL, ITEM_ERROR, 5, "EtherType" })

REFUSES(refuses_metadata,
	{ VF0, transfer, ITEMS(ITEM(MARK, SPEC(mark, .id = 1)), ETH), TO_PF0, ENOTSUP, ITEM_ERROR,
	  0, "extended metadata" },
	{ VF0, ingress, ITEMS(ITEM(META, SPEC(meta, .data = 1)), ETH), ACTIONS(QUEUE(0)), ENOTSUP,
	  ITEM_ERROR, 0, "extended metadata" },
	{ VF0, transfer, ITEMS(ITEM(TAG), ETH), TO_PF0, EINVAL, ITEM_SPEC_ERROR, -1,
	  "needs a spec" },
	{ VF0, transfer, ITEMS(ITEM(TAG, SPEC(tag, .index = 3)), ETH), TO_PF0, ENOTSUP, ITEM_ERROR,
	  0, "no tag 3" },
	{ VF0, transfer, ITEMS(ITEM(TAG, SPEC(tag, .index = 6)), ETH), TO_PF0, EINVAL, ITEM_ERROR,
	  0, "no tag 6" },
	{ VF0, transfer,
	  ITEMS(ITEM(TAG, SPEC(tag, .index = 1), MASK(tag, .data = 1, .index = 1)), ETH), TO_PF0,
	  EINVAL, ITEM_SPEC_ERROR, -1, "index" },
	{ VF0, transfer,
	  ITEMS(ITEM(TAG, SPEC(tag, .index = 1), MASK(tag, .index = UINT8_MAX)), ETH), TO_PF0,
	  EINVAL, ITEM_SPEC_ERROR, -1, "mask is 0" },
	{ VF0, transfer, ITEMS(ITEM(TAG, SPEC(tag, .index = 1)), ITEM(TAG, SPEC(tag, .index = 1))),
	  TO_PF0, EINVAL, ITEM_SPEC_ERROR, -1, "given twice" })

#define ACTION_ERROR RTE_FLOW_ERROR_TYPE_ACTION
#define ACTION_CONF_ERROR RTE_FLOW_ERROR_TYPE_ACTION_CONF
#define UNSPECIFIED RTE_FLOW_ERROR_TYPE_UNSPECIFIED
#define RSS(q) ACTION(RSS, CONF(rss, .queue_num = 1, .queue = (const uint16_t[]){ (q) }))
#define IPV4_CONF CONF(set_ipv4, .ipv4_addr = 1)
#define IPV6_CONF CONF(set_ipv6, .ipv6_addr = ADDR6(1))
#define TP_CONF CONF(set_tp, .port = 1)
#define PUSH(type) ACTION(OF_PUSH_VLAN, CONF(of_push_vlan, .ethertype = RTE_BE16(type)))
#define SET_TAG(i, m) ACTION(SET_TAG, CONF(set_tag, .index = (i), .mask = (m)))

REFUSES(refuses_rewriting,
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(SET_IPV4_SRC, IPV4_CONF), TO(PF0)), EINVAL,
	  ACTION_ERROR, 0, "IPv4 item" },
	{ VF0, transfer, IPV6, ACTIONS(ACTION(SET_IPV4_DST, IPV4_CONF), TO(PF0)), EINVAL,
	  ACTION_ERROR, 0, "IPv4 item" },
	{ VF0, transfer, IP6IP6, ACTIONS(ACTION(SET_IPV6_DST, IPV6_CONF), TO(PF0)), EINVAL,
	  ACTION_ERROR, 0, "IPv6 item" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV6), ITEM(ICMP6)),
	  ACTIONS(ACTION(SET_IPV6_DST, IPV6_CONF), TO(PF0)), ENOTSUP, ACTION_ERROR, 0, "ICMPv6" },
	{ VF0, transfer, IPV4, ACTIONS(ACTION(SET_IPV6_SRC, IPV6_CONF), TO(PF0)), EINVAL,
	  ACTION_ERROR, 0, "IPv6 item" },
	{ VF0, transfer, IPV4, ACTIONS(ACTION(SET_IPV6_DST), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "configuration" },
	{ VF0, transfer, IPV4, ACTIONS(ACTION(SET_TP_SRC, TP_CONF), TO(PF0)), EINVAL, ACTION_ERROR,
	  0, "TCP or UDP item" },
	{ VF0, transfer, ITEMS(ETH, ITEM(IPV4), ITEM(ICMP)),
	  ACTIONS(ACTION(SET_TP_DST, TP_CONF), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "TCP or UDP item" },
	{ VF0, transfer, IPV4,
	  ACTIONS(ENCAP(udp_header, 62), ACTION(SET_IPV4_SRC, IPV4_CONF), TO(PF0)), EINVAL,
	  ACTION_ERROR, 1, "cannot follow an encapsulation" },
	{ PF0, transfer, IPV6,
	  ACTIONS(DECAP(54), ENCAP(eth_header, 14), ACTION(SET_IPV6_SRC, IPV6_CONF), TO(VF0)),
	  EINVAL, ACTION_ERROR, 2, "IPv6 item" },
	{ PF0, transfer, ITEMS(ETH, ITEM(IPV6)),
	  ACTIONS(ACTION(SET_IPV6_SRC, IPV6_CONF), DECAP(54), ENCAP(eth_header, 14), TO(VF0)),
	  EINVAL, ACTION_ERROR, 1, "follow an action that modifies" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(OF_POP_VLAN), TO(PF0)), ENOTSUP, UNSPECIFIED, -1,
	  "VLAN item" },
	{ VF0, transfer, ITEMS(ETH, ITEM(VLAN)),
	  ACTIONS(ACTION(OF_POP_VLAN), ACTION(OF_POP_VLAN), TO(PF0)), ENOTSUP, ACTION_ERROR, 1,
	  "multiple VLAN" },
	{ VF0, transfer, ITEMS(ETH, ITEM(VLAN)), ACTIONS(TO(PF0), ACTION(OF_POP_VLAN)), EINVAL,
	  ACTION_ERROR, 1, "port comes after" },
	{ VF0, ingress, ITEMS(ETH, ITEM(VLAN)), ACTIONS(ACTION(OF_POP_VLAN), QUEUE(0)), ENOTSUP,
	  UNSPECIFIED, -1, "representor" },
	{ VF0, transfer, ANY_ETH, ACTIONS(PUSH(0x9100), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "0x9100" },
	{ VF0, transfer, ANY_ETH, ACTIONS(TO(PF0), PUSH(0x8100)), EINVAL, ACTION_ERROR, 1,
	  "port comes after" },
	{ PF0, ingress, ANY_ETH, ACTIONS(PUSH(0x8100), QUEUE(0)), ENOTSUP,
	  RTE_FLOW_ERROR_TYPE_ATTR_INGRESS, -1, "ingress" },
	{ VF0, transfer,
	  ITEMS(ETH, ITEM(VLAN, SPEC(vlan, .hdr.vlan_tci = 0),
			  MASK(vlan, .hdr.vlan_tci = RTE_BE16(0x00ff)))),
	  ACTIONS(PUSH(0x8100), TO(PF0)), EINVAL, ACTION_ERROR, 0, "not full" },
	{ VF0, transfer, ANY_ETH, ACTIONS(SET_TAG(3, 1), TO(PF0)), ENOTSUP, ITEM_ERROR, -1,
	  "no tag 3" },
	{ VF0, transfer, ANY_ETH, ACTIONS(SET_TAG(6, 1), TO(PF0)), EINVAL, ITEM_ERROR, -1,
	  "no tag 6" },
	{ VF0, transfer, ANY_ETH, ACTIONS(SET_TAG(1, 0), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "mask is 0" },
	{ PF0, ingress, ANY_ETH, ACTIONS(QUEUE(0), SET_TAG(1, 1)), EINVAL, ACTION_ERROR, 1,
	  "no effect" },
	{ PF0, ingress, ANY_ETH, ACTIONS(ACTION(MARK, CONF(mark, .id = 0xfffff0)), QUEUE(0)),
	  EINVAL, ACTION_CONF_ERROR, -1, "above" },
	{ PF0, ingress, ANY_ETH,
	  ACTIONS(ACTION(MARK, CONF(mark, .id = 1)), ACTION(MARK, CONF(mark, .id = 1)), QUEUE(0)),
	  EINVAL, ACTION_ERROR, 1, "a mark already" },
	{ PF0, ingress, ANY_ETH, ACTIONS(ACTION(FLAG), ACTION(MARK, CONF(mark, .id = 1)), QUEUE(0)),
	  EINVAL, ACTION_ERROR, 1, "a mark already" },
	{ PF0, ATTR(.egress = 1), ANY_ETH, ACTIONS(ACTION(FLAG)), ENOTSUP,
	  RTE_FLOW_ERROR_TYPE_ATTR_EGRESS, -1, "egress" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(INDIRECT), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "configuration" })

REFUSES(refuses_actions, { VF0, transfer, ANY_ETH, ACTIONS(), EINVAL, ACTION_ERROR, -1, "no fate" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(COUNT)), EINVAL, ACTION_ERROR, -1, "no fate" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(SECURITY), TO(PF0)), ENOTSUP, ACTION_ERROR, 0,
	  "SECURITY" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(SET_META), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "configuration" },
	{ VF0, transfer_group(1), ANY_ETH,
	  ACTIONS(ACTION(SET_META, CONF(set_meta, .mask = 1)), TO(PF0)), ENOTSUP, ACTION_ERROR, 0,
	  "extended metadata" },
	{ VF0, transfer, ANY_ETH, ACTIONS(TO(PF0), TO(VF3)), EINVAL, ACTION_ERROR, 1, "one fate" },
	{ VF0, transfer, ANY_ETH, ACTIONS(TO(PF0), ACTION(DROP)), EINVAL, ACTION_ERROR, -1,
	  "beside it" },
	{ VF0, transfer, ANY_ETH, ACTIONS(TO(PF1)), EINVAL, ACTION_ERROR, 0, "switch domain" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(PORT_ID, CONF(port_id, .id = 31))), ENODEV,
	  ACTION_CONF_ERROR, -1, "no port 31" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(PORT_ID)), ENOTSUP, ACTION_CONF_ERROR, -1,
	  "configuration" },
	{ VF0, transfer, ANY_ETH, ACTIONS(QUEUE(0)), ENOTSUP, ACTION_ERROR, -1, "QUEUE" },
	{ VF0, transfer, ANY_ETH, ACTIONS(TO(PF0), QUEUE(0)), ENOTSUP, ACTION_ERROR, -1, "QUEUE" },
	{ VF0, transfer, ANY_ETH, ACTIONS(QUEUE(0), TO(PF0)), EINVAL, ACTION_ERROR, 1, "one fate" },
	{ VF0, ingress, ANY_ETH, ACTIONS(TO(PF0)), ENOTSUP, UNSPECIFIED, -1,
	  "transfer rules only" },
	{ VF0, ingress, ANY_ETH, ACTIONS(QUEUE(2)), EINVAL, ACTION_CONF_ERROR, -1, "no queue 2" },
	{ VF0, ingress, ANY_ETH, ACTIONS(JUMP(0)), EINVAL, ACTION_CONF_ERROR, -1,
	  "jump to group 0" },
	{ VF0, transfer, ANY_ETH, ACTIONS(JUMP(UINT32_MAX)), EINVAL, RTE_FLOW_ERROR_TYPE_ATTR_GROUP,
	  -1, "no group" },
	{ VF0, transfer, ANY_ETH, ACTIONS(RSS(0)), ENOTSUP, ACTION_ERROR, -1, "RSS" },
	{ VF0, ingress, ANY_ETH, ACTIONS(QUEUE(0), RSS(0)), EINVAL, ACTION_ERROR, 1, "one fate" },
	{ VF0, ingress, ANY_ETH, ACTIONS(RSS(2)), EINVAL, ACTION_CONF_ERROR, -1, "no queue 2" },
	{ VF0, ingress, ANY_ETH, ACTIONS(ACTION(RSS, CONF(rss, .level = 0))), EINVAL,
	  ACTION_CONF_ERROR, -1, "no queues" },
	{ VF0, ingress, ANY_ETH, ACTIONS(ACTION(RSS, CONF(rss, .level = 3))), ENOTSUP,
	  ACTION_CONF_ERROR, -1, "level 3" },
	{ VF0, ingress, ANY_ETH, ACTIONS(ACTION(RSS, CONF(rss, .key_len = 52))), ENOTSUP,
	  ACTION_CONF_ERROR, -1, "52 bytes" },
	{ VF0, ingress, ANY_ETH,
	  ACTIONS(ACTION(RSS, CONF(rss, .func = RTE_ETH_HASH_FUNCTION_SIMPLE_XOR))), ENOTSUP,
	  ACTION_CONF_ERROR, -1, "hash function" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(COUNT), ACTION(COUNT), TO(PF0)), EINVAL,
	  ACTION_ERROR, 1, "twice" },
	{ VF0, transfer, ANY_ETH, ACTIONS(AGE(0), TO(PF0)), EINVAL, ACTION_ERROR, 0, "timeout" },
	{ VF0, transfer, ANY_ETH, ACTIONS(AGE(1), AGE(2), TO(PF0)), EINVAL, ACTION_ERROR, 1,
	  "twice" },
	{ VF0, transfer, IPV4, ACTIONS(ACTION(DEC_TTL), ACTION(DROP)), EINVAL, ACTION_ERROR, -1,
	  "beside it" },
	{ VF0, transfer, ITEMS(ITEM(IPV4)), ACTIONS(ACTION(SET_MAC_SRC, MAC_CONF), TO(PF0)), EINVAL,
	  ACTION_ERROR, 0, "L2 item" },
	{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(DEC_TTL), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "IP item" })

REFUSES(refuses_tunnels,
	{ VF0, transfer, IPV4, ACTIONS(ENCAP(NULL, 62), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "empty" },
	{ VF0, transfer, IPV4, ACTIONS(ENCAP(udp_header, 133), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "more than 132" },
	{ VF0, transfer, IPV4, ACTIONS(ENCAP(udp_header, 34), TO(PF0)), ENOTSUP, ACTION_ERROR, 0,
	  "too small" },
	{ VF0, transfer, IPV4, ACTIONS(ENCAP(udp_header, 62), ENCAP(udp_header, 62), TO(PF0)),
	  EINVAL, ACTION_ERROR, 1, "only one encapsulation" },
	{ VF0, transfer, IPV4, ACTIONS(ENCAP(udp_header, 62), ACTION(DEC_TTL), TO(PF0)), EINVAL,
	  ACTION_ERROR, 1, "cannot follow an encapsulation" },
	{ PF0, transfer, IPV6, ACTIONS(DECAP(54), ENCAP(udp_header, 62), TO(PF0)), ENOTSUP,
	  ACTION_ERROR, -1, "cannot be combined" },
	{ PF0, transfer, IPV6, ACTIONS(DECAP(14), ENCAP(eth_header, 14), TO(PF0)), ENOTSUP,
	  ACTION_ERROR, 0, "cannot be combined" },
	{ PF0, transfer, IPV6, ACTIONS(DECAP(54), DECAP(54), TO(VF0)), ENOTSUP, ACTION_ERROR, 1,
	  "only one decapsulation" },
	{ PF0, transfer, IPV6, ACTIONS(DECAP(54), ACTION(COUNT), ENCAP(udp_header, 62), TO(PF0)),
	  ENOTSUP, ACTION_ERROR, -1, "cannot be combined" },
	{ PF0, transfer, IPV6, ACTIONS(ACTION(DEC_TTL), DECAP(54), ENCAP(eth_header, 14), TO(VF0)),
	  EINVAL, ACTION_ERROR, 1, "follow an action that modifies" },
	{ PF0, transfer, IPV6, ACTIONS(ENCAP(udp_header, 62), DECAP(54), TO(PF0)), ENOTSUP,
	  ACTION_ERROR, 1, "cannot follow an encapsulation" },
	{ PF0, transfer, IPV6, ACTIONS(DECAP(54), ENCAP(eth_header, 14), ACTION(DEC_TTL), TO(VF0)),
	  EINVAL, ACTION_ERROR, 2, "IP item" },
	{ PF0, transfer, IP6IP6, ACTIONS(ACTION(DEC_TTL), TO(VF0)), EINVAL, ACTION_ERROR, 0,
	  "IP item" },
	{ PF0, ATTR(.egress = 1), IPV6, ACTIONS(DECAP(54), ENCAP(eth_header, 14)), ENOTSUP,
	  RTE_FLOW_ERROR_TYPE_ATTR_EGRESS, -1, "egress" },
	{ PF0, ingress, IPV4, ACTIONS(ENCAP(udp_header, 62), QUEUE(0)), ENOTSUP, ACTION_ERROR, -1,
	  "ingress" },
	{ VF0, ingress, IPV4, ACTIONS(ENCAP(udp_header, 62), QUEUE(0)), ENOTSUP, UNSPECIFIED, -1,
	  "on a representor" },
	{ VF0, ingress, IPV6, ACTIONS(DECAP(54), ENCAP(eth_header, 14), QUEUE(0)), ENOTSUP,
	  UNSPECIFIED, -1, "on a representor" })

REFUSES(refuses_samples,
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(0, TO(VF3)), TO(PF0)), EINVAL, ACTION_ERROR, 0,
	  "ratio" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(2, TO(VF3)), TO(PF0)), ENOTSUP, ACTION_ERROR, 0,
	  "ratio above 1" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, ENCAP(udp_header, 62)), TO(PF0)), EINVAL,
	  ACTION_ERROR, 0, "destination port" },
	{ VF0, transfer, IPV4, ACTIONS(MIRROR, MIRROR, TO(PF0)), EINVAL, ACTION_ERROR, 1,
	  "multiple samples" },
	{ VF0, transfer, IPV4, ACTIONS(JUMP(1), MIRROR), EINVAL, ACTION_ERROR, 1, "follow a jump" },
	{ VF0, transfer, IPV4, ACTIONS(MIRROR, AGE(1), TO(VF3)), ENOTSUP, ACTION_ERROR, 0,
	  "an age that the card keeps" },
	{ VF0, transfer, IPV4, ACTIONS(MIRROR, AGE(1), ACTION(COUNT), TO(VF3)), ENOTSUP,
	  ACTION_ERROR, 0, "an age that the card keeps" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, TO(PF0)), JUMP(1)), ENOTSUP, ACTION_ERROR, 0,
	  "needs an encapsulation" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), TO(VF3)), JUMP(1)), ENOTSUP,
	  ACTION_ERROR, 0, "uplink only" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, TO(VF0)), ENCAP(udp_header, 62), TO(VF3)), ENOTSUP,
	  ACTION_ERROR, 0, "towards a representor" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, TO(PF1)), TO(VF3)), EINVAL, ACTION_ERROR, -1,
	  "switch domain" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, TO(PF0), TO(VF3)), TO(VF3)), EINVAL, ACTION_ERROR,
	  -1, "one fate" },
	{ VF0, transfer, IPV4, ACTIONS(ACTION(COUNT), SAMPLE(1, ACTION(COUNT), TO(PF0)), TO(VF3)),
	  EINVAL, ACTION_ERROR, -1, "in a sample, COUNT" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, ACTION(COUNT), TO(PF0)), ACTION(COUNT), TO(VF3)),
	  EINVAL, ACTION_ERROR, 1, "twice" },
	{ VF0, transfer, IPV4,
	  ACTIONS(SAMPLE(1, ACTION(MARK, CONF(mark, .id = 1)), TO(PF0)), TO(VF3)), ENOTSUP,
	  ACTION_ERROR, -1, "in a sample, MARK" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, ACTION(DROP)), TO(VF3)), ENOTSUP, ACTION_ERROR, -1,
	  "in a sample, DROP" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, JUMP(1)), TO(VF3)), ENOTSUP, ACTION_ERROR, -1,
	  "in a sample, JUMP" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, DECAP(54), TO(PF0)), TO(VF3)), ENOTSUP,
	  ACTION_ERROR, -1, "in a sample, RAW_DECAP" },
	{ VF0, transfer, IPV4, ACTIONS(SAMPLE(1, QUEUE(0)), TO(VF3)), ENOTSUP, ACTION_ERROR, 0,
	  "a queue" },
	{ VF0, ingress, IPV4, ACTIONS(SAMPLE(1), QUEUE(0)), EINVAL, ACTION_ERROR, 0,
	  "needs a queue" },
	{ VF0, ingress, IPV4, ACTIONS(SAMPLE(1, TO(PF0)), QUEUE(0)), ENOTSUP, UNSPECIFIED, -1,
	  "transfer rules only" },
	{ PF0, ingress, IPV4, ACTIONS(SAMPLE(1, ENCAP(udp_header, 62), QUEUE(0)), QUEUE(0)),
	  ENOTSUP, ACTION_ERROR, 0, "ingress" })

/* What is valid, and yet refused when it is to be created. */
struct refused_by_card {
	int port;
	struct rte_flow_attr attr;
	const struct rte_flow_item *items;
	const struct rte_flow_action *actions;
	int code;
};

#define L3_DECAP DECAP(54), ENCAP(eth_header, 14)
#define COUNT_CONF ACTION(COUNT, CONF(count, .id = 0))
#define VLANS ITEMS(ETH, ITEM(VLAN))

static void
refuses_only_when_it_creates(void **state)
{
	const struct refused_by_card rules[] = {
		{ VF0, transfer_group(2), ANY_ETH, ACTIONS(JUMP(2)), EINVAL },
		{ VF0, transfer_group(2), ANY_ETH, ACTIONS(JUMP(1)), EINVAL },
		{ VF0, transfer_group(2), ANY_ETH, ACTIONS(MIRROR, JUMP(0)), EINVAL },
		{ PF0, ATTR(.ingress = 1, .group = 1), ANY_ETH, ACTIONS(JUMP(1)), EINVAL },
		/* Of large groups tables are not spread. */
		{ VF0, transfer_group(6554), ANY_ETH, ACTIONS(JUMP(65534)), EINVAL },
		{ VF0, transfer, ANY_ETH, ACTIONS(MIRROR, ACTION(DROP)), EINVAL },
		{ VF0, transfer, ANY_ETH, ACTIONS(SAMPLE(1, TO(VF3)), ACTION(DROP)), ENOTSUP },
		{ PF1, ingress, ANY_ETH, ACTIONS(SAMPLE(1, QUEUE(1)), QUEUE(0)), ENOTSUP },
		{ PF1, ingress, VLANS, ACTIONS(ACTION(OF_POP_VLAN), QUEUE(0)), ENOTSUP },
		{ VF0, transfer, IPV4, ACTIONS(TO(PF0), MIRROR, ACTION(DEC_TTL)), EINVAL },
		{ VF0, transfer, ANY_ETH, ACTIONS(SAMPLE(1, ACTION(COUNT), TO(PF0)), TO(VF3)),
		  EINVAL },
		{ VF0, transfer, IPV6, ACTIONS(L3_DECAP, TO(VF3)), ENOTSUP },
		{ PF0, transfer, ITEMS(ITEM(PORT_ID, SPEC(port_id, .id = nic.port[VF0])), ETH),
		  ACTIONS(L3_DECAP, TO(VF3)), ENOTSUP },
		{ VF0, transfer, ANY_ETH, ACTIONS(DECAP(14), TO(VF3)), ENOTSUP },
		{ PF0, transfer, ITEMS(ITEM(REPRESENTED_PORT), ETH), ACTIONS(DECAP(14), TO(VF3)),
		  ENOTSUP },
		{ VF0, transfer, ANY_ETH, ACTIONS(TO(VF3), AGE(1)), ENOTSUP },
		{ VF0, transfer, IPV4, ACTIONS(TO(VF3), ACTION(DEC_TTL)), ENOTSUP },
		{ VF0, transfer, ANY_ETH, ACTIONS(TO(PF0), ENCAP(udp_header, 62)), ENOTSUP },
		{ VF0, transfer, ANY_ETH,
		  ACTIONS(PUSH(0x8100), ACTION(SET_MAC_SRC, MAC_CONF), TO(PF0)), ENOTSUP },
		{ VF0, transfer, ANY_ETH,
		  ACTIONS(PUSH(0x8100), PUSH(0x8100), PUSH(0x8100), TO(PF0)), ENOTSUP },
		{ VF0, transfer, ANY_ETH, ACTIONS(ENCAP(udp_header, 62), PUSH(0x8100), TO(PF0)),
		  ENOTSUP },
		{ VF0, transfer, VLANS,
		  ACTIONS(ACTION(SET_MAC_SRC, MAC_CONF), ACTION(OF_POP_VLAN), TO(PF0)), ENOTSUP },
		{ PF0, transfer, VLANS, ACTIONS(ACTION(OF_POP_VLAN), PUSH(0x8100), TO(VF0)),
		  ENOTSUP },
		{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(MARK, CONF(mark, .id = 1)), TO(PF0)),
		  ENOTSUP },
		{ VF0, transfer, ANY_ETH, ACTIONS(ACTION(FLAG), TO(PF0)), ENOTSUP },
		/* Group 0 of these is the kernel's. */
		{ PF0, ingress, ANY_ETH, ACTIONS(SAMPLE(2, QUEUE(1)), QUEUE(0)), ENOTSUP },
		{ PF0, ingress, VLANS, ACTIONS(ACTION(OF_POP_VLAN), QUEUE(0)), ENOTSUP },
		{ PF0, ATTR(.egress = 1), ANY_ETH, ACTIONS(PUSH(0x8100)), ENOTSUP },
	};
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(rules); i++) {
		const struct refused_by_card *r = &rules[i];

		assert_accepted(r->port, r->attr, r->items, r->actions);
		if (rte_flow_create(nic.port[r->port], &r->attr, r->items, r->actions, NULL) !=
		    NULL)
			fail_msg("rule %zu was created", i);
		assert_int_equal(rte_errno, r->code);
		refusals++;
	}
}

static void
assert_created(int port, struct rte_flow_attr attr, const struct rte_flow_item *items,
	       const struct rte_flow_action *actions)
{
	assert_accepted(port, attr, items, actions);
	nic_destroy(port, nic_rule(port, attr, items, actions));
}

/* A ConnectX-5 cannot do all that the later ones do. The test changes the card of its NIC, since a
 * program has one NIC. */
static void
is_a_connectx5(void **state)
{
	const struct refusal r[] = {
		{ VF0, transfer, ANY_ETH, ACTIONS(MIRROR, JUMP(1)), EINVAL, ACTION_ERROR, 0,
		  "mirror a guest's packets and jump" },
		{ VF0, transfer, IPV4, ACTIONS(MIRROR, ACTION(DEC_TTL), TO(VF3)), EINVAL,
		  ACTION_ERROR, 0, "change what it has mirrored" },
		{ VF0, transfer, VLANS, ACTIONS(ACTION(OF_POP_VLAN), TO(PF0)), ENOTSUP,
		  RTE_FLOW_ERROR_TYPE_ATTR_EGRESS, -1, "egress" },
		{ PF0, transfer, ANY_ETH, ACTIONS(PUSH(0x8100), TO(VF0)), ENOTSUP,
		  RTE_FLOW_ERROR_TYPE_ATTR_INGRESS, -1, "ingress" },
		{ VF0, transfer,
		  ITEMS(ETH, ITEM(IPV4, SPEC(ipv4, .hdr.version_ihl = 5),
				  MASK(ipv4, .hdr.version_ihl = 15))),
		  TO_PF0, ENOTSUP, ITEM_ERROR, 1, "ConnectX-5" },
	};
	size_t i;

	(void)state;
	nic.esw[PF0]->nic->card = ESW_CX5;
	for (i = 0; i < RTE_DIM(r); i++)
		assert_refused(&r[i]);
	assert_created(PF0, transfer, ANY_ETH, ACTIONS(MIRROR, JUMP(1)));
	assert_created(VF0, transfer, IPV4, ACTIONS(MIRROR, TO(VF3)));
	assert_created(VF0, transfer, IPV4,
		       ACTIONS(MIRROR, DECAP(14), ENCAP(ip_header, 54), TO(PF0)));
	assert_created(VF0, transfer, IPV4, ACTIONS(MIRROR, AGE(1), TO(VF3)));
	assert_created(VF0, transfer, IPV4, ACTIONS(TO(VF3), AGE(1)));
	nic.esw[PF0]->nic->card = ESW_CX6DX;
}

static void
accepts_what_the_card_accepts(void **state)
{
	const struct rte_flow_item_tcp spec = { .hdr.dst_port = RTE_BE16(80) };
	const struct rte_flow_item_tcp mask = { .hdr = { .dst_port = UINT16_MAX, .tcp_flags = 7 } };

	(void)state;
	assert_accepted(VF0, transfer, ITEMS(), TO_PF0);
	assert_accepted(VF0, transfer, ITEMS(ETH, ITEM(VOID), ITEM(VLAN), ITEM(IPV6), ITEM(TCP)),
			TO_PF0);
	assert_created(PF0, transfer, IP6IP6, TO_PF0);
	assert_created(PF0, transfer, ITEMS(ETH, IPV6_PROTO(0, 0xfb)), TO_PF0);
	assert_created(PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_IPV6, 0xfb)), TO_PF0);
	assert_created(PF0, transfer, ITEMS(ETH, IPV6_PROTO(IPPROTO_NONE, UINT8_MAX)), TO_PF0);
	assert_created(
		VF0, transfer,
		ITEMS(ITEM(PORT_ID, SPEC(port_id, .id = nic.port[VF0])), ITEM(REPRESENTED_PORT)),
		TO_PF0);
	assert_accepted(VF0, transfer,
			ITEMS(ETH, ITEM(IPV4), ITEM(TCP, .spec = &spec, .mask = &mask)), TO_PF0);
	assert_accepted(VF0, transfer,
			ITEMS(ETH, ITEM(IPV4, SPEC(ipv4, .hdr.fragment_offset = 0),
					MASK(ipv4, .hdr.fragment_offset = RTE_BE16(0x3fff)))),
			TO_PF0);
	assert_accepted(VF0, transfer, ANY_ETH, ACTIONS(ACTION(COUNT), MIRROR, JUMP(1)));
	assert_accepted(VF0, transfer, ANY_ETH, ACTIONS(SAMPLE(1, TO(VF3)), TO(PF0)));
	assert_accepted(VF0, transfer, ANY_ETH, ACTIONS(SAMPLE(1, TO(PF0)), TO(VF3)));
	assert_accepted(VF0, transfer, ANY_ETH, ACTIONS(SAMPLE(100), TO(VF3)));
	/* The fate may be anywhere in the list. */
	assert_accepted(VF0, transfer, ANY_ETH, ACTIONS(TO(VF3), ACTION(COUNT)));
	assert_accepted(VF0, transfer, ANY_ETH, ACTIONS(AGE(60), ACTION(COUNT), ACTION(DROP)));
	assert_created(PF0, transfer, IP6IP6, ACTIONS(L3_DECAP, ACTION(DEC_TTL), TO(VF0)));
	assert_created(
		PF0, transfer, IPV6,
		ACTIONS(L3_DECAP, ACTION(SET_MAC_SRC, MAC_CONF), SET_TAG(2, 1), JUMP(70000)));
	assert_created(VF0, transfer, IPV4, ACTIONS(MIRROR, AGE(1), COUNT_CONF, TO(VF3)));
	assert_created(VF0, transfer_group(UINT16_MAX), ANY_ETH, TO_PF0);
	assert_created(VF0, transfer, ANY_ETH, ACTIONS(SAMPLE(1), TO(VF3)));
	assert_created(VF0, transfer, ANY_ETH, ACTIONS(ACTION(DROP), ACTION(DROP)));
	assert_created(VF0, transfer, ANY_ETH, ACTIONS(TO(VF3), AGE(1), COUNT_CONF));
	assert_created(VF0, transfer,
		       ITEMS(ETH, ITEM(IPV4, SPEC(ipv4, .hdr.version_ihl = 5),
				       MASK(ipv4, .hdr.version_ihl = 15))),
		       TO_PF0);
	assert_created(VF0, transfer, ITEMS(ETH, FRAGMENT(0, 0x1fff)), TO_PF0);
	assert_created(VF0, transfer, ITEMS(ETH, FRAGMENT(0, 0xffff)), TO_PF0);
	assert_created(VF0, transfer,
		       ITEMS(ETH, ITEM(IPV4), ITEM(UDP, SPEC(udp, .hdr.dst_port = RTE_BE16(8472))),
			     ITEM(VXLAN, SPEC(vxlan, .vni = { 0, 0, 0 })), ITEM(VLAN), ITEM(IPV4)),
		       TO_PF0);
	assert_created(PF0, ATTR(.egress = 1, .group = 1), ANY_ETH, ACTIONS(ACTION(DROP)));
	assert_created(PF0, ATTR(.egress = 1), ITEMS(ITEM(META, SPEC(meta, .data = 1)), ETH),
		       ACTIONS(ACTION(DROP)));
	assert_created(PF0, ATTR(.ingress = 1, .group = 1), ANY_ETH,
		       ACTIONS(SAMPLE(1, QUEUE(1)), QUEUE(0)));
	assert_created(PF0, ATTR(.ingress = 1, .group = 1), ITEMS(ETH, ITEM(VLAN)),
		       ACTIONS(ACTION(OF_POP_VLAN), QUEUE(0)));
	assert_created(PF0, ingress, IPV6, ACTIONS(RSS(1)));
	assert_created(PF0, ingress, IPV6, ACTIONS(ACTION(FLAG), QUEUE(1)));
	assert_accepted(VF0, ingress, ANY_ETH, ACTIONS(SAMPLE(4, QUEUE(1)), QUEUE(0)));
	assert_accepted(PF1, ingress, ANY_ETH, ACTIONS(QUEUE(1)));
}

static void
knows_whose_rule_it_is(void **state)
{
	struct rte_flow *flow;

	(void)state;
	flow = nic_rule(VF0, transfer, ANY_ETH, TO_PF0);
	assert_int_equal(rte_flow_destroy(nic.port[VF3], flow, NULL), -EINVAL);
	assert_int_equal(rte_flow_destroy(nic.port[VF0], NULL, NULL), -EINVAL);
	nic_destroy(VF0, flow);
}

static void
names_the_proxy(void **state)
{
	struct rte_flow_error error;
	uint16_t proxy;

	(void)state;
	assert_int_equal(rte_flow_pick_transfer_proxy(nic.port[VF3], &proxy, &error), 0);
	assert_int_equal(proxy, nic.port[PF0]);
	assert_int_equal(rte_flow_pick_transfer_proxy(nic.port[PF1], &proxy, &error), -EINVAL);
}

struct dumped {
	int port;
	struct rte_flow_attr attr;
	const struct rte_flow_item *items;
	const struct rte_flow_action *actions;
	const char *line;
};

#define UDP_HEADER                                                                     \
	"02000000000202000000000186dd6000000000001140fc000001000000000000000000000001" \
	"fc0000020000000000000000000000020bb80bc200000000"

static void
dumps_rules(void **state)
{
	const struct rte_flow_item_ethdev vf0 = { .port_id = nic.port[VF0] };
	const struct dumped rules[] = {
		{ VF0, ATTR(.transfer = 1, .group = 3, .priority = 2), ITEMS(ETH),
		  ACTIONS(ACTION(COUNT), AGE(9), JUMP(4)),
		  "on vf0 from vf0 transfer group 3 priority 2 pattern actions count age=9 jump=4 # 0 packets 0 bytes\n" },
		{ VF0, transfer, ITEMS(ITEM(REPRESENTED_PORT), ETH), TO_PF0,
		  "on vf0 from any transfer group 0 priority 0 pattern actions port=pf0\n" },
		{ VF0, transfer, ITEMS(ETH), ACTIONS(MIRROR, JUMP(1)),
		  "on vf0 from vf0 transfer group 0 priority 0 pattern actions sample=1 { raw_encap=" UDP_HEADER
		  " port=pf0 } jump=1\n" },
		{ PF0, transfer,
		  ITEMS(ITEM(REPRESENTED_PORT, .spec = &vf0),
			ITEM(ETH, SPEC(eth, .hdr.dst_addr.addr_bytes = MAC_A),
			     MASK(eth, .hdr.dst_addr.addr_bytes = MAC_C)),
			ITEM(VLAN, SPEC(vlan, .hdr.vlan_tci = RTE_BE16(0x1005)))),
		  ACTIONS(ACTION(SET_MAC_SRC, MAC_CONF), ACTION(SET_MAC_DST, MAC_CONF), TO(VF0)),
		  "on pf0 from vf0 transfer group 0 priority 0 pattern eth.dst=02:00:00:00:00:08/02:00:00:00:00:0C vlan=1 "
		  "vlan.tci=0x5/0xfff actions set_mac_src=02:00:00:00:00:0C set_mac_dst=02:00:00:00:00:0C port=vf0\n" },
		{ PF0, transfer,
		  ITEMS(ETH, ITEM(IPV6,
				  SPEC(ipv6, .hdr.dst_addr = ADDR6(0xfc, [3] = 1),
				       .hdr.vtc_flow = RTE_BE32(5)),
				  MASK(ipv6, .hdr.dst_addr = ADDR6(0xff, 0xff, 0xff, 0xff),
				       .hdr.proto = 0xfb, .hdr.vtc_flow = RTE_BE32(0xfffff)))),
		  ACTIONS(DECAP(54), ENCAP(eth_header, 14), SET_TAG(2, 1), TO(VF3)),
		  "on pf0 from pf0 transfer group 0 priority 0 pattern ip=6 ip.dst=fc00:1::/ffff:ffff:: ip.proto=0/0xfb "
		  "ip.flow=0x5/0xfffff actions raw_decap=54 raw_encap=0200000000020200000000010800 set_tag[2]=0x0/0x1 port=vf3\n" },
		{ VF0, transfer,
		  ITEMS(ETH,
			ITEM(IPV4,
			     SPEC(ipv4, .hdr.src_addr = RTE_BE32(0x0a000001),
				  .hdr.dst_addr = RTE_BE32(0x0a000203), .hdr.version_ihl = 0x45),
			     MASK(ipv4, .hdr.src_addr = UINT32_MAX,
				  .hdr.dst_addr = RTE_BE32(0xffffff00), .hdr.version_ihl = 0xf)),
			ITEM(TCP,
			     SPEC(tcp, .hdr = { .dst_port = RTE_BE16(80),
						.src_port = RTE_BE16(0x1234) }),
			     MASK(tcp, .hdr = { .dst_port = UINT16_MAX,
						.src_port = RTE_BE16(0xff00),
						.tcp_flags = 7 }))),
		  ACTIONS(ACTION(DEC_TTL), TO(VF3)),
		  "on vf0 from vf0 transfer group 0 priority 0 pattern ip=4 ip.src=10.0.0.1 ip.dst=10.0.2.0/255.255.255.0 ip.ihl=5/0xf "
		  "l4=6 l4.src=4608/0xff00 l4.dst=80 tcp.flags=0x0/0x7 actions dec_ttl port=vf3\n" },
		{ PF0, ATTR(.egress = 1), ITEMS(ETH), ACTIONS(ACTION(COUNT)),
		  "on pf0 from pf0 egress group 0 priority 0 pattern actions count # 0 packets 0 bytes\n" },
		{ PF1, ingress, ITEMS(ETH),
		  ACTIONS(ACTION(FLAG), ACTION(RSS, CONF(rss, .queue_num = 3,
							 .queue = (const uint16_t[]){ 1, 0, 1 }))),
		  "on pf1 from pf1 ingress group 0 priority 0 pattern actions flag rss=1,0,1\n" },
		{ PF1, ingress, ITEMS(ETH, ITEM(IPV4), ITEM(ICMP, SPEC(icmp, .hdr.icmp_type = 8))),
		  ACTIONS(ACTION(MARK, CONF(mark, .id = 5)), QUEUE(1)),
		  "on pf1 from pf1 ingress group 0 priority 0 pattern ip=4 l4=1 icmp.type=8 icmp.code=0 actions mark=5 queue=1\n" },
		{ VF0, transfer,
		  ITEMS(ITEM(TAG, SPEC(tag, .index = 2, .data = 5)), ETH, ITEM(IPV4), UDP,
			ITEM(VXLAN, SPEC(vxlan, .vni = { 1, 2, 3 })),
			ITEM(ETH, SPEC(eth, .hdr.src_addr.addr_bytes = MAC_A)), ITEM(IPV6),
			ITEM(TCP)),
		  ACTIONS(SET_TAG(1, 0xff),
			  ACTION(SET_IPV4_SRC, CONF(set_ipv4, .ipv4_addr = RTE_BE32(0x0a000001))),
			  ACTION(SET_TP_DST, CONF(set_tp, .port = RTE_BE16(443))), TO(PF0)),
		  "on vf0 from vf0 transfer group 0 priority 0 pattern vni=66051 inner.eth.dst=00:00:00:00:00:00 "
		  "inner.eth.src=02:00:00:00:00:0A inner.vlan=0 tag[2]=0x5 ip=4 l4=17 l4.dst=4789 inner.ip=6 inner.l4=6 "
		  "actions set_tag[1]=0x0/0xff set_ipv4_src=10.0.0.1 set_tp_dst=443 port=pf0\n" },
		{ VF0, transfer,
		  ITEMS(ETH,
			ITEM(VLAN, SPEC(vlan, .hdr.vlan_tci = RTE_BE16(0x6005)),
			     MASK(vlan, .hdr.vlan_tci = RTE_BE16(0xefff))),
			ITEM(IPV6)),
		  ACTIONS(ACTION(SET_IPV6_DST, CONF(set_ipv6, .ipv6_addr = ADDR6(0xfc, [15] = 1))),
			  PUSH(0x88a8), TO(PF0)),
		  "on vf0 from vf0 transfer group 0 priority 0 pattern vlan=1 vlan.tci=0x6005/0xefff ip=6 "
		  "actions set_ipv6_dst=fc00::1 of_push_vlan=0x88a8,tci=0x6005 port=pf0\n" },
		{ VF3, ingress, ITEMS(), ACTIONS(ACTION(DROP)),
		  "on vf3 from vf3 ingress group 0 priority 0 pattern actions drop\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(rules); i++) {
		const struct dumped *r = &rules[i];
		struct rte_flow *flow = nic_rule(r->port, r->attr, r->items, r->actions);
		char one[2000] = "", all[2000] = "";
		FILE *file = fmemopen(one, sizeof(one), "w");

		assert_int_equal(rte_flow_dev_dump(nic.port[r->port], flow, file, NULL), 0);
		fclose(file);
		assert_string_equal(one, r->line);
		file = fmemopen(all, sizeof(all), "w");
		assert_int_equal(rte_flow_dev_dump(nic.port[r->port], NULL, file, NULL), 0);
		fclose(file);
		assert_string_equal(all, one);
		nic_destroy(r->port, flow);
	}
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, nic_clean)
	const struct CMUnitTest tests[] = {
		TEST(refuses_attributes),
		TEST(refuses_items),
		TEST(refuses_vxlan),
		TEST(refuses_metadata),
		TEST(refuses_rewriting),
		TEST(refuses_actions),
		TEST(refuses_tunnels),
		TEST(refuses_samples),
		TEST(refuses_only_when_it_creates),
		TEST(is_a_connectx5),
		TEST(accepts_what_the_card_accepts),
		TEST(knows_whose_rule_it_is),
		TEST(names_the_proxy),
		TEST(dumps_rules),
	};
	int failed;

	failed = cmocka_run_group_tests(tests, nic_setup, nic_teardown);
	report("net_eswitch in C: refusals tried: %u", refusals);
	return failed;
}
