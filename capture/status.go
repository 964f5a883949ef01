// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dpservice/capture/spec"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// snapshot is what Status shows.
type snapshot struct{ sessions, ended []spec.Session }

// Status returns the sessions, in the order of their starts and with their counters as of now, and those that have
// ended, the last one first, as far as they are remembered. While a change is under way it does not wait for the NIC:
// sessions and counters are those at the beginning of the change. What it returns is not to be changed.
func (m *Manager) Status() (sessions, ended []spec.Session) {
	if m.lockToRead() {
		m.refresh()
		m.mu.Unlock()
	}
	known := m.known.Load()
	return known.sessions, known.ended
}

// lockToRead locks unless a change is under way. Others who read are done soon.
func (m *Manager) lockToRead() bool {
	for !m.mu.TryLock() {
		if m.changing.Load() {
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	return true
}

// refresh has Status show the sessions with counters as of now.
func (m *Manager) refresh() {
	known := &snapshot{ended: slices.Clone(m.history)}
	for _, s := range m.sessions {
		s.readCounters()
		known.sessions = append(known.sessions, s.view(m.uplink))
	}
	m.known.Store(known)
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
	if p.Tap != nil {
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

// view is the session as status shows it, while copies leave by an uplink.
func (s *session) view(u Uplink) spec.Session {
	v := s.viewAlone()
	v.Warnings = append(v.Warnings, s.unread...)
	if s.state != spec.Active {
		return v
	}
	if u.LinkDown {
		v.Warnings = append(v.Warnings, "the link of PF0 is down: copies leave by it alone, and are lost")
	}
	if !u.resolved() {
		v.Warnings = append(v.Warnings, "the router behind PF0 is not known any more: copies go to its last MAC")
	}
	return v
}

// viewAlone is the session as history shows it.
func (s *session) viewAlone() spec.Session {
	v := spec.Session{
		Name:       s.request.Name,
		State:      s.state,
		StartedAt:  s.startedAt,
		EndedAt:    s.endedAt,
		EndReason:  s.reason,
		Sink:       s.request.Sink,
		UDPSrcPort: s.request.UDPSrcPort,
		UDPDstPort: s.request.UDPDstPort,
		Encap:      s.request.Encap,
		Direction:  s.request.Direction,
		Drops:      s.request.Drops,
		Filter:     s.request.Filter,
		Limits:     s.request.Limits,
		Held:       s.request.Held,
		Warnings:   slices.Clone(s.warnings),
	}
	for _, w := range []string{s.stale, s.broken, s.overdue} {
		if w != "" {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, m := range s.mirrors {
		v.Interfaces = append(v.Interfaces, m.view(s.request.Filter != ""))
		v.Warnings = append(v.Warnings, m.missedWarnings()...)
	}
	total := s.copied()
	v.Packets, v.Bytes = total.Packets, total.Bytes
	return v
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
