// SPDX-License-Identifier: Apache-2.0

// Package plan says what a capture changes, and changes nothing itself: from ports, a request and what is known of
// the NIC it makes the ordered steps that start a capture, give its copies another header, or stop it.
package plan

import (
	"fmt"
	"slices"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// Mirror is what is to be copied: one direction of an interface.
type Mirror struct {
	Interface string // as people call it
	Port      port.Port
	Side      graph.TapSide // what comes from behind the port, or goes there, or is dropped of both
	Link      filter.Link   // what the packets that the filter looks at begin with
	Filter    []filter.Rule // its rules in order; the last one takes all packets
}

// Node is what is known of the machine.
type Node struct {
	NIC    NIC       // nil where all traffic takes the software path and the NIC holds no rules
	Uplink port.Port // through which copies leave
}

// NIC knows how rules are written for this NIC. A *nic.NIC is one.
type NIC interface {
	// BasePatterns are the patterns of the rules which send a port's packets from the default group to the
	// flow rules. Each names its port.
	BasePatterns(p port.Port) [][]rteflow.Item
	// PortItem matches the packets that come from behind a port.
	PortItem(id uint16) rteflow.Item
	// AnyPort matches the packets that come from behind any port.
	AnyPort() rteflow.Item
	// PortAction sends a packet to what is behind a port.
	PortAction(id uint16) rteflow.Action
}

// Offloads reports whether the NIC may forward a port's packets by itself: then they must be copied there.
func (n Node) Offloads(p port.Port) bool {
	own, uplinks := p.SwitchDomain, n.Uplink.SwitchDomain
	return n.NIC != nil && own != nil && uplinks != nil && *own == *uplinks
}

// Point is where packets of a mirror are copied: in the NIC by rules, or in the packet graph by a tap. A Point is a
// value; Next gives it the rules or the tap, never both, and the label of its copies.
type Point struct {
	Mirror
	slot     *slot // where the rules are in the NIC; nil: the point is a tap
	patterns [][]rteflow.Item
	band     uint32 // of priorities that the rules have

	Label     wire.Label
	Rules     []*ruleset.Rule // as many as the filter has, in order
	Redirects []*ruleset.Rule // lead packets to the group of Rules
	Tap       *graph.Tap
}

// slot is where rules are in the NIC.
type slot struct {
	on        port.Port        // the port that the rules are created on
	name      string           // what the rules' names begin with
	entry     nicgroup.Group   // the group that the packets pass
	redirects [][]rteflow.Item // the patterns of the rules there that lead to group
	group     nicgroup.Group
	from      rteflow.Item   // matches the port that the packets come from
	out       rteflow.Action // where the copies go
	then      rteflow.Action // where the packets go on to
}

// Points returns where a mirror's packets are copied: in the NIC if it may forward them past the graph, else in the
// graph. What a guest receives is copied in both, since the graph sends some of it. What is dropped only the graph can
// copy.
func (n Node) Points(m Mirror) []Point {
	base := Point{Mirror: m}
	for _, r := range m.Filter {
		base.patterns = append(base.patterns, items(r.Pattern, m.Link))
	}
	inNIC := base
	switch {
	case !n.Offloads(m.Port) || m.Side == graph.TapDrops:
		return []Point{base}
	case m.Side == graph.TapRX:
		inNIC.slot = n.slotRX(m.Port)
		return []Point{inNIC} // the NIC has all packets before the graph
	}
	inNIC.slot = n.slotTX(m.Port)
	return []Point{inNIC, base}
}

// slotRX is where the NIC copies what comes from behind a port.
func (n Node) slotRX(p port.Port) *slot {
	return &slot{
		on: p, entry: nicgroup.Default, redirects: n.NIC.BasePatterns(p),
		group: nicgroup.Capture, from: n.NIC.PortItem(p.ID),
		out: n.NIC.PortAction(n.Uplink.ID), then: nic.JumpTo(nicgroup.VNET),
	}
}

// slotTX is where the NIC copies what it delivers to a port.
func (n Node) slotTX(p port.Port) *slot {
	from := n.NIC.AnyPort()
	return &slot{
		on: n.Uplink, name: fmt.Sprintf("delivery/%d/", p.ID),
		entry: nicgroup.Delivery(p.ID), redirects: [][]rteflow.Item{{from, rteflow.Eth{}}},
		group: nicgroup.CaptureTX(p.ID), from: from,
		out: n.NIC.PortAction(n.Uplink.ID), then: n.NIC.PortAction(p.ID),
	}
}

// Pattern is what the i-th rule of the filter matches, in testpmd's syntax.
func (p Point) Pattern(i int) string { return rteflow.Rule{Pattern: p.patterns[i]}.PatternString() }

// A tap takes as many rules as a filter may have.
var _ [graph.MaxTapRules]struct{} = [spec.MaxRules]struct{}{}

// bands is how many priority bands a group has for the rules of a point, each of spec.MaxRules priorities. They are
// used from the last to the first. New rules take the next band, ahead of the rules that they replace: from then on
// packets hit the new rules only, and the old ones' counters do not change until they are read and the rules removed.
// After the first band comes the last one again, where new rules wait behind the old ones.
const bands = 16

// Copies says what becomes of a session's copies.
type Copies struct {
	Session string
	Header  wire.CopyHeader // each point gives it its own label
	Out     uint16          // the port they leave through
}

// Next returns the points with fresh rules in the next priority band, and fresh taps. Redirects stay.
func Next(c Copies, points []Point) []Point {
	points = slices.Clone(points)
	for i := range points {
		p := &points[i]
		p.band = (p.band + bands - 1) % bands
		p.fill(c)
	}
	return points
}

// Probe returns the points with rules in a band in which no capture has rules, to ask the NIC about them.
func Probe(c Copies, points []Point) []Point {
	points = slices.Clone(points)
	for i := range points {
		points[i].band = bands
		points[i].fill(c)
	}
	return points
}

// fill gives the point its rules, or its tap.
func (p *Point) fill(c Copies) {
	p.Label = LabelOf(p.Port.ID, p.Side)
	c.Header.Label = p.Label
	copyHeader := c.Header.Append(nil)
	if p.slot == nil {
		p.Tap = p.newTap(c, copyHeader)
		return
	}
	p.Rules = nil
	for i := range p.Filter {
		p.Rules = append(p.Rules, p.newRule(c, i, copyHeader))
	}
	if p.Redirects == nil {
		for i, pattern := range p.slot.redirects {
			p.Redirects = append(p.Redirects, p.newRedirect(c, i, pattern))
		}
	}
}

// Owner is the Owner of a capture's rule in the NIC.
type Owner struct {
	Session, Interface string
	Port               port.Port // that the rule is on
	Redirect           bool      // it leads packets to the other rules
	rule               string
}

// String names the rule.
func (o *Owner) String() string { return fmt.Sprintf("capture/%s/%s", o.Session, o.rule) }

func (p *Point) owner(c Copies, format string, args ...any) *Owner {
	rule := p.slot.name + fmt.Sprintf(format, args...)
	return &Owner{Session: c.Session, Interface: p.Interface, Port: p.slot.on, rule: rule}
}

// newRule makes the NIC's rule for the i-th rule of the filter. The header comes before each copy.
func (p *Point) newRule(c Copies, i int, copyHeader []byte) *ruleset.Rule {
	r := rteflow.Rule{
		Attr:    nic.InGroup(p.slot.group, nicgroup.Priority(p.band*spec.MaxRules+uint32(i))),
		Pattern: append([]rteflow.Item{p.slot.from}, p.patterns[i]...),
		Actions: []rteflow.Action{rteflow.Count{}},
	}
	if p.Filter[i].Sample {
		r.Actions = append(r.Actions,
			rteflow.Sample{Ratio: 1, Actions: []rteflow.Action{rteflow.RawEncap{Data: copyHeader}, p.slot.out}})
	}
	r.Actions = append(r.Actions, p.slot.then)
	return &ruleset.Rule{Port: p.slot.on.ID, Owner: p.owner(c, "rule/%d/%d", p.band, i), Spec: r}
}

// newRedirect makes a rule that has packets visit the captures' rules. The base rules stay installed beneath, so a
// packet finds its way before, during and after any change.
func (p *Point) newRedirect(c Copies, i int, pattern []rteflow.Item) *ruleset.Rule {
	owner := p.owner(c, "redirect/%d", i)
	owner.Redirect = true
	return &ruleset.Rule{Port: p.slot.on.ID, Owner: owner, Spec: rteflow.Rule{
		Attr:    nic.InGroup(p.slot.entry, nicgroup.RedirectPriority),
		Pattern: pattern,
		Actions: []rteflow.Action{nic.JumpTo(p.slot.group)},
	}}
}

// newTap makes the point's tap in the packet graph.
func (p *Point) newTap(c Copies, copyHeader []byte) *graph.Tap {
	return &graph.Tap{Port: p.Port.ID, Side: p.Side, Out: c.Out, Header: copyHeader, Inner: p.Link == filter.IP,
		Rules: TapRules(p.Filter)}
}

// TapRules are a filter's rules as the packet graph takes them.
func TapRules(rules []filter.Rule) []graph.TapRule {
	var all []graph.TapRule
	for i := range rules {
		all = append(all, graph.TapRule{Sample: rules[i].Sample, Conditions: conditions(&rules[i].Pattern)})
	}
	return all
}

// conditions are what a pattern asks of a packet. The graph's fields are the filter's.
func conditions(p *filter.Pattern) []graph.TapCondition {
	var all []graph.TapCondition
	for f := range wire.NumFields {
		if c := p[f]; !c.Any() {
			all = append(all, graph.TapCondition{Field: f, Value: c.Value, Mask: c.Mask})
		}
	}
	return all
}

// SideOf is what the graph calls a direction of an interface's packets, one of RX, TX and Drops.
func SideOf(d spec.Direction) graph.TapSide {
	switch d {
	case spec.TX:
		return graph.TapTX
	case spec.Drops:
		return graph.TapDrops
	}
	return graph.TapRX
}

// LabelOf returns the label of the packets on one side of a port. Two ports of a node never share a label, a port
// always has the same ones, and none is 0. The graph adds the reason to that of dropped packets.
func LabelOf(port uint16, side graph.TapSide) wire.Label {
	received := wire.Label(port) + 1
	switch side {
	case graph.TapTX:
		return wire.LabelTX | received
	case graph.TapDrops:
		return wire.DropLabel(received, 0)
	}
	return received
}
