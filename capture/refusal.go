// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// asFault turns the NIC's refusal into a fault. Other errors are as they are.
func asFault(what string, err error) error {
	var failed *ruleset.ApplyError
	if !errors.As(err, &failed) {
		return err
	}
	f := fault.Wrap(failed.Err, fault.RuleRejected, "", "%s", what)
	blame(f, failed.Op)
	if len(failed.Undo) > 0 {
		f.Err = fmt.Errorf("%w; undo: %w", failed.Err, failed.Undo[0].Err)
	}
	var flow *rteflow.Error
	if errors.As(err, &flow) {
		f.RTEFlowError, f.Errno = flow.Reason(), flow.Errno
	}
	return f
}

// blame adds to f which rule of which port was not taken.
func blame(f *fault.Error, op ruleset.Op) {
	owner := op.Rule.Owner.(*plan.Owner) // as of all rules of a plan
	f.Interface = owner.Interface
	name := fmt.Sprintf("%s (port %s)", owner.Interface, owner.Port.Name)
	f.Rule = op.Rule.Full().String()
	verb := "add"
	if op.Remove {
		verb = "remove"
	}
	f.Message = fmt.Sprintf("%s: the NIC did not %s rule %s of %s: %s", f.Message, verb, op.Rule.Owner, name, f.Rule)
}

// breaks makes the session Broken: a step of a change failed with err and could not undo what it had done, or undoing
// the steps before it failed with undo. before is what was installed before the change.
func (s *session) breaks(what string, err, undo error, before [][]string) error {
	var left tapLeft
	err = asFault(what, err)
	var f *fault.Error
	switch {
	case !errors.As(err, &f):
		f = fault.Wrap(err, fault.RollbackFailed, "", "%s", what)
	case undo == nil && errors.As(err, &left):
		s.state, s.broken = spec.Broken, f.Error() // which says it all
		return f
	}
	if undo != nil {
		f.Err = fmt.Errorf("%w; undo: %w", f.Err, cause(undo))
	}
	f.Reason = fault.RollbackFailed
	f.Message = fmt.Sprintf("%s; the change could not be undone, stop the capture to remove what is left; %s",
		f.Message, strings.Join(s.differences(before), "; "))
	s.state, s.broken = spec.Broken, f.Error()
	return f
}

// cause is why a rule was refused, without what that is about.
func cause(err error) error {
	var failed *ruleset.ApplyError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// differences say for each mirror which of its rules are installed, if that is not as before.
func (s *session) differences(before [][]string) []string {
	now := s.installed()
	lines := make([]string, len(s.mirrors))
	for i, m := range s.mirrors {
		lines[i] = fmt.Sprintf("%s (port %s): %s", m.target, m.port.Name, difference(before[i], now[i]))
	}
	return lines
}

func difference(before, now []string) string {
	switch {
	case slices.Equal(before, now):
		return "as before"
	case len(now) == 0:
		return "no rule of the capture is installed"
	}
	return "installed: " + strings.Join(now, ", ")
}
