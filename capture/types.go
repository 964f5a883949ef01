// SPDX-License-Identifier: Apache-2.0

// Package capture makes the NIC, and where no rule reaches the packet graph, duplicate the packets of chosen interfaces and
// send the copies, encapsulated, to a sink node.
package capture

import (
	"fmt"
	"net/netip"
	"time"
)

// DefaultName is the name of a session that was not given one.
const DefaultName = "default"

// How many interfaces can be captured at once, and how many rules a filter may take on each, unless Deps says otherwise;
// and the most rules that it may say.
const (
	DefaultMaxInterfaces = 16
	DefaultMaxRules      = 64
	MaxRules             = 256
)

// Target names what is captured: a guest's interface by its id, or a physical port by its number.
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

// Direction is which of an interface's packets are copied.
type Direction string

// The directions, as the node sees them. RX is what comes from behind a port: what a guest sends, or what arrives from
// the wire. TX is what goes there: what a guest receives. A physical port is captured on RX only.
const (
	RX   Direction = "rx"
	TX   Direction = "tx"
	Both Direction = "both"
)

// Mode is where copies are made.
type Mode string

// The modes. Where the NIC copies what it forwards by itself, the packet graph copies what else a guest receives: that is
// Hardware too. In Software the NIC forwards nothing past the graph, so that nothing is missed.
const (
	Hardware Mode = "hardware"
	Software Mode = "software"
)

// Request is what an operator asks for.
type Request struct {
	Name       string     // session name; empty means DefaultName
	Sink       netip.Addr // IPv6, where the copies go
	UDPSrcPort uint16     // a NIC may overwrite it with its own entropy
	UDPDstPort uint16     // 0 means VXLANPort for EncapVXLAN
	Encap      Encap      // empty means EncapUDP
	Targets    []Target
	Direction  Direction // of the guests' interfaces; empty means RX
	Filter     string    // pcap-filter(7); empty: everything
	Limits     Limits
	DryRun     bool // plan and validate, change nothing
}

// Limits end a session by themselves. One of 0 is none. What the NIC copies until the rules are gone is over and above.
type Limits struct {
	Duration time.Duration
	Packets  uint64
	Bytes    uint64 // of the packets, without the copies' headers
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
	// Ended is a session of the history.
	Ended State = "ended"
)

// EndReason is why a session has ended.
type EndReason string

// The reasons.
const (
	Stopped          EndReason = "stopped"
	DurationReached  EndReason = "duration"
	PacketsReached   EndReason = "packets"
	BytesReached     EndReason = "bytes"
	InterfaceDeleted EndReason = "interface_deleted" // the last one of the session
)

// Session is a capture as status shows it.
type Session struct {
	Name       string
	State      State
	StartedAt  time.Time // zero for a dry run
	EndedAt    time.Time // zero unless Ended
	EndReason  EndReason
	Sink       netip.Addr
	UDPSrcPort uint16
	UDPDstPort uint16
	Encap      Encap
	Direction  Direction
	Filter     string
	Limits     Limits
	Packets    uint64 // copied so far, of deleted interfaces too
	Bytes      uint64
	Interfaces []SessionInterface
	Warnings   []string
	Plan       []string // testpmd commands; only of a dry run
}

// SessionInterface is one direction of an interface that is captured.
type SessionInterface struct {
	Target
	Direction Direction // RX or TX
	Mode      Mode
	Port      string // ethdev name
	Label     Label  // what names it in its copies
	Packets   uint64 // copied so far
	Bytes     uint64
	Rules     []SessionRule // of the filter, in order: the first that a packet matches counts
}

// SessionRule is a rule of a filter on an interface.
type SessionRule struct {
	Pattern string // testpmd's syntax
	Sample  bool   // else the packets pass uncopied
	Packets uint64 // that matched
	Bytes   uint64
}
