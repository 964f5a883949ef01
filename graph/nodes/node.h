/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the nodes' process functions. */
#ifndef NODES_NODE_H
#define NODES_NODE_H

#include <string.h>

#include "compat.h"
#include "dataplane.h"

static_assert(sizeof(struct node_ctx) <= RTE_NODE_CTX_SZ, "fits in a node");

static_assert(sizeof("tap_rx-") - 1 + PORT_NAME_SIZE <= RTE_NODE_NAMESIZE,
	      "names the port's nodes");

static inline struct node_ctx *
node_ctx(struct rte_node *node)
{
	return (struct node_ctx *)node->ctx;
}

/* How many packets ahead a frame is fetched that no node has read yet. */
#define PREFETCH_AHEAD 4
#define VLAN_ID 0x0fff

static __rte_always_inline void
node_prefetch(struct rte_mbuf *m)
{
	rte_prefetch0(rte_pktmbuf_mtod(m, void *));
}

/* The nodes work on one contiguous frame with an Ethernet header. */
static __rte_always_inline bool
node_has_header(struct rte_mbuf *m)
{
	if (unlikely(m->nb_segs > 1 && rte_pktmbuf_linearize(m) < 0))
		return false;
	return rte_pktmbuf_data_len(m) >= ETH_LEN;
}

/* The same, and the header is credible. */
static __rte_always_inline bool
node_packet_is_whole(struct rte_mbuf *m)
{
	return node_has_header(m) &&
	       !rte_is_multicast_ether_addr(&rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->src_addr);
}

static __rte_always_inline bool
node_is_tag(rte_be16_t ether_type)
{
	return ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN) ||
	       ether_type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* Take the tag off a frame that has but a priority (VLAN 0): to IEEE 802.1Q it is untagged. False:
 * it has another tag. */
static inline bool
node_remove_priority(struct rte_mbuf *m)
{
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
	const struct rte_vlan_hdr *tag = (const struct rte_vlan_hdr *)(frame + ETH_LEN);

	if (rte_pktmbuf_data_len(m) < ETH_LEN + sizeof(*tag) ||
	    ((struct rte_ether_hdr *)frame)->ether_type != RTE_BE16(RTE_ETHER_TYPE_VLAN) ||
	    (tag->vlan_tci & RTE_BE16(VLAN_ID)) != 0 || node_is_tag(tag->eth_proto))
		return false;
	memmove(frame + sizeof(*tag), frame, 2 * RTE_ETHER_ADDR_LEN);
	rte_pktmbuf_adj(m, sizeof(*tag));
	return true;
}

/* Hand objs[i] to edge nexts[i]. Neighbours mostly go the same way, so they move in runs; a burst
 * that is one run changes hands without a copy. objs is the node's own stream. */
static __rte_always_inline void
node_enqueue_runs(struct rte_graph *graph, struct rte_node *node, void **objs,
		  const rte_edge_t *nexts, uint16_t n)
{
	uint16_t start = 0, i;

	if (likely(n == node->idx && memcmp(nexts, &nexts[1], (n - 1) * sizeof(*nexts)) == 0)) {
		rte_node_next_stream_move(graph, node, nexts[0]);
		return;
	}
	for (i = 1; i < n; i++) {
		if (likely(nexts[i] == nexts[start]))
			continue;
		rte_node_enqueue(graph, node, nexts[start], &objs[start], i - start);
		start = i;
	}
	rte_node_enqueue(graph, node, nexts[start], &objs[start], n - start);
}

/* Decide each packet's edge on its own, and send it there. The frames are fetched that many packets
 * ahead: PREFETCH_AHEAD, or 0 where another node has read them. */
static __rte_always_inline uint16_t
node_for_each(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs,
	      uint16_t ahead, rte_edge_t (*decide)(const struct worker *w, struct rte_mbuf *m))
{
	const struct worker *w = node_ctx(node)->w;
	rte_edge_t nexts[RX_BURST];
	uint32_t left, n, i, fetch;

	for (left = nb_objs; left > 0; left -= n, objs += n) {
		n = RTE_MIN(left, RX_BURST);
		fetch = ahead > 0 && left > ahead ? left - ahead : 0;
		for (i = 0; i < n; i++) {
			if (i < fetch)
				node_prefetch(objs[i + ahead]);
			nexts[i] = decide(w, objs[i]);
		}
		node_enqueue_runs(graph, node, objs, nexts, n);
	}
	return nb_objs;
}

#endif
