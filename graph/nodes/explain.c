/* SPDX-License-Identifier: Apache-2.0 */
#include "explain.h"

#include <errno.h>

#include <rte_string_fns.h>

#include "control.h"
#include "flow.h"
#include "parse.h"
#include "worker.h"

struct call {
	const struct question *question;
	struct answer *out;
};

/* The key of a packet that is no fragment. */
static struct flow_key
key_of(const struct question *q)
{
	struct flow_key key = {
		.sport = rte_cpu_to_be_16(q->sport),
		.dport = rte_cpu_to_be_16(q->dport),
		.port = q->port,
		.proto = q->proto,
		.kind = (q->ipv6 ? KEY_IPV6 : 0) | (q->wire ? KEY_WIRE : 0),
	};

	memcpy(q->ipv6 ? key.src6 : key.src4, q->src, q->ipv6 ? 16 : 4);
	memcpy(q->ipv6 ? key.dst6 : key.dst4, q->dst, q->ipv6 ? 16 : 4);
	memcpy(key.outer, q->outer, sizeof(key.outer));
	return key;
}

/* An ICMP error from another peer may be right: that depends on the packet that it quotes. */
static bool
is_wrong_peer(const struct question *q, const struct flow_key *key, const struct verdict *v)
{
	static const uint8_t unspecified[16];

	return v->from_peer && q->id == 0 && !key_is_icmp_error(key) &&
	       memcmp(q->peer, unspecified, sizeof(q->peer)) != 0 &&
	       memcmp(q->peer, v->peer, sizeof(q->peer)) != 0;
}

/* The node where the packet would end, or NULL; in the order in which the graph looks. */
static const char *
end_node(const struct worker *w, const struct question *q, const struct flow_key *key,
	 struct verdict *v)
{
	const struct port_state *port = &w->ports[key->port];
	enum resolution res;

	if (!(key->kind & KEY_WIRE)) {
		if (port->iface == NO_IFACE)
			return "drop_no_interface";
		if (dps_is_for_slow_path(&w->ifaces[port->iface], key))
			return "punt";
	}
	res = dps_resolve(w, key, v);
	if (is_wrong_peer(q, key, v))
		res = RESOLVED_WRONG_PEER;
	return dps_resolution_node(res);
}

static void
describe_known(const struct worker *w, const struct flow *f, struct answer *out)
{
	out->known = true;
	out->stale = f->generation != w->generation;
	out->flow_flags = load_relaxed(&f->flags);
	dps_flow_copy(w, f, &out->flow);
}

/* The question's flow; NULL: there is none. */
static const struct flow *
find(struct worker *w, const struct question *q, const struct flow_key *key)
{
	uint32_t pos;

	if (q->id != 0)
		return dps_flow_by_id(w, q->id);
	pos = dps_flow_find(w, key, flow_key_hash(w, key));
	return pos != FLOW_NONE ? &w->flows[pos] : NULL;
}

static int
explain(struct worker *w, const void *arg)
{
	const struct call *c = arg;
	struct flow next = { .key = key_of(c->question) };
	const struct flow *f = find(w, c->question, &next.key);
	const char *node;

	if (f != NULL) {
		describe_known(w, f, c->out);
		next.key = f->key;
	} else if (c->question->id != 0) {
		return -ENOENT;
	}
	node = end_node(w, c->question, &next.key, &next.verdict);
	if (node != NULL)
		rte_strlcpy(c->out->node, node, sizeof(c->out->node));
	c->out->offloadable = w->offload && key_is_offloadable(&next.key);
	c->out->mtu = next.verdict.mtu;
	dps_flow_copy(w, &next, &c->out->next);
	return 0;
}

int
dps_dataplane_explain(struct dataplane *dp, const struct question *q, struct answer *out)
{
	struct call c = { q, out };
	uint16_t i;
	int rc;

	if (q->id != 0) {
		if (flow_id_worker(q->id) >= dp->nb_workers)
			return -ENOENT;
		*out = (struct answer){ 0 };
		return dps_worker_call(dp->workers[flow_id_worker(q->id)], explain, &c);
	}
	if (port_by_id(dp, q->port) == NULL)
		return -ENODEV;
	for (i = 0; i < dp->nb_workers; i++) { /* any of them may have the flow */
		*out = (struct answer){ 0 };
		rc = dps_worker_call(dp->workers[i], explain, &c);
		if (rc < 0 || out->known)
			return rc;
	}
	return 0;
}
