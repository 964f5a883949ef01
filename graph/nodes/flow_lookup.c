/* SPDX-License-Identifier: Apache-2.0 */
/* flow_lookup: find the packets' flows, which say all that is to be done. One exact match per
 * packet, in bulk. */
#include "flow.h"
#include "node.h"
#include "peer.h"

enum { NEXT_ROUTE = NEXT_FORWARDS, NEXT_MALFORMED, NEXT_WRONG_PEER };

/* Keys of the burst; packets without a key are sorted out. Returns the number of keys. */
static uint16_t
make_keys(const struct worker *w, void **objs, uint16_t n, struct flow_key *keys, uint16_t *from,
	  rte_edge_t *nexts)
{
	struct rte_mbuf *m;
	uint16_t i, k = 0;

	for (i = 0; i < n; i++) {
		m = objs[i];
		if (unlikely(!parse_packet(w, m, &keys[k]))) {
			nexts[i] = NEXT_MALFORMED;
			continue;
		}
		from[k++] = i;
	}
	return k;
}

/* Where to look; the buckets are on their way into the cache. A key is read in larger words than it
 * was written in: a CPU would wait for that if it came at once. */
static void
hash_keys(const struct worker *w, const struct flow_key *keys, uint16_t n, uint32_t *hashes)
{
	uint16_t i;

	for (i = 0; i < n; i++) {
		hashes[i] = flow_key_hash(w, &keys[i]);
		rte_prefetch0(flow_bucket(w, hashes[i]));
	}
}

/* Where the flows may be; the entries are on their way into the cache. */
static void
find_candidates(const struct worker *w, const struct flow_key *keys, const uint32_t *hashes,
		uint16_t n, uint32_t *positions)
{
	const struct flow_bucket *b;
	const struct flow *f;
	uint16_t i;

	for (i = 0; i < n; i++) {
		b = flow_bucket(w, hashes[i]);
		positions[i] = flow_candidate(b, hashes[i]);
		if (unlikely(positions[i] == FLOW_NONE))
			positions[i] =
				flow_candidate(flow_other_bucket(w, b, hashes[i]), hashes[i]);
		f = &w->flows[positions[i] != FLOW_NONE ? positions[i] : 0];
		rte_prefetch0(f);
		rte_prefetch0(&f->key);
		if (keys[i].kind & KEY_WIRE)
			rte_prefetch0(f->verdict.peer);
	}
}

static __rte_always_inline rte_edge_t
apply(struct worker *w, struct rte_mbuf *m, const struct flow_key *key, uint32_t hash, uint32_t pos)
{
	struct flow *f;

	if (unlikely(pos == FLOW_NONE))
		return NEXT_ROUTE;
	if (unlikely(!flow_key_equal(&w->flows[pos].key, key))) { /* another one with this hash */
		pos = dps_flow_find(w, key, hash);
		if (pos == FLOW_NONE)
			return NEXT_ROUTE;
	}
	f = &w->flows[pos];
	if (unlikely(f->generation != w->generation))
		return NEXT_ROUTE;
	if (f->verdict.from_peer && unlikely(!peer_is_right(w, m, key, &f->verdict)))
		return NEXT_WRONG_PEER;
	if (f->verdict.kind == VERDICT_ENCAP)
		rte_prefetch0(f->verdict.peer); /* the outer header goes on there */
	pkt_meta(m)->flow = pos;
	flow_touch(w, f, m);
	return f->verdict.next;
}

static void
lookup_burst(struct worker *w, void **objs, uint16_t n, rte_edge_t *nexts)
{
	struct flow_key keys[RX_BURST];
	uint32_t hashes[RX_BURST], positions[RX_BURST];
	uint16_t from[RX_BURST];
	uint16_t nb_keys, i;

	nb_keys = make_keys(w, objs, n, keys, from, nexts);
	hash_keys(w, keys, nb_keys, hashes);
	find_candidates(w, keys, hashes, nb_keys, positions);
	for (i = 0; i < nb_keys; i++)
		nexts[from[i]] = apply(w, objs[from[i]], &keys[i], hashes[i], positions[i]);
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
