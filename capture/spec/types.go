// SPDX-License-Identifier: Apache-2.0

// Package spec holds the values with which captures are requested and described. It links no DPDK, so that the API can
// use it.
package spec

import (
	"net/netip"
	"time"

	"dpservice/dpservice/port"
	"dpservice/wire"
)

// DefaultName is the name of a session that was not given one.
const DefaultName = "default"

// How many interfaces can be captured at once over all sessions, and how many rules a filter may need on each of them:
// the defaults, and the largest values that can be configured.
const (
	DefaultMaxInterfaces = 16
	MaxInterfaces        = 4096
	DefaultMaxRules      = 64
	MaxRules             = 256
)

// Direction says which packets of an interface are copied.
type Direction string

// The directions, as the node sees them. RX is what a port receives: what a guest sends, or what arrives from the wire.
// TX is what a port transmits: what a guest receives. A physical port is captured on RX only. Both and None are of
// requests only. Drops is of interfaces only: what the packet graph drops of their packets.
const (
	RX    Direction = "rx"
	TX    Direction = "tx"
	Both  Direction = "both"
	None  Direction = "none"
	Drops Direction = "drops"
)

// Mode says where copies are made.
type Mode string

// The modes. In Hardware the NIC copies the packets that it forwards by itself, and the packet graph those that reach
// the software. In Software the packet graph makes all copies: the NIC forwards nothing by itself.
const (
	Hardware Mode = "hardware"
	Software Mode = "software"
)

// State is the state of a session.
type State string

// The states of a session.
const (
	Active State = "active"
	DryRun State = "dry_run"
	// Broken is a session of which only a part is installed, because a failed change could not be undone. Stopping it
	// removes the rest.
	Broken State = "broken"
	Ended  State = "ended" // only in the history
	// Waiting is a session from before the daemon's restart that could not be restored yet: nothing of it is installed.
	Waiting State = "waiting"
)

// EndReason says why a session has ended.
type EndReason string

// The reasons for the end of a session.
const (
	Stopped          EndReason = "stopped"
	DurationReached  EndReason = "duration"
	PacketsReached   EndReason = "packets"
	BytesReached     EndReason = "bytes"
	TooFast          EndReason = "packets_per_second"
	InterfaceDeleted EndReason = "interface_deleted" // the last one of the session
	ClientGone       EndReason = "client_gone"       // the one that held the session
)

// Session describes a capture.
type Session struct {
	Name       string
	State      State
	StartedAt  time.Time // zero for a dry run
	EndedAt    time.Time // zero unless Ended
	EndReason  EndReason
	Sink       netip.Addr
	UDPSrcPort uint16
	UDPDstPort uint16
	Encap      wire.Encap
	Direction  Direction
	Drops      bool
	Filter     string
	Limits     Limits
	Held       bool
	Packets    uint64 // copied so far, including those of deleted interfaces
	Bytes      uint64
	Interfaces []SessionInterface
	Warnings   []string
	Plan       []string // testpmd commands; only for a dry run
}

// SessionInterface is one direction of a captured interface.
type SessionInterface struct {
	Target
	Direction Direction // RX, TX or Drops
	Mode      Mode
	Port      string     // ethdev name
	Label     wire.Label // identifies interface and direction in the copies; those of Drops have the reason added
	Packets   uint64     // copied so far
	Bytes     uint64
	Rules     []SessionRule // of the filter, in order: the first one that matches a packet decides
}

// SessionRule is a rule of a filter on an interface.
type SessionRule struct {
	Pattern string // in testpmd's syntax
	Sample  bool   // whether matching packets are copied
	Packets uint64 // that matched
	Bytes   uint64
}

// Capability says whether a port supports something that captures can use.
type Capability struct {
	Name      string
	Supported bool
	Reason    string // why not: in the driver's words if the driver refused it
}

// PortCapabilities says what can be captured on a port.
type PortCapabilities struct {
	Port   port.Port
	Mode   Mode       // where the copies are made
	RX, TX Capability // the directions
	Encaps []Capability
	Filter []Capability // what filters can match
}
