// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"dpservice/graph"
	"dpservice/rteflow/ruleset"
)

// Step is a part of a change: something that can be done and undone. It is one of Rules, Tap and ReadCounters.
type Step interface {
	// Undo is the step that undoes this one; nil if there is nothing to undo.
	Undo() Step
}

// Rules are changes of the NIC's rules, none if taps do it all. They are done as a whole or not at all.
type Rules []ruleset.Op

// Undo adds what was removed, and the other way round, in the reverse order.
func (r Rules) Undo() Step {
	undo := slices.Clone(r)
	slices.Reverse(undo)
	for i := range undo {
		undo[i].Remove = !undo[i].Remove
	}
	return undo
}

// Tap replaces a tap of the packet graph by another on the same side of the same port. One of them may be nil: then
// there is none before, or after.
type Tap struct{ New, Old *graph.Tap }

// Undo sets the old one again.
func (t Tap) Undo() Step { return Tap{New: t.Old, Old: t.New} }

// ReadCounters reads the counters of rules that packets no longer reach, once they show all packets.
type ReadCounters struct{}

// Undo has nothing to undo.
func (ReadCounters) Undo() Step { return nil }
