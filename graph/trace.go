// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"net/netip"
	"time"
)

// Trace says whose packets are followed through the graph: those that a guest sends, and those that come for it from
// the wire.
type Trace struct {
	Port      uint16     // DPDK port id of the guest's VF
	Interface uint16     // index of its interface
	Underlay  netip.Addr // the interface's
	Guest     []TapRule  // of the frames that the guest sends, as a Tap's
	Wire      []TapRule  // of the packets in the tunnel; none: nothing from the wire is followed
	Drops     bool       // only packets that are dropped, or answered with an ICMP error
}

// TracedPacket is what became of a packet.
type TracedPacket struct {
	Time   time.Time // when it came in
	Port   uint16    // by which it came in
	Origin Origin
	Length int    // of the frame as it came in
	Frame  []byte // its first 256 bytes
	Hops   []TraceHop
	Cut    bool // it has visited more nodes between the last two
	// Flow is the flow by whose verdict it was forwarded; nil if there is none.
	Flow *TracedFlow
}

// TraceHop is a node that a packet has visited. Begin and End are TSC cycles since the worker began to receive the
// packet. Between them the node handled Burst packets.
type TraceHop struct {
	Node       string
	Begin, End uint32
	Burst      int
}

// TracedFlow is a flow as it was when the packet came.
type TracedFlow struct {
	Flow
	Candidate bool // hardware could forward it
	Announced bool // a FlowEvent has said so
}
