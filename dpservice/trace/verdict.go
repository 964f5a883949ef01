// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dpservice/dpservice/status"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
)

// reasons say what the nodes mean at which packets end.
var reasons = map[string]string{
	"drop_malformed":        "a header is cut short or contradicts itself",
	"drop_no_interface":     "it came from a port without an interface",
	"drop_not_for_us":       "it is for another Ethernet address, or ICMPv6 about another's",
	"drop_multicast":        "it is for a group, which is not forwarded",
	"drop_martian_source":   "no router forwards from its source, or that is the gateway's",
	"drop_unspecified":      "no router forwards to the unspecified address",
	"drop_loopback":         "no router forwards to loopback addresses",
	"drop_link_local":       "no router forwards to link-local addresses",
	"drop_broadcast":        "no router forwards to the broadcast address",
	"drop_reserved":         "no router forwards to reserved addresses",
	"drop_to_gateway":       "it is for the guests' gateway, which answers no such packet",
	"drop_tagged":           "it is in a VLAN, and guests have none",
	"drop_unsupported":      "it is neither IP nor ARP, or on the wire no tunnel's",
	"drop_spoofed":          "its source address is not the guest's own",
	"drop_wrong_peer":       "its tunnel's source is not where the route to its source leads",
	"drop_local_source":     "it came from the wire with the source of an interface of this node",
	"drop_no_route":         "there is no route to its destination, or it does not lead to this interface",
	"drop_no_neighbour":     "the MAC of the guest or of the router is not known, or no uplink is usable",
	"drop_unknown_underlay": "no interface has the underlay address that it is for",
	"drop_unknown_mark":     "the NIC has decapsulated it for a tunnel that is no longer there",
	"drop_ttl":              "its time to live is used up",
	"drop_too_big":          "it does not fit the MTU where it is to go",
	"drop_no_headroom":      "its buffer has no room for the outer header",
	"drop_tx":               "the port did not take it",
	"drop_punt_full":        "it is for the slow path, which does not keep up",
	"drop_punt_rate":        "it is for the slow path, beyond the rate of its port and kind",
	"drop_copy_too_big":     "a copy of it does not fit the uplink",

	"icmp_time_exceeded": "its time to live is used up",
	"icmp_too_big":       "it does not fit the MTU where it is to go",
	"icmp_no_route":      "there is no route to its destination",
}

// names is what describes packets: the interfaces and routes of the moment.
type names struct {
	cfg    *Config
	guests []vnet.Attachment
	routes []vnet.Route
}

func (m *Manager) names() names {
	return names{&m.cfg, m.cfg.Networks.Attachments(), m.cfg.Networks.Routes()}
}

func (n names) describe(p graph.TracedPacket) status.TracedPacket {
	d := status.TracedPacket{
		Time: p.Time, Port: n.cfg.PortName(p.Port), Origin: p.Origin.String(), Length: p.Length, Frame: p.Frame,
	}
	for _, h := range p.Hops {
		d.Nodes = append(d.Nodes, status.TraceNode{Name: h.Node, Begin: h.Begin, Cycles: h.End - h.Begin, Burst: h.Burst})
	}
	if p.Flow != nil {
		flow := n.cfg.Describe(p.Flow.Flow)
		d.Flow = &flow
	}
	d.Verdict, d.Dropped = n.verdict(p, d.Flow)
	return d
}

// verdict says what became of a packet, and why.
func (n names) verdict(p graph.TracedPacket, flow *status.Flow) (text string, dropped bool) {
	visited := map[string]bool{}
	for _, h := range p.Hops {
		visited[h.Node] = true
		if reason, ok := reasons[h.Node]; ok && strings.HasPrefix(h.Node, "icmp_") {
			text, dropped = "answered with an ICMP error: "+reason, true
		}
	}
	last := end(p.Hops)
	switch {
	case strings.HasPrefix(last, "drop_"):
		return "dropped: " + reasons[last] + " (" + last + ")", true
	case dropped:
		return text, true
	case last == "punt":
		return "left to the slow path, which answers ARP, neighbour discovery, DHCP and pings of the gateway", false
	case flow == nil:
		return "ended at " + last, false
	}
	parts := []string{state(visited), n.way(p.Flow.Flow, flow)}
	if last == "oversize" {
		parts = append(parts, "cut into fragments, which went on")
	}
	return strings.Join(append(parts, n.offload(p.Flow, visited)), "; "), false
}

// end is the node at which a packet's way ended. What a capture watches goes on from a drop node, to be copied.
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

// way says where the flow's packets go.
func (n names) way(f graph.Flow, flow *status.Flow) string {
	if f.Verdict.Kind == graph.Deliver {
		for _, a := range n.guests {
			if a.Port == f.Verdict.TxPort {
				return fmt.Sprintf("delivered to %s by %s", a.ID, flow.OutPort)
			}
		}
		return "delivered by " + flow.OutPort
	}
	hop := nextHop(f.Verdict.Header)
	return fmt.Sprintf("encapsulated to %s%s, out of %s", hop, n.route(f, hop), flow.OutPort)
}

// nextHop is the destination in an outer header: Ethernet and IPv6.
func nextHop(header []byte) netip.Addr {
	const destination = 14 + 24
	if len(header) < destination+16 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte(header[destination : destination+16]))
}

// route names the route to the next hop.
func (n names) route(f graph.Flow, hop netip.Addr) string {
	best := netip.Prefix{}
	for _, r := range n.routes {
		if r.VNI == f.VNI && r.NextHopIP == hop && r.Prefix.Contains(f.Key.Dst) && r.Prefix.Bits() > best.Bits() {
			best = r.Prefix
		}
	}
	if !best.IsValid() {
		return ""
	}
	return fmt.Sprintf(" by route %s", best)
}

// offload says why the packet was handled in software.
func (n names) offload(f *graph.TracedFlow, visited map[string]bool) string {
	switch {
	case !n.cfg.Offload:
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
