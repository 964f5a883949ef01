/* SPDX-License-Identifier: Apache-2.0 */

#include <stdarg.h>
#include <stdio.h>

#include "eswitch.h"

/*
 * Fills error, sets rte_errno and returns -code. The message, which names what is refused, stays as
 * it is until the thread's next refused call.
 */
int
esw_flow_error(struct rte_flow_error *error, int code, enum rte_flow_error_type type,
	       const void *cause, const char *format, ...)
{
	static __thread char message[160];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	return rte_flow_error_set(error, code, type, cause, message);
}
