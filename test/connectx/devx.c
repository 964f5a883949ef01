/* SPDX-License-Identifier: Apache-2.0 */

/* The commands that the driver gives through DevX. What is not in the tables is refused by its
 * number. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

/* Of an answer: the command is not known; it could not be carried out. */
#define BAD_OPERATION 0x02
#define BAD_RESOURCE 0x05

/* All commands and answers begin alike, so any will do to read these. */
#define OPCODE(in) MLX5_GET(query_hca_cap_in, in, opcode)
#define OP_MOD(in) MLX5_GET(query_hca_cap_in, in, op_mod)

struct command {
	uint16_t opcode;
	uint16_t object; /* of CREATE_GENERAL_OBJECT */
	enum cx_type type;
	int (*create)(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
	int (*modify)(uint32_t id, const void *in);
};

/* Objects that have nothing but a number. */
static int
create_plain(struct cx_dev *dev, enum cx_type type, uint32_t *id)
{
	struct cx_object *object = calloc(1, sizeof(*object));
	int ret;

	if (object == NULL)
		return ENOMEM;
	ret = cx_object_add(dev, type, object);
	if (ret != 0)
		free(object);
	else
		*id = object->id;
	return ret;
}

static int
create_td(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	int ret = create_plain(dev, CX_TD, id);

	(void)in;
	if (ret == 0)
		MLX5_SET(alloc_transport_domain_out, out, transport_domain, *id);
	return ret;
}

static int
create_tis(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	int ret = create_plain(dev, CX_TIS, id);

	(void)in;
	if (ret == 0)
		MLX5_SET(create_tis_out, out, tisn, *id);
	return ret;
}

static int
create_q_counter(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	int ret = create_plain(dev, CX_Q_COUNTER, id);

	(void)in;
	if (ret == 0) {
		cx_q_counter_read(*id, true);
		MLX5_SET(alloc_q_counter_out, out, counter_set_id, *id);
	}
	return ret;
}

/*
 * Objects that exist because the driver makes them when it is probed. Nothing can be done with
 * them: rules with meters, connection tracking or GENEVE options are refused.
 */
static int
create_meter(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	int ret = create_plain(dev, CX_METER_ASO, id);

	(void)in;
	if (ret == 0)
		MLX5_SET(general_obj_out_cmd_hdr, out, obj_id, *id);
	return ret;
}

static int
create_ct(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	int ret = create_plain(dev, CX_CT_ASO, id);

	(void)in;
	if (ret == 0)
		MLX5_SET(general_obj_out_cmd_hdr, out, obj_id, *id);
	return ret;
}

/* Another name for memory under an mkey: one range of the process's own addresses. */
static int
create_mkey(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	const void *context = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);
	const void *klm = MLX5_ADDR_OF(create_mkey_in, in, klm_pas_mtt);
	struct cx_mkey *mkey;
	int ret;

	if (MLX5_GET(mkc, context, access_mode_1_0) != MLX5_MKC_ACCESS_MODE_KLM)
		return cx_refuse(ENOTSUP, "CREATE_MKEY: access_mode %u",
				 MLX5_GET(mkc, context, access_mode_1_0));
	if (MLX5_GET64(mkc, context, start_addr) != MLX5_GET64(klm, klm, address) ||
	    MLX5_GET64(mkc, context, len) != MLX5_GET(klm, klm, byte_count) ||
	    MLX5_GET(mkc, context, mkey_7_0))
		return cx_refuse(
			ENOTSUP,
			"CREATE_MKEY: more than one range, other addresses than the process's, or a variant");
	if (cx_dma(MLX5_GET(klm, klm, mkey), MLX5_GET64(klm, klm, address),
		   MLX5_GET(klm, klm, byte_count)) == NULL)
		return EFAULT;
	mkey = calloc(1, sizeof(*mkey));
	if (mkey == NULL)
		return ENOMEM;
	mkey->start = MLX5_GET64(mkc, context, start_addr);
	mkey->size = MLX5_GET64(mkc, context, len);
	ret = cx_object_add(dev, CX_MKEY, mkey);
	if (ret != 0) {
		free(mkey);
		return ret;
	}
	*id = mkey->object.id;
	MLX5_SET(create_mkey_out, out, mkey_index, *id);
	return 0;
}

static const struct command commands[] = {
	{ .opcode = MLX5_CMD_OP_CREATE_MKEY, .type = CX_MKEY, .create = create_mkey },
	{ .opcode = MLX5_CMD_OP_ALLOC_TRANSPORT_DOMAIN, .type = CX_TD, .create = create_td },
	{ .opcode = MLX5_CMD_OP_CREATE_TIS, .type = CX_TIS, .create = create_tis },
	{ .opcode = MLX5_CMD_OP_CREATE_CQ, .type = CX_CQ, .create = cx_cq_create },
	{ .opcode = MLX5_CMD_OP_CREATE_SQ, .type = CX_SQ, .create = cx_sq_create },
	{ .opcode = MLX5_CMD_OP_MODIFY_SQ, .type = CX_SQ, .modify = cx_sq_modify },
	{ .opcode = MLX5_CMD_OP_CREATE_RQ, .type = CX_RQ, .create = cx_rq_create },
	{ .opcode = MLX5_CMD_OP_MODIFY_RQ, .type = CX_RQ, .modify = cx_rq_modify },
	{ .opcode = MLX5_CMD_OP_CREATE_RQT, .type = CX_RQT, .create = cx_rqt_create },
	{ .opcode = MLX5_CMD_OP_MODIFY_RQT, .type = CX_RQT, .modify = cx_rqt_modify },
	{ .opcode = MLX5_CMD_OP_CREATE_TIR, .type = CX_TIR, .create = cx_tir_create },
	{ .opcode = MLX5_CMD_OP_MODIFY_TIR, .type = CX_TIR, .modify = cx_tir_modify },
	{ .opcode = MLX5_CMD_OP_ALLOC_FLOW_COUNTER,
	  .type = CX_COUNTERS,
	  .create = cx_counters_create },
	{ .opcode = MLX5_CMD_OP_ALLOC_Q_COUNTER, .type = CX_Q_COUNTER, .create = create_q_counter },
	{ .opcode = MLX5_CMD_OP_CREATE_GENERAL_OBJECT,
	  .object = MLX5_GENERAL_OBJ_TYPE_FLOW_HIT_ASO,
	  .type = CX_FLOW_HIT_ASO,
	  .create = cx_aso_create },
	{ .opcode = MLX5_CMD_OP_CREATE_GENERAL_OBJECT,
	  .object = MLX5_GENERAL_OBJ_TYPE_FLOW_METER_ASO,
	  .type = CX_METER_ASO,
	  .create = create_meter },
	{ .opcode = MLX5_CMD_OP_CREATE_GENERAL_OBJECT,
	  .object = MLX5_GENERAL_OBJ_TYPE_CONN_TRACK_OFFLOAD,
	  .type = CX_CT_ASO,
	  .create = create_ct },
};

static const struct command *
find_command(const void *in)
{
	uint16_t opcode = OPCODE(in);
	uint16_t object = opcode == MLX5_CMD_OP_CREATE_GENERAL_OBJECT ?
				  MLX5_GET(general_obj_in_cmd_hdr, in, obj_type) :
				  0;
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].opcode == opcode && commands[i].object == object)
			return &commands[i];
	cx_refuse(ENOTSUP, "DevX command %#x of object type %#x", opcode, object);
	return NULL;
}

/* The status is the first byte of an answer, behind it are 3 bytes, then the syndrome. */
static int
fail(void *out, uint8_t status, int code)
{
	MLX5_SET(query_hca_cap_out, out, status, status);
	errno = code;
	return code;
}

static struct mlx5dv_devx_obj *
obj_create(struct ibv_context *context, const void *in, size_t in_size, void *out, size_t out_size)
{
	const struct command *command;
	struct mlx5dv_devx_obj *handle;
	int ret;

	(void)in_size;
	memset(out, 0, out_size);
	command = find_command(in);
	if (command == NULL || command->create == NULL) {
		fail(out, BAD_OPERATION, EREMOTEIO);
		return NULL;
	}
	ret = cx_fault_create(cx_type_name(command->type));
	if (ret != 0) {
		fail(out, BAD_RESOURCE, ret);
		return NULL;
	}
	handle = calloc(1, sizeof(*handle));
	if (handle == NULL)
		return NULL;
	handle->type = command->type;
	handle->dev = cx_dev_of(context);
	ret = command->create(handle->dev, in, out, &handle->id);
	if (ret != 0) {
		free(handle);
		fail(out, BAD_RESOURCE, ret);
		return NULL;
	}
	return handle;
}

static int
obj_destroy(struct mlx5dv_devx_obj *handle)
{
	int ret = cx_fault_destroy(cx_type_name(handle->type));

	if (ret != 0) {
		errno = ret;
		return ret;
	}
	cx_object_remove(handle->type, handle->id);
	free(handle);
	return 0;
}

static int
obj_modify(struct mlx5dv_devx_obj *handle, const void *in, size_t in_size, void *out,
	   size_t out_size)
{
	const struct command *command;
	int ret;

	(void)in_size;
	memset(out, 0, out_size);
	command = find_command(in);
	if (command == NULL || command->modify == NULL || command->type != handle->type)
		return fail(out, BAD_OPERATION, EREMOTEIO);
	ret = command->modify(handle->id, in);
	return ret == 0 ? 0 : fail(out, BAD_RESOURCE, ret);
}

static int
obj_query(struct mlx5dv_devx_obj *handle, const void *in, size_t in_size, void *out,
	  size_t out_size)
{
	int ret;

	(void)in_size;
	memset(out, 0, out_size);
	switch (OPCODE(in)) {
	case MLX5_CMD_OP_QUERY_FLOW_COUNTER:
		ret = cx_counters_query(in, out, out_size);
		return ret == 0 ? 0 : fail(out, BAD_RESOURCE, ret);
	case MLX5_CMD_OP_QUERY_Q_COUNTER:
		MLX5_SET(query_q_counter_out, out, out_of_buffer,
			 cx_q_counter_read(handle->id, MLX5_GET(query_q_counter_in, in, clear)));
		return 0;
	default:
		return fail(out, BAD_OPERATION,
			    cx_refuse(EREMOTEIO, "DevX query %#x of a %s", OPCODE(in),
				      cx_type_name(handle->type)));
	}
}

static int
general_cmd(struct ibv_context *context, const void *in, size_t in_size, void *out, size_t out_size)
{
	(void)in_size;
	memset(out, 0, out_size);
	if (OPCODE(in) != MLX5_CMD_OP_QUERY_HCA_CAP)
		return fail(out, BAD_OPERATION,
			    cx_refuse(EREMOTEIO, "DevX command %#x", OPCODE(in)));
	cx_caps_query(cx_dev_of(context), OP_MOD(in), out);
	return 0;
}

/* There is one event queue; completions that want none of it do not use it either. */
static int
query_eqn(struct ibv_context *context, uint32_t cpus, uint32_t *eqn)
{
	(void)context;
	(void)cpus;
	*eqn = 1;
	return 0;
}

uint32_t
cx_devx_id(const void *devx_obj)
{
	return ((const struct mlx5dv_devx_obj *)devx_obj)->id;
}

void
cx_devx_glue(struct mlx5_glue *glue)
{
	glue->devx_obj_create = obj_create;
	glue->devx_obj_destroy = obj_destroy;
	glue->devx_obj_modify = obj_modify;
	glue->devx_obj_query = obj_query;
	glue->devx_general_cmd = general_cmd;
	glue->devx_query_eqn = query_eqn;
}
