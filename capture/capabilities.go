// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"net/netip"
	"slices"

	"dpservice/capture/filter"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// filterParts are what filters may look at, each with a filter that does.
var filterParts = []struct{ name, filter string }{
	{"ether", "ether host 02:00:00:00:00:01"}, {"vlan", "vlan 5 and ip"}, {"ip", "ip"}, {"ip6", "ip6"}, {"arp", "arp"},
	{"ip_host", "ip host 10.0.0.1"}, {"ip6_net", "net 2001:db8::/32"}, {"tos", "ip[1] & 0xfc = 0xb8"}, {"ttl", "ip[8] < 5"},
	{"fragments", "ip[6:2] & 0x3fff != 0"}, {"tcp_port", "tcp port 443"}, {"tcp_flags", "tcp[tcpflags] & tcp-syn != 0"},
	{"udp_portrange", "udp portrange 5000-5999"}, {"icmp", "icmp[icmptype] = icmp-echo"}, {"icmp6", "icmp6[icmp6type] = icmp6-echo"},
}

// Capabilities finds out what can be captured, by asking the NIC whether it would take the rules.
func (m *Manager) Capabilities() []PortCapabilities {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []PortCapabilities
	uplink, _ := m.deps.Ports.PF(0)
	for _, p := range m.deps.Ports.All() {
		all = append(all, m.capabilities(p, uplink))
	}
	return all
}

func (m *Manager) capabilities(p, uplink port.Port) PortCapabilities {
	target := Target{VF: p.Name}
	if p.Role == port.PF {
		target = Target{PF: p.Index}
	}
	// Which addresses a copy has does not matter to the NIC, and the router may not be known yet.
	header := Header{NodeIP: netip.IPv6Loopback(), Sink: netip.IPv6Loopback()}
	a := asker{m, target, p, uplink, copies{header: header, out: uplink.ID, rules: m.newRegistry()}}
	c := PortCapabilities{Port: p, Mode: Software, RX: a.about("rx", RX, ""), TX: a.tx()}
	if m.offloads(p, uplink) {
		c.Mode = Hardware
	}
	for _, encap := range []Encap{EncapUDP, EncapVXLAN} {
		with := a
		with.copies.header.Encap = encap
		c.Encaps = append(c.Encaps, with.about(string(encap), RX, ""))
	}
	for _, part := range filterParts {
		c.Filter = append(c.Filter, a.about(part.name, RX, part.filter))
	}
	return c
}

// asker asks the NIC about rules on a port.
type asker struct {
	m            *Manager
	target       Target
	port, uplink port.Port
	copies       copies
}

// about asks for the rules of a capture with a filter. Where no rules are needed the packet graph does it all.
func (a asker) about(name string, d Direction, text string) Capability {
	link := linkOf(a.target)
	program, err := filter.Compile(text, link, MaxRules)
	if err != nil {
		return Capability{Name: name, Reason: err.Error()}
	}
	points := a.m.pointsOf(a.target, d, a.port, a.uplink, rulesOf(program, link))
	for i := range points {
		points[i].generation = generations // where no capture has its rules
	}
	ops := addRules(a.copies, points)
	if slices.ContainsFunc(points, point.isDelivery) {
		ops = append(ops, a.diverted())
	}
	return a.ask(name, ops)
}

func (a asker) tx() Capability {
	if _, err := (Request{Direction: TX}).Directions(a.target); err != nil {
		return Capability{Name: "tx", Reason: err.Error()}
	}
	return a.about("tx", TX, "")
}

// diverted is a rule as a flow's whose packets go to where those to a guest are copied.
func (a asker) diverted() ruleset.Op {
	return ruleset.Op{Rule: &ruleset.Rule{Port: a.uplink.ID, Owner: ruleOwner("capability"), Spec: rteflow.Rule{
		Attr:    rteflow.Attr{Group: nic.GroupDecapsulated, Priority: nic.FlowPriority, Transfer: true},
		Pattern: []rteflow.Item{a.m.deps.NIC.PortItem(a.uplink.ID), rteflow.Eth{}, rteflow.IPv4{}},
		Actions: []rteflow.Action{rteflow.SetMACDst{}, rteflow.DecTTL{}, rteflow.Jump{Group: nic.GroupDelivery(a.port.ID)}},
	}}}
}

func (a asker) ask(name string, ops []ruleset.Op) Capability {
	if len(ops) == 0 {
		return Capability{Name: name, Supported: true}
	}
	err := a.m.deps.Rules.Check(ops)
	if err == nil {
		return Capability{Name: name, Supported: true}
	}
	var refusal *rteflow.Error
	if errors.As(err, &refusal) {
		return Capability{Name: name, Reason: refusal.Words() + ": " + refusal.Errno.Error()}
	}
	return Capability{Name: name, Reason: err.Error()}
}
