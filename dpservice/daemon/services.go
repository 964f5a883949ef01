// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"runtime"
	"slices"
	"time"

	"dpservice/capture/spec"
	"dpservice/cgo/eal"
	"dpservice/dpservice/explain"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/port"
	"dpservice/dpservice/status"
	"dpservice/dpservice/version"
	"dpservice/graph"
	"dpservice/rpc/server"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// services returns the daemon's parts as the API's services.
func (d *daemon) services() server.Services {
	return server.Services{
		System:     system{d},
		Ports:      d.ports,
		Interfaces: d.networks,
		Routes:     d.networks,
		Flows:      flows{d},
		Rules:      rules{d.rules, d.ports},
		Graph:      graphInfo{d},
		Capture:    d.captures,
		Waiting:    d.waitingCaptures,
		Trace:      d.trace,
		Explain:    explain.New(d.explainConfig()),
	}
}

// waitingCaptures are those that could not be restored yet.
func (d *daemon) waitingCaptures() []spec.Session {
	if kept, ok := d.captures.(*keptCaptures); ok {
		return kept.Waiting()
	}
	return nil
}

type system struct{ d *daemon }

// Info implements server.System.
func (s system) Info() status.System {
	mainLcore, _ := eal.Lcores()
	info := status.System{
		Version:     version.String(),
		DPDKVersion: eal.Version(),
		GoVersion:   runtime.Version(),
		PID:         os.Getpid(),
		Uptime:      time.Since(s.d.started),
		Offload:     s.d.cfg.Offload,
		MainLcore:   mainLcore,
		Workers:     s.d.workers,
		Driver:      s.d.ports.Driver(),
		UnderlayIP:  s.d.cfg.Underlay.IP,
		Uplinks:     s.d.uplinks.List(),
		Flows:       s.flowTable(),
	}
	if s.d.nic != nil {
		info.PortNaming = s.d.nic.Names()
	}
	return info
}

func (s system) flowTable() status.FlowTable {
	t := s.d.graph.FlowTable()
	table := status.FlowTable{
		Known: t.Flows, Capacity: t.Capacity, Overflow: t.Overflow, Guaranteed: t.Guaranteed, Shares: s.d.flowShares(t),
	}
	if s.d.flows != nil {
		o := s.d.flows.Stats()
		table.Rules, table.MaxRules = o.Rules, s.d.cfg.Flows.MaxOffload
		table.Created, table.Aged, table.Refused, table.Limited = o.Created, o.Aged, o.Refused, o.Limited
		table.Evicted, table.Backlog, table.GuaranteedRules = o.Evicted, o.Backlog, s.d.flows.Guaranteed()
	}
	return table
}

// flowShares returns what the interfaces hold of the flow table t and of the NIC's rules.
func (d *daemon) flowShares(t graph.FlowTable) []status.FlowShare {
	type holder struct {
		port   uint16
		origin graph.Origin
	}
	rules := map[holder]flow.Share{}
	if d.flows != nil {
		for _, s := range d.flows.Shares() {
			rules[holder{s.Port, s.Origin}] = s
		}
	}
	shares := []status.FlowShare{}
	for _, s := range t.Shares {
		a, ok := d.vnet.OnPort(s.Port)
		if !ok {
			continue
		}
		r := rules[holder{s.Port, s.Origin}]
		shares = append(shares, status.FlowShare{
			Interface: a.ID, Origin: s.Origin.String(), Flows: s.Flows, FlowsEvicted: s.Evicted, Overflow: s.Overflow,
			Rules: r.Rules, RulesEvicted: r.Evicted, Limited: r.Limited,
		})
	}
	return shares
}

type flows struct{ d *daemon }

// maxScan is how many flows are read for one answer, so that a filter that matches few flows does not occupy the
// control CPU for long.
const maxScan = 1 << 16

// Flows implements server.Flows. It reads the workers' tables without stopping the workers.
func (f flows) Flows(cursor uint64, limit int, fits func(status.Flow) bool) ([]status.Flow, uint64, error) {
	names := f.names()
	var list []status.Flow
	for scanned := 0; len(list) < limit && scanned < maxScan; {
		found, next := f.d.graph.Flows(cursor, limit-len(list))
		looked := len(found)
		fitting := slices.DeleteFunc(found, func(flow graph.Flow) bool { return !fits(names.describe(flow)) })
		if f.d.flows != nil {
			f.d.flows.Count(fitting)
		}
		for _, flow := range fitting {
			list = append(list, names.describe(flow))
		}
		if cursor = next; cursor == 0 {
			break
		}
		scanned += looked
	}
	return list, cursor, nil
}

// flowNames maps the numbers in flows to names.
type flowNames struct {
	interfaces map[uint16]string // by index
	ports      map[uint16]string
}

func (f flows) names() flowNames {
	n := flowNames{interfaces: map[uint16]string{}, ports: map[uint16]string{}}
	for _, a := range f.d.vnet.Attachments() {
		n.interfaces[a.Index] = a.ID
	}
	for _, p := range f.d.ports.List() {
		n.ports[p.ID] = p.Name
	}
	return n
}

// explainConfig returns what explains packets.
func (d *daemon) explainConfig() explain.Config {
	cfg := explain.Config{Graph: d.graph, Networks: d.vnet.Networks, Uplinks: d.uplinks.List, Captures: d.captures.Status,
		Describe: flows{d}.counted, PortName: d.portName}
	if d.flows != nil {
		cfg.Rule = d.flowRule
	}
	return cfg
}

// flowRule returns the NIC's rule of a flow, or why there is none.
func (d *daemon) flowRule(id uint64) (*status.Rule, string) {
	r, why := d.flows.RuleOf(id)
	if r == nil {
		return nil, why
	}
	shown := rules{d.rules, d.ports}.describe(r, d.portName(r.Port))
	return &shown, ""
}

// counted shows one flow with what the NIC has forwarded of it.
func (f flows) counted(flow graph.Flow) status.Flow {
	one := []graph.Flow{flow}
	if f.d.flows != nil {
		f.d.flows.Count(one)
	}
	return f.describe(one[0])
}

// describe shows one flow.
func (f flows) describe(flow graph.Flow) status.Flow { return f.names().describe(flow) }

func (n flowNames) describe(flow graph.Flow) status.Flow {
	s := status.Flow{
		ID: flow.ID, Interface: n.interfaces[flow.Key.Interface], FromGuest: flow.Key.Origin == graph.FromGuest,
		VNI: flow.VNI,
		Src: flow.Key.Src, Dst: flow.Key.Dst, Proto: flow.Key.Proto, SrcPort: flow.Key.SrcPort, DstPort: flow.Key.DstPort,
		InPort: n.ports[flow.Verdict.InPort], OutPort: n.ports[flow.Verdict.TxPort], Action: action(flow.Verdict.Kind),
		State: flow.State.String(), Offloaded: flow.Offloaded, Packets: flow.Packets, Bytes: flow.Bytes, Idle: flow.Idle,
	}
	if isICMP(flow.Key.Proto) {
		s.SrcPort, s.ICMPType = 0, uint8(flow.Key.SrcPort>>8)
	}
	return s
}

func isICMP(proto uint8) bool { return proto == 1 || proto == 58 }

func action(k graph.VerdictKind) string {
	if k == graph.Encap {
		return "encap"
	}
	return "deliver"
}

// portName returns the ethdev name of a port; empty if there is no such port.
func (d *daemon) portName(id uint16) string {
	p, _ := d.ports.ByID(id)
	return p.Name
}

type rules struct {
	set   *ruleset.Set
	ports *port.Manager
}

// Rules implements server.Rules.
func (r rules) Rules(port string, group *uint32) ([]status.Rule, error) {
	if port != "" {
		if _, ok := r.ports.ByName(port); !ok {
			return nil, fault.New(fault.NotFound, port, "no port %q", port)
		}
	}
	var list []status.Rule
	for _, rule := range r.set.List() {
		name := r.portName(rule.Port)
		if (port == "" || port == name) && (group == nil || *group == rule.Spec.Group) {
			list = append(list, r.describe(rule, name))
		}
	}
	return list, nil
}

func (r rules) portName(id uint16) string {
	p, _ := r.ports.ByID(id)
	return p.Name
}

func (r rules) describe(rule *ruleset.Rule, port string) status.Rule {
	spec := rule.Full()
	shown := status.Rule{
		Name: rule.Owner.String(), Port: port, PortID: rule.Port, Domain: spec.Domain(), Group: spec.Group,
		Priority: spec.Priority, Pattern: spec.PatternString(), Actions: spec.ActionsString(),
	}
	// The rule may have been removed meanwhile.
	if c, err := r.set.Counters(rule); err == nil && slices.Contains(spec.Actions, rteflow.Action(rteflow.Count{})) {
		shown.Hits, shown.Bytes = &c.Packets, &c.Bytes
	}
	return shown
}

type graphInfo struct{ d *daemon }

func (g graphInfo) DOT() string { return g.d.graph.DOT() }

func (g graphInfo) Drops() []status.Drops { return g.d.drops() }

func (g graphInfo) Stats() []status.Node { return g.d.nodeStats() }
