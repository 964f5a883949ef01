/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets that workers share. */
#ifndef NODES_BUCKET_H
#define NODES_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>

#include "atomic.h"

/* Take a token of a bucket that holds burst tokens and gets one each interval. The bucket is the
 * time at which it is full again. Times are TSC. */
static inline bool
bucket_take(_Atomic uint64_t *full_at, uint64_t now, uint64_t interval, uint32_t burst)
{
	uint64_t old = load_relaxed(full_at), full;

	do {
		full = RTE_MAX(old, now);
		if (full - now > interval * (burst - 1))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		full_at, &old, full + interval, memory_order_relaxed, memory_order_relaxed));
	return true;
}

#endif
