// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"slices"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// mirror is one direction of an interface that a session captures, with what the session has made for it.
type mirror struct {
	target    spec.Target
	port      port.Port
	direction spec.Direction // RX, TX or Drops
	label     wire.Label     // identifies its copies at the sink
	mode      spec.Mode      // Hardware if it has a point in the NIC
	points    []*point
	owned     []*ruleset.Rule // made for it: installed, or about to be in a change under way
}

// point is a point of the plan, with the counters of its rules.
type point struct {
	plan.Point
	counts []count
	missed dropped // copies that taps could not send
	before dropped // by earlier taps; included in missed
}

// count is what a rule of a filter has matched.
type count struct {
	read   rteflow.Counters // the last reading of the counter
	before rteflow.Counters // what earlier counters of the rule had counted
}

// dropped are copies that a tap could not send.
type dropped struct{ oversize, noBuffer uint64 }

// total is what has matched so far.
func (c count) total() rteflow.Counters { return c.before.Plus(c.read) }

// update takes a reading. A counter that went backwards is that of a rule which was removed and
// put back by an undone change.
func (c *count) update(read rteflow.Counters) {
	if read.Packets < c.read.Packets {
		c.before = c.total()
	}
	c.read = read
}

// restart notes that the rule has a fresh counter.
func (c *count) restart() { c.before, c.read = c.total(), rteflow.Counters{} }

// addTarget has the session capture a target.
func (s *session) addTarget(t spec.Target, node plan.Node) error {
	p, err := findPort(s.deps.Ports, t)
	if err != nil {
		return err
	}
	if w := mtuWarning(t, p.MTU, node.Uplink.MTU, s.copies.Header.Len()); w != "" {
		s.warnings = append(s.warnings, w)
	}
	directions, err := s.request.Directions(t)
	if err != nil {
		return err
	}
	link := t.Link()
	planned := plan.Mirror{Interface: t.String(), Port: p, Link: link, Filter: s.programs[link].Rules}
	for _, d := range directions {
		planned.Side = sideOf(d)
		s.mirrors = append(s.mirrors, newMirror(t, d, plan.Next(s.copies, node.Points(planned))))
	}
	return nil
}

// findPort returns the port that a target names.
func findPort(ports Ports, t spec.Target) (port.Port, error) {
	if t.VF == "" {
		p, ok := ports.PF(t.PF)
		switch {
		case !ok:
			return p, fault.New(fault.NotFound, t.String(), "there is no PF%d to capture on", t.PF)
		case !p.Started:
			return p, fault.New(fault.NotFound, t.String(), "PF%d is not started: its port %s is stopped", t.PF, p.Name)
		}
		return p, nil
	}
	p, ok := ports.Interface(t.VF)
	switch {
	case ok && !p.Started:
		return p, fault.New(fault.NotFound, t.VF, "interface %s is not started: its port %s is stopped", t.VF, p.Name)
	case ok:
		return p, nil
	}
	if _, ok := ports.Device(t.VF); ok {
		return p, fault.New(fault.NotFound, t.VF, "%s is a device, not an interface: create an interface "+
			"on it to start it, and name the interface's id", t.VF)
	}
	return p, fault.New(fault.NotFound, t.VF, "there is no interface %s", t.VF)
}

// mtuWarning says which frames of a target are too long to be copied: an Ethernet frame in a UDP datagram becomes
// the payload of the uplink's frame.
func mtuWarning(t spec.Target, mtu, uplinkMTU uint16, headerLen int) string {
	overhead := headerLen - wire.EthernetLen // of the outer header, what counts towards the uplink's MTU
	need := int(mtu) + wire.EthernetLen + overhead
	if need <= int(uplinkMTU) {
		return ""
	}
	return fmt.Sprintf("frames of %s can have %d bytes, their copies need an uplink MTU of %d, and it is %d: "+
		"frames longer than %d bytes are not captured", t, int(mtu)+wire.EthernetLen, need, uplinkMTU,
		int(uplinkMTU)-overhead)
}

// newMirror returns the mirror of points that have their first rules and taps.
func newMirror(t spec.Target, d spec.Direction, points []plan.Point) *mirror {
	first := points[0]
	m := &mirror{
		target: t, port: first.Port, direction: d, label: plan.LabelOf(first.Port.ID, first.Side), mode: spec.Software,
	}
	for _, p := range points {
		if p.InNIC() {
			m.mode = spec.Hardware
		}
		m.points = append(m.points, &point{Point: p, counts: make([]count, len(p.Filter))})
		m.owned = append(m.owned, slices.Concat(p.Rules, p.Redirects)...)
	}
	return m
}

// sideOf is what the graph calls a direction.
func sideOf(d spec.Direction) graph.TapSide {
	switch d {
	case spec.TX:
		return graph.TapTX
	case spec.Drops:
		return graph.TapDrops
	}
	return graph.TapRX
}

// own notes the rules of points that are going to be installed.
func (m *mirror) own(points []plan.Point) {
	for _, p := range points {
		for _, r := range slices.Concat(p.Rules, p.Redirects) {
			if !slices.Contains(m.owned, r) {
				m.owned = append(m.owned, r)
			}
		}
	}
}

// replace gives the points fresh rules and taps.
func (m *mirror) replace(fresh []plan.Point) {
	for i, p := range m.points {
		p.Point = fresh[i]
		if !p.InNIC() {
			continue // a tap's last reading was taken when it was replaced
		}
		for k := range p.counts {
			p.counts[k].restart()
		}
	}
}

// copied is what the mirror has copied.
func (m *mirror) copied() (c rteflow.Counters) {
	for _, p := range m.points {
		for i, r := range p.Filter {
			if r.Sample {
				c = c.Plus(p.counts[i].total())
			}
		}
	}
	return c
}

// copied is what the session has copied in all.
func (s *session) copied() rteflow.Counters {
	total := s.gone
	for _, m := range s.mirrors {
		total = total.Plus(m.copied())
	}
	return total
}

// matched is what the i-th rule of the filter has matched.
func (m *mirror) matched(i int) (c rteflow.Counters) {
	for _, p := range m.points {
		c = c.Plus(p.counts[i].total())
	}
	return c
}

// view shows a mirror, with the rules of the filter if there is one.
func (m *mirror) view(withRules bool) spec.SessionInterface {
	first, copied := m.points[0], m.copied()
	v := spec.SessionInterface{
		Target: m.target, Direction: m.direction, Mode: m.mode, Port: m.port.Name, Label: m.label,
		Packets: copied.Packets, Bytes: copied.Bytes,
	}
	if !withRules {
		return v
	}
	for i, r := range first.Filter {
		matched := m.matched(i)
		v.Rules = append(v.Rules, spec.SessionRule{
			Pattern: first.Pattern(i), Sample: r.Sample, Packets: matched.Packets, Bytes: matched.Bytes,
		})
	}
	return v
}

// missedWarnings say which copies the graph could not send.
func (m *mirror) missedWarnings() (warnings []string) {
	for _, p := range m.points {
		if p.missed.oversize > 0 {
			warnings = append(warnings,
				fmt.Sprintf("%d packets of %s were not copied: too long for the uplink", p.missed.oversize, m.target))
		}
		if p.missed.noBuffer > 0 {
			warnings = append(warnings,
				fmt.Sprintf("%d packets of %s were not copied: no packet buffer was free", p.missed.noBuffer, m.target))
		}
	}
	return warnings
}

// readCounters brings all counters up to date, and notes which could not be read.
func (s *session) readCounters() {
	s.unread = nil
	for _, m := range s.mirrors {
		for _, p := range m.points {
			if err := s.read(p); err != nil {
				s.unread = append(s.unread, fmt.Sprintf("counters of %s are not up to date: %v", m.target, err))
			}
		}
	}
	s.unread = slices.Compact(s.unread)
}

// read reads a point's counters. Of a Broken session rules and taps may be missing.
func (s *session) read(p *point) error {
	if !p.InNIC() {
		c, err := s.deps.Taps.TapCounters(p.Port.ID, p.Side)
		if err == nil {
			p.updateTap(c)
		}
		if s.state == spec.Broken && errors.Is(err, graph.ErrNotFound) {
			return nil
		}
		return err
	}
	for i, r := range p.Rules {
		c, err := s.deps.Rules.Counters(r)
		switch {
		case err == nil:
			p.counts[i].update(c)
		case s.state != spec.Broken || !errors.Is(err, ruleset.ErrNotInstalled):
			return err
		}
	}
	return nil
}

// updateTap takes a reading of the point's tap.
func (p *point) updateTap(c graph.TapCounters) {
	for i := range min(len(p.counts), len(c.Rules)) {
		p.counts[i].update(rteflow.Counters(c.Rules[i]))
	}
	p.missed = dropped{p.before.oversize + c.Oversize, p.before.noBuffer + c.NoBuffer}
}

// tapReplaced takes the last reading of a tap that was replaced by another.
func (p *point) tapReplaced(last graph.TapCounters) {
	p.updateTap(last)
	for i := range p.counts {
		p.counts[i].restart()
	}
	p.before = p.missed
}
