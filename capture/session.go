// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dpservice/capture/filter"
	"dpservice/dpservice/fault"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// session is a capture with what is needed to change and to end it.
type session struct {
	request   Request
	state     State
	startedAt time.Time
	endedAt   time.Time
	reason    EndReason
	programs  map[filter.Link]filter.Program
	copies    copies
	points    []point
	gone      rteflow.Counters // what was copied of interfaces that are no longer there
	warnings  []string
	stale     string    // why copies do not follow the uplink; empty if they do
	broken    string    // what stands of a Broken session
	overdue   string    // why it has not ended at its limit; empty unless it should have
	retryAt   time.Time // when to try again
}

func (s *session) name() string { return s.request.name() }

// compile turns the filter into rules, for each kind of target that there is. What rules cannot tell becomes a warning.
func (s *session) compile(maxRules int) error {
	s.programs = map[filter.Link]filter.Program{}
	for _, t := range s.request.Targets {
		link := linkOf(t)
		if _, ok := s.programs[link]; ok {
			continue
		}
		p, err := filter.Compile(s.request.Filter, link, maxRules)
		if err != nil {
			return filterFault(t, err)
		}
		s.programs[link] = p
		for _, note := range p.Notes {
			if !slices.Contains(s.warnings, note) {
				s.warnings = append(s.warnings, note)
			}
		}
	}
	return nil
}

// filterFault gives an error of the filter's compiler its reason.
func filterFault(t Target, err error) *fault.Error {
	var e *filter.Error
	reason, culprit := fault.InvalidParams, ""
	if errors.As(err, &e) {
		switch e.Kind {
		case filter.Unsupported:
			reason, culprit = fault.NotSupported, t.String()
		case filter.TooMany:
			reason, culprit = fault.LimitReached, t.String()
		}
	}
	return fault.New(reason, culprit, "%v", err)
}

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

// replaceHeader makes the session's copies leave with a new header.
func (m *Manager) replaceHeader(s *session, header Header) *fault.Error {
	newCopies, newPoints := s.copies, next(s.points)
	newCopies.header = header
	added := addRules(newCopies, newPoints)
	f := m.inTwoSteps(s, "cannot change the header of the copies", added, removeRules(s.name(), s.points))
	if f == nil {
		s.copies, s.points = newCopies, next(s.points)
	}
	return f
}

// release removes the rules of some of the session's points.
func (m *Manager) release(s *session, points []point, what string) *fault.Error {
	redirects, rules := stopOps(s.copies, points, m.deps.Rules.Has)
	return m.inTwoSteps(s, what, redirects, rules)
}

// inTwoSteps changes the session's rules: all of them, or none. The counters are read between the steps: only once the
// first has taken the packets away from the rules that the second removes, have these counted all that they will.
func (m *Manager) inTwoSteps(s *session, what string, first, second []ruleset.Op) *fault.Error {
	before, wasBroken := m.standing(s), s.state == Broken
	if f := m.apply(s, what, first); f != nil {
		return f
	}
	m.readCounters(s)
	f := m.apply(s, what, second)
	if f == nil || s.state == Broken && !wasBroken {
		return f
	}
	if err := m.deps.Rules.Apply(inverse(first)); err != nil {
		var failed *ruleset.ApplyError
		if errors.As(err, &failed) {
			err = failed.Err // f is about the change, not about its undo
		}
		f.Err = fmt.Errorf("%w; undo: %w", f.Err, err)
		m.markBroken(s, f, before)
	}
	return f
}

// readCounters brings the points' counters up to date, and says which could not be read.
func (m *Manager) readCounters(s *session) (warnings []string) {
	for i := range s.points {
		p := &s.points[i]
		for k := range p.rules {
			name := ruleName(s.name(), p.generation, k)
			c, err := m.deps.Rules.Counters(p.port.ID, name)
			switch {
			case err == nil:
				p.rules[k].count(c)
			case s.state != Broken || m.deps.Rules.Has(p.port.ID, name):
				warnings = append(warnings, fmt.Sprintf("counters of %s are not up to date: %v", p.target, err))
			}
		}
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
		EndedAt:    s.endedAt,
		EndReason:  s.reason,
		Sink:       s.request.Sink,
		UDPSrcPort: s.request.UDPSrcPort,
		UDPDstPort: s.request.udpDstPort(),
		Encap:      s.request.encap(),
		Filter:     s.request.Filter,
		Limits:     s.request.Limits,
		Warnings:   slices.Clone(s.warnings),
	}
	for _, w := range []string{s.stale, s.broken, s.overdue} {
		if w != "" {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, p := range s.points {
		v.Interfaces = append(v.Interfaces, s.viewPoint(p))
	}
	total := s.copied()
	v.Packets, v.Bytes = total.Packets, total.Bytes
	return v
}

// copied is what the session has copied in all.
func (s *session) copied() rteflow.Counters {
	total := s.gone
	for _, p := range s.points {
		total = sum(total, p.copied())
	}
	return total
}

func (s *session) viewPoint(p point) SessionInterface {
	c := p.copied()
	v := SessionInterface{Target: p.target, Port: p.port.Name, Label: labelOf(p.port.ID), Packets: c.Packets, Bytes: c.Bytes}
	if s.request.Filter == "" {
		return v
	}
	for i := range p.rules {
		r := &p.rules[i]
		matched := r.counted()
		v.Rules = append(v.Rules, SessionRule{
			Pattern: rteflow.Rule{Pattern: r.pattern}.PatternString(), Sample: r.sample, Packets: matched.Packets, Bytes: matched.Bytes,
		})
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
		redirects, rules := stopOps(s.copies, s.points[i:i+1], m.deps.Rules.Has)
		for _, op := range append(redirects, rules...) {
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
