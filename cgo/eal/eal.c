/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>

#include <rte_eal.h>
#include <rte_errno.h>

#include "eal.h"

/* All signals but those a thread causes by its own instructions. */
static void
asynchronous_signals(sigset_t *set)
{
	static const int own[] = {
		SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS,
	};
	unsigned int i;

	sigfillset(set);
	for (i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(set, own[i]);
}

/*
 * Go calls from changing threads. Were each to get an arena of its own, drivers
 * that allocate would run into its system calls: such arenas grow by a page at
 * a time. No thread allocates while it handles packets, so one is enough. This
 * is said before there are threads, since each keeps the arena that it has.
 */
static void __attribute__((constructor)) use_one_malloc_arena(void)
{
	mallopt(M_ARENA_MAX, 1);
}

int
dps_eal_init(int argc, char **argv)
{
	sigset_t block, before;
	int rc, err;

	asynchronous_signals(&block);
	rc = pthread_sigmask(SIG_BLOCK, &block, &before);
	if (rc != 0)
		return -rc;
	rte_errno = 0;
	err = rte_eal_init(argc, argv) < 0 ? (rte_errno ? rte_errno : EINVAL) : 0;
	rc = pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err != 0 ? -err : -rc;
}
