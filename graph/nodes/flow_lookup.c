/* SPDX-License-Identifier: Apache-2.0 */
/* flow_lookup: find the packets' flows, which say all that is to be done. One exact match per
 * packet, in bulk. */
#include "flow.h"
#include "node.h"
#include "peer.h"

enum { NEXT_ROUTE = NEXT_FORWARDS, NEXT_MALFORMED, NEXT_WRONG_PEER };

/* What the steps tell each other of the packets. Each step reads memory that the last one has
 * fetched for all of them. */
struct burst {
	struct flow_key keys[RX_BURST];
	uint8_t tcp_flags[RX_BURST];
	uint32_t hashes[RX_BURST];
	const struct flow_bucket *buckets[RX_BURST];
	uint32_t refs[RX_BURST];
};

/* A malformed packet has a key that no flow has. */
static __rte_always_inline uint32_t
hash_packet(const struct worker *w, struct rte_mbuf *m, struct flow_key *key, uint8_t *tcp_flags)
{
	if (likely(parse_plain(w, m, key, tcp_flags)))
		return flow_key_hash_ipv4(w, key);
	if (unlikely(!parse_packet(w, m, key, tcp_flags)))
		flow_key_set_none(key);
	return flow_key_hash(w, key);
}

/* Where to look; the buckets are on their way into the cache. */
static __rte_always_inline void
hash_packets(const struct worker *w, void **objs, uint16_t n, struct burst *b)
{
	uint16_t i;

	for (i = 0; i < n; i++) {
		b->hashes[i] = hash_packet(w, objs[i], &b->keys[i], &b->tcp_flags[i]);
		b->buckets[i] = flow_bucket(w, b->hashes[i]);
		rte_prefetch0(b->buckets[i]);
	}
}

/* The lines of a flow that a packet with this key needs: see struct flow. */
static __rte_always_inline void
prefetch_flow(const struct flow *f, const struct flow_key *key)
{
	rte_prefetch0(&f->key.src4);
	if (likely(flow_key_is_guest_ipv4(key)))
		return;
	rte_prefetch0(f);
	if (key->kind & KEY_WIRE)
		rte_prefetch0(f->verdict.peer);
}

/* Where the flows may be; the entries are on their way into the cache. */
static __rte_always_inline void
find_candidates(const struct worker *w, uint16_t n, struct burst *b)
{
	uint16_t i;

	for (i = 0; i < n; i++) {
		b->refs[i] = flow_candidate(w, b->buckets[i], b->hashes[i]);
		prefetch_flow(w->none + b->refs[i], &b->keys[i]);
	}
}

/* What is to be done with a packet of any kind, and of any flow. */
static __rte_always_inline rte_edge_t
apply_any(struct worker *w, struct rte_mbuf *m, const struct burst *b, uint16_t i)
{
	const struct flow_key *key = &b->keys[i];
	uint32_t pos = b->refs[i] - 1;
	struct flow *f = w->none + b->refs[i];

	if (!flow_key_equal(&f->key, key)) { /* another one with this hash */
		pos = dps_flow_find(w, key, b->hashes[i]);
		if (pos == FLOW_NONE)
			return key->kind == KEY_NONE ? NEXT_MALFORMED : NEXT_ROUTE;
		f = &w->flows[pos];
	}
	if (f->generation != w->generation)
		return NEXT_ROUTE;
	if (f->verdict.from_peer && !peer_is_right(w, m, key, &f->verdict))
		return NEXT_WRONG_PEER;
	pkt_meta(m)->flow = pos;
	if (!(key->kind & KEY_WIRE))
		pkt_meta(m)->l3 = ETH_LEN; /* parse_plain has not noted it */
	flow_touch(w, f, m, b->tcp_flags[i]);
	return f->verdict.next;
}

/* The same, for what is rare: a function of its own, which takes no registers from apply. */
static __rte_noinline rte_edge_t
apply_rare(struct worker *w, struct rte_mbuf *m, const struct burst *b, uint16_t i)
{
	return apply_any(w, m, b, i);
}

/* The same. Nearly all packets are a guest's, in IPv4, of the first flow that has their hash, and
 * only to be counted. */
static __rte_always_inline rte_edge_t
apply(struct worker *w, struct rte_mbuf *m, const struct burst *b, uint16_t i, uint32_t generation,
      uint64_t now)
{
	const struct flow_key *key = &b->keys[i];
	struct flow *f = w->none + b->refs[i];

	if (unlikely(!flow_key_is_guest_ipv4(key)))
		return apply_any(w, m, b, i);
	if (unlikely(!flow_key_equal_ipv4(&f->key, key) || !flow_is_settled(f, generation) ||
		     (b->tcp_flags[i] & TCP_NO_OFFLOAD)))
		return apply_rare(w, m, b, i);
	if (f->verdict.next == NEXT_ENCAP)
		rte_prefetch0(f->verdict.peer); /* the outer header goes on there */
	pkt_meta(m)->flow = b->refs[i] - 1;
	pkt_meta(m)->l3 = ETH_LEN;
	flow_count(f, m, now);
	return f->verdict.next;
}

static void
lookup_burst(struct worker *w, void **objs, uint16_t n, rte_edge_t *nexts)
{
	uint32_t generation = w->generation;
	uint64_t now = w->now;
	struct burst b;
	uint16_t i;

	hash_packets(w, objs, n, &b);
	find_candidates(w, n, &b);
	for (i = 0; i < n; i++)
		nexts[i] = apply(w, objs[i], &b, i, generation, now);
}

static uint16_t
flow_lookup_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	rte_edge_t nexts[RX_BURST];
	uint16_t done, n;

	for (done = 0; done < nb_objs; done += n) {
		n = RTE_MIN(nb_objs - done, (int)RX_BURST);
		lookup_burst(w, &objs[done], n, nexts);
		node_enqueue_runs(graph, node, &objs[done], nexts, n);
	}
	return nb_objs;
}

static struct rte_node_register flow_lookup_node = {
	.name = "flow_lookup",
	.process = flow_lookup_process,
	.nb_edges = NEXT_FORWARDS + 3,
	.next_nodes = {
		[NEXT_DELIVER] = "deliver",
		[NEXT_ENCAP] = "encap",
		[NEXT_DECAP] = "decap",
		[NEXT_ROUTE] = "flow_route",
		[NEXT_MALFORMED] = "drop_malformed",
		[NEXT_WRONG_PEER] = "drop_wrong_peer",
	},
};
RTE_NODE_REGISTER(flow_lookup_node);
