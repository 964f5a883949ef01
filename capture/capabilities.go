// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"net/netip"

	"dpservice/capture/filter"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// Capability is something that captures may need of a port.
type Capability struct {
	Name      string
	Supported bool
	Reason    string // why not, in the driver's words where it was asked
}

// PortCapabilities are what can be captured on a port.
type PortCapabilities struct {
	Port   port.Port
	RX, TX Capability // what comes from behind the port, what goes there
	Encaps []Capability
	Filter []Capability // what filters may look at
}

// filterParts are what filters may look at, each with a filter that does.
var filterParts = []struct{ name, filter string }{
	{"ether", "ether host 02:00:00:00:00:01"}, {"vlan", "vlan 5 and ip"}, {"ip", "ip"}, {"ip6", "ip6"}, {"arp", "arp"},
	{"ip host", "ip host 10.0.0.1"}, {"ip6 net", "net 2001:db8::/32"}, {"tos", "ip[1] & 0xfc = 0xb8"}, {"ttl", "ip[8] < 5"},
	{"fragments", "ip[6:2] & 0x3fff != 0"}, {"tcp port", "tcp port 443"}, {"tcp flags", "tcp[tcpflags] & tcp-syn != 0"},
	{"udp portrange", "udp portrange 5000-5999"}, {"icmp", "icmp[icmptype] = icmp-echo"}, {"icmp6", "icmp6[icmp6type] = icmp6-echo"},
}

const noOffload = "offload is disabled: the NIC takes no rules"

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
	c := PortCapabilities{Port: p, RX: Capability{Name: "rx"}, TX: Capability{Name: "tx", Reason: noOffload}}
	if !m.deps.Offload {
		c.RX.Reason = noOffload
		return c
	}
	target := Target{VF: p.Name}
	if p.Role == port.PF {
		target = Target{PF: p.Index}
	}
	// Which addresses a copy has does not matter to the NIC, and the router may not be known yet.
	header := Header{NodeIP: netip.IPv6Loopback(), Sink: netip.IPv6Loopback()}
	a := asker{m, target, p, copies{header: header, out: m.deps.NIC.PortAction(uplink.ID)}}
	c.RX = a.filter("rx", "")
	c.TX = a.tx()
	for _, encap := range []Encap{EncapUDP, EncapVXLAN} {
		with := a
		with.copies.header.Encap = encap
		c.Encaps = append(c.Encaps, with.filter(string(encap), ""))
	}
	for _, part := range filterParts {
		c.Filter = append(c.Filter, a.filter(part.name, part.filter))
	}
	return c
}

// asker asks the NIC about rules on a port.
type asker struct {
	m      *Manager
	target Target
	port   port.Port
	copies copies
}

// filter asks for the rules of a capture with a filter.
func (a asker) filter(name, text string) Capability {
	link := linkOf(a.target)
	program, err := filter.Compile(text, link, MaxRules)
	if err != nil {
		return Capability{Name: name, Reason: err.Error()}
	}
	p := point{
		port: a.port, from: a.m.deps.NIC.PortItem(a.port.ID), patterns: a.m.deps.NIC.BasePatterns(a.port), rules: rulesOf(program, link),
		generation: generations, // where no capture has its rules
	}
	return a.ask(name, addRules(a.copies, []point{p}))
}

// tx asks for a rule that copies what it delivers.
func (a asker) tx() Capability {
	header := a.copies.header
	header.Label = labelOf(a.port.ID)
	c := a.ask("tx", []ruleset.Op{ruleset.Add(a.port.ID, "capability", rteflow.Rule{
		Attr:    rteflow.Attr{Group: groupFlow, Transfer: true},
		Pattern: []rteflow.Item{rteflow.Eth{}},
		Actions: []rteflow.Action{
			rteflow.Sample{Ratio: 1, Actions: []rteflow.Action{rteflow.RawEncap{Data: header.Bytes()}, a.copies.out}},
			a.m.deps.NIC.PortAction(a.port.ID),
		},
	})})
	if c.Supported {
		c.Supported, c.Reason = false, "the NIC takes the rules, but captures are of what comes from behind a port only"
	}
	return c
}

func (a asker) ask(name string, ops []ruleset.Op) Capability {
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
