// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"slices"

	"dpservice/capture/plan"
	"dpservice/dpservice/fault"
	"dpservice/graph"
	"dpservice/rteflow/ruleset"
)

// carryOut does the steps of a plan: all of them, or none. If a step fails, those before it are undone in the reverse
// order. If that fails too, or the failed step itself could not be undone, the session is Broken. Undoing stops at
// the first failure: packets find their way in every state in between.
func (s *session) carryOut(what string, steps []plan.Step) error {
	before := s.installed()
	defer s.disown()
	for i, step := range steps {
		err := s.do(what, step)
		if err == nil {
			continue
		}
		if isLeft(err) {
			return s.breaks(what, err, nil, before)
		}
		for _, done := range slices.Backward(steps[:i]) {
			if undoErr := s.undo(what, done); undoErr != nil {
				return s.breaks(what, err, undoErr, before)
			}
		}
		return asFault(what, err)
	}
	return nil
}

func (s *session) undo(what string, step plan.Step) error {
	if inverse := step.Undo(); inverse != nil {
		return s.do(what, inverse)
	}
	return nil
}

// do does a step, as a whole or not at all unless isLeft of its error.
func (s *session) do(what string, step plan.Step) error {
	switch step := step.(type) {
	case plan.Rules:
		return s.deps.Rules.Apply(step)
	case plan.Tap:
		return s.setTap(what, step)
	case plan.ReadCounters:
		s.wait(s)
		s.readCounters()
		return nil
	}
	panic(fmt.Sprintf("no such step: %T", step))
}

// tapLeft is why the graph did not remove a tap, which may go on to copy.
type tapLeft struct{ error }

func (e tapLeft) Unwrap() error { return e.error }

// setTap sets, replaces or removes a tap, and takes the last reading of the old one.
func (s *session) setTap(what string, step plan.Tap) error {
	if step.New == nil {
		return s.removeTap(what, step.Old)
	}
	p := s.tapPoint(step.New)
	last, err := s.deps.Taps.SetTap(*step.New)
	switch {
	case errors.Is(err, graph.ErrFull):
		return fault.Wrap(err, fault.LimitReached, p.Interface, "%s: no memory for the copies at port %s", what, p.Port.Name)
	case err != nil:
		return fmt.Errorf("%s: the packet graph does not copy at port %s of %s: %w", what, p.Port.Name, p.Interface, err)
	}
	p.tapReplaced(last)
	return nil
}

// removeTap removes a tap. One that is not there is as good as removed.
func (s *session) removeTap(what string, tap *graph.Tap) error {
	p := s.tapPoint(tap)
	last, err := s.deps.Taps.RemoveTap(tap.Port, tap.Side)
	switch {
	case err == nil:
		p.updateTap(last)
	case !errors.Is(err, graph.ErrNotFound):
		return fault.Wrap(tapLeft{err}, fault.RollbackFailed, p.Interface,
			"%s: the packet graph goes on to copy at port %s, stop the capture again", what, p.Port.Name)
	}
	return nil
}

// tapPoint finds the point of a tap.
func (s *session) tapPoint(tap *graph.Tap) *point {
	for _, m := range s.mirrors {
		for _, p := range m.points {
			if p.Tap != nil && p.Port.ID == tap.Port && p.Side == tap.Side {
				return p
			}
		}
	}
	panic(fmt.Sprintf("no point has the tap of port %d", tap.Port))
}

// isLeft reports whether a step that failed has left something that it could not undo.
func isLeft(err error) bool {
	var failed *ruleset.ApplyError
	var left tapLeft
	return errors.As(err, &failed) && len(failed.Undo) > 0 || errors.As(err, &left)
}

// disown forgets the rules that are not installed.
func (s *session) disown() {
	for _, m := range s.mirrors {
		m.owned = slices.DeleteFunc(m.owned, func(r *ruleset.Rule) bool { return !s.deps.Rules.Installed(r) })
	}
}

// installed are for each mirror the names of its rules that are installed.
func (s *session) installed() [][]string {
	all := make([][]string, len(s.mirrors))
	for i, m := range s.mirrors {
		for _, r := range m.owned {
			if s.deps.Rules.Installed(r) {
				all[i] = append(all[i], r.Owner.String())
			}
		}
		slices.Sort(all[i])
	}
	return all
}
