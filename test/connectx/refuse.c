/* SPDX-License-Identifier: Apache-2.0 */

/* What the card does not know: said once each, so that it is seen, and kept for the telemetry. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

#define MAX_REFUSALS 64
#define MAX_TEXT 160

static char texts[MAX_REFUSALS][MAX_TEXT];
static uint32_t n;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int
cx_refuse(int code, const char *format, ...)
{
	char text[MAX_TEXT];
	bool news = false;
	va_list args;
	uint32_t i;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	for (i = 0; i < n && strcmp(texts[i], text) != 0; i++)
		;
	if (i == n && n < MAX_REFUSALS) {
		strcpy(texts[n++], text);
		news = true;
	}
	pthread_mutex_unlock(&lock);
	if (news)
		fprintf(stderr, "connectx: refused: %s\n", text);
	errno = code;
	return code;
}

const char *
cx_refusal(uint32_t at)
{
	const char *text;

	pthread_mutex_lock(&lock);
	text = at < n ? texts[at] : NULL;
	pthread_mutex_unlock(&lock);
	return text;
}
