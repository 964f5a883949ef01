// SPDX-License-Identifier: Apache-2.0

// Package capture makes the NIC, and where no rule reaches the packet graph, duplicate the packets of chosen
// interfaces and send the copies, encapsulated, to a sink node.
package capture

import "dpservice/capture/spec"

// Capability is spec.Capability.
type Capability = spec.Capability

// Direction is spec.Direction.
type Direction = spec.Direction

// EndReason is spec.EndReason.
type EndReason = spec.EndReason

// Limits is spec.Limits.
type Limits = spec.Limits

// Mode is spec.Mode.
type Mode = spec.Mode

// PortCapabilities is spec.PortCapabilities.
type PortCapabilities = spec.PortCapabilities

// Request is spec.Request.
type Request = spec.Request

// Session is spec.Session.
type Session = spec.Session

// SessionInterface is spec.SessionInterface.
type SessionInterface = spec.SessionInterface

// SessionRule is spec.SessionRule.
type SessionRule = spec.SessionRule

// State is spec.State.
type State = spec.State

// Target is spec.Target.
type Target = spec.Target

// The constants of package spec.
const (
	DefaultMaxInterfaces = spec.DefaultMaxInterfaces
	DefaultMaxRules      = spec.DefaultMaxRules
	DefaultName          = spec.DefaultName
	MaxRules             = spec.MaxRules

	RX   = spec.RX
	TX   = spec.TX
	Both = spec.Both

	Hardware = spec.Hardware
	Software = spec.Software

	Active = spec.Active
	DryRun = spec.DryRun
	Broken = spec.Broken
	Ended  = spec.Ended

	Stopped          = spec.Stopped
	DurationReached  = spec.DurationReached
	PacketsReached   = spec.PacketsReached
	BytesReached     = spec.BytesReached
	InterfaceDeleted = spec.InterfaceDeleted
)
