/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_COMPAT_H
#define ESW_COMPAT_H

/* The one place for what differs between the versions of DPDK this driver is built with. */

#include <rte_lcore.h>
#include <rte_telemetry.h>
#include <rte_thread.h>
#include <rte_version.h>

#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)

typedef rte_thread_t esw_thread;
#define ESW_THREAD_FN uint32_t
#define ESW_THREAD_END 0

static inline int
esw_thread_start(esw_thread *thread, const char *name, rte_thread_func fn, void *arg)
{
	return -rte_thread_create_control(thread, name, fn, arg);
}

static inline void
esw_thread_join(esw_thread thread)
{
	rte_thread_join(thread, NULL);
}

#else

#include <pthread.h>

typedef pthread_t esw_thread;
#define ESW_THREAD_FN void *
#define ESW_THREAD_END NULL

static inline int
esw_thread_start(esw_thread *thread, const char *name, void *(*fn)(void *), void *arg)
{
	return rte_ctrl_thread_create(thread, name, NULL, fn, arg);
}

static inline void
esw_thread_join(esw_thread thread)
{
	pthread_join(thread, NULL);
}

#endif

#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
#define esw_tel_add_number rte_tel_data_add_dict_uint
#else
#define esw_tel_add_number rte_tel_data_add_dict_u64
#endif

/* Since 25.11 the operation stats_get is asked for the counters of single queues, too: there are
 * none. */
#if RTE_VERSION >= RTE_VERSION_NUM(25, 11, 0, 0)
#define ESW_QUEUE_STATS , struct eth_queue_stats *queues __rte_unused
#else
#define ESW_QUEUE_STATS
#endif

#endif
