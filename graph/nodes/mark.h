/* SPDX-License-Identifier: Apache-2.0 */
/* The mark: the source MAC that the NIC gives a frame which it has decapsulated. It says by which
 * tunnel it came, so whose it is and who sent it: MARK_PREFIX, then the tunnel's place in the
 * table. The prefix is locally administered, so no card has it. */
#ifndef NODES_MARK_H
#define NODES_MARK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>

#define MARK_PREFIX 0x02647073u /* 02, "dps" */

static inline bool
is_mark(const struct rte_ether_addr *mac)
{
	rte_be32_t prefix;

	memcpy(&prefix, mac->addr_bytes, sizeof(prefix));
	return prefix == RTE_BE32(MARK_PREFIX);
}

static inline uint16_t
mark_tunnel(const struct rte_ether_addr *mac)
{
	return mac->addr_bytes[4] << 8 | mac->addr_bytes[5];
}

#endif
