/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_prefetch.h>

#include "match.h"

#define MIN_BUCKETS 16

struct buckets {
	uint32_t mask;
	uint32_t link; /* which of an entry's links this table uses */
	struct esw_entry *_Atomic head[];
};

struct esw_shape {
	uint32_t priority;
	uint32_t depth;
	uint32_t keys; /* different ones: entries of the table */
	uint32_t words;
	uint8_t word[ESW_KEY_WORDS]; /* indices of the words that the mask looks at */
	uint64_t mask[ESW_KEY_WORDS];
	uint64_t secret[ESW_KEY_WORDS][2];
	struct buckets *_Atomic buckets;
};

/* The shapes of a group in the order they are tried. Replaced as a whole. */
struct esw_shapes {
	uint32_t n;
	struct esw_shape *shape[];
};

static struct buckets *
buckets_new(uint32_t n, uint32_t link)
{
	struct buckets *b = calloc(1, sizeof(*b) + n * sizeof(b->head[0]));

	if (b != NULL) {
		b->mask = n - 1;
		b->link = link;
	}
	return b;
}

static void
wait_for_reader(struct rte_rcu_qsbr *rcu)
{
	rte_rcu_qsbr_synchronize(rcu, RTE_QSBR_THRID_INVALID);
}

/*
 * Multiplies each half of each word with a random number of the shape's own (multilinear hashing),
 * so that nobody can make up packets, and thereby rules, that all fall into one bucket. A CRC would
 * not do: its collisions are the same for every seed.
 */
static uint32_t
extract(const struct esw_shape *shape, const struct esw_key *key, uint64_t out[ESW_KEY_WORDS])
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < shape->words; i++) {
		out[i] = key->word[shape->word[i]] & shape->mask[i];
		sum += (uint32_t)out[i] * shape->secret[i][0] +
		       (out[i] >> 32) * shape->secret[i][1];
	}
	return sum >> 32;
}

static bool
same_key(const struct esw_shape *shape, const uint64_t *a, const uint64_t *b)
{
	uint64_t difference = 0;
	uint32_t i;

	for (i = 0; i < shape->words; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* Puts it first: with others in the bucket it has no key in common. */
static void
buckets_add(struct buckets *b, struct esw_entry *entry)
{
	struct esw_entry *_Atomic *at = &b->head[entry->hash & b->mask];

	store_relaxed(&entry->next[b->link], load_relaxed(at));
	atomic_store_explicit(at, entry, memory_order_release);
}

/* Takes the entry out, or puts another with the same key in its place. */
static void
buckets_replace(struct buckets *b, struct esw_entry *entry, struct esw_entry *by)
{
	struct esw_entry *_Atomic *at = &b->head[entry->hash & b->mask];
	struct esw_entry *next = load_relaxed(&entry->next[b->link]), *here;

	while ((here = load_relaxed(at)) != entry)
		at = &here->next[b->link];
	if (by != NULL) {
		store_relaxed(&by->next[b->link], next);
		next = by;
	}
	atomic_store_explicit(at, next, memory_order_release);
}

/* The entry of that key, which is the oldest of those that have it, or NULL. */
static struct esw_entry *
buckets_find(const struct esw_shape *shape, const struct buckets *b, uint32_t hash,
	     const uint64_t *key)
{
	struct esw_entry *entry =
		atomic_load_explicit(&b->head[hash & b->mask], memory_order_acquire);

	while (entry != NULL && !same_key(shape, entry->key, key))
		entry = atomic_load_explicit(&entry->next[b->link], memory_order_acquire);
	return entry;
}

static int
grow(struct rte_rcu_qsbr *rcu, struct esw_shape *shape)
{
	struct buckets *old = load_relaxed(&shape->buckets);
	struct buckets *b = buckets_new(2 * (old->mask + 1), old->link ^ 1);
	struct esw_entry *entry;
	uint32_t i;

	if (b == NULL)
		return -ENOMEM;
	for (i = 0; i <= old->mask; i++)
		for (entry = load_relaxed(&old->head[i]); entry != NULL;
		     entry = load_relaxed(&entry->next[old->link]))
			buckets_add(b, entry);
	atomic_store_explicit(&shape->buckets, b, memory_order_release);
	wait_for_reader(rcu);
	free(old);
	return 0;
}

static void
shape_free(struct esw_shape *shape)
{
	free(load_relaxed(&shape->buckets));
	free(shape);
}

static struct esw_shape *
shape_new(const struct esw_pattern *pattern)
{
	struct esw_shape *shape = calloc(1, sizeof(*shape));
	uint32_t i;

	if (shape == NULL)
		return NULL;
	store_relaxed(&shape->buckets, buckets_new(MIN_BUCKETS, 0));
	if (load_relaxed(&shape->buckets) == NULL) {
		free(shape);
		return NULL;
	}
	shape->priority = pattern->priority;
	shape->depth = pattern->depth;
	for (i = 0; i < ESW_KEY_WORDS; i++) {
		if (pattern->mask.word[i] == 0)
			continue;
		if (getentropy(shape->secret[shape->words], sizeof(shape->secret[0])) < 0) {
			shape_free(shape);
			return NULL;
		}
		shape->word[shape->words] = i;
		shape->mask[shape->words++] = pattern->mask.word[i];
	}
	return shape;
}

static bool
shape_is(const struct esw_shape *shape, const struct esw_pattern *pattern)
{
	uint32_t i, n = 0;

	if (shape->priority != pattern->priority || shape->depth != pattern->depth)
		return false;
	for (i = 0; i < ESW_KEY_WORDS; i++) {
		if (pattern->mask.word[i] == 0)
			continue;
		if (n == shape->words || shape->word[n] != i ||
		    shape->mask[n] != pattern->mask.word[i])
			return false;
		n++;
	}
	return n == shape->words;
}

static bool
shape_before(const struct esw_shape *a, const struct esw_shape *b)
{
	if (a->priority != b->priority)
		return a->priority < b->priority;
	return a->depth > b->depth;
}

static struct esw_shape *
group_find(const struct esw_group *group, const struct esw_pattern *pattern)
{
	const struct esw_shapes *shapes = load_relaxed(&group->shapes);
	uint32_t i;

	for (i = 0; shapes != NULL && i < shapes->n; i++)
		if (shape_is(shapes->shape[i], pattern))
			return shapes->shape[i];
	return NULL;
}

/* Makes list what the reader sees, and frees what it saw before. */
static void
group_publish(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_shapes *list)
{
	struct esw_shapes *old = load_relaxed(&group->shapes);

	atomic_store_explicit(&group->shapes, list, memory_order_release);
	wait_for_reader(rcu);
	free(old);
}

static struct esw_shapes *
shapes_new(uint32_t n)
{
	return calloc(1, sizeof(struct esw_shapes) + n * sizeof(struct esw_shape *));
}

static int
group_add(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_shape *shape)
{
	const struct esw_shapes *old = load_relaxed(&group->shapes);
	uint32_t n = old == NULL ? 0 : old->n;
	struct esw_shapes *list = shapes_new(n + 1);
	uint32_t i = 0;

	if (list == NULL)
		return -ENOMEM;
	for (; i < n && !shape_before(shape, old->shape[i]); i++)
		list->shape[i] = old->shape[i];
	list->shape[i] = shape;
	for (; i < n; i++)
		list->shape[i + 1] = old->shape[i];
	list->n = n + 1;
	group_publish(rcu, group, list);
	return 0;
}

/* Drops a shape without entries. When there is no memory for the shorter list it stays, empty and
 * harmless. */
static void
group_drop(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_shape *shape)
{
	const struct esw_shapes *old = load_relaxed(&group->shapes);
	struct esw_shapes *list = NULL;
	uint32_t i;

	if (old->n > 1) {
		list = shapes_new(old->n - 1);
		if (list == NULL)
			return;
		for (i = 0; i < old->n; i++)
			if (old->shape[i] != shape)
				list->shape[list->n++] = old->shape[i];
	}
	group_publish(rcu, group, list);
	shape_free(shape);
}

/* Finds a group, or makes it: a rule may jump to a group before that has rules. NULL without
 * memory. */
struct esw_group *
esw_group_get(struct esw_groups *groups, uint32_t id)
{
	struct esw_group **bucket = &groups->bucket[id % ESW_GROUP_BUCKETS];
	struct esw_group *group;

	for (group = *bucket; group != NULL; group = group->next)
		if (group->id == id)
			return group;
	group = calloc(1, sizeof(*group));
	if (group == NULL)
		return NULL;
	group->id = id;
	group->next = *bucket;
	*bucket = group;
	return group;
}

/* Frees what a group holds. Its entries belong to the caller; nobody may be reading. */
void
esw_group_clear(struct esw_group *group)
{
	struct esw_shapes *shapes = load_relaxed(&group->shapes);
	uint32_t i;

	for (i = 0; shapes != NULL && i < shapes->n; i++)
		shape_free(shapes->shape[i]);
	free(shapes);
	store_relaxed(&group->shapes, NULL);
}

/* Frees all groups. Their entries belong to the caller; nobody may be reading. */
void
esw_groups_free(struct esw_groups *groups)
{
	struct esw_group *group, *next;
	uint32_t i;

	for (i = 0; i < ESW_GROUP_BUCKETS; i++) {
		for (group = groups->bucket[i]; group != NULL; group = next) {
			next = group->next;
			esw_group_clear(group);
			free(group);
		}
		groups->bucket[i] = NULL;
	}
}

/* Makes room for one more key: a table is at most half full, so that most lookups look at one
 * entry. */
static int
make_room(struct rte_rcu_qsbr *rcu, struct esw_shape *shape)
{
	return shape->keys > load_relaxed(&shape->buckets)->mask / 2 ? grow(rcu, shape) : 0;
}

/* Puts the entry into the shape's table, or behind those with the same key. */
static int
shape_add(struct rte_rcu_qsbr *rcu, struct esw_shape *shape, struct esw_entry *entry)
{
	struct esw_entry *oldest =
		buckets_find(shape, load_relaxed(&shape->buckets), entry->hash, entry->key);
	int ret;

	entry->younger = NULL;
	if (oldest != NULL) {
		entry->older = oldest->youngest;
		oldest->youngest->younger = entry;
		oldest->youngest = entry;
		return 0;
	}
	ret = make_room(rcu, shape);
	if (ret < 0)
		return ret;
	entry->older = NULL;
	entry->youngest = entry;
	buckets_add(load_relaxed(&shape->buckets), entry);
	shape->keys++;
	return 0;
}

/* Puts a rule's entry into the group. From the reader's next lookup on it matches. */
int
esw_match_insert(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_entry *entry,
		 const struct esw_pattern *pattern)
{
	struct esw_shape *shape = group_find(group, pattern);
	bool fresh = shape == NULL;
	int ret;

	if (fresh)
		shape = shape_new(pattern);
	if (shape == NULL)
		return -ENOMEM;
	entry->shape = shape;
	entry->sequence = group->sequence++;
	entry->hash = extract(shape, &pattern->key, entry->key);
	ret = shape_add(rcu, shape, entry);
	if (ret < 0 || !fresh)
		return ret;
	ret = group_add(rcu, group, shape);
	if (ret < 0)
		shape_free(shape);
	return ret;
}

/* Takes out of its shape's table an entry that is the oldest of its key: the next one comes in its
 * place. */
static void
shape_remove_oldest(struct esw_shape *shape, struct esw_entry *entry)
{
	struct esw_entry *next = entry->younger;

	if (next != NULL) {
		next->older = NULL;
		next->youngest = entry->youngest;
	} else {
		shape->keys--;
	}
	buckets_replace(load_relaxed(&shape->buckets), entry, next);
}

static void
shape_remove_younger(struct esw_shape *shape, struct esw_entry *entry)
{
	entry->older->younger = entry->younger;
	if (entry->younger != NULL)
		entry->younger->older = entry->older;
	else
		buckets_find(shape, load_relaxed(&shape->buckets), entry->hash, entry->key)
			->youngest = entry->older;
}

/* Takes the entry out of the group. The reader may hold it until the caller has waited for it. */
void
esw_match_remove(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_entry *entry)
{
	struct esw_shape *shape = entry->shape;

	if (entry->older == NULL)
		shape_remove_oldest(shape, entry);
	else
		shape_remove_younger(shape, entry);
	if (shape->keys == 0)
		group_drop(rcu, group, shape);
}

/* What the entry matches, as it was inserted. */
void
esw_match_pattern(const struct esw_entry *entry, struct esw_key *key, struct esw_key *mask)
{
	const struct esw_shape *shape = entry->shape;
	uint32_t i;

	memset(key, 0, sizeof(*key));
	memset(mask, 0, sizeof(*mask));
	for (i = 0; i < shape->words; i++) {
		key->word[shape->word[i]] = entry->key[i];
		mask->word[shape->word[i]] = shape->mask[i];
	}
}

/* A lookup under way. */
struct walk {
	struct esw_lookup *lookup;
	const struct esw_shapes *shapes;
	const struct esw_shape *shape; /* the one it is at */
	const struct esw_shape *found_in;
	const struct buckets *buckets;
	uint32_t hash;
	uint64_t words[ESW_KEY_WORDS];
};

/* Goes to the nth shape of the group and asks for the bucket; false when there is no need to look
 * any further. */
static bool
begin_shape(struct walk *w, uint32_t n)
{
	if (w->shapes == NULL || n >= w->shapes->n)
		return false;
	w->shape = w->shapes->shape[n];
	/* Shapes of one rank may all have a match; the oldest of these is the one. */
	if (w->found_in != NULL && shape_before(w->found_in, w->shape))
		return false;
	w->buckets = atomic_load_explicit(&w->shape->buckets, memory_order_acquire);
	w->hash = extract(w->shape, w->lookup->key, w->words);
	rte_prefetch0(&w->buckets->head[w->hash & w->buckets->mask]);
	return true;
}

static void
prefetch_entry(const struct walk *w)
{
	const struct esw_entry *entry = load_relaxed(&w->buckets->head[w->hash & w->buckets->mask]);

	if (entry == NULL)
		return;
	rte_prefetch0(entry);
	/* A usual key ends in the entry's first cache line. */
	if (w->shape->words >
	    (RTE_CACHE_LINE_SIZE - offsetof(struct esw_entry, key)) / sizeof(entry->key[0]))
		rte_prefetch0((const char *)entry + RTE_CACHE_LINE_SIZE);
}

static void
look(struct walk *w)
{
	struct esw_entry *entry = buckets_find(w->shape, w->buckets, w->hash, w->words);

	if (entry == NULL || (w->found_in != NULL && w->lookup->found->sequence < entry->sequence))
		return;
	w->lookup->found = entry;
	w->found_in = w->shape;
}

/*
 * For each the first entry, in the order of the rules, that matches. All of them do a step before
 * any does the next, so that the memory that one waits for is fetched while the others are looked
 * at.
 */
void
esw_match_lookup_burst(struct esw_lookup *lookups, uint32_t n)
{
	struct walk walks[ESW_MATCH_BURST], *at[ESW_MATCH_BURST];
	uint32_t i, left, shape;

	for (i = 0; i < n; i++) {
		at[i] = &walks[i];
		walks[i].lookup = &lookups[i];
		walks[i].shapes =
			atomic_load_explicit(&lookups[i].group->shapes, memory_order_acquire);
		walks[i].found_in = NULL;
		lookups[i].found = NULL;
	}
	for (shape = 0; n > 0; shape++, n = left) {
		for (i = 0, left = 0; i < n; i++)
			if (begin_shape(at[i], shape))
				at[left++] = at[i];
		for (i = 0; i < left; i++)
			prefetch_entry(at[i]);
		for (i = 0; i < left; i++)
			look(at[i]);
	}
}

/* The first entry, in the order of the rules, that matches the packet, or NULL. */
struct esw_entry *
esw_match_lookup(const struct esw_group *group, const struct esw_key *key)
{
	struct esw_lookup lookup = { .group = group, .key = key };

	esw_match_lookup_burst(&lookup, 1);
	return lookup.found;
}
