/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the card may read and write: memory that is registered as a umem (queues, doorbells) or
 * under an mkey (packets, counters, ages). Addresses are the process's own.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

/* An lkey is the mkey's number and 8 bits that its maker chooses: 0 here, as the driver assumes. */
#define LKEY_SHIFT 8

#define UAR_SIZE 4096
/* Where in a UAR the doorbell register is (mlx5_glue's reg_addr). */
#define UAR_DOORBELL 0x800

struct pd {
	struct cx_object object;
	struct ibv_pd ibv;
};

struct mr {
	struct ibv_mr ibv;
	uint32_t mkey;
};

struct uar {
	struct cx_object object;
	struct mlx5dv_devx_uar dv;
};

void *
cx_umem_at(uint32_t umem_id, uint64_t offset, uint64_t size)
{
	const struct cx_umem *umem = cx_object_get(CX_UMEM, umem_id);

	if (umem == NULL || offset > umem->size || size > umem->size - offset)
		return NULL;
	return umem->address + offset;
}

uint32_t
cx_lkey(const struct cx_mkey *mkey)
{
	return mkey->object.id << LKEY_SHIFT;
}

void *
cx_dma(uint32_t lkey, uint64_t address, uint64_t size)
{
	const struct cx_mkey *mkey = cx_object_get(CX_MKEY, lkey >> LKEY_SHIFT);

	if (mkey == NULL) {
		cx_refuse(EFAULT, "DMA under lkey %#x, which does not exist", lkey);
		return NULL;
	}
	if (address < mkey->start || address - mkey->start > mkey->size ||
	    size > mkey->size - (address - mkey->start)) {
		cx_refuse(EFAULT, "DMA of %" PRIu64 " bytes outside of lkey %#x", size, lkey);
		return NULL;
	}
	return (void *)(uintptr_t)address;
}

static struct mlx5dv_devx_umem *
umem_reg(struct ibv_context *context, void *address, size_t size, uint32_t access)
{
	struct cx_umem *umem = calloc(1, sizeof(*umem));
	int ret;

	(void)access;
	if (umem == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	umem->address = address;
	umem->size = size;
	ret = cx_object_add(cx_dev_of(context), CX_UMEM, umem);
	if (ret != 0) {
		free(umem);
		errno = ret;
		return NULL;
	}
	umem->dv.umem_id = umem->object.id;
	return &umem->dv;
}

static int
umem_dereg(struct mlx5dv_devx_umem *dv)
{
	cx_object_remove(CX_UMEM, dv->umem_id);
	return 0;
}

static struct mlx5dv_devx_uar *
alloc_uar(struct ibv_context *context, uint32_t flags)
{
	struct uar *uar = calloc(1, sizeof(*uar));
	int ret = ENOMEM;

	(void)flags;
	if (uar == NULL)
		goto fail;
	/* Nobody reads it: the card's thread looks at the doorbell records in memory. */
	uar->dv.base_addr =
		mmap(NULL, UAR_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (uar->dv.base_addr == MAP_FAILED)
		goto fail;
	ret = cx_object_add(cx_dev_of(context), CX_UAR, uar);
	if (ret != 0) {
		munmap(uar->dv.base_addr, UAR_SIZE);
		goto fail;
	}
	uar->dv.reg_addr = (uint8_t *)uar->dv.base_addr + UAR_DOORBELL;
	uar->dv.page_id = uar->object.id;
	return &uar->dv;
fail:
	free(uar);
	errno = ret;
	return NULL;
}

static void
free_uar(struct mlx5dv_devx_uar *dv)
{
	munmap(dv->base_addr, UAR_SIZE);
	cx_object_remove(CX_UAR, dv->page_id);
}

static struct ibv_pd *
alloc_pd(struct ibv_context *context)
{
	struct pd *pd = calloc(1, sizeof(*pd));
	int ret;

	if (pd == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	ret = cx_object_add(cx_dev_of(context), CX_PD, pd);
	if (ret != 0) {
		free(pd);
		errno = ret;
		return NULL;
	}
	pd->ibv.context = context;
	pd->ibv.handle = pd->object.id;
	return &pd->ibv;
}

static int
dealloc_pd(struct ibv_pd *pd)
{
	cx_object_remove(CX_PD, pd->handle);
	return 0;
}

static struct ibv_mr *
reg_mr_iova(struct ibv_pd *pd, void *address, size_t size, uint64_t iova, int access)
{
	struct mr *mr = calloc(1, sizeof(*mr));
	struct cx_mkey *mkey = calloc(1, sizeof(*mkey));
	int ret = ENOMEM;

	(void)access;
	if (mr == NULL || mkey == NULL)
		goto fail;
	if (iova != (uintptr_t)address) {
		ret = cx_refuse(ENOTSUP, "reg_mr_iova with other addresses than the process's");
		goto fail;
	}
	mkey->start = iova;
	mkey->size = size;
	ret = cx_object_add(cx_dev_of(pd->context), CX_MKEY, mkey);
	if (ret != 0)
		goto fail;
	mr->mkey = mkey->object.id;
	mr->ibv.context = pd->context;
	mr->ibv.pd = pd;
	mr->ibv.addr = address;
	mr->ibv.length = size;
	mr->ibv.lkey = mr->ibv.rkey = cx_lkey(mkey);
	return &mr->ibv;
fail:
	free(mr);
	free(mkey);
	errno = ret;
	return NULL;
}

static struct ibv_mr *
reg_mr(struct ibv_pd *pd, void *address, size_t size, int access)
{
	return reg_mr_iova(pd, address, size, (uintptr_t)address, access);
}

static int
dereg_mr(struct ibv_mr *ibv)
{
	struct mr *mr = (struct mr *)ibv;

	cx_object_remove(CX_MKEY, mr->mkey);
	free(mr);
	return 0;
}

void
cx_memory_glue(struct mlx5_glue *glue)
{
	glue->devx_umem_reg = umem_reg;
	glue->devx_umem_dereg = umem_dereg;
	glue->devx_alloc_uar = alloc_uar;
	glue->devx_free_uar = free_uar;
	glue->alloc_pd = alloc_pd;
	glue->dealloc_pd = dealloc_pd;
	glue->reg_mr = reg_mr;
	glue->reg_mr_iova = reg_mr_iova;
	glue->dereg_mr = dereg_mr;
}
