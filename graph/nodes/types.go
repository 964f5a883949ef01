// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"errors"
	"net/netip"
	"time"
	"unsafe"
)

// The errors that a caller can act on. They come wrapped.
var (
	ErrExists   = errors.New("already in use")
	ErrNotFound = errors.New("not found")
	ErrFull     = errors.New("table full")
	ErrTimeout  = errors.New("worker does not answer")
	ErrInvalid  = errors.New("invalid argument")
	ErrClosed   = errors.New("graph is closed")
)

// MAC is an Ethernet address; all zero is "unknown".
type MAC [6]byte

// Port is one DPDK port that the graph receives from and sends to. VF says that a guest is behind it; otherwise it is
// an uplink, number PF. Its nodes are rx-Name and tx-Name.
type Port struct {
	ID   uint16
	Name string
	VF   bool
	PF   int
	MTU  uint16 // bytes of an IP packet; 0 is what the device says
}

// Config is what an Instance is made of.
type Config struct {
	Name         string // the graphs' name prefix
	Ports        []Port
	Workers      []int // lcores; the n-th worker serves queue n of every port
	FlowCapacity int   // flows per worker
	Timeouts     Timeouts
	PuntRate     uint32 // frames a second that a port may leave to the slow path, for each worker
	PuntBurst    uint32 // frames at once, and frames waiting for the slow path
	Offload      bool   // announce flows that hardware could take over
	Pool         unsafe.Pointer
}

// Timeouts are how long a flow lasts without a packet.
type Timeouts struct {
	TCPNew         time.Duration // no more than a SYN was seen
	TCPEstablished time.Duration
	TCPClosing     time.Duration // a FIN or RST was seen
	UDP            time.Duration
	ICMP           time.Duration // ICMPv6 as well
	Other          time.Duration // any other protocol
}

// Interface is a guest's attachment, as the packet path needs it. A zero GuestMAC is not known yet: what goes to the
// guest is dropped until it is.
type Interface struct {
	Index      uint16
	Port       uint16
	VNI        uint32
	IPv4       netip.Addr // invalid: the guest has none
	IPv6       netip.Addr // invalid: the guest has none
	Underlay   netip.Addr
	GatewayMAC MAC
	GuestMAC   MAC
}

// NextHop is where a route leads: the underlay address of the interface, here or on another hypervisor, that has the
// destination behind it.
type NextHop struct{ Underlay netip.Addr }

// Uplink is the addressing of a physical port. A zero RouterMAC is not known yet.
type Uplink struct {
	Port      uint16
	MAC       MAC
	RouterMAC MAC
}

// Punt is a frame that the graph leaves to the slow path.
type Punt struct {
	Port  uint16
	Frame []byte
}

// Origin is the side on which a flow's packets enter.
type Origin uint8

// A flow's packets come from a guest through a VF, or encapsulated from the wire through a PF.
const (
	FromGuest Origin = iota
	FromWire
)

// FlowKey identifies a flow in one direction. For a flow from the wire the addresses are the inner ones. Interface is
// the sending one (FromGuest) or the receiving one (FromWire). For ICMP and ICMPv6 SrcPort is type<<8|code and DstPort
// is 0. Fragments, and packets whose ports cannot be read, are flows of their own with both ports 0.
type FlowKey struct {
	Origin    Origin
	Interface uint16
	Src       netip.Addr
	Dst       netip.Addr
	Proto     uint8
	SrcPort   uint16
	DstPort   uint16
}

// VerdictKind is what the graph does with a flow's packets.
type VerdictKind uint8

// Deliver hands the packet to a local guest, Encap sends it out of an uplink in an IPv6 header.
const (
	Deliver VerdictKind = iota
	Encap
)

// Verdict is how a flow's packets are forwarded. Header replaces the packet's outer headers: the Ethernet header of a
// packet from a guest, Ethernet and IPv6 of a packet from the wire. It is a new Ethernet header (Deliver), or Ethernet
// and IPv6 (Encap) with a payload length of 0, which is filled in for each packet.
type Verdict struct {
	Kind   VerdictKind
	InPort uint16
	TxPort uint16
	Header []byte
	DecTTL bool
}

// FlowState is the life of a flow as its own direction shows it; only TCP is ever anything but established.
type FlowState uint8

// The states of a flow.
const (
	StateNew FlowState = iota
	StateEstablished
	StateClosing
)

// String is the state's name as flow.list shows it.
func (s FlowState) String() string {
	switch s {
	case StateNew:
		return "new"
	case StateEstablished:
		return "established"
	default:
		return "closing"
	}
}

// Flow is one entry of the flow table. Packets, Bytes and Idle are of the software path only.
type Flow struct {
	ID        uint64
	Key       FlowKey
	VNI       uint32
	Verdict   Verdict
	State     FlowState
	Offloaded bool
	Packets   uint64
	Bytes     uint64
	Idle      time.Duration
}

// FlowTable is how full the flow tables are, summed over the workers.
type FlowTable struct {
	Flows    int
	Capacity int
	Overflow uint64 // packets that found the table full; they were forwarded all the same
}

// EventKind says what happened to a flow.
type EventKind uint8

// FlowNew: the flow is fit for offload with this verdict. It comes again, with the same ID, when the verdict has changed;
// what stands in hardware is to be replaced. FlowGone: a flow that was announced has ended here.
const (
	FlowNew EventKind = iota
	FlowGone
)

// FlowEvent tells the control side of a flow's beginning or end.
type FlowEvent struct {
	Kind EventKind
	Flow Flow
}

// NodeStats is what a graph node has done since the start, summed over the workers.
type NodeStats struct {
	Name    string
	Calls   uint64
	Packets uint64
	Cycles  uint64
}
