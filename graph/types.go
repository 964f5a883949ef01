// SPDX-License-Identifier: Apache-2.0

// Package graph has the values that the packet graph takes and gives: plain data without C. The graph itself is in
// package nodes.
package graph

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"dpservice/wire"
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

// Mark is the source MAC by which the graph knows that the NIC has decapsulated a frame, and by which Tunnel it came.
// Only on PF0, and with Config.Offload, is it such. All marks have the bits of MarkMask in common.
func Mark(tunnel uint16) wire.MAC {
	var m wire.MAC
	binary.BigEndian.PutUint32(m[:], MarkPrefix)
	binary.BigEndian.PutUint16(m[4:], tunnel)
	return m
}

// MarkPrefix is how a mark begins; the number of the tunnel follows.
const MarkPrefix uint32 = 0x02647073 // 02, "dps"

// MarkMask are the bits of a mark that do not depend on the tunnel.
var MarkMask = wire.MAC{0xff, 0xff, 0xff, 0xff}

// PortConfig is one DPDK port that the graph receives from and sends to. VF says that a guest is behind it; otherwise
// it is an uplink, number PF, below MaxUplinks. Its nodes are rx-Name and tx-Name.
type PortConfig struct {
	ID   uint16
	Name string
	VF   bool
	PF   int
	MTU  uint16 // bytes of an IP packet; 0 is what the device says
}

// MaxInterfaces and MaxRoutes bound the graph's tables: interfaces have a lower index.
const (
	MaxInterfaces = 2048
	MaxRoutes     = 16384
)

// DefaultFlowCapacity is the number of flows a worker holds unless a graph's Config says otherwise.
const DefaultFlowCapacity = 262144

// What each port may leave to the slow path of each kind (neighbours, routers, echo, the rest) unless a graph's Config
// says otherwise: frames a second, and at once.
const (
	DefaultPuntRate  = 1000
	DefaultPuntBurst = 200
)

// MaxPuntBurst bounds how many packet buffers may wait for the slow path, for each port and kind.
const MaxPuntBurst = 1024

// DefaultTimeouts is how long idle flows last unless a graph's Config says otherwise.
var DefaultTimeouts = Timeouts{
	TCPNew:         30 * time.Second,
	TCPEstablished: 2 * time.Minute,
	TCPClosing:     10 * time.Second,
	UDP:            30 * time.Second,
	ICMP:           30 * time.Second,
	Other:          30 * time.Second,
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
	AnyPeer    bool // the outer source of what the wire brings need not be where the route to the inner one leads
	GatewayMAC wire.MAC
	// GatewayIPv6 is an address of the guest's gateway besides fe80::1, that other routers forward packets from. ICMPv6
	// errors come from it.
	GatewayIPv6 netip.Addr
	GuestMAC    wire.MAC
}

// NextHop is where a route leads: the underlay address of the interface, here or on another hypervisor, that has the
// destination behind it.
type NextHop struct{ Underlay netip.Addr }

// Tunnel is what brings packets from the wire to an interface, from one peer or from any.
type Tunnel struct {
	Interface uint16
	Underlay  netip.Addr // the interface's
	Peer      netip.Addr // outer source address; invalid: any
}

// Uplink is the state of a physical port. A zero RouterMAC is not known. Encapsulated packets leave only by an uplink
// whose router is known and whose link is up.
type Uplink struct {
	Port      uint16
	MAC       wire.MAC
	RouterMAC wire.MAC
	LinkUp    bool
}

// TapSide says which of a port's packets a tap copies.
type TapSide uint8

// TapRX is what comes in by the port, from the guest or from the wire; TapTX is what goes out by it. TapDrops is what
// the graph drops, or answers by an ICMP error: of a VF the packets that its guest has sent or that the wire brings for
// it, of an uplink those that it has received and that are for no interface, or that a guest's port did not take.
const (
	TapRX TapSide = iota
	TapTX
	TapDrops
)

// Tap copies packets of a port, as the NIC's capture rules do.
//
// A copy is Header and the packet as it has come in or goes out, byte for byte. The IPv6 payload length and the UDP
// length are filled in. The UDP source port stays as it is in Header, where a NIC would write a hash of the flow. The
// UDP checksum is 0.
//
// TapRX copies whatever comes in, before anything is done to it or it is dropped. TapTX copies what the port takes,
// from wherever it comes, and only of VFs: copies leave by uplinks and are never copied again. TapDrops copies a packet
// as it is when it is dropped, and adds the reason to the label in Header, which is one of wire.LabelDrop: the flow
// label, or the VNI behind 62 bytes. A copy that is dropped is not copied. Its Rules are about what is in the tunnel
// for a packet from the wire that is in one, and about the packet itself otherwise; Inner is not used.
type Tap struct {
	Port   uint16 // DPDK port id, as Out
	Side   TapSide
	Out    uint16    // the uplink by which the copies leave
	Header []byte    // Ethernet, IPv6 and UDP, perhaps VXLAN: 62 or 70 bytes, with lengths of 0
	Inner  bool      // only packets of IP in IPv6 are looked at, and Rules are about what is in the tunnel
	Rules  []TapRule // the first that matches decides; the last one has no conditions
}

// Bounds of a Tap.
const (
	MaxTapRules = 256
)

// TapRule says of the packets for which all conditions hold, and no rule's before it, whether they are copied. There is
// at most one condition of a field.
type TapRule struct {
	Sample     bool
	Conditions []TapCondition
}

// TapCondition is a masked comparison of a field's bytes, which come first in the arrays, in network order.
type TapCondition struct {
	Field       wire.Field
	Value, Mask [16]byte
}

// TapCounters is what a tap has done, summed over the workers.
type TapCounters struct {
	Rules    []TapCount // packets that matched, whether they were copied or not
	Oversize uint64     // copies that would not have fit Out's MTU: drop_copy_too_big counts those of all taps
	NoBuffer uint64     // copies for which there was no packet buffer
}

// TapCount is packets, and their bytes without a copy's header.
type TapCount struct{ Packets, Bytes uint64 }

// Drops are the packets of a port that were dropped for a reason, summed over the workers: those that TapDrops copies.
// A frame of the slow path counts to the port that it was to leave by.
type Drops struct {
	Port    uint16
	Reason  wire.DropReason
	Packets uint64
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

// String is the side's name as flow.list shows it.
func (o Origin) String() string {
	if o == FromWire {
		return "wire"
	}
	return "guest"
}

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
	Tunnel    Tunnel // FromWire: what brings the packets that are the flow's
	State     FlowState
	Offloaded bool
	Packets   uint64
	Bytes     uint64
	Idle      time.Duration
}

// FlowTable is how full the flow tables are, summed over the workers.
type FlowTable struct {
	Flows      int
	Capacity   int
	Overflow   uint64 // packets for whose flows the table had no room; they were forwarded all the same
	Guaranteed int    // entries of each share
	Shares     []FlowShare
}

// FlowShare is what a port holds of the flow tables: the flows that its guest sends, or those that come to it from the
// wire. A share has its guaranteed entries whatever others hold, and may borrow free ones.
type FlowShare struct {
	Port     uint16
	Origin   Origin
	Flows    int
	Evicted  uint64 // flows that lost their borrowed entries
	Overflow uint64 // packets for whose flows the table had no room
}

// EventKind says what happened to a flow.
type EventKind uint8

// FlowNew: the flow is fit for offload with this verdict. FlowGone: a flow that was announced has ended here, or its
// verdict has changed: its rule in hardware is to be removed. Only its ID is set. With a new verdict the flow is
// announced again, after its next packet, under another ID. FlowsResolved: after a change of the configuration each
// flow has its verdict by that of Generation; the events of those with another one than before have come already.
const (
	FlowNew EventKind = iota
	FlowGone
	FlowsResolved
)

// FlowEvent reports a flow's beginning or end to the control side.
type FlowEvent struct {
	Kind       EventKind
	Flow       Flow
	Generation uint32
}

// FlowClass is what flows are counted by.
type FlowClass struct {
	State     FlowState
	Offloaded bool
}

// FlowErrors says by id why a change was not made to flows: ErrNotFound or ErrTimeout, also by errors.Is. It was made
// to the others.
type FlowErrors map[uint64]error

// Error names one of the flows.
func (e FlowErrors) Error() string {
	for id, err := range e {
		return fmt.Sprintf("%d flows, such as %#x: %v", len(e), id, err)
	}
	return "no flows"
}

// Unwrap returns the flows' errors.
func (e FlowErrors) Unwrap() []error { return slices.Collect(maps.Values(e)) }

// NodeStats is what a graph node has done since the start, summed over the workers.
type NodeStats struct {
	Name    string
	Calls   uint64
	Packets uint64
	Cycles  uint64
}
