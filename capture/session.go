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
	points    []point          // those of a direction of an interface side by side
	gone      rteflow.Counters // what was copied of interfaces that are no longer there
	warnings  []string
	stale     string    // why copies do not follow the uplink; empty if they do
	broken    string    // what stands of a Broken session
	overdue   string    // why it has not ended at its limit; empty unless it should have
	retryAt   time.Time // when to try again
	unread    []string  // which counters could not be read
	changing  bool      // a change of it goes on without the lock
}

func (s *session) name() string { return s.request.Name }

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

// divert plans what a change has the flows do. It is nil if that is nothing.
func (m *Manager) divert(c change) Diversion {
	if len(c.diverts) == 0 {
		return nil
	}
	return m.deps.Flows.Divert(c.diverts)
}

// carryOut changes the NIC: all of it, or nothing.
func (m *Manager) carryOut(c change) error {
	d := m.divert(c)
	if d == nil {
		return m.deps.Rules.Apply(c.ops)
	}
	err := m.deps.Rules.Apply(slices.Concat(c.ops, d.Ops()))
	if err == nil {
		d.Commit()
	} else {
		d.Abort()
	}
	return err
}

// check asks the NIC whether it would take a change, and changes nothing.
func (m *Manager) check(c change) error {
	d := m.divert(c)
	if d == nil {
		return m.deps.Rules.Check(c.ops)
	}
	defer d.Abort()
	return m.deps.Rules.Check(slices.Concat(c.ops, d.Ops()))
}

// apply changes what the NIC does for the session: all of it, or nothing. If neither can be had, the session is Broken.
func (m *Manager) apply(s *session, what string, c change) *fault.Error {
	before := m.standing(s)
	err := m.carryOut(c)
	if err == nil {
		return nil
	}
	f := m.refused(s, what, err)
	var failed *ruleset.ApplyError
	if errors.As(err, &failed) && len(failed.Undo) > 0 {
		m.markBroken(s, f, before)
	}
	return f
}

// inTwoSteps changes what the NIC does for the session: all of it, or nothing. The counters are read between the steps: only
// once the first has taken the packets away from the rules that the second removes, have these counted all that they will.
func (m *Manager) inTwoSteps(s *session, what string, first, second change) *fault.Error {
	before, wasBroken := m.standing(s), s.state == Broken
	if f := m.apply(s, what, first); f != nil {
		return f
	}
	if len(second.ops) > 0 {
		m.pause(s)
	}
	m.readCounters(s)
	f := m.apply(s, what, second)
	if f == nil || s.state == Broken && !wasBroken {
		return f
	}
	if err := m.carryOut(first.inverse()); err != nil {
		var failed *ruleset.ApplyError
		if errors.As(err, &failed) {
			err = failed.Err // f is about the change, not about its undo
		}
		f.Err = fmt.Errorf("%w; undo: %w", f.Err, err)
		m.markBroken(s, f, before)
	}
	return f
}

// pause waits for the NIC's counters, and lets other sessions be changed meanwhile.
func (m *Manager) pause(s *session) {
	s.changing = true
	m.unlock()
	time.Sleep(m.deps.CounterLag)
	m.lock()
	s.changing = false
	m.settled.Broadcast()
}

// begin makes the session's copies: all of them, or none. If neither can be had, the session is Broken.
func (m *Manager) begin(s *session, start change) error {
	const what = "cannot start the capture"
	if err := m.addTaps(s, what); err != nil {
		return err
	}
	f := m.apply(s, what, start)
	if f == nil {
		return nil
	}
	if err := m.removeTaps(s, s.points, what); err != nil {
		return fmt.Errorf("%w; undo: %w", f, err)
	}
	return f
}

// replaceHeader makes the session's copies leave with a new header.
func (m *Manager) replaceHeader(s *session, header Header) error {
	const what = "cannot change the header of the copies"
	newCopies := s.copies
	newCopies.header = header
	if err := m.replaceTaps(s, what, newCopies); err != nil {
		return err
	}
	added := addRules(newCopies, next(s.points))
	if f := m.inTwoSteps(s, what, change{ops: added}, change{ops: removeRules(s.copies, s.points)}); f != nil {
		if err := m.replaceTaps(s, what, s.copies); err != nil {
			return fmt.Errorf("%w; undo: %w", f, err)
		}
		return f
	}
	s.copies, s.points = newCopies, next(s.points)
	return nil
}

// release ends the copies of some of the session's points: all of them, or none. If neither can be had, the session is Broken.
func (m *Manager) release(s *session, points []point, what string) error {
	if f := m.inTwoSteps(s, what, stopChange(s.copies, points), removal(s.copies, points)); f != nil {
		return f
	}
	return m.removeTaps(s, points, what)
}

// readCounters brings the points' counters up to date, and notes which could not be read.
func (m *Manager) readCounters(s *session) {
	s.unread = nil
	for i := range s.points {
		p := &s.points[i]
		if err := m.readPoint(s, p); err != nil {
			s.unread = append(s.unread, fmt.Sprintf("counters of %s are not up to date: %v", p.target, err))
		}
	}
	s.unread = slices.Compact(s.unread)
}

func (m *Manager) readPoint(s *session, p *point) error {
	if p.place == nil {
		return m.readTap(s, p)
	}
	for k := range p.rules {
		name := p.ruleName(s.name(), p.generation, k)
		installed := s.copies.rules.has(p.place.on.ID, name)
		if s.state == Broken && !installed {
			continue
		}
		c, err := m.deps.Rules.Counters(s.copies.rules.known[ruleKey{p.place.on.ID, name}])
		if err != nil {
			return err
		}
		p.rules[k].count(c)
	}
	return nil
}

// view is the session as status shows it.
func (m *Manager) view(s *session) Session {
	v := s.view()
	v.Warnings = append(v.Warnings, s.unread...)
	if s.state == Active {
		v.Warnings = append(v.Warnings, m.uplink.warnings()...)
	}
	return v
}

// warnings say why copies that leave now do not reach the sink.
func (u Uplink) warnings() (warnings []string) {
	if u.LinkDown {
		warnings = append(warnings, "the link of PF0 is down: copies leave by it alone, and are lost")
	}
	if !u.resolved() {
		warnings = append(warnings, "the router behind PF0 is not known any more: copies go to its last MAC")
	}
	return warnings
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
		UDPDstPort: s.request.UDPDstPort,
		Encap:      s.request.Encap,
		Direction:  s.request.Direction,
		Filter:     s.request.Filter,
		Limits:     s.request.Limits,
		Warnings:   slices.Clone(s.warnings),
	}
	for _, w := range []string{s.stale, s.broken, s.overdue} {
		if w != "" {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, points := range s.interfaces() {
		v.Interfaces = append(v.Interfaces, s.viewInterface(points))
		v.Warnings = append(v.Warnings, missedWarnings(points)...)
	}
	total := s.copied()
	v.Packets, v.Bytes = total.Packets, total.Bytes
	return v
}

// interfaces are the points of each direction of an interface.
func (s *session) interfaces() [][]point {
	var all [][]point
	for i, p := range s.points {
		if i == 0 || p.target != s.points[i-1].target || p.direction != s.points[i-1].direction {
			all = append(all, nil)
		}
		last := &all[len(all)-1]
		*last = append(*last, p)
	}
	return all
}

// targetCount is how many interfaces points are of.
func targetCount(points []point) int {
	targets := map[Target]bool{}
	for _, p := range points {
		targets[p.target] = true
	}
	return len(targets)
}

// copied is what the session has copied in all.
func (s *session) copied() rteflow.Counters {
	total := s.gone
	for _, p := range s.points {
		total = total.Plus(p.copied())
	}
	return total
}

// viewInterface shows the points of a direction of an interface.
func (s *session) viewInterface(points []point) SessionInterface {
	first := points[0]
	v := SessionInterface{Target: first.target, Direction: first.direction, Mode: modeOf(points), Port: first.port.Name,
		Label: uint32(labelOf(first.port.ID, first.direction))}
	for _, p := range points {
		c := p.copied()
		v.Packets, v.Bytes = v.Packets+c.Packets, v.Bytes+c.Bytes
	}
	if s.request.Filter == "" {
		return v
	}
	for i, r := range first.rules {
		var matched rteflow.Counters
		for _, p := range points {
			matched = matched.Plus(p.rules[i].counted())
		}
		v.Rules = append(v.Rules, SessionRule{
			Pattern: rteflow.Rule{Pattern: r.pattern}.PatternString(), Sample: r.sample, Packets: matched.Packets, Bytes: matched.Bytes,
		})
	}
	return v
}

// modeOf is where the copies of a direction of an interface are made.
func modeOf(points []point) Mode {
	if slices.ContainsFunc(points, func(p point) bool { return p.place != nil }) {
		return Hardware
	}
	return Software
}

// planned is the view of a session that was not started.
func (s *session) planned(ops []ruleset.Op) Session {
	v := s.view()
	for _, op := range ops {
		v.Plan = append(v.Plan, op.Rule.Spec.Commands(op.Rule.Port)...)
	}
	return v
}

// markBroken turns f into a ROLLBACK_FAILED that says for each port what stands.
func (m *Manager) markBroken(s *session, f *fault.Error, before [][]string) {
	after := m.standing(s)
	var lines []string
	for i, points := range s.interfaces() {
		lines = append(lines, fmt.Sprintf("%s (port %s): %s", points[0].target, points[0].port.Name, difference(before[i], after[i])))
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

// standing lists for each direction of an interface the names of the session's rules that stand.
func (m *Manager) standing(s *session) [][]string {
	var all [][]string
	for _, points := range s.interfaces() {
		var names []string
		stop, rest := stopChange(s.copies, points), removal(s.copies, points)
		for _, op := range slices.Concat(stop.ops, rest.ops) {
			names = append(names, op.Rule.Owner.String())
		}
		all = append(all, names)
	}
	return all
}

// refused is the fault of a change that the NIC did not take.
func (m *Manager) refused(s *session, what string, err error) *fault.Error {
	f := fault.Wrap(err, fault.RuleRejected, "", "%s", what)
	var failed *ruleset.ApplyError
	if errors.As(err, &failed) {
		m.blame(s, f, failed.Op)
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
func (m *Manager) blame(s *session, f *fault.Error, op ruleset.Op) {
	var name string
	f.Interface, name = m.ownerOf(s, op)
	f.Rule = op.Rule.Spec.String()
	verb := "add"
	if op.Remove {
		verb = "remove"
	}
	f.Message = fmt.Sprintf("%s: the NIC did not %s rule %s of %s: %s", f.Message, verb, op.Rule.Owner, name, f.Rule)
}

// ownerOf is whose rule an operation is about, and what a person calls that: a flow's may stand on the port of one that is not
// captured.
func (m *Manager) ownerOf(s *session, op ruleset.Op) (culprit, name string) {
	for _, p := range s.points {
		if p.place != nil && p.place.on.ID == op.Rule.Port && strings.HasPrefix(op.Rule.Owner.String(), p.ruleNames(s.name())) {
			return p.target.String(), fmt.Sprintf("%s (port %s)", p.target, p.place.on.Name)
		}
	}
	for _, p := range s.points {
		if p.port.ID == op.Rule.Port {
			return p.target.String(), fmt.Sprintf("%s (port %s)", p.target, p.port.Name)
		}
	}
	for _, p := range m.deps.Ports.All() {
		if p.ID == op.Rule.Port {
			return p.Name, "port " + p.Name
		}
	}
	return "", fmt.Sprintf("port %d", op.Rule.Port)
}
