// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/binary"
	"net/netip"

	"dpservice/rteflow"
)

// HeaderLen is how many bytes stand before the captured frame: Ethernet (14), IPv6 (40) and UDP (8).
const HeaderLen = ethLen + ipv6Len + udpLen

const (
	ethLen  = 14
	ipv6Len = 40
	udpLen  = 8

	etherTypeIPv6 = 0x86dd
	protoUDP      = 17
	hopLimit      = 64
)

// Header says how a copy travels to the sink. The NIC puts the same bytes before every copy, so nothing in it
// depends on the packet.
type Header struct {
	RouterMAC  rteflow.MAC // Ethernet destination: the uplink's next hop, whichever node the sink is on
	UplinkMAC  rteflow.MAC // Ethernet source: PF0, through which copies leave
	NodeIP     netip.Addr  // IPv6 source: this node's underlay address
	Sink       netip.Addr  // IPv6 destination
	UDPSrcPort uint16      // a NIC may overwrite it with its own entropy
	UDPDstPort uint16
}

// Bytes is the header as it goes into a raw_encap action. Three fields are zero on purpose: the IPv6 payload
// length and the UDP length, which the NIC fills in for each packet, and the UDP checksum, which a tunnel over
// IPv6 may leave out (RFC 6935, RFC 6936) and a NIC could not compute over the whole copy.
func (h Header) Bytes() []byte {
	b := make([]byte, 0, HeaderLen)

	b = append(b, h.RouterMAC[:]...)
	b = append(b, h.UplinkMAC[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)

	b = binary.BigEndian.AppendUint32(b, 6<<28) // version 6; traffic class and flow label 0
	b = binary.BigEndian.AppendUint16(b, 0)     // payload length
	b = append(b, protoUDP, hopLimit)
	src, dst := h.NodeIP.As16(), h.Sink.As16()
	b = append(b, src[:]...)
	b = append(b, dst[:]...)

	b = binary.BigEndian.AppendUint16(b, h.UDPSrcPort)
	b = binary.BigEndian.AppendUint16(b, h.UDPDstPort)
	b = binary.BigEndian.AppendUint16(b, 0) // length
	return binary.BigEndian.AppendUint16(b, 0)
}
