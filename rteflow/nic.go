// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include "flow.h"

// What these are given stays on Go's stack, and no driver calls Go.
#cgo noescape rf_create
#cgo nocallback rf_create
#cgo noescape rf_destroy
#cgo nocallback rf_destroy
#cgo noescape rf_query_count
#cgo nocallback rf_query_count
*/
import "C"

import (
	"syscall"
	"time"
	"unsafe"
)

// Handle identifies an installed rule. It is DPDK's own pointer, which Go must not follow; the zero Handle is no rule.
type Handle uintptr

// AgeState is what a rule's Age action knows.
type AgeState struct {
	Aged      bool
	Idle      time.Duration // since the last packet, in whole seconds
	IdleKnown bool
}

// NIC is the ports' rte_flow interface as a value, for packages that take an interface.
type NIC struct{}

// CreateBatch is the function of that name.
func (NIC) CreateBatch(port uint16, rules []Rule) ([]Handle, error) { return CreateBatch(port, rules) }

// DestroyBatch is the function of that name.
func (NIC) DestroyBatch(port uint16, handles []Handle) (int, error) {
	return DestroyBatch(port, handles)
}

// Query is the function of that name.
func (NIC) Query(port uint16, h Handle) (Counters, error) { return Query(port, h) }

// QueryAge is the function of that name.
func (NIC) QueryAge(port uint16, h Handle) (AgeState, error) { return QueryAge(port, h) }

// Create puts the rule into the NIC.
func Create(port uint16, r Rule) (Handle, error) {
	e := newEncoder()
	defer e.free()
	if err := e.rule(r); err != nil {
		return 0, err.in("create", port)
	}
	var flow C.uintptr_t
	var created C.uint32_t
	rc := C.rf_create(C.uint16_t(port), e.memory(), C.size_t(len(e.buf)), 1, &flow, &created, &e.err)
	return Handle(flow), ruleError("create", port, r, rc, &e.err)
}

// Destroy removes the rule. After success h must not be used again; after an error the rule is still installed.
func Destroy(port uint16, h Handle) error {
	_, err := DestroyBatch(port, []Handle{h})
	return err
}

// Query reads the rule's Count action; without one the driver refuses.
func Query(port uint16, h Handle) (Counters, error) {
	if h == 0 {
		return Counters{}, noRule("query", port)
	}
	var cerr C.struct_rf_error
	var packets, bytes C.uint64_t
	rc := C.rf_query_count(C.uint16_t(port), C.uintptr_t(h), &packets, &bytes, &cerr)
	return Counters{uint64(packets), uint64(bytes)}, callError("query", port, rc, &cerr)
}

// QueryAge reads the rule's Age action; without one the driver refuses.
func QueryAge(port uint16, h Handle) (AgeState, error) {
	if h == 0 {
		return AgeState{}, noRule("query_age", port)
	}
	var cerr C.struct_rf_error
	var age C.struct_rf_age
	rc := C.rf_query_age(C.uint16_t(port), C.uintptr_t(h), &age, &cerr)
	return ageState(&age), callError("query_age", port, rc, &cerr)
}

func ageState(age *C.struct_rf_age) AgeState {
	return AgeState{Aged: age.aged != 0, Idle: time.Duration(age.idle) * time.Second, IdleKnown: age.idle_known != 0}
}

// Isolate makes a stopped port receive only what rules name, or all again.
func Isolate(port uint16, on bool) error {
	var cerr C.struct_rf_error
	return callError("isolate", port, C.rf_isolate(C.uint16_t(port), C.int(flag(on)), &cerr), &cerr)
}

// Aged returns the contexts of the port's rules that aged since the last call. The rules stay installed until they are
// destroyed. For a rule with context 0 it returns the rule's Handle.
func Aged(port uint16) ([]uint64, error) {
	var cerr C.struct_rf_error
	n := C.rf_aged(C.uint16_t(port), nil, 0, &cerr)
	if n <= 0 {
		return nil, callError("get_aged_flows", port, n, &cerr)
	}
	contexts := make([]uint64, n)
	n = C.rf_aged(C.uint16_t(port), (*C.uint64_t)(&contexts[0]), C.uint32_t(len(contexts)), &cerr)
	if n < 0 {
		return nil, callError("get_aged_flows", port, n, &cerr)
	}
	return contexts[:min(int(n), len(contexts))], nil
}

// TransferProxy is the port through which the transfer rules of port are to be managed; mostly port itself.
func TransferProxy(port uint16) (uint16, error) {
	var cerr C.struct_rf_error
	var proxy C.uint16_t
	rc := C.rf_transfer_proxy(C.uint16_t(port), &proxy, &cerr)
	return uint16(proxy), callError("pick_transfer_proxy", port, rc, &cerr)
}

// memory is what the encoder has written, for one call of C, which changes it.
func (e *encoder) memory() *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(e.buf)) }

// ruleError is callError with the culprit found in the rule.
func ruleError(op string, port uint16, r Rule, rc C.int, cerr *C.struct_rf_error) error {
	if rc >= 0 {
		return nil
	}
	err := newError(op, port, rc, cerr)
	r = r.Whole()
	switch cerr.cause {
	case C.RF_CAUSE_ITEM:
		err.Cause = itemCause(r, int(cerr.index))
	case C.RF_CAUSE_ACTION:
		err.Cause = actionCause(r, int(cerr.index), int(cerr.sub))
	}
	return err
}

func callError(op string, port uint16, rc C.int, cerr *C.struct_rf_error) error {
	if rc >= 0 {
		return nil
	}
	return newError(op, port, rc, cerr)
}

func newError(op string, port uint16, rc C.int, cerr *C.struct_rf_error) *Error {
	return &Error{
		Op: op, Port: port, Type: ErrorType(cerr._type), Message: C.GoString(&cerr.message[0]), Errno: syscall.Errno(-rc),
	}
}

// in completes an error of the encoder.
func (e *Error) in(op string, port uint16) *Error {
	e.Op, e.Port = op, port
	return e
}

func noRule(op string, port uint16) *Error {
	return &Error{Op: op, Port: port, Type: ErrorHandle, Message: "no rule", Errno: syscall.EINVAL}
}
