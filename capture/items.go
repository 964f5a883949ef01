// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/binary"
	"net/netip"

	"dpservice/capture/filter"
	"dpservice/dpservice/nic"
	"dpservice/rteflow"
)

const typeIPv4, typeIPv6 = 0x0800, 0x86dd

// anyFragment are the flag of more fragments and the offset.
const anyFragment = 0x3fff

// linkOf is what a filter's packets begin with: on PF0 it is about what the tunnel carries.
func linkOf(t Target) filter.Link {
	if t.VF == "" {
		return filter.IP
	}
	return filter.Ethernet
}

// itemsOf are the items that match a filter's pattern, from Ethernet on.
func itemsOf(p filter.Pattern, link filter.Link) []rteflow.Item {
	if link == filter.IP {
		return tunnelItems(p)
	}
	ipVersion := number(p[filter.EtherType])
	if !p[filter.VLANType].Any() {
		ipVersion = number(p[filter.VLANType])
	}
	return append(frameItems(p), ipItems(p, ipVersion)...)
}

// ipItems are an IP header and what follows it.
func ipItems(p filter.Pattern, version uint16) []rteflow.Item {
	var items []rteflow.Item
	switch version {
	case typeIPv4:
		items = append(items, ipv4Item(p))
	case typeIPv6:
		items = append(items, ipv6Item(p))
	}
	if !p[filter.L4].Any() {
		items = append(items, l4Item(p))
	}
	return items
}

// tunnelItems are the outer headers of a packet, and those within where more is asked of these than the version of IP: the outer
// one tells that, and a NIC may take no pattern that looks into a tunnel.
func tunnelItems(p filter.Pattern) []rteflow.Item {
	version := p[filter.EtherType]
	if version.Any() {
		return []rteflow.Item{rteflow.Eth{}}
	}
	items := []rteflow.Item{rteflow.Eth{}, rteflow.IPv6{Proto: nic.ProtoOf(number(version))}}
	if p[filter.EtherType] = (filter.Condition{}); p == (filter.Pattern{}) {
		return items
	}
	return append(items, ipItems(p, number(version))...)
}

// frameItems are Ethernet and a tag. That there is none is said in words of its own, as a NIC's EtherType may be that
// behind the tags; an IP header is said by its item.
func frameItems(p filter.Pattern) []rteflow.Item {
	eth := rteflow.Eth{Dst: mac(p[filter.EthDst]), Src: mac(p[filter.EthSrc])}
	if t := number(p[filter.EtherType]); t != typeIPv4 && t != typeIPv6 {
		eth.Type = match16(p[filter.EtherType])
	}
	switch tagged := p[filter.Tagged]; {
	case tagged.Any():
		return []rteflow.Item{eth}
	case tagged.Value[0] == 0:
		eth.HasVLAN = rteflow.Is[uint8](0)
		return []rteflow.Item{eth}
	}
	return []rteflow.Item{eth, rteflow.VLAN{TCI: match16(p[filter.VLANTCI]), InnerType: match16(p[filter.VLANType])}}
}

func ipv4Item(p filter.Pattern) rteflow.Item {
	ip := rteflow.IPv4{
		Src: match4(p[filter.Src]), Dst: match4(p[filter.Dst]), TOS: match8(p[filter.TOS]), TTL: match8(p[filter.TTL]),
		Proto: proto(p),
	}
	if f := p[filter.Fragment]; !f.Any() {
		ip.FragmentOffset = rteflow.Masked[uint16](0, anyFragment)
		if f.Value[0] == 1 {
			last := uint16(anyFragment)
			ip.FragmentOffset.Spec, ip.FragmentOffset.Last = 1, &last
		}
	}
	return ip
}

func ipv6Item(p filter.Pattern) rteflow.Item {
	return rteflow.IPv6{Src: match6(p[filter.Src]), Dst: match6(p[filter.Dst]), HopLimit: match8(p[filter.TTL]), Proto: proto(p)}
}

// proto is left to the item of what follows, if there is one.
func proto(p filter.Pattern) *rteflow.Match[uint8] {
	if !p[filter.L4].Any() {
		return nil
	}
	return match8(p[filter.Proto])
}

func l4Item(p filter.Pattern) rteflow.Item {
	src, dst := match16(p[filter.SrcPort]), match16(p[filter.DstPort])
	kind, code := match8(p[filter.ICMPType]), match8(p[filter.ICMPCode])
	switch p[filter.Proto].Value[0] {
	case 6:
		return rteflow.TCP{SrcPort: src, DstPort: dst, Flags: match8(p[filter.TCPFlags])}
	case protoUDP:
		return rteflow.UDP{SrcPort: src, DstPort: dst}
	case 1:
		return rteflow.ICMP{Type: kind, Code: code}
	default:
		return rteflow.ICMP6{Type: kind, Code: code}
	}
}

func number(c filter.Condition) uint16 { return binary.BigEndian.Uint16(c.Value[:]) }

// matchOf is a condition as a match, nil if there is none, and without a mask if that is all.
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

func mac(c filter.Condition) *rteflow.Match[rteflow.MAC] {
	return matchOf(c, rteflow.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, func(b [16]byte) rteflow.MAC { return rteflow.MAC(b[:6]) })
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
