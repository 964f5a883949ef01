// SPDX-License-Identifier: Apache-2.0

// Package ruleset keeps the rules that stand in the NIC, each under a name, and changes them in
// steps that are undone when one fails.
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
	ErrExists   = errors.New("a rule of this name stands already")
	ErrNotFound = errors.New("no rule of this name")
)

// Driver is what puts rules into a NIC. A Destroy that fails leaves the rule standing.
type Driver interface {
	Create(port uint16, r rteflow.Rule) (rteflow.Handle, error)
	Destroy(port uint16, h rteflow.Handle) error
	Query(port uint16, h rteflow.Handle) (rteflow.Counters, error)
	QueryAge(port uint16, h rteflow.Handle) (rteflow.AgeState, error)
}

// Op adds a rule under a name that is unique on its port, or removes it.
type Op struct {
	Port   uint16
	Name   string
	Rule   rteflow.Rule // of a removal: filled in by the Set for those who read its errors
	Remove bool
}

// Add is the operation that puts a rule into the NIC. The Set keeps the rule: it must not be changed afterwards.
func Add(port uint16, name string, r rteflow.Rule) Op { return Op{Port: port, Name: name, Rule: r} }

// Remove is the operation that takes a rule out of the NIC.
func Remove(port uint16, name string) Op { return Op{Port: port, Name: name, Remove: true} }

// Entry is a rule that stands.
type Entry struct {
	Port uint16
	Name string
	Rule rteflow.Rule
}

// Set is the rules that stand in the NIC. It is safe for concurrent use.
type Set struct {
	driver Driver

	mu    sync.RWMutex
	rules map[key]*standing
	count uint64 // rules ever added
}

type key struct {
	port uint16
	name string
}

type standing struct {
	rule   rteflow.Rule
	handle rteflow.Handle
	serial uint64 // orders rules by their age
}

// New returns an empty set of rules in the driver's NIC.
func New(d Driver) *Set {
	return &Set{driver: d, rules: map[key]*standing{}}
}

// Has reports whether a rule of this name stands on the port.
func (s *Set) Has(port uint16, name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rules[key{port, name}] != nil
}

// List returns the rules by port, group, priority and name.
func (s *Set) List() []Entry {
	s.mu.RLock()
	entries := make([]Entry, 0, len(s.rules))
	for k, st := range s.rules {
		entries = append(entries, Entry{k.port, k.name, st.rule})
	}
	s.mu.RUnlock()
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Rule.Group, b.Rule.Group),
			cmp.Compare(a.Rule.Priority, b.Rule.Priority),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return entries
}

// Group is a group of rules on a port.
type Group struct {
	Port   uint16
	Domain string // transfer, egress or ingress
	Number uint32
}

// Counts returns how many rules stand in each group that has some.
func (s *Set) Counts() map[Group]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	counts := map[Group]int{}
	for k, st := range s.rules {
		counts[Group{k.port, st.rule.Domain(), st.rule.Group}]++
	}
	return counts
}

// Counters reads the Count action of a rule.
func (s *Set) Counters(port uint16, name string) (rteflow.Counters, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.rules[key{port, name}]
	if st == nil {
		return rteflow.Counters{}, fmt.Errorf("port %d: %q: %w", port, name, ErrNotFound)
	}
	return s.driver.Query(port, st.handle)
}

// Age reads the Age action of a rule.
func (s *Set) Age(port uint16, name string) (rteflow.AgeState, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.rules[key{port, name}]
	if st == nil {
		return rteflow.AgeState{}, fmt.Errorf("port %d: %q: %w", port, name, ErrNotFound)
	}
	return s.driver.QueryAge(port, st.handle)
}
