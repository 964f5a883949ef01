// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"math/bits"
	"slices"
	"sort"

	"dpservice/wire"
)

var comparisons = map[string]func(a, b uint32) bool{
	"=":  func(a, b uint32) bool { return a == b },
	"!=": func(a, b uint32) bool { return a != b },
	"<":  func(a, b uint32) bool { return a < b },
	">":  func(a, b uint32) bool { return a > b },
	"<=": func(a, b uint32) bool { return a <= b },
	">=": func(a, b uint32) bool { return a >= b },
}

// mirrored maps a comparison to the one with its sides exchanged.
var mirrored = map[string]string{"=": "=", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}

// mayBeRelation looks ahead. A relation begins with a number or the bytes of a header; brackets or a sign may come
// first.
func (p *parser) mayBeRelation() bool {
	at := p.at
	for at < len(p.tokens) && (p.tokens[at].text == "(" || p.tokens[at].text == "-") {
		at++
	}
	if at >= len(p.tokens) || !p.tokens[at].word || p.tokens[at].name {
		return false
	}
	_, isConstant := constants[p.tokens[at].text]
	_, notNumber := number(p.tokens[at].text)
	return isConstant || notNumber == nil || p.tokens[at].text == "len" || at+1 < len(p.tokens) &&
		p.tokens[at+1].text == "["
}

// relation parses a relation. If found is false, the tokens are not a relation, but may be something else.
func (p *parser) relation() (prim primitive, found bool, err error) {
	start := p.at
	left, err := p.arithmetic(0)
	t, ok := p.peek()
	compare, isComparison := comparisons[t.text]
	switch {
	case err != nil:
		return nil, p.tokens[start].text != "(" || isUnsupported(err), err
	case !ok || t.word || !isComparison:
		return nil, left.load != nil && p.tokens[start].text != "(", p.wrong("want a comparison, such as = or !=")
	}
	p.at++
	right, err := p.arithmetic(0)
	if err != nil {
		return nil, true, err
	}
	p.haveLast = false
	at := p.here(start)
	operator := t.text
	if left.load == nil {
		left, right, operator = right, left, mirrored[operator]
		compare = comparisons[operator]
	}
	if right.load != nil && *left.load != *right.load {
		return nil, true, unsupported(at, "rules compare a header's bytes with a number, not with other bytes")
	}
	accepts := func(v uint32) bool { return compare(left.value(v), right.value(v)) }
	switch {
	case left.load == nil:
		return always(accepts(0)), true, nil
	case left.plain && right.load == nil:
		return comparison{at, *left.load, left.mask, operator, right.number()}, true, nil
	}
	return calculation{at, *left.load, accepts}, true, nil
}

// always is the result of a comparison of two numbers.
type always bool

func (a always) list(*compiler) (list, error) { return list{{sample: bool(a)}}, nil }

// field says where a field is in a header, in bytes.
type field struct {
	wire.Field
	offset, size uint32
}

// header is a header that rules can match.
type header struct {
	version int  // version of IP; 0 means the Ethernet header
	proto   byte // 0 means the IP header itself
	fields  []field
}

// readable are the headers that rules can match. As in libpcap, TCP, UDP and ICMP are looked for after an IPv4 header,
// and ICMPv6 directly after the IPv6 header.
var readable = map[string]header{
	"ether": {0, 0, []field{{wire.FieldEthDst, 0, 6}, {wire.FieldEthSrc, 6, 6}}},
	"ip": {4, 0, []field{{wire.FieldTOS, 1, 1}, {wire.FieldTTL, 8, 1}, {wire.FieldProto, 9, 1}, {wire.FieldSrc, 12, 4},
		{wire.FieldDst, 16, 4}}},
	"ip6": {6, 0, []field{{wire.FieldTTL, 7, 1}, {wire.FieldSrc, 8, 16}, {wire.FieldDst, 24, 16}}},
	"tcp": {4, wire.ProtoTCP, []field{{wire.FieldSrcPort, 0, 2}, {wire.FieldDstPort, 2, 2},
		{wire.FieldTCPFlags, 13, 1}}},
	"udp":   {4, wire.ProtoUDP, []field{{wire.FieldSrcPort, 0, 2}, {wire.FieldDstPort, 2, 2}}},
	"icmp":  {4, wire.ProtoICMP, []field{{wire.FieldICMPType, 0, 1}, {wire.FieldICMPCode, 1, 1}}},
	"icmp6": {6, wire.ProtoICMPv6, []field{{wire.FieldICMPType, 0, 1}, {wire.FieldICMPCode, 1, 1}}},
}

const (
	noBytes     = "rules cannot look at these bytes of the header"
	etherTypeAt = 12
	fragmentAt  = 6
)

// base returns the pattern of the packets that have these bytes.
func (l load) base(c *compiler, at location) (pattern, error) {
	h := readable[l.proto]
	if h.version == 0 {
		if c.link == IP {
			return pattern{}, unsupported(at, noFrame)
		}
		return pattern{}, nil
	}
	base := c.ip(at, h.version)
	if h.proto != 0 {
		base = base.with(wire.FieldProto, h.proto).withBit(wire.FieldL4, 1)
	}
	return base, nil
}

func (l load) width() int { return 8 * int(l.size) }

// with returns base with an additional condition on some bits of these bytes. It returns false if rules cannot match
// them.
func (l load) with(base pattern, value, mask uint32) (p pattern, ok bool) {
	values, masks := bytesOf(value, l.width()), bytesOf(mask, l.width())
	for i := range masks {
		if masks[i] == 0 {
			continue
		}
		n := l.offset + uint32(i)
		at := slices.IndexFunc(readable[l.proto].fields, func(f field) bool { return n >= f.offset && n < f.offset+f.size })
		if at < 0 {
			return base, false
		}
		f := readable[l.proto].fields[at]
		base = base.maskedAt(f.Field, int(n-f.offset), values[i:i+1], masks[i:i+1])
	}
	return base, true
}

func (l load) isFragment() bool  { return l == load{"ip", fragmentAt, 2} }
func (l load) isEtherType() bool { return l == load{"ether", etherTypeAt, 2} }

// comparison compares some bits of a header with a number: tcp[tcpflags] & tcp-syn != 0.
type comparison struct {
	location
	load
	mask     uint32
	operator string
	value    uint32
}

func (r comparison) list(c *compiler) (list, error) {
	base, err := r.base(c, r.location)
	if err != nil {
		return nil, err
	}
	_, ok := r.with(base, 0, r.mask)
	if !ok && (r.isFragment() || r.isEtherType()) {
		compare := comparisons[r.operator]
		return calculation{r.location, r.load, func(v uint32) bool { return compare(v&r.mask, r.value) }}.list(c)
	}
	if !ok {
		return nil, unsupported(r.location, r.whyNot())
	}
	possible := r.value&^r.mask == 0
	switch r.operator {
	case "=":
		if !possible {
			return list{{}}, nil
		}
		equal, _ := r.with(base, r.value, r.mask)
		return anyOf(equal), nil
	case "!=":
		if !possible {
			return anyOf(base), nil
		}
		equal, _ := r.with(base, r.value, r.mask)
		return list{{equal, false}, {base, true}, {}}, nil
	}
	lo, hi := r.bounds()
	if lo >= hi {
		return list{{}}, nil
	}
	width := bits.OnesCount32(r.mask)
	return c.ranges(uint32(lo), uint32(hi-1), width, func(value, mask uint32) pattern {
		p, _ := r.with(base, spread(value, r.mask), spread(mask, r.mask))
		return p
	}), nil
}

func (l load) whyNot() string {
	switch {
	case l.proto == "ip6" && l.offset == 6:
		return "rules see the protocol behind IPv6 extension headers: write ip6 proto"
	case l.proto == "ip6" && l.offset >= wire.IPv6Len:
		return "rules cannot look behind the header so: write icmp6[...]"
	}
	return noBytes
}

// bounds returns the first number that meets the comparison and the one after the last. The numbers consist of the
// masked bits only, without the gaps between them.
func (r comparison) bounds() (lo, hi uint64) {
	all := uint64(1) << bits.OnesCount32(r.mask)
	first := func(fits func(v uint32) bool) uint64 {
		return uint64(sort.Search(int(all), func(n int) bool { return fits(spread(uint32(n), r.mask)) }))
	}
	switch r.operator {
	case "<":
		return 0, first(func(v uint32) bool { return v >= r.value })
	case "<=":
		return 0, first(func(v uint32) bool { return v > r.value })
	case ">":
		return first(func(v uint32) bool { return v > r.value }), all
	default:
		return first(func(v uint32) bool { return v >= r.value }), all
	}
}

// spread moves the low bits of v, in order, to the bits of the mask.
func spread(v, mask uint32) uint32 {
	var out uint32
	for ; mask != 0; mask &= mask - 1 {
		if v&1 != 0 {
			out |= mask & -mask
		}
		v >>= 1
	}
	return out
}

// calculation is an arbitrary condition on the bytes of a header. The compiler tries each of their values.
type calculation struct {
	location
	load
	accepts func(v uint32) bool
}

func (r calculation) list(c *compiler) (list, error) {
	base, err := r.base(c, r.location)
	if err != nil {
		return nil, err
	}
	if r.size > 2 {
		return nil, unsupported(r.location, "of 4 bytes rules can do no more than look at some bits (&)")
	}
	accepted := make([]bool, 1<<r.width())
	for v := range accepted {
		accepted[v] = r.accepts(uint32(v))
	}
	switch {
	case r.isFragment():
		return r.fragment(base, accepted)
	case r.isEtherType():
		return r.etherType(accepted)
	}
	if _, ok := r.with(base, 0, relevant(accepted)); !ok {
		return nil, unsupported(r.location, r.whyNot())
	}
	l, err := r.cubes(base, accepted)
	if err != nil {
		return nil, err
	}
	return append(l, decision{}), nil
}

// relevant returns the bits that the result depends on.
func relevant(accepted []bool) uint32 {
	var mask uint32
	for bit := 1; bit < len(accepted); bit <<= 1 {
		for v := range accepted {
			if accepted[v] != accepted[v^bit] {
				mask |= uint32(bit)
				break
			}
		}
	}
	return mask
}

// cubes returns a list that samples the accepted values. It tests only bits that the result depends on.
func (r calculation) cubes(base pattern, accepted []bool) (list, error) {
	var l list
	all := relevant(accepted)
	var split func(value, mask uint32) error
	split = func(value, mask uint32) error {
		rest := all &^ mask
		some, every := false, true
		for low := uint32(0); ; {
			in := accepted[value|low]
			some, every = some || in, every && in
			if low = (low - rest) & rest; low == 0 { // the next number that has only bits of rest
				break
			}
		}
		if !some {
			return nil
		}
		if every {
			if len(l) >= maxDecisions {
				return &Error{Kind: TooMany, Part: r.text, Rules: len(l) + 1, Why: "it takes too many rules"}
			}
			p, _ := r.with(base, value, mask)
			l = append(l, decision{p, true})
			return nil
		}
		bit := uint32(1) << (bits.Len32(rest) - 1)
		if err := split(value, mask|bit); err != nil {
			return err
		}
		return split(value|bit, mask|bit)
	}
	err := split(0, 0)
	return l, err
}

// fragment compiles a condition on the fragment field of IPv4. Rules can only match whether a packet is a fragment.
func (r calculation) fragment(base pattern, accepted []bool) (list, error) {
	for v, in := range accepted {
		if whole := v&wire.IPv4FragmentMask == 0; in != accepted[0] && whole || in != accepted[1] && !whole {
			return nil, unsupported(r.location,
				"of this field rules know no more than ip[6:2] & 0x3fff = 0, or != 0: whether it is a fragment")
		}
	}
	return list{{base.withBit(wire.FieldFragment, 0), accepted[0]}, {base.withBit(wire.FieldFragment, 1), accepted[1]},
		{}}, nil
}

// etherType compiles a condition on the type in the Ethernet header, which is the type of the tag in a tagged frame.
func (r calculation) etherType(accepted []bool) (list, error) {
	const most = 16
	tagged := accepted[wire.EtherTypeVLAN]
	if tagged != accepted[wire.EtherTypeQinQ] {
		return nil, unsupported(r.location, "rules cannot tell the types of tags: write vlan")
	}
	count := 0
	for _, in := range accepted {
		if in {
			count++
		}
	}
	mostly := count > len(accepted)/2
	l := list{{pattern{}.withBit(wire.FieldTagged, 1), tagged}}
	for v, in := range accepted {
		if in == mostly || v == wire.EtherTypeVLAN || v == wire.EtherTypeQinQ {
			continue
		}
		if len(l) > most {
			return nil, unsupported(r.location, "rules compare a frame's type with some numbers only")
		}
		l = append(l, decision{pattern{}.with16(wire.FieldEtherType, uint16(v)).withBit(wire.FieldTagged, 0), in})
	}
	return append(l, decision{sample: mostly}), nil
}
