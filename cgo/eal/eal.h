/* SPDX-License-Identifier: Apache-2.0 */

#ifndef DPS_EAL_H
#define DPS_EAL_H

#include <rte_eal.h>

/*
 * Run rte_eal_init() so that no thread it creates takes a signal meant for
 * the Go runtime. Returns 0 or a negative errno.
 */
int dps_eal_init(int argc, char **argv);

#endif
