// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Encap is what comes between the UDP header of a copy and the captured frame. The zero value means EncapUDP.
type Encap string

// The encapsulations.
const (
	EncapUDP   Encap = "udp"   // nothing: the label is the flow label of the IPv6 header
	EncapVXLAN Encap = "vxlan" // a VXLAN header: the label is its VNI
)

// CopyHeaderLen is how many bytes precede the captured frame with EncapUDP: Ethernet, IPv6 and UDP.
// VXLANCopyHeaderLen is the same with EncapVXLAN.
const (
	CopyHeaderLen      = EthernetLen + IPv6Len + UDPLen
	VXLANCopyHeaderLen = CopyHeaderLen + VXLANLen
)

// DefaultCopySrcPort is the UDP source port of copies unless another is wanted. Hardware overwrites it.
const DefaultCopySrcPort = 3000

// MaxLabel is the largest label: a flow label has 20 bits.
const MaxLabel = 1<<20 - 1

// LabelTX is set in a label of what a guest receives, and only there.
const LabelTX = 1 << 19

// Label names, at the sink, the port and the direction of a captured packet, and why it was dropped if it was: see
// LabelTX and LabelDrop. 0 means none.
type Label uint32

const (
	ipv6Version  = 6 << 28
	flowLabel    = 1<<20 - 1
	copyHopLimit = 64
	vxlanHasVNI  = 0x08 << 24
)

// CopyHeader is the encapsulation in which a copy travels to the sink.
type CopyHeader struct {
	RouterMAC  MAC        // Ethernet destination: the next hop of the uplink, whichever node the sink is on
	UplinkMAC  MAC        // Ethernet source: PF0, by which copies leave
	NodeIP     netip.Addr // IPv6 source: the underlay address of the capturing node
	Sink       netip.Addr // IPv6 destination
	UDPSrcPort uint16     // a NIC may overwrite it with a hash of the flow
	UDPDstPort uint16
	Encap      Encap
	Label      Label // the flow label, or the VNI
}

// Len returns the length of the header in bytes.
func (h CopyHeader) Len() int {
	if h.Encap == EncapVXLAN {
		return VXLANCopyHeaderLen
	}
	return CopyHeaderLen
}

// Append appends the header as a NIC's raw_encap action and the packet graph take it: a template for all copies. The
// IPv6 payload length and the UDP length are 0, since the NIC fills them in for each packet. The UDP checksum is 0,
// which a tunnel over IPv6 may use (RFC 6935, RFC 6936): a NIC cannot compute it over the whole copy.
func (h CopyHeader) Append(b []byte) []byte {
	b = append(b, h.RouterMAC[:]...)
	b = append(b, h.UplinkMAC[:]...)
	b = binary.BigEndian.AppendUint16(b, EtherTypeIPv6)

	versionClassLabel := uint32(ipv6Version)
	if h.Encap != EncapVXLAN {
		versionClassLabel |= uint32(h.Label)
	}
	b = binary.BigEndian.AppendUint32(b, versionClassLabel)
	b = binary.BigEndian.AppendUint16(b, 0) // payload length
	b = append(b, ProtoUDP, copyHopLimit)
	src, dst := h.NodeIP.As16(), h.Sink.As16()
	b = append(b, src[:]...)
	b = append(b, dst[:]...)

	b = binary.BigEndian.AppendUint16(b, h.UDPSrcPort)
	b = binary.BigEndian.AppendUint16(b, h.UDPDstPort)
	b = binary.BigEndian.AppendUint16(b, 0) // length
	b = binary.BigEndian.AppendUint16(b, 0) // checksum
	if h.Encap == EncapVXLAN {
		b = binary.BigEndian.AppendUint32(b, vxlanHasVNI)
		b = binary.BigEndian.AppendUint32(b, uint32(h.Label)<<8)
	}
	return b
}

// ErrNotCopy is returned for a packet that is not a copy, or is cut short.
var ErrNotCopy = errors.New("not a captured copy")

// ParseCopy parses a copy from the Ethernet header on, and returns its header and the captured frame, which shares
// memory with b. After ErrNotCopy the header has what could be read.
func ParseCopy(b []byte, e Encap) (h CopyHeader, frame []byte, err error) {
	if len(b) < EthernetLen || binary.BigEndian.Uint16(b[12:]) != EtherTypeIPv6 {
		return h, nil, ErrNotCopy
	}
	dst, src := MAC(b), MAC(b[6:])
	h, frame, err = ParseIPv6Copy(b[EthernetLen:], e)
	h.RouterMAC, h.UplinkMAC = dst, src
	return h, frame, err
}

// ParseIPv6Copy is ParseCopy from the IPv6 header on. The MAC addresses stay zero.
func ParseIPv6Copy(b []byte, e Encap) (h CopyHeader, frame []byte, err error) {
	h.Encap = e
	const protoAt, udp = 6, IPv6Len
	if len(b) < IPv6Len+UDPLen || b[protoAt] != ProtoUDP {
		return h, nil, ErrNotCopy
	}
	h.NodeIP, h.Sink = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	h.UDPSrcPort, h.UDPDstPort = binary.BigEndian.Uint16(b[udp:]), binary.BigEndian.Uint16(b[udp+2:])
	h.Label = Label(binary.BigEndian.Uint32(b) & flowLabel)
	length := int(binary.BigEndian.Uint16(b[udp+4:]))
	if length < UDPLen || length > int(binary.BigEndian.Uint16(b[4:])) || length > len(b)-IPv6Len {
		return h, nil, ErrNotCopy
	}
	frame = b[IPv6Len+UDPLen : IPv6Len+length]
	if e == EncapVXLAN {
		h.Label, frame, err = ParseVXLAN(frame)
	}
	return h, frame, err
}

// ParseVXLAN parses the payload of a copy's UDP datagram with EncapVXLAN, and returns the label and the captured frame,
// which shares memory with b.
func ParseVXLAN(b []byte) (Label, []byte, error) {
	if len(b) < VXLANLen || binary.BigEndian.Uint32(b)&vxlanHasVNI == 0 {
		return 0, nil, ErrNotCopy
	}
	return Label(binary.BigEndian.Uint32(b[4:]) >> 8), b[VXLANLen:], nil
}
