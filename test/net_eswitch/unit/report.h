/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_UNIT_REPORT_H
#define ESW_UNIT_REPORT_H

/* Says how much the tests have tried: on stdout, and for `make test` in the file of
 * DPSERVICE_TEST_REPORT. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
