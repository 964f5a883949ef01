/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a packet from the wire was sent by the one who may send it. Whoever is on the underlay
 * can encapsulate, so the outer source must be where the route to the inner source leads. */
#ifndef NODES_PEER_H
#define NODES_PEER_H

#include "compat.h"
#include "parse.h"
#include "tables.h"

/* The outer source address, also where the NIC has removed it. NULL: nobody knows. */
static __rte_always_inline const uint8_t *
packet_peer(const struct worker *w, const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct tunnel *t;

	if (!w->ports[m->port].marks || !is_mark(&eth->src_addr))
		return ipv6_src((const struct rte_ipv6_hdr *)(eth + 1));
	t = &w->tunnels[mark_tunnel(&eth->src_addr)];
	return t->any_peer ? NULL : t->peer;
}

/* The destination of the packet that an ICMP error quotes, if the error's receiver has sent that;
 * otherwise NULL. */
static inline const uint8_t *
quoted_destination(struct rte_mbuf *m, const struct flow_key *key)
{
	const uint8_t *l3 = rte_pktmbuf_mtod_offset(m, const uint8_t *, pkt_meta(m)->l3), *quoted;
	bool ipv6 = key->kind & KEY_IPV6;
	uint32_t len = rte_pktmbuf_data_len(m) - pkt_meta(m)->l3;
	uint32_t hdr = ipv6 ? sizeof(struct rte_ipv6_hdr) :
			      rte_ipv4_hdr_len((const struct rte_ipv4_hdr *)l3);
	uint32_t min = ipv6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
	uint32_t src = ipv6 ? offsetof(struct rte_ipv6_hdr, src_addr) :
			      offsetof(struct rte_ipv4_hdr, src_addr);
	uint32_t size = ipv6 ? 16 : 4;

	if (len < hdr + ICMP_ERROR_LEN + min)
		return NULL;
	quoted = l3 + hdr + ICMP_ERROR_LEN;
	if ((quoted[0] >> 4) != (ipv6 ? 6 : 4) ||
	    memcmp(quoted + src, flow_key_dst(key), size) != 0)
		return NULL;
	return quoted + src + size;
}

/* v says whom the flow's packets come from. An ICMP error may also come from where the packet went
 * that it is about: a router there has addresses of its own. */
static __rte_always_inline bool
peer_is_right(const struct worker *w, struct rte_mbuf *m, const struct flow_key *key,
	      const struct verdict *v)
{
	const uint8_t *peer = packet_peer(w, m), *dst, *hop;

	if (unlikely(peer == NULL))
		return false;
	if (likely(memcmp(peer, v->peer, sizeof(v->peer)) == 0))
		return true;
	if (!key_is_icmp_error(key))
		return false;
	dst = quoted_destination(m, key);
	if (dst == NULL)
		return false;
	hop = dps_peer_find(w, v->vni, key->kind & KEY_IPV6, dst);
	return hop != NULL && memcmp(peer, hop, sizeof(v->peer)) == 0;
}

#endif
