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

// node is a node of the syntax tree.
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

// primitive is a leaf of the syntax tree.
type primitive interface {
	list(c *compiler) (list, error)
}

// qualifiers are the qualifiers before an identifier.
type qualifiers struct {
	proto string // ether, ip, ip6, arp, rarp, tcp, udp, sctp, icmp, ...; empty means any that fits
	dir   string // src, dst, src or dst, src and dst; empty means src or dst
	kind  string // host, net, port, portrange, proto; empty means host
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
	text     string
	link     Link
	tokens   []token
	at       int
	depth    int
	tags     int        // number of vlan terms so far: what follows is after that many tags
	last     qualifiers // qualifiers of the last identifier, which apply to one without any
	haveLast bool       // last is set
	within   string     // the wrapping protocol inside of which libpcap looks for what follows
}

// parse returns the syntax tree of a filter, or nil if the filter is empty, and whether it contains vlan.
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

// expression parses terms with "and" and "or" between them. Both operators have the same precedence.
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
		p.at = start // the number is an identifier, or the bracket starts an expression
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

// headed parses a primitive that begins with a word. It may be an identifier alone, which then has the qualifiers of
// the previous one.
func (p *parser) headed() (*node, error) {
	t, ok := p.peek()
	if !ok || !t.word {
		return nil, p.wrong("want a primitive, such as ip or host 10.0.0.1")
	}
	if p.within != "" {
		return nil, &Error{Kind: Unsupported, Part: t.text,
			Why: "libpcap looks for it within " + p.within + ", where rules cannot"}
	}
	if err := p.rejectUnsupported(p.at); err != nil {
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
	if err := p.rejectUnsupported(start); err != nil && found {
		return nil, err
	}
	if next, ok := p.peek(); ok && !next.name && next.word && slices.Contains(casts, next.text) && q.dir == "" &&
		q.kind == "" {
		p.at++
		p.haveLast = false
		return &node{primitive: cast{p.here(start), q.proto, next.text}}, nil
	}
	switch {
	case !found && !p.haveLast:
		return nil, p.wrong("want to know what it is: host, net, port, ...")
	case !found:
		q = p.last
	case q.dir == "" && q.kind == "": // only the name of a protocol
		p.haveLast = false
		return &node{primitive: protocol{p.here(start), q.proto}}, nil
	}
	p.last, p.haveLast = q, true
	return p.identifiers(q, start)
}

// rejectUnsupported returns an error if rules cannot express the next word.
func (p *parser) rejectUnsupported(start int) error {
	t, ok := p.peek()
	why, found := unsupportedWords[t.text]
	if !ok || !found || t.name {
		return nil
	}
	return &Error{Kind: Unsupported, Part: p.text[p.tokens[start].from:t.to], Why: why}
}

// wrapper parses the name of a protocol that wraps others.
func (p *parser) wrapper(name string, etherType uint16) (*node, error) {
	start := p.at
	p.at++
	at := p.here(start)
	if t, ok := p.peek(); ok && t.word && isDigit(t.text[0]) {
		p.at++
		return nil, unsupported(p.here(start), "rules cannot look at the header of "+name)
	}
	p.within, p.haveLast = name, false
	return &node{primitive: typed{at, etherType}}, nil
}

// qualifiers parses the qualifiers before an identifier.
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

// otherDirection parses the rest of "src or dst" and similar.
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

// identifiers parses an identifier, or several in brackets.
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
	v := vlan{location: p.here(start)}
	if t, ok := p.peek(); ok && t.word && isDigit(t.text[0]) {
		id, err := number(t.text)
		if err != nil || id > 0xfff {
			return nil, p.wrong("want a VLAN ID, 0 to 4095")
		}
		p.at++
		tci := uint16(id)
		v.id, v.location = &tci, p.here(start)
	}
	if p.tags++; p.tags > 1 {
		return nil, &Error{Kind: Unsupported, Part: v.text, Why: "rules look at one VLAN tag only"}
	}
	p.haveLast = false
	return &node{primitive: v}, nil
}

// location says where a primitive is in the filter.
type location struct {
	text   string
	behind bool // after a vlan, so the primitive is about what follows the tag
}

func (p *parser) here(start int) location {
	return location{p.text[p.tokens[start].from:p.tokens[p.at-1].to], p.tags > 0}
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

// wrong returns a syntax error at the next token.
func (p *parser) wrong(format string, args ...any) *Error {
	part := ""
	if t, ok := p.peek(); ok {
		part = p.text[t.from:]
	}
	return &Error{Kind: Syntax, Part: part, Why: fmt.Sprintf(format, args...)}
}

// prefixOf parses an address, the first octets of an address, or a network.
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
		n, err := strconv.ParseUint(o, 10, 8) // leading zeros are allowed
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("want an address: names are not looked up")
		}
		v[i] = byte(n)
	}
	return masks(netip.AddrFrom4(v), 8*len(octets), mask, masked, dotted)
}

// ofNumber returns the IPv4 address with this number. If it is a network, the number is its first octets.
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

// ones returns the length of the IPv4 prefix with this mask.
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
