/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_MATCH_H
#define ESW_MATCH_H

#include <stdint.h>

#include <rte_rcu_qsbr.h>

#include "../../graph/nodes/atomic.h"
#include "key.h"

/*
 * Tuple-space search. A group holds shapes: all rules of one priority that look at the same bits. A
 * shape is a hash table, so the cost of a lookup is one probe per shape, however many rules a shape
 * holds. Rules that match the very same are one entry of the table, with the others behind the
 * oldest. One reader (the pipeline) walks it without locks; writers are serialised by the caller
 * and wait for the reader through RCU before they free.
 */

/* What a rule matches: the bits of mask equal those of key. */
struct esw_pattern {
	struct esw_key key;
	struct esw_key mask;
	uint32_t priority; /* lower is matched first */
	uint32_t depth;    /* of a header: at equal priority deeper is matched first */
};

struct esw_shape;

/*
 * A rule's place in its table, what the reader looks at first: best at the beginning of a cache
 * line, which holds a key of usual length. Two links, because a table that grows is read while its
 * successor is built.
 */
struct esw_entry {
	struct esw_entry *_Atomic next[2];
	uint64_t key[ESW_KEY_WORDS]; /* masked; only the shape's words are used */
	uint32_t hash;               /* of the key */
	uint32_t sequence;           /* order of insertion into the group, the last tie-break */
	struct esw_shape *shape;
	struct esw_entry
		*older; /* with the same key; the oldest, which is the one in the table, has none */
	struct esw_entry *younger;
	struct esw_entry *youngest; /* the oldest one's */
};

struct esw_group {
	struct esw_group *next;
	uint32_t id;
	uint32_t sequence;
	struct esw_shapes *_Atomic shapes;
};

#define ESW_GROUP_BUCKETS 64

struct esw_groups {
	struct esw_group *bucket[ESW_GROUP_BUCKETS];
};

struct esw_group *esw_group_get(struct esw_groups *groups, uint32_t id);
void esw_group_clear(struct esw_group *group);
void esw_groups_free(struct esw_groups *groups);

int esw_match_insert(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_entry *entry,
		     const struct esw_pattern *pattern);
void esw_match_remove(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_entry *entry);
void esw_match_pattern(const struct esw_entry *entry, struct esw_key *key, struct esw_key *mask);
struct esw_entry *esw_match_lookup(const struct esw_group *group, const struct esw_key *key);

#define ESW_MATCH_BURST 32

/* One of several lookups at once. */
struct esw_lookup {
	const struct esw_group *group;
	const struct esw_key *key;
	struct esw_entry *found; /* the result, or NULL */
};

void esw_match_lookup_burst(struct esw_lookup *lookups, uint32_t n);

#endif
