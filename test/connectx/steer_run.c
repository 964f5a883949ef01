/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Frames on their way through the domains, on the card's thread:
 *
 *   wire or guest   FDB, where there is a switch, else NIC RX
 *   send queue      NIC TX, then likewise FDB or the wire
 *   missed in FDB   the manager's NIC RX, with the source's tag in reg_c_0
 *   missed in NIC RX   from the root table to the kernel, whose rules come next; from the others
 * nowhere
 */

#include <string.h>

#include <rte_mbuf.h>
#include <rte_udp.h>
#include <rte_vxlan.h>

#include "steer.h"

/* Levels only rise, but for what a mirror's copies may do; a frame that has seen so many tables is
 * going round. */
#define MAX_TABLES 64

/* Registers that a frame keeps from the FDB to the manager's NIC RX: those that the kernel has
 * passed on (fdb_to_vport_reg_c_id of MODIFY_ESW_VPORT_CONTEXT). */
#define PASSED_REGISTERS 2

static void
drop(struct cx_flight *f, const char *why)
{
	cx_stat(f->source, why, 1);
	rte_pktmbuf_free(f->p.m);
}

static struct cx_vport *
uplink(struct cx_dev *dev)
{
	return &dev->vport[0];
}

static struct esw_group *
enter(struct cx_flight *f, enum mlx5dv_dr_domain_type domain)
{
	f->domain = domain;
	f->root = true;
	return cx_root(f->dev, domain);
}

static struct esw_group *
enter_nic_rx(struct cx_flight *f)
{
	uint32_t i;

	for (i = PASSED_REGISTERS; i < ESW_REGISTERS; i++)
		f->p.key.reg_c[i] = 0;
	f->origin.sqn = 0;
	f->origin.reg_a = 0;
	return enter(f, MLX5DV_DR_DOMAIN_TYPE_NIC_RX);
}

static struct esw_group *
enter_fdb_from_manager(struct cx_flight *f)
{
	memset(f->p.key.reg_c, 0, sizeof(f->p.key.reg_c));
	f->origin.vport = CX_VPORT_MANAGER;
	f->origin.side = CX_SIDE_VPORTS;
	f->origin.reg_a = 0;
	return enter(f, MLX5DV_DR_DOMAIN_TYPE_FDB);
}

/* The tag tells the kernel which of its netdevs has received a frame. */
static void
to_kernel(struct cx_flight *f)
{
	uint32_t tag = f->p.key.reg_c[0] & CX_META_MASK, i;
	struct cx_vport *to = uplink(f->dev);

	for (i = 0; i < f->dev->vports; i++)
		if (f->dev->vport[i].meta_tag == tag)
			to = &f->dev->vport[i];
	cx_twin_receive(to, f->p.m);
}

/* Where a frame goes that no rule has decided on: the domain's default, or the kernel's rules. */
static struct esw_group *
miss(struct cx_flight *f)
{
	switch (f->domain) {
	case MLX5DV_DR_DOMAIN_TYPE_FDB:
		return enter_nic_rx(f);
	case MLX5DV_DR_DOMAIN_TYPE_NIC_TX:
		if (f->dev->pf == 0)
			return enter_fdb_from_manager(f);
		cx_far_send(uplink(f->dev), f->p.m);
		return NULL;
	default:
		if (f->root)
			to_kernel(f);
		else
			drop(f, "rx_default_dropped");
		return NULL;
	}
}

/* Removes the tunnel's headers. The parser says where they end; a frame that has none cannot be
 * decapsulated. */
static bool
decap_l2(struct cx_flight *f)
{
	struct esw_decap what = { .kind = ESW_DECAP_BYTES };

	esw_packet_refresh(&f->p);
	if (!f->p.key.vxlan)
		return false;
	what.size =
		f->p.off.l4[ESW_OUTER] + sizeof(struct rte_udp_hdr) + sizeof(struct rte_vxlan_hdr);
	return esw_decap(&f->p, &what) == 0;
}

/* Likewise, up to the inner IP header, and puts a link layer before that. */
static bool
decap_l3(struct cx_flight *f, const struct esw_encap *header)
{
	struct esw_decap what = { .kind = ESW_DECAP_TUNNEL };

	esw_packet_refresh(&f->p);
	return f->p.off.l3[ESW_INNER] != 0 && esw_decap(&f->p, &what) == 0 &&
	       esw_encap(&f->p, header, 0) == 0;
}

static bool
encap(struct cx_flight *f, const struct cx_action *action, uint32_t hash)
{
	struct esw_decap link = { .kind = ESW_DECAP_LINK, .size = RTE_ETHER_HDR_LEN };

	if (action->type == CX_ACTION_ENCAP_L3 && esw_decap(&f->p, &link) != 0)
		return false;
	return esw_encap(&f->p, action->header, hash) == 0;
}

static bool
push_vlan(struct cx_flight *f, const struct cx_action *action)
{
	return esw_push_vlan(&f->p, rte_cpu_to_be_16(action->vlan.type), action->vlan.tci) == 0;
}

static void
count(const struct cx_action *action, uint32_t bytes)
{
	cx_counter_hit(action->counter, bytes);
}

static void steer(struct cx_flight *f, struct esw_group *group);
static struct esw_group *go(struct cx_flight *f, const struct cx_action *to, uint32_t hash);

/* Another frame with the same bytes and registers; false if there is no room for it. */
static bool
copy(const struct cx_flight *f, struct cx_flight *out)
{
	*out = *f;
	out->p.m = rte_pktmbuf_copy(f->p.m, cx_pool(), 0, UINT32_MAX);
	cx_stat(f->source, out->p.m == NULL ? "sample_failed" : "sampled", 1);
	return out->p.m != NULL;
}

static struct esw_group *
go_to_destination(struct cx_flight *f, const struct cx_destination *to, uint32_t hash)
{
	if (to->encap != NULL && !encap(f, to->encap, hash)) {
		drop(f, "encap_failed");
		return NULL;
	}
	return go(f, to->to, hash);
}

static void
go_to_array(const struct cx_flight *f, const struct cx_array *array, uint32_t hash)
{
	struct cx_flight out;
	uint32_t i;

	for (i = 0; i < array->n; i++) {
		if (array->to[i].to->type == CX_ACTION_COUNTER)
			count(array->to[i].to, f->p.m->pkt_len);
		else if (copy(f, &out))
			steer(&out, go_to_destination(&out, &array->to[i], hash));
	}
	rte_pktmbuf_free(f->p.m);
}

/* The copy that a sampler takes: a terminal table has all its actions. */
static void
take_sample(const struct cx_flight *f, const struct cx_sampler *sampler)
{
	const struct cx_action *to = NULL;
	struct cx_flight out;
	uint32_t i;

	if (!copy(f, &out))
		return;
	for (i = 0; i < sampler->n; i++) {
		const struct cx_action *action = sampler->action[i];

		if (action->type == CX_ACTION_COUNTER) {
			count(action, out.p.m->pkt_len);
		} else if (action->type == CX_ACTION_TAG) {
			out.meta.marked = true;
			out.meta.mark = action->tag;
		} else {
			to = action;
		}
	}
	steer(&out, go(&out, to, 0));
}

static struct esw_group *
go_to_sampler(struct cx_flight *f, struct cx_sampler *sampler)
{
	if (++sampler->unsampled >= sampler->ratio) {
		sampler->unsampled = 0;
		take_sample(f, sampler);
	}
	if (sampler->restore != NULL && f->origin.side == CX_SIDE_VPORTS)
		cx_modify_run(f, sampler->restore->modify);
	f->root = false;
	return sampler->next->group;
}

/* Sends the frame on; without a destination it is as if no rule had matched. Returns the table
 * where it goes on. */
static struct esw_group *
go(struct cx_flight *f, const struct cx_action *to, uint32_t hash)
{
	if (to == NULL)
		return miss(f);
	switch (to->type) {
	case CX_ACTION_TABLE:
		f->root = false;
		return to->table->group;
	case CX_ACTION_VPORT:
		cx_far_send(to->vport, f->p.m);
		return NULL;
	case CX_ACTION_TIR:
		cx_tir_receive(to->tirn, f->p.m, &f->meta);
		return NULL;
	case CX_ACTION_ARRAY:
		go_to_array(f, to->array, hash);
		return NULL;
	case CX_ACTION_SAMPLER:
		return go_to_sampler(f, to->sampler);
	case CX_ACTION_DROP:
		drop(f, "rule_dropped");
		return NULL;
	default:
		return miss(f);
	}
}

/* What sees the frame as it has come, wherever in the rule it is: counters may even be behind
 * the destination. */
static void
run_hits(const struct cx_flight *f, const struct cx_rule *rule)
{
	uint32_t i;

	for (i = 0; i < rule->actions; i++) {
		const struct cx_action *action = rule->action[i];

		if (action->type == CX_ACTION_COUNTER)
			count(action, f->p.m->pkt_len);
		else if (action->type == CX_ACTION_FLOW_HIT)
			cx_aso_flow_hit(action->flow_hit.object, action->flow_hit.offset);
	}
}

/* Does what changes the frame. NULL, or why it cannot go on. */
static const char *
run_action(struct cx_flight *f, const struct cx_action *action, uint32_t hash)
{
	switch (action->type) {
	case CX_ACTION_TAG:
		f->meta.marked = true;
		f->meta.mark = action->tag;
		return NULL;
	case CX_ACTION_MODIFY:
		cx_modify_run(f, action->modify);
		return NULL;
	case CX_ACTION_DECAP_L2:
		return decap_l2(f) ? NULL : "decap_failed";
	case CX_ACTION_DECAP_L3:
		return decap_l3(f, action->header) ? NULL : "decap_failed";
	case CX_ACTION_ENCAP_L2:
	case CX_ACTION_ENCAP_L3:
		return encap(f, action, hash) ? NULL : "encap_failed";
	case CX_ACTION_PUSH_VLAN:
		return push_vlan(f, action) ? NULL : "encap_failed";
	case CX_ACTION_POP_VLAN:
		return esw_pop_vlan(&f->p) == 0 ? NULL : "pop_vlan_failed";
	default:
		return NULL;
	}
}

static bool
is_destination(const struct cx_action *action)
{
	switch (action->type) {
	case CX_ACTION_DROP:
	case CX_ACTION_MISS:
	case CX_ACTION_TABLE:
	case CX_ACTION_VPORT:
	case CX_ACTION_TIR:
	case CX_ACTION_ARRAY:
	case CX_ACTION_SAMPLER:
		return true;
	default:
		return false;
	}
}

static bool
needs_hash(const struct cx_action *action)
{
	switch (action->type) {
	case CX_ACTION_ENCAP_L2:
	case CX_ACTION_ENCAP_L3:
	case CX_ACTION_ARRAY:
		return true;
	default:
		return false;
	}
}

static struct esw_group *
run_rule(struct cx_flight *f, const struct cx_rule *rule)
{
	const struct cx_action *to = NULL;
	const char *failed;
	uint32_t hash = 0, i;

	run_hits(f, rule);
	/* The flow is what the frame was when the rule was found. */
	for (i = 0; i < rule->actions; i++)
		if (needs_hash(rule->action[i]))
			hash = esw_flow_hash(&f->p.key);
	for (i = 0; i < rule->actions; i++) {
		if (is_destination(rule->action[i])) {
			to = rule->action[i];
			continue;
		}
		failed = run_action(f, rule->action[i], hash);
		if (failed != NULL) {
			drop(f, failed);
			return NULL;
		}
	}
	return go(f, to, hash);
}

static void
steer(struct cx_flight *f, struct esw_group *group)
{
	while (group != NULL) {
		struct esw_entry *entry;

		if (++f->tables > MAX_TABLES) {
			drop(f, "too_many_tables");
			return;
		}
		cx_look(&f->p, &f->origin);
		entry = esw_match_lookup(group, &f->p.key);
		if (entry == NULL)
			group = miss(f);
		else
			group = run_rule(f, container_of(entry, struct cx_rule, entry));
	}
}

static void
start(struct cx_flight *f, struct cx_dev *dev, struct cx_vport *source, struct rte_mbuf *m)
{
	memset(&f->origin, 0, sizeof(f->origin));
	memset(&f->meta, 0, sizeof(f->meta));
	f->dev = dev;
	f->source = source;
	f->tables = 0;
	f->p.m = m;
	f->p.marked = false;
	f->p.stale = true;
	memset(f->p.key.reg_c, 0, sizeof(f->p.key.reg_c));
}

void
cx_steer_from_far(struct cx_vport *vport, struct rte_mbuf *m)
{
	struct cx_flight f;

	start(&f, vport->dev, vport, m);
	f.origin.vport = vport->id;
	f.origin.side = vport->id == CX_VPORT_UPLINK ? CX_SIDE_WIRE : CX_SIDE_VPORTS;
	f.p.key.reg_c[0] = vport->meta_tag;
	steer(&f, enter(&f, vport->dev->pf == 0 ? MLX5DV_DR_DOMAIN_TYPE_FDB :
						  MLX5DV_DR_DOMAIN_TYPE_NIC_RX));
}

void
cx_steer_from_sq(struct cx_dev *dev, uint32_t sqn, struct cx_vport *vport, struct rte_mbuf *m)
{
	struct cx_flight f;

	start(&f, dev, vport, m);
	f.origin.sqn = sqn;
	steer(&f, enter(&f, MLX5DV_DR_DOMAIN_TYPE_NIC_TX));
}

void
cx_steer_from_twin(struct cx_vport *vport, struct rte_mbuf *m)
{
	cx_far_send(vport, m);
}
