/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP and ICMPv6 errors, as a router sends them. */
#ifndef NODES_ICMP_H
#define NODES_ICMP_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_INFORMATIONAL 128 /* and above: no errors */
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

#define ICMP_ERROR_LEN 8u /* an error's header; what it is about follows */

struct verdict;

/* An error's type and code in both families, and what its header says besides: the MTU, where that
 * is the reason. */
struct icmp_error {
	uint8_t type4, code4;
	uint8_t type6, code6;
	uint16_t mtu;
};

/* Whether RFC 1812 (4.3.2.7) and RFC 4443 (2.4 e) allow an error about a packet, whose IP header
 * has been checked. */
bool dps_icmp_may_answer(const uint8_t *l3);

/* Make of a packet, whose IP header begins at l3, the error about it, which quotes its beginning.
 * from_ipv6 is where one of ICMPv6 comes from; back says what leads to its sender. False: the
 * buffer has no room; the packet is of no use any more. */
bool dps_icmp_make_error(struct rte_mbuf *m, uint16_t l3, const struct icmp_error *e,
			 const uint8_t *from_ipv6, const struct verdict *back);

#endif
