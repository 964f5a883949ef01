/* SPDX-License-Identifier: Apache-2.0 */

#ifndef DPS_RTEFLOW_COMPAT_H
#define DPS_RTEFLOW_COMPAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_flow.h>
#include <rte_version.h>

#include "flow.h"

/*
 * What differs between versions of DPDK is dealt with here and nowhere else
 * in this package. Written for 22.11; needs the represented_port item and
 * action and the transfer proxy, which 21.11 brought.
 */
#if RTE_VERSION < RTE_VERSION_NUM(21, 11, 0, 0)
#error "dpservice needs DPDK 21.11 or later"
#endif

/*
 * Field names within the items change between versions (eth lost its legacy
 * names, IPv6 addresses became a struct). The items are therefore filled as
 * the protocols' headers, with which they begin in every version.
 */
static_assert(offsetof(struct rte_flow_item_eth, hdr) == 0, "eth");
static_assert(offsetof(struct rte_flow_item_ipv4, hdr) == 0, "ipv4");
static_assert(offsetof(struct rte_flow_item_ipv6, hdr) == 0, "ipv6");
static_assert(offsetof(struct rte_flow_item_tcp, hdr) == 0, "tcp");
static_assert(offsetof(struct rte_flow_item_udp, hdr) == 0, "udp");
static_assert(offsetof(struct rte_flow_item_icmp, hdr) == 0, "icmp");
static_assert(offsetof(struct rte_flow_item_icmp6, type) == 0, "icmp6");
static_assert(offsetof(struct rte_flow_item_vlan, hdr) == 0, "vlan");
static_assert(offsetof(struct rte_flow_item_vxlan, hdr) == 0, "vxlan");
static_assert(offsetof(struct rte_flow_item_mark, id) == 0, "mark");
static_assert(offsetof(struct rte_flow_item_tag, data) == 0, "tag");
static_assert(offsetof(struct rte_flow_item_tag, index) == 4, "tag");
static_assert(offsetof(struct rte_flow_item_meta, data) == 0, "meta");
static_assert(offsetof(struct rte_flow_item_ethdev, port_id) == 0, "ethdev");
static_assert(offsetof(struct rte_flow_item_port_id, id) == 0, "port_id");

/* Go writes what has pointers as the structs of flow.h. */
#define SAME_PLACE(a, b, field) (offsetof(struct a, field) == offsetof(struct b, field))
static_assert(sizeof(void *) == sizeof(uint64_t), "pointers have 64 bits");
static_assert(sizeof(struct rte_flow_item) == sizeof(struct rf_item) &&
		      SAME_PLACE(rte_flow_item, rf_item, spec) &&
		      SAME_PLACE(rte_flow_item, rf_item, last) &&
		      SAME_PLACE(rte_flow_item, rf_item, mask),
	      "item");
static_assert(sizeof(struct rte_flow_action) == sizeof(struct rf_action) &&
		      SAME_PLACE(rte_flow_action, rf_action, conf),
	      "action");
static_assert(SAME_PLACE(rte_flow_action_sample, rf_sample, actions), "sample");
static_assert(SAME_PLACE(rte_flow_action_raw_encap, rf_raw_encap, data) &&
		      SAME_PLACE(rte_flow_action_raw_encap, rf_raw_encap, preserve) &&
		      SAME_PLACE(rte_flow_action_raw_encap, rf_raw_encap, size),
	      "raw_encap");
static_assert(SAME_PLACE(rte_flow_action_raw_decap, rf_raw_decap, data) &&
		      SAME_PLACE(rte_flow_action_raw_decap, rf_raw_decap, size),
	      "raw_decap");
static_assert(offsetof(struct rte_flow_action_age, context) == 8, "age");
static_assert(offsetof(struct rte_flow_action_port_id, id) == 4, "port_id");

/* An item's or action's struct, whatever its type, has its room. */
static_assert(sizeof(struct rte_flow_item_eth) <= RF_ROOM, "eth");
static_assert(sizeof(struct rte_flow_item_ipv4) <= RF_ROOM, "ipv4");
static_assert(sizeof(struct rte_flow_item_ipv6) <= RF_ROOM, "ipv6");
static_assert(sizeof(struct rte_flow_item_tcp) <= RF_ROOM, "tcp");
static_assert(sizeof(struct rte_flow_action_raw_encap) <= RF_ROOM, "raw_encap");

#endif
