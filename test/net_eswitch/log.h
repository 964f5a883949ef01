/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_LOG_H
#define ESW_LOG_H

#include <rte_log.h>

extern int esw_logtype;

#define ESW_LOG(level, ...) \
	rte_log(RTE_LOG_##level, esw_logtype, "net_eswitch: " RTE_FMT(__VA_ARGS__, ))

#endif
