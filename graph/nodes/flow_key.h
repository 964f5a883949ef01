/* SPDX-License-Identifier: Apache-2.0 */
/* The hash of a flow's key, and whether two keys are equal. */
#ifndef NODES_FLOW_KEY_H
#define NODES_FLOW_KEY_H

#include <rte_common.h>

#include "dataplane.h"

/* A part of a key, of which its members are no parts to the compiler. */
typedef uint64_t flow_key_word __attribute__((may_alias));

static __rte_always_inline uint64_t
flow_mix(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Most of a key is zero, if its addresses are IPv4's and no outer header was there: only what may
 * be something else is multiplied. */
static __rte_always_inline uint32_t
flow_key_hash(const struct worker *w, const struct flow_key *key)
{
	const flow_key_word *q = (const flow_key_word *)key;
	const uint64_t *s = w->secrets;
	uint64_t sum;

	sum = flow_mix(q[0] ^ (q[2] << 32 | q[2] >> 32) ^ s[6], q[6] ^ s[8]);
	if (key->kind & KEY_IPV6)
		sum ^= flow_mix(q[0] ^ s[0], q[1] ^ s[1]) ^ flow_mix(q[2] ^ s[2], q[3] ^ s[3]);
	if (key->kind & KEY_WIRE)
		sum ^= flow_mix(q[4] ^ s[4], q[5] ^ s[5]);
	return flow_mix(sum, s[7]);
}

/* What a CPU compares at once; the compiler makes do with smaller parts where it cannot. */
typedef uint64_t flow_key_part __attribute__((vector_size(16), may_alias));

static __rte_always_inline bool
flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
	const flow_key_part *x = (const flow_key_part *)a, *y = (const flow_key_part *)b;
	flow_key_part differ = (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);

	return (differ[0] | differ[1]) == 0;
}

#endif
