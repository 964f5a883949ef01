// SPDX-License-Identifier: Apache-2.0

package api

// Code is the code of a JSON-RPC error.
type Code int64

// The codes of the protocol, as the JSON-RPC 2.0 specification assigns them.
const (
	CodeParseError     Code = -32700
	CodeInvalidRequest Code = -32600
	CodeMethodNotFound Code = -32601
	CodeInvalidParams  Code = -32602
	CodeInternalError  Code = -32603
)

// The codes of dpservice. Each has one reason, which the error's data names.
const (
	CodeNotFound         Code = -32001
	CodeAlreadyActive    Code = -32002
	CodeNotActive        Code = -32003
	CodeLimitReached     Code = -32004
	CodeNotSupported     Code = -32005
	CodeRuleRejected     Code = -32006
	CodeRollbackFailed   Code = -32007
	CodePermissionDenied Code = -32008
	CodeAlreadyExists    Code = -32009
	CodeTimedOut         Code = -32010 // of the connection, which is closed: it answers no request
)

// The reasons of errors with the protocol's own codes. A domain error's reason is the name of its
// code, for example NOT_FOUND.
const (
	ReasonParseError     = "PARSE_ERROR"
	ReasonInvalidRequest = "INVALID_REQUEST"
	ReasonMethodNotFound = "METHOD_NOT_FOUND"
	ReasonInvalidParams  = "INVALID_PARAMS"
	ReasonInternalError  = "INTERNAL_ERROR"
)

// The reasons with which a connection is refused or closed.
const (
	ReasonLimitReached = "LIMIT_REACHED"
	ReasonTimedOut     = "TIMED_OUT"
)

// ErrorData is the data of every error: what a program needs to decide what to do.
type ErrorData struct {
	Reason       string `json:"reason"`
	Interface    string `json:"interface,omitempty"`      // the interface, port or session that the error is about
	Rule         string `json:"rule,omitempty"`           // the refused rule in testpmd's flow syntax
	RTEFlowError string `json:"rte_flow_error,omitempty"` // what the driver said about it
	Errno        int    `json:"errno,omitempty"`
	MissingRule  string `json:"missing_rule,omitempty"` // the rule of access that would allow it, as a line of YAML
}
