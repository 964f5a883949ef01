/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "ringport.h"

#define RING_SIZE 1024

static struct rte_ring *
make_ring(const char *name, const char *suffix)
{
	char full[RTE_RING_NAMESIZE];
	int n = snprintf(full, sizeof(full), "%s_%s", name, suffix);

	if (n >= (int)sizeof(full)) {
		rte_errno = ENAMETOOLONG;
		return NULL;
	}
	return rte_ring_create(full, RING_SIZE, SOCKET_ID_ANY, 0);
}

int
ringport_open(struct ringport *port, const char *name, struct rte_mempool *pool)
{
	int id;

	port->pool = pool;
	port->out = NULL;
	port->in = make_ring(name, "in");
	if (port->in != NULL)
		port->out = make_ring(name, "out");
	if (port->out != NULL) {
		id = rte_eth_from_rings(name, &port->in, 1, &port->out, 1, 0);
		if (id >= 0) {
			port->id = id;
			return 0;
		}
	}
	id = -rte_errno;
	rte_ring_free(port->in);
	rte_ring_free(port->out);
	return id;
}

struct rte_mbuf *
ringport_make_packet(struct rte_mempool *pool, const uint8_t *frame, uint32_t len, uint32_t segment)
{
	struct rte_mbuf *head = NULL, *m;
	char *data;
	uint32_t n;

	do {
		n = segment == 0 ? len : RTE_MIN(len, segment);
		m = rte_pktmbuf_alloc(pool);
		data = m == NULL ? NULL : rte_pktmbuf_append(m, n);
		if (data == NULL || (head != NULL && rte_pktmbuf_chain(head, m) < 0)) {
			rte_pktmbuf_free(m);
			rte_pktmbuf_free(head);
			return NULL;
		}
		rte_memcpy(data, frame, n);
		if (head == NULL)
			head = m;
		frame += n;
		len -= n;
	} while (len > 0);
	return head;
}

int
ringport_read_packet(struct rte_mbuf *m, uint8_t *buf, uint32_t size)
{
	uint32_t len = rte_pktmbuf_pkt_len(m);
	const void *data;
	int ret = -EMSGSIZE;

	if (len <= size) {
		data = rte_pktmbuf_read(m, 0, len, buf);
		if (data != NULL && data != buf)
			rte_memcpy(buf, data, len);
		ret = data == NULL ? -EBADMSG : (int)len;
	}
	rte_pktmbuf_free(m);
	return ret;
}

int
ringport_send(struct ringport *port, const uint8_t *frame, uint32_t len, uint32_t segment)
{
	struct rte_mbuf *m = ringport_make_packet(port->pool, frame, len, segment);

	if (m == NULL)
		return -ENOMEM;
	if (rte_ring_enqueue(port->in, m) == 0)
		return 0;
	rte_pktmbuf_free(m);
	return -ENOBUFS;
}

int
ringport_receive(struct ringport *port, uint8_t *buf, uint32_t size)
{
	void *m;

	if (rte_ring_dequeue(port->out, &m) < 0)
		return -EAGAIN;
	return ringport_read_packet(m, buf, size);
}

int
ringport_burst_receive(uint16_t port, uint16_t queue, uint8_t *buf, uint32_t size)
{
	struct rte_mbuf *m;

	if (rte_eth_rx_burst(port, queue, &m, 1) == 0)
		return -EAGAIN;
	return ringport_read_packet(m, buf, size);
}

int
ringport_burst_send(uint16_t port, uint16_t queue, struct rte_mempool *pool, const uint8_t *frame,
		    uint32_t len)
{
	struct rte_mbuf *m = ringport_make_packet(pool, frame, len, 0);

	if (m == NULL)
		return -ENOMEM;
	if (rte_eth_tx_burst(port, queue, &m, 1) == 1)
		return 0;
	rte_pktmbuf_free(m);
	return -ENOBUFS;
}
