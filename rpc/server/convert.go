// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"strconv"
	"time"

	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/dpservice/status"
	"dpservice/dpservice/uplink"
	"dpservice/dpservice/vnet"
	"dpservice/rpc/api"
	"dpservice/wire"
)

// This file converts between the domain's values and the API's. What comes from a client is parsed, with errors that
// name the field.

// convert applies f to every element. The result is never nil, so that it is [] in JSON and not null.
func convert[T, R any](in []T, f func(T) R) []R {
	out := make([]R, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

// list returns in, but never nil, so that it is [] in JSON and not null.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

// text returns the address for people and programs; empty for the zero Addr.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// parseAddr returns the address in a field; the zero Addr for an empty one.
func parseAddr(field, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Addr{}, invalid("field %q: %q is not an IP address", field, text)
	case addr.Zone() != "":
		return netip.Addr{}, invalid("field %q: %s has a zone", field, text)
	}
	return addr, nil
}

// parseMAC returns the Ethernet address in a field; the zero one for an empty one.
func parseMAC(field, text string) (wire.MAC, error) {
	if text == "" {
		return wire.MAC{}, nil
	}
	mac, err := wire.ParseMAC(text)
	if err != nil {
		return wire.MAC{}, invalid("field %q: %v", field, err)
	}
	return mac, nil
}

// parseCreate returns the request to create an interface.
func parseCreate(p api.InterfaceCreateParams) (vnet.CreateRequest, error) {
	r := vnet.CreateRequest{ID: p.ID, Device: p.Device, VNI: p.VNI, Hostname: p.Hostname}
	if p.PXE != nil {
		r.PXE = vnet.PXE(*p.PXE)
	}
	var err error
	if r.IPv4, err = parseAddr("ipv4", p.IPv4); err != nil {
		return r, err
	}
	if r.IPv6, err = parseAddr("ipv6", p.IPv6); err != nil {
		return r, err
	}
	if r.UnderlayIP, err = parseAddr("underlay_ip", p.UnderlayIP); err != nil {
		return r, err
	}
	r.GuestMAC, err = parseMAC("mac", p.MAC)
	return r, err
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

// parseStart returns the request to start a capture, with its defaults and targets.
func (c calls) parseStart(p api.CaptureStartParams) (spec.Request, error) {
	r := spec.Request{
		Name:       p.Name,
		UDPSrcPort: p.UDPSrcPort,
		UDPDstPort: p.UDPDstPort,
		Encap:      wire.Encap(p.Encap),
		Direction:  spec.Direction(p.Direction),
		Drops:      p.Drops,
		Filter:     p.Filter,
		Held:       p.Hold,
		DryRun:     p.DryRun,
	}
	var err error
	if r.Sink, err = parseAddr("sink_node_ip", p.SinkNodeIP); err != nil {
		return r, err
	}
	if r.Limits, err = parseLimits(p.Limits); err != nil {
		return r, err
	}
	r.Targets, err = c.selected(p.Interfaces)
	return r.WithDefaults(), err
}

// parseLimits returns the limits of a request, none if it has none.
func parseLimits(p *api.CaptureLimits) (spec.Limits, error) {
	if p == nil {
		return spec.Limits{}, nil
	}
	limits := spec.Limits{Packets: p.Packets, Bytes: p.Bytes, PacketsPerSecond: p.PacketsPerSecond}
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

// parseTrace returns the request to start a trace.
func parseTrace(p api.TraceStartParams) (status.TraceRequest, error) {
	return status.TraceRequest(p), nil
}

func toSystemInfo(s status.System) api.SystemInfoResult {
	info := api.SystemInfoResult{
		APIVersion:    api.Version,
		Version:       s.Version,
		DPDKVersion:   s.DPDKVersion,
		GoVersion:     s.GoVersion,
		PID:           s.PID,
		UptimeSeconds: s.Uptime.Seconds(),
		Offload:       s.Offload,
		Lcores:        api.Lcores{Main: s.MainLcore, Workers: list(s.Workers)},
		NIC:           api.NIC{Driver: s.Driver, PortNaming: s.PortNaming},
		Underlay:      api.Underlay{IP: text(s.UnderlayIP), Uplinks: convert(s.Uplinks, toUplink)},
		Flows:         toFlowTable(s.Flows),
	}
	for _, u := range info.Underlay.Uplinks {
		if u.PF == 0 {
			info.Underlay.RouterMAC = u.RouterMAC
		}
	}
	return info
}

func toUplink(u uplink.Uplink) api.Uplink {
	shown := api.Uplink{
		PF: u.Number, Port: u.Name, Link: api.LinkState(u.LinkUp), RouterFrom: string(u.Source), Usable: u.Usable(),
	}
	if u.RouterMAC != (wire.MAC{}) {
		shown.RouterMAC = u.RouterMAC.String()
	}
	return shown
}

func toFlowTable(t status.FlowTable) api.FlowTable {
	return api.FlowTable{
		Known: t.Known, Capacity: t.Capacity, Overflow: t.Overflow, Rules: t.Rules, MaxRules: t.MaxRules,
		Created: t.Created, Aged: t.Aged, Refused: t.Refused, Limited: t.Limited, Evicted: t.Evicted, Backlog: t.Backlog,
		Guaranteed: t.Guaranteed, GuaranteedRules: t.GuaranteedRules,
		Shares: convert(t.Shares, func(s status.FlowShare) api.FlowShare { return api.FlowShare(s) }),
	}
}

// protocols are the names of the protocols that flows have.
var protocols = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}

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

func toRule(r status.Rule) api.Rule { return api.Rule(r) }

func toNodeStats(n status.Node) api.NodeStats { return api.NodeStats(n) }

func toGraphDrops(d status.Drops) api.GraphDrops { return api.GraphDrops(d) }

// The origins of flows.
const (
	originGuest = "guest"
	originWire  = "wire"
)

func toExplanation(x status.Explanation) api.FlowExplainResult {
	r := api.FlowExplainResult{
		Verdict: x.Verdict, Dropped: x.Dropped,
		Steps:    convert(x.Steps, func(s status.ExplainStep) api.ExplainStep { return api.ExplainStep(s) }),
		Captures: convert(x.Captures, func(c status.ExplainCapture) api.ExplainCapture { return api.ExplainCapture(c) }),
	}
	if x.Flow != nil {
		flow := toFlow(*x.Flow)
		r.Flow = &flow
	}
	if x.Rule != nil {
		rule := toRule(*x.Rule)
		r.Rule = &rule
	}
	return r
}

func toFlow(f status.Flow) api.Flow {
	origin := originWire
	if f.FromGuest {
		origin = originGuest
	}
	flow := api.Flow{
		ID:          f.ID,
		Interface:   f.Interface,
		Origin:      origin,
		VNI:         f.VNI,
		Src:         f.Src.String(),
		Dst:         f.Dst.String(),
		Proto:       protoName(f.Proto),
		SrcPort:     f.SrcPort,
		DstPort:     f.DstPort,
		InPort:      f.InPort,
		OutPort:     f.OutPort,
		Action:      f.Action,
		State:       f.State,
		Offloaded:   f.Offloaded,
		Packets:     f.Packets,
		Bytes:       f.Bytes,
		IdleSeconds: f.Idle.Seconds(),
	}
	if name := protocols[f.Proto]; name == "icmp" || name == "icmp6" {
		flow.ICMPType = &f.ICMPType
	}
	return flow
}

func toTracedPacket(p status.TracedPacket) api.TracedPacket {
	packet := api.TracedPacket{
		Time: p.Time, Port: p.Port, Origin: p.Origin, Length: p.Length, Frame: p.Frame,
		Nodes:   convert(p.Nodes, func(n status.TraceNode) api.TraceNode { return api.TraceNode(n) }),
		Dropped: p.Dropped, Verdict: p.Verdict,
	}
	if p.Flow != nil {
		flow := toFlow(*p.Flow)
		packet.Flow = &flow
	}
	return packet
}

func protoName(number uint8) string {
	if name, ok := protocols[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
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
		Drops:      s.Drops,
		EndReason:  string(s.EndReason),
		Filter:     s.Filter,
		Limits:     toLimits(s.Limits),
		Held:       s.Held,
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
		CaptureTarget: target, Direction: string(i.Direction), Mode: string(i.Mode), Port: i.Port, Label: uint32(i.Label),
		Packets: i.Packets, Bytes: i.Bytes, Rules: convert(i.Rules, toCaptureRule),
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
	limits := &api.CaptureLimits{Packets: l.Packets, Bytes: l.Bytes, PacketsPerSecond: l.PacketsPerSecond}
	if l.Duration > 0 {
		limits.Duration = l.Duration.String()
	}
	return limits
}

func toCapturePort(p spec.PortCapabilities) api.CapturePort {
	return api.CapturePort{
		Port: p.Port.Name, Role: string(p.Port.Role), Mode: string(p.Mode), RX: api.Capability(p.RX),
		TX:     api.Capability(p.TX),
		Encaps: convert(p.Encaps, toCapability), Filter: convert(p.Filter, toCapability),
	}
}

func toCapability(c spec.Capability) api.Capability { return api.Capability(c) }
