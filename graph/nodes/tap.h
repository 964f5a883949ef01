/* SPDX-License-Identifier: Apache-2.0 */
/* Taps: copies of what comes in or goes out by a port, with a header before them, as the NIC's
 * capture rules make them. A worker has its own copy of each, with its own counters. */
#ifndef NODES_TAP_H
#define NODES_TAP_H

#include "compat.h"
#include "dataplane.h"
#include "tap_key.h"

/* Edges. Those of tap_rx, tap_tx and tap_drop are alike: where the packets go on, then the uplinks'
 * tx nodes for the copies. */
enum { RX_NEXT_CLASSIFY, RX_NEXT_TAP };
enum { TX_NEXT_DROP, TX_NEXT_TAP };
enum { TAP_NEXT_ON, TAP_NEXT_TOO_BIG, TAP_NEXT_OUT };

struct tap_rule {
	union tap_key value;
	union tap_key mask;
	_Atomic uint64_t packets;
	_Atomic uint64_t bytes;
	bool sample;
} __rte_cache_aligned;

struct tap {
	uint16_t port;
	uint8_t side; /* enum tap_side */
	bool inner;
	rte_edge_t out;
	uint16_t nb_rules;
	uint16_t header_len;
	uint32_t longest; /* of the packets whose copies fit */
	uint8_t header[TAP_MAX_HEADER];
	_Atomic uint64_t oversize;
	_Atomic uint64_t no_buffer;
	struct tap_rule rules[]; /* the last one matches everything */
};

/* ---- control ---- */

/* Set zeroed rules: which packets they are about, and which of those are wanted. -EINVAL: a
 * condition is none, or the last rule has one. */
int dps_tap_rules_set(struct tap_rule *rules, uint16_t nb_rules, const bool *sample,
		      const struct tap_condition *conditions, uint32_t nb_conditions);
/* Memory for count taps alike, each rte_free'd by itself. All or none: 0 or a negative errno. */
int dps_tap_create(const struct dataplane *dp, const struct tap_conf *conf,
		   const struct tap_condition *conditions, uint32_t nb_conditions,
		   struct tap **taps, uint16_t count);
/* Between walks: copy by t from now on, which may be NULL, and no longer by the tap that was in its
 * place. */
void dps_tap_put(struct worker *w, uint16_t port, uint8_t side, struct tap *t);
void dps_tap_add_counters(const struct tap *t, struct tap_counters *sum);

/* ---- packets ---- */

/* The rule that decides about a packet. */
struct tap_rule *dps_tap_rules_match(struct tap_rule *rules, uint16_t nb_rules,
				     const union tap_key *key);

/* What a tap makes of a packet. */
struct tap_look {
	struct tap_rule *rule; /* NULL: none of its business */
	struct rte_mbuf *copy; /* NULL: none; without bytes: it would be too long */
	uint32_t len;
};

void dps_tap_look(const struct worker *w, struct tap *t, const struct rte_mbuf *m,
		  struct tap_look *out);
/* Count the packet, and send its copy. */
void dps_tap_commit(struct rte_graph *graph, struct rte_node *node, struct tap *t,
		    const struct tap_look *look);
/* The packet has not passed after all. */
void dps_tap_cancel(const struct tap_look *look);

#endif
