/* SPDX-License-Identifier: Apache-2.0 */
/* A flow's key: its parts, its hash, and whether two keys are equal. */
#ifndef NODES_FLOW_KEY_H
#define NODES_FLOW_KEY_H

#include <string.h>

#include <rte_common.h>

#include "dataplane.h"

/* A part of a key, of which its members are no parts to the compiler. */
typedef uint64_t flow_key_word __attribute__((may_alias));

enum { KEY_OUTER = 0, KEY_SRC6 = 2, KEY_DST6 = 4, KEY_ADDRS4 = 6, KEY_REST = 7 };

static_assert(offsetof(struct flow_key, src6) == 8 * KEY_SRC6 &&
		      offsetof(struct flow_key, dst6) == 8 * KEY_DST6 &&
		      offsetof(struct flow_key, src4) == 8 * KEY_ADDRS4 &&
		      offsetof(struct flow_key, sport) == 8 * KEY_REST,
	      "where a key's words begin");
static_assert(RTE_BYTE_ORDER == RTE_LITTLE_ENDIAN, "so flow_key_set_common puts them together");

/* Both addresses, as they lie in a header. */
static __rte_always_inline void
flow_key_set_ipv4(struct flow_key *key, const void *addrs)
{
	memcpy(key->src4, addrs, sizeof(key->src4) + sizeof(key->dst4));
}

static __rte_always_inline void
flow_key_set_ipv6(struct flow_key *key, const void *src, const void *dst)
{
	memcpy(key->src6, src, sizeof(key->src6));
	memcpy(key->dst6, dst, sizeof(key->dst6));
	memset(key->src4, 0, sizeof(key->src4) + sizeof(key->dst4));
}

/* What all keys have. It is put together before it is written: a word that is read soon after its
 * parts were written costs a CPU a dozen cycles. ports are the 4 bytes of a header. */
static __rte_always_inline void
flow_key_set_common(struct flow_key *key, uint32_t ports, uint16_t port, uint8_t proto,
		    uint8_t kind)
{
	((flow_key_word *)key)[KEY_REST] =
		(uint64_t)kind << 56 | (uint64_t)proto << 48 | (uint64_t)port << 32 | ports;
}

/* A key that no flow has. */
static inline void
flow_key_set_none(struct flow_key *key)
{
	memset(key->src4, 0, sizeof(key->src4) + sizeof(key->dst4));
	flow_key_set_common(key, 0, 0, 0, KEY_NONE);
}

/* The addresses: 16 bytes, of IPv4 4. */
static inline const uint8_t *
flow_key_src(const struct flow_key *key)
{
	return key->kind & KEY_IPV6 ? key->src6 : key->src4;
}

static inline const uint8_t *
flow_key_dst(const struct flow_key *key)
{
	return key->kind & KEY_IPV6 ? key->dst6 : key->dst4;
}

static __rte_always_inline uint64_t
flow_mix(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static __rte_always_inline uint64_t
flow_key_mix_common(const struct worker *w, const struct flow_key *key)
{
	const flow_key_word *q = (const flow_key_word *)key;

	return flow_mix(q[KEY_ADDRS4] ^ w->secrets[6], q[KEY_REST] ^ w->secrets[7]);
}

/* The hash of a guest's IPv4 flow. */
static __rte_always_inline uint32_t
flow_key_hash_ipv4(const struct worker *w, const struct flow_key *key)
{
	return flow_mix(flow_key_mix_common(w, key), w->secrets[8]);
}

/* The hash of any flow. */
static __rte_always_inline uint32_t
flow_key_hash(const struct worker *w, const struct flow_key *key)
{
	const flow_key_word *q = (const flow_key_word *)key;
	const uint64_t *s = w->secrets;
	uint64_t sum = flow_key_mix_common(w, key);

	if (key->kind & KEY_IPV6)
		sum ^= flow_mix(q[KEY_SRC6] ^ s[2], q[KEY_SRC6 + 1] ^ s[3]) ^
		       flow_mix(q[KEY_DST6] ^ s[4], q[KEY_DST6 + 1] ^ s[5]);
	if (key->kind & KEY_WIRE)
		sum ^= flow_mix(q[KEY_OUTER] ^ s[0], q[KEY_OUTER + 1] ^ s[1]);
	return flow_mix(sum, s[8]);
}

static __rte_always_inline bool
flow_key_is_guest_ipv4(const struct flow_key *key)
{
	return !(key->kind & (KEY_IPV6 | KEY_WIRE));
}

/* Whether the keys are equal, if one of them is of a guest's IPv4 flow. */
static __rte_always_inline bool
flow_key_equal_ipv4(const struct flow_key *a, const struct flow_key *b)
{
	const flow_key_word *x = (const flow_key_word *)a, *y = (const flow_key_word *)b;

	return x[KEY_ADDRS4] == y[KEY_ADDRS4] && x[KEY_REST] == y[KEY_REST];
}

static __rte_always_inline bool
flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
	if (!flow_key_equal_ipv4(a, b))
		return false;
	if ((b->kind & KEY_IPV6) && (memcmp(a->src6, b->src6, sizeof(a->src6)) != 0 ||
				     memcmp(a->dst6, b->dst6, sizeof(a->dst6)) != 0))
		return false;
	return !(b->kind & KEY_WIRE) || memcmp(a->outer, b->outer, sizeof(a->outer)) == 0;
}

#endif
