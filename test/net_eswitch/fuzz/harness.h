/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_FUZZ_HARNESS_H
#define ESW_FUZZ_HARNESS_H

#include <stddef.h>

#include "../eswitch.h"

/* A NIC without far sides to speak of, whose pipeline the fuzzer itself runs. */
struct harness {
	uint16_t pf0, vf0, vf1; /* its ports; they are started, with a queue each */
	struct esw_port *from;  /* vf0's */
	struct esw_output *out;
	struct rte_mempool *pool;
};

extern struct harness harness;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what is wrong, and ends the process as a crash. */
void harness_require(bool ok, const char *what);

/* Runs a packet that came from vf0's far side through the rules, and takes what the application
 * gets. */
void harness_run(struct rte_mbuf *m);

/* The input, read from its begin on; behind its end all is 0. */
struct input {
	const uint8_t *data;
	size_t size;
};

void input_bytes(struct input *in, void *out, size_t n);
uint8_t input_byte(struct input *in);

#endif
