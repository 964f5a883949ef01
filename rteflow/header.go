// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"dpservice/wire"
)

// headerItems reads the headers Ethernet, IPv4 or IPv6, UDP and VXLAN of which data consists; nil if it consists of
// anything else. Lengths and checksums are not looked at: in a template they are the NIC's to fill.
func headerItems(data []byte) []Item {
	eth, rest := readEth(data)
	if eth == nil {
		return nil
	}
	items := []Item{*eth}
	var proto uint8
	switch {
	case len(rest) == 0:
		return items
	case eth.Type.Spec == wire.EtherTypeIPv4 && len(rest) >= wire.IPv4Len:
		ip := readIPv4(rest)
		items, proto, rest = append(items, ip), ip.Proto.Spec, rest[wire.IPv4Len:]
	case eth.Type.Spec == wire.EtherTypeIPv6 && len(rest) >= wire.IPv6Len:
		ip := readIPv6(rest)
		items, proto, rest = append(items, ip), ip.Proto.Spec, rest[wire.IPv6Len:]
	default:
		return nil
	}
	switch {
	case len(rest) == 0:
		return items
	case proto == wire.ProtoUDP && len(rest) == wire.UDPLen:
		return append(items, readUDP(rest))
	case proto == wire.ProtoUDP && len(rest) == wire.UDPLen+wire.VXLANLen:
		return append(items, readUDP(rest), VXLAN{VNI: Is(binary.BigEndian.Uint32(rest[12:]) >> 8)})
	default:
		return nil
	}
}

func readEth(b []byte) (*Eth, []byte) {
	if len(b) < wire.EthernetLen {
		return nil, nil
	}
	eth := &Eth{Dst: Is(wire.MAC(b[0:6])), Src: Is(wire.MAC(b[6:12])), Type: Is(binary.BigEndian.Uint16(b[12:]))}
	return eth, b[wire.EthernetLen:]
}

func readIPv4(b []byte) IPv4 {
	ip := IPv4{
		TTL: Is(b[8]), Proto: Is(b[9]),
		Src: Is(netip.AddrFrom4([4]byte(b[12:16]))), Dst: Is(netip.AddrFrom4([4]byte(b[16:20]))),
	}
	if b[1] != 0 {
		ip.TOS = Is(b[1])
	}
	if fragment := binary.BigEndian.Uint16(b[6:]); fragment != 0 {
		ip.FragmentOffset = Is(fragment)
	}
	return ip
}

func readIPv6(b []byte) IPv6 {
	ip := IPv6{
		Proto: Is(b[6]), HopLimit: Is(b[7]),
		Src: Is(netip.AddrFrom16([16]byte(b[8:24]))), Dst: Is(netip.AddrFrom16([16]byte(b[24:40]))),
	}
	if label := binary.BigEndian.Uint32(b) & 0xfffff; label != 0 {
		ip.FlowLabel = Is(label)
	}
	return ip
}

func readUDP(b []byte) UDP {
	return UDP{SrcPort: Is(binary.BigEndian.Uint16(b)), DstPort: Is(binary.BigEndian.Uint16(b[2:]))}
}

// headerBytes is what testpmd makes of the items: their fields, the IP version, VXLAN's flag of a valid VNI, and zeros.
func headerBytes(items []Item) []byte {
	var data []byte
	for _, it := range items {
		start := len(data)
		data = append(data, newLayout(it).spec()...)
		switch it.(type) {
		case IPv4:
			data[start] = 0x45
		case IPv6:
			data[start] = 0x60
		case VXLAN:
			data[start] = 0x08
		}
	}
	return data
}

// encapText is data in the words of testpmd's "set raw_encap", if these give exactly data.
func encapText(data []byte) (string, bool) {
	items := headerItems(data)
	if items == nil || !bytes.Equal(headerBytes(items), data) {
		return "", false
	}
	return Rule{Pattern: items}.PatternString(), true
}

// decapText is data in the words of testpmd's "set raw_decap", if it has them. Only the layers count.
func decapText(data []byte) (string, bool) {
	items := headerItems(data)
	if items == nil {
		return "", false
	}
	names := make([]string, len(items))
	for i, it := range items {
		names[i] = itemName(it)
	}
	return strings.Join(names, " / "), true
}
