/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_REWRITE_H
#define ESW_REWRITE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "key.h"

/* What net_mlx5 takes at most. */
#define ESW_ENCAP_MAX 132

/* A raw_encap up to this size (ethernet + IPv4) is a link layer for an L3 packet, not a tunnel
 * header. */
#define ESW_L2_MAX 34

/* The bytes of a raw_encap action, and where in them lie the fields that the NIC fills. */
struct esw_encap {
	uint16_t size;
	uint16_t l3;     /* offset of the IP header, 0: none */
	uint16_t udp;    /* offset of the UDP header, 0: none */
	uint8_t version; /* of the IP header */
	uint8_t data[];
};

/* What a raw_decap removes. As in hardware it is the parser that says where the link layer or the
 * tunnel ends. */
enum esw_decap_kind {
	ESW_DECAP_LINK,   /* the link layer; a raw_encap with a tunnel header follows */
	ESW_DECAP_TUNNEL, /* all up to the inner IP header, which has to be there; a raw_encap with
			     a link layer follows */
	ESW_DECAP_BYTES,  /* as many bytes as the action says: a tunnel that carries Ethernet */
};

struct esw_decap {
	enum esw_decap_kind kind;
	uint16_t size;
};

/* A packet on its way through the rules: one direct, contiguous mbuf. */
struct esw_packet {
	struct rte_mbuf *m;
	struct esw_key key;
	struct esw_offsets off;
	bool stale;   /* key and off are older than the packet's bytes */
	bool marked;  /* the application is to see key.metadata.mark, whatever it is */
	bool flagged; /* it is to see that a rule has flagged the packet */
};

void esw_packet_init(struct esw_packet *p, struct rte_mbuf *m, uint16_t vport);
void esw_packet_refresh(struct esw_packet *p);

void esw_encap_init(struct esw_encap *encap, const uint8_t *data, uint16_t size);
int esw_encap(struct esw_packet *p, const struct esw_encap *encap, uint32_t hash);
int esw_decap(struct esw_packet *p, const struct esw_decap *decap);
void esw_set_mac(struct esw_packet *p, const struct rte_ether_addr *mac, bool source);
void esw_dec_ttl(struct esw_packet *p);

/* What rewrites a field in the outermost headers, and fixes the checksums over it. */
enum esw_field { ESW_IPV4_SRC, ESW_IPV4_DST, ESW_IPV6_SRC, ESW_IPV6_DST, ESW_TP_SRC, ESW_TP_DST };

void esw_set_field(struct esw_packet *p, enum esw_field field, const void *value);
/* A 16-bit word of the outermost IP header that no other checksum covers, and one of its L4
 * header. */
void esw_set_ip_word(struct esw_packet *p, size_t offset, rte_be16_t word);
void esw_set_l4_word(struct esw_packet *p, size_t offset, rte_be16_t word);
int esw_pop_vlan(struct esw_packet *p);
int esw_push_vlan(struct esw_packet *p, rte_be16_t type, uint16_t tci);

#endif
