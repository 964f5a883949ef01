/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rules' programs. A draft is compiled of a rule's actions; rules whose drafts are alike share one
 * program, so that the many flows to a peer do not fill the cache with copies of its header.
 */

#include <stdlib.h>
#include <string.h>

#include <rte_hash_crc.h>

#include "eswitch.h"

#define MIN_BUCKETS 64

/* A program and who has it. */
struct esw_shared {
	struct esw_shared *next; /* in the bucket */
	uint32_t hash;
	uint32_t users;
	struct esw_program program; /* last: its steps follow */
};

/* Room for size bytes of a step's, at the offset that the program's reader is to be given. NULL:
 * there is no more. */
void *
esw_draft_room(struct esw_draft *draft, size_t size, uint32_t *at)
{
	size_t room = RTE_ALIGN_CEIL(size, sizeof(uint64_t));

	if (room > sizeof(draft->data) - draft->size)
		return NULL;
	*at = draft->size;
	draft->size += room;
	return memset(&draft->data[*at], 0, room);
}

/* How many bytes esw_draft_pack writes. */
size_t
esw_draft_packed(const struct esw_draft *draft)
{
	return sizeof(struct esw_program) + draft->steps * sizeof(draft->step[0]) + draft->size;
}

/* Makes a program of the draft. */
void
esw_draft_pack(const struct esw_draft *draft, struct esw_program *program)
{
	program->next = draft->next;
	program->steps = draft->steps;
	program->size = esw_draft_packed(draft);
	memcpy(program->step, draft->step, draft->steps * sizeof(draft->step[0]));
	memcpy(&program->step[draft->steps], draft->data, draft->size);
}

/* Doubles the table when there are as many programs as buckets. */
static int
make_room(struct esw_programs *all)
{
	uint32_t i, n = all->buckets == 0 ? MIN_BUCKETS : 2 * all->buckets;
	struct esw_shared **bucket, *shared, *next;

	if (all->n < all->buckets)
		return 0;
	bucket = calloc(n, sizeof(*bucket));
	if (bucket == NULL)
		return -ENOMEM;
	for (i = 0; i < all->buckets; i++) {
		for (shared = all->bucket[i]; shared != NULL; shared = next) {
			next = shared->next;
			shared->next = bucket[shared->hash % n];
			bucket[shared->hash % n] = shared;
		}
	}
	free(all->bucket);
	all->bucket = bucket;
	all->buckets = n;
	return 0;
}

static struct esw_shared *
find(const struct esw_programs *all, const struct esw_shared *like)
{
	struct esw_shared *shared;

	for (shared = all->bucket[like->hash % all->buckets]; shared != NULL; shared = shared->next)
		if (shared->hash == like->hash && shared->program.size == like->program.size &&
		    memcmp(&shared->program, &like->program, like->program.size) == 0)
			return shared;
	return NULL;
}

/* The program of all rules with such a draft, until esw_program_put. NULL without memory. */
const struct esw_program *
esw_program_get(struct esw_programs *all, const struct esw_draft *draft)
{
	struct esw_shared *shared =
		malloc(offsetof(struct esw_shared, program) + esw_draft_packed(draft));
	struct esw_shared *old;

	if (shared == NULL || make_room(all) < 0) {
		free(shared);
		return NULL;
	}
	esw_draft_pack(draft, &shared->program);
	shared->hash = rte_hash_crc(&shared->program, shared->program.size, 0);
	old = find(all, shared);
	if (old != NULL) {
		free(shared);
		old->users++;
		return &old->program;
	}
	shared->users = 1;
	shared->next = all->bucket[shared->hash % all->buckets];
	all->bucket[shared->hash % all->buckets] = shared;
	all->n++;
	return &shared->program;
}

/* A rule with this program, which the pipeline has left, is no more. */
void
esw_program_put(struct esw_programs *all, const struct esw_program *program)
{
	struct esw_shared *shared = container_of(program, struct esw_shared, program);
	struct esw_shared **at = &all->bucket[shared->hash % all->buckets];

	if (--shared->users > 0)
		return;
	while (*at != shared)
		at = &(*at)->next;
	*at = shared->next;
	all->n--;
	free(shared);
}

/* Frees the table; no program is in use. */
void
esw_programs_free(struct esw_programs *all)
{
	free(all->bucket);
}
