// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/dpservice/vnet"
	"dpservice/rpc/api"
)

// method is a method of the API.
type method struct {
	changes bool // it changes something, so not every client may call it
	size    int  // bytes that its answer usually takes at most, if these are many
	call    func(ctx context.Context, params json.RawMessage) (result any, err error)
}

// reads returns a method that changes nothing, with the parameters P and the result R.
func reads[P, R any](f func(context.Context, P) (R, error)) method {
	return method{call: func(ctx context.Context, raw json.RawMessage) (any, error) {
		var params P
		if err := decode(raw, &params); err != nil {
			return nil, err
		}
		return f(ctx, params)
	}}
}

// changes returns a method that changes something.
func changes[P, R any](f func(context.Context, P) (R, error)) method {
	m := reads(f)
	m.changes = true
	return m
}

// long returns a method whose answer may take so many bytes, and memory of that order to put together.
func long(size int, m method) method {
	m.size = size
	return m
}

// none are the parameters of a method that takes none.
type none struct{}

// calls carries out the methods by calling the services.
type calls struct{ Services }

// methods returns every method of the API by its name.
func methods(services Services) map[string]method {
	c := calls{services}
	return map[string]method{
		api.MethodSystemInfo:          reads(c.systemInfo),
		api.MethodPortList:            reads(c.portList),
		api.MethodPortStats:           long(4<<20, reads(c.portStats)),
		api.MethodInterfaceCreate:     changes(c.interfaceCreate),
		api.MethodInterfaceGet:        reads(c.interfaceGet),
		api.MethodInterfaceList:       long(4<<20, reads(c.interfaceList)),
		api.MethodInterfaceDelete:     changes(c.interfaceDelete),
		api.MethodRouteAdd:            changes(c.routeAdd),
		api.MethodRouteList:           long(4<<20, reads(c.routeList)),
		api.MethodRouteDelete:         changes(c.routeDelete),
		api.MethodFlowList:            long(1<<20, reads(c.flowList)),
		api.MethodRuleList:            long(maxAnswer, reads(c.ruleList)),
		api.MethodGraphStats:          reads(c.graphStats),
		api.MethodGraphDOT:            reads(c.graphDOT),
		api.MethodCaptureStart:        changes(c.captureStart),
		api.MethodCaptureStop:         changes(c.captureStop),
		api.MethodCaptureStatus:       reads(c.captureStatus),
		api.MethodCaptureCapabilities: reads(c.captureCapabilities),
	}
}

func (c calls) systemInfo(context.Context, none) (api.SystemInfoResult, error) {
	info := c.System.Info()
	info.APIVersion = api.Version
	info.Lcores.Workers = list(info.Lcores.Workers)
	return info, nil
}

func (c calls) portList(context.Context, none) (api.PortListResult, error) {
	return api.PortListResult{Ports: convert(c.Ports.List(), toPort)}, nil
}

func (c calls) portStats(_ context.Context, p api.PortStatsParams) (api.PortStatsResult, error) {
	stats, err := c.Ports.Stats(p.Port)
	return api.PortStatsResult{Ports: convert(stats, toPortStats)}, err
}

func (c calls) interfaceCreate(_ context.Context, p api.InterfaceCreateParams) (api.Interface, error) {
	r := vnet.CreateRequest{ID: p.ID, Device: p.Device, VNI: p.VNI, Hostname: p.Hostname}
	if p.PXE != nil {
		r.PXE = vnet.PXE(*p.PXE)
	}
	var err error
	if r.IPv4, err = parseAddr("ipv4", p.IPv4); err != nil {
		return api.Interface{}, err
	}
	if r.IPv6, err = parseAddr("ipv6", p.IPv6); err != nil {
		return api.Interface{}, err
	}
	if r.UnderlayIP, err = parseAddr("underlay_ip", p.UnderlayIP); err != nil {
		return api.Interface{}, err
	}
	if r.GuestMAC, err = parseMAC("mac", p.MAC); err != nil {
		return api.Interface{}, err
	}
	i, err := c.Interfaces.CreateInterface(r)
	return toInterface(i), err
}

func (c calls) interfaceGet(_ context.Context, p api.InterfaceID) (api.Interface, error) {
	i, err := c.Interfaces.Interface(p.ID)
	return toInterface(i), err
}

func (c calls) interfaceList(context.Context, none) (api.InterfaceListResult, error) {
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

// parseRoute returns the route that p describes, with a zero next hop if p has none.
func parseRoute(p api.Route) (vnet.Route, error) {
	prefix, err := netip.ParsePrefix(p.Prefix)
	if err != nil {
		return vnet.Route{}, invalid("field %q: %q is not an IP prefix, such as 10.0.0.0/24", "prefix", p.Prefix)
	}
	hop, err := parseAddr("next_hop_ip", p.NextHopIP)
	return vnet.Route{VNI: p.VNI, Prefix: prefix, NextHopVNI: p.NextHopVNI, NextHopIP: hop}, err
}

func (c calls) ruleList(_ context.Context, p api.RuleListParams) (api.RuleListResult, error) {
	rules, err := c.Rules.Rules(p)
	slices.SortFunc(rules, func(a, b api.Rule) int {
		return cmp.Or(cmp.Compare(a.PortID, b.PortID), cmp.Compare(a.Group, b.Group),
			cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
	})
	return api.RuleListResult{Rules: list(rules)}, err
}

func (c calls) graphStats(context.Context, none) (api.GraphStatsResult, error) {
	return api.GraphStatsResult{Nodes: list(c.Graph.Stats())}, nil
}

func (c calls) graphDOT(context.Context, none) (api.GraphDOTResult, error) {
	return api.GraphDOTResult{DOT: c.Graph.DOT()}, nil
}

func (c calls) captureStart(ctx context.Context, p api.CaptureStartParams) (api.CaptureSession, error) {
	sink, err := parseAddr("sink_node_ip", p.SinkNodeIP)
	if err != nil {
		return api.CaptureSession{}, err
	}
	r := spec.Request{
		Name:       p.Name,
		Sink:       sink,
		UDPSrcPort: p.UDPSrcPort,
		UDPDstPort: p.UDPDstPort,
		Encap:      spec.Encap(p.Encap),
		Direction:  spec.Direction(p.Direction),
		Filter:     p.Filter,
		DryRun:     p.DryRun,
	}
	if r.Limits, err = parseLimits(p.Limits); err != nil {
		return api.CaptureSession{}, err
	}
	for i, target := range p.Interfaces {
		switch {
		case target.VF != "" && target.PF == nil:
			r.Targets = append(r.Targets, spec.Target{VF: target.VF})
		case target.VF == "" && target.PF != nil:
			r.Targets = append(r.Targets, spec.Target{PF: *target.PF})
		default:
			return api.CaptureSession{}, invalid(`field "interfaces[%d]": want either "vf", an interface's id, or "pf", a number`, i)
		}
	}
	session, err := c.Capture.Start(ctx, r)
	return toSession(session), err
}

func (c calls) captureStop(_ context.Context, p api.CaptureStopParams) (api.CaptureStopResult, error) {
	n, err := c.Capture.Stop(p.Name)
	return api.CaptureStopResult{StoppedInterfaces: n}, err
}

func (c calls) captureStatus(context.Context, none) (api.CaptureStatusResult, error) {
	sessions, ended := c.Capture.Status()
	return api.CaptureStatusResult{
		Active: len(sessions) > 0, Sessions: convert(sessions, toSession), History: convert(ended, toSession),
	}, nil
}

func (c calls) captureCapabilities(context.Context, none) (api.CaptureCapabilitiesResult, error) {
	return api.CaptureCapabilitiesResult{Ports: convert(c.Capture.Capabilities(), toCapturePort)}, nil
}

// parseLimits returns the limits of a request, none if it has none.
func parseLimits(p *api.CaptureLimits) (spec.Limits, error) {
	if p == nil {
		return spec.Limits{}, nil
	}
	limits := spec.Limits{Packets: p.Packets, Bytes: p.Bytes}
	if p.Duration == "" {
		return limits, nil
	}
	d, err := time.ParseDuration(p.Duration)
	if err != nil || d <= 0 {
		return limits, invalid("field %q: %q is not a duration, such as 30s", "limits.duration", p.Duration)
	}
	limits.Duration = d
	return limits, nil
}

func linkOf(p port.Port) string {
	if p.Removed {
		return "removed"
	}
	return api.LinkState(p.LinkUp)
}

func toPort(p port.Port) api.Port {
	return api.Port{
		ID:           p.ID,
		Name:         p.Name,
		Role:         string(p.Role),
		Index:        p.Index,
		SwitchDomain: p.SwitchDomain,
		MAC:          p.MAC.String(),
		MTU:          p.MTU,
		Link:         linkOf(p),
		Started:      p.Started,
	}
}

func toPortStats(s port.Stats) api.PortStats {
	stats := api.PortStats{
		ID:         s.Port.ID,
		Name:       s.Port.Name,
		RxPackets:  s.RxPackets,
		RxBytes:    s.RxBytes,
		RxErrors:   s.RxErrors,
		RxMissed:   s.RxMissed,
		RxNoBuffer: s.RxNoMbuf,
		TxPackets:  s.TxPackets,
		TxBytes:    s.TxBytes,
		TxErrors:   s.TxErrors,
		Xstats:     make(map[string]uint64, len(s.Xstats)),
	}
	for _, x := range s.Xstats {
		stats.Xstats[x.Name] = x.Value
	}
	return stats
}

func toInterface(i vnet.Interface) api.Interface {
	a := api.Interface{
		ID:         i.ID,
		Device:     i.Device,
		VNI:        i.VNI,
		IPv4:       text(i.IPv4),
		IPv6:       text(i.IPv6),
		UnderlayIP: text(i.UnderlayIP),
		Hostname:   i.Hostname,
	}
	if i.PXE != (vnet.PXE{}) {
		a.PXE = (*api.PXE)(&i.PXE)
	}
	return a
}

func toRoute(r vnet.Route) api.Route {
	return api.Route{VNI: r.VNI, Prefix: r.Prefix.String(), NextHopVNI: r.NextHopVNI, NextHopIP: text(r.NextHopIP)}
}

func toSession(s spec.Session) api.CaptureSession {
	session := api.CaptureSession{
		Name:       s.Name,
		State:      string(s.State),
		SinkNodeIP: text(s.Sink),
		UDPSrcPort: s.UDPSrcPort,
		UDPDstPort: s.UDPDstPort,
		Encap:      string(s.Encap),
		Direction:  string(s.Direction),
		EndReason:  string(s.EndReason),
		Filter:     s.Filter,
		Limits:     toLimits(s.Limits),
		Packets:    s.Packets,
		Bytes:      s.Bytes,
		Interfaces: convert(s.Interfaces, toCaptureInterface),
		Warnings:   list(s.Warnings),
		Plan:       s.Plan,
	}
	if !s.EndedAt.IsZero() {
		at := s.EndedAt.UTC()
		session.EndedAt = &at
	}
	if !s.StartedAt.IsZero() { // a dry run starts nothing
		at := s.StartedAt.UTC()
		session.StartedAt = &at
	}
	return session
}

func toCaptureInterface(i spec.SessionInterface) api.CaptureInterface {
	target := api.CaptureTarget{VF: i.VF}
	if i.VF == "" {
		target.PF = &i.PF
	}
	return api.CaptureInterface{
		CaptureTarget: target, Direction: string(i.Direction), Mode: string(i.Mode), Port: i.Port, Label: i.Label, Packets: i.Packets, Bytes: i.Bytes, Rules: convert(i.Rules, toCaptureRule),
	}
}

func toCaptureRule(r spec.SessionRule) api.CaptureRule {
	action := "pass"
	if r.Sample {
		action = "sample"
	}
	return api.CaptureRule{Pattern: r.Pattern, Action: action, Packets: r.Packets, Bytes: r.Bytes}
}

// toLimits returns nil where there are none.
func toLimits(l spec.Limits) *api.CaptureLimits {
	if l == (spec.Limits{}) {
		return nil
	}
	limits := &api.CaptureLimits{Packets: l.Packets, Bytes: l.Bytes}
	if l.Duration > 0 {
		limits.Duration = l.Duration.String()
	}
	return limits
}

func toCapturePort(p spec.PortCapabilities) api.CapturePort {
	return api.CapturePort{
		Port: p.Port.Name, Role: string(p.Port.Role), Mode: string(p.Mode), RX: api.Capability(p.RX), TX: api.Capability(p.TX),
		Encaps: convert(p.Encaps, toCapability), Filter: convert(p.Filter, toCapability),
	}
}

func toCapability(c spec.Capability) api.Capability { return api.Capability(c) }
