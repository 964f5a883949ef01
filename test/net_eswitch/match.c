/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_hash_crc.h>

#include "match.h"

#define MIN_BUCKETS 16

struct buckets {
	uint32_t mask;
	uint32_t link;		/* which of an entry's links this table uses */
	struct esw_entry *head[];
};

struct esw_shape {
	uint32_t priority;
	uint32_t depth;
	uint32_t entries;
	uint32_t words;
	uint8_t word[ESW_KEY_WORDS];	/* indices of the words that the mask looks at */
	uint64_t mask[ESW_KEY_WORDS];
	struct buckets *buckets;
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

static uint32_t
extract(const struct esw_shape *shape, const struct esw_key *key, uint64_t out[ESW_KEY_WORDS])
{
	uint32_t hash = 0;
	uint32_t i;

	for (i = 0; i < shape->words; i++) {
		out[i] = key->word[shape->word[i]] & shape->mask[i];
		hash = rte_hash_crc_8byte(out[i], hash);
	}
	return hash;
}

static bool
same_key(const struct esw_shape *shape, const uint64_t *a, const uint64_t *b)
{
	return memcmp(a, b, shape->words * sizeof(*a)) == 0;
}

/* Appends to the chain, so that of two rules that match the same the older one wins. */
static void
buckets_add(struct buckets *b, struct esw_entry *entry)
{
	struct esw_entry **at = &b->head[entry->hash & b->mask];

	while (*at != NULL)
		at = &(*at)->next[b->link];
	entry->next[b->link] = NULL;
	__atomic_store_n(at, entry, __ATOMIC_RELEASE);
}

static void
buckets_remove(struct buckets *b, struct esw_entry *entry)
{
	struct esw_entry **at = &b->head[entry->hash & b->mask];

	while (*at != entry)
		at = &(*at)->next[b->link];
	__atomic_store_n(at, entry->next[b->link], __ATOMIC_RELEASE);
}

static int
grow(struct rte_rcu_qsbr *rcu, struct esw_shape *shape)
{
	struct buckets *old = shape->buckets;
	struct buckets *b = buckets_new(2 * (old->mask + 1), old->link ^ 1);
	struct esw_entry *entry;
	uint32_t i;

	if (b == NULL)
		return -ENOMEM;
	for (i = 0; i <= old->mask; i++)
		for (entry = old->head[i]; entry != NULL; entry = entry->next[old->link])
			buckets_add(b, entry);
	__atomic_store_n(&shape->buckets, b, __ATOMIC_RELEASE);
	wait_for_reader(rcu);
	free(old);
	return 0;
}

static struct esw_shape *
shape_new(const struct esw_pattern *pattern)
{
	struct esw_shape *shape = calloc(1, sizeof(*shape));
	uint32_t i;

	if (shape == NULL)
		return NULL;
	shape->buckets = buckets_new(MIN_BUCKETS, 0);
	if (shape->buckets == NULL) {
		free(shape);
		return NULL;
	}
	shape->priority = pattern->priority;
	shape->depth = pattern->depth;
	for (i = 0; i < ESW_KEY_WORDS; i++) {
		if (pattern->mask.word[i] == 0)
			continue;
		shape->word[shape->words] = i;
		shape->mask[shape->words++] = pattern->mask.word[i];
	}
	return shape;
}

static void
shape_free(struct esw_shape *shape)
{
	free(shape->buckets);
	free(shape);
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
		if (n == shape->words || shape->word[n] != i || shape->mask[n] != pattern->mask.word[i])
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
	uint32_t i;

	for (i = 0; group->shapes != NULL && i < group->shapes->n; i++)
		if (shape_is(group->shapes->shape[i], pattern))
			return group->shapes->shape[i];
	return NULL;
}

/* Makes list what the reader sees, and frees what it saw before. */
static void
group_publish(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_shapes *list)
{
	struct esw_shapes *old = group->shapes;

	__atomic_store_n(&group->shapes, list, __ATOMIC_RELEASE);
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
	const struct esw_shapes *old = group->shapes;
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

/* Drops a shape without entries. When there is no memory for the shorter list it stays, empty and harmless. */
static void
group_drop(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_shape *shape)
{
	const struct esw_shapes *old = group->shapes;
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

/* Finds a group, or makes it: a rule may jump to a group before that has rules. NULL without memory. */
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

/* Frees all groups. Their entries belong to the caller; nobody may be reading. */
void
esw_groups_free(struct esw_groups *groups)
{
	struct esw_group *group, *next;
	uint32_t i, k;

	for (i = 0; i < ESW_GROUP_BUCKETS; i++) {
		for (group = groups->bucket[i]; group != NULL; group = next) {
			next = group->next;
			for (k = 0; group->shapes != NULL && k < group->shapes->n; k++)
				shape_free(group->shapes->shape[k]);
			free(group->shapes);
			free(group);
		}
		groups->bucket[i] = NULL;
	}
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
	/* At most half full, so that most lookups look at one entry. */
	if (shape->entries > shape->buckets->mask / 2) {
		ret = grow(rcu, shape);
		if (ret < 0)
			return ret;
	}
	entry->shape = shape;
	entry->sequence = group->sequence++;
	entry->hash = extract(shape, &pattern->key, entry->key);
	buckets_add(shape->buckets, entry);
	shape->entries++;
	if (!fresh)
		return 0;
	ret = group_add(rcu, group, shape);
	if (ret < 0)
		shape_free(shape);
	return ret;
}

/* Takes the entry out of the group. The reader may hold it until the caller has waited for it. */
void
esw_match_remove(struct rte_rcu_qsbr *rcu, struct esw_group *group, struct esw_entry *entry)
{
	struct esw_shape *shape = entry->shape;

	buckets_remove(shape->buckets, entry);
	if (--shape->entries == 0)
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

/* The oldest of a shape's entries that match the packet, or NULL. */
static struct esw_entry *
shape_lookup(const struct esw_shape *shape, const struct esw_key *key)
{
	const struct buckets *b = __atomic_load_n(&shape->buckets, __ATOMIC_ACQUIRE);
	uint64_t words[ESW_KEY_WORDS];
	uint32_t hash = extract(shape, key, words);
	struct esw_entry *entry = __atomic_load_n(&b->head[hash & b->mask], __ATOMIC_ACQUIRE);

	while (entry != NULL && (entry->hash != hash || !same_key(shape, entry->key, words)))
		entry = __atomic_load_n(&entry->next[b->link], __ATOMIC_ACQUIRE);
	return entry;
}

/* The first entry, in the order of the rules, that matches the packet, or NULL. Shapes of one rank may all have one. */
struct esw_entry *
esw_match_lookup(const struct esw_group *group, const struct esw_key *key)
{
	const struct esw_shapes *shapes = __atomic_load_n(&group->shapes, __ATOMIC_ACQUIRE);
	struct esw_entry *best = NULL, *entry;
	uint32_t i;

	for (i = 0; shapes != NULL && i < shapes->n; i++) {
		if (best != NULL && shape_before(best->shape, shapes->shape[i]))
			break;
		entry = shape_lookup(shapes->shape[i], key);
		if (entry != NULL && (best == NULL || entry->sequence < best->sequence))
			best = entry;
	}
	return best;
}
