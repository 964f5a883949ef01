// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"slices"

	"dpservice/capture/filter"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
)

// point is where packets of one direction of an interface are copied: by rules of the NIC, or by a tap of the packet graph.
// What a guest receives has a point for each port that it may come from, and a tap for what the graph sends it.
type point struct {
	target     Target
	direction  Direction // RX or TX
	port       port.Port
	link       filter.Link
	rules      []filterRule // in order; the last one takes all packets
	generation uint32
	place      *place  // in the NIC; nil: a tap
	missed     dropped // by the tap
	missedOnce dropped // by those in its place before
}

// place is where the rules of a point stand in the NIC.
type place struct {
	on        port.Port // the port that the packets come from: what leads them here is undone before, with its other rules
	name      string    // in the rules' names
	group     uint32
	from      rteflow.Item     // what names that port
	redirects [][]rteflow.Item // the patterns of the rules that lead here from the default group
	out       rteflow.Action   // where the copies go
	then      rteflow.Action   // where the packets go on to
}

// filterRule is one decision of a filter: packets that match are copied, or pass by those behind it.
type filterRule struct {
	match   filter.Pattern
	pattern []rteflow.Item // the same for the NIC
	sample  bool
	seen    rteflow.Counters // the counter when it was last read
	before  rteflow.Counters // what those in its place before it had counted
}

// dropped are copies that a tap could not send.
type dropped struct{ oversize, noBuffer uint64 }

// pointsOf are the points of a direction of an interface: where the NIC may forward its packets past the graph, there.
func (m *Manager) pointsOf(t Target, d Direction, p, uplink port.Port, rules []filterRule) []point {
	base := point{target: t, direction: d, port: p, link: linkOf(t), generation: generations - 1}
	var points []point
	if m.offloads(p, uplink) {
		for _, at := range m.places(p, d, uplink) {
			inNIC := base
			inNIC.rules, inNIC.place = slices.Clone(rules), &at
			points = append(points, inNIC)
		}
		if d == RX {
			return points // the NIC has them all before the graph
		}
	}
	base.rules = slices.Clone(rules)
	return append(points, base)
}

// offloads reports whether the NIC may forward a port's packets by itself: rules can stand on it, and lead to the uplink.
func (m *Manager) offloads(p, uplink port.Port) bool {
	return m.deps.NIC != nil && sameSwitch(p, uplink)
}

func sameSwitch(a, b port.Port) bool {
	return a.SwitchDomain != nil && b.SwitchDomain != nil && *a.SwitchDomain == *b.SwitchDomain
}

// places are where the NIC copies the packets of a direction of a port.
func (m *Manager) places(p port.Port, d Direction, uplink port.Port) []place {
	names := m.deps.NIC
	out := names.PortAction(uplink.ID)
	if d == RX {
		return []place{{on: p, name: "rule", group: nic.GroupCapture, from: names.PortItem(p.ID), redirects: names.BasePatterns(p), out: out,
			then: rteflow.Jump{Group: nic.GroupVNET}}}
	}
	var all []place
	for _, source := range m.deps.Ports.All() {
		if sameSwitch(source, uplink) {
			all = append(all, place{on: source, name: fmt.Sprintf("delivery/%d", p.ID), group: nic.GroupDelivery(p.ID),
				from: names.PortItem(source.ID), out: out, then: names.PortAction(p.ID)})
		}
	}
	return all
}

func (p point) redirects() [][]rteflow.Item {
	if p.place == nil {
		return nil
	}
	return p.place.redirects
}

// isDelivery reports whether the point is at the end of the flows to its port.
func (p point) isDelivery() bool { return p.place != nil && p.direction == TX }

// ruleCount is how many rules the point has in the NIC.
func (p point) ruleCount() int {
	if p.place == nil {
		return 0
	}
	return len(p.rules)
}

func (p point) ruleName(session string, generation uint32, i int) string {
	return fmt.Sprintf("%s%d/%d", p.ruleNames(session), generation, i)
}

// ruleNames is what the names of the point's rules begin with.
func (p point) ruleNames(session string) string {
	return fmt.Sprintf("capture/%s/%s/", session, p.place.name)
}

// rulesOf are the rules of a program on a port.
func rulesOf(p filter.Program, link filter.Link) []filterRule {
	rules := make([]filterRule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = filterRule{match: r.Pattern, pattern: itemsOf(r.Pattern, link), sample: r.Sample}
	}
	return rules
}

// counted is what the rule and those in its place before have counted.
func (r *filterRule) counted() rteflow.Counters { return r.before.Plus(r.seen) }

// count takes a reading of the rule's counter. One that went backwards is that of a rule which was removed and
// put back by an undone change.
func (r *filterRule) count(c rteflow.Counters) {
	if c.Packets < r.seen.Packets {
		r.before = r.counted()
	}
	r.seen = c
}

// startAgain notes that a new counter has taken the place of the one that was last read.
func (r *filterRule) startAgain() { r.before, r.seen = r.counted(), rteflow.Counters{} }

// countTap takes a reading of a tap's counters.
func (p *point) countTap(c graph.TapCounters) {
	for i := range min(len(p.rules), len(c.Rules)) {
		p.rules[i].count(rteflow.Counters(c.Rules[i]))
	}
	p.missed = dropped{c.Oversize, c.NoBuffer}
}

// tapReplaced takes the last reading of a tap, whose place another takes.
func (p *point) tapReplaced(c graph.TapCounters) {
	p.countTap(c)
	for i := range p.rules {
		p.rules[i].startAgain()
	}
	p.missedOnce, p.missed = p.allMissed(), dropped{}
}

func (p point) allMissed() dropped {
	return dropped{p.missedOnce.oversize + p.missed.oversize, p.missedOnce.noBuffer + p.missed.noBuffer}
}

// copied is what the point has copied.
func (p point) copied() (c rteflow.Counters) {
	for i := range p.rules {
		if p.rules[i].sample {
			c = c.Plus(p.rules[i].counted())
		}
	}
	return c
}
