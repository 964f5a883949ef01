// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dpservice/rteflow"
)

// ApplyError is a list of operations that was not carried out. It wraps Err, so errors.As finds a *rteflow.Error.
type ApplyError struct {
	Op  Op // the operation that failed
	Err error
	// Undo is what still separates the NIC from what it was before, in the order in which to do it; empty if all
	// is as before.
	Undo []UndoError
}

// UndoError is an operation that would have to be done to have the NIC as it was before, and why it could not be.
type UndoError struct {
	Op  Op
	Err error
}

// Error names the port, the rule that the NIC refused, its words, and what could not be undone.
func (e *ApplyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %v", e.Op, e.Err)
	var refusal *rteflow.Error
	if errors.As(e.Err, &refusal) {
		fmt.Fprintf(&b, "; the rule: %v", e.Op.Rule.Full())
	}
	for _, u := range e.Undo {
		fmt.Fprintf(&b, "; undo failed: %v: %v", u.Op, u.Err)
	}
	return b.String()
}

func (e *ApplyError) Unwrap() error { return e.Err }

// String names the operation, as in `add rule "base/eth" to port 1`.
func (o Op) String() string {
	if o.Remove {
		return fmt.Sprintf("remove rule %q from port %d", o.Rule.Owner, o.Rule.Port)
	}
	return fmt.Sprintf("add rule %q to port %d", o.Rule.Owner, o.Rule.Port)
}

// fits says whether the operation can be done to a rule that is installed or not.
func (o Op) fits(installed bool) error {
	switch {
	case o.Remove && !installed:
		return ErrNotInstalled
	case !o.Remove && installed:
		return ErrInstalled
	}
	return nil
}

// batchSize is the most operations that go to the driver in one call.
const batchSize = 256

// Apply carries out all operations in order, or none: when one fails, those before it are undone in reverse. Neighbours
// of the same kind on the same port share a call of the driver. The error is an *ApplyError. If the undo fails too, its
// Undo says where the NIC is not as before, and the Set knows what is installed.
//
// Others read and change the Set between the calls of the driver: nobody else may change the same rules meanwhile.
func (s *Set) Apply(ops []Op) error {
	for done := 0; done < len(ops); {
		n, err := s.doLocked(ops[done:])
		done += n
		if err != nil {
			return &ApplyError{Op: ops[done], Err: err, Undo: s.undo(ops[:done])}
		}
	}
	return nil
}

// ApplyEach carries out the operations in order, each whether or not others fail. It returns an *ApplyError without
// Undo for each that failed. Others read and change the Set between the calls of the driver, as with Apply.
func (s *Set) ApplyEach(ops []Op) (failed []*ApplyError) {
	for len(ops) > 0 {
		n, err := s.doLocked(ops)
		if err != nil {
			failed = append(failed, &ApplyError{Op: ops[n], Err: err})
			n++
		}
		ops = ops[n:]
	}
	return failed
}

func (s *Set) doLocked(ops []Op) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.do(ops)
}

// do carries out the first operations, as many as one call of the driver can. It returns how many are done, and the
// error of the one after them.
func (s *Set) do(ops []Op) (int, error) {
	first := ops[0]
	if err := first.fits(first.Rule.installed); err != nil {
		return 0, err
	}
	n := 0
	for _, op := range ops[:min(len(ops), batchSize)] {
		if op.Remove != first.Remove || op.Rule.Port != first.Rule.Port || op.fits(op.Rule.installed) != nil {
			break
		}
		op.Rule.installed = !op.Remove // so that the same operation does not fit twice
		n++
	}
	for _, op := range ops[:n] {
		op.Rule.installed = op.Remove
	}
	if first.Remove {
		return s.destroy(ops[:n])
	}
	return s.create(ops[:n])
}

// create installs the rules of operations on one port.
func (s *Set) create(ops []Op) (int, error) {
	specs := s.specs[:0]
	for _, op := range ops {
		specs = append(specs, op.Rule.spec())
	}
	s.specs = specs
	handles, err := s.driver.CreateBatch(ops[0].Rule.Port, specs)
	for i, h := range handles {
		s.insert(ops[i].Rule, h)
	}
	s.count(ops[:len(handles)])
	return len(handles), err
}

// destroy removes the rules of operations on one port.
func (s *Set) destroy(ops []Op) (int, error) {
	handles := s.handles[:0]
	for _, op := range ops {
		handles = append(handles, op.Rule.handle)
	}
	s.handles = handles
	n, err := s.driver.DestroyBatch(ops[0].Rule.Port, handles)
	for _, op := range ops[:n] {
		s.forget(op.Rule)
	}
	s.count(ops[:n])
	return n, err
}

// errLeft is why an operation was not reversed although nothing refused it.
var errLeft = errors.New("left in place, since a later change of this port could not be undone")

// undo reverses operations that were done, the last first, and returns what is left to do where that failed. Where
// one cannot be reversed, the earlier ones on its port stay as well: each state on the way was one that packets can
// pass, while a rule without those that it was built on may send them nowhere.
func (s *Set) undo(done []Op) []UndoError {
	s.mu.Lock()
	defer s.mu.Unlock()
	stuck := map[uint16]bool{}
	failures := map[*Rule]error{}
	for _, op := range slices.Backward(done) {
		err := errLeft
		if !stuck[op.Rule.Port] {
			_, err = s.do([]Op{{op.Rule, !op.Remove}})
		}
		if err != nil {
			stuck[op.Rule.Port] = true
			if failures[op.Rule] == nil {
				failures[op.Rule] = err
			}
		}
	}
	if len(failures) == 0 {
		return nil
	}
	return left(done, failures)
}

// left is what separates the rules of operations that could not all be reversed from what they were before. A rule
// was installed before if the first operation on it has removed it.
func left(done []Op, failures map[*Rule]error) []UndoError {
	before := map[*Rule]bool{}
	for _, op := range slices.Backward(done) {
		before[op.Rule] = op.Remove
	}
	var left []UndoError
	for _, op := range slices.Backward(done) {
		r := op.Rule
		was, unseen := before[r]
		delete(before, r)
		if unseen && was != r.installed {
			left = append(left, UndoError{Op{r, r.installed}, failures[r]})
		}
	}
	return left
}

// Check finds out whether the driver takes the rules that Apply would add, and whether the operations fit. Each rule
// is tried on its own, as by Try. The error is an *ApplyError without Undo.
func (s *Set) Check(ops []Op) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	changed := map[*Rule]bool{}
	for _, op := range ops {
		installed, known := changed[op.Rule]
		if !known {
			installed = op.Rule.installed
		}
		err := op.fits(installed)
		if err == nil && !op.Remove {
			err = Try(s.driver, op.Rule.Port, op.Rule.Full())
		}
		if err != nil {
			return &ApplyError{Op: op, Err: err}
		}
		changed[op.Rule] = !op.Remove
	}
	return nil
}

// OutOfReach is how far above its own group a rule is tried: no rule that packets reach leads there.
const OutOfReach = 1024

// Try finds out whether the driver takes a rule, by creating it in a group that no packet reaches, and destroying it
// at once. To validate it would be no answer: drivers refuse to create what they have found valid.
func Try(d Driver, port uint16, r rteflow.Rule) error {
	r.Group += OutOfReach
	r.Actions = slices.Clone(r.Actions)
	for i, a := range r.Actions {
		if jump, ok := a.(rteflow.Jump); ok {
			r.Actions[i] = rteflow.Jump{Group: jump.Group + OutOfReach}
		}
	}
	h, err := d.CreateBatch(port, []rteflow.Rule{r})
	if err != nil {
		return err
	}
	if _, err := d.DestroyBatch(port, h); err != nil {
		return fmt.Errorf("the rule was taken to try it, and now is left in group %d, where no packet comes: %w",
			r.Group, err)
	}
	return nil
}

// Clear removes all rules, the youngest first, and goes on when one cannot be removed: that one stays in the Set. The
// error joins an *ApplyError for each.
func (s *Set) Clear() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Rule
	for r := s.newest; r != nil; r = r.older {
		all = append(all, r)
	}
	var errs []error
	for ops := Remove(all...); len(ops) > 0; {
		n, err := s.do(ops)
		if err != nil {
			errs = append(errs, &ApplyError{Op: ops[n], Err: err})
			n++
		}
		ops = ops[n:]
	}
	return errors.Join(errs...)
}
