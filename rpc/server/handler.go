// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/sourcegraph/jsonrpc2"

	"dpservice/dpservice/fault"
	"dpservice/rpc/api"
)

// handler carries out the requests of one client, one at a time.
type handler struct {
	methods   map[string]method
	log       *slog.Logger
	mayChange bool // the client may call methods that change something
}

// Handle implements jsonrpc2.Handler.
func (h *handler) Handle(ctx context.Context, conn *jsonrpc2.Conn, req *jsonrpc2.Request) {
	result, err := h.call(ctx, req)
	if req.Notif {
		if err != nil {
			h.log.Debug("notification failed", "method", req.Method, "error", err)
		}
		return
	}
	resp := &jsonrpc2.Response{ID: req.ID}
	if err == nil {
		err = resp.SetResult(result)
	}
	if err != nil {
		resp.Error = toRPC(err)
	}
	if err := conn.SendResponse(ctx, resp); err != nil {
		h.log.Debug("answer not sent", "method", req.Method, "error", err)
	}
}

// call calls the method. A panic of the method costs the caller its answer, not the daemon its life.
func (h *handler) call(ctx context.Context, req *jsonrpc2.Request) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("method panicked", "method", req.Method, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s panicked: %v", req.Method, p)
		}
	}()
	m, ok := h.methods[req.Method]
	if !ok {
		return nil, newError(api.CodeMethodNotFound, api.ErrorData{Reason: api.ReasonMethodNotFound},
			fmt.Sprintf("no method %q", req.Method))
	}
	if m.changes && !h.mayChange {
		return nil, fault.New(fault.PermissionDenied, "",
			"%s is for root, the daemon's user and the members of the socket's group", req.Method)
	}
	var params json.RawMessage
	if req.Params != nil {
		params = *req.Params
	}
	return m.call(ctx, params)
}

// codes are the JSON-RPC codes of the reasons.
var codes = map[fault.Reason]api.Code{
	fault.NotFound:         api.CodeNotFound,
	fault.AlreadyActive:    api.CodeAlreadyActive,
	fault.NotActive:        api.CodeNotActive,
	fault.LimitReached:     api.CodeLimitReached,
	fault.NotSupported:     api.CodeNotSupported,
	fault.RuleRejected:     api.CodeRuleRejected,
	fault.RollbackFailed:   api.CodeRollbackFailed,
	fault.PermissionDenied: api.CodePermissionDenied,
	fault.AlreadyExists:    api.CodeAlreadyExists,
	fault.InvalidParams:    api.CodeInvalidParams,
}

// toRPC returns err as it crosses the API.
func toRPC(err error) *jsonrpc2.Error {
	var rpcErr *jsonrpc2.Error
	if errors.As(err, &rpcErr) {
		return rpcErr
	}
	var f *fault.Error
	if errors.As(err, &f) {
		if code, ok := codes[f.Reason]; ok {
			return newError(code, api.ErrorData{
				Reason:       string(f.Reason),
				Interface:    f.Interface,
				Rule:         f.Rule,
				RTEFlowError: f.RTEFlowError,
				Errno:        int(f.Errno),
			}, err.Error())
		}
	}
	return newError(api.CodeInternalError, api.ErrorData{Reason: api.ReasonInternalError}, "internal error: "+err.Error())
}

func newError(code api.Code, data api.ErrorData, message string) *jsonrpc2.Error {
	e := &jsonrpc2.Error{Code: int64(code), Message: message}
	e.SetError(data)
	return e
}
