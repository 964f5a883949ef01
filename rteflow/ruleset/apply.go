// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
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
		fmt.Fprintf(&b, "; the rule: %v", e.Op.Rule)
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
		return fmt.Sprintf("remove rule %q from port %d", o.Name, o.Port)
	}
	return fmt.Sprintf("add rule %q to port %d", o.Name, o.Port)
}

func (o Op) key() key { return key{o.Port, o.Name} }

// Apply carries out all operations in order, or none: when one fails, those before it are undone in reverse. The error
// is an *ApplyError. If the undo fails too, its Undo says where the NIC is not as before, and the Set knows
// what stands.
func (s *Set) Apply(ops []Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := transaction{set: s, before: map[key]*standing{}, failures: map[key]error{}}
	for _, op := range ops {
		if err := t.do(op); err != nil {
			return &ApplyError{Op: s.filled(op), Err: err, Undo: t.undo()}
		}
	}
	return nil
}

// Check finds out whether the driver takes the rules that Apply would add, and whether the names fit. Each is tried on its own, as
// by Try. The error is an *ApplyError without Undo.
func (s *Set) Check(ops []Op) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	changed := map[key]bool{}
	for _, op := range ops {
		stands, known := changed[op.key()]
		if !known {
			stands = s.rules[op.key()] != nil
		}
		if err := s.check(op, stands); err != nil {
			return &ApplyError{Op: s.filled(op), Err: err}
		}
		changed[op.key()] = !op.Remove
	}
	return nil
}

func (s *Set) check(op Op, stands bool) error {
	switch {
	case op.Remove && !stands:
		return ErrNotFound
	case op.Remove:
		return nil
	case stands:
		return ErrExists
	default:
		return Try(s.driver, op.Port, op.Rule)
	}
}

// OutOfReach is how far above its own group a rule is tried: no rule that packets reach leads there.
const OutOfReach = 1024

// Try finds out whether the driver takes a rule, by creating it in a group that no packet reaches, and destroying it at once.
// To validate it would be no answer: drivers refuse to create what they have found valid.
func Try(d Driver, port uint16, r rteflow.Rule) error {
	r.Group += OutOfReach
	r.Actions = slices.Clone(r.Actions)
	for i, a := range r.Actions {
		if jump, ok := a.(rteflow.Jump); ok {
			r.Actions[i] = rteflow.Jump{Group: jump.Group + OutOfReach}
		}
	}
	h, err := d.Create(port, r)
	if err != nil {
		return err
	}
	if err := d.Destroy(port, h); err != nil {
		return fmt.Errorf("the rule was taken to try it, and now stands in group %d, where no packet comes: %w", r.Group, err)
	}
	return nil
}

// Clear removes all rules, the youngest first, and goes on when one cannot be removed: that one stays in the Set. The
// error joins an *ApplyError for each.
func (s *Set) Clear() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(s.rules), func(a, b key) int {
		return cmp.Compare(s.rules[b].serial, s.rules[a].serial)
	})
	var errs []error
	for _, k := range keys {
		op := s.filled(Remove(k.port, k.name))
		if err := s.destroy(k); err != nil {
			errs = append(errs, &ApplyError{Op: op, Err: err})
		}
	}
	return errors.Join(errs...)
}

// filled completes a removal with the rule it is about.
func (s *Set) filled(op Op) Op {
	if st := s.rules[op.key()]; op.Remove && st != nil {
		op.Rule = st.rule
	}
	return op
}

// create puts st into the NIC; its name must be free.
func (s *Set) create(k key, st *standing) error {
	h, err := s.driver.Create(k.port, st.rule)
	if err != nil {
		return err
	}
	st.handle = h
	s.rules[k] = st
	return nil
}

// destroy removes what stands under k. Its handle is dead afterwards, so it leaves the Set with it.
func (s *Set) destroy(k key) error {
	st := s.rules[k]
	if err := s.driver.Destroy(k.port, st.handle); err != nil {
		return err
	}
	st.handle = 0
	delete(s.rules, k)
	return nil
}

// transaction remembers what an Apply has done.
type transaction struct {
	set      *Set
	done     []step
	before   map[key]*standing // what stood under the names that were touched; nil: nothing
	failures map[key]error     // of the undo
}

// errLeft is why a step was not reversed although nothing refused it.
var errLeft = errors.New("left in place, since a later change of this port could not be undone")

// step is a rule that was put in place or taken away.
type step struct {
	key     key
	rule    *standing
	removed bool
}

func (t *transaction) do(op Op) error {
	k, s := op.key(), t.set
	st := s.rules[k]
	if _, ok := t.before[k]; !ok {
		t.before[k] = st
	}
	if op.Remove {
		if st == nil {
			return ErrNotFound
		}
		if err := s.destroy(k); err != nil {
			return err
		}
	} else {
		if st != nil {
			return ErrExists
		}
		s.count++
		st = &standing{rule: op.Rule, serial: s.count}
		if err := s.create(k, st); err != nil {
			return err
		}
	}
	t.done = append(t.done, step{k, st, op.Remove})
	return nil
}

// undo reverses the steps, the last first, and returns what is left to do where that failed. Where a step cannot be
// reversed, the earlier ones on its port stay as well: each state on the way was one that packets can pass, while
// a rule without those that it was built on may send them nowhere.
func (t *transaction) undo() []UndoError {
	stuck := map[uint16]bool{}
	for _, st := range slices.Backward(t.done) {
		if stuck[st.key.port] {
			if t.failures[st.key] == nil {
				t.failures[st.key] = errLeft
			}
			continue
		}
		stuck[st.key.port] = t.reverse(st) != nil
	}
	var left []UndoError
	seen := map[key]bool{}
	for _, st := range slices.Backward(t.done) {
		if !seen[st.key] {
			seen[st.key] = true
			left = append(left, t.left(st.key)...)
		}
	}
	return left
}

func (t *transaction) reverse(st step) error {
	var err error
	if st.removed {
		err = t.set.create(st.key, st.rule)
	} else {
		err = t.set.destroy(st.key)
	}
	if err != nil {
		t.failures[st.key] = err
	}
	return err
}

// left is what separates the rule under k from what it was before the transaction.
func (t *transaction) left(k key) []UndoError {
	now, before, err := t.set.rules[k], t.before[k], t.failures[k]
	if now == before {
		return nil
	}
	var left []UndoError
	if now != nil {
		left = append(left, UndoError{Op{k.port, k.name, now.rule, true}, err})
	}
	if before != nil {
		left = append(left, UndoError{Op{k.port, k.name, before.rule, false}, err})
	}
	return left
}
