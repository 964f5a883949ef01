/* SPDX-License-Identifier: Apache-2.0 */
#include "icmp.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_icmp.h>
#include <rte_ip.h>

#include "compat.h"
#include "dataplane.h"
#include "gateway.h"

#define ERROR_LEN_IPV4 576u  /* RFC 1812: quote as much as fits */
#define ERROR_LEN_IPV6 1280u /* RFC 4443 */
#define ERROR_TTL 64
#define ERROR_TOS 0xc0 /* internetwork control */

#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMPV6_REDIRECT 137
#define IPV6_FRAGMENT_LEN 8u

struct error_header {
	uint8_t type;
	uint8_t code;
	rte_be16_t checksum;
	rte_be16_t unused;
	rte_be16_t mtu;
};

static_assert(sizeof(struct error_header) == ICMP_ERROR_LEN, "as on the wire");

/* ---- what is not answered ---- */

static bool
is_icmp_error(uint8_t type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

static bool
may_answer_ipv4(const struct rte_ipv4_hdr *ip)
{
	uint32_t src = rte_be_to_cpu_32(ip->src_addr), dst = rte_be_to_cpu_32(ip->dst_addr);
	uint32_t ihl = rte_ipv4_hdr_len(ip);

	if (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_OFFSET_MASK))
		return false;
	if (IN_MULTICAST(dst) || IN_EXPERIMENTAL(dst) || (src >> 24) == IN_LOOPBACKNET ||
	    (src >> 24) == 0 || IN_MULTICAST(src) || IN_EXPERIMENTAL(src))
		return false;
	if (ip->next_proto_id != IPPROTO_ICMP)
		return true;
	return rte_be_to_cpu_16(ip->total_length) > ihl &&
	       !is_icmp_error(((const uint8_t *)ip)[ihl]);
}

static bool
may_answer_ipv6(const struct rte_ipv6_hdr *ip)
{
	static const uint8_t unspecified[16];
	const uint8_t *next = (const uint8_t *)(ip + 1);
	uint32_t len = rte_be_to_cpu_16(ip->payload_len);
	uint8_t proto = ip->proto;

	if (ipv6_dst(ip)[0] == 0xff || ipv6_src(ip)[0] == 0xff ||
	    memcmp(&ip->src_addr, unspecified, 16) == 0)
		return false;
	if (proto == IPPROTO_FRAGMENT) {
		if (len < IPV6_FRAGMENT_LEN || next[2] != 0 || (next[3] & 0xf8) != 0)
			return false; /* not the first */
		proto = next[0];
		next += IPV6_FRAGMENT_LEN;
		len -= IPV6_FRAGMENT_LEN;
	}
	if (proto != IPPROTO_ICMPV6)
		return true;
	return len > 0 && next[0] >= ICMPV6_INFORMATIONAL && next[0] != ICMPV6_REDIRECT;
}

bool
dps_icmp_may_answer(const uint8_t *l3)
{
	if ((l3[0] >> 4) == 6)
		return may_answer_ipv6((const struct rte_ipv6_hdr *)l3);
	return may_answer_ipv4((const struct rte_ipv4_hdr *)l3);
}

/* ---- the error ---- */

static void
fill_ipv4(struct rte_ipv4_hdr *ip, uint16_t len, rte_be32_t to, const struct icmp_error *e)
{
	struct error_header *icmp = (struct error_header *)(ip + 1);

	*ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.type_of_service = ERROR_TOS,
		.total_length = rte_cpu_to_be_16(len),
		.fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG),
		.time_to_live = ERROR_TTL,
		.next_proto_id = IPPROTO_ICMP,
		.src_addr = rte_cpu_to_be_32(GATEWAY_IPV4),
		.dst_addr = to,
	};
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	*icmp = (struct error_header){ .type = e->type4,
				       .code = e->code4,
				       .mtu = rte_cpu_to_be_16(e->mtu) };
	icmp->checksum = ~rte_raw_cksum(icmp, len - sizeof(*ip));
}

static void
fill_ipv6(struct rte_ipv6_hdr *ip, uint16_t len, const uint8_t *from, const uint8_t *to,
	  const struct icmp_error *e)
{
	struct error_header *icmp = (struct error_header *)(ip + 1);

	*ip = (struct rte_ipv6_hdr){
		.vtc_flow = rte_cpu_to_be_32(6u << 28),
		.payload_len = rte_cpu_to_be_16(len - sizeof(*ip)),
		.proto = IPPROTO_ICMPV6,
		.hop_limits = ERROR_TTL,
	};
	memcpy(&ip->src_addr, from, sizeof(ip->src_addr));
	memcpy(&ip->dst_addr, to, sizeof(ip->dst_addr));
	*icmp = (struct error_header){ .type = e->type6,
				       .code = e->code6,
				       .mtu = rte_cpu_to_be_16(e->mtu) };
	icmp->checksum = rte_ipv6_udptcp_cksum(ip, icmp);
}

/* Put the error's headers before a quotation: there is a packet from its IP header on, and nothing
 * else. */
static uint8_t *
prepend_error(struct rte_mbuf *m, const struct icmp_error *e, const uint8_t *from_ipv6)
{
	const uint8_t *packet = rte_pktmbuf_mtod(m, const uint8_t *);
	bool is_ipv6 = (packet[0] >> 4) == 6;
	uint32_t ip_len = is_ipv6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
	uint8_t *ip = (uint8_t *)rte_pktmbuf_prepend(m, ip_len + ICMP_ERROR_LEN);

	if (ip == NULL)
		return NULL;
	if (is_ipv6)
		fill_ipv6((struct rte_ipv6_hdr *)ip, rte_pktmbuf_data_len(m), from_ipv6,
			  ipv6_src((const struct rte_ipv6_hdr *)packet), e);
	else
		fill_ipv4((struct rte_ipv4_hdr *)ip, rte_pktmbuf_data_len(m),
			  ((const struct rte_ipv4_hdr *)packet)->src_addr, e);
	return ip;
}

/* How much of a packet its error quotes, which is not to exceed mtu. The headers say how long it
 * is: what a driver has padded is not of it. */
static uint32_t
quote_len(const uint8_t *packet, uint32_t mtu)
{
	const struct rte_ipv6_hdr *ip6 = (const struct rte_ipv6_hdr *)packet;
	uint32_t len;

	if ((packet[0] >> 4) == 6) {
		len = sizeof(*ip6) + rte_be_to_cpu_16(ip6->payload_len);
		return RTE_MIN(len, RTE_MIN(mtu, ERROR_LEN_IPV6) - (uint32_t)sizeof(*ip6) -
					    ICMP_ERROR_LEN);
	}
	len = rte_be_to_cpu_16(((const struct rte_ipv4_hdr *)packet)->total_length);
	return RTE_MIN(len, RTE_MIN(mtu, ERROR_LEN_IPV4) - (uint32_t)sizeof(struct rte_ipv4_hdr) -
				    ICMP_ERROR_LEN);
}

bool
dps_icmp_make_error(struct rte_mbuf *m, uint16_t l3, const struct icmp_error *e,
		    const uint8_t *from_ipv6, const struct verdict *back)
{
	const uint8_t *packet = (const uint8_t *)rte_pktmbuf_adj(m, l3);
	uint32_t quoted = quote_len(packet, back->mtu);
	uint16_t len;
	uint8_t *out;

	rte_pktmbuf_trim(m, rte_pktmbuf_data_len(m) - quoted);
	if (prepend_error(m, e, from_ipv6) == NULL)
		return false;
	len = rte_pktmbuf_data_len(m);
	out = (uint8_t *)rte_pktmbuf_prepend(m, back->header_len);
	if (out == NULL)
		return false;
	memcpy(out, back->header, back->header_len);
	if (back->kind == VERDICT_ENCAP)
		((struct rte_ipv6_hdr *)(out + ETH_LEN))->payload_len = rte_cpu_to_be_16(len);
	return true;
}
