/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread that is the card: it moves all frames. It never waits for those who give commands;
 * they wait for it, by its rounds: what they have taken out of its reach is not used any more once
 * the round is over.
 */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_mempool.h>

#include "../net_eswitch/compat.h"
#include "device.h"

/* Rounds without anything to do before the thread sleeps, and how long. It sees doorbells only when
 * it looks. */
#define IDLE_ROUNDS 64
#define IDLE_US 50

#define POOL_SIZE 4095
/* Behind a frame of the largest MTU: the Ethernet header, tags, and what is encapsulated for a port
 * with a larger MTU. */
#define ROOM_BEHIND 256
#define MIN_ROOM 2048

static struct rte_mempool *pool;
static esw_thread thread;
static atomic_bool running;
static _Atomic uint64_t rounds;

struct rte_mempool *
cx_pool(void)
{
	return pool;
}

struct rte_mbuf *
cx_buffer(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	if (m != NULL)
		m->data_off = CX_HEADROOM;
	return m;
}

static ESW_THREAD_FN
run(void *arg)
{
	uint32_t idle = 0;
	sigset_t all;

	(void)arg;
	/* Signals are the application's; in a Go program other threads must not take them. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	cx_steering_online();
	while (atomic_load_explicit(&running, memory_order_acquire)) {
		bool some;

		if (idle < IDLE_ROUNDS) {
			cx_ports_wait(0);
		} else {
			cx_steering_offline();
			cx_ports_wait(IDLE_US);
			cx_steering_online();
		}
		some = cx_ports_take();
		cx_object_each(CX_SQ, cx_sq_poll);
		some |= cx_sq_busy();
		cx_ports_flush();
		cx_object_each(CX_CQ, cx_cq_poll);
		cx_steering_quiescent();
		atomic_fetch_add_explicit(&rounds, 1, memory_order_release);
		idle = some ? 0 : idle + 1;
	}
	cx_steering_offline();
	return ESW_THREAD_END;
}

int
cx_thread_start(void)
{
	uint32_t room = RTE_MAX(cx_ports_max_mtu() + ROOM_BEHIND, (uint32_t)MIN_ROOM);
	int ret;

	pool = rte_pktmbuf_pool_create("connectx", POOL_SIZE, 0, 0, CX_HEADROOM + room,
				       SOCKET_ID_ANY);
	if (pool == NULL) {
		fprintf(stderr, "connectx: no memory for the card's buffers: %s\n",
			rte_strerror(rte_errno));
		return rte_errno;
	}
	/* The driver has no business with it. */
	pool->flags |= RTE_MEMPOOL_F_NON_IO;
	store_relaxed(&running, true);
	ret = -esw_thread_start(&thread, "connectx", run, NULL);
	if (ret != 0) {
		store_relaxed(&running, false);
		rte_mempool_free(pool);
		pool = NULL;
	}
	return ret;
}

void
cx_thread_stop(void)
{
	atomic_store_explicit(&running, false, memory_order_release);
	esw_thread_join(thread);
	cx_ports_stop();
	rte_mempool_free(pool);
	pool = NULL;
}

void
cx_thread_wait(void)
{
	/* The round that is under way, and the one that may have begun meanwhile. */
	uint64_t until = atomic_load_explicit(&rounds, memory_order_acquire) + 2;

	while (atomic_load_explicit(&running, memory_order_acquire) &&
	       atomic_load_explicit(&rounds, memory_order_acquire) < until)
		sched_yield();
}
