/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GRAPHTEST_PORT_H
#define GRAPHTEST_PORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#define TEST_QUEUES_MAX 4

struct test_port {
	uint16_t id;
	struct rte_mempool *pool;
	struct rte_ring *to_graph[TEST_QUEUES_MAX];
	struct rte_ring *from_graph[TEST_QUEUES_MAX];
	struct test_hold {
		atomic_bool on; /* who receives by the queue stays there */
		atomic_bool held;
	} hold[TEST_QUEUES_MAX];
};

/* NULL on error: then *error is a negative errno. */
struct test_port *test_port_create(const char *name, uint16_t queues, struct rte_mempool *pool,
				   int *error);
/* All packets at once, or -ENOBUFS; they are the port's, or freed. */
int test_port_send(struct test_port *port, uint16_t queue, struct rte_mbuf **packets,
		   uint32_t count);
/* NULL: there is none. */
struct rte_mbuf *test_port_receive(struct test_port *port, uint16_t queue);
int test_port_fill(struct test_port *port, uint16_t queue);
/* Keep who receives by the queue in the driver, from when it is held on until it is let go. */
void test_port_hold(struct test_port *port, uint16_t queue, bool on);
bool test_port_is_held(const struct test_port *port, uint16_t queue);

#endif
