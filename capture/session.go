// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"slices"
	"time"

	"dpservice/capture/filter"
	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// session is a capture, with all that it has made. Its Manager's lock guards it.
type session struct {
	deps Deps
	wait func(*session) // until the NIC's counters are up to date, while others may be changed

	request   spec.Request
	holder    <-chan struct{} // closed when the client is gone that holds the session; nil: nobody does
	state     spec.State
	startedAt time.Time
	endedAt   time.Time
	reason    spec.EndReason
	programs  map[filter.Link]filter.Program // the compiled filter
	copies    plan.Copies
	mirrors   []*mirror        // those of an interface side by side
	gone      rteflow.Counters // what was copied of interfaces that were deleted
	warnings  []string
	stale     string    // why copies do not follow the uplink; empty if they do
	broken    string    // what is left of a Broken session
	overdue   string    // why it has not ended at its limit; empty unless it should have
	retryAt   time.Time // when to try again
	unread    []string  // which counters could not be read
	changing  bool      // a change of it goes on without the lock

	measuredAt time.Time // when the rate of the copies was last measured
	measured   uint64    // what was copied by then
}

// newSession makes a session of a valid request that captures nothing yet, and compiles its filter.
func newSession(deps Deps, req spec.Request, wait func(*session)) (*session, error) {
	s := &session{deps: deps, wait: wait, request: req, state: spec.Active, programs: map[filter.Link]filter.Program{}}
	for _, t := range req.Targets {
		link := t.Link()
		if _, ok := s.programs[link]; ok {
			continue
		}
		p, err := filter.Compile(req.Filter, link, deps.MaxRules)
		if err != nil {
			return nil, filterFault(t, err)
		}
		s.programs[link] = p
		for _, note := range p.Notes { // what rules cannot express
			if !slices.Contains(s.warnings, note) {
				s.warnings = append(s.warnings, note)
			}
		}
	}
	if limit := req.Limits.PacketsPerSecond; limit > 0 {
		s.warnings = append(s.warnings, fmt.Sprintf(
			"no meter slows the copies down: the capture ends if they are more than %d packets a second", limit))
	}
	if req.Drops && deps.NIC != nil {
		s.warnings = append(s.warnings, dropsWarning)
	}
	return s, nil
}

const dropsWarning = "of drops, only those of the software are copied: what the NIC itself drops is only counted, " +
	"see dpctl port stats"

// filterFault names the target if another one might take the filter.
func filterFault(t spec.Target, err error) *fault.Error {
	reason, culprit := filter.Reason(err), ""
	if reason != fault.InvalidParams {
		culprit = t.String()
	}
	return fault.New(reason, culprit, "%v", err)
}

// dryRun asks the NIC whether it would take the session's start, and changes nothing.
func (s *session) dryRun() (spec.Session, error) {
	var ops []ruleset.Op
	var commands []string
	for _, step := range plan.Start(plansOf(s.mirrors)) {
		rules, _ := step.(plan.Rules)
		ops = append(ops, rules...)
		for _, op := range rules {
			commands = append(commands, op.Rule.Full().Commands(op.Rule.Port)...)
		}
	}
	if err := s.deps.Rules.Check(ops); err != nil {
		return spec.Session{}, asFault("cannot start the capture", err)
	}
	s.state = spec.DryRun
	v := s.viewAlone()
	v.Plan = commands
	return v, nil
}

// follow makes the session's copies leave with a header: all of them, or none. If neither can be had, the session is
// Broken.
func (s *session) follow(h wire.CopyHeader) error {
	if s.state != spec.Active {
		return nil
	}
	s.stale = ""
	if h == s.copies.Header {
		return nil
	}
	copies := s.copies
	copies.Header = h
	err := s.replace(copies)
	if err != nil {
		s.stale = fmt.Sprintf("copies do not follow the change of the uplink yet: %v", err)
	}
	return err
}

// replace gives the session's points other rules and taps, for other copies.
func (s *session) replace(copies plan.Copies) error {
	old := plansOf(s.mirrors)
	fresh := plan.Next(copies, old)
	s.eachMirror(fresh, (*mirror).own)
	if err := s.carryOut("cannot change the header of the copies", plan.Replace(old, fresh)); err != nil {
		return err
	}
	s.copies = copies
	s.eachMirror(fresh, (*mirror).replace)
	return nil
}

// end ends the session's copies: all of them, or none. If neither can be had, the session is Broken.
func (s *session) end(reason spec.EndReason, what string) error {
	if err := s.release(s.mirrors, what); err != nil {
		return err
	}
	s.state, s.endedAt, s.reason = spec.Ended, time.Now(), reason
	s.stale, s.broken, s.overdue = "", "", ""
	return nil
}

// endTarget ends the copies of one of the session's interfaces, which is going to be deleted, and the session if it
// was the last one.
func (s *session) endTarget(t spec.Target) error {
	what := "cannot end the capture of " + t.String()
	isOf := func(m *mirror) bool { return m.target == t }
	if !slices.ContainsFunc(s.mirrors, func(m *mirror) bool { return !isOf(m) }) {
		return s.end(spec.InterfaceDeleted, what)
	}
	var ended []*mirror
	for _, m := range s.mirrors {
		if isOf(m) {
			ended = append(ended, m)
		}
	}
	if err := s.release(ended, what); err != nil {
		return err
	}
	for _, m := range ended {
		s.gone = s.gone.Plus(m.copied())
	}
	s.warnings = append(s.warnings, fmt.Sprintf("interface %s was deleted: its part of the capture has ended", t))
	s.mirrors = slices.DeleteFunc(s.mirrors, isOf)
	return nil
}

// release undoes what the session has made for some mirrors.
func (s *session) release(mirrors []*mirror, what string) error {
	var owned []*ruleset.Rule
	for _, m := range mirrors {
		owned = append(owned, m.owned...)
	}
	return s.carryOut(what, plan.Stop(plansOf(mirrors), owned))
}

// plansOf are the points of mirrors as a plan has them.
func plansOf(mirrors []*mirror) (points []plan.Point) {
	for _, m := range mirrors {
		for _, p := range m.points {
			points = append(points, p.Point)
		}
	}
	return points
}

// eachMirror does something to each mirror with its share of the session's points.
func (s *session) eachMirror(points []plan.Point, do func(*mirror, []plan.Point)) {
	for _, m := range s.mirrors {
		do(m, points[:len(m.points)])
		points = points[len(m.points):]
	}
}

// captures reports whether the session captures a target.
func (s *session) captures(t spec.Target) bool {
	return slices.ContainsFunc(s.mirrors, func(m *mirror) bool { return m.target == t })
}

// targetCount is how many interfaces the session captures.
func (s *session) targetCount() int {
	targets := map[spec.Target]bool{}
	for _, m := range s.mirrors {
		targets[m.target] = true
	}
	return len(targets)
}
