// SPDX-License-Identifier: Apache-2.0

// Package capture makes the NIC duplicate the packets of chosen interfaces and send the copies,
// encapsulated, to a sink node.
package capture

import (
	"fmt"
	"net/netip"
	"time"
)

// DefaultName is the name of a session that was not given one.
const DefaultName = "default"

// MaxInterfaces is how many interfaces can be captured at once.
const MaxInterfaces = 16

// Target names one capture point: a guest's interface by its id, or a physical port by its number.
type Target struct {
	VF string // interface id; empty for a PF
	PF int    // PF number; looked at when VF is empty
}

// String is how a person names the target: the interface's id, or pf0.
func (t Target) String() string {
	if t.VF != "" {
		return t.VF
	}
	return fmt.Sprintf("pf%d", t.PF)
}

// Request is what an operator asks for.
type Request struct {
	Name       string     // session name; empty means DefaultName
	Sink       netip.Addr // IPv6, where the copies go
	UDPSrcPort uint16     // a NIC may overwrite it with its own entropy
	UDPDstPort uint16     // 0 means VXLANPort for EncapVXLAN
	Encap      Encap      // empty means EncapUDP
	Targets    []Target
	DryRun     bool // plan and validate, change nothing
}

// State is where a session stands.
type State string

// The states of a session.
const (
	Active State = "active"
	DryRun State = "dry_run"
	// Broken is a session whose rules stand only in part, since a failed change could not be undone.
	// Stopping it removes what stands.
	Broken State = "broken"
)

// Session is a capture as status shows it.
type Session struct {
	Name       string
	State      State
	StartedAt  time.Time // zero for a dry run
	Sink       netip.Addr
	UDPSrcPort uint16
	UDPDstPort uint16
	Encap      Encap
	Interfaces []SessionInterface
	Warnings   []string
	Plan       []string // testpmd commands; only of a dry run
}

// SessionInterface is one capture point of a session.
type SessionInterface struct {
	Target
	Port    string // ethdev name
	Label   Label  // what names it in its copies
	Packets uint64 // copied so far
	Bytes   uint64
}
