/* SPDX-License-Identifier: Apache-2.0 */

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ip.h>

#include "frame.h"

void
frame_bytes(struct frame *f, const void *data, uint16_t n)
{
	assert(f->len + n <= (int)sizeof(f->data));
	memcpy(f->data + f->len, data, n);
	f->len += n;
}

void
frame_fill(struct frame *f, uint8_t value, uint16_t n)
{
	assert(f->len + n <= (int)sizeof(f->data));
	memset(f->data + f->len, value, n);
	f->len += n;
}

static void
word(struct frame *f, uint16_t value)
{
	const uint8_t bytes[] = { value >> 8, value };

	frame_bytes(f, bytes, sizeof(bytes));
}

static void
byte(struct frame *f, uint8_t value)
{
	frame_bytes(f, &value, 1);
}

static void
address(struct frame *f, int family, const char *text)
{
	uint8_t bytes[16];
	int ok = inet_pton(family, text, bytes);

	assert(ok == 1);
	(void)ok;
	frame_bytes(f, bytes, family == AF_INET ? 4 : 16);
}

void
frame_eth(struct frame *f, const char *dst, const char *src, uint16_t type)
{
	frame_bytes(f, dst, 6);
	frame_bytes(f, src, 6);
	word(f, type);
}

void
frame_vlan(struct frame *f, uint16_t tci, uint16_t type)
{
	word(f, tci);
	word(f, type);
}

void
frame_ipv4(struct frame *f, const char *src, const char *dst, uint8_t proto, uint8_t ttl,
	   uint16_t payload)
{
	struct rte_ipv4_hdr *ip = (void *)(f->data + f->len);

	byte(f, 0x45);
	byte(f, 0);
	word(f, 20 + payload);
	word(f, 0x1234);
	word(f, 0);
	byte(f, ttl);
	byte(f, proto);
	word(f, 0);
	address(f, AF_INET, src);
	address(f, AF_INET, dst);
	ip->hdr_checksum = rte_ipv4_cksum(ip);
}

void
frame_ipv6(struct frame *f, const char *src, const char *dst, uint8_t proto, uint8_t ttl,
	   uint16_t payload)
{
	word(f, 0x6000);
	word(f, 0);
	word(f, payload);
	byte(f, proto);
	byte(f, ttl);
	address(f, AF_INET6, src);
	address(f, AF_INET6, dst);
}

void
frame_udp(struct frame *f, uint16_t src, uint16_t dst, uint16_t payload)
{
	word(f, src);
	word(f, dst);
	word(f, 8 + payload);
	word(f, 0);
}

void
frame_tcp(struct frame *f, uint16_t src, uint16_t dst, uint8_t flags)
{
	word(f, src);
	word(f, dst);
	frame_fill(f, 0x11, 8);
	byte(f, 0x50);
	byte(f, flags);
	word(f, 1000);
	word(f, 0);
	word(f, 0);
}

void
frame_icmp(struct frame *f, uint8_t type, uint8_t code, uint16_t ident, uint16_t sequence)
{
	byte(f, type);
	byte(f, code);
	word(f, 0);
	word(f, ident);
	word(f, sequence);
}

struct frame
udp4_frame(uint16_t src, uint16_t dst)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_UDP, 64, 8 + 30);
	frame_udp(&f, src, dst, 30);
	frame_fill(&f, 'x', 30);
	return f;
}

struct frame
tcp4_frame(uint8_t flags)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_TCP, 64, 20 + 6);
	frame_tcp(&f, 1000, 80, flags);
	frame_fill(&f, 'y', 6);
	return f;
}

struct frame
ipip_frame(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x86dd);
	frame_ipv6(&f, "fc00::1", "fc00::2", IPPROTO_IPIP, 64, 20 + 20 + 6);
	frame_ipv4(&f, "10.0.0.1", "10.0.0.2", IPPROTO_TCP, 64, 20 + 6);
	frame_tcp(&f, 1000, 80, 0x10);
	frame_fill(&f, 'z', 6);
	return f;
}
