// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"dpservice/dpservice/access"
	"dpservice/dpservice/audit"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/fence"
	"dpservice/rpc/api"
)

// handler carries out the requests of one client, one at a time.
type handler struct {
	ctx       context.Context // done when the client hangs up
	client    *client
	methods   map[string]method
	room      *room
	fence     *fence.Fence
	log       *slog.Logger
	access    *atomic.Pointer[access.Policy]
	peer      access.Peer
	audit     Auditor // nil if there is none
	auditPeer audit.Peer
}

// Handle implements jsonrpc2.Handler.
func (h *handler) Handle(_ context.Context, _ *jsonrpc2.Conn, req *jsonrpc2.Request) {
	held := &holding{room: h.room}
	defer held.release()
	answer, err := h.answer(req, held)
	switch {
	case req.Notif && err != nil:
		h.log.Debug("notification failed", "method", req.Method, "error", err)
	case req.Notif:
	case err != nil:
		err = h.client.Fail(encode(toRPC(err)))
	default:
		err = h.client.Answer(answer)
	}
	if err != nil {
		h.log.Debug("answer not sent", "method", req.Method, "error", err)
	}
}

// answer calls the method, and returns its result as JSON, for which held is large enough. A panic costs the caller its
// answer, not the daemon its life.
func (h *handler) answer(req *jsonrpc2.Request, held *holding) (answer json.RawMessage, err error) {
	m, ok := h.methods[req.Method]
	if !ok {
		return nil, newError(api.CodeMethodNotFound, api.ErrorData{Reason: api.ReasonMethodNotFound},
			fmt.Sprintf("no method %q", req.Method))
	}
	begun := time.Now()
	var params json.RawMessage
	if req.Params != nil {
		params = *req.Params
	}
	asked := access.Request{Method: req.Method, Class: m.class}
	panicked := h.fence.Do(req.Method, func() {
		var call call
		call, err = m.prepare(params)
		asked = call.asked
		// A client that may not call the method at all learns that first, even if its parameters are wrong.
		if denied := h.permit(asked); denied != nil {
			err = denied
		}
		if err == nil {
			answer, err = h.carryOut(m, call, held)
		}
	})
	err = errors.Join(panicked, err)
	h.note(asked, params, begun, err)
	return answer, err
}

// carryOut calls a method.
func (h *handler) carryOut(m method, c call, held *holding) (answer json.RawMessage, err error) {
	if err := held.resize(h.ctx, m.size); err != nil {
		return nil, err
	}
	result, err := c.carryOut(h.ctx, h)
	if err != nil {
		return nil, err
	}
	if answer, err = json.Marshal(result); err != nil {
		return nil, err
	}
	return answer, held.resize(h.ctx, len(answer))
}

// encode returns an error as JSON.
func encode(e *jsonrpc2.Error) json.RawMessage {
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
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
				MissingRule:  f.MissingRule,
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
