/* SPDX-License-Identifier: Apache-2.0 */

/* The memory of rules' programs: in pieces while they are compiled, then in one. */

#include <stdlib.h>
#include <string.h>

#include "eswitch.h"

/* A program without steps, with room for as many as there may be. NULL without memory. */
struct esw_program *
esw_program_new(void)
{
	return calloc(1, sizeof(struct esw_program) + ESW_MAX_STEPS * sizeof(struct esw_step));
}

/* Frees a program and what belongs to it; NULL is fine. */
void
esw_program_free(struct esw_program *program)
{
	uint32_t i;

	if (program == NULL)
		return;
	for (i = 0; i < program->steps; i++) {
		if (program->step[i].op == ESW_OP_SAMPLE)
			esw_program_free(program->step[i].sample.program);
		else if (program->step[i].op == ESW_OP_ENCAP)
			free(program->step[i].encap);
	}
	free(program);
}

static size_t
steps_size(const struct esw_program *program)
{
	return sizeof(*program) + program->steps * sizeof(program->step[0]);
}

static size_t
encap_size(const struct esw_encap *encap)
{
	return RTE_ALIGN_CEIL(sizeof(*encap) + encap->size, sizeof(void *));
}

/* How many bytes esw_program_pack writes. */
size_t
esw_program_size(const struct esw_program *program)
{
	size_t size = steps_size(program);
	uint32_t i;

	for (i = 0; i < program->steps; i++) {
		if (program->step[i].op == ESW_OP_SAMPLE)
			size += esw_program_size(program->step[i].sample.program);
		else if (program->step[i].op == ESW_OP_ENCAP)
			size += encap_size(program->step[i].encap);
	}
	return size;
}

/* Copies a program, with what belongs to it right behind its steps; returns where that ends. */
void *
esw_program_pack(const struct esw_program *from, struct esw_program *to)
{
	uint8_t *end = (uint8_t *)to + steps_size(from);
	uint32_t i;

	memcpy(to, from, steps_size(from));
	for (i = 0; i < to->steps; i++) {
		struct esw_step *step = &to->step[i];
		const struct esw_step *old = &from->step[i];

		if (step->op == ESW_OP_SAMPLE) {
			step->sample.program = (struct esw_program *)end;
			end = esw_program_pack(old->sample.program, step->sample.program);
		} else if (step->op == ESW_OP_ENCAP) {
			step->encap = (struct esw_encap *)end;
			memcpy(end, old->encap, sizeof(*old->encap) + old->encap->size);
			end += encap_size(old->encap);
		}
	}
	return end;
}
