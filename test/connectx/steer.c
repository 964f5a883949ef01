/* SPDX-License-Identifier: Apache-2.0 */

/* Domains, tables, matchers and rules. */

#include <errno.h>
#include <stdlib.h>

#include <mlx5_glue.h>

#include "steer.h"

#define PFS 2

/* The card's thread, the only reader. */
#define READER 0

pthread_mutex_t cx_steer_lock = PTHREAD_MUTEX_INITIALIZER;
struct rte_rcu_qsbr *cx_steer_rcu;
struct cx_rules cx_steer_rules = TAILQ_HEAD_INITIALIZER(cx_steer_rules);
struct cx_steering_counts cx_steer_counts;

/* Root tables are the kernel's: one each, whatever the driver calls it. */
static struct esw_group roots[PFS][CX_DOMAINS];

struct esw_group *
cx_root(const struct cx_dev *dev, enum mlx5dv_dr_domain_type type)
{
	return &roots[dev->pf][type];
}

void *
cx_fail(int code)
{
	errno = code;
	return NULL;
}

int
cx_steering_start(void)
{
	size_t size = rte_rcu_qsbr_get_memsize(1);

	/* Not EAL's memory: there is none yet when the card is made. */
	cx_steer_rcu =
		aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(size, RTE_CACHE_LINE_SIZE));
	if (cx_steer_rcu == NULL)
		return -ENOMEM;
	if (rte_rcu_qsbr_init(cx_steer_rcu, 1) != 0 ||
	    rte_rcu_qsbr_thread_register(cx_steer_rcu, READER) != 0) {
		free(cx_steer_rcu);
		return -EINVAL;
	}
	return 0;
}

void
cx_steering_online(void)
{
	rte_rcu_qsbr_thread_online(cx_steer_rcu, READER);
}

void
cx_steering_quiescent(void)
{
	rte_rcu_qsbr_quiescent(cx_steer_rcu, READER);
}

void
cx_steering_offline(void)
{
	rte_rcu_qsbr_thread_offline(cx_steer_rcu, READER);
}

struct cx_steering_counts
cx_steering_counts(void)
{
	struct cx_steering_counts counts;

	pthread_mutex_lock(&cx_steer_lock);
	counts = cx_steer_counts;
	pthread_mutex_unlock(&cx_steer_lock);
	return counts;
}

static void *
create_domain(struct ibv_context *context, enum mlx5dv_dr_domain_type type)
{
	struct cx_dev *dev = cx_dev_of(context);
	struct cx_domain *domain;

	if (dev == NULL || type >= CX_DOMAINS)
		return cx_fail(EINVAL);
	if (type == MLX5DV_DR_DOMAIN_TYPE_FDB && dev->pf != 0)
		return cx_fail(EOPNOTSUPP);
	domain = calloc(1, sizeof(*domain));
	if (domain == NULL)
		return cx_fail(ENOMEM);
	domain->dev = dev;
	domain->type = type;
	return domain;
}

static int
destroy_domain(void *domain)
{
	struct cx_domain *d = domain;
	uint32_t users;

	pthread_mutex_lock(&cx_steer_lock);
	users = d->users;
	pthread_mutex_unlock(&cx_steer_lock);
	if (users > 0)
		return EBUSY;
	free(d);
	return 0;
}

/* What rules say is in effect when the call that makes them returns. */
static int
sync_domain(void *domain, uint32_t flags)
{
	(void)domain;
	(void)flags;
	return 0;
}

/* Memory is always given back at once. */
static void
reclaim_memory(void *domain, uint32_t enable)
{
	(void)domain;
	(void)enable;
}

static void
allow_duplicates(void *domain, uint32_t allow)
{
	struct cx_domain *d = domain;

	pthread_mutex_lock(&cx_steer_lock);
	d->no_duplicates = !allow;
	pthread_mutex_unlock(&cx_steer_lock);
}

static void *
create_table(void *domain, uint32_t level)
{
	struct cx_domain *d = domain;
	struct cx_table *table;
	int fault = cx_fault_create("table");

	if (fault != 0)
		return cx_fail(fault);
	table = calloc(1, sizeof(*table));
	if (table == NULL)
		return cx_fail(ENOMEM);
	table->domain = d;
	table->level = level;
	table->group = level == 0 ? cx_root(d->dev, d->type) : &table->own;
	pthread_mutex_lock(&cx_steer_lock);
	d->users++;
	cx_steer_counts.tables++;
	pthread_mutex_unlock(&cx_steer_lock);
	return table;
}

static int
destroy_table(void *table)
{
	struct cx_table *t = table;
	int ret = cx_fault_destroy("table");

	if (ret != 0)
		return ret;
	pthread_mutex_lock(&cx_steer_lock);
	if (t->users > 0) {
		ret = EBUSY;
	} else {
		t->domain->users--;
		cx_steer_counts.tables--;
		/* Nothing leads here any more, so nobody reads it. */
		esw_group_clear(&t->own);
		free(t);
	}
	pthread_mutex_unlock(&cx_steer_lock);
	return ret;
}

static struct cx_matcher *
new_matcher(struct cx_table *table, const struct mlx5dv_flow_matcher_attr *attr)
{
	struct cx_matcher *matcher;
	int ret;

	if (table->level == 0 && attr->priority >= CX_ROOT_PRIORITIES)
		return cx_fail(EINVAL);
	matcher = calloc(1, sizeof(*matcher));
	if (matcher == NULL)
		return cx_fail(ENOMEM);
	matcher->table = table;
	matcher->priority = attr->priority;
	ret = cx_match_mask(matcher, attr->match_criteria_enable, attr->match_mask);
	if (ret != 0) {
		free(matcher);
		return cx_fail(ret);
	}
	return matcher;
}

static void *
create_matcher(struct ibv_context *context, struct mlx5dv_flow_matcher_attr *attr, void *table)
{
	struct cx_table *t = table;
	struct cx_matcher *matcher;
	int fault = cx_fault_create("matcher");

	(void)context;
	if (fault != 0)
		return cx_fail(fault);
	matcher = new_matcher(t, attr);
	if (matcher == NULL)
		return NULL;
	pthread_mutex_lock(&cx_steer_lock);
	t->users++;
	cx_steer_counts.matchers++;
	pthread_mutex_unlock(&cx_steer_lock);
	return matcher;
}

static int
destroy_matcher(void *matcher)
{
	struct cx_matcher *m = matcher;
	int ret = cx_fault_destroy("matcher");

	if (ret != 0)
		return ret;
	pthread_mutex_lock(&cx_steer_lock);
	if (m->users > 0) {
		ret = EBUSY;
	} else {
		m->table->users--;
		cx_steer_counts.matchers--;
		free(m);
	}
	pthread_mutex_unlock(&cx_steer_lock);
	return ret;
}

/* Has the pattern of a rule that is on one side of the switch match on that side alone. */
static void
limit_side(struct esw_pattern *pattern, uint8_t sides)
{
	if (sides == CX_SIDES)
		return;
	pattern->key.card.side = sides;
	pattern->mask.card.side = UINT8_MAX;
}

static int
insert(struct cx_rule *rule, const struct esw_pattern *pattern)
{
	struct cx_table *table = rule->matcher->table;
	int ret;

	if (rule->sides == 0)
		return 0;
	ret = -esw_match_insert(cx_steer_rcu, table->group, &rule->entry, pattern);
	if (ret != 0)
		return ret;
	if (rule->entry.older != NULL && table->level != 0 && table->domain->no_duplicates) {
		esw_match_remove(cx_steer_rcu, table->group, &rule->entry);
		return EEXIST;
	}
	return 0;
}

/* Under the lock. */
static int
add_rule(struct cx_rule *rule, const struct esw_pattern *pattern)
{
	int ret = insert(rule, pattern);
	uint32_t i;

	if (ret != 0)
		return ret;
	for (i = 0; i < rule->actions; i++)
		cx_action_hold(rule->action[i]);
	rule->matcher->users++;
	TAILQ_INSERT_TAIL(&cx_steer_rules, rule, all);
	cx_steer_counts.rules++;
	return 0;
}

/* What the rule matches, and on which sides of the switch. */
static int
check_rule(const struct cx_matcher *matcher, const struct mlx5dv_flow_match_parameters *value,
	   uint32_t n, struct cx_action *const actions[], struct esw_pattern *pattern,
	   uint8_t *sides)
{
	const struct cx_table *table = matcher->table;
	int ret = cx_match_value(matcher, value, pattern);

	if (ret != 0)
		return ret;
	*sides = CX_SIDES;
	if (table->domain->type == MLX5DV_DR_DOMAIN_TYPE_FDB && table->level != 0)
		*sides = cx_match_sides(table->domain, pattern);
	limit_side(pattern, *sides);
	return cx_actions_check(matcher, *sides, n, actions);
}

static void *
create_rule(void *matcher, void *value, size_t n, void *actions[])
{
	struct cx_matcher *m = matcher;
	struct esw_pattern pattern;
	struct cx_rule *rule;
	uint8_t sides;
	size_t size;
	int ret = cx_fault_create("rule");

	if (ret == 0)
		ret = check_rule(m, value, n, (struct cx_action *const *)actions, &pattern, &sides);
	if (ret != 0)
		return cx_fail(ret);
	size = RTE_ALIGN_CEIL(sizeof(*rule) + n * sizeof(rule->action[0]), RTE_CACHE_LINE_SIZE);
	rule = aligned_alloc(RTE_CACHE_LINE_SIZE, size);
	if (rule == NULL)
		return cx_fail(ENOMEM);
	memset(rule, 0, size);
	rule->matcher = m;
	rule->sides = sides;
	rule->actions = n;
	memcpy(rule->action, actions, n * sizeof(rule->action[0]));
	pthread_mutex_lock(&cx_steer_lock);
	ret = add_rule(rule, &pattern);
	pthread_mutex_unlock(&cx_steer_lock);
	if (ret != 0) {
		free(rule);
		return cx_fail(ret);
	}
	return rule;
}

static int
destroy_rule(void *rule)
{
	struct cx_rule *r = rule;
	uint32_t i;
	int ret = cx_fault_destroy("rule");

	if (ret != 0)
		return ret;
	pthread_mutex_lock(&cx_steer_lock);
	if (r->sides != 0) {
		esw_match_remove(cx_steer_rcu, r->matcher->table->group, &r->entry);
		rte_rcu_qsbr_synchronize(cx_steer_rcu, RTE_QSBR_THRID_INVALID);
	}
	for (i = 0; i < r->actions; i++)
		cx_action_release(r->action[i]);
	r->matcher->users--;
	TAILQ_REMOVE(&cx_steer_rules, r, all);
	cx_steer_counts.rules--;
	pthread_mutex_unlock(&cx_steer_lock);
	free(r);
	return 0;
}

static int
dump_domain(FILE *file, void *domain)
{
	const struct cx_rule *rule;

	pthread_mutex_lock(&cx_steer_lock);
	TAILQ_FOREACH(rule, &cx_steer_rules, all)
		if (rule->matcher->table->domain == domain)
			cx_rule_dump(file, rule);
	pthread_mutex_unlock(&cx_steer_lock);
	return 0;
}

static int
dump_rule(FILE *file, void *rule)
{
	pthread_mutex_lock(&cx_steer_lock);
	cx_rule_dump(file, rule);
	pthread_mutex_unlock(&cx_steer_lock);
	return 0;
}

void
cx_steering_dump(FILE *file)
{
	const struct cx_rule *rule;

	pthread_mutex_lock(&cx_steer_lock);
	TAILQ_FOREACH(rule, &cx_steer_rules, all)
		cx_rule_dump(file, rule);
	pthread_mutex_unlock(&cx_steer_lock);
}

void
cx_steering_glue(struct mlx5_glue *glue)
{
	glue->dr_create_domain = create_domain;
	glue->dr_destroy_domain = destroy_domain;
	glue->dr_sync_domain = sync_domain;
	glue->dr_reclaim_domain_memory = reclaim_memory;
	glue->dr_allow_duplicate_rules = allow_duplicates;
	glue->dr_create_flow_tbl = create_table;
	glue->dr_destroy_flow_tbl = destroy_table;
	glue->dv_create_flow_matcher = create_matcher;
	glue->dv_destroy_flow_matcher = destroy_matcher;
	glue->dv_create_flow = create_rule;
	glue->dv_destroy_flow = destroy_rule;
	glue->dr_dump_domain = dump_domain;
	glue->dr_dump_rule = dump_rule;
	cx_action_glue(glue);
}
