// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"net/netip"

	"dpservice/capture/filter"
	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// filterParts are what filters may look at, each with a filter that does.
var filterParts = []struct{ name, filter string }{
	{"ether", "ether host 02:00:00:00:00:01"}, {"vlan", "vlan 5 and ip"}, {"ip", "ip"}, {"ip6", "ip6"}, {"arp", "arp"},
	{"ip_host", "ip host 10.0.0.1"}, {"ip6_net", "net 2001:db8::/32"}, {"tos", "ip[1] & 0xfc = 0xb8"},
	{"ttl", "ip[8] < 5"},
	{"fragments", "ip[6:2] & 0x3fff != 0"}, {"tcp_port", "tcp port 443"}, {"tcp_flags", "tcp[tcpflags] & tcp-syn != 0"},
	{"udp_portrange", "udp portrange 5000-5999"}, {"icmp", "icmp[icmptype] = icmp-echo"},
	{"icmp6", "icmp6[icmp6type] = icmp6-echo"},
}

// Capabilities finds out what can be captured, by asking the NIC whether it would take the rules.
func (m *Manager) Capabilities() []spec.PortCapabilities {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []spec.PortCapabilities
	uplink, _ := m.deps.Ports.PF(0)
	node := plan.Node{NIC: m.deps.NIC, Uplink: uplink}
	for _, p := range m.deps.Ports.All() {
		all = append(all, m.capabilities(p, node))
	}
	return all
}

func (m *Manager) capabilities(p port.Port, node plan.Node) spec.PortCapabilities {
	target := spec.Target{VF: p.Name}
	if p.Role == port.PF {
		target = spec.Target{PF: p.Index}
	}
	probe := prober{m.deps, node, target, p}
	c := spec.PortCapabilities{Port: p, Mode: spec.Software, RX: probe.ask("rx", spec.RX, wire.EncapUDP, ""),
		TX: probe.askTX()}
	if node.Offloads(p) {
		c.Mode = spec.Hardware
	}
	for _, encap := range []wire.Encap{wire.EncapUDP, wire.EncapVXLAN} {
		c.Encaps = append(c.Encaps, probe.ask(string(encap), spec.RX, encap, ""))
	}
	for _, part := range filterParts {
		c.Filter = append(c.Filter, probe.ask(part.name, spec.RX, wire.EncapUDP, part.filter))
	}
	return c
}

// prober asks the NIC whether it takes the rules of captures on a port.
type prober struct {
	deps   Deps
	node   plan.Node
	target spec.Target
	port   port.Port
}

func (a prober) askTX() spec.Capability {
	if _, err := (spec.Request{Direction: spec.TX}).Directions(a.target); err != nil {
		return spec.Capability{Name: "tx", Reason: err.Error()}
	}
	return a.ask("tx", spec.TX, wire.EncapUDP, "")
}

// ask asks for the rules of a capture with a filter. Where no rules are needed the packet graph does it all.
func (a prober) ask(name string, d spec.Direction, encap wire.Encap, text string) spec.Capability {
	link := a.target.Link()
	program, err := filter.Compile(text, link, spec.MaxRules)
	if err != nil {
		return spec.Capability{Name: name, Reason: err.Error()}
	}
	// Which addresses a copy has does not matter to the NIC, and the router may not be known yet.
	h := wire.CopyHeader{NodeIP: netip.IPv6Loopback(), Sink: netip.IPv6Loopback(), Encap: encap}
	points := a.node.Points(plan.Mirror{
		Interface: a.target.String(), Port: a.port, Side: plan.SideOf(d), Link: link, Filter: program.Rules,
	})
	var rules []*ruleset.Rule
	for _, p := range plan.Probe(plan.Copies{Header: h, Out: a.node.Uplink.ID}, points) {
		rules = append(rules, p.Rules...)
	}
	return a.check(name, rules)
}

// check asks the NIC whether it would take rules.
func (a prober) check(name string, rules []*ruleset.Rule) spec.Capability {
	if len(rules) == 0 {
		return spec.Capability{Name: name, Supported: true}
	}
	err := a.deps.Rules.Check(ruleset.Add(rules...))
	if err == nil {
		return spec.Capability{Name: name, Supported: true}
	}
	var refusal *rteflow.Error
	if errors.As(err, &refusal) {
		return spec.Capability{Name: name, Reason: refusal.Reason() + ": " + refusal.Errno.Error()}
	}
	return spec.Capability{Name: name, Reason: err.Error()}
}
