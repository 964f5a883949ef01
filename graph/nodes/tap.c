/* SPDX-License-Identifier: Apache-2.0 */
#include "tap.h"

#include <errno.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_udp.h>

#include "node.h"

/* ---- control ---- */

/* A copy is never copied again: it leaves by an uplink, and what leaves by an uplink is not. If it
 * is dropped, it is no port's. */
static int
check(const struct dataplane *dp, const struct tap_conf *conf)
{
	const struct port *port = port_by_id(dp, conf->port), *out = port_by_id(dp, conf->out);

	if (port == NULL || out == NULL)
		return -ENODEV;
	if (out->vf || conf->side >= TAP_SIDES || (conf->side == TAP_TX && !port->vf))
		return -EINVAL;
	if (conf->header_len < OUTER_LEN + sizeof(struct rte_udp_hdr) ||
	    conf->header_len > TAP_MAX_HEADER)
		return -EINVAL;
	return conf->nb_rules == 0 || conf->nb_rules > TAP_MAX_RULES ? -EINVAL : 0;
}

/* The edge to an uplink's tx node. */
static rte_edge_t
edge_to(const struct dataplane *dp, uint16_t out)
{
	rte_edge_t edge = TAP_NEXT_OUT;
	uint16_t i;

	for (i = 0; dp->ports[i].id != out; i++)
		edge += !dp->ports[i].vf;
	return edge;
}

int
dps_tap_rules_set(struct tap_rule *rules, uint16_t nb_rules, const bool *sample,
		  const struct tap_condition *conditions, uint32_t nb_conditions)
{
	static const union tap_key anything;
	const struct tap_condition *c;
	struct tap_rule *r;
	uint16_t i;

	for (i = 0; i < nb_rules; i++)
		rules[i].sample = sample[i];
	for (c = conditions; c < conditions + nb_conditions; c++) {
		if (c->rule >= nb_rules)
			return -EINVAL;
		r = &rules[c->rule];
		if (!dps_tap_key_require(&r->value, &r->mask, c->field, c->value, c->mask))
			return -EINVAL;
	}
	return memcmp(&rules[nb_rules - 1].mask, &anything, sizeof(anything)) != 0 ? -EINVAL : 0;
}

static void
free_taps(struct tap **taps, uint16_t count)
{
	while (count > 0)
		rte_free(taps[--count]);
}

static int
alloc_taps(struct tap **taps, uint16_t count, size_t size)
{
	uint16_t i;

	for (i = 0; i < count; i++) {
		taps[i] = rte_zmalloc("tap", size, RTE_CACHE_LINE_SIZE);
		if (taps[i] == NULL) {
			free_taps(taps, i);
			return -ENOSPC;
		}
	}
	return 0;
}

int
dps_tap_create(const struct dataplane *dp, const struct tap_conf *conf,
	       const struct tap_condition *conditions, uint32_t nb_conditions, struct tap **taps,
	       uint16_t count)
{
	size_t size = sizeof(struct tap) + conf->nb_rules * sizeof(struct tap_rule);
	struct tap *t;
	uint16_t i;
	int rc;

	rc = check(dp, conf);
	if (rc == 0)
		rc = alloc_taps(taps, count, size);
	if (rc < 0)
		return rc;
	t = taps[0];
	t->port = conf->port;
	t->side = conf->side;
	t->inner = conf->inner;
	t->out = edge_to(dp, conf->out);
	t->nb_rules = conf->nb_rules;
	t->header_len = conf->header_len;
	t->longest = RTE_MAX(ETH_LEN + port_by_id(dp, conf->out)->mtu, (uint32_t)conf->header_len) -
		     conf->header_len;
	memcpy(t->header, conf->header, conf->header_len);
	rc = dps_tap_rules_set(t->rules, t->nb_rules, conf->sample, conditions, nb_conditions);
	if (rc < 0) {
		free_taps(taps, count);
		return rc;
	}
	for (i = 1; i < count; i++)
		memcpy(taps[i], t, size);
	return 0;
}

void
dps_tap_put(struct worker *w, uint16_t port, uint8_t side, struct tap *t)
{
	struct node_ctx *point = w->tap_points[port][side];

	atomic_store_explicit(&w->taps[port][side], t, memory_order_release);
	if (point != NULL)
		point->tapped = t != NULL;
}

void
dps_tap_add_counters(const struct tap *t, struct tap_counters *sum)
{
	uint16_t i;

	sum->nb_rules = t->nb_rules;
	sum->oversize += load_relaxed(&t->oversize);
	sum->no_buffer += load_relaxed(&t->no_buffer);
	for (i = 0; i < t->nb_rules; i++) {
		sum->rules[i].packets += load_relaxed(&t->rules[i].packets);
		sum->rules[i].bytes += load_relaxed(&t->rules[i].bytes);
	}
}

/* ---- packets ---- */

static inline bool
matches(const struct tap_rule *r, const union tap_key *key)
{
	uint64_t difference = 0;
	int i;

	for (i = 0; i < TAP_KEY_WORDS; i++)
		difference |= (key->word[i] ^ r->value.word[i]) & r->mask.word[i];
	return difference == 0;
}

struct tap_rule *
dps_tap_rules_match(struct tap_rule *rules, uint16_t nb_rules, const union tap_key *key)
{
	struct tap_rule *r = rules;

	while (r < &rules[nb_rules - 1] && !matches(r, key))
		r++;
	return r;
}

/* Read what a tap's rules are about. False: the packet is none of its business. Of what is dropped
 * all is; rules are about what is in the tunnel where the packet came from the wire and is in
 * one. */
static bool
read_key(const struct worker *w, const struct tap *t, const struct rte_mbuf *m, union tap_key *key)
{
	bool drops = t->side == TAP_DROPS;
	bool inner = drops ? !w->ports[m->port].vf : t->inner;

	if (inner && dps_tap_key_read_inner(m, key))
		return true;
	if (inner && !drops)
		return false;
	dps_tap_key_read(m, key);
	return true;
}

static struct tap_rule *
decide(const struct worker *w, struct tap *t, const struct rte_mbuf *m)
{
	union tap_key key;

	if (t->nb_rules == 1 && (!t->inner || t->side == TAP_DROPS))
		return t->rules; /* without a filter */
	if (!read_key(w, t, m, &key))
		return NULL;
	return dps_tap_rules_match(t->rules, t->nb_rules, &key);
}

/* The NIC fills in the same two fields. */
static void
put_header(const struct tap *t, uint8_t *at, uint32_t len)
{
	struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(at + ETH_LEN);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);

	memcpy(at, t->header, t->header_len);
	ip->payload_len = rte_cpu_to_be_16(t->header_len - OUTER_LEN + len);
	udp->dgram_len = ip->payload_len;
}

/* The header before the packet goes into the headroom, so the copy is in one buffer if the packet
 * fits one. */
static struct rte_mbuf *
copy(const struct tap *t, const struct rte_mbuf *m, struct rte_mempool *pool)
{
	struct rte_mbuf *c = rte_pktmbuf_copy(m, pool, 0, UINT32_MAX);
	uint8_t *header;

	if (unlikely(c == NULL))
		return NULL;
	header = (uint8_t *)rte_pktmbuf_prepend(c, t->header_len);
	if (unlikely(header == NULL)) {
		rte_pktmbuf_free(c);
		return NULL;
	}
	put_header(t, header, rte_pktmbuf_pkt_len(m));
	c->port = RTE_MBUF_PORT_INVALID;
	return c;
}

/* The buffer may have been a traced packet's. */
static struct rte_mbuf *
alloc_empty(struct rte_mempool *pool)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	if (likely(m != NULL))
		pkt_meta(m)->record = 0;
	return m;
}

void
dps_tap_look(const struct worker *w, struct tap *t, const struct rte_mbuf *m, struct tap_look *out)
{
	*out = (struct tap_look){ .rule = decide(w, t, m), .len = rte_pktmbuf_pkt_len(m) };
	if (out->rule == NULL || !out->rule->sample)
		return;
	if (likely(out->len <= t->longest))
		out->copy = copy(t, m, w->dp->pool);
	else
		out->copy = alloc_empty(w->dp->pool);
}

void
dps_tap_commit(struct rte_graph *graph, struct rte_node *node, struct tap *t,
	       const struct tap_look *look)
{
	bool fits = look->len <= t->longest;

	if (look->rule == NULL)
		return;
	add_as_only_writer(&look->rule->packets, 1);
	add_as_only_writer(&look->rule->bytes, look->len);
	if (!look->rule->sample)
		return;
	add_as_only_writer(&t->oversize, !fits);
	add_as_only_writer(&t->no_buffer, fits && look->copy == NULL);
	if (likely(look->copy != NULL))
		rte_node_enqueue_x1(graph, node, fits ? t->out : TAP_NEXT_TOO_BIG, look->copy);
}

void
dps_tap_cancel(const struct tap_look *look)
{
	rte_pktmbuf_free(look->copy);
}
