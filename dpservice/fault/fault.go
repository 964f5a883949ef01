// SPDX-License-Identifier: Apache-2.0

// Package fault holds the error type with which the dataplane and the captures refuse a request. Programs decide by
// Reason, people read Error().
package fault

import (
	"errors"
	"fmt"
	"syscall"
)

// Reason is the machine-readable cause of a refused or failed request.
type Reason string

// The reasons that cross the API. Their JSON-RPC codes are assigned in package rpc.
const (
	NotFound         Reason = "NOT_FOUND"
	AlreadyActive    Reason = "ALREADY_ACTIVE"
	NotActive        Reason = "NOT_ACTIVE"
	LimitReached     Reason = "LIMIT_REACHED"
	NotSupported     Reason = "NOT_SUPPORTED"
	RuleRejected     Reason = "RULE_REJECTED"
	RollbackFailed   Reason = "ROLLBACK_FAILED"
	PermissionDenied Reason = "PERMISSION_DENIED"
	AlreadyExists    Reason = "ALREADY_EXISTS"
	InvalidParams    Reason = "INVALID_PARAMS"
)

// Error says why a request was not carried out.
type Error struct {
	Reason    Reason
	Interface string // the interface, port or session that the error is about; empty if there is none
	Message   string // for people: what is wrong and what to do
	Err       error  // the cause; nil if there is none

	// What the NIC said, when it refused a rule (RuleRejected, RollbackFailed).
	Rule         string        // the rule, in testpmd's flow syntax
	RTEFlowError string        // rte_flow_error: type and message
	Errno        syscall.Errno // 0 if there is none

	MissingRule string // the rule of access that would allow it, as a line of the configuration (PermissionDenied)
}

// New returns an Error without a cause.
func New(reason Reason, iface, format string, args ...any) *Error {
	return &Error{Reason: reason, Interface: iface, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error caused by err.
func Wrap(err error, reason Reason, iface, format string, args ...any) *Error {
	return &Error{Reason: reason, Interface: iface, Message: fmt.Sprintf(format, args...), Err: err}
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether err is an Error with this reason, however deeply wrapped.
func Is(err error, reason Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}
