// SPDX-License-Identifier: Apache-2.0

package filter

import "slices"

// constants are numbers with a name.
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20,
	"tcp-ece": 0x40, "tcp-cwr": 0x80,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationrunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
}

var comparisons = []string{"=", "!=", "<", ">", "<=", ">="}

// operators are those of numbers, those that bind least first.
var operators = [][]string{{"|", "&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/"}}

// operand is a number, or the bytes of a header, perhaps under a mask.
type operand struct {
	header       bool
	proto        string
	offset, size uint32
	masked       bool
	mask         uint32
	number       uint32
}

// isRelation looks ahead: a relation begins with a header's bytes, perhaps in brackets.
func (p *parser) isRelation() bool {
	at := p.at
	for at < len(p.tokens) && p.tokens[at].text == "(" {
		at++
	}
	return at+1 < len(p.tokens) && p.tokens[at].word && p.tokens[at+1].text == "["
}

func (p *parser) relation() (primitive, error) {
	start := p.at
	left, err := p.arithmetic(0)
	if err != nil {
		return nil, err
	}
	t, ok := p.peek()
	if !ok || !slices.Contains(comparisons, t.text) {
		return nil, p.wrong("want a comparison, such as = or !=")
	}
	p.at++
	right, err := p.arithmetic(0)
	if err != nil {
		return nil, err
	}
	p.have = false
	at := p.here(start)
	if !left.header || right.header {
		return nil, unsupported(at, "rules compare a header's bytes with a number: write these first")
	}
	return relation{at, left, t.text, right.number}, nil
}

func (p *parser) arithmetic(level int) (operand, error) {
	if level == len(operators) {
		return p.operand()
	}
	start := p.at
	left, err := p.arithmetic(level + 1)
	for err == nil {
		t, ok := p.peek()
		if !ok || !slices.Contains(operators[level], t.text) {
			break
		}
		p.at++
		var right operand
		if right, err = p.arithmetic(level + 1); err == nil {
			left, err = combine(left, t.text, right, p.here(start))
		}
	}
	return left, err
}

func combine(a operand, operator string, b operand, at place) (operand, error) {
	if a.header || b.header {
		if b.header {
			a, b = b, a
		}
		if b.header || operator != "&" {
			return a, unsupported(at, "rules can do nothing with a header's bytes but look at some of their bits (&)")
		}
		if a.masked {
			b.number &= a.mask
		}
		a.masked, a.mask = true, b.number
		return a, nil
	}
	switch operator {
	case "|":
		a.number |= b.number
	case "&":
		a.number &= b.number
	case "<<":
		a.number <<= b.number
	case ">>":
		a.number >>= b.number
	case "+":
		a.number += b.number
	case "-":
		a.number -= b.number
	case "*":
		a.number *= b.number
	case "/":
		if b.number == 0 {
			return a, syntax(at, "division by zero")
		}
		a.number /= b.number
	}
	return a, nil
}

func (p *parser) operand() (operand, error) {
	if p.depth++; p.depth > maxDepth {
		return operand{}, p.wrong("more than %d brackets and negations within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.take("(") {
		o, err := p.arithmetic(0)
		if err == nil && !p.take(")") {
			err = p.wrong("want a closing bracket")
		}
		return o, err
	}
	t, ok := p.peek()
	if !ok || !t.word {
		return operand{}, p.wrong("want a number or a header's bytes, such as tcp[tcpflags]")
	}
	p.at++
	if p.take("[") {
		return p.header(t.text)
	}
	if n, ok := constants[t.text]; ok {
		return operand{number: n}, nil
	}
	n, err := number(t.text)
	if err != nil {
		p.at--
		return operand{}, p.wrong("%v", err)
	}
	return operand{number: n}, nil
}

// header reads what stands in square brackets.
func (p *parser) header(proto string) (operand, error) {
	offset, err := p.arithmetic(0)
	if err != nil {
		return operand{}, err
	}
	size := operand{number: 1}
	if p.take(":") {
		if size, err = p.arithmetic(0); err != nil {
			return operand{}, err
		}
	}
	if offset.header || size.header || size.number != 1 && size.number != 2 && size.number != 4 {
		return operand{}, p.wrong("want an offset, and perhaps a size of 1, 2 or 4 bytes behind a colon")
	}
	if !p.take("]") {
		return operand{}, p.wrong("want a closing square bracket")
	}
	return operand{header: true, proto: proto, offset: offset.number, size: size.number}, nil
}

// relation compares some bytes of a header with a number: tcp[tcpflags] & tcp-syn != 0.
type relation struct {
	place
	operand
	operator string
	value    uint32
}

// field is where a field lies in a header.
type field struct {
	Field
	offset, size uint32
}

// readable are the headers that rules can look into, as libpcap finds them: TCP, UDP and ICMP behind IPv4, ICMPv6
// right behind IPv6.
var readable = map[string]struct {
	version int
	proto   byte // 0: the IP header itself
	fields  []field
}{
	"ip":    {4, 0, []field{{TOS, 1, 1}, {TTL, 8, 1}, {Proto, 9, 1}, {Src, 12, 4}, {Dst, 16, 4}}},
	"ip6":   {6, 0, []field{{TTL, 7, 1}, {Src, 8, 16}, {Dst, 24, 16}}},
	"tcp":   {4, protoTCP, []field{{SrcPort, 0, 2}, {DstPort, 2, 2}, {TCPFlags, 13, 1}}},
	"udp":   {4, protoUDP, []field{{SrcPort, 0, 2}, {DstPort, 2, 2}}},
	"icmp":  {4, protoICMP, []field{{ICMPType, 0, 1}, {ICMPCode, 1, 1}}},
	"icmp6": {6, protoICMP6, []field{{ICMPType, 0, 1}, {ICMPCode, 1, 1}}},
}

func (r relation) list(c *compiler) (list, error) {
	h, ok := readable[r.proto]
	if !ok {
		return nil, unsupported(r.place, "rules cannot look at the bytes of "+r.proto)
	}
	base := c.ip(r.place, h.version)
	if h.proto != 0 {
		base = base.with(Proto, h.proto).withBit(L4, 1)
	}
	if r.proto == "ip" && r.offset == 6 && r.size == 2 {
		return r.fragment(base)
	}
	for _, f := range h.fields {
		if r.offset >= f.offset && r.offset+r.size <= f.offset+f.size {
			return r.compare(c, base, f)
		}
	}
	return nil, unsupported(r.place, "rules cannot look at these bytes of the header")
}

// fragment is whether an IPv4 packet is one: that is all a rule knows of the field.
func (r relation) fragment(base pattern) (list, error) {
	if !r.masked || r.mask != 0x3fff || r.value != 0 || r.operator != "=" && r.operator != "!=" {
		return nil, unsupported(r.place, "of this field rules know no more than ip[6:2] & 0x3fff = 0, or != 0: whether it is a fragment")
	}
	if r.operator == "=" {
		return anyOf(base.withBit(Fragment, 0)), nil
	}
	return anyOf(base.withBit(Fragment, 1)), nil
}

func (r relation) compare(c *compiler, base pattern, f field) (list, error) {
	width := 8 * int(r.size)
	all := ^uint32(0) >> (32 - width)
	mask := all
	if r.masked {
		mask &= r.mask
	}
	at := int(r.offset - f.offset)
	switch {
	case r.operator == "=" && r.value&^mask != 0:
		return list{{}}, nil
	case r.operator == "!=" && r.value&^mask != 0:
		return anyOf(base), nil
	case r.operator == "=":
		return anyOf(base.maskedAt(f.Field, at, bytesOf(r.value, width), bytesOf(mask, width))), nil
	case r.operator == "!=":
		equal := base.maskedAt(f.Field, at, bytesOf(r.value, width), bytesOf(mask, width))
		return list{{equal, false}, {base, true}, {}}, nil
	case mask != all:
		return nil, unsupported(r.place, "rules compare some bits of a number only with = and !=")
	}
	lo, hi, ok := r.bounds(all)
	if !ok {
		return list{{}}, nil
	}
	return c.inRange([]pattern{base}, f.Field, at, lo, hi, width), nil
}

// bounds is the range of the numbers up to highest that fit; not ok: none.
func (r relation) bounds(highest uint32) (lo, hi uint32, ok bool) {
	switch v := r.value; r.operator {
	case "<":
		return 0, min(v-1, highest), v > 0
	case "<=":
		return 0, min(v, highest), true
	case ">":
		return v + 1, highest, v < highest
	default:
		return v, highest, v <= highest
	}
}
