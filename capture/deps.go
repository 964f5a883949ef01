// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"time"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// Deps is what captures are made of.
type Deps struct {
	Rules Rules
	Ports Ports
	Taps  Taps
	// NIC is nil where all traffic takes the software path and the NIC holds no rules.
	NIC plan.NIC
	// CounterLag is how long to wait before the counter of a rule that packets reach no more shows all of them.
	CounterLag time.Duration
	// MaxInterfaces and MaxRules (at most the constant of that name) are DefaultMaxInterfaces and DefaultMaxRules if 0.
	MaxInterfaces, MaxRules int
	// Ended gets each session that has ended, and is nil if nobody wants it. It is called beneath the Manager's lock: it
	// must return soon, and not call the Manager.
	Ended func(spec.Session)
}

// Rules are the rules in the NIC. A *ruleset.Set is one.
type Rules interface {
	// Apply makes the changes in order: all of them, or none.
	Apply(ops []ruleset.Op) error
	// Check asks the NIC whether it would take the rules, and changes nothing.
	Check(ops []ruleset.Op) error
	// Counters reads what a rule's count action has seen.
	Counters(r *ruleset.Rule) (rteflow.Counters, error)
	// Installed reports whether a rule is in the NIC.
	Installed(r *ruleset.Rule) bool
}

// Taps copy packets in the packet graph. A *nodes.Graph is one.
type Taps interface {
	// SetTap adds a tap, or replaces the one that is there and returns what that one has counted.
	SetTap(t graph.Tap) (graph.TapCounters, error)
	// RemoveTap removes a tap and returns what it has counted.
	RemoveTap(port uint16, side graph.TapSide) (graph.TapCounters, error)
	TapCounters(port uint16, side graph.TapSide) (graph.TapCounters, error)
}

// Ports finds the ports of targets.
type Ports interface {
	// Interface finds the port of a guest's interface by the interface's id.
	Interface(id string) (port.Port, bool)
	// Device finds a VF's port by its device name, whether or not an interface is on it.
	Device(name string) (port.Port, bool)
	// PF finds a physical port by its number.
	PF(number int) (port.Port, bool)
	// All are the NIC's ports.
	All() []port.Port
}
