// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"encoding/binary"
	"net/netip"

	"dpservice/wire"
)

// dice makes rules of bytes, which the fuzzer or a random source chooses; without bytes it throws zeros.
type dice struct{ data []byte }

func (d *dice) byte() byte {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *dice) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = d.byte()
	}
	return b
}

func (d *dice) u16() uint16    { return binary.BigEndian.Uint16(d.bytes(2)) }
func (d *dice) label() uint32  { return d.u32() & 0xfffff }
func (d *dice) u32() uint32    { return binary.BigEndian.Uint32(d.bytes(4)) }
func (d *dice) u24() uint32    { return d.u32() >> 8 }
func (d *dice) n(n int) int    { return int(d.byte()) % n }
func (d *dice) mac() wire.MAC  { return wire.MAC(d.bytes(6)) }
func (d *dice) v4() netip.Addr { return netip.AddrFrom4([4]byte(d.bytes(4))) }
func (d *dice) v6() netip.Addr { return netip.AddrFrom16([16]byte(d.bytes(16))) }

// match is one of: not looked at, exact, masked, a range.
func match[T any](d *dice, value func() T) *Match[T] {
	switch d.n(4) {
	case 0:
		return nil
	case 1:
		return Is(value())
	case 2:
		return Masked(value(), value())
	default:
		last, mask := value(), value()
		return &Match[T]{Spec: value(), Last: &last, Mask: &mask}
	}
}

func (d *dice) item() Item {
	switch d.n(16) {
	case 0:
		return Eth{match(d, d.mac), match(d, d.mac), match(d, d.u16), nil}
	case 1:
		return IPv4{
			match(d, d.v4), match(d, d.v4), match(d, d.byte), match(d, d.byte), match(d, d.byte), match(d, d.u16),
		}
	case 2:
		return IPv6{match(d, d.v6), match(d, d.v6), match(d, d.label), match(d, d.byte), match(d, d.byte)}
	case 3:
		return TCP{match(d, d.u16), match(d, d.u16), match(d, d.byte)}
	case 4:
		return UDP{match(d, d.u16), match(d, d.u16)}
	case 5:
		return ICMP{match(d, d.byte), match(d, d.byte), match(d, d.u16)}
	case 6:
		return ICMP6{match(d, d.byte), match(d, d.byte)}
	case 7:
		return RepresentedPort{d.u16()}
	case 8:
		return PortID{d.u16()}
	case 9:
		return VLAN{match(d, d.u16), match(d, d.u16)}
	case 10:
		return VXLAN{match(d, d.u24)}
	case 11:
		return Mark{match(d, d.u32)}
	case 12:
		return Tag{match(d, d.u32), d.byte()}
	case 13:
		return AnyPort{}
	case 14:
		return AnyPortID{}
	default:
		return Meta{match(d, d.u32)}
	}
}

// header is one that testpmd has words for.
func (d *dice) header() []byte {
	items := []Item{Eth{Is(d.mac()), Is(d.mac()), Is(d.u16() | 0x8000), nil}}
	if d.n(2) == 1 {
		items[0] = Eth{Is(d.mac()), Is(d.mac()), Is[uint16](wire.EtherTypeIPv6), nil}
		items = append(items, IPv6{Is(d.v6()), Is(d.v6()), Is(d.label()), Is[uint8](wire.ProtoUDP), Is(d.byte())},
			UDP{Is(d.u16()), Is(d.u16())})
	}
	return headerBytes(items)
}

func (d *dice) action() Action {
	switch d.n(24) {
	case 0:
		return Sample{d.u32(), []Action{RawEncap{d.header()}, ToPortID{d.u16()}}}
	case 1:
		return Jump{d.u32()}
	case 2:
		return RawEncap{d.header()}
	case 3:
		return RawDecap{d.header()}
	case 4:
		return SetMACSrc{d.mac()}
	case 5:
		return SetMACDst{d.mac()}
	case 6:
		return DecTTL{}
	case 7:
		return Age{d.u32() & maxAge, uint64(d.u32())<<32 | uint64(d.u32())}
	case 8:
		return Count{}
	case 9:
		return Drop{}
	case 10:
		return Queue{d.u16()}
	case 11:
		return ToRepresentedPort{d.u16()}
	case 12:
		return SetIPv4Src{d.v4()}
	case 13:
		return SetIPv4Dst{d.v4()}
	case 14:
		return SetIPv6Src{d.v6()}
	case 15:
		return SetIPv6Dst{d.v6()}
	case 16:
		return SetTPSrc{d.u16()}
	case 17:
		return SetTPDst{d.u16()}
	case 18:
		return PopVLAN{}
	case 19:
		return PushVLAN{d.u16()}
	case 20:
		return SetMark{d.u32()}
	case 21:
		return SetTag{d.u32(), d.u32(), d.byte()}
	case 22:
		return SetMeta{d.u32(), d.u32()}
	default:
		return ToPortID{d.u16()}
	}
}

func (d *dice) rule() Rule {
	r := Rule{Attr: Attr{Group: d.u32(), Priority: d.u32()}}
	switch d.n(3) { // rte_flow refuses transfer with another
	case 0:
		r.Transfer = true
	case 1:
		r.Ingress = true
	default:
		r.Egress = true
	}
	for range d.n(4) {
		r.Pattern = append(r.Pattern, d.item())
	}
	for range d.n(4) {
		r.Actions = append(r.Actions, d.action())
	}
	return r
}

// broken puts something into a rule that no rule may contain.
func (d *dice) broken(r Rule) Rule {
	items := []Item{nil, &Eth{}, IPv4{Src: Is(d.v6())}, IPv6{Dst: Is(netip.Addr{})}, (*TCP)(nil),
		VXLAN{Is[uint32](1 << 24)}}
	actions := []Action{
		nil, &Drop{}, Age{Timeout: maxAge + 1}, Sample{Actions: []Action{Sample{}}}, Sample{Actions: []Action{nil}},
		SetIPv4Src{d.v6()}, SetIPv4Dst{}, SetIPv6Src{d.v4()}, SetIPv6Dst{},
	}
	if d.n(2) == 0 {
		r.Pattern = append(r.Pattern, items[d.n(len(items))])
	} else {
		r.Actions = append(r.Actions, actions[d.n(len(actions))])
	}
	return r
}
