/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_ip.h>
#include <rte_malloc.h>

#include "bucket.h"
#include "control.h"
#include "flow.h"
#include "mark.h"
#include "node.h"
#include "tap.h"
#include "worker.h"

#define TRACE_RECORDS 64u /* of a walk */
#define TRACE_RING 512u
#define TRACE_RATE 1000u /* packets a second, of all workers */
#define TRACE_BURST 256u

static_assert(TRACE_RECORDS <= UINT8_MAX, "fits struct pkt_meta");
static_assert(sizeof(struct trace_record) % 4 == 0, "can be an element of a ring");

/* A packet in the graph. */
struct traced {
	const struct rte_mbuf *m;
	uint64_t start; /* TSC */
	bool dropped;
	struct trace_record record;
};

/* A worker's trace. */
struct trace {
	rte_node_process_t *own; /* the nodes' own process functions, by id */
	uint16_t port;
	uint16_t iface;
	uint8_t underlay[16];
	bool drops;
	_Atomic uint64_t missed;
	uint16_t nb_rules[TRACE_SIDES];
	struct tap_rule *rules[TRACE_SIDES];
	uint16_t nb_packets;
	struct traced packets[TRACE_RECORDS]; /* of this walk */
	struct tap_rule both[];               /* what rules point to */
};

/* ---- packets ---- */

static bool
take_token(struct worker *w, struct trace *t)
{
	if (bucket_take(&w->dp->trace_full, w->now, rte_get_tsc_hz() / TRACE_RATE, TRACE_BURST))
		return true;
	add_as_only_writer(&t->missed, 1);
	return false;
}

static bool
is_for_underlay(const struct trace *t, const struct rte_mbuf *m)
{
	struct rte_ether_hdr buf_eth;
	struct rte_ipv6_hdr buf_ip;
	const struct rte_ether_hdr *eth = rte_pktmbuf_read(m, 0, sizeof(*eth), &buf_eth);
	const struct rte_ipv6_hdr *ip = rte_pktmbuf_read(m, ETH_LEN, sizeof(*ip), &buf_ip);

	return ip != NULL && eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6) &&
	       memcmp(ipv6_dst(ip), t->underlay, sizeof(t->underlay)) == 0;
}

/* Whether the NIC has decapsulated the packet for the traced interface. */
static bool
is_marked(const struct worker *w, const struct trace *t, const struct rte_mbuf *m)
{
	struct rte_ether_hdr buf;
	const struct rte_ether_hdr *eth = rte_pktmbuf_read(m, 0, sizeof(*eth), &buf);
	const struct tunnel *tunnel;

	if (!w->ports[m->port].marks || eth == NULL || !is_mark(&eth->src_addr))
		return false;
	tunnel = &w->tunnels[mark_tunnel(&eth->src_addr)];
	return tunnel->used && tunnel->iface == t->iface;
}

/* Whether the trace is about the packet: from the guest, or for it from the wire. */
static bool
read_key(const struct worker *w, const struct trace *t, const struct rte_mbuf *m,
	 union tap_key *key, uint8_t *side)
{
	*side = m->port == t->port ? TRACE_GUEST : TRACE_WIRE;
	if (t->nb_rules[*side] == 0)
		return false;
	if (*side == TRACE_GUEST) {
		dps_tap_key_read(m, key);
		return true;
	}
	if (w->ports[m->port].vf)
		return false;
	if (is_for_underlay(t, m))
		return dps_tap_key_read_inner(m, key);
	if (!is_marked(w, t, m))
		return false;
	dps_tap_key_read(m, key);
	return true;
}

static bool
is_wanted(const struct worker *w, const struct trace *t, const struct rte_mbuf *m, uint8_t *side)
{
	union tap_key key;

	return read_key(w, t, m, &key, side) &&
	       dps_tap_rules_match(t->rules[*side], t->nb_rules[*side], &key)->sample;
}

/* Whether the node carries out the verdict of the packet's flow. */
static bool
forwards(const struct rte_node *node)
{
	return strcmp(node->name, "deliver") == 0 || strcmp(node->name, "encap") == 0 ||
	       strcmp(node->name, "decap") == 0;
}

static void
note_flow(const struct worker *w, struct traced *p, const struct flow *f)
{
	p->record.has_flow = true;
	p->record.flow_flags = load_relaxed(&f->flags);
	dps_flow_copy(w, f, &p->record.flow);
}

static void
visit(struct traced *p, const struct rte_node *node, uint64_t begin, uint16_t burst)
{
	struct trace_record *r = &p->record;

	p->dropped |= strncmp(node->name, "drop_", strlen("drop_")) == 0 ||
		      strncmp(node->name, "icmp_", strlen("icmp_")) == 0;
	if (r->nb_hops == TRACE_HOPS) {
		r->cut = true;
		r->nb_hops--; /* the last one tells what became of the packet */
	}
	r->hops[r->nb_hops++] = (struct trace_hop){
		.node = node->id,
		.begin = begin - p->start,
		.burst = burst,
	};
}

/* A packet has come in. */
static void
begin_record(struct worker *w, struct trace *t, const struct rte_node *node, struct rte_mbuf *m,
	     uint64_t begin, uint16_t burst)
{
	struct traced *p;
	struct trace_record *r;
	struct timespec now;
	const void *bytes;
	uint8_t side;

	pkt_meta(m)->record = 0;
	if (!is_wanted(w, t, m, &side))
		return;
	if (t->nb_packets == TRACE_RECORDS) {
		add_as_only_writer(&t->missed, 1);
		return;
	}
	if (!t->drops && !take_token(w, t))
		return;
	p = &t->packets[t->nb_packets++];
	pkt_meta(m)->record = t->nb_packets;
	p->m = m;
	p->start = begin;
	p->dropped = false;
	clock_gettime(CLOCK_REALTIME, &now);
	r = &p->record;
	r->time_ns = now.tv_sec * NS_PER_S + now.tv_nsec;
	r->len = rte_pktmbuf_pkt_len(m);
	r->port = m->port;
	r->snap = RTE_MIN(r->len, TRACE_SNAP);
	r->nb_hops = 0;
	r->cut = false;
	r->wire = side == TRACE_WIRE;
	r->has_flow = false;
	r->flow_flags = 0;
	bytes = rte_pktmbuf_read(m, 0, r->snap, r->frame);
	if (bytes != r->frame)
		memcpy(r->frame, bytes, r->snap);
	visit(p, node, begin, burst);
}

static struct traced *
traced(struct trace *t, struct rte_mbuf *m)
{
	uint8_t number = pkt_meta(m)->record;

	if (likely(number == 0 || number > t->nb_packets || t->packets[number - 1].m != m))
		return NULL;
	return &t->packets[number - 1];
}

/* The node has done with the burst that it began with then. */
static void
note_end(struct trace *t, const struct rte_node *node, uint64_t begin)
{
	uint64_t now = rte_rdtsc();
	struct trace_hop *hop;
	struct traced *p;

	for (p = t->packets; p < t->packets + t->nb_packets; p++) {
		hop = &p->record.hops[p->record.nb_hops - 1];
		if (hop->node == node->id && hop->begin == (uint32_t)(begin - p->start))
			hop->end = now - p->start;
	}
}

/* rx while a trace runs. The packets have gone to the next node's stream, but objs still has
 * them. */
static uint16_t
rx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	struct trace *t = w->trace;
	uint64_t begin = rte_rdtsc();
	uint16_t n = t->own[node->id](graph, node, objs, nb_objs), i;

	for (i = 0; i < n; i++)
		begin_record(w, t, node, objs[i], begin, n);
	if (n > 0)
		note_end(t, node, begin);
	return n;
}

/* All other nodes while a trace runs. */
static uint16_t
visit_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	struct worker *w = node_ctx(node)->w;
	struct trace *t = w->trace;
	uint64_t begin = rte_rdtsc();
	struct traced *p;
	uint16_t n, i;

	for (i = 0; t->nb_packets > 0 && i < nb_objs; i++) {
		p = traced(t, objs[i]);
		if (likely(p == NULL))
			continue;
		visit(p, node, begin, nb_objs);
		if (forwards(node))
			note_flow(w, p, &w->flows[pkt_meta(objs[i])->flow]);
	}
	n = t->own[node->id](graph, node, objs, nb_objs);
	note_end(t, node, begin);
	return n;
}

void
dps_trace_finish(struct worker *w)
{
	struct trace *t = w->trace;
	struct traced *p;

	for (p = t->packets; p < t->packets + t->nb_packets; p++) {
		if (t->drops && (!p->dropped || !take_token(w, t)))
			continue;
		if (rte_ring_mp_enqueue_elem(w->dp->traced, &p->record, sizeof(p->record)) < 0)
			add_as_only_writer(&t->missed, 1);
	}
	t->nb_packets = 0;
}

/* ---- control ---- */

static void
destroy(struct trace *t)
{
	if (t != NULL)
		rte_free(t->own);
	rte_free(t);
}

static struct trace *
create(const struct trace_conf *conf)
{
	size_t nb_rules = conf->nb_rules[TRACE_GUEST] + conf->nb_rules[TRACE_WIRE];
	struct trace *t = rte_zmalloc("trace", sizeof(*t) + nb_rules * sizeof(struct tap_rule),
				      RTE_CACHE_LINE_SIZE);

	if (t == NULL)
		return NULL;
	t->own = rte_calloc("trace_nodes", rte_node_max_count(), sizeof(t->own[0]), 0);
	if (t->own == NULL) {
		destroy(t);
		return NULL;
	}
	t->port = conf->port;
	t->iface = conf->iface;
	memcpy(t->underlay, conf->underlay, sizeof(t->underlay));
	t->drops = conf->drops;
	memcpy(t->nb_rules, conf->nb_rules, sizeof(t->nb_rules));
	t->rules[TRACE_GUEST] = t->both;
	t->rules[TRACE_WIRE] = t->rules[TRACE_GUEST] + t->nb_rules[TRACE_GUEST];
	return t;
}

static int
check(const struct dataplane *dp, const struct trace_conf *conf)
{
	const struct port *port = port_by_id(dp, conf->port);

	if (port == NULL)
		return -ENODEV;
	if (!port->vf || conf->nb_rules[TRACE_GUEST] == 0 ||
	    conf->nb_rules[TRACE_GUEST] > TAP_MAX_RULES ||
	    conf->nb_rules[TRACE_WIRE] > TAP_MAX_RULES)
		return -EINVAL;
	return 0;
}

static bool
is_rx(const struct rte_node *node)
{
	return strncmp(node->name, "rx-", strlen("rx-")) == 0;
}

static int
do_start(struct worker *w, const void *arg)
{
	struct trace *const *traces = arg;
	struct rte_node *node;
	rte_graph_off_t off;
	rte_node_t count;

	w->trace = traces[w->index];
	rte_graph_foreach_node(count, off, w->graph, node) {
		w->trace->own[node->id] = node->process;
		node->process = is_rx(node) ? rx_process : visit_process;
	}
	return 0;
}

static int
do_stop(struct worker *w, const void *arg)
{
	struct rte_node *node;
	rte_graph_off_t off;
	rte_node_t count;

	RTE_SET_USED(arg);
	rte_graph_foreach_node(count, off, w->graph, node)
		node->process = w->trace->own[node->id];
	w->trace = NULL;
	return 0;
}

/* All or none. */
static int
create_all(const struct dataplane *dp, const struct trace_conf *conf,
	   const struct tap_condition *const conditions[TRACE_SIDES],
	   const uint32_t nb_conditions[TRACE_SIDES], struct trace **traces)
{
	uint16_t i, side;
	int rc = 0;

	for (i = 0; rc == 0 && i < dp->nb_workers; i++) {
		traces[i] = create(conf);
		if (traces[i] == NULL)
			rc = -ENOSPC;
		for (side = 0; rc == 0 && side < TRACE_SIDES; side++)
			if (conf->nb_rules[side] > 0)
				rc = dps_tap_rules_set(traces[i]->rules[side], conf->nb_rules[side],
						       conf->sample[side], conditions[side],
						       nb_conditions[side]);
	}
	return rc;
}

static void
destroy_all(const struct dataplane *dp, struct trace **traces)
{
	uint16_t i;

	for (i = 0; i < dp->nb_workers; i++)
		destroy(traces[i]);
}

int
dps_dataplane_start_trace(struct dataplane *dp, const struct trace_conf *conf,
			  const struct tap_condition *from_guest, uint32_t nb_from_guest,
			  const struct tap_condition *from_wire, uint32_t nb_from_wire)
{
	const struct tap_condition *const conditions[] = { from_guest, from_wire };
	const uint32_t nb_conditions[] = { nb_from_guest, nb_from_wire };
	struct trace *traces[RTE_MAX_LCORE] = { 0 };
	int rc;

	if (dp->traced != NULL)
		return -EEXIST;
	rc = check(dp, conf);
	if (rc < 0)
		return rc;
	rc = create_all(dp, conf, conditions, nb_conditions, traces);
	if (rc == 0) {
		dp->traced = rte_ring_create_elem("dp_traced", sizeof(struct trace_record),
						  TRACE_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
		rc = dp->traced == NULL ? -ENOSPC : 0;
	}
	if (rc == 0)
		rc = dps_workers_change(dp->workers, dp->nb_workers, do_start, traces);
	if (rc < 0) {
		destroy_all(dp, traces);
		rte_ring_free(dp->traced);
		dp->traced = NULL;
	}
	return rc;
}

int
dps_dataplane_stop_trace(struct dataplane *dp)
{
	struct trace *traces[RTE_MAX_LCORE] = { 0 };
	uint16_t i;
	int rc;

	if (dp->traced == NULL)
		return -ENOENT;
	for (i = 0; i < dp->nb_workers; i++)
		traces[i] = dp->workers[i]->trace;
	rc = dps_workers_change(dp->workers, dp->nb_workers, do_stop, NULL);
	if (rc < 0)
		return rc;
	destroy_all(dp, traces);
	rte_ring_free(dp->traced);
	dp->traced = NULL;
	return 0;
}

uint32_t
dps_dataplane_read_trace(struct dataplane *dp, struct trace_record *out, uint32_t max,
			 uint64_t *missed)
{
	uint16_t i;

	*missed = 0;
	if (dp->traced == NULL)
		return 0;
	for (i = 0; i < dp->nb_workers; i++)
		*missed += load_relaxed(&dp->workers[i]->trace->missed);
	return rte_ring_sc_dequeue_burst_elem(dp->traced, out, sizeof(*out), max, NULL);
}

void
dps_trace_free(struct worker *w)
{
	destroy(w->trace);
}
