// SPDX-License-Identifier: Apache-2.0

// Package ruleset keeps the rules that are installed in the NIC, and changes them by lists of operations that are
// carried out as a whole or not at all.
package ruleset

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"dpservice/rteflow"
)

// The errors of an operation that does not fit the set.
var (
	ErrInstalled    = errors.New("the rule is installed already")
	ErrNotInstalled = errors.New("the rule is not installed")
)

// Driver puts rules into a NIC.
type Driver interface {
	// CreateBatch installs rules in order and stops at the first that fails: the handles are those of the rules before it.
	// It does not keep the slice, nor does DestroyBatch.
	CreateBatch(port uint16, rules []rteflow.Rule) ([]rteflow.Handle, error)
	// DestroyBatch removes rules in order, stops at the first that fails, and returns how many it has removed. The others
	// stay installed.
	DestroyBatch(port uint16, handles []rteflow.Handle) (int, error)
	Query(port uint16, h rteflow.Handle) (rteflow.Counters, error)
	QueryAge(port uint16, h rteflow.Handle) (rteflow.AgeState, error)
}

// Owner says who made a rule and what for, as people read it: "base/guard", "flow/1f". Each package that makes rules
// has an Owner type of its own.
type Owner interface{ String() string }

// Maker is an Owner of rules that are too many to be kept whole: their Spec has an Attr only, and the rest is made when
// it is needed.
type Maker interface {
	Owner
	rteflow.Maker
}

// Rule is a rule for the NIC. Whoever makes it keeps the pointer, which is the rule's identity: it is how the rule is
// added to a Set, read and removed. A removed Rule can be added again. The exported fields must not change once the
// Rule was given to a Set, and a Rule belongs to one Set.
type Rule struct {
	Port  uint16 // the port that the rule is created on
	Owner Owner
	Spec  rteflow.Rule

	// Guarded by the Set's lock.
	installed    bool
	handle       rteflow.Handle // of an installed rule
	older, newer *Rule          // the Set's neighbours of an installed rule
}

// String names the rule, its port and what it does.
func (r *Rule) String() string { return fmt.Sprintf("%v on port %d: %v", r.Owner, r.Port, r.Full()) }

// Full returns the whole rule, also if its Owner is a Maker.
func (r *Rule) Full() rteflow.Rule {
	return r.spec().Whole()
}

// spec returns the rule for the driver.
func (r *Rule) spec() rteflow.Rule {
	if m, ok := r.Owner.(Maker); ok {
		return rteflow.Rule{Attr: r.Spec.Attr, Maker: m}
	}
	return r.Spec
}

// Op adds a rule to the NIC, or removes it.
type Op struct {
	Rule   *Rule
	Remove bool
}

// Add returns the operations that install rules in this order.
func Add(rules ...*Rule) []Op { return ops(rules, false) }

// Remove returns the operations that remove rules in this order.
func Remove(rules ...*Rule) []Op { return ops(rules, true) }

func ops(rules []*Rule, remove bool) []Op {
	ops := make([]Op, len(rules))
	for i, r := range rules {
		ops[i] = Op{r, remove}
	}
	return ops
}

// Set is the rules that are installed in a NIC. It is safe for concurrent use; changes, and reads of counters while a
// change is under way, wait for each other.
type Set struct {
	driver Driver

	mu             sync.RWMutex
	oldest, newest *Rule            // the ends of the list of installed rules
	specs          []rteflow.Rule   // of the last call of the driver, and
	handles        []rteflow.Handle // likewise: their memory is used again
	counts         map[groupKey]int
}

// New returns an empty set of rules in the driver's NIC.
func New(d Driver) *Set {
	return &Set{driver: d, counts: map[groupKey]int{}}
}

// Installed reports whether a rule is in the NIC.
func (s *Set) Installed(r *Rule) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return r.installed
}

// List returns the installed rules by port, group, priority and owner.
func (s *Set) List() []*Rule {
	type named struct {
		*Rule
		name string
	}
	s.mu.RLock()
	var all []named
	for r := s.oldest; r != nil; r = r.newer {
		all = append(all, named{Rule: r})
	}
	s.mu.RUnlock()
	for i := range all {
		all[i].name = all[i].Owner.String()
	}
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(
			cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Spec.Group, b.Spec.Group),
			cmp.Compare(a.Spec.Priority, b.Spec.Priority),
			cmp.Compare(a.name, b.name),
		)
	})
	rules := make([]*Rule, len(all))
	for i, n := range all {
		rules[i] = n.Rule
	}
	return rules
}

// Group is a group of rules on a port.
type Group struct {
	Port   uint16
	Domain string // transfer, egress or ingress
	Number uint32
}

// groupKey is a Group without a string: one is made for each rule.
type groupKey struct {
	port uint16
	attr rteflow.Attr // without a priority
}

func groupOf(r *Rule) groupKey {
	p := groupKey{r.Port, r.Spec.Attr}
	p.attr.Priority = 0
	return p
}

// Counts returns how many rules are installed in each group that has some.
func (s *Set) Counts() map[Group]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	counts := make(map[Group]int, len(s.counts))
	for p, n := range s.counts {
		counts[Group{p.port, p.attr.Domain(), p.attr.Group}] = n
	}
	return counts
}

// Counters reads the Count action of a rule. It wraps ErrNotInstalled, or the driver's refusal if the rule has no
// such action.
func (s *Set) Counters(r *Rule) (rteflow.Counters, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !r.installed {
		return rteflow.Counters{}, notInstalled(r)
	}
	return s.driver.Query(r.Port, r.handle)
}

// Age reads the Age action of a rule. It wraps ErrNotInstalled, or the driver's refusal if the rule has no such action.
func (s *Set) Age(r *Rule) (rteflow.AgeState, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !r.installed {
		return rteflow.AgeState{}, notInstalled(r)
	}
	return s.driver.QueryAge(r.Port, r.handle)
}

func notInstalled(r *Rule) error {
	return fmt.Errorf("port %d: %v: %w", r.Port, r.Owner, ErrNotInstalled)
}

// insert notes that a rule was installed.
func (s *Set) insert(r *Rule, h rteflow.Handle) {
	r.installed, r.handle = true, h
	r.older, r.newer = s.newest, nil
	if s.newest == nil {
		s.oldest = r
	} else {
		s.newest.newer = r
	}
	s.newest = r
}

// forget notes that a rule was removed. Its handle is dead.
func (s *Set) forget(r *Rule) {
	if r.older == nil {
		s.oldest = r.newer
	} else {
		r.older.newer = r.newer
	}
	if r.newer == nil {
		s.newest = r.older
	} else {
		r.newer.older = r.older
	}
	r.installed, r.handle, r.older, r.newer = false, 0, nil, nil
}

// count counts the rules of operations that were done. Neighbours are mostly of one group, which is looked up once for
// all of them.
func (s *Set) count(done []Op) {
	for len(done) > 0 {
		group, n := groupOf(done[0].Rule), 1
		for n < len(done) && groupOf(done[n].Rule) == group {
			n++
		}
		if done[0].Remove {
			s.counts[group] -= n
		} else {
			s.counts[group] += n
		}
		if s.counts[group] == 0 {
			delete(s.counts, group)
		}
		done = done[n:]
	}
}
