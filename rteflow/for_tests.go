// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include <stdlib.h>
#include "flow.h"

#cgo noescape rf_validate
#cgo nocallback rf_validate
*/
import "C"

import (
	"bytes"
	"fmt"
	"strings"
	"unsafe"
)

// This file has what only tests use. It is no test file, since those may not call C and tests of other packages use it
// too.

// Validate asks the driver whether it would create the rule.
func Validate(port uint16, r Rule) error {
	e := newEncoder()
	defer e.free()
	if err := e.rule(r); err != nil {
		return err.in("validate", port)
	}
	rc := C.rf_validate(C.uint16_t(port), e.memory(), C.size_t(len(e.buf)), &e.err)
	return ruleError("validate", port, r, rc, &e.err)
}

// Encoded is the rule in the form that C takes.
func Encoded(r Rule) ([]byte, error) {
	e := newEncoder()
	defer e.free()
	if err := e.rule(r); err != nil {
		return nil, err
	}
	return bytes.Clone(e.buf), nil
}

// Encode encodes rules, and that is all.
func Encode(rules []Rule) error {
	e := newEncoder()
	defer e.free()
	for _, r := range rules {
		e.buf = e.buf[:0]
		if err := e.rule(r); err != nil {
			return err
		}
	}
	return nil
}

// DevDump is the driver's own words about the rules of the port, for humans and for tests.
func DevDump(port uint16) (string, error) {
	var cerr C.struct_rf_error
	text := new(*C.char)
	var size C.size_t
	rc := C.rf_dev_dump(C.uint16_t(port), text, &size, &cerr)
	defer C.free(unsafe.Pointer(*text))
	return C.GoStringN(*text, C.int(size)), callError("dev_dump", port, rc, &cerr)
}

// Flush removes all of the port's rules, whoever created them. Their handles must not be used again.
func Flush(port uint16) error {
	var cerr C.struct_rf_error
	return callError("flush", port, C.rf_flush(C.uint16_t(port), &cerr), &cerr)
}

// IndirectHandle identifies an action that rules share by Indirect. It is DPDK's own pointer, which Go must not follow;
// the zero IndirectHandle is no action.
type IndirectHandle uintptr

// CreateIndirect makes an action, mostly Count or Age, that rules of the domain (Ingress, Egress, Transfer) of attr can
// share.
func CreateIndirect(port uint16, attr Attr, a Action) (IndirectHandle, error) {
	const op = "action_handle_create"
	r := Rule{Attr: attr, Actions: []Action{a}}
	e := newEncoder()
	defer e.free()
	if err := e.rule(r); err != nil {
		return 0, err.in(op, port)
	}
	var handle C.uintptr_t
	rc := C.rf_indirect_create(C.uint16_t(port), e.memory(), C.size_t(len(e.buf)), &handle, &e.err)
	return IndirectHandle(handle), ruleError(op, port, r, rc, &e.err)
}

// DestroyIndirect removes the action. Drivers refuse as long as a rule uses it.
func DestroyIndirect(port uint16, h IndirectHandle) error {
	if h == 0 {
		return noRule("action_handle_destroy", port)
	}
	var cerr C.struct_rf_error
	rc := C.rf_indirect_destroy(C.uint16_t(port), C.uintptr_t(h), &cerr)
	return callError("action_handle_destroy", port, rc, &cerr)
}

// QueryIndirect reads an action that was created as a Count. DPDK does not know what a handle is a handle of: for any
// other action the answer means nothing.
func QueryIndirect(port uint16, h IndirectHandle) (Counters, error) {
	if h == 0 {
		return Counters{}, noRule("action_handle_query", port)
	}
	var cerr C.struct_rf_error
	var packets, bytes C.uint64_t
	rc := C.rf_indirect_query_count(C.uint16_t(port), C.uintptr_t(h), &packets, &bytes, &cerr)
	return Counters{uint64(packets), uint64(bytes)}, callError("action_handle_query", port, rc, &cerr)
}

// QueryIndirectAge reads an action that was created as an Age; see QueryIndirect.
func QueryIndirectAge(port uint16, h IndirectHandle) (AgeState, error) {
	if h == 0 {
		return AgeState{}, noRule("action_handle_query", port)
	}
	var cerr C.struct_rf_error
	var age C.struct_rf_age
	rc := C.rf_indirect_query_age(C.uint16_t(port), C.uintptr_t(h), &age, &cerr)
	return ageState(&age), callError("action_handle_query", port, rc, &cerr)
}

// IndirectCommand is the line for dpdk-testpmd that creates the action under the number that Indirect.ID refers to.
func IndirectCommand(port uint16, id uint32, attr Attr, a Action) string {
	words := []string{fmt.Sprintf("flow indirect_action %d create action_id %d", port, id)}
	words = append(words, attr.domains()...)
	return strings.Join(append(words, "action", closed((&printer{}).action(a))), " ")
}
