// SPDX-License-Identifier: Apache-2.0

// Package header writes what the NIC and the packet graph put before the copy of a packet.
package header

import (
	"encoding/binary"
	"net/netip"

	"dpservice/capture/spec"
	"dpservice/graph"
	"dpservice/rteflow"
)

// Len is how many bytes precede the captured frame: Ethernet (14), IPv6 (40) and UDP (8). VXLANLen is the same with
// VXLAN (8). A NIC takes at most 132.
const (
	Len      = EthLen + ipv6Len + udpLen
	VXLANLen = Len + vxlanLen
)

// EthLen is how many of them do not count towards an uplink's MTU.
const EthLen = 14

const (
	ipv6Len  = 40
	udpLen   = 8
	vxlanLen = 8

	etherTypeIPv6 = 0x86dd
	protoUDP      = 17
	hopLimit      = 64
	vxlanHasVNI   = 0x08
)

// Label says at the sink whose packet a copy is, and in which direction. It is not 0 and has at most 20 bits, as a flow
// label has; a VNI has more. Two ports of a node never have the same, and a port keeps its own.
type Label uint32

// labelTX is set in the labels of what a guest receives.
const labelTX = 1 << 19

// LabelOf returns the label of what comes from behind a port, or goes there.
func LabelOf(port uint16, side graph.TapSide) Label {
	if side == graph.TapTX {
		return labelTX | (Label(port) + 1)
	}
	return Label(port) + 1
}

// Header says how a copy travels to the sink. The NIC puts the same bytes before every copy of an interface, so
// nothing in it depends on the packet.
type Header struct {
	RouterMAC  rteflow.MAC // Ethernet destination: the uplink's next hop, whichever node the sink is on
	UplinkMAC  rteflow.MAC // Ethernet source: PF0, through which copies leave
	NodeIP     netip.Addr  // IPv6 source: this node's underlay address
	Sink       netip.Addr  // IPv6 destination
	UDPSrcPort uint16      // a NIC may overwrite it with its own entropy
	UDPDstPort uint16
	Encap      spec.Encap
	Label      Label // the flow label, or VXLAN's VNI
}

// Len is the header's length.
func (h Header) Len() int {
	if h.Encap == spec.EncapVXLAN {
		return VXLANLen
	}
	return Len
}

// Bytes is the header as it goes into a raw_encap action. Three fields are zero on purpose: the IPv6 payload
// length and the UDP length, which the NIC fills in for each packet, and the UDP checksum, which a tunnel over
// IPv6 may leave out (RFC 6935, RFC 6936) and a NIC could not compute over the whole copy.
func (h Header) Bytes() []byte {
	b := make([]byte, 0, VXLANLen)

	b = append(b, h.RouterMAC[:]...)
	b = append(b, h.UplinkMAC[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)

	const version = 6 << 28 // the traffic class is 0
	if h.Encap == spec.EncapVXLAN {
		b = binary.BigEndian.AppendUint32(b, version)
	} else {
		b = binary.BigEndian.AppendUint32(b, version|uint32(h.Label))
	}
	b = binary.BigEndian.AppendUint16(b, 0) // payload length
	b = append(b, protoUDP, hopLimit)
	src, dst := h.NodeIP.As16(), h.Sink.As16()
	b = append(b, src[:]...)
	b = append(b, dst[:]...)

	b = binary.BigEndian.AppendUint16(b, h.UDPSrcPort)
	b = binary.BigEndian.AppendUint16(b, h.UDPDstPort)
	b = binary.BigEndian.AppendUint16(b, 0) // length
	b = binary.BigEndian.AppendUint16(b, 0) // checksum
	if h.Encap == spec.EncapVXLAN {
		b = append(b, vxlanHasVNI, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(h.Label)<<8)
	}
	return b
}
