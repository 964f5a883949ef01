/* SPDX-License-Identifier: Apache-2.0 */

/* Completion queues. The card's thread writes the entries; the driver tells in a doorbell record
 * how many it has read. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

/* Words of the doorbell record: how many entries were read; and after which entry the driver wants
 * an event, with a number that differs from one request to the next. */
#define CONSUMED 0
#define ARM 1
#define COUNTER_MASK 0xffffffu

int
cx_cq_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	const void *context = MLX5_ADDR_OF(create_cq_in, in, cq_context);
	uint32_t log_size = MLX5_GET(cqc, context, log_cq_size);
	struct cx_cq *cq;
	int ret;

	if (MLX5_GET(cqc, context, cqe_sz) != MLX5_CQE_SIZE_64B)
		return cx_refuse(ENOTSUP, "CREATE_CQ: cqe_sz other than 64 bytes");
	if (!MLX5_GET(create_cq_in, in, cq_umem_valid) || !MLX5_GET(cqc, context, dbr_umem_valid))
		return cx_refuse(ENOTSUP, "CREATE_CQ: memory that is no umem");
	cq = calloc(1, sizeof(*cq));
	if (cq == NULL)
		return ENOMEM;
	cq->log_size = log_size;
	cq->overrun_ignore = MLX5_GET(cqc, context, oi);
	cq->cqes = cx_umem_at(MLX5_GET(create_cq_in, in, cq_umem_id),
			      MLX5_GET64(create_cq_in, in, cq_umem_offset),
			      sizeof(struct mlx5_cqe) << log_size);
	cq->doorbell = cx_umem_at(MLX5_GET(cqc, context, dbr_umem_id),
				  MLX5_GET64(cqc, context, dbr_addr), 2 * sizeof(uint32_t));
	if (cq->cqes == NULL || cq->doorbell == NULL)
		ret = cx_refuse(EFAULT, "CREATE_CQ: entries or doorbell outside of their umem");
	else
		ret = cx_object_add(dev, CX_CQ, cq);
	if (ret != 0) {
		free(cq);
		return ret;
	}
	*id = cq->object.id;
	MLX5_SET(create_cq_out, out, cqn, cq->object.id);
	return 0;
}

static uint32_t
unread(const struct cx_cq *cq)
{
	return (cq->pi - rte_be_to_cpu_32(load_relaxed(&cq->doorbell[CONSUMED]))) & COUNTER_MASK;
}

struct mlx5_cqe *
cx_cq_next(struct cx_cq *cq)
{
	uint32_t size = 1u << cq->log_size;
	struct mlx5_cqe *cqe = (struct mlx5_cqe *)cq->cqes + (cq->pi & (size - 1));

	if (!cq->overrun_ignore && unread(cq) >= size)
		return NULL;
	/* The last byte says whose it is. */
	memset(cqe, 0, offsetof(struct mlx5_cqe, op_own));
	return cqe;
}

void
cx_cq_complete(struct cx_cq *cq, struct mlx5_cqe *cqe, uint8_t opcode)
{
	/* The owner bit changes with each turn around the queue. */
	uint8_t op_own = opcode << 4 | (cq->pi >> cq->log_size & 1);

	cq->pi++;
	atomic_store_explicit((_Atomic uint8_t *)&cqe->op_own, op_own, memory_order_release);
}

/* Sends the event that the driver has asked for, once there are entries that it has not read. */
void
cx_cq_poll(void *object)
{
	struct cx_cq *cq = object;
	uint32_t arm = load_relaxed(&cq->doorbell[ARM]);
	struct cx_channel *channel = atomic_load_explicit(&cq->channel, memory_order_acquire);

	if (channel == NULL || arm == 0 || arm == cq->notified_at)
		return;
	if (((cq->pi - rte_be_to_cpu_32(arm)) & COUNTER_MASK) == 0)
		return;
	cq->notified_at = arm;
	cx_channel_tell(channel, cq->cookie);
}
