/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that no router forwards to or from, whatever its routes: RFC 1812 (4.2.2.11, 5.3.7),
 * RFC 3927 (7), RFC 4291 (2.5.2 to 2.5.6), RFC 6890. */
#ifndef NODES_MARTIAN_H
#define NODES_MARTIAN_H

#include <netinet/in.h>

#include "gateway.h"
#include "parse.h"
#include "tables.h"

static inline enum resolution
martian_ipv4(const uint8_t *addr)
{
	uint32_t ip;

	memcpy(&ip, addr, sizeof(ip));
	ip = rte_be_to_cpu_32(ip);
	if (ip == INADDR_BROADCAST)
		return RESOLVED_BROADCAST;
	if (ip == INADDR_ANY)
		return RESOLVED_UNSPECIFIED;
	if ((ip >> 24) == IN_LOOPBACKNET)
		return RESOLVED_LOOPBACK;
	if ((ip >> 16) == 0xa9fe)
		return RESOLVED_LINK_LOCAL;
	if (IN_MULTICAST(ip))
		return RESOLVED_MULTICAST;
	return (ip >> 24) == 0 || IN_EXPERIMENTAL(ip) ? RESOLVED_RESERVED : RESOLVED;
}

static inline enum resolution
martian_ipv6(const uint8_t *addr)
{
	static const uint8_t unspecified[16], loopback[16] = { [15] = 1 },
					      mapped_ipv4[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(addr, unspecified, sizeof(unspecified)) == 0)
		return RESOLVED_UNSPECIFIED;
	if (memcmp(addr, loopback, sizeof(loopback)) == 0)
		return RESOLVED_LOOPBACK;
	if (addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80)
		return RESOLVED_LINK_LOCAL;
	if (addr[0] == 0xff)
		return RESOLVED_MULTICAST;
	return memcmp(addr, mapped_ipv4, sizeof(mapped_ipv4)) == 0 ? RESOLVED_RESERVED : RESOLVED;
}

/* What kind of address that is; RESOLVED: one that routers forward to and from. */
static inline enum resolution
martian_address(bool is_ipv6, const uint8_t *addr)
{
	return is_ipv6 ? martian_ipv6(addr) : martian_ipv4(addr);
}

/* What the gateway answers has been left to the slow path before. */
static inline enum resolution
martian_destination(const struct iface *i, const struct flow_key *key)
{
	bool is_ipv6 = key->kind & KEY_IPV6;

	if (is_ipv6 ? is_gateway_ipv6(i, flow_key_dst(key)) : is_gateway_ipv4(flow_key_dst(key)))
		return RESOLVED_TO_GATEWAY;
	return martian_address(is_ipv6, flow_key_dst(key));
}

/* Whether that is what the gateway of another hypervisor tells of: an ICMP error, from an address
 * that is link-local in IPv4. */
static inline bool
is_gateway_error(const struct iface *i, const struct flow_key *key)
{
	if (key_is_offloadable(key))
		return false;
	if (key->kind & KEY_IPV6)
		return key->proto == IPPROTO_ICMPV6 &&
		       memcmp(flow_key_src(key), i->gateway_ipv6, sizeof(i->gateway_ipv6)) == 0;
	return key->proto == IPPROTO_ICMP && is_gateway_ipv4(flow_key_src(key));
}

static inline bool
martian_source(const struct iface *i, const struct flow_key *key)
{
	bool is_ipv6 = key->kind & KEY_IPV6;

	if (is_ipv6 ? is_gateway_ipv6(i, flow_key_src(key)) : is_gateway_ipv4(flow_key_src(key)))
		return !is_gateway_error(i, key);
	return martian_address(is_ipv6, flow_key_src(key)) != RESOLVED;
}

#endif
