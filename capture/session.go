// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dpservice/dpservice/fault"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// session is a capture with what is needed to change and to end it.
type session struct {
	request   Request
	state     State
	startedAt time.Time
	copies    copies
	points    []point
	warnings  []string
	stale     string // why copies do not follow the uplink; empty if they do
	broken    string // what stands of a Broken session
}

func (s *session) name() string { return s.request.name() }

// apply changes the session's rules: all of them, or none. If neither can be had, the session is Broken.
func (m *Manager) apply(s *session, what string, ops []ruleset.Op) *fault.Error {
	before := m.standing(s)
	err := m.deps.Rules.Apply(ops)
	if err == nil {
		return nil
	}
	f := s.refused(what, err)
	var failed *ruleset.ApplyError
	if errors.As(err, &failed) && len(failed.Undo) > 0 {
		m.markBroken(s, f, before)
	}
	return f
}

// replaceHeader makes the session's copies leave with a new header. It adds and removes in two steps, since the old
// rules' counters can be read for the last time only when the new rules have taken over.
func (m *Manager) replaceHeader(s *session, header Header) *fault.Error {
	const what = "cannot change the header of the copies"
	before := m.standing(s)
	newPoints, newCopies := next(s.points), s.copies
	newCopies.header = header

	if f := m.apply(s, what, addSamples(newCopies, newPoints)); f != nil {
		return f
	}
	m.readCounters(s)
	f := m.apply(s, what, removeSamples(s.name(), s.points))
	if f == nil {
		s.copies, s.points = newCopies, next(s.points)
		return nil
	}
	if s.state == Broken {
		return f
	}
	if err := m.deps.Rules.Apply(removeSamples(s.name(), newPoints)); err != nil {
		f.Err = fmt.Errorf("%w; undo: %w", f.Err, err)
		m.markBroken(s, f, before)
	}
	return f
}

// readCounters brings the points' counters up to date, and says which could not be read.
func (m *Manager) readCounters(s *session) (warnings []string) {
	for i := range s.points {
		p := &s.points[i]
		c, err := m.deps.Rules.Counters(p.port.ID, sampleName(s.name(), p.priority))
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("counters of %s are not up to date: %v", p.target, err))
			continue
		}
		p.count(c)
	}
	return warnings
}

// view is the session as status shows it.
func (m *Manager) view(s *session) Session {
	unread := m.readCounters(s)
	v := s.view()
	v.Warnings = append(v.Warnings, unread...)
	return v
}

func (s *session) view() Session {
	v := Session{
		Name:       s.name(),
		State:      s.state,
		StartedAt:  s.startedAt,
		Sink:       s.request.Sink,
		UDPSrcPort: s.request.UDPSrcPort,
		UDPDstPort: s.request.udpDstPort(),
		Encap:      s.request.encap(),
		Warnings:   slices.Clone(s.warnings),
	}
	for _, w := range []string{s.stale, s.broken} {
		if w != "" {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, p := range s.points {
		c := p.copied()
		v.Interfaces = append(v.Interfaces,
			SessionInterface{Target: p.target, Port: p.port.Name, Label: labelOf(p.port.ID), Packets: c.Packets, Bytes: c.Bytes})
	}
	return v
}

// planned is the view of a session that was not started.
func (s *session) planned(ops []ruleset.Op) Session {
	v := s.view()
	for _, op := range ops {
		v.Plan = append(v.Plan, op.Rule.Commands(op.Port)...)
	}
	return v
}

// markBroken turns f into a ROLLBACK_FAILED that says for each port what stands.
func (m *Manager) markBroken(s *session, f *fault.Error, before [][]string) {
	after := m.standing(s)
	lines := make([]string, len(s.points))
	for i, p := range s.points {
		lines[i] = fmt.Sprintf("%s (port %s): %s", p.target, p.port.Name, difference(before[i], after[i]))
	}
	f.Reason = fault.RollbackFailed
	f.Message = fmt.Sprintf("%s; the change could not be undone, stop the capture to remove what stands; %s",
		f.Message, strings.Join(lines, "; "))
	s.state = Broken
	s.broken = f.Error()
}

func difference(before, after []string) string {
	switch {
	case slices.Equal(before, after):
		return "as before"
	case len(after) == 0:
		return "no rule of the capture stands"
	}
	return "stands: " + strings.Join(after, ", ")
}

// standing lists for each point the names of the session's rules that stand.
func (m *Manager) standing(s *session) [][]string {
	names := make([][]string, len(s.points))
	for i := range s.points {
		for _, op := range stopOps(s.name(), s.points[i:i+1], m.deps.Rules.Has) {
			names[i] = append(names[i], op.Name)
		}
	}
	return names
}

// refused is the fault of a change that the NIC did not take.
func (s *session) refused(what string, err error) *fault.Error {
	f := fault.Wrap(err, fault.RuleRejected, "", "%s", what)
	var failed *ruleset.ApplyError
	if errors.As(err, &failed) {
		s.blame(f, failed.Op)
		f.Err = failed.Err
		if len(failed.Undo) > 0 {
			f.Err = fmt.Errorf("%w; undo: %w", failed.Err, failed.Undo[0].Err)
		}
	}
	var flow *rteflow.Error
	if errors.As(err, &flow) {
		f.RTEFlowError, f.Errno = flow.Words(), flow.Errno
	}
	return f
}

// blame adds to f which rule of which port was not taken.
func (s *session) blame(f *fault.Error, op ruleset.Op) {
	name := fmt.Sprintf("port %d", op.Port)
	for _, p := range s.points {
		if p.port.ID == op.Port {
			f.Interface = p.target.String()
			name = fmt.Sprintf("%s (port %s)", p.target, p.port.Name)
		}
	}
	f.Rule = op.Rule.String()
	verb := "add"
	if op.Remove {
		verb = "remove"
	}
	f.Message = fmt.Sprintf("%s: the NIC did not %s rule %s of %s: %s", f.Message, verb, op.Name, name, f.Rule)
}
