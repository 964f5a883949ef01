// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"net/netip"
	"slices"

	. "dpservice/rteflow"
	"dpservice/wire"
)

// maxArrival is the longest frame that arrives: the MTU is 1500.
const maxArrival = 1514

// frame makes a packet: any, or one that an installed rule could match. Some are truncated or wrong.
func (g *gen) frame(rules []Rule) []byte {
	var b []byte
	if len(rules) > 0 && g.chance(65) {
		b = g.frameFor(pick(g, rules...))
	} else {
		items, _ := g.pattern()
		b = g.frameFor(Rule{Pattern: items})
	}
	switch {
	case g.chance(6):
		b = b[:g.IntN(len(b))+1]
	case g.chance(4):
		b[g.IntN(len(b))] = byte(g.Uint32())
	}
	return b[:min(len(b), maxArrival)]
}

// value is one that satisfies a field's condition; without one, any.
func value[T any](m *Match[T], any func() T, bytes func(T) []byte, from func([]byte) T) T {
	v := any()
	if m == nil {
		return v
	}
	mask := make([]byte, len(bytes(v)))
	for i := range mask {
		mask[i] = 0xff
	}
	if m.Mask != nil {
		copy(mask, bytes(*m.Mask))
	}
	b, spec := append([]byte{}, bytes(v)...), bytes(m.Spec)
	for i := range b {
		b[i] = b[i]&^mask[i] | spec[i]&mask[i]
	}
	return from(b)
}

func value8(m *Match[uint8], any func() uint8) uint8 {
	return value(m, any, func(v uint8) []byte { return []byte{v} }, func(b []byte) uint8 { return b[0] })
}

func value16(m *Match[uint16], any func() uint16) uint16 {
	return value(m, any, func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }, binary.BigEndian.Uint16)
}

func valueMAC(m *Match[wire.MAC], any func() wire.MAC) wire.MAC {
	return value(m, any, func(v wire.MAC) []byte { return v[:] }, func(b []byte) wire.MAC { return wire.MAC(b) })
}

func valueAddr(m *Match[netip.Addr], any func() netip.Addr) []byte {
	return value(m, any, netip.Addr.AsSlice, func(b []byte) netip.Addr {
		a,
			_ := netip.AddrFromSlice(b)
		return a
	}).AsSlice()
}

// frameFor builds a frame with the rule's layers, whose fields satisfy it, and what may follow them.
func (g *gen) frameFor(r Rule) []byte {
	var items []Item
	for _, it := range r.Pattern {
		if _, ok := layer(it); ok {
			items = append(items, it)
		}
	}
	if len(items) == 0 {
		items = []Item{Eth{}}
	}
	e, ok := items[0].(Eth)
	if !ok {
		e = Eth{}
	} else {
		items = items[1:]
	}
	dst, src := valueMAC(e.Dst, g.mac), valueMAC(e.Src, g.mac)
	b := slices.Concat(dst[:], src[:])
	if len(items) > 0 {
		if v, ok := items[0].(VLAN); ok {
			b = binary.BigEndian.AppendUint16(b, typeVLAN)
			b = binary.BigEndian.AppendUint16(b, value16(v.TCI, g.tci))
			items, e.Type = items[1:], nil
			if v.InnerType != nil {
				e.Type = v.InnerType
			}
		}
	}
	for g.chance(10) && e.Type == nil { // the reference and net_mlx5 do not mind tags
		b = binary.BigEndian.AppendUint16(b, pick[uint16](g, typeVLAN, typeVLAN, typeQinQ))
		b = binary.BigEndian.AppendUint16(b, g.tci())
	}
	rest, etherType := g.above(items)
	if len(items) == 0 {
		etherType = value16(e.Type, always(etherType))
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	return append(b, rest...)
}

// above builds IP and what is above it.
func (g *gen) above(items []Item) ([]byte, uint16) {
	if len(items) == 0 {
		if g.chance(20) {
			return g.payload(), 0x0806
		}
		items = []Item{g.ipItem(g.chance(50), protoUDP)}
	}
	b, four := g.ip(items)
	if four {
		return b, typeIPv4
	}
	return b, typeIPv6
}

// ip builds an IP packet of the first item and the others within.
func (g *gen) ip(items []Item) (b []byte, four bool) {
	_, four = items[0].(IPv4)
	inner, proto := g.inIP(items[1:], protoOf(items[0]))
	if !four {
		it, _ := items[0].(IPv6)
		return g.ip6(it, value8(it.Proto, always(proto)), inner), false
	}
	it := items[0].(IPv4)
	options := 0
	if g.chance(8) {
		options = 4 * (1 + g.IntN(3))
	}
	h := make([]byte, 20+options)
	h[0] = byte(0x45 + options/4)
	h[1] = value8(it.TOS, func() uint8 { return pick[uint8](g, 0, 0, 0xb8) })
	put16(h, 2, g.length(len(h)+len(inner)))
	put16(h, 4, uint16(g.Uint32()))
	put16(h, 6, value16(it.FragmentOffset, func() uint16 {
		return pick[uint16](g, 0, 0, 0, 0, 0, 0, 0x4000, 0x4000, 0x2000,
			0x00b9, 0x20b9)
	}))
	h[8] = value8(it.TTL, g.ttl)
	h[9] = value8(it.Proto, always(proto))
	copy(h[12:], valueAddr(it.Src, g.v4))
	copy(h[16:], valueAddr(it.Dst, g.v4))
	put16(h, 10, checksum(h))
	if g.chance(3) {
		put16(h, 10, uint16(g.Uint32()))
	}
	return append(h, inner...), true
}

// length is what an IP header says its length is: n mostly.
func (g *gen) length(n int) uint16 {
	if g.chance(5) {
		return pick(g, 0, uint16(n+1), uint16(g.IntN(n+1)), 0xffff)
	}
	return uint16(n)
}

func (g *gen) ttl() uint8 { return pick[uint8](g, 64, 64, 64, 1, 0, 255) }

func (g *gen) ip6(it IPv6, proto uint8, inner []byte) []byte {
	if g.chance(5) && it.Proto == nil {
		inner = append([]byte{proto, 0, 0, pick[uint8](g, 0, 1, 8), 0, 0, 0, 0}, inner...)
		proto = pick[uint8](g, protoDstOpts, protoHopOpts, protoRouting, protoFragment, protoFragment)
	}
	h := make([]byte, 40)
	h[0], h[3] = 0x60, byte(g.IntN(2))
	put16(h, 4, g.length(len(inner)))
	h[6], h[7] = proto, value8(it.HopLimit, g.ttl)
	copy(h[8:], valueAddr(it.Src, g.v6))
	copy(h[24:], valueAddr(it.Dst, g.v6))
	return append(h, inner...)
}

// inIP builds what an IP header is followed by, and its protocol number.
func (g *gen) inIP(items []Item, want *Match[uint8]) ([]byte, uint8) {
	if len(items) == 0 {
		proto := pick[uint8](g, protoTCP, protoUDP, protoICMP, protoICMP6, 132)
		switch {
		case want == nil && g.chance(20):
			proto = pick[uint8](g, protoIPIP, protoIP6IP)
		case want != nil && want.Mask != nil && *want.Mask == 0xfb:
			proto = pick(g, want.Spec, want.Spec|protoIPIP)
		case want != nil:
			proto = want.Spec
		}
		switch proto {
		case protoIPIP, protoIP6IP:
			b, _ := g.ip([]Item{g.ipItem(proto == protoIPIP, protoUDP)})
			return b, proto
		case protoTCP, protoUDP, protoICMP:
			return g.l4(g.l4Item(proto)), proto
		case protoICMP6:
			return g.l4(g.l4Item(protoICMP6)), proto
		}
		return g.payload(), proto
	}
	switch it := items[0].(type) {
	case IPv4:
		b, _ := g.ip(items)
		return b, protoIPIP
	case IPv6:
		b, _ := g.ip(items)
		return b, protoIP6IP
	case TCP:
		return g.l4(it), protoTCP
	case UDP:
		if len(items) > 1 {
			return g.vxlan(it, items[1:]), protoUDP
		}
		return g.l4(it), protoUDP
	case ICMP:
		return g.l4(it), protoICMP
	case ICMP6:
		return g.l4(it), protoICMP6
	}
	return g.payload(), 132
}

// vxlan builds UDP, a VXLAN item's header, and a frame with the rest. Few lack the flag that says that there is a VNI.
func (g *gen) vxlan(u UDP, items []Item) []byte {
	h := make([]byte, 16)
	put16(h, 0, value16(u.SrcPort, g.l4Port))
	put16(h, 2, portVXLAN)
	it, _ := items[0].(VXLAN)
	vni := value(it.VNI, g.vni, func(v uint32) []byte { return []byte{byte(v >> 16), byte(v >> 8), byte(v)} },
		func(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) })
	h[12], h[13], h[14] = byte(vni>>16), byte(vni>>8), byte(vni)
	if !g.chance(3) {
		h[8] = 8
	}
	h = append(h, g.frameFor(Rule{Pattern: items[1:]})...)
	put16(h, 4, uint16(len(h)))
	return h
}

func (g *gen) l4(it Item) []byte {
	var h []byte
	switch it := it.(type) {
	case TCP:
		h = make([]byte, 20)
		put16(h, 0, value16(it.SrcPort, g.l4Port))
		put16(h, 2, value16(it.DstPort, g.l4Port))
		h[12], h[13] = 0x50, value8(it.Flags, g.flags)
	case UDP:
		h = make([]byte, 8)
		put16(h, 0, value16(it.SrcPort, g.l4Port))
		put16(h, 2, value16(it.DstPort, g.l4Port))
	case ICMP:
		h = make([]byte, 8)
		h[0], h[1] = value8(it.Type, g.icmpType), value8(it.Code, always[uint8](0))
		put16(h, 4, value16(it.Ident, g.l4Port))
	case ICMP6:
		h = make([]byte, 8)
		h[0], h[1] = value8(it.Type, g.icmpType), value8(it.Code, always[uint8](0))
	}
	return append(h, g.payload()...)
}

// payload is mostly short; some fill the MTU to the last byte or nearly so.
func (g *gen) payload() []byte {
	n := g.IntN(40)
	switch g.IntN(30) {
	case 0:
		n = 1300 + g.IntN(80)
	case 1:
		n = 1360 + g.IntN(40)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}
