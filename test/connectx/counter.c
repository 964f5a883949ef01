/* SPDX-License-Identifier: Apache-2.0 */

/* Flow counters, in bulks, and flow-hit ASO objects: 512 bits each, one for each flow that may
 * age. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

/* Counters that a bulk has for each unit of flow_counter_bulk. */
#define BULK_UNIT 128

#define ASO_BYTES MLX5_ASO_WQE_DSEG_SIZE

/* The bulk's number is the number of its first counter; the low 16 bits are the counter within
 * it. */
#define OFFSET_MASK 0xffffu

struct counter {
	_Atomic uint64_t packets;
	_Atomic uint64_t bytes;
};

struct counters {
	struct cx_object object;
	uint32_t n;
	struct counter counter[];
};

struct aso {
	struct cx_object object;
	uint8_t bits[ASO_BYTES]; /* a big number, so flow 0 is the lowest bit of the last byte */
};

int
cx_counters_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	uint32_t n = MLX5_GET(alloc_flow_counter_in, in, flow_counter_bulk) * BULK_UNIT;
	struct counters *counters;
	int ret;

	if (MLX5_GET(alloc_flow_counter_in, in, flow_counter_bulk_log_size))
		return cx_refuse(ENOTSUP, "ALLOC_FLOW_COUNTER: flow_counter_bulk_log_size");
	if (n == 0)
		n = 1;
	counters = calloc(1, sizeof(*counters) + n * sizeof(counters->counter[0]));
	if (counters == NULL)
		return ENOMEM;
	counters->n = n;
	ret = cx_object_add(dev, CX_COUNTERS, counters);
	if (ret != 0) {
		free(counters);
		return ret;
	}
	*id = counters->object.id;
	MLX5_SET(alloc_flow_counter_out, out, flow_counter_id, *id);
	return 0;
}

void
cx_counter_hit(uint32_t counter_id, uint32_t bytes)
{
	struct counters *counters = cx_object_get(CX_COUNTERS, counter_id);
	struct counter *c;

	if (counters == NULL || (counter_id & OFFSET_MASK) >= counters->n) {
		cx_refuse(EINVAL, "a rule counts on flow counter %#x, which does not exist",
			  counter_id);
		return;
	}
	c = &counters->counter[counter_id & OFFSET_MASK];
	atomic_fetch_add_explicit(&c->packets, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->bytes, bytes, memory_order_relaxed);
}

static uint64_t
read_one(_Atomic uint64_t *n, bool clear)
{
	return rte_cpu_to_be_64(clear ? atomic_exchange_explicit(n, 0, memory_order_relaxed) :
					load_relaxed(n));
}

/* Counters are given as big-endian pairs of packets and bytes, in the answer or in memory. */
int
cx_counters_query(const void *in, void *out, size_t size)
{
	uint32_t id = MLX5_GET(query_flow_counter_in, in, flow_counter_id);
	uint32_t n = MLX5_GET(query_flow_counter_in, in, num_of_counters), first = id & OFFSET_MASK,
		 i;
	bool clear = MLX5_GET(query_flow_counter_in, in, clear);
	struct counters *counters = cx_object_get(CX_COUNTERS, id);
	uint64_t *to;

	if (!MLX5_GET(query_flow_counter_in, in, dump_to_memory))
		n = 1;
	if (counters == NULL || first >= counters->n || n > counters->n - first)
		return cx_refuse(EINVAL, "QUERY_FLOW_COUNTER: %u counters from %#x on", n, id);
	if (!MLX5_GET(query_flow_counter_in, in, dump_to_memory)) {
		if (size <
		    MLX5_ST_SZ_BYTES(query_flow_counter_out) + MLX5_ST_SZ_BYTES(traffic_counter))
			return cx_refuse(EINVAL, "QUERY_FLOW_COUNTER: an answer of %zu bytes",
					 size);
		to = (uint64_t *)MLX5_ADDR_OF(query_flow_counter_out, out, flow_statistics);
	} else {
		to = cx_dma(MLX5_GET(query_flow_counter_in, in, mkey),
			    MLX5_GET64(query_flow_counter_in, in, address),
			    (uint64_t)n * MLX5_ST_SZ_BYTES(traffic_counter));
		if (to == NULL)
			return EFAULT;
	}
	for (i = 0; i < n; i++) {
		*to++ = read_one(&counters->counter[first + i].packets, clear);
		*to++ = read_one(&counters->counter[first + i].bytes, clear);
	}
	return 0;
}

int
cx_aso_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	struct aso *aso = calloc(1, sizeof(*aso));
	int ret;

	(void)in;
	if (aso == NULL)
		return ENOMEM;
	ret = cx_object_add(dev, CX_FLOW_HIT_ASO, aso);
	if (ret != 0) {
		free(aso);
		return ret;
	}
	*id = aso->object.id;
	MLX5_SET(general_obj_out_cmd_hdr, out, obj_id, *id);
	return 0;
}

void
cx_aso_flow_hit(uint32_t id, uint32_t offset)
{
	struct aso *aso = cx_object_get(CX_FLOW_HIT_ASO, id);

	if (aso == NULL || offset >= ASO_BYTES * 8) {
		cx_refuse(EINVAL,
			  "a rule ages by bit %u of flow-hit ASO object %#x, which does not exist",
			  offset, id);
		return;
	}
	aso->bits[ASO_BYTES - 1 - offset / 8] |= 1u << offset % 8;
}

int
cx_aso_access(uint32_t id, void *to, const void *data, uint64_t mask)
{
	struct aso *aso = cx_object_get(CX_FLOW_HIT_ASO, id);

	if (aso == NULL)
		return cx_refuse(EINVAL, "ACCESS_ASO: there is no flow-hit ASO object %#x", id);
	if (mask != UINT64_MAX)
		return cx_refuse(ENOTSUP, "ACCESS_ASO: data_mask %#llx", (unsigned long long)mask);
	if (to != NULL)
		memcpy(to, aso->bits, ASO_BYTES);
	memcpy(aso->bits, data, ASO_BYTES);
	return 0;
}
