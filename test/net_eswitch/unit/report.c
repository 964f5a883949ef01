/* SPDX-License-Identifier: Apache-2.0 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "report.h"

void
report(const char *format, ...)
{
	const char *path = getenv("DPSERVICE_TEST_REPORT");
	FILE *file = path == NULL || path[0] == '\0' ? NULL : fopen(path, "a");
	char line[200];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	printf("%s\n", line);
	if (file == NULL)
		return;
	fprintf(file, "%s\n", line);
	fclose(file);
}
