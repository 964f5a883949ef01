// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/graph"
	"dpservice/rteflow/ruleset"
)

// Step is a part of a change: something that can be done and undone. It is one of Rules, Divert, Tap and ReadCounters.
type Step interface {
	// Undo is the step that undoes this one; nil if there is nothing to undo.
	Undo() Step
}

// Rules are changes of the NIC's rules, done as a whole or not at all.
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

// Divert sends what the NIC delivers to ports via the group that captures it.
type Divert struct {
	Ports    []uint16
	Straight bool // send it straight to the ports instead
}

// Undo sends it where it went before.
func (d Divert) Undo() Step { return Divert{d.Ports, !d.Straight} }

// Groups are the groups by port, 0 for straight.
func (d Divert) Groups() map[uint16]uint32 {
	groups := map[uint16]uint32{}
	for _, p := range d.Ports {
		if groups[p] = 0; !d.Straight {
			groups[p] = uint32(nicgroup.Delivery(p))
		}
	}
	return groups
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
