// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"runtime"
	"time"

	"dpservice/cgo/eal"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/dpservice/slowpath"
	"dpservice/dpservice/version"
	"dpservice/graph"
	"dpservice/rpc/api"
	"dpservice/rpc/server"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// services are the daemon's parts as the API wants them.
func (d *daemon) services() server.Services {
	return server.Services{
		System:     system{d},
		Ports:      d.ports,
		Interfaces: d.interfaces(),
		Routes:     d.vnet,
		Flows:      flows{d},
		Rules:      rules{d.rules, d.ports},
		Graph:      graphInfo{d.graph},
		Capture:    d.capture,
	}
}

type system struct{ d *daemon }

func (s system) Info() api.SystemInfoResult {
	mainLcore, _ := eal.Lcores()
	info := api.SystemInfoResult{
		Version:       version.String(),
		DPDKVersion:   eal.Version(),
		GoVersion:     runtime.Version(),
		PID:           os.Getpid(),
		UptimeSeconds: time.Since(s.d.started).Seconds(),
		Offload:       s.d.cfg.Offload,
		Lcores:        api.Lcores{Main: mainLcore, Workers: s.d.workers()},
		NIC:           api.NIC{Driver: s.d.ports.Driver()},
		Underlay:      api.Underlay{IP: s.d.cfg.Underlay.IP.String()},
	}
	if s.d.nic != nil {
		info.NIC.PortNaming = s.d.nic.Names()
	}
	if mac := s.d.slow.RouterMAC(); mac != (slowpath.MAC{}) {
		info.Underlay.RouterMAC = mac.String()
	}
	return info
}

type flows struct{ d *daemon }

func (f flows) Flows(cursor uint64, limit int) ([]server.Flow, uint64, error) {
	var found []graph.Flow
	var next uint64
	if f.d.flows != nil {
		found, next = f.d.flows.Flows(cursor, limit)
	} else {
		found, next = f.d.graph.Flows(cursor, limit)
	}
	ids := map[uint16]string{}
	for _, a := range f.d.vnet.Attachments() {
		ids[a.Index] = a.ID
	}
	list := make([]server.Flow, len(found))
	for i, flow := range found {
		list[i] = f.describe(flow, ids[flow.Key.Interface])
	}
	return list, next, nil
}

func (f flows) describe(flow graph.Flow, iface string) server.Flow {
	s := server.Flow{
		ID: flow.ID, Interface: iface, FromGuest: flow.Key.Origin == graph.FromGuest, VNI: flow.VNI,
		Src: flow.Key.Src, Dst: flow.Key.Dst, Proto: flow.Key.Proto, SrcPort: flow.Key.SrcPort, DstPort: flow.Key.DstPort,
		InPort: f.d.portName(flow.Verdict.InPort), OutPort: f.d.portName(flow.Verdict.TxPort), Action: action(flow.Verdict.Kind),
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

// portName is the ethdev name of a port; empty for one that is not there.
func (d *daemon) portName(id uint16) string {
	p, _ := d.ports.ByID(id)
	return p.Name
}

type rules struct {
	set   *ruleset.Set
	ports *port.Manager
}

func (r rules) Rules(p api.RuleListParams) ([]api.Rule, error) {
	if p.Port != "" {
		if _, ok := r.ports.ByName(p.Port); !ok {
			return nil, fault.New(fault.NotFound, p.Port, "no port %q", p.Port)
		}
	}
	list := []api.Rule{}
	for _, e := range r.set.List() {
		rule := r.describe(e)
		if (p.Port == "" || p.Port == rule.Port) && (p.Group == nil || *p.Group == rule.Group) {
			r.count(e, &rule)
			list = append(list, rule)
		}
	}
	return list, nil
}

func (r rules) describe(e ruleset.Entry) api.Rule {
	p, _ := r.ports.ByID(e.Port)
	return api.Rule{
		Name: e.Name, Port: p.Name, PortID: e.Port, Domain: domain(e.Rule.Attr), Group: e.Rule.Group, Priority: e.Rule.Priority,
		Pattern: e.Rule.PatternString(), Actions: e.Rule.ActionsString(),
	}
}

func domain(a rteflow.Attr) string {
	switch {
	case a.Transfer:
		return "transfer"
	case a.Egress:
		return "egress"
	default:
		return "ingress"
	}
}

// count adds the counters of a rule that has some, and still stands.
func (r rules) count(e ruleset.Entry, rule *api.Rule) {
	for _, a := range e.Rule.Actions {
		if _, ok := a.(rteflow.Count); !ok {
			continue
		}
		if c, err := r.set.Counters(e.Port, e.Name); err == nil {
			rule.Hits, rule.Bytes = &c.Packets, &c.Bytes
		}
	}
}

type graphInfo struct{ graph *graph.Graph }

func (g graphInfo) DOT() string { return g.graph.DOT() }

func (g graphInfo) Stats() []api.NodeStats {
	nodes := g.graph.Stats()
	stats := make([]api.NodeStats, len(nodes))
	for i, n := range nodes {
		stats[i] = api.NodeStats{Name: n.Name, Calls: n.Calls, Packets: n.Packets, Cycles: n.Cycles}
	}
	return stats
}
