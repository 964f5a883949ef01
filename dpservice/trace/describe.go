// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"slices"
	"strings"

	"dpservice/dpservice/status"
	"dpservice/dpservice/verdict"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
)

// describer says in words what became of packets.
type describer struct {
	cfg      *Config
	networks vnet.Networks
}

func (m *Manager) describer() describer {
	return describer{&m.cfg, m.cfg.Networks()}
}

func (d describer) describe(p graph.TracedPacket) status.TracedPacket {
	t := status.TracedPacket{
		Time: p.Time, Port: d.cfg.PortName(p.Port), Origin: p.Origin.String(), Length: p.Length, Frame: p.Frame,
	}
	for _, h := range p.Hops {
		t.Nodes = append(t.Nodes, status.TraceNode{Name: h.Node, Begin: h.Begin, Cycles: h.End - h.Begin, Burst: h.Burst})
	}
	if p.Flow != nil {
		flow := d.cfg.Describe(p.Flow.Flow)
		t.Flow = &flow
	}
	t.Verdict, t.Dropped = d.verdict(p, t.Flow)
	return t
}

// verdict says what became of a packet, and why.
func (d describer) verdict(p graph.TracedPacket, flow *status.Flow) (text string, dropped bool) {
	visited := map[string]bool{}
	for _, h := range p.Hops {
		visited[h.Node] = true
		if strings.HasPrefix(h.Node, "icmp_") {
			text, dropped = verdict.End(h.Node), true
		}
	}
	last := end(p.Hops)
	switch {
	case strings.HasPrefix(last, "drop_"):
		return verdict.End(last), true
	case dropped:
		return text, true
	case last == "punt":
		return verdict.End(last), false
	case flow == nil:
		return "ended at " + last, false
	}
	parts := []string{state(visited), verdict.Forwarded(d.networks, p.Flow.Flow, flow.OutPort)}
	if last == "oversize" {
		parts = append(parts, "cut into fragments, which went on")
	}
	return strings.Join(append(parts, d.offload(p.Flow, visited)), "; "), false
}

// end is the node at which a packet ended. What a capture watches goes on from a drop node, to be copied.
func end(hops []graph.TraceHop) string {
	for _, h := range slices.Backward(hops) {
		if h.Node != "tap_drop" && h.Node != "free" {
			return h.Node
		}
	}
	return ""
}

// state says whether the flow was known.
func state(visited map[string]bool) string {
	switch {
	case visited["flow_overflow"]:
		return "flow not kept, since the flow table is full"
	case visited["flow_route"]:
		return "flow new, or resolved again after a change"
	default:
		return "flow known"
	}
}

// offload says why the packet was handled in software.
func (d describer) offload(f *graph.TracedFlow, visited map[string]bool) string {
	switch {
	case !d.cfg.Offload:
		return "not offloaded: offload is off"
	case f.Offloaded:
		return "offloaded, but the NIC leaves TCP SYN, FIN and RST, fragments and what has no hop left to the software"
	case visited["flow_overflow"]:
		return "not offloaded: a flow that is not kept is not offered to the NIC"
	case !f.Candidate:
		return "not offloaded: a fragment, too big for an MTU, or no TCP, UDP or echo"
	case !f.Announced:
		return "not offloaded: it waits for a packet without SYN, FIN or RST"
	case visited["flow_route"]:
		return "not offloaded yet: offered to the NIC just now"
	default:
		return "not offloaded: the NIC has no rule for it yet, or no room, or has refused it (dpctl system info)"
	}
}
