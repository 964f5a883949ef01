// SPDX-License-Identifier: Apache-2.0

package wire

// Field is a part of a packet that a capture's filter can match. The packet graph has the same list in C: enum
// tap_field.
type Field uint8

// The fields. The IP header is the one behind at most one VLAN tag. A field that the packet does not have is 0.
const (
	FieldEthDst    Field = iota // 6 bytes
	FieldEthSrc                 // 6 bytes
	FieldTagged                 // 1 bit in a byte: there is a VLAN tag
	FieldEtherType              // 2 bytes; of a tagged frame the tag's type. Inside a tunnel: by the IP version
	FieldVLANTCI                // 2 bytes
	FieldVLANType               // 2 bytes: the EtherType behind the tag
	FieldProto                  // 1 byte: what the IP packet carries, behind IPv6 extension headers
	FieldTOS                    // 1 byte: IPv4 TOS, IPv6 traffic class
	FieldTTL                    // 1 byte: IPv4 TTL, IPv6 hop limit
	FieldFragment               // 1 bit in a byte: an IPv4 fragment
	FieldSrc                    // 16 bytes; 4 with IPv4
	FieldDst                    // 16 bytes; 4 with IPv4
	FieldL4                     // 1 bit in a byte: there is a header of FieldProto, whole and not of a fragment
	FieldSrcPort                // 2 bytes
	FieldDstPort                // 2 bytes
	FieldTCPFlags               // 1 byte
	FieldICMPType               // 1 byte: ICMP or ICMPv6
	FieldICMPCode               // 1 byte
	NumFields                   // how many fields there are
)
