/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_KEY_H
#define ESW_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_ether.h>

/* Index into the headers of a key: the outer ones, and those of what IPinIP or VXLAN carries. */
enum { ESW_OUTER, ESW_INNER, ESW_L3_MAX };

/* A frame's Ethernet header and its tags. Network byte order. */
struct esw_l2 {
	struct rte_ether_addr dst;
	struct rte_ether_addr src;
	rte_be16_t type; /* behind the tags, of which there are up to two */
	uint8_t cvlan;   /* 1: the first tag's TPID is 0x8100 */
	uint8_t svlan;   /* 1: it is 0x88a8 */
	rte_be16_t tci;  /* the first tag's */
};

/* An IP header and the L4 header behind it. What is not in the packet is zero. Network byte
 * order. */
struct esw_l3 {
	uint8_t src[16]; /* IPv4 uses the first four bytes */
	uint8_t dst[16];
	uint8_t version; /* 4, 6, or 0: no such header */
	uint8_t proto;   /* the upper layer's protocol, behind IPv6 extension headers */
	uint8_t ttl;
	uint8_t tos;
	uint8_t fragment; /* 1: a fragment, whose L4 header is never looked at: its fields are 0 */
	uint8_t l4; /* the protocol if it is TCP, UDP or the version's ICMP, or 0; the header may
		       not be there */
	uint8_t tcp_flags;
	uint8_t icmp_type;
	rte_be16_t src_port;
	rte_be16_t dst_port;
	rte_be16_t icmp_ident;
	uint8_t icmp_code;
	uint8_t ihl;           /* IPv4's header length in words of 32 bits */
	rte_be32_t flow_label; /* IPv6's, the low 20 bits */
	rte_be16_t icmp_seq;
	uint16_t unused;
};

/*
 * The registers that actions write and items match: they are of the packet, but not in it. The
 * driver has names for six tags; for the last three it finds no register that rdma-core can change.
 */
#define ESW_TAGS 3
#define ESW_TAG_NAMES 6

/* A mark has 24 bits; the last 16 values are the driver's own. */
#define ESW_MARK_MASK 0xffffff
#define ESW_MARK_MAX 0xffffef

struct esw_metadata {
	uint32_t mark;
	uint32_t meta;
	uint32_t tag[ESW_TAGS];
};

/*
 * What the steering of a ConnectX looks at beyond that: net_eswitch uses vport only. Host byte
 * order, but for what says otherwise.
 */
struct esw_steering {
	uint32_t sqn; /* the send queue that it comes from, 0: none */
	uint32_t reg_a;
	rte_be32_t icmp_data; /* the four bytes behind the checksum of the one ICMP header, in
				 whichever layer */
	uint16_t vport;       /* that it comes from, 0: none */
	uint8_t side;         /* of the switch: of the wire, or of the vports */
	uint8_t icmp_type;    /* as icmp_data */
	uint8_t icmp_code;
	uint8_t vxlan_reserved; /* the byte behind the VNI */
	uint16_t unused;
};

#define ESW_REGISTERS 6

#define ESW_KEY_WORDS 25

/* What rules look at in a packet. Made of 64-bit words, so that it can be masked and hashed by
 * words. */
struct esw_key {
	union {
		struct {
			struct esw_l2 l2[ESW_L3_MAX]; /* the inner one: only within VXLAN */
			uint8_t vni[3];
			uint8_t vxlan; /* 1: VXLAN follows the outer UDP header */
			struct esw_l3 l3[ESW_L3_MAX];
			union {
				struct esw_metadata metadata;
				uint32_t reg_c[ESW_REGISTERS]; /* the same registers, as a ConnectX
								  calls them */
			};
			struct esw_steering card;
		};
		uint64_t word[ESW_KEY_WORDS];
	};
};

_Static_assert(sizeof(struct esw_key) == ESW_KEY_WORDS * sizeof(uint64_t), "key has padding");

/* Where the headers of a packet lie. An offset of 0 means that there is none. */
struct esw_offsets {
	uint16_t l3[ESW_L3_MAX];
	uint16_t l4[ESW_L3_MAX];
};

void esw_parse(const uint8_t *data, uint32_t len, struct esw_key *key, struct esw_offsets *off);
void esw_parse_template(const uint8_t *data, uint32_t len, struct esw_key *key,
			struct esw_offsets *off);
uint32_t esw_flow_hash(const struct esw_key *key);

#endif
