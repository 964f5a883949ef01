/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_UNIT_FRAME_H
#define ESW_UNIT_FRAME_H

#include <stdint.h>

/* Frames for the tests, built header by header. Lengths and checksums are what the caller says or
 * makes of them. */
struct frame {
	uint16_t len;
	uint8_t data[10000] __attribute__((aligned(8)));
};

#define MAC_A "\x02\x00\x00\x00\x00\x0a"
#define MAC_B "\x02\x00\x00\x00\x00\x0b"
#define MAC_C "\x02\x00\x00\x00\x00\x0c"

void frame_bytes(struct frame *f, const void *data, uint16_t n);
void frame_fill(struct frame *f, uint8_t value, uint16_t n);
void frame_eth(struct frame *f, const char *dst, const char *src, uint16_t type);
void frame_vlan(struct frame *f, uint16_t tci, uint16_t type);
void frame_ipv4(struct frame *f, const char *src, const char *dst, uint8_t proto, uint8_t ttl,
		uint16_t payload);
void frame_ipv6(struct frame *f, const char *src, const char *dst, uint8_t proto, uint8_t ttl,
		uint16_t payload);
void frame_udp(struct frame *f, uint16_t src, uint16_t dst, uint16_t payload);
void frame_tcp(struct frame *f, uint16_t src, uint16_t dst, uint8_t flags);
void frame_icmp(struct frame *f, uint8_t type, uint8_t code, uint16_t ident, uint16_t sequence);

/* Common whole frames: UDP and TCP over IPv4 from 10.0.0.1 to 10.0.0.2, and one inside IPv6
 * (fc00::1 to fc00::2). */
struct frame udp4_frame(uint16_t src, uint16_t dst);
struct frame tcp4_frame(uint8_t flags);
struct frame ipip_frame(void);

#endif
