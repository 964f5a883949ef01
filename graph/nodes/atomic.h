/* SPDX-License-Identifier: Apache-2.0 */
/* What threads share without a lock; the test NICs use it, too.
 *
 * Go never uses an _Atomic member: cgo asks for DWARF 2, which has no atomic types, so Go would see
 * a plain member and access it as one. Go gets copies (struct flow_info, flow_table, tap_counters).
 */
#ifndef NODES_ATOMIC_H
#define NODES_ATOMIC_H

#include <stdatomic.h>

#define load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define store_relaxed(p, value) atomic_store_explicit((p), (value), memory_order_relaxed)

/* Adds to what only the calling thread writes: a load and a store, which cost less than a
 * locked instruction. Evaluates p twice. */
#define add_as_only_writer(p, n) store_relaxed((p), load_relaxed(p) + (n))

#endif
