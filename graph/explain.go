// SPDX-License-Identifier: Apache-2.0

package graph

import "net/netip"

// Question asks what the graph would do with a packet: the next one of a known flow, or one that was perhaps never
// seen.
type Question struct {
	ID uint64 // not 0: the flow's; nothing else counts then

	Origin   Origin
	Port     uint16     // DPDK port id: where the packet comes in
	Underlay netip.Addr // FromWire: the outer destination
	Peer     netip.Addr // FromWire: the outer source; invalid: any that may send it
	Src, Dst netip.Addr // of one family
	Proto    uint8
	SrcPort  uint16 // ICMP and ICMPv6: type<<8|code
	DstPort  uint16 // ICMP and ICMPv6: 0
}

// Answer is what the graph would do with the packet now.
type Answer struct {
	Flow  *TracedFlow // as it is in the flow table; nil if there is none, which no question by ID has
	Stale bool        // Flow's verdict is from before the last change: the next packet resolves it again
	// Node is where the packet would end: a node drop_ or icmp_, or punt for the slow path; empty if it is forwarded.
	Node        string
	Next        Flow   // as the packet would make it: Key, and if it is forwarded VNI, Verdict and Tunnel
	MTU         uint16 // bytes of the largest IP packet that fits where it goes
	Offloadable bool   // hardware could forward such a flow
}
