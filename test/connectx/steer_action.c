/* SPDX-License-Identifier: Apache-2.0 */

/* Actions: the driver makes them once and gives them to many rules. What rdma-core refuses is
 * refused alike. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <mlx5_glue.h>
#include <mlx5_prm.h>

#include "steer.h"

/* The longest header that a reformat may add; what net_mlx5 takes is less. */
#define MAX_HEADER 1024

/* No bulk of counters has more: flow_counter_bulk of ALLOC_FLOW_COUNTER is a bit for 128 counters,
 * up to bit 7. */
#define MAX_COUNTERS (128 << 7)

/* Registers that a flow-hit ASO may return to. */
#define MAX_ASO_REGISTER 5

/* An action that nobody uses yet; it uses its domain. Under the lock. */
struct cx_action *
cx_action_new(enum cx_action_type type, struct cx_domain *domain)
{
	struct cx_action *action;
	int fault = cx_fault_create("action");

	if (fault != 0)
		return cx_fail(fault);
	action = calloc(1, sizeof(*action));
	if (action == NULL)
		return cx_fail(ENOMEM);
	action->type = type;
	action->domain = domain;
	if (domain != NULL)
		domain->users++;
	cx_steer_counts.actions++;
	return action;
}

void
cx_action_hold(struct cx_action *action)
{
	action->users++;
}

void
cx_action_release(struct cx_action *action)
{
	action->users--;
}

static void *
create(enum cx_action_type type, struct cx_domain *domain)
{
	struct cx_action *action;

	pthread_mutex_lock(&cx_steer_lock);
	action = cx_action_new(type, domain);
	pthread_mutex_unlock(&cx_steer_lock);
	return action;
}

static void *
create_drop(void)
{
	return create(CX_ACTION_DROP, NULL);
}

static void *
create_miss(void)
{
	return create(CX_ACTION_MISS, NULL);
}

static void *
create_pop_vlan(void)
{
	return create(CX_ACTION_POP_VLAN, NULL);
}

static void *
create_push_vlan(struct mlx5dv_dr_domain *domain, rte_be32_t tag)
{
	uint32_t header = rte_be_to_cpu_32(tag);
	uint16_t type = header >> 16;
	struct cx_action *action;

	(void)domain;
	if (type != RTE_ETHER_TYPE_VLAN && type != RTE_ETHER_TYPE_QINQ)
		return cx_fail(EINVAL);
	action = create(CX_ACTION_PUSH_VLAN, NULL);
	if (action != NULL) {
		action->vlan.type = type;
		action->vlan.tci = header;
	}
	return action;
}

static void *
create_table(void *table)
{
	struct cx_table *to = table;
	struct cx_action *action;

	if (to->level == 0)
		return cx_fail(EINVAL);
	pthread_mutex_lock(&cx_steer_lock);
	action = cx_action_new(CX_ACTION_TABLE, NULL);
	if (action != NULL) {
		action->table = to;
		to->users++;
	}
	pthread_mutex_unlock(&cx_steer_lock);
	return action;
}

static void *
create_port(void *domain, uint32_t ib_port)
{
	struct cx_domain *d = domain;
	struct cx_vport *vport = cx_vport_by_ib_port(d->dev, ib_port);
	struct cx_action *action;

	if (d->type != MLX5DV_DR_DOMAIN_TYPE_FDB)
		return cx_fail(EOPNOTSUPP);
	if (vport == NULL)
		return cx_fail(EINVAL);
	action = create(CX_ACTION_VPORT, d);
	if (action != NULL)
		action->vport = vport;
	return action;
}

static void *
create_tir(void *tir)
{
	struct cx_action *action = create(CX_ACTION_TIR, NULL);

	if (action != NULL)
		action->tirn = cx_devx_id(tir);
	return action;
}

static void *
create_qp(void *qp)
{
	(void)qp;
	return cx_fail(cx_refuse(EOPNOTSUPP, "action: destination QP"));
}

static void *
create_tag(uint32_t tag)
{
	struct cx_action *action = create(CX_ACTION_TAG, NULL);

	if (action != NULL)
		action->tag = tag & 0xffffff;
	return action;
}

static void *
create_counter(void *counter, uint32_t offset)
{
	struct cx_action *action;

	action = create(CX_ACTION_COUNTER, NULL);
	if (action != NULL) {
		action->counter = cx_devx_id(counter) + offset;
		action->beyond = offset >= MAX_COUNTERS;
	}
	return action;
}

static void *
create_aso(struct mlx5dv_dr_domain *domain, void *object, uint32_t offset, uint32_t flags,
	   uint8_t reg)
{
	struct cx_domain *d = (struct cx_domain *)domain;
	struct cx_action *action;

	if (d->dev->profile->steering_format == 0)
		return cx_fail(EOPNOTSUPP);
	/* Meters and connection tracking have other flags, or none. */
	if (flags != MLX5DV_DR_ACTION_FLAGS_ASO_FIRST_HIT_SET)
		return cx_fail(cx_refuse(EOPNOTSUPP, "action: ASO with flags %#x", flags));
	if (reg > MAX_ASO_REGISTER || reg % 2 == 0)
		return cx_fail(EINVAL);
	action = create(CX_ACTION_FLOW_HIT, NULL);
	if (action != NULL) {
		action->flow_hit.object = cx_devx_id(object);
		action->flow_hit.offset = offset;
	}
	return action;
}

static void *
create_modify(struct ibv_context *context, enum mlx5dv_flow_table_type table_type, void *domain,
	      uint64_t flags, size_t size, uint64_t commands[])
{
	void *action;

	(void)context;
	(void)table_type;
	pthread_mutex_lock(&cx_steer_lock);
	action = cx_modify_create(domain, flags, size, commands);
	pthread_mutex_unlock(&cx_steer_lock);
	return action;
}

static int
reformat_type(const struct cx_domain *domain, enum mlx5dv_flow_action_packet_reformat_type asked,
	      enum cx_action_type *type)
{
	bool removes = asked == MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TUNNEL_TO_L2 ||
		       asked == MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L3_TUNNEL_TO_L2;

	switch (asked) {
	case MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TUNNEL_TO_L2:
		*type = CX_ACTION_DECAP_L2;
		break;
	case MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TO_L2_TUNNEL:
		*type = CX_ACTION_ENCAP_L2;
		break;
	case MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L3_TUNNEL_TO_L2:
		*type = CX_ACTION_DECAP_L3;
		break;
	case MLX5DV_FLOW_ACTION_PACKET_REFORMAT_TYPE_L2_TO_L3_TUNNEL:
		*type = CX_ACTION_ENCAP_L3;
		break;
	default:
		return EINVAL;
	}
	if (domain->type == MLX5DV_DR_DOMAIN_TYPE_FDB)
		return 0;
	return removes == (domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_RX) ? 0 : EINVAL;
}

static struct esw_encap *
new_header(const void *data, size_t size)
{
	struct esw_encap *header = malloc(sizeof(*header) + size);

	if (header != NULL)
		esw_encap_init(header, data, size);
	return header;
}

static bool
size_fits(enum cx_action_type type, size_t size)
{
	switch (type) {
	case CX_ACTION_DECAP_L2:
		return true; /* the parser says where the tunnel ends, whatever the action says */
	case CX_ACTION_DECAP_L3:
		return size == RTE_ETHER_HDR_LEN || size == RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
	default:
		return size > 0 && size <= MAX_HEADER;
	}
}

static struct cx_action *
new_reformat(struct cx_domain *domain, enum cx_action_type type, uint32_t flags, size_t size,
	     const void *data)
{
	struct esw_encap *header = NULL;
	struct cx_action *action;

	if (type != CX_ACTION_DECAP_L2) {
		header = new_header(data, size);
		if (header == NULL)
			return cx_fail(ENOMEM);
	}
	action = cx_action_new(type, domain);
	if (action == NULL) {
		free(header);
		return NULL;
	}
	action->root = (flags & MLX5DV_DR_ACTION_FLAGS_ROOT_LEVEL) != 0;
	action->header = header;
	return action;
}

static void *
create_reformat(struct ibv_context *context, enum mlx5dv_flow_action_packet_reformat_type asked,
		enum mlx5dv_flow_table_type table_type, struct mlx5dv_dr_domain *domain,
		uint32_t flags, size_t size, void *data)
{
	struct cx_domain *d = (struct cx_domain *)domain;
	struct cx_action *action;
	enum cx_action_type type;
	int ret;

	(void)context;
	(void)table_type;
	if ((flags & ~MLX5DV_DR_ACTION_FLAGS_ROOT_LEVEL) != 0 || (data == NULL) != (size == 0))
		return cx_fail(EINVAL);
	ret = reformat_type(d, asked, &type);
	if (ret != 0)
		return cx_fail(ret);
	if (!size_fits(type, size))
		return cx_fail(EINVAL);
	pthread_mutex_lock(&cx_steer_lock);
	action = new_reformat(d, type, flags, size, data);
	pthread_mutex_unlock(&cx_steer_lock);
	return action;
}

/* Whether a copy may go there; the kernel and the firmware take no other destinations from
 * rdma-core. */
static int
check_destination(const struct cx_domain *domain, const struct cx_destination *to)
{
	switch (to->to->type) {
	case CX_ACTION_MISS:
	case CX_ACTION_VPORT:
		if (domain->type != MLX5DV_DR_DOMAIN_TYPE_FDB)
			return EOPNOTSUPP;
		break;
	case CX_ACTION_TIR:
	case CX_ACTION_COUNTER:
	case CX_ACTION_TABLE:
		break;
	default:
		return EOPNOTSUPP;
	}
	if (to->encap == NULL)
		return 0;
	if (to->encap->type != CX_ACTION_ENCAP_L2 && to->encap->type != CX_ACTION_ENCAP_L3)
		return EOPNOTSUPP;
	return to->encap->root ? EOPNOTSUPP : 0;
}

static int
read_destination(const struct mlx5dv_dr_action_dest_attr *attr, struct cx_destination *to)
{
	switch (attr->type) {
	case MLX5DV_DR_ACTION_DEST:
		to->to = (struct cx_action *)attr->dest;
		return 0;
	case MLX5DV_DR_ACTION_DEST_REFORMAT:
		to->to = (struct cx_action *)attr->dest_reformat->dest;
		to->encap = (struct cx_action *)attr->dest_reformat->reformat;
		return 0;
	default:
		return EINVAL;
	}
}

static int
read_destinations(const struct cx_domain *domain, struct cx_array *array,
		  struct mlx5dv_dr_action_dest_attr *dests[])
{
	uint32_t i;
	int ret;

	for (i = 0; i < array->n; i++) {
		ret = read_destination(dests[i], &array->to[i]);
		if (ret == 0)
			ret = check_destination(domain, &array->to[i]);
		if (ret != 0)
			return ret;
	}
	return 0;
}

static void
hold_destinations(struct cx_array *array, void (*fn)(struct cx_action *))
{
	uint32_t i;

	for (i = 0; i < array->n; i++) {
		fn(array->to[i].to);
		if (array->to[i].encap != NULL)
			fn(array->to[i].encap);
	}
}

static struct cx_action *
new_array(struct cx_domain *domain, size_t n, struct mlx5dv_dr_action_dest_attr *dests[])
{
	struct cx_array *array = calloc(1, sizeof(*array) + n * sizeof(array->to[0]));
	struct cx_action *action = NULL;
	int ret;

	if (array == NULL)
		return cx_fail(ENOMEM);
	array->n = n;
	ret = read_destinations(domain, array, dests);
	action = ret == 0 ? cx_action_new(CX_ACTION_ARRAY, domain) : cx_fail(ret);
	if (action == NULL) {
		free(array);
		return NULL;
	}
	action->array = array;
	hold_destinations(array, cx_action_hold);
	return action;
}

static void *
create_array(void *domain, size_t n, struct mlx5dv_dr_action_dest_attr *dests[])
{
	struct cx_domain *d = domain;
	struct cx_action *action;

	if (n <= 1)
		return cx_fail(EINVAL);
	if (d->type == MLX5DV_DR_DOMAIN_TYPE_NIC_TX)
		return cx_fail(EOPNOTSUPP);
	pthread_mutex_lock(&cx_steer_lock);
	action = new_array(d, n, dests);
	pthread_mutex_unlock(&cx_steer_lock);
	return action;
}

static int
check_sampled(const struct cx_domain *domain, const struct cx_sampler *sampler)
{
	bool rx = domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_RX;
	uint32_t i;

	for (i = 0; i < sampler->n; i++) {
		switch (sampler->action[i]->type) {
		case CX_ACTION_MISS:
		case CX_ACTION_VPORT:
			if (rx)
				return EOPNOTSUPP;
			break;
		case CX_ACTION_TIR:
		case CX_ACTION_COUNTER:
		case CX_ACTION_TAG:
			if (!rx)
				return EOPNOTSUPP;
			break;
		default:
			return EOPNOTSUPP;
		}
	}
	return 0;
}

/* What a CX-5 needs to know the source of a packet behind the sampler: a command that sets
 * reg_c_0. */
static int
make_restore(struct cx_domain *domain, struct cx_sampler *sampler, const __be64 *command)
{
	if (domain->type != MLX5DV_DR_DOMAIN_TYPE_FDB || domain->dev->profile->steering_format != 0)
		return 0;
	if (MLX5_GET(set_action_in, command, action_type) != MLX5_MODIFICATION_TYPE_SET ||
	    MLX5_GET(set_action_in, command, field) != MLX5_MODI_META_REG_C_0)
		return EOPNOTSUPP;
	sampler->restore = cx_modify_create(domain, 0, sizeof(*command), command);
	return sampler->restore == NULL ? errno : 0;
}

static int destroy_locked(struct cx_action *action);

static struct cx_action *
new_sampler(struct cx_domain *domain, struct mlx5dv_dr_flow_sampler_attr *attr)
{
	uint32_t n = attr->num_sample_actions, i;
	struct cx_sampler *sampler = calloc(1, sizeof(*sampler) + n * sizeof(sampler->action[0]));
	struct cx_action *action = NULL;
	int ret;

	if (sampler == NULL)
		return cx_fail(ENOMEM);
	sampler->ratio = attr->sample_ratio;
	sampler->next = (struct cx_table *)attr->default_next_table;
	sampler->n = n;
	memcpy(sampler->action, attr->sample_actions, n * sizeof(sampler->action[0]));
	ret = check_sampled(domain, sampler);
	if (ret == 0)
		ret = make_restore(domain, sampler, &attr->action);
	action = ret == 0 ? cx_action_new(CX_ACTION_SAMPLER, domain) : cx_fail(ret);
	if (action == NULL) {
		if (sampler->restore != NULL)
			destroy_locked(sampler->restore);
		free(sampler);
		return NULL;
	}
	action->sampler = sampler;
	sampler->next->users++;
	for (i = 0; i < n; i++)
		cx_action_hold(sampler->action[i]);
	return action;
}

static void *
create_sampler(struct mlx5dv_dr_flow_sampler_attr *attr)
{
	struct cx_table *next = (struct cx_table *)attr->default_next_table;
	struct cx_action *action;

	if (next == NULL || attr->sample_ratio == 0 || attr->num_sample_actions == 0 ||
	    attr->sample_actions == NULL)
		return cx_fail(EINVAL);
	if (next->domain->type == MLX5DV_DR_DOMAIN_TYPE_NIC_TX)
		return cx_fail(EOPNOTSUPP);
	pthread_mutex_lock(&cx_steer_lock);
	action = new_sampler(next->domain, attr);
	pthread_mutex_unlock(&cx_steer_lock);
	return action;
}

static void *
create_meter(struct mlx5dv_dr_flow_meter_attr *attr)
{
	(void)attr;
	return cx_fail(cx_refuse(EOPNOTSUPP, "action: meter"));
}

static int
modify_meter(void *action, struct mlx5dv_dr_flow_meter_attr *attr, uint64_t bits)
{
	(void)action;
	(void)attr;
	(void)bits;
	return cx_refuse(EOPNOTSUPP, "action: meter");
}

static void *
create_to_kernel(void *table, uint16_t priority)
{
	(void)table;
	return cx_fail(cx_refuse(EOPNOTSUPP, "action: send to kernel, priority %u", priority));
}

static void
free_sampler(struct cx_sampler *sampler)
{
	uint32_t i;

	for (i = 0; i < sampler->n; i++)
		cx_action_release(sampler->action[i]);
	sampler->next->users--;
	if (sampler->restore != NULL)
		destroy_locked(sampler->restore);
	free(sampler);
}

static void
free_what_it_holds(struct cx_action *action)
{
	switch (action->type) {
	case CX_ACTION_TABLE:
		action->table->users--;
		break;
	case CX_ACTION_ARRAY:
		hold_destinations(action->array, cx_action_release);
		free(action->array);
		break;
	case CX_ACTION_SAMPLER:
		free_sampler(action->sampler);
		break;
	case CX_ACTION_MODIFY:
		free(action->modify);
		break;
	case CX_ACTION_DECAP_L3:
	case CX_ACTION_ENCAP_L2:
	case CX_ACTION_ENCAP_L3:
		free(action->header);
		break;
	default:
		break;
	}
}

/* Nothing waits for the reader here: what rules held was waited for when the last of these went. */
static int
destroy_locked(struct cx_action *action)
{
	if (action->users > 0)
		return EBUSY;
	free_what_it_holds(action);
	if (action->domain != NULL)
		action->domain->users--;
	free(action);
	cx_steer_counts.actions--;
	return 0;
}

static int
destroy(void *action)
{
	int ret = cx_fault_destroy("action");

	if (ret != 0)
		return ret;
	pthread_mutex_lock(&cx_steer_lock);
	ret = destroy_locked(action);
	pthread_mutex_unlock(&cx_steer_lock);
	return ret;
}

void
cx_action_glue(struct mlx5_glue *glue)
{
	glue->dr_create_flow_action_drop = create_drop;
	glue->dr_create_flow_action_default_miss = create_miss;
	glue->dr_create_flow_action_dest_flow_tbl = create_table;
	glue->dr_create_flow_action_dest_port = create_port;
	glue->dv_create_flow_action_dest_devx_tir = create_tir;
	glue->dv_create_flow_action_dest_ibv_qp = create_qp;
	glue->dv_create_flow_action_tag = create_tag;
	glue->dv_create_flow_action_counter = create_counter;
	glue->dv_create_flow_action_aso = create_aso;
	glue->dv_create_flow_action_modify_header = create_modify;
	glue->dv_create_flow_action_packet_reformat = create_reformat;
	glue->dr_create_flow_action_push_vlan = create_push_vlan;
	glue->dr_create_flow_action_pop_vlan = create_pop_vlan;
	glue->dr_create_flow_action_dest_array = create_array;
	glue->dr_create_flow_action_sampler = create_sampler;
	glue->dv_create_flow_action_meter = create_meter;
	glue->dv_modify_flow_action_meter = modify_meter;
	glue->dr_create_flow_action_send_to_kernel = create_to_kernel;
	glue->destroy_flow_action = destroy;
}
