// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/binary"
	"net/netip"

	"dpservice/capture/filter"
	"dpservice/dpservice/nic"
	"dpservice/rteflow"
)

const typeIPv4, typeIPv6 = 0x0800, 0x86dd

// IP protocols.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

// fragmentMask selects the flag "more fragments" and the offset: both are 0 in a packet that is no fragment.
const fragmentMask = 0x3fff

// items match a filter's pattern, from Ethernet on.
func items(p filter.Pattern, link filter.Link) []rteflow.Item {
	if link == filter.IP {
		return tunnelItems(p)
	}
	ipVersion := number(p[filter.EtherType])
	if !p[filter.VLANType].Any() {
		ipVersion = number(p[filter.VLANType])
	}
	return append(frameItems(p), ipItems(p, ipVersion)...)
}

// ipItems match an IP header and what follows it.
func ipItems(p filter.Pattern, version uint16) []rteflow.Item {
	var list []rteflow.Item
	switch version {
	case typeIPv4:
		list = append(list, ipv4Item(p))
	case typeIPv6:
		list = append(list, ipv6Item(p))
	}
	if !p[filter.L4].Any() {
		list = append(list, l4Item(p))
	}
	return list
}

// tunnelItems match the outer headers of a packet. They match inner headers only if the filter asks for more than the
// version of IP: the outer header tells the version, and some NICs take no pattern that looks into a tunnel.
func tunnelItems(p filter.Pattern) []rteflow.Item {
	version := p[filter.EtherType]
	if version.Any() {
		return []rteflow.Item{rteflow.Eth{}}
	}
	outer := []rteflow.Item{rteflow.Eth{}, rteflow.IPv6{Proto: nic.ProtoOf(number(version))}}
	if p[filter.EtherType] = (filter.Condition{}); p == (filter.Pattern{}) {
		return outer
	}
	return append(outer, ipItems(p, number(version))...)
}

// frameItems match Ethernet and a VLAN tag. An untagged frame is matched by has_vlan and not by its EtherType, since
// a NIC may compare the EtherType behind the tags. The EtherType of IP is left to the item of the IP header.
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
		ip.FragmentOffset = rteflow.Masked[uint16](0, fragmentMask)
		if f.Value[0] == 1 {
			last := uint16(fragmentMask)
			ip.FragmentOffset.Spec, ip.FragmentOffset.Last = 1, &last
		}
	}
	return ip
}

func ipv6Item(p filter.Pattern) rteflow.Item {
	return rteflow.IPv6{
		Src: match6(p[filter.Src]), Dst: match6(p[filter.Dst]), HopLimit: match8(p[filter.TTL]), Proto: proto(p),
	}
}

// proto matches the protocol, unless an item of the next header does.
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
	case protoTCP:
		return rteflow.TCP{SrcPort: src, DstPort: dst, Flags: match8(p[filter.TCPFlags])}
	case protoUDP:
		return rteflow.UDP{SrcPort: src, DstPort: dst}
	case protoICMP:
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

func mac(c filter.Condition) *rteflow.Match[rteflow.MAC] {
	all := rteflow.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return matchOf(c, all, func(b [16]byte) rteflow.MAC { return rteflow.MAC(b[:6]) })
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
