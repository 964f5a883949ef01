/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CX_STEER_H
#define CX_STEER_H

/*
 * What the files of the steering half share: the objects of software steering as the driver makes
 * them through the glue, and a frame on its way through their tables. The refusals are those of
 * rdma-core's providers/mlx5/dr_*.c, the names those of the mlx5 programmer's manual.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <rte_rcu_qsbr.h>

#include "../net_eswitch/match.h"
#include "../net_eswitch/rewrite.h"
#include "card.h"

/* Priorities that the kernel leaves to the driver in root tables. */
#define CX_ROOT_PRIORITIES 16

/* The sides of the switch, as bits: what comes from the wire, and what comes from the vports. */
#define CX_SIDE_WIRE 1
#define CX_SIDE_VPORTS 2
#define CX_SIDES (CX_SIDE_WIRE | CX_SIDE_VPORTS)

#define CX_DOMAINS 3

struct cx_domain {
	struct cx_dev *dev;
	enum mlx5dv_dr_domain_type type;
	uint32_t users;
	bool no_duplicates;
};

struct cx_table {
	struct cx_domain *domain;
	uint32_t level; /* 0: the root table, which is one for the PF and the type of domain */
	uint32_t users;
	struct esw_group *group;
	struct esw_group own;
};

/* fte_match_param of the longest kind, all seven sections. */
#define CX_FTE_SECTION 64
#define CX_FTE_SECTIONS 7
#define CX_FTE_SIZE (CX_FTE_SECTIONS * CX_FTE_SECTION)

struct cx_matcher {
	struct cx_table *table;
	uint16_t priority;
	uint32_t users;
	uint8_t fte[CX_FTE_SIZE]; /* its mask, without the sections that are not enabled */
};

enum cx_action_type {
	CX_ACTION_DROP,
	CX_ACTION_MISS,
	CX_ACTION_TABLE,
	CX_ACTION_VPORT,
	CX_ACTION_TIR,
	CX_ACTION_ARRAY,
	CX_ACTION_SAMPLER,
	CX_ACTION_TAG,
	CX_ACTION_COUNTER,
	CX_ACTION_FLOW_HIT,
	CX_ACTION_MODIFY,
	CX_ACTION_DECAP_L2,
	CX_ACTION_DECAP_L3,
	CX_ACTION_ENCAP_L2,
	CX_ACTION_ENCAP_L3,
	CX_ACTION_PUSH_VLAN,
	CX_ACTION_POP_VLAN,
	CX_ACTIONS,
};

struct cx_action;

/* One of an array's destinations, before which the packet may be given a header. */
struct cx_destination {
	struct cx_action *encap; /* or NULL */
	struct cx_action *to;
};

struct cx_array {
	uint32_t n;
	struct cx_destination to[];
};

struct cx_sampler {
	uint32_t ratio;            /* one packet in so many */
	uint32_t unsampled;        /* packets since the last one; the card's thread's */
	struct cx_table *next;     /* where the packet itself goes on */
	struct cx_action *restore; /* CX-5: puts reg_c_0 back for packets of vports; or NULL */
	uint32_t n;
	struct cx_action *action[]; /* of the copy */
};

enum cx_modify_op { CX_MODIFY_SET = 1, CX_MODIFY_ADD, CX_MODIFY_COPY };

struct cx_field;

struct cx_modify_step {
	enum cx_modify_op op;
	const struct cx_field *field;
	const struct cx_field *from; /* CX_MODIFY_COPY */
	uint8_t at;                  /* bits from the field's end */
	uint8_t from_at;
	uint8_t bits;
	uint32_t value;
};

struct cx_modify {
	uint32_t n;
	struct cx_modify_step step[];
};

struct cx_action {
	enum cx_action_type type;
	uint32_t users;
	bool root;                /* modify header and reformats: for root tables only */
	bool beyond;              /* a counter that is in no bulk: root tables refuse it */
	struct cx_domain *domain; /* of those that belong to one, or NULL */
	union {
		struct cx_table *table;
		struct cx_vport *vport;
		uint32_t tirn;
		uint32_t tag;
		uint32_t counter;
		struct {
			uint32_t object;
			uint32_t offset;
		} flow_hit;
		struct {
			uint16_t type;
			uint16_t tci;
		} vlan;
		struct cx_array *array;
		struct cx_sampler *sampler;
		struct cx_modify *modify;
		struct esw_encap *header; /* of the encaps and of CX_ACTION_DECAP_L3 */
	};
};

struct cx_rule {
	struct esw_entry entry __rte_cache_aligned;
	TAILQ_ENTRY(cx_rule) all;
	struct cx_matcher *matcher;
	uint8_t sides; /* 0: it can match nothing, and is in no table */
	uint32_t actions;
	struct cx_action *action[];
};

TAILQ_HEAD(cx_rules, cx_rule);

/* steer.c: what is installed. The lock serialises all writers, and the dump; the card's thread
 * never takes it. */
extern pthread_mutex_t cx_steer_lock;
extern struct rte_rcu_qsbr *cx_steer_rcu;
extern struct cx_rules cx_steer_rules;
extern struct cx_steering_counts cx_steer_counts;

struct esw_group *cx_root(const struct cx_dev *dev, enum mlx5dv_dr_domain_type type);
/* Sets errno. */
void *cx_fail(int code);

/* steer_match.c: fte_match_param. These return 0 or an errno. */
int cx_match_mask(struct cx_matcher *matcher, uint8_t criteria,
		  const struct mlx5dv_flow_match_parameters *mask);
int cx_match_value(const struct cx_matcher *matcher,
		   const struct mlx5dv_flow_match_parameters *value, struct esw_pattern *pattern);
/* Which sides of the switch can have a packet that matches: CX_SIDE_*. */
uint8_t cx_match_sides(const struct cx_domain *domain, const struct esw_pattern *pattern);
void cx_match_dump(FILE *file, const struct esw_key *key, const struct esw_key *mask);

/* steer_look.c */

/* Where a frame comes from, and what the card knows of it beside its bytes. */
struct cx_origin {
	uint32_t sqn;
	uint16_t vport;
	uint8_t side;
	uint32_t reg_a;
};

/* Brings the packet's key up to date. */
void cx_look(struct esw_packet *p, const struct cx_origin *origin);

/* steer_modify.c */
struct cx_flight;
struct cx_action *cx_modify_create(struct cx_domain *domain, uint32_t flags, size_t size,
				   const void *commands);
void cx_modify_run(struct cx_flight *flight, const struct cx_modify *modify);
void cx_modify_dump(FILE *file, const struct cx_modify *modify);

/* steer_order.c: 0 or an errno. */
int cx_actions_check(const struct cx_matcher *matcher, uint8_t sides, uint32_t n,
		     struct cx_action *const actions[]);

/* steer_action.c */
struct cx_action *cx_action_new(enum cx_action_type type, struct cx_domain *domain);
void cx_action_hold(struct cx_action *action);
void cx_action_release(struct cx_action *action);
void cx_action_glue(struct mlx5_glue *glue);

/* steer_run.c */

/* A frame on its way through the tables. */
struct cx_flight {
	struct esw_packet p;
	struct cx_origin origin;
	struct cx_dev *dev;
	struct cx_vport *source; /* whose counters it is counted in */
	enum mlx5dv_dr_domain_type domain;
	bool root;       /* it is in the domain's root table */
	uint32_t tables; /* that it has seen */
	struct cx_rx_meta meta;
};

/* steer_dump.c */
void cx_action_dump(FILE *file, const struct cx_action *action);
void cx_rule_dump(FILE *file, const struct cx_rule *rule);

#endif
