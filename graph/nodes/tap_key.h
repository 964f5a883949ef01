/* SPDX-License-Identifier: Apache-2.0 */
/* What a tap's rules look at in a packet: the same as the NIC does. */
#ifndef NODES_TAP_KEY_H
#define NODES_TAP_KEY_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "dataplane.h"

#define TAP_KEY_WORDS 8

/* Network order. What is not in the packet is zero. */
union tap_key {
	struct {
		struct rte_ether_addr eth_dst;
		struct rte_ether_addr eth_src;
		rte_be16_t eth_type;
		rte_be16_t vlan_tci;
		rte_be16_t vlan_type;
		uint8_t tagged;
		uint8_t version; /* of the IP header: 4, 6, or 0 without a whole one */
		uint8_t proto;   /* behind IPv6 extension headers */
		uint8_t tos;
		uint8_t ttl;
		uint8_t fragment; /* IPv4 */
		uint8_t src[16];  /* IPv4 in the first four bytes */
		uint8_t dst[16];
		rte_be16_t src_port;
		rte_be16_t dst_port;
		uint8_t l4; /* there is a header of proto, whole and not of a fragment */
		uint8_t tcp_flags;
		uint8_t icmp_type;
		uint8_t icmp_code;
	};
	uint64_t word[TAP_KEY_WORDS];
};

static_assert(sizeof(union tap_key) == TAP_KEY_WORDS * sizeof(uint64_t),
	      "a cache line without padding");

/* Add a condition to a rule's value and mask. False: there is no such field, it has fewer bytes, or
 * it has a condition. */
bool dps_tap_key_require(union tap_key *value, union tap_key *mask, uint8_t field,
			 const uint8_t bytes[16], const uint8_t bits[16]);

/* Read a frame. */
void dps_tap_key_read(const struct rte_mbuf *m, union tap_key *key);
/* Read the packet in a frame's tunnel. False: the frame is none of IP in IPv6. */
bool dps_tap_key_read_inner(const struct rte_mbuf *m, union tap_key *key);

#endif
