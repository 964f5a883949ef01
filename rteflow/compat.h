/* SPDX-License-Identifier: Apache-2.0 */

#ifndef DPS_RTEFLOW_COMPAT_H
#define DPS_RTEFLOW_COMPAT_H

#include <assert.h>
#include <stddef.h>

#include <rte_flow.h>
#include <rte_version.h>

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

#endif
