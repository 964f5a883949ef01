/* SPDX-License-Identifier: Apache-2.0 */
/* The router that the guests see. */
#ifndef NODES_GATEWAY_H
#define NODES_GATEWAY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_ip.h>

#include "dataplane.h"

/* 169u: shifted to the top, it does not fit an int. */
#define GATEWAY_IPV4 RTE_IPV4(169u, 254, 0, 1)
static const uint8_t gateway_link_local[16] = { 0xfe, 0x80, [15] = 1 };

static inline bool
is_gateway_ipv4(const uint8_t *addr)
{
	rte_be32_t ip;

	memcpy(&ip, addr, sizeof(ip));
	return ip == rte_cpu_to_be_32(GATEWAY_IPV4);
}

static inline bool
is_gateway_ipv6(const struct iface *i, const uint8_t *addr)
{
	return memcmp(addr, gateway_link_local, 16) == 0 || memcmp(addr, i->gateway_ipv6, 16) == 0;
}

#endif
