// SPDX-License-Identifier: Apache-2.0

// Package wire has the facts of packets on the wire that several packages need: addresses, numbers of protocols,
// lengths of headers, the fields that a rule can match, and the header of a captured copy. It depends on nothing else
// of this module.
package wire

import (
	"fmt"
	"net"
)

// EtherTypes.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeRARP = 0x8035
	EtherTypeVLAN = 0x8100
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8
)

// Protocol numbers of IP.
const (
	ProtoICMP   = 1
	ProtoIPv4   = 4 // IPv4 in IP
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoIPv6   = 41 // IPv6 in IP
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// Lengths of headers in bytes: of Ethernet without a tag, and of IPv4 without options.
const (
	EthernetLen = 14
	IPv4Len     = 20
	IPv6Len     = 40
	UDPLen      = 8
	VXLANLen    = 8
)

// IPv4FragmentMask selects, in the 16 bits of an IPv4 header that are about fragments, the flag of more fragments and
// the offset. A packet is a fragment if one of these bits is set.
const IPv4FragmentMask = 0x3fff

// VXLANPort is the UDP destination port of VXLAN (RFC 7348).
const VXLANPort = 4789

// MAC is an Ethernet address. The zero value means unknown.
type MAC [6]byte

// String returns the usual notation: 02:00:00:00:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// ParseMAC parses an Ethernet address in any notation of net.ParseMAC. Longer addresses are an error.
func ParseMAC(text string) (MAC, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not a MAC address", text)
	}
	return MAC(mac), nil
}
