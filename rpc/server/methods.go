// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
	"dpservice/dpservice/status"
	"dpservice/dpservice/vnet"
	"dpservice/rpc/api"
)

// method is a method as the server calls it.
type method struct {
	class   access.Class
	size    int // bytes that a large answer usually needs at most; 0 for small answers
	prepare func(params json.RawMessage) (call, error)
}

// call is a call of a method with its parameters.
type call struct {
	asked    access.Request
	carryOut func(context.Context, *handler) (result any, err error)
}

// table holds the methods by name.
type table struct {
	classes map[string]api.Class
	methods map[string]method
}

// add adds a method. size is the method's.
func add[P, R any](t table, m api.Method[P, R], size int, f func(context.Context, P) (R, error)) {
	addOwn(t, m, size, func(ctx context.Context, _ *handler, params P) (R, error) { return f(ctx, params) })
}

// addOwn adds a method whose answer depends on who calls.
func addOwn[P, R any](t table, m api.Method[P, R], size int, f func(context.Context, *handler, P) (R, error)) {
	addAsking(t, m, size, asIs[P], func(P, *access.Request) {}, f)
}

// asIs parses params that mean what they say.
func asIs[P any](params P) (P, error) { return params, nil }

// addAsking adds a method that asks access about its parameters, too. They are parsed once, so that what is carried out
// is what was allowed.
func addAsking[P, Q, R any](t table, m api.Method[P, R], size int, parse func(P) (Q, error),
	asks func(Q, *access.Request), f func(context.Context, *handler, Q) (R, error)) {
	class := access.Class(t.classes[m.Name()])
	t.methods[m.Name()] = method{class: class, size: size, prepare: func(raw json.RawMessage) (call, error) {
		c := call{asked: access.Request{Method: m.Name(), Class: class}}
		var params P
		if err := decode(raw, &params); err != nil {
			return c, err
		}
		parsed, err := parse(params)
		if err != nil {
			return c, err
		}
		asks(parsed, &c.asked)
		c.carryOut = func(ctx context.Context, h *handler) (any, error) { return f(ctx, h, parsed) }
		return c, nil
	}}
}

// Sizes of answers that need much memory.
const (
	small = 0
	long  = 1 << 20
	huge  = 4 << 20
)

// methods returns every method of the API by its name.
func methods(services Services) map[string]method {
	c := calls{services}
	t := table{classes: map[string]api.Class{}, methods: map[string]method{}}
	for _, m := range api.Methods {
		t.classes[m.Name()] = m.Class
	}
	add(t, api.MethodSystemInfo, small, c.systemInfo)
	addOwn(t, api.MethodSystemAccess, small, systemAccess)
	add(t, api.MethodSystemReport, long, c.systemReport)
	add(t, api.MethodPortList, small, c.portList)
	add(t, api.MethodPortStats, huge, c.portStats)
	add(t, api.MethodInterfaceCreate, small, c.interfaceCreate)
	add(t, api.MethodInterfaceGet, small, c.interfaceGet)
	add(t, api.MethodInterfaceList, huge, c.interfaceList)
	add(t, api.MethodInterfaceDelete, small, c.interfaceDelete)
	add(t, api.MethodRouteAdd, small, c.routeAdd)
	add(t, api.MethodRouteList, huge, c.routeList)
	add(t, api.MethodRouteDelete, small, c.routeDelete)
	add(t, api.MethodFlowList, long, c.flowList)
	add(t, api.MethodFlowExplain, small, c.flowExplain)
	add(t, api.MethodRuleList, maxAnswer, c.ruleList)
	add(t, api.MethodGraphStats, small, c.graphStats)
	add(t, api.MethodGraphDOT, small, c.graphDOT)
	addAsking(t, api.MethodTraceStart, small, parseTrace, c.askTrace, c.traceStart)
	add(t, api.MethodTraceRead, small, c.traceRead)
	add(t, api.MethodTraceStop, small, c.traceStop)
	addAsking(t, api.MethodCaptureStart, small, c.parseStart, c.askStart, c.captureStart)
	addAsking(t, api.MethodCaptureStop, small, asIs[api.CaptureStopParams], c.askStop, c.captureStop)
	add(t, api.MethodCaptureStatus, small, c.captureStatus)
	add(t, api.MethodCaptureCapabilities, small, c.captureCapabilities)
	return t.methods
}

// calls carries out the methods by calling the services.
type calls struct{ Services }

func (c calls) systemInfo(context.Context, api.None) (api.SystemInfoResult, error) {
	return toSystemInfo(c.System.Info()), nil
}

func (c calls) systemReport(ctx context.Context, _ api.None) (api.SystemReportResult, error) {
	r, err := c.System.Report(ctx)
	return api.SystemReportResult{
		Configuration: r.Configuration, Log: list(r.Log),
		Check: convert(r.Check, func(f status.Finding) api.Finding { return api.Finding(f) }),
	}, err
}

func (c calls) portList(context.Context, api.None) (api.PortListResult, error) {
	return api.PortListResult{Ports: convert(c.Ports.List(), toPort)}, nil
}

func (c calls) portStats(_ context.Context, p api.PortStatsParams) (api.PortStatsResult, error) {
	stats, err := c.Ports.Stats(p.Port)
	return api.PortStatsResult{Ports: convert(stats, toPortStats)}, err
}

func (c calls) interfaceCreate(_ context.Context, p api.InterfaceCreateParams) (api.Interface, error) {
	r, err := parseCreate(p)
	if err != nil {
		return api.Interface{}, err
	}
	i, err := c.Interfaces.CreateInterface(r)
	return toInterface(i), err
}

func (c calls) interfaceGet(_ context.Context, p api.InterfaceID) (api.Interface, error) {
	i, err := c.Interfaces.Interface(p.ID)
	return toInterface(i), err
}

func (c calls) interfaceList(context.Context, api.None) (api.InterfaceListResult, error) {
	return api.InterfaceListResult{Interfaces: convert(c.Interfaces.Interfaces(), toInterface)}, nil
}

func (c calls) interfaceDelete(_ context.Context, p api.InterfaceID) (api.Done, error) {
	return api.Done{}, c.Interfaces.DeleteInterface(p.ID)
}

func (c calls) routeAdd(_ context.Context, p api.Route) (api.Route, error) {
	r, err := parseRoute(p)
	if err != nil {
		return api.Route{}, err
	}
	return toRoute(r), c.Routes.AddRoute(r)
}

func (c calls) routeList(_ context.Context, p api.RouteListParams) (api.RouteListResult, error) {
	routes := []vnet.Route{}
	for _, r := range c.Routes.Routes() {
		if p.VNI == nil || r.VNI == *p.VNI {
			routes = append(routes, r)
		}
	}
	return api.RouteListResult{Routes: convert(routes, toRoute)}, nil
}

func (c calls) routeDelete(_ context.Context, p api.RouteDeleteParams) (api.Done, error) {
	r, err := parseRoute(api.Route(p))
	if err != nil {
		return api.Done{}, err
	}
	return api.Done{}, c.Routes.DeleteRoute(r)
}

// flowList lists the flows that fit the filter. An answer may hold fewer flows than the limit, or none, although more
// follow: so it comes soon, however many flows there are.
func (c calls) flowList(_ context.Context, p api.FlowListParams) (api.FlowListResult, error) {
	limit, cursor, err := flowPage(p)
	if err != nil {
		return api.FlowListResult{}, err
	}
	fits, err := newFlowFilter(p.Filter)
	if err != nil {
		return api.FlowListResult{}, err
	}
	flows, next, err := c.Flows.Flows(cursor, limit, fits.match)
	if err != nil {
		return api.FlowListResult{}, err
	}
	result := api.FlowListResult{Flows: convert(flows, toFlow)}
	if next != 0 {
		result.NextCursor = strconv.FormatUint(next, 10)
	}
	return result, nil
}

func (c calls) flowExplain(_ context.Context, p api.FlowExplainParams) (api.FlowExplainResult, error) {
	r, err := parseExplain(p)
	if err != nil {
		return api.FlowExplainResult{}, err
	}
	x, err := c.Explain.Explain(r)
	return toExplanation(x), err
}

func (c calls) ruleList(_ context.Context, p api.RuleListParams) (api.RuleListResult, error) {
	rules, err := c.Rules.Rules(p.Port, p.Group)
	slices.SortFunc(rules, func(a, b status.Rule) int {
		return cmp.Or(cmp.Compare(a.PortID, b.PortID), cmp.Compare(a.Group, b.Group),
			cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
	})
	return api.RuleListResult{Rules: convert(rules, toRule)}, err
}

func (c calls) graphStats(context.Context, api.None) (api.GraphStatsResult, error) {
	return api.GraphStatsResult{
		Nodes: convert(c.Graph.Stats(), toNodeStats), Drops: convert(c.Graph.Drops(), toGraphDrops),
	}, nil
}

func (c calls) graphDOT(context.Context, api.None) (api.GraphDOTResult, error) {
	return api.GraphDOTResult{DOT: c.Graph.DOT()}, nil
}

func (c calls) traceStart(ctx context.Context, _ *handler, r status.TraceRequest) (api.TraceStartResult, error) {
	warnings, err := c.Trace.Start(ctx, r)
	return api.TraceStartResult{Warnings: convert(warnings, func(w string) string { return w })}, err
}

func (c calls) traceRead(ctx context.Context, _ api.None) (api.TraceReadResult, error) {
	r, err := c.Trace.Read(ctx)
	return api.TraceReadResult{Packets: convert(r.Packets, toTracedPacket), Missed: r.Missed, Ended: r.Ended}, err
}

func (c calls) traceStop(ctx context.Context, _ api.None) (api.Done, error) {
	return api.Done{}, c.Trace.Stop(ctx)
}

func (c calls) captureStart(ctx context.Context, _ *handler, r spec.Request) (api.CaptureSession, error) {
	session, err := c.Capture.Start(ctx, r)
	return toSession(session), err
}

func (c calls) captureStop(_ context.Context, _ *handler, p api.CaptureStopParams) (api.CaptureStopResult, error) {
	n, err := c.Capture.Stop(p.Name)
	return api.CaptureStopResult{StoppedInterfaces: n}, err
}

func (c calls) captureStatus(context.Context, api.None) (api.CaptureStatusResult, error) {
	waiting := c.Waiting() // first: one that is restored meanwhile is shown twice rather than not at all
	sessions, ended := c.Capture.Status()
	return api.CaptureStatusResult{
		Active: len(sessions) > 0, Sessions: convert(sessions, toSession), Waiting: convert(waiting, toSession),
		History: convert(ended, toSession),
	}, nil
}

func (c calls) captureCapabilities(context.Context, api.None) (api.CaptureCapabilitiesResult, error) {
	return api.CaptureCapabilitiesResult{Ports: convert(c.Capture.Capabilities(), toCapturePort)}, nil
}
