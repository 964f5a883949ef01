// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/binary"
	"net/netip"

	"dpservice/capture/filter"
	"dpservice/dpservice/nic"
	"dpservice/rteflow"
	"dpservice/wire"
)

// items match a filter's pattern, from Ethernet on.
func items(p filter.Pattern, link filter.Link) []rteflow.Item {
	if link == filter.IP {
		return tunnelItems(p)
	}
	ipVersion := number(p[wire.FieldEtherType])
	if !p[wire.FieldVLANType].Any() {
		ipVersion = number(p[wire.FieldVLANType])
	}
	return append(frameItems(p), ipItems(p, ipVersion)...)
}

// ipItems match an IP header and what follows it.
func ipItems(p filter.Pattern, version uint16) []rteflow.Item {
	var list []rteflow.Item
	switch version {
	case wire.EtherTypeIPv4:
		list = append(list, ipv4Item(p))
	case wire.EtherTypeIPv6:
		list = append(list, ipv6Item(p))
	}
	if !p[wire.FieldL4].Any() {
		list = append(list, l4Item(p))
	}
	return list
}

// tunnelItems match the outer headers of a packet. They match inner headers only if the filter asks for more than the
// version of IP: the outer header tells the version, and some NICs take no pattern that looks into a tunnel.
func tunnelItems(p filter.Pattern) []rteflow.Item {
	version := p[wire.FieldEtherType]
	if version.Any() {
		return []rteflow.Item{rteflow.Eth{}}
	}
	outer := []rteflow.Item{rteflow.Eth{}, rteflow.IPv6{Proto: nic.ProtoOf(number(version))}}
	if p[wire.FieldEtherType] = (filter.Condition{}); p == (filter.Pattern{}) {
		return outer
	}
	return append(outer, ipItems(p, number(version))...)
}

// frameItems match Ethernet and a VLAN tag. An untagged frame is matched by has_vlan and not by its EtherType, since
// a NIC may compare the EtherType behind the tags. The EtherType of IP is left to the item of the IP header.
func frameItems(p filter.Pattern) []rteflow.Item {
	eth := rteflow.Eth{Dst: mac(p[wire.FieldEthDst]), Src: mac(p[wire.FieldEthSrc])}
	if t := number(p[wire.FieldEtherType]); t != wire.EtherTypeIPv4 && t != wire.EtherTypeIPv6 {
		eth.Type = match16(p[wire.FieldEtherType])
	}
	switch tagged := p[wire.FieldTagged]; {
	case tagged.Any():
		return []rteflow.Item{eth}
	case tagged.Value[0] == 0:
		eth.HasVLAN = rteflow.Is[uint8](0)
		return []rteflow.Item{eth}
	}
	return []rteflow.Item{eth, rteflow.VLAN{TCI: match16(p[wire.FieldVLANTCI]), InnerType: match16(p[wire.FieldVLANType])}}
}

func ipv4Item(p filter.Pattern) rteflow.Item {
	ip := rteflow.IPv4{
		Src: match4(p[wire.FieldSrc]), Dst: match4(p[wire.FieldDst]), TOS: match8(p[wire.FieldTOS]),
		TTL:   match8(p[wire.FieldTTL]),
		Proto: proto(p),
	}
	if f := p[wire.FieldFragment]; !f.Any() {
		ip.FragmentOffset = rteflow.Masked[uint16](0, wire.IPv4FragmentMask)
		if f.Value[0] == 1 {
			last := uint16(wire.IPv4FragmentMask)
			ip.FragmentOffset.Spec, ip.FragmentOffset.Last = 1, &last
		}
	}
	return ip
}

func ipv6Item(p filter.Pattern) rteflow.Item {
	return rteflow.IPv6{
		Src: match6(p[wire.FieldSrc]), Dst: match6(p[wire.FieldDst]), HopLimit: match8(p[wire.FieldTTL]), Proto: proto(p),
	}
}

// proto matches the protocol, unless an item of the next header does.
func proto(p filter.Pattern) *rteflow.Match[uint8] {
	if !p[wire.FieldL4].Any() {
		return nil
	}
	return match8(p[wire.FieldProto])
}

func l4Item(p filter.Pattern) rteflow.Item {
	src, dst := match16(p[wire.FieldSrcPort]), match16(p[wire.FieldDstPort])
	kind, code := match8(p[wire.FieldICMPType]), match8(p[wire.FieldICMPCode])
	switch p[wire.FieldProto].Value[0] {
	case wire.ProtoTCP:
		return rteflow.TCP{SrcPort: src, DstPort: dst, Flags: match8(p[wire.FieldTCPFlags])}
	case wire.ProtoUDP:
		return rteflow.UDP{SrcPort: src, DstPort: dst}
	case wire.ProtoICMP:
		return rteflow.ICMP{Type: kind, Code: code}
	default:
		return rteflow.ICMP6{Type: kind, Code: code}
	}
}

func number(c filter.Condition) uint16 { return binary.BigEndian.Uint16(c.Value[:]) }

// matchOf turns a condition into a match: nil if any value fits, without a mask if all bits count.
func matchOf[T comparable](c filter.Condition, all T, read func([16]byte) T) *rteflow.Match[T] {
	switch {
	case c.Any():
		return nil
	case read(c.Mask) == all:
		return rteflow.Is(read(c.Value))
	}
	return rteflow.Masked(read(c.Value), read(c.Mask))
}

func match8(c filter.Condition) *rteflow.Match[uint8] {
	return matchOf(c, 0xff, func(b [16]byte) uint8 { return b[0] })
}

func match16(c filter.Condition) *rteflow.Match[uint16] {
	return matchOf(c, 0xffff, func(b [16]byte) uint16 { return binary.BigEndian.Uint16(b[:]) })
}

func mac(c filter.Condition) *rteflow.Match[wire.MAC] {
	all := wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return matchOf(c, all, func(b [16]byte) wire.MAC { return wire.MAC(b[:6]) })
}

func match4(c filter.Condition) *rteflow.Match[netip.Addr] {
	all := netip.AddrFrom4([4]byte{0xff, 0xff, 0xff, 0xff})
	return matchOf(c, all, func(b [16]byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) })
}

func match6(c filter.Condition) *rteflow.Match[netip.Addr] {
	var ones [16]byte
	for i := range ones {
		ones[i] = 0xff
	}
	return matchOf(c, netip.AddrFrom16(ones), netip.AddrFrom16)
}
