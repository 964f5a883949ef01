// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"slices"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
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
		planned.Side = plan.SideOf(d)
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
		target: t, port: first.Port, direction: d, label: first.Label, mode: spec.Software,
	}
	for _, p := range points {
		if p.Tap == nil {
			m.mode = spec.Hardware
		}
		m.points = append(m.points, &point{Point: p, counts: make([]count, len(p.Filter))})
		m.owned = append(m.owned, slices.Concat(p.Rules, p.Redirects)...)
	}
	return m
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
		if p.Tap != nil {
			continue // a tap's last reading was taken when it was replaced
		}
		for k := range p.counts {
			p.counts[k].restart()
		}
	}
}
