// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	. "dpservice/rteflow"
	"dpservice/wire"
)

// gen makes random rules and frames. Values come from a small universe, so that rules overlap and packets meet them.
type gen struct {
	*rand.Rand
	ports []Port
	size  int // how many values a field of the universe has
	// forCard: no indirect actions of other ports, since the driver does not look whose they are and may crash, and no
	// frames that veths do not carry.
	forCard bool
	alike   int // how many percent of the rules differ from others in their values only
}

func (g *gen) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *gen, values ...T) T { return values[g.IntN(len(values))] }

func (g *gen) mac() wire.MAC {
	m := wire.MAC{2, 0, 0, 0, 0, byte(g.IntN(g.size))}
	m[1] = byte(g.IntN(2)) << 7
	return m
}

func (g *gen) v4() netip.Addr {
	n := g.IntN(g.size)
	return netip.AddrFrom4([4]byte{10, byte(n % 3), byte(n >> 8), byte(n)})
}

func (g *gen) v6() netip.Addr {
	a := [16]byte{0xfc, 15: byte(g.IntN(g.size))}
	a[g.IntN(15)+1] |= byte(g.IntN(2)) << g.IntN(8)
	return netip.AddrFrom16(a)
}

func (g *gen) l4Port() uint16 { return pick(g, 80, 53, 4789, 0, 0x8000, uint16(1000+g.IntN(g.size))) }

func (g *gen) flags() uint8 {
	return pick[uint8](g, 0x10, 0x02, 0x12, 0x11, 0x04, 0x18, uint8(g.IntN(256)))
}

// match looks at a field with some probability, mostly under a full mask. As the documents say, bits of the value that
// the mask hides do not matter: they are random.
func match[T any](g *gen, percent int, value func() T, mask func() T) *Match[T] {
	if !g.chance(percent) {
		return nil
	}
	if g.chance(60) {
		return Is(value())
	}
	return Masked(value(), mask())
}

// mask fills b with a mask: a prefix, single bytes, or any bits.
func (g *gen) mask(b []byte) {
	switch g.IntN(3) {
	case 0:
		for bit := range g.IntN(8*len(b) + 1) {
			b[bit/8] |= 0x80 >> (bit % 8)
		}
	case 1:
		b[g.IntN(len(b))] = 0xff
		b[g.IntN(len(b))] = 0xff
	default:
		for i := range b {
			b[i] = byte(g.Uint32())
		}
	}
}

func (g *gen) mask8() uint8 { return byte(g.Uint32()) }

func (g *gen) mask16() uint16 {
	var b [2]byte
	g.mask(b[:])
	return binary.BigEndian.Uint16(b[:])
}

func (g *gen) maskMAC() (m wire.MAC) {
	g.mask(m[:])
	return m
}

func (g *gen) maskV4() netip.Addr {
	var b [4]byte
	g.mask(b[:])
	return netip.AddrFrom4(b)
}

func (g *gen) maskV6() netip.Addr {
	var b [16]byte
	g.mask(b[:])
	return netip.AddrFrom16(b)
}

func always[T any](v T) func() T { return func() T { return v } }

// pattern is layers from Ethernet up; ips says how many of them are IP's, a tunnel's not counted.
func (g *gen) pattern() (items []Item, ips int) {
	layers := g.IntN(11) // 0: Ethernet; to 3: IP; to 6: IP and layer 4; to 9: the outer header of a tunnel; 10: VXLAN
	if layers == 10 {
		return g.overlay()
	}
	e := Eth{Src: match(g, 20, g.mac, g.maskMAC), Dst: match(g, 20, g.mac, g.maskMAC)}
	if layers == 0 {
		e.Type = match(g, 40, func() uint16 { return pick[uint16](g, typeIPv4, typeIPv6, 0x0806) }, always[uint16](0xffff))
		return []Item{e}, 0
	}
	if layers > 6 {
		return g.tunnel(), 0
	}
	four := g.chance(50)
	if g.chance(30) {
		e.Type = Is(uint16(typeIPv6))
		if four {
			e.Type = Is(uint16(typeIPv4))
		}
	} else if g.chance(20) {
		e.HasVLAN = Masked(uint8(g.IntN(2)), uint8(1))
	}
	items = []Item{e}
	if g.chance(10) {
		items = g.tagged(e)
	}
	if layers <= 3 {
		return append(items, g.ipItem(four, pick[uint8](g, protoTCP, protoUDP, protoICMP))), 1
	}
	protos := []uint8{protoTCP, protoTCP, protoUDP, protoICMP6}
	if four {
		protos[3] = protoICMP
	}
	proto := pick(g, protos...)
	items = append(items, g.ipItem(four, proto))
	return append(items, g.l4Item(proto)), 1
}

// tunnel is the outer header of one: with a protocol that cannot be asked for in full, that of IPv6, or none.
func (g *gen) tunnel() []Item {
	ip, _ := g.ipItem(false, protoIP6IP).(IPv6)
	ip.Proto = pick(g, Masked[uint8](0, 0xfb), Is[uint8](protoIP6IP), Masked[uint8](protoIP6IP, 0xfb), nil)
	return []Item{Eth{Src: match(g, 20, g.mac, g.maskMAC)}, ip}
}

// overlay is VXLAN, perhaps with what is in it.
func (g *gen) overlay() (items []Item, ips int) {
	items = []Item{Eth{Src: match(g, 20, g.mac, g.maskMAC)}, g.ipItem(g.chance(50), protoUDP),
		UDP{SrcPort: match(g, 10, g.l4Port, g.mask16)}}
	if g.chance(30) {
		items[2] = UDP{DstPort: Is[uint16](portVXLAN)}
	}
	items = append(items, VXLAN{VNI: match(g, 50, g.vni, func() uint32 { return pick[uint32](g, 0xffffff, 0xff, 1) })})
	if g.chance(40) {
		return items, 1
	}
	items = append(items, Eth{Src: match(g, 20, g.mac, g.maskMAC), Dst: match(g, 30, g.mac, g.maskMAC)})
	if g.chance(30) {
		return items, 1
	}
	four := g.chance(60)
	proto := pick[uint8](g, protoTCP, protoUDP)
	items = append(items, g.ipItem(four, proto))
	if g.chance(60) {
		items = append(items, g.l4Item(proto))
	}
	return items, 2
}

func (g *gen) vni() uint32 { return pick[uint32](g, 1, 2, 0x10001, uint32(1+g.IntN(g.size))) }

// tagged is the Ethernet item, whose type becomes the tag's, and a VLAN item.
func (g *gen) tagged(e Eth) []Item {
	v := VLAN{InnerType: e.Type, TCI: match(g, 60, g.tci, func() uint16 { return pick[uint16](g, 0x0fff, 0xefff) })}
	if v.TCI != nil && v.TCI.Mask == nil {
		mask := uint16(0x0fff)
		v.TCI.Mask = &mask
	}
	e.Type = pick(g, nil, nil, Is[uint16](typeVLAN))
	return []Item{e, v}
}

func (g *gen) tci() uint16 { return pick[uint16](g, 0, 0x2000, 0x6000) | uint16(g.IntN(g.size)) }

func protoOf(it Item) *Match[uint8] {
	switch it := it.(type) {
	case IPv4:
		return it.Proto
	case IPv6:
		return it.Proto
	}
	return nil
}

func (g *gen) ipItem(four bool, proto uint8) Item {
	p := match(g, 50, always(proto), always[uint8](0xff))
	if four {
		ip := IPv4{
			Src: match(g, 40, g.v4, g.maskV4), Dst: match(g, 40, g.v4, g.maskV4), Proto: p,
			TTL: match(g, 5, always[uint8](64), always[uint8](0xff)), TOS: match(g, 5, always[uint8](0), always[uint8](0xff)),
		}
		if g.chance(15) {
			ip.FragmentOffset = Masked(0, pick[uint16](g, 0x3fff, 0x3fff, 0x1fff, 0xffff, 0x2000))
		}
		return ip
	}
	if p != nil && g.chance(10) {
		p = Masked(proto, proto|uint8(g.Uint32()))
	}
	return IPv6{
		Src: match(g, 40, g.v6, g.maskV6), Dst: match(g, 40, g.v6, g.maskV6), Proto: p,
		FlowLabel: match(g, 5, func() uint32 { return uint32(g.IntN(2)) }, always[uint32](0xfffff)),
		HopLimit:  match(g, 5, always[uint8](64), always[uint8](0xff)),
	}
}

func (g *gen) l4Item(proto uint8) Item {
	switch proto {
	case protoTCP:
		return TCP{
			SrcPort: match(g, 40, g.l4Port, g.mask16), DstPort: match(g, 40, g.l4Port, g.mask16),
			Flags: match(g, 30, g.flags, func() uint8 { return pick[uint8](g, 7, 2, g.mask8()) }),
		}
	case protoUDP:
		return UDP{SrcPort: match(g, 40, g.l4Port, g.mask16), DstPort: match(g, 40, g.l4Port, g.mask16)}
	case protoICMP:
		return ICMP{Type: match(g, 60, g.icmpType, g.mask8), Code: match(g, 20, always[uint8](0), g.mask8)}
	default:
		return ICMP6{Type: match(g, 60, g.icmpType, g.mask8), Code: match(g, 20, always[uint8](0), g.mask8)}
	}
}

func (g *gen) icmpType() uint8 { return pick[uint8](g, 0, 8, 128, 129, 135) }

// switchPort is a port of the switch domain.
func (g *gen) switchPort() Port {
	for {
		if p := pick(g, g.ports...); p.Switch {
			return p
		}
	}
}

// sourceItem names the port, or none.
func (g *gen) sourceItem(p Port) Item {
	if g.chance(15) {
		return pick[Item](g, AnyPort{}, AnyPortID{})
	}
	return pick[Item](g, RepresentedPort{Port: p.ID}, PortID{Port: p.ID})
}

func (g *gen) uplink() Port { return g.ports[0] }

// rule makes a rule that the NIC takes, or in a few cases one that it refuses.
func (g *gen) rule() (uint16, Rule) {
	port, r := g.goodRule()
	if g.chance(8) {
		g.spoil(&r)
	}
	return port, r
}

func (g *gen) goodRule() (uint16, Rule) {
	port := pick(g, g.ports...)
	transfer := port.Switch && g.chance(85)
	r := Rule{Attr: Attr{Ingress: !transfer, Transfer: transfer, Priority: uint32(g.IntN(4))}}
	if g.chance(60) {
		r.Group = uint32(g.IntN(3) + 1)
	}
	source := port
	items, ips := g.pattern()
	if g.chance(25) {
		items = append(g.registerItems(), items...)
	}
	if transfer && g.chance(50) {
		if g.chance(30) {
			source = g.switchPort()
		}
		items = slices.Insert(items, 0, g.sourceItem(source))
	}
	if transfer && g.chance(4) {
		items = append(items, g.sourceItem(source))
	}
	r.Pattern = items
	if g.chance(40) {
		r.Actions = append(r.Actions, g.counting(port, transfer))
	}
	if g.chance(10) {
		r.Actions = append(r.Actions, Age{Timeout: 1000})
	} else if agesShared() && g.chance(5) {
		r.Actions = append(r.Actions, g.sharedAction(port, 1))
	}
	if !transfer {
		if g.chance(20) {
			r.Actions = append(r.Actions, g.registerAction(), Jump{Group: r.Group + 1})
			return port.ID, r
		}
		if r.Group > 0 && g.chance(20) {
			r.Actions = append(r.Actions, Sample{Ratio: 1, Actions: []Action{Queue{Index: uint16(g.IntN(2))}}})
		}
		r.Actions = append(r.Actions, pick[Action](g, Jump{Group: r.Group + 1}, Drop{}, Queue{Index: uint16(g.IntN(2))},
			Queue{Index: uint16(g.IntN(2))}))
		return port.ID, r
	}
	r.Actions = append(r.Actions, g.transferActions(r, source, ips)...)
	return port.ID, r
}

// counting is a counter of the rule's own, or one that rules of the port share.
func (g *gen) counting(port Port, transfer bool) Action {
	if transfer == port.Switch && g.chance(30) {
		return g.sharedAction(port, 0)
	}
	return Count{}
}

// sharedAction is the port's counter (0) or age (1), as sharedActions numbers them, or in a few cases another port's.
func (g *gen) sharedAction(port Port, which int) Action {
	if !g.forCard && g.chance(5) {
		port = pick(g, g.ports...)
	}
	at := slices.IndexFunc(g.ports, func(p Port) bool { return p.ID == port.ID })
	return Indirect{ID: uint32(2*at + which)}
}

// registerItems look at what other rules may have written.
func (g *gen) registerItems() (items []Item) {
	if g.chance(40) {
		items = append(items, Tag{Data: match(g, 100, g.register, g.mask2), Index: uint8(g.IntN(2))})
	}
	if g.chance(40) {
		items = append(items, Mark{ID: Masked(g.register(), pick[uint32](g, 1, 2, 3, 0xffffff))})
	}
	if len(items) == 0 || g.chance(30) {
		meta := match(g, 100, g.register, g.mask2)
		if meta.Mask == nil && g.chance(90) { // of 32 bits the switch has 16
			meta.Mask = new(uint32)
			*meta.Mask = 0xffff
		}
		items = append(items, Meta{Data: meta})
	}
	return items
}

func (g *gen) register() uint32 { return uint32(g.IntN(3)) }
func (g *gen) mask2() uint32    { return 1 + uint32(g.IntN(3)) }

// registerAction writes what these look at.
func (g *gen) registerAction() Action {
	switch {
	case g.chance(40):
		return SetTag{Data: g.register(), Mask: pick[uint32](g, 1, 3, 0xffffffff), Index: uint8(g.IntN(2))}
	case g.chance(50):
		return SetMeta{Data: g.register(), Mask: pick[uint32](g, 2, 3, 0xffff, 0xffff, 0xffffffff)}
	default:
		return SetMark{ID: g.register()}
	}
}

// transferActions are what the product uses and more, ended by a fate.
func (g *gen) transferActions(r Rule, source Port, ips int) []Action {
	var actions []Action
	kind := g.IntN(100)
	if kind < 55 && g.chance(40) {
		actions = append(actions, g.sample(kind < 35))
	}
	switch {
	case kind < 35 && g.chance(30):
		return append(actions, g.registerAction(), Jump{Group: r.Group + 1})
	case kind < 35:
		return append(actions, Jump{Group: r.Group + uint32(g.IntN(2)) + 1})
	case kind < 45:
		return append(actions, Drop{})
	case kind < 55:
		return append(actions, g.to(g.switchPort()))
	case kind < 75:
		return append(g.rewrite(r.Pattern, ips), g.to(g.switchPort()))
	case kind < 80:
		return append(g.rewrite(r.Pattern, ips), Jump{Group: r.Group + 1})
	case kind < 90 && !source.Uplink:
		actions = g.rewrite(r.Pattern, ips)
		if g.chance(50) {
			actions = append(actions, RawDecap{Data: make([]byte, ethLen)}, RawEncap{Data: g.header(g.chance(30), 0)})
		} else {
			actions = append(actions, RawEncap{Data: g.header(true, g.IntN(20))})
		}
		return append(actions, g.to(g.uplink()))
	case source.Uplink && isTunnel(r.Pattern):
		return g.decapsulate(r)
	default:
		return append(actions, g.to(g.switchPort()))
	}
}

// isTunnel says whether the pattern may be a tunnel's: it ends with IPv6.
func isTunnel(items []Item) bool {
	_, ok := items[len(items)-1].(IPv6)
	return ok
}

// decapsulate is the first stage of what comes from a tunnel, or all of it.
func (g *gen) decapsulate(r Rule) []Action {
	actions := []Action{RawDecap{Data: make([]byte, 54)}, RawEncap{Data: g.link(pick[uint16](g, typeIPv4, typeIPv6))}}
	if g.chance(50) {
		actions = append(actions, SetTag{Data: g.register(), Mask: 3, Index: uint8(g.IntN(2))})
	}
	if g.chance(20) {
		actions = append(actions, pick[Action](g, SetMACSrc{MAC: g.mac()}, DecTTL{}))
	}
	if g.chance(20) {
		return append(actions, g.to(g.switchPort()))
	}
	return append(actions, Jump{Group: r.Group + uint32(g.IntN(2)) + 1})
}

func (g *gen) to(p Port) Action {
	return pick[Action](g, ToRepresentedPort{Port: p.ID}, ToPortID{Port: p.ID})
}

func (g *gen) rewrite(items []Item, ips int) []Action {
	all := append([]Action{SetMACSrc{MAC: g.mac()}, SetMACDst{MAC: g.mac()}}, g.more(items, ips)...)
	if ips > 0 {
		all = append(all, DecTTL{})
	}
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:g.IntN(len(all))+1]
}

// more is what the NIC may be able to rewrite in packets of such a pattern.
func (g *gen) more(items []Item, ips int) (actions []Action) {
	for _, it := range items {
		if _, ok := it.(VLAN); ok {
			actions = append(actions, PopVLAN{})
		}
	}
	actions = append(actions, PushVLAN{EtherType: pick[uint16](g, typeVLAN, typeQinQ)},
		SetTag{Data: g.register(), Mask: 3, Index: uint8(g.IntN(2))})
	if ips != 1 {
		return actions
	}
	switch items[len(items)-1].(type) {
	case TCP, UDP:
	default:
		return actions // not always all there, so that a checksum may be beyond reach
	}
	actions = append(actions, SetTPSrc{Port: g.l4Port()}, SetTPDst{Port: g.l4Port()})
	if _, ok := items[len(items)-2].(IPv4); ok {
		return append(actions, SetIPv4Src{Addr: g.v4()}, SetIPv4Dst{Addr: g.v4()})
	}
	return append(actions, SetIPv6Src{Addr: g.v6()}, SetIPv6Dst{Addr: g.v6()})
}

func (g *gen) sample(mustEncap bool) Sample {
	if g.chance(5) {
		return Sample{Ratio: uint32(2 + g.IntN(100))}
	}
	if !mustEncap && g.chance(30) {
		return Sample{Ratio: 1, Actions: []Action{g.to(g.switchPort())}}
	}
	return Sample{Ratio: 1, Actions: []Action{RawEncap{Data: g.header(true, pick(g, 0, 0, 8, 70))}, g.to(g.uplink())}}
}

func (g *gen) link(etherType uint16) []byte {
	dst, src := g.mac(), g.mac()
	return binary.BigEndian.AppendUint16(slices.Concat(dst[:], src[:]), etherType)
}

// header is Ethernet and IP, with UDP and more bytes behind if asked for.
func (g *gen) header(withUDP bool, more int) []byte {
	proto := uint8(protoIPIP)
	if withUDP {
		proto = protoUDP
	}
	h := g.link(typeIPv6)
	if withUDP && g.chance(25) {
		h = g.link(typeIPv4)
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, proto
		copy(ip[12:], g.v4().AsSlice())
		copy(ip[16:], g.v4().AsSlice())
		h = append(h, ip...)
	} else {
		ip := make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		copy(ip[8:], g.v6().AsSlice())
		copy(ip[24:], g.v6().AsSlice())
		h = append(h, ip...)
	}
	if !withUDP {
		return h
	}
	u := make([]byte, 8+more)
	put16(u, 0, g.l4Port())
	put16(u, 2, g.l4Port())
	return append(h, u...)
}

// spoil makes a rule one that the documents say is refused.
func (g *gen) spoil(r *Rule) {
	spoilers := []func(){
		func() { r.Egress = true },
		func() { r.Ingress, r.Transfer = !r.Ingress, !r.Transfer },
		func() { r.Actions = nil },
		func() { r.Actions = append(r.Actions, Drop{}) },
		func() { r.Actions = append(r.Actions, Jump{Group: r.Group}) },
		func() { r.Actions[len(r.Actions)-1] = Jump{Group: r.Group} },
		func() { r.Actions[len(r.Actions)-1] = Queue{Index: 7} },
		func() { r.Actions[len(r.Actions)-1] = ToRepresentedPort{Port: g.ports[1].ID} },
		func() { r.Actions[len(r.Actions)-1] = ToPortID{Port: 31} },
		func() { r.Pattern = slices.Insert(r.Pattern, 0, Item(RepresentedPort{Port: g.ports[1].ID})) },
		func() { r.Pattern = append(r.Pattern, Eth{}) },
		func() { r.Pattern = append(r.Pattern, TCP{}, UDP{}) },
		func() { r.Pattern = []Item{Eth{}, TCP{}} },
		func() { r.Pattern = []Item{Eth{}, VLAN{}, VLAN{}} },
		func() { r.Pattern, r.Actions = []Item{Eth{}}, slices.Insert(r.Actions, 0, Action(DecTTL{})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(Count{}), Action(Count{})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(RawEncap{Data: make([]byte, maxHeader+1)})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(g.badSample())) },
		func() { r.Actions = append(r.Actions, g.sample(true)) },
		func() { r.Pattern = append([]Item{Meta{}}, r.Pattern...) },
		func() { r.Pattern = append([]Item{Mark{ID: Is[uint32](1)}}, r.Pattern...) },
		func() {
			r.Pattern = append([]Item{Tag{Data: Is[uint32](1), Index: 2}, Tag{Data: Is[uint32](2), Index: 2}}, r.Pattern...)
		},
		func() { r.Pattern = []Item{Eth{}, IPv4{}, UDP{DstPort: Is[uint16](8472)}, VXLAN{}} },
		func() {
			r.Pattern = []Item{Eth{}, IPv6{Proto: Is[uint8](pick[uint8](g, 0, 4, 43, 44, 50, 51, 59, 60))}}
		},
		func() { r.Pattern = []Item{Eth{}, IPv6{Proto: Masked(uint8(g.Uint32()), uint8(g.Uint32()))}} },
		func() {
			r.Pattern = []Item{Eth{}, IPv6{Proto: Is[uint8](41)}, pick[Item](g, IPv6{}, IPv4{}, TCP{}, ICMP6{}, VLAN{})}
		},
		func() { r.Pattern = []Item{Eth{}, IPv6{}, pick[Item](g, IPv6{}, IPv4{})} },
		func() { r.Pattern = []Item{Eth{}, IPv4{Proto: Is(pick[uint8](g, 4, 41))}} },
		func() {
			r.Actions = []Action{RawDecap{Data: make([]byte, 54)}, RawEncap{Data: g.link(typeIPv4)}, r.Actions[len(r.Actions)-1]}
		},
		func() { r.Actions = append([]Action{g.to(g.switchPort())}, SetMACSrc{MAC: g.mac()}, g.sample(true)) },
		func() {
			r.Actions = []Action{PushVLAN{EtherType: typeVLAN}, SetMACSrc{MAC: g.mac()}, Jump{Group: r.Group + 1}}
		},
		func() {
			r.Actions = []Action{g.sample(true), pick[Action](g, Age{Timeout: 1000}, Drop{}, SetMACDst{MAC: g.mac()}),
				Jump{Group: r.Group + 1}}
		},
		func() {
			r.Actions = []Action{g.to(g.uplink()), g.sample(false),
				pick[Action](g, Count{}, Age{Timeout: 1000}, SetMACDst{MAC: g.mac()})}
		},
		func() { r.Pattern = append(r.Pattern, PortID{Port: g.ports[0].ID}, PortID{Port: g.ports[0].ID}) },
		func() { r.Pattern = []Item{Eth{}, IPv4{}, UDP{}, VXLAN{VNI: Is[uint32](0)}} },
		func() { r.Pattern = []Item{Eth{}, IPv4{}, TCP{}, VXLAN{}} },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(SetMark{ID: maxMark + 1})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(SetTag{Data: 1})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(PushVLAN{EtherType: 0x9100})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, Action(PopVLAN{}), Action(PopVLAN{})) },
		func() { r.Actions = slices.Insert(r.Actions, 0, g.registerAction(), Action(Drop{})) },
	}
	spoilers[g.IntN(len(spoilers))]()
}

func (g *gen) badSample() Sample {
	good := g.header(true, 0)
	vf := g.ports[2].ID
	return pick(g,
		Sample{Ratio: 0, Actions: nil},
		Sample{Ratio: 1, Actions: nil},
		Sample{Ratio: 2, Actions: []Action{Count{}}},
		Sample{Ratio: 1, Actions: []Action{RawEncap{Data: good}}},
		Sample{Ratio: 1, Actions: []Action{RawEncap{Data: good}, ToRepresentedPort{Port: vf}}},
		Sample{Ratio: 1, Actions: []Action{RawEncap{Data: good}, Count{}, ToRepresentedPort{Port: g.uplink().ID}}},
		Sample{Ratio: 1, Actions: []Action{Drop{}}},
		Sample{Ratio: 1, Actions: []Action{Jump{Group: 5}}},
		Sample{Ratio: 1, Actions: []Action{Queue{Index: 0}}},
		Sample{Ratio: 1, Actions: []Action{ToRepresentedPort{Port: g.ports[1].ID}}},
	)
}
