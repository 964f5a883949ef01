// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
	"dpservice/dpservice/audit"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/status"
	"dpservice/rpc/api"
)

// Auditor writes down changes and denials. A *audit.Log is one. It must not block.
type Auditor interface {
	Request(audit.Request)
}

// SetAccess puts other rules of access in force, for clients that are connected, too.
func (s *Server) SetAccess(p *access.Policy) { s.access.Store(p) }

// permit returns an error if the client may not make a request.
func (h *handler) permit(r access.Request) error {
	err := h.access.Load().Decide(h.peer, r)
	if err == nil {
		return nil
	}
	named := h.peer
	named.User = access.UserName(named.UID) // which takes a while, so only for who reads it
	err = h.access.Load().Decide(named, r)
	var denied *access.Denied
	if !errors.As(err, &denied) {
		return err // nil, if the rules have changed meanwhile
	}
	f := fault.New(fault.PermissionDenied, "", "%s", denied.Reason)
	f.MissingRule = denied.Missing
	return f
}

// note has the auditor write down a request that was to change something, or was denied.
func (h *handler) note(r access.Request, params json.RawMessage, begun time.Time, err error) {
	denied := fault.Is(err, fault.PermissionDenied)
	if h.audit == nil || !r.Class.Changes() && !denied {
		return
	}
	noted := audit.Request{
		Method: r.Method, Peer: h.auditPeer, Params: params, Captures: r.Captures, Denied: denied, Result: "done",
		Duration: time.Since(begun),
	}
	if err != nil {
		var data api.ErrorData
		rpcErr := toRPC(err)
		if rpcErr.Data != nil && json.Unmarshal(*rpcErr.Data, &data) == nil {
			noted.Result, noted.MissingRule = data.Reason, data.MissingRule
		}
		noted.Error = rpcErr.Message
	}
	h.audit.Request(noted)
}

// askStart says which capture a client wants to start. Until it is started an interface may be deleted and created anew
// in another network, but only by somebody who may change interfaces.
func (c calls) askStart(r spec.Request, asked *access.Request) {
	asked.Starts = true
	asked.Captures = []access.Capture{{
		Name: r.Name, Sink: r.Sink, Targets: c.targets(r.Targets), Duration: r.Limits.Duration,
		PacketsPerSecond: r.Limits.PacketsPerSecond,
	}}
}

// askTrace says what a client wants to trace: it sees an interface's packets, as by a capture. It reads them itself, so
// a rule that names sinks does not allow it.
func (c calls) askTrace(r status.TraceRequest, asked *access.Request) {
	asked.Captures = []access.Capture{{Name: "trace", Targets: c.targets([]spec.Target{{VF: r.Interface}})}}
}

// askStop says which captures a client wants to stop. Of one that is not there only the name is known.
func (c calls) askStop(p api.CaptureStopParams, asked *access.Request) {
	sessions, _ := c.Capture.Status()
	for _, s := range slices.Concat(sessions, c.Waiting()) {
		if p.Name != "" && p.Name != s.Name {
			continue
		}
		stopped := access.Capture{Name: s.Name, Sink: s.Sink}
		var targets []spec.Target
		for _, i := range s.Interfaces {
			if !slices.Contains(targets, i.Target) {
				targets = append(targets, i.Target)
			}
		}
		stopped.Targets = c.targets(targets)
		asked.Captures = append(asked.Captures, stopped)
	}
	if len(asked.Captures) == 0 {
		asked.Captures = []access.Capture{{Name: cmp.Or(p.Name, "all captures")}}
	}
}

func (c calls) targets(of []spec.Target) []access.Target {
	targets := make([]access.Target, len(of))
	for i, t := range of {
		targets[i] = access.Target{Interface: t.VF, PF: t.PF}
		if found, err := c.Interfaces.Interface(t.VF); t.VF != "" && err == nil {
			targets[i].VNI = found.VNI
		}
	}
	return targets
}

// systemAccess says what the caller may do.
func systemAccess(_ context.Context, h *handler, _ api.None) (api.SystemAccessResult, error) {
	policy := h.access.Load()
	groups := slices.Sorted(slices.Values(h.peer.Groups))
	r := api.SystemAccessResult{
		UID: h.peer.UID, User: access.UserName(h.peer.UID), GIDs: list(slices.Compact(groups)),
		Configured: policy.Configured(), Grants: convert(policy.Grants(h.peer), toGrant), Methods: []string{},
	}
	for _, m := range api.Methods {
		if policy.Decide(h.peer, access.Request{Method: m.Name(), Class: access.Class(m.Class)}) == nil {
			r.Methods = append(r.Methods, m.Name())
		}
	}
	return r, nil
}

func toGrant(g access.Grant) api.AccessGrant {
	shown := api.AccessGrant{From: g.From, Allow: convert(g.Allow, func(c access.Class) string { return string(c) })}
	l := g.Limits
	if !l.Any() {
		return shown
	}
	shown.Captures = &api.AccessLimits{Interfaces: l.Interfaces, VNIs: l.VNIs, MaxPacketsPerSecond: l.MaxPacketsPerSecond}
	for _, p := range l.Sinks {
		shown.Captures.Sinks = append(shown.Captures.Sinks, p.String())
	}
	if l.MaxDuration != 0 {
		shown.Captures.MaxDuration = l.MaxDuration.String()
	}
	return shown
}
