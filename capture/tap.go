// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"

	"dpservice/capture/filter"
	"dpservice/dpservice/fault"
	"dpservice/graph"
)

// tap is what the graph is told of a point that has no place in the NIC.
func (p point) tap(c copies) graph.Tap {
	t := graph.Tap{Port: p.port.ID, Side: p.side(), Out: c.out, Header: c.headerOf(p).Bytes(), Inner: p.link == filter.IP}
	for i := range p.rules {
		t.Rules = append(t.Rules, graph.TapRule{Sample: p.rules[i].sample, Conditions: conditionsOf(&p.rules[i].match)})
	}
	return t
}

func (p point) side() graph.TapSide {
	if p.direction == TX {
		return graph.TapTX
	}
	return graph.TapRX
}

// conditionsOf are what a pattern asks of a packet. The graph's fields are the filter's.
func conditionsOf(p *filter.Pattern) []graph.TapCondition {
	var all []graph.TapCondition
	for f := filter.EthDst; f <= filter.ICMPCode; f++ {
		if c := p[f]; !c.Any() {
			all = append(all, graph.TapCondition{Field: graph.TapField(f), Value: c.Value, Mask: c.Mask})
		}
	}
	return all
}

// addTaps has the graph copy packets at the points without a place in the NIC: at all of them, or at none.
func (m *Manager) addTaps(s *session, what string) error {
	for i := range s.points {
		if err := m.setTap(&s.points[i], s.copies); err != nil {
			err = tapFault(what, s.points[i], err)
			if undo := m.removeTaps(s, s.points[:i], what); undo != nil {
				return fmt.Errorf("%w; undo: %w", err, undo)
			}
			return err
		}
	}
	return nil
}

// replaceTaps gives the copies of the session's taps another header: of all of them, or of none.
func (m *Manager) replaceTaps(s *session, what string, c copies) error {
	for i := range s.points {
		if err := m.setTap(&s.points[i], c); err != nil {
			for k := range s.points[:i] {
				if undo := m.setTap(&s.points[k], s.copies); undo != nil {
					err = fmt.Errorf("%w; undo: %w", err, undo)
				}
			}
			return tapFault(what, s.points[i], err)
		}
	}
	return nil
}

func (m *Manager) setTap(p *point, c copies) error {
	if p.place != nil {
		return nil
	}
	replaced, err := m.deps.Taps.SetTap(p.tap(c))
	if err == nil {
		p.tapReplaced(replaced)
	}
	return err
}

// removeTaps removes the taps of some of the session's points, and takes their last readings. If one stays, the session
// is Broken: stopping it again tries again.
func (m *Manager) removeTaps(s *session, points []point, what string) error {
	for i := range points {
		p := &points[i]
		if p.place != nil {
			continue
		}
		last, err := m.deps.Taps.RemoveTap(p.port.ID, p.side())
		switch {
		case err == nil:
			p.countTap(last)
		case !errors.Is(err, graph.ErrNotFound):
			f := fault.Wrap(err, fault.RollbackFailed, p.target.String(), "%s: the packet graph goes on to copy at port %s, stop the capture again", what, p.port.Name)
			s.state, s.broken = Broken, f.Error()
			return f
		}
	}
	return nil
}

// tapFault gives the graph's refusal its reason.
func tapFault(what string, p point, err error) error {
	if errors.Is(err, graph.ErrFull) {
		return fault.Wrap(err, fault.LimitReached, p.target.String(), "%s: no memory for the copies at port %s", what, p.port.Name)
	}
	return fmt.Errorf("%s: the packet graph does not copy at port %s of %s: %w", what, p.port.Name, p.target, err)
}

// readTap takes a reading of a tap's counters.
func (m *Manager) readTap(s *session, p *point) error {
	c, err := m.deps.Taps.TapCounters(p.port.ID, p.side())
	if err == nil {
		p.countTap(c)
	}
	if s.state == Broken && errors.Is(err, graph.ErrNotFound) {
		return nil
	}
	return err
}

// missedWarnings say which copies the graph could not send.
func missedWarnings(points []point) (warnings []string) {
	for _, p := range points {
		missed := p.allMissed()
		if missed.oversize > 0 {
			warnings = append(warnings, fmt.Sprintf("%d packets of %s were not copied: too long for the uplink", missed.oversize, p.target))
		}
		if missed.noBuffer > 0 {
			warnings = append(warnings, fmt.Sprintf("%d packets of %s were not copied: no packet buffer was free", missed.noBuffer, p.target))
		}
	}
	return warnings
}
