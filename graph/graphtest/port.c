/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>

#define RING_SIZE 1024

static uint16_t
hold(uint16_t port __rte_unused, uint16_t queue __rte_unused,
     struct rte_mbuf **packets __rte_unused, uint16_t count, uint16_t max __rte_unused, void *arg)
{
	struct test_hold *h = arg;

	while (atomic_load_explicit(&h->on, memory_order_acquire)) {
		atomic_store_explicit(&h->held, true, memory_order_release);
		usleep(100);
	}
	atomic_store_explicit(&h->held, false, memory_order_release);
	return count;
}

static int
start(struct test_port *port, uint16_t queues)
{
	struct rte_eth_conf conf = { 0 };
	uint16_t q;
	int rc;

	rc = rte_eth_dev_configure(port->id, queues, queues, &conf);
	for (q = 0; rc == 0 && q < queues; q++) {
		rc = rte_eth_rx_queue_setup(port->id, q, 0, SOCKET_ID_ANY, NULL, port->pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(port->id, q, 0, SOCKET_ID_ANY, NULL);
		if (rc == 0 && rte_eth_add_rx_callback(port->id, q, hold, &port->hold[q]) == NULL)
			rc = -rte_errno;
	}
	return rc < 0 ? rc : rte_eth_dev_start(port->id);
}

static int
make_rings(struct test_port *port, const char *name, uint16_t queues)
{
	char ring[RTE_RING_NAMESIZE];
	uint16_t q;

	for (q = 0; q < queues; q++) {
		snprintf(ring, sizeof(ring), "%s_in%u", name, q);
		port->to_graph[q] = rte_ring_create(ring, RING_SIZE, SOCKET_ID_ANY, 0);
		snprintf(ring, sizeof(ring), "%s_out%u", name, q);
		port->from_graph[q] = rte_ring_create(ring, RING_SIZE, SOCKET_ID_ANY, 0);
		if (port->to_graph[q] == NULL || port->from_graph[q] == NULL)
			return -rte_errno;
	}
	return 0;
}

static int
make_port(struct test_port *port, const char *name, uint16_t queues)
{
	int rc;

	if (queues > TEST_QUEUES_MAX)
		return -EINVAL;
	rc = make_rings(port, name, queues);
	if (rc < 0)
		return rc;
	rc = rte_eth_from_rings(name, port->to_graph, queues, port->from_graph, queues, 0);
	if (rc < 0)
		return -rte_errno;
	port->id = rc;
	return start(port, queues);
}

struct test_port *
test_port_create(const char *name, uint16_t queues, struct rte_mempool *pool, int *error)
{
	struct test_port *port = calloc(1, sizeof(*port));

	*error = -ENOMEM;
	if (port == NULL)
		return NULL;
	port->pool = pool;
	*error = make_port(port, name, queues);
	if (*error == 0)
		return port;
	free(port);
	return NULL;
}

int
test_port_send(struct test_port *port, uint16_t queue, struct rte_mbuf **packets, uint32_t count)
{
	if (rte_ring_enqueue_bulk(port->to_graph[queue], (void **)packets, count, NULL) == count)
		return 0;
	rte_pktmbuf_free_bulk(packets, count);
	return -ENOBUFS;
}

struct rte_mbuf *
test_port_receive(struct test_port *port, uint16_t queue)
{
	void *m;

	return rte_ring_dequeue(port->from_graph[queue], &m) < 0 ? NULL : m;
}

int
test_port_fill(struct test_port *port, uint16_t queue)
{
	struct rte_mbuf *m;
	int n = 0;

	for (;;) {
		m = rte_pktmbuf_alloc(port->pool);
		if (m == NULL)
			return -ENOMEM;
		if (rte_ring_enqueue(port->from_graph[queue], m) < 0)
			break;
		n++;
	}
	rte_pktmbuf_free(m);
	return n;
}

void
test_port_hold(struct test_port *port, uint16_t queue, bool on)
{
	atomic_store_explicit(&port->hold[queue].on, on, memory_order_release);
}

bool
test_port_is_held(const struct test_port *port, uint16_t queue)
{
	return atomic_load_explicit(&port->hold[queue].held, memory_order_acquire);
}
