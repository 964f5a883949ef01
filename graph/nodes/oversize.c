/* SPDX-License-Identifier: Apache-2.0 */
/* oversize: packets that do not fit the MTU of where they are to go. An IPv4 packet that allows it
 * is cut into fragments, which go on as if they had come so. The sender of any other gets an ICMP
 * error. */
#include <rte_ip.h>
#include <rte_ip_frag.h>

#include "flow.h"
#include "node.h"

enum { NEXT_TTL = NEXT_FORWARDS, NEXT_TOO_BIG, NEXT_DROP };

#define MAX_FRAGMENTS 64

/* Make a fragment a frame as it would have come in: with the outer headers of the packet that it is
 * of. */
static bool
wrap(struct rte_mbuf *f, const struct rte_mbuf *m, const uint8_t *outer, uint16_t outer_len)
{
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod(f, struct rte_ipv4_hdr *);
	struct rte_ipv6_hdr *tunnel;
	uint8_t *frame;

	ip->hdr_checksum = rte_ipv4_cksum(ip);
	frame = (uint8_t *)rte_pktmbuf_prepend(f, outer_len);
	if (frame == NULL)
		return false;
	memcpy(frame, outer, outer_len);
	if (outer_len == OUTER_LEN) {
		tunnel = (struct rte_ipv6_hdr *)(frame + ETH_LEN);
		tunnel->payload_len = rte_cpu_to_be_16(rte_pktmbuf_data_len(f) - OUTER_LEN);
	}
	f->port = m->port;
	f->hash = m->hash; /* the packet's meta data */
	return true;
}

/* Cut a packet that lies in m from its IP header on; outer_len bytes of other headers are before
 * it. Returns the number of fragments, none if that is not possible. */
static uint16_t
cut(const struct worker *w, struct rte_mbuf *m, uint16_t mtu, uint16_t outer_len,
    struct rte_mbuf **fragments)
{
	const struct rte_ipv4_hdr *ip =
		rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, outer_len);
	const uint8_t *outer = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t padding = rte_pktmbuf_data_len(m) - outer_len - rte_be_to_cpu_16(ip->total_length);
	int32_t n, i;

	rte_pktmbuf_trim(m, padding);
	rte_pktmbuf_adj(m, outer_len);
	n = rte_ipv4_fragment_copy_nonseg_packet(m, fragments, MAX_FRAGMENTS, mtu, w->dp->pool);
	for (i = 0; i < n; i++) {
		if (wrap(fragments[i], m, outer, outer_len))
			continue;
		rte_pktmbuf_free_bulk(fragments, n);
		return 0;
	}
	return RTE_MAX(n, 0);
}

/* The edge of a packet, or of its fragments: those go where the packet came from. */
static rte_edge_t
decide(const struct verdict *v, const uint8_t *l3)
{
	const struct rte_ipv4_hdr *ip4 = (const struct rte_ipv4_hdr *)l3;
	bool is_ipv6 = (l3[0] >> 4) == 6;
	uint8_t ttl = is_ipv6 ? ((const struct rte_ipv6_hdr *)l3)->hop_limits : ip4->time_to_live;

	if (v->dec_ttl && ttl <= 1)
		return NEXT_TTL;
	if (is_ipv6 || (ip4->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG)))
		return NEXT_TOO_BIG;
	return v->next;
}

static void
handle(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m)
{
	struct worker *w = node_ctx(node)->w;
	struct flow *f = &w->flows[pkt_meta(m)->flow];
	const struct verdict *v = &f->verdict;
	struct rte_mbuf *fragments[MAX_FRAGMENTS];
	uint16_t l3 = pkt_meta(m)->l3, n;
	rte_edge_t next;

	dps_flow_keep_in_software(w, f);
	next = decide(v, rte_pktmbuf_mtod_offset(m, const uint8_t *, l3));
	if (next >= NEXT_FORWARDS) {
		rte_node_enqueue_x1(graph, node, next, m);
		return;
	}
	n = cut(w, m, v->mtu, l3, fragments);
	if (n == 0) {
		rte_node_enqueue_x1(graph, node, NEXT_DROP, m);
		return;
	}
	rte_node_enqueue(graph, node, next, (void **)fragments, n);
	rte_pktmbuf_free(m);
}

static uint16_t
oversize_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	uint16_t i;

	for (i = 0; i < nb_objs; i++)
		handle(graph, node, objs[i]);
	return nb_objs;
}

static struct rte_node_register oversize_node = {
	.name = "oversize",
	.process = oversize_process,
	.nb_edges = NEXT_FORWARDS + 3,
	.next_nodes = {
		[NEXT_DELIVER] = "deliver",
		[NEXT_ENCAP] = "encap",
		[NEXT_DECAP] = "decap",
		[NEXT_TTL] = "icmp_time_exceeded",
		[NEXT_TOO_BIG] = "icmp_too_big",
		[NEXT_DROP] = "drop_too_big",
	},
};
RTE_NODE_REGISTER(oversize_node);
