// SPDX-License-Identifier: Apache-2.0

// Package capture makes the NIC duplicate the packets of chosen interfaces and send the copies,
// encapsulated, to a sink node.
package capture

import (
	"net/netip"
	"time"
)

// Target names one capture point: a guest's interface by its id, or a physical port by its number.
type Target struct {
	VF string // interface id; empty for a PF
	PF int    // PF number; looked at when VF is empty
}

// Request is what an operator asks for.
type Request struct {
	Name       string     // session name; empty means "default"
	Sink       netip.Addr // IPv6, where the copies go
	UDPSrcPort uint16     // a NIC may overwrite it with its own entropy
	UDPDstPort uint16
	Targets    []Target
	DryRun     bool // plan and validate, change nothing
}

// State is where a session stands.
type State string

// The states of a session.
const (
	Active State = "active"
	DryRun State = "dry_run"
)

// Session is a capture as status shows it.
type Session struct {
	Name       string
	State      State
	StartedAt  time.Time
	Sink       netip.Addr
	UDPSrcPort uint16
	UDPDstPort uint16
	Interfaces []SessionInterface
	Warnings   []string
	Plan       []string // testpmd commands; only of a dry run
}

// SessionInterface is one capture point of a session.
type SessionInterface struct {
	Target
	Port    string // ethdev name
	Packets uint64 // copied so far
	Bytes   uint64
}
