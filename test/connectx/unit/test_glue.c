/* SPDX-License-Identifier: Apache-2.0 */

/* The table that the driver gets, in the library as it is preloaded. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mlx5_glue.h"

#include "device.h"
#include "refused.h"

typedef void *(*pointer_entry)(void);
typedef int (*number_entry)(void);

#define REFUSED(name) { #name, (void *)(uintptr_t)mlx5_glue->name },

static uint32_t refusals;

static void
assert_refused(const char *name)
{
	char text[128];

	snprintf(text, sizeof(text), "mlx5_glue.%s", name);
	assert_int_equal(errno, ENOTSUP);
	assert_non_null(cx_refusal(refusals));
	assert_string_equal(cx_refusal(refusals), text);
	refusals++;
}

static void
unknown_entries_are_refused_by_name(void **state)
{
	const struct {
		const char *name;
		void *entry;
	} pointers[] = { CX_REFUSED_POINTERS(REFUSED) };
	const struct {
		const char *name;
		void *entry;
	} numbers[] = { CX_REFUSED_NUMBERS(REFUSED) };
	pointer_entry pointer;
	number_entry number;
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(pointers); i++) {
		memcpy(&pointer, &pointers[i].entry, sizeof(pointer));
		errno = 0;
		assert_null(pointer());
		assert_refused(pointers[i].name);
	}
	for (i = 0; i < RTE_DIM(numbers); i++) {
		memcpy(&number, &numbers[i].entry, sizeof(number));
		errno = 0;
		assert_int_equal(number(), ENOTSUP);
		assert_refused(numbers[i].name);
	}
	assert_null(cx_refusal(refusals));
}

static void
no_entry_is_missing(void **state)
{
	void *entry;
	size_t at;

	(void)state;
	for (at = sizeof(mlx5_glue->version); at < sizeof(*mlx5_glue); at += sizeof(entry)) {
		memcpy(&entry, (const char *)mlx5_glue + at, sizeof(entry));
		assert_non_null(entry);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_entries_are_refused_by_name),
		cmocka_unit_test(no_entry_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
