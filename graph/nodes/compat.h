/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between DPDK versions, in one place. Written for 22.11. */
#ifndef NODES_COMPAT_H
#define NODES_COMPAT_H

#include <rte_version.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or later is needed"
#endif

#include <rte_graph.h>
#include <rte_graph_worker.h>
#include <rte_ip.h>

#include "atomic.h"

/* Since 23.11 the nodes' counters are allocated apart only for the dispatch model; the fields keep
 * their names. */
static inline void
compat_node_counters(const struct rte_node *node, uint64_t *calls, uint64_t *objs, uint64_t *cycles)
{
	*calls = load_relaxed((const _Atomic uint64_t *)&node->total_calls);
	*objs = load_relaxed((const _Atomic uint64_t *)&node->total_objs);
	*cycles = load_relaxed((const _Atomic uint64_t *)&node->total_cycles);
}

/* The 16 bytes of an address, which is an array of bytes until 24.07, and a struct around one
 * since. */
static inline const uint8_t *
ipv6_src(const struct rte_ipv6_hdr *ip)
{
	return (const uint8_t *)&ip->src_addr;
}

static inline const uint8_t *
ipv6_dst(const struct rte_ipv6_hdr *ip)
{
	return (const uint8_t *)&ip->dst_addr;
}

#endif
