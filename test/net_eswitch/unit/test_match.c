/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../match.h"

#define RULES 20000

static struct rte_rcu_qsbr *rcu;
static struct esw_groups groups;
static struct esw_group *group;

static int
setup(void **state)
{
	size_t size = rte_rcu_qsbr_get_memsize(1);

	(void)state;
	rcu = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(size, RTE_CACHE_LINE_SIZE));
	rte_rcu_qsbr_init(rcu, 1);
	group = esw_group_get(&groups, 7);
	return group == NULL;
}

static int
teardown(void **state)
{
	(void)state;
	esw_groups_free(&groups);
	free(rcu);
	return 0;
}

/* Matches the outer destination port, or with port 0 anything. */
static struct esw_pattern
by_port(uint32_t priority, uint16_t port)
{
	struct esw_pattern p = { .priority = priority };

	p.key.l3[0].dst_port = port;
	p.mask.l3[0].dst_port = port == 0 ? 0 : UINT16_MAX;
	return p;
}

static struct esw_pattern
by_source(uint32_t priority, uint32_t source)
{
	struct esw_pattern p = { .priority = priority };

	memcpy(p.key.l3[0].src, &source, sizeof(source));
	memset(p.mask.l3[0].src, 0xff, sizeof(source));
	return p;
}

static void
insert(struct esw_entry *entry, struct esw_pattern pattern)
{
	assert_int_equal(esw_match_insert(rcu, group, entry, &pattern), 0);
}

static struct esw_entry *
lookup_port(uint16_t port)
{
	struct esw_key key = { 0 };

	key.l3[0].dst_port = port;
	return esw_match_lookup(group, &key);
}

static void
finds_nothing_in_an_empty_group(void **state)
{
	(void)state;
	assert_null(lookup_port(1));
}

static void
keeps_groups_apart(void **state)
{
	struct esw_group *other = esw_group_get(&groups, 7 + ESW_GROUP_BUCKETS);
	struct esw_entry e;

	(void)state;
	assert_ptr_not_equal(other, group);
	assert_ptr_equal(esw_group_get(&groups, 7), group);
	insert(&e, by_port(0, 0));
	assert_null(esw_match_lookup(other, &(struct esw_key){ 0 }));
	esw_match_remove(rcu, group, &e);
}

static void
prefers_the_lower_priority_value(void **state)
{
	struct esw_entry any, exact;

	(void)state;
	insert(&any, by_port(1, 0));
	insert(&exact, by_port(2, 80));
	assert_ptr_equal(lookup_port(80), &any);
	esw_match_remove(rcu, group, &any);
	assert_ptr_equal(lookup_port(80), &exact);
	assert_null(lookup_port(81));
	esw_match_remove(rcu, group, &exact);
	assert_null(lookup_port(80));
}

static void
prefers_deeper_headers(void **state)
{
	struct esw_pattern shallow = by_port(1, 0), deep = by_port(1, 80);
	struct esw_entry a, b;

	(void)state;
	shallow.depth = 1;
	deep.depth = 3;
	insert(&a, shallow);
	insert(&b, deep);
	assert_ptr_equal(lookup_port(80), &b);
	assert_ptr_equal(lookup_port(81), &a);
	esw_match_remove(rcu, group, &a);
	esw_match_remove(rcu, group, &b);
}

static void
prefers_the_older_of_two_equal_rules(void **state)
{
	struct esw_entry a, b;

	(void)state;
	insert(&a, by_port(0, 80));
	insert(&b, by_port(0, 80));
	assert_ptr_equal(lookup_port(80), &a);
	esw_match_remove(rcu, group, &a);
	assert_ptr_equal(lookup_port(80), &b);
	esw_match_remove(rcu, group, &b);
}

/* Also when an equally ranked rule of the younger one's shape is older than both. */
static void
prefers_the_older_of_two_shapes(void **state)
{
	struct esw_entry first, a, b;

	(void)state;
	insert(&first, by_port(0, 81));
	insert(&a, by_port(0, 0));
	insert(&b, by_port(0, 80));
	assert_ptr_equal(lookup_port(80), &a);
	assert_ptr_equal(lookup_port(81), &first);
	esw_match_remove(rcu, group, &a);
	assert_ptr_equal(lookup_port(80), &b);
	esw_match_remove(rcu, group, &b);
	esw_match_remove(rcu, group, &first);
}

static void
finds_all_of_many(void **state)
{
	struct esw_entry *e = calloc(RULES, sizeof(*e));
	struct esw_key key = { 0 };
	uint32_t i;

	(void)state;
	assert_non_null(e);
	for (i = 0; i < RULES; i++)
		insert(&e[i], by_source(0, i));
	for (i = 0; i < RULES; i++) {
		memcpy(key.l3[0].src, &i, sizeof(i));
		assert_ptr_equal(esw_match_lookup(group, &key), &e[i]);
	}
	for (i = 0; i < RULES; i += 2)
		esw_match_remove(rcu, group, &e[i]);
	for (i = 0; i < RULES; i++) {
		memcpy(key.l3[0].src, &i, sizeof(i));
		assert_ptr_equal(esw_match_lookup(group, &key), i % 2 ? &e[i] : NULL);
	}
	for (i = 1; i < RULES; i += 2)
		esw_match_remove(rcu, group, &e[i]);
	free(e);
}

/* Compares with a linear search over random rules of many shapes. */
static void
agrees_with_a_linear_search(void **state)
{
	struct esw_pattern p[200];
	struct esw_entry e[200];
	unsigned int seed = 3;
	int i, k, best;

	(void)state;
	memset(p, 0, sizeof(p));
	for (i = 0; i < 200; i++) {
		p[i].priority = rand_r(&seed) % 4;
		p[i].mask.l3[0].ttl = rand_r(&seed) % 2 ? 3 : 0;
		p[i].key.l3[0].ttl = rand_r(&seed);
		p[i].mask.l2[ESW_OUTER].type = rand_r(&seed) % 4;
		p[i].key.l2[ESW_OUTER].type = rand_r(&seed);
		p[i].mask.l3[1].dst_port = rand_r(&seed) % 2 ? 7 : 0;
		p[i].key.l3[1].dst_port = rand_r(&seed);
		insert(&e[i], p[i]);
	}
	for (i = 0; i < 2000; i++) {
		struct esw_key key = { 0 };
		struct esw_entry *found;

		key.l3[0].ttl = rand_r(&seed);
		key.l2[ESW_OUTER].type = rand_r(&seed);
		key.l3[1].dst_port = rand_r(&seed);
		for (best = -1, k = 0; k < 200; k++) {
			bool hit =
				((key.l3[0].ttl ^ p[k].key.l3[0].ttl) & p[k].mask.l3[0].ttl) == 0 &&
				((key.l2[ESW_OUTER].type ^ p[k].key.l2[ESW_OUTER].type) &
				 p[k].mask.l2[ESW_OUTER].type) == 0 &&
				((key.l3[1].dst_port ^ p[k].key.l3[1].dst_port) &
				 p[k].mask.l3[1].dst_port) == 0;

			if (hit && (best < 0 || p[k].priority < p[best].priority))
				best = k;
		}
		found = esw_match_lookup(group, &key);
		if (best < 0)
			assert_null(found);
		else
			assert_int_equal(p[found - e].priority, p[best].priority);
	}
	for (i = 0; i < 200; i++)
		esw_match_remove(rcu, group, &e[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_nothing_in_an_empty_group),
		cmocka_unit_test(keeps_groups_apart),
		cmocka_unit_test(prefers_the_lower_priority_value),
		cmocka_unit_test(prefers_deeper_headers),
		cmocka_unit_test(prefers_the_older_of_two_equal_rules),
		cmocka_unit_test(prefers_the_older_of_two_shapes),
		cmocka_unit_test(finds_all_of_many),
		cmocka_unit_test(agrees_with_a_linear_search),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
