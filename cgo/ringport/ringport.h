/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RINGPORT_H
#define RINGPORT_H

#include <stdint.h>

#include <rte_mempool.h>
#include <rte_ring.h>

struct ringport {
	uint16_t id;
	struct rte_mempool *pool;
	struct rte_ring *in;  /* what the port receives */
	struct rte_ring *out; /* what was sent by it */
};

/* All return a negative errno on error. */
int ringport_open(struct ringport *port, const char *name, struct rte_mempool *pool);
int ringport_send(struct ringport *port, const uint8_t *frame, uint32_t len, uint32_t segment);
/* The next frame's length, -EAGAIN if there is none. */
int ringport_receive(struct ringport *port, uint8_t *buf, uint32_t size);
/* The same of any started port's queue. */
int ringport_burst_receive(uint16_t port, uint16_t queue, uint8_t *buf, uint32_t size);
int ringport_burst_send(uint16_t port, uint16_t queue, struct rte_mempool *pool,
			const uint8_t *frame, uint32_t len);

/* A chain of buffers with segment bytes each, but for the last; 0 is one buffer. NULL: no memory.
 */
struct rte_mbuf *ringport_make_packet(struct rte_mempool *pool, const uint8_t *frame, uint32_t len,
				      uint32_t segment);
/* Copies the packet into buf and frees it. Returns its length. */
int ringport_read_packet(struct rte_mbuf *m, uint8_t *buf, uint32_t size);

#endif
