/* SPDX-License-Identifier: Apache-2.0 */
/* flow_lookup: find the packets' flows, which say all that is to be done. One exact match per packet, in bulk. */
#include "flow.h"
#include "node.h"

static_assert(RX_BURST == RTE_HASH_LOOKUP_BULK_MAX, "one bulk look-up for a burst");

enum { NEXT_ROUTE = NEXT_FORWARDS, NEXT_MALFORMED };

/* Keys and hashes of the burst; packets without a key are sorted out. Returns the number of keys. */
static uint16_t
make_keys(const struct worker *w, void **objs, uint16_t n, struct flow_key *keys, uint32_t *hashes, uint16_t *from,
	  rte_edge_t *nexts)
{
	struct rte_mbuf *m;
	uint16_t i, k = 0;

	for (i = 0; i < n; i++) {
		m = objs[i];
		if (unlikely(!parse_packet(m, w->ports[m->port].vf, &keys[k]))) {
			nexts[i] = NEXT_MALFORMED;
			continue;
		}
		hashes[k] = flow_key_hash(&keys[k]);
		from[k++] = i;
	}
	return k;
}

static inline rte_edge_t
apply(struct worker *w, struct flow *f, struct rte_mbuf *m, int32_t pos)
{
	if (unlikely(pos < 0 || f->generation != w->generation))
		return NEXT_ROUTE;
	pkt_meta(m)->flow = pos;
	flow_touch(w, f, m);
	return f->verdict.next;
}

static void
lookup_burst(struct worker *w, void **objs, uint16_t n, rte_edge_t *nexts)
{
	struct flow_key keys[RX_BURST];
	const void *key_ptrs[RX_BURST];
	uint32_t hashes[RX_BURST];
	int32_t positions[RX_BURST];
	uint16_t from[RX_BURST];
	uint16_t nb_keys, i;

	nb_keys = make_keys(w, objs, n, keys, hashes, from, nexts);
	if (unlikely(nb_keys == 0))
		return;
	for (i = 0; i < nb_keys; i++)
		key_ptrs[i] = &keys[i];
	rte_hash_lookup_with_hash_bulk(w->flow_hash, key_ptrs, hashes, nb_keys, positions);
	for (i = 0; i < nb_keys; i++) {
		if (likely(positions[i] >= 0)) {
			rte_prefetch0(&w->flows[positions[i]]);
			rte_prefetch0(w->flows[positions[i]].verdict.header);
		}
	}
	for (i = 0; i < nb_keys; i++)
		nexts[from[i]] = apply(w, &w->flows[RTE_MAX(positions[i], 0)], objs[from[i]], positions[i]);
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
	.nb_edges = NEXT_FORWARDS + 2,
	.next_nodes = {
		[NEXT_DELIVER] = "deliver",
		[NEXT_ENCAP] = "encap",
		[NEXT_DECAP] = "decap",
		[NEXT_ROUTE] = "flow_route",
		[NEXT_MALFORMED] = "drop_malformed",
	},
};
RTE_NODE_REGISTER(flow_lookup_node);
