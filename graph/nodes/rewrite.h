/* SPDX-License-Identifier: Apache-2.0 */
/* What the forwarding nodes do to a packet. The bytes are those that the NIC's rule for the same
 * flow makes. */
#ifndef NODES_REWRITE_H
#define NODES_REWRITE_H

#include <rte_ip.h>

#include "dataplane.h"

/* Take one hop off the packet's life. False: none is left; the packet is unchanged. */
static __rte_always_inline bool
rewrite_dec_ttl(uint8_t *l3)
{
	struct rte_ipv4_hdr *ip4 = (struct rte_ipv4_hdr *)l3;
	struct rte_ipv6_hdr *ip6 = (struct rte_ipv6_hdr *)l3;
	uint32_t word;

	if (l3[0] >= 6 << 4) { /* the version; as a shift it would be two instructions more */
		if (unlikely(ip6->hop_limits <= 1))
			return false;
		ip6->hop_limits--;
		return true;
	}
	if (unlikely(ip4->time_to_live <= 1))
		return false;
	/* Time to live and checksum are the lowest byte and the upper half of a word. RFC 1624 for
	 * a difference of 0x0100; never yields 0xffff, as a full computation never does. */
	memcpy(&word, &ip4->time_to_live, sizeof(word));
	if (unlikely(word >= 0xfffe0000))
		word += 0x10000;
	word += 0x10000 - 1;
	memcpy(&ip4->time_to_live, &word, sizeof(word));
	return true;
}

#endif
