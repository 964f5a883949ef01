/* SPDX-License-Identifier: Apache-2.0 */
/* The router that the guests see. */
#ifndef NODES_GATEWAY_H
#define NODES_GATEWAY_H

#include <stdint.h>

#include <rte_ip.h>

/* 169u: shifted to the top, it does not fit an int. */
#define GATEWAY_IPV4 RTE_IPV4(169u, 254, 0, 1)
static const uint8_t gateway_ipv6[16] = {0xfe, 0x80, [15] = 1};

#endif
