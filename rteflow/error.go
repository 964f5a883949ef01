// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"fmt"
	"strings"
	"syscall"
)

// ErrorType says what part of a rule, or of the device, a driver objects to (enum rte_flow_error_type).
type ErrorType int

// The error types.
const (
	ErrorNone ErrorType = iota
	ErrorUnspecified
	ErrorHandle
	ErrorGroup
	ErrorPriority
	ErrorIngress
	ErrorEgress
	ErrorTransfer
	ErrorAttr
	ErrorItemNum
	ErrorItemSpec
	ErrorItemLast
	ErrorItemMask
	ErrorItem
	ErrorActionNum
	ErrorActionConf
	ErrorAction
	ErrorState
)

var errorTypes = [...]string{
	"none", "unspecified", "handle", "group", "priority", "ingress", "egress", "transfer", "attr", "item_num",
	"item_spec", "item_last", "item_mask", "item", "action_num", "action_conf", "action", "state",
}

func (t ErrorType) String() string {
	if t < 0 || int(t) >= len(errorTypes) {
		return fmt.Sprintf("type %d", int(t))
	}
	return errorTypes[t]
}

// Error is what rte_flow said about a call that failed. It wraps Errno, so errors.Is(err, syscall.ENOTSUP) works.
type Error struct {
	Op      string // "create", "validate", ...
	Port    uint16
	Type    ErrorType
	Message string // the driver's words; may be empty
	Errno   syscall.Errno
	Cause   string // the item or action at fault, as in "action 2: sample"; empty if the driver did not say
}

// Error is one line with all there is.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rte_flow %s on port %d: ", e.Op, e.Port)
	if e.Cause != "" {
		b.WriteString(e.Cause + ": ")
	}
	if e.Message != "" {
		b.WriteString(e.Message + ": ")
	}
	b.WriteString(e.Errno.Error())
	if e.Type != ErrorNone && e.Type != ErrorUnspecified {
		fmt.Fprintf(&b, " (%s)", e.Type)
	}
	return b.String()
}

// Reason is what the driver said: the error's type and its message, if there was one.
func (e *Error) Reason() string {
	if e.Message == "" {
		return e.Type.String()
	}
	return e.Type.String() + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Errno }

func itemCause(r Rule, i int) string {
	if i < 0 || i >= len(r.Pattern) {
		return fmt.Sprintf("item %d: end", i)
	}
	return fmt.Sprintf("item %d: %s", i, itemName(r.Pattern[i]))
}

// actionCause names action i or, with sub not negative, the sample's action sub within it.
func actionCause(r Rule, i, sub int) string {
	if i < 0 || i >= len(r.Actions) {
		return fmt.Sprintf("action %d: end", i)
	}
	cause := fmt.Sprintf("action %d: %s", i, actionName(r.Actions[i]))
	s, ok := r.Actions[i].(Sample)
	if !ok || sub < 0 {
		return cause
	}
	if sub >= len(s.Actions) {
		return fmt.Sprintf("%s: action %d: end", cause, sub)
	}
	return fmt.Sprintf("%s: action %d: %s", cause, sub, actionName(s.Actions[sub]))
}
