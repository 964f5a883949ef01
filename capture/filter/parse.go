// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// node is an expression.
type node struct {
	op          op
	left, right *node
	primitive   primitive
}

type op int

const (
	opPrimitive op = iota
	opNot
	opAnd
	opOr
)

// primitive is a condition that is not made of others.
type primitive interface {
	list(c *compiler) (list, error)
}

// qualifiers are what an identifier stands for.
type qualifiers struct {
	proto string // ether, ip, ip6, arp, rarp, tcp, udp, sctp, icmp, ...; empty: whichever fits
	dir   string // src, dst, src or dst, src and dst; empty: src or dst
	kind  string // host, net, port, portrange, proto; empty: host
}

var (
	protocols = []string{"ether", "link", "fddi", "tr", "wlan", "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp",
		"icmp6",
		"igmp", "igrp", "pim", "vrrp", "carp", "esp", "ah", "decnet", "lat", "moprc", "mopdl", "sca", "pppoed"}
	kinds      = []string{"host", "net", "port", "portrange", "proto"}
	casts      = []string{"broadcast", "multicast"}
	directions = []string{"src", "dst"}
)

type parser struct {
	text   string
	link   Link
	tokens []token
	at     int
	depth  int
	tags   int        // vlan so far: what follows is behind so many tags
	last   qualifiers // those of the last identifier, for one without any
	have   bool       // there is a last one
	within string     // a protocol that libpcap looks into for what follows
}

// parse returns the filter's expression, nil if it is empty, and whether there is a vlan in it.
func parse(text string, link Link) (*node, bool, error) {
	tokens, err := lex(text)
	if err != nil || len(tokens) == 0 {
		return nil, false, err
	}
	p := &parser{text: text, link: link, tokens: tokens}
	n, err := p.expression()
	if err == nil && p.at < len(tokens) {
		err = p.wrong("want and, or, or the end")
	}
	return n, p.tags > 0, err
}

// expression is terms with and and or between them, which are of equal precedence.
func (p *parser) expression() (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.wrong("more than %d brackets and negations within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	left, err := p.term()
	for err == nil {
		n := &node{left: left}
		switch {
		case p.take("and"):
			n.op = opAnd
		case p.take("or"):
			n.op = opOr
		default:
			return left, nil
		}
		n.right, err = p.term()
		left = n
	}
	return nil, err
}

func (p *parser) term() (*node, error) {
	if !p.take("not") {
		return p.factor()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, p.wrong("more than %d brackets and negations within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	n, err := p.term()
	return &node{op: opNot, left: n}, err
}

func (p *parser) factor() (*node, error) {
	start := p.at
	if p.mayBeRelation() {
		prim, found, err := p.relation()
		if found && p.within != "" {
			return nil, unsupported(p.here(start), "libpcap looks for it within "+p.within+", where rules cannot")
		}
		if found {
			return &node{primitive: prim}, err
		}
		p.at = start // the number is an identifier, or the bracket is not of a number
	}
	if p.take("(") {
		n, err := p.expression()
		if err == nil && !p.take(")") {
			err = p.wrong("want a closing bracket")
		}
		return n, err
	}
	return p.headed()
}

// headed is a primitive that begins with a word, or an identifier that means what the one before it did.
func (p *parser) headed() (*node, error) {
	t, ok := p.peek()
	if !ok || !t.word {
		return nil, p.wrong("want a primitive, such as ip or host 10.0.0.1")
	}
	if p.within != "" {
		return nil, &Error{Kind: Unsupported, Part: t.text,
			Why: "libpcap looks for it within " + p.within + ", where rules cannot"}
	}
	if err := p.refuseBeyond(p.at); err != nil {
		return nil, err
	}
	if etherType, ok := wrapping[t.text]; ok && !t.name {
		return p.wrapper(t.text, etherType)
	}
	start := p.at
	if p.take("vlan") {
		return p.vlan(start)
	}
	q, found := p.qualifiers()
	if err := p.refuseBeyond(start); err != nil && found {
		return nil, err
	}
	if next, ok := p.peek(); ok && !next.name && next.word && slices.Contains(casts, next.text) && q.dir == "" &&
		q.kind == "" {
		p.at++
		p.have = false
		return &node{primitive: cast{p.here(start), q.proto, next.text}}, nil
	}
	switch {
	case !found && !p.have:
		return nil, p.wrong("want to know what it is: host, net, port, ...")
	case !found:
		q = p.last
	case q.dir == "" && q.kind == "": // a protocol alone
		p.have = false
		return &node{primitive: protocol{p.here(start), q.proto}}, nil
	}
	p.last, p.have = q, true
	return p.identifiers(q, start)
}

// refuseBeyond is an error if the next word is one that no rule can express.
func (p *parser) refuseBeyond(start int) error {
	t, ok := p.peek()
	why, found := beyond[t.text]
	if !ok || !found || t.name {
		return nil
	}
	return &Error{Kind: Unsupported, Part: p.text[p.tokens[start].from:t.to], Why: why}
}

// wrapper is a protocol that wraps others.
func (p *parser) wrapper(name string, etherType uint16) (*node, error) {
	start := p.at
	p.at++
	at := p.here(start)
	if t, ok := p.peek(); ok && t.word && isDigit(t.text[0]) {
		p.at++
		return nil, unsupported(p.here(start), "rules cannot look at the header of "+name)
	}
	p.within, p.have = name, false
	return &node{primitive: typed{at, etherType}}, nil
}

// qualifiers reads what stands before an identifier.
func (p *parser) qualifiers() (q qualifiers, found bool) {
	start := p.at
	if t, ok := p.peek(); ok && !t.name && slices.Contains(protocols, t.text) {
		q.proto = t.text
		if links[t.text] {
			q.proto = "ether"
		}
		p.at++
	}
	if t, ok := p.peek(); ok && !t.name && slices.Contains(directions, t.text) {
		q.dir = t.text
		p.at++
		p.otherDirection(&q)
	}
	if t, ok := p.peek(); ok && !t.name && slices.Contains(kinds, t.text) {
		q.kind = t.text
		p.at++
	}
	return q, p.at > start
}

// otherDirection reads what makes src and dst one direction: "src or dst".
func (p *parser) otherDirection(q *qualifiers) {
	if p.at+1 >= len(p.tokens) {
		return
	}
	between, other := p.tokens[p.at].text, p.tokens[p.at+1].text
	if (between == "or" || between == "and") && slices.Contains(directions, other) && other != q.dir {
		q.dir = "src " + between + " dst"
		p.at += 2
	}
}

// identifiers reads an identifier, or several in brackets.
func (p *parser) identifiers(q qualifiers, start int) (*node, error) {
	if p.take("not") {
		n, err := p.identifiers(q, start)
		return &node{op: opNot, left: n}, err
	}
	if !p.take("(") {
		return p.identifier(q, start)
	}
	n, err := p.expression()
	if err == nil && !p.take(")") {
		err = p.wrong("want a closing bracket")
	}
	return n, err
}

func (p *parser) identifier(q qualifiers, start int) (*node, error) {
	t, ok := p.peek()
	if !ok || !t.word {
		return nil, p.wrong("want the %s", kindName(q))
	}
	if q.kind == "proto" && !t.name && isKeyword(t.text) {
		return nil, p.wrong(`this is a word of the language: write \%s`, t.text)
	}
	p.at++
	value := t.text
	for _, separator := range []string{"/", "mask"} {
		if p.take(separator) {
			next, ok := p.peek()
			if !ok || !next.word {
				return nil, p.wrong("want a mask")
			}
			p.at++
			value += separator + next.text
		}
	}
	prim, err := p.resolve(q, value, p.here(start))
	return &node{primitive: prim}, err
}

func kindName(q qualifiers) string {
	if q.kind == "" {
		return "host"
	}
	return q.kind
}

func (p *parser) vlan(start int) (*node, error) {
	v := vlan{place: p.here(start)}
	if t, ok := p.peek(); ok && t.word && isDigit(t.text[0]) {
		id, err := number(t.text)
		if err != nil || id > 0xfff {
			return nil, p.wrong("want a VLAN ID, 0 to 4095")
		}
		p.at++
		tci := uint16(id)
		v.id, v.place = &tci, p.here(start)
	}
	if p.tags++; p.tags > 1 {
		return nil, &Error{Kind: Unsupported, Part: v.text, Why: "rules look at one VLAN tag only"}
	}
	p.have = false
	return &node{primitive: v}, nil
}

// place is where a primitive stands in the filter.
type place struct {
	text   string
	behind bool // a vlan: it is about what follows the tag
}

func (p *parser) here(start int) place {
	return place{p.text[p.tokens[start].from:p.tokens[p.at-1].to], p.tags > 0}
}

func (p *parser) peek() (token, bool) {
	if p.at >= len(p.tokens) {
		return token{}, false
	}
	return p.tokens[p.at], true
}

func (p *parser) take(text string) bool {
	t, ok := p.peek()
	if !ok || t.name || t.text != text {
		return false
	}
	p.at++
	return true
}

// wrong is the error of a filter that does not go on as it should.
func (p *parser) wrong(format string, args ...any) *Error {
	part := ""
	if t, ok := p.peek(); ok {
		part = p.text[t.from:]
	}
	return &Error{Kind: Syntax, Part: part, Why: fmt.Sprintf(format, args...)}
}

// prefixOf reads an address, a beginning of one, or a network.
func prefixOf(q qualifiers, value string) (netip.Prefix, error) {
	address, mask, masked, dotted := cut(value)
	if masked && q.kind != "net" {
		return netip.Prefix{}, fmt.Errorf("a mask is for net only")
	}
	if a, err := netip.ParseAddr(address); err == nil && a.Zone() == "" && a.Is6() {
		return masks(a, a.BitLen(), mask, masked, dotted)
	}
	if n, err := number(address); err == nil && !masked {
		return ofNumber(n, q.kind == "net"), nil
	}
	octets := strings.Split(address, ".")
	if len(octets) > 4 || len(octets) == 1 {
		return netip.Prefix{}, fmt.Errorf("want an address: names are not looked up")
	}
	var v [4]byte
	for i, o := range octets {
		n, err := strconv.ParseUint(o, 10, 8) // also with zeros before it
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("want an address: names are not looked up")
		}
		v[i] = byte(n)
	}
	return masks(netip.AddrFrom4(v), 8*len(octets), mask, masked, dotted)
}

// ofNumber is the IPv4 address that a number is; a network's is its first octets.
func ofNumber(n uint32, network bool) netip.Prefix {
	length := 32
	for ; network && n != 0 && n>>24 == 0; length -= 8 {
		n <<= 8
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))), length)
}

// cut separates an address from its mask.
func cut(value string) (address, mask string, masked, dotted bool) {
	if address, mask, masked = strings.Cut(value, "/"); masked {
		return address, mask, true, false
	}
	address, mask, masked = strings.Cut(value, "mask")
	return address, mask, masked, true
}

func masks(a netip.Addr, bits int, mask string, masked, dotted bool) (netip.Prefix, error) {
	if masked {
		n, err := number(mask)
		if dotted {
			n, err = ones(mask, a)
		}
		if err != nil || int(n) > a.BitLen() {
			return netip.Prefix{}, fmt.Errorf("the mask is not a prefix's")
		}
		bits = int(n)
	}
	p := netip.PrefixFrom(a, bits)
	if p.Masked() != p {
		return p, fmt.Errorf("there are bits set behind the mask")
	}
	return p, nil
}

// ones is the length of a prefix with this mask, of an IPv4 address.
func ones(mask string, of netip.Addr) (uint32, error) {
	m, err := netip.ParseAddr(mask)
	for n := range 33 {
		if p, notPrefix := netip.AddrFrom4([4]byte{255, 255, 255, 255}).Prefix(n); notPrefix == nil && err == nil &&
			of.Is4() && p.Addr() == m {
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("not a prefix")
}
