// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include "flow.h"
*/
import "C"

import (
	"slices"
	"unsafe"
)

// batchSize is how many rules go to C in one call: enough to make the call's cost vanish, few enough for their bytes to
// stay in the CPU's cache.
const batchSize = 64

// CreateBatch puts the rules into the NIC in order, in as few calls of C as is reasonable. It stops at the first rule
// that fails: then the handles are those of the rules before it, which stay installed, and the error is about
// rules[len(handles)]. It does not undo; package ruleset does.
func CreateBatch(port uint16, rules []Rule) ([]Handle, error) {
	b := batch{port: port, handles: make([]Handle, 0, len(rules)), encoder: newEncoder()}
	defer b.encoder.free()
	for len(rules) > 0 {
		n := min(batchSize, len(rules))
		if err := b.create(rules[:n]); err != nil {
			return b.handles, err
		}
		rules = rules[n:]
	}
	return b.handles, nil
}

// DestroyBatch removes rules in order, in one call of C. It stops at the first that fails and returns how many it has
// removed: their handles must not be used again, the others are still installed.
func DestroyBatch(port uint16, handles []Handle) (int, error) {
	n := len(handles)
	if none := slices.Index(handles, 0); none >= 0 {
		n = none
	}
	var cerr C.struct_rf_error
	var destroyed C.uint32_t
	rc := C.rf_destroy(C.uint16_t(port), (*C.uintptr_t)(unsafe.Pointer(unsafe.SliceData(handles))), C.uint32_t(n),
		&destroyed, &cerr)
	if rc >= 0 && n < len(handles) {
		return n, noRule("destroy", port)
	}
	return int(destroyed), callError("destroy", port, rc, &cerr)
}

type batch struct {
	port    uint16
	encoder *encoder
	handles []Handle
}

// create puts up to batchSize rules into the NIC. One that cannot be encoded lets those before it be created first.
func (b *batch) create(rules []Rule) error {
	b.encoder.buf = b.encoder.buf[:0]
	n := 0
	var invalid *Error
	for _, r := range rules {
		if invalid = b.encoder.rule(r); invalid != nil {
			break
		}
		n++
	}
	if err := b.call(rules[:n]); err != nil {
		return err
	}
	if invalid != nil {
		return invalid.in("create", b.port)
	}
	return nil
}

func (b *batch) call(rules []Rule) error {
	if len(rules) == 0 {
		return nil
	}
	var created C.uint32_t
	have := len(b.handles)
	room := b.handles[have : have+len(rules)]
	rc := C.rf_create(C.uint16_t(b.port), b.encoder.memory(), C.size_t(len(b.encoder.buf)), C.uint32_t(len(rules)),
		(*C.uintptr_t)(unsafe.Pointer(&room[0])), &created, &b.encoder.err)
	b.handles = b.handles[:have+int(created)]
	if rc >= 0 {
		return nil
	}
	return ruleError("create", b.port, rules[created], rc, &b.encoder.err)
}
