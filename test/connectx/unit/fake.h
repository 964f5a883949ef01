/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CX_UNIT_FAKE_H
#define CX_UNIT_FAKE_H

/* A device half for the tests of steering: it remembers what it is given. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <mlx5_glue.h>
#include <mlx5_prm.h>

#include "../../net_eswitch/unit/frame.h"
#include "../steer.h"

extern struct mlx5_glue fake_glue;
extern struct cx_dev fake_pf0; /* with VFs 0 to 2 */
extern struct cx_dev fake_pf1;
extern struct cx_profile fake_profile; /* of both: a CX-6 Dx unless a test says otherwise */

#define PF0 (&fake_pf0.vport[0])
#define VF(n) (&fake_pf0.vport[1 + (n)])
#define PF1 (&fake_pf1.vport[0])

/* Domains of PF0 and PF1, made for each test. */
extern struct cx_domain *fdb, *rx, *tx, *rx1;

enum fake_where { FAKE_FAR, FAKE_TWIN, FAKE_TIR };

/* A frame that came out. */
struct fake_seen {
	enum fake_where where;
	struct cx_vport *vport; /* or NULL */
	uint32_t tirn;
	struct cx_rx_meta meta;
	struct frame frame;
};

#define FAKE_MAX_SEEN 16
extern struct fake_seen fake_seen[FAKE_MAX_SEEN];
extern uint32_t fake_n;

struct fake_counter {
	uint64_t packets;
	uint64_t bytes;
};

#define FAKE_COUNTERS 64
extern struct fake_counter fake_counters[FAKE_COUNTERS];

extern uint32_t fake_aso_object, fake_aso_offset, fake_aso_hits;
extern const char *fake_fail; /* the kind of object whose next call fails with ENOMEM, or NULL */
extern char fake_refused[256];

uint64_t fake_stat(const struct cx_vport *vport, const char *name);

int fake_setup(void **state); /* once */
int fake_end(void **state);   /* likewise, behind all tests */
int fake_reset(void **state); /* before each test */
int fake_check(void **state); /* behind each: takes down what it has made; nothing may be left */

/* What a matcher looks at, and a rule's value. */
struct match {
	uint8_t mask[CX_FTE_SIZE];
	uint8_t value[CX_FTE_SIZE];
};

#define MATCH(m, field, v, bits)                                   \
	do {                                                       \
		MLX5_SET(fte_match_param, (m)->mask, field, bits); \
		MLX5_SET(fte_match_param, (m)->value, field, v);   \
	} while (0)
/* The 16-byte fields; n bytes from the end. */
void match_bytes(struct match *m, uint32_t at, const void *value, uint32_t n);
#define MATCH_IPV4(m, field, text) match_ipv4(m, MLX5_BYTE_OFF(fte_match_param, field), text)
#define MATCH_IPV6(m, field, text) match_ipv6(m, MLX5_BYTE_OFF(fte_match_param, field), text)
void match_ipv4(struct match *m, uint32_t at, const char *text);
void match_ipv6(struct match *m, uint32_t at, const char *text);
/* From a vport, as the driver says it. */
void match_source(struct match *m, const struct cx_vport *vport);

/* These remember what they make: fake_check takes it down, in the opposite order. NULL and errno as
 * the glue. */
struct cx_table *table(struct cx_domain *domain, uint32_t level);
struct cx_matcher *matcher(struct cx_table *t, uint16_t priority, const struct match *m);
/* Its actions, ended by NULL. */
struct cx_rule *rule(struct cx_table *t, uint16_t priority, const struct match *m, ...);
struct cx_action *keep(void *action);

/* Likewise, with errno and NULL for a rule that is refused. */
struct cx_action *vport(struct cx_vport *to);
struct cx_action *tir(uint32_t tirn);
#define FIRST_HIT MLX5DV_DR_ACTION_FLAGS_ASO_FIRST_HIT_SET
struct cx_action *counter(uint32_t id);
struct cx_action *flow_hit(uint32_t object, uint32_t offset);
struct cx_action *jump(struct cx_table *to);
struct cx_action *drop(void);
struct cx_action *miss(void);
struct cx_action *mark(uint32_t tag);
struct cx_action *pop_vlan(void);
struct cx_action *push_vlan(uint16_t type, uint16_t tci);
struct cx_action *set(struct cx_domain *domain, uint32_t field, uint32_t at, uint32_t bits,
		      uint32_t value);
struct cx_action *add(struct cx_domain *domain, uint32_t field, uint32_t value);
struct cx_action *copy(struct cx_domain *domain, uint32_t from, uint32_t to, uint32_t bits);
#define DECAP_L2 MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TUNNEL_TO_L2
#define DECAP_L3 MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L3_TUNNEL_TO_L2
#define ENCAP_L2 MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TO_L2_TUNNEL
#define ENCAP_L3 MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TO_L3_TUNNEL
struct cx_action *reformat(struct cx_domain *domain, uint32_t type, const struct frame *header);
/* Two destinations; the first with a header before it unless that is NULL. */
struct cx_action *mirror(struct cx_domain *domain, struct cx_action *encap, struct cx_action *to,
			 struct cx_action *and_to);

/* Has a frame come from the far side of a port, or out of a send queue. */
void from_far(struct cx_vport *v, const struct frame *f);
void from_sq(struct cx_vport *v, uint32_t sqn, const struct frame *f);
/* That the only frame that came out came there; returns it. */
const struct frame *came(enum fake_where where, const struct cx_vport *v);
void nothing_came(void);
/* That IP and L4 checksums of the outermost headers are right. */
void checksums_are_right(const struct frame *f);

#endif
