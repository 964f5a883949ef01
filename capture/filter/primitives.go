// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"dpservice/wire"
)

func unsupported(at location, why string) error {
	return &Error{Kind: Unsupported, Part: at.text, Why: why}
}

func isUnsupported(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Unsupported
}

func syntax(at location, format string, args ...any) error {
	return &Error{Kind: Syntax, Part: at.text, Why: fmt.Sprintf(format, args...)}
}

// etherType returns the pattern of the packets of an Ethernet type. It returns false if there can be none, such as ARP
// in IP.
func (c *compiler) etherType(at location, t uint16) (p pattern, possible bool) {
	switch {
	case c.link == IP:
		return p.with16(wire.FieldEtherType, t), t == wire.EtherTypeIPv4 || t == wire.EtherTypeIPv6
	case at.behind:
		p.behindTag = &gap{part: at.text, why: "what follows a vlan is looked for behind the tag, and this could match " +
			"packets without one: put it before the vlan, or write (vlan and ...)"}
		return p.with16(wire.FieldVLANType, t), true
	}
	return p.with16(wire.FieldEtherType, t).withBit(wire.FieldTagged, 0), true
}

// ip returns the pattern of the packets of an IP version, 4 or 6.
func (c *compiler) ip(at location, version int) pattern {
	t := uint16(wire.EtherTypeIPv4)
	if version == 6 {
		t = wire.EtherTypeIPv6
	}
	p, _ := c.etherType(at, t)
	return p
}

// protocol matches all packets of the protocol with a name.
type protocol struct {
	location
	name string
}

func (p protocol) list(c *compiler) (list, error) {
	if t, ok := etherTypes[p.name]; ok {
		pattern, possible := c.etherType(p.location, t)
		if !possible {
			return list{{}}, nil
		}
		return anyOf(pattern), nil
	}
	k, ok := carried[p.name]
	if !ok {
		return nil, syntax(p.location, "it takes a host, or proto, behind it")
	}
	var all []pattern
	if k.v4 {
		all = append(all, c.ip(p.location, 4).with(wire.FieldProto, k.number))
	}
	if k.v6 {
		all = append(all, c.ip(p.location, 6).with(wire.FieldProto, k.number))
	}
	return anyOf(all...), nil
}

// typed matches frames of an Ethernet type. It is for types without a name that is a filter.
type typed struct {
	location
	etherType uint16
}

func (t typed) list(c *compiler) (list, error) {
	p, possible := c.etherType(t.location, t.etherType)
	if !possible {
		return list{{}}, nil
	}
	return anyOf(p), nil
}

// vlan matches frames with a VLAN tag.
type vlan struct {
	location
	id *uint16
}

func (v vlan) list(c *compiler) (list, error) {
	if c.link == IP {
		return nil, unsupported(v.location, noFrame)
	}
	p := pattern{}.withBit(wire.FieldTagged, 1)
	if v.id != nil {
		p = p.masked(wire.FieldVLANTCI, bytesOf(uint32(*v.id), 16), []byte{0x0f, 0xff})
	}
	return anyOf(p), nil
}

const noFrame = "packets in the tunnel have no Ethernet header"

// cast matches broadcast or multicast packets, of Ethernet or of IP.
type cast struct {
	location
	proto, kind string
}

func (m cast) list(c *compiler) (list, error) {
	switch {
	case m.proto == "" || m.proto == "ether":
		if c.link == IP {
			return nil, unsupported(m.location, noFrame)
		}
		if m.kind == "broadcast" {
			return anyOf(pattern{}.with(wire.FieldEthDst, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), nil
		}
		return anyOf(pattern{}.masked(wire.FieldEthDst, []byte{1}, []byte{1})), nil
	case m.proto == "ip" && m.kind == "multicast":
		return anyOf(c.ip(m.location, 4).masked(wire.FieldDst, []byte{0xe0}, []byte{0xe0})), nil
	case m.proto == "ip6" && m.kind == "multicast":
		return anyOf(c.ip(m.location, 6).with(wire.FieldDst, 0xff)), nil
	case m.proto == "ip":
		return nil, unsupported(m.location, "the guest's netmask is not known here: name the address")
	}
	return nil, syntax(m.location, "only ether, ip and ip6 have one")
}

// resolve converts an identifier to a primitive.
func (p *parser) resolve(q qualifiers, value string, at location) (primitive, error) {
	switch q.kind {
	case "port", "portrange":
		return resolvePorts(q, value, at)
	case "proto":
		return resolveProto(q, value, at)
	}
	switch q.proto {
	case "decnet":
		return nil, unsupported(at, noHeader)
	case "ether":
		mac, ok := parseMAC(value)
		if !ok || q.kind == "net" {
			return nil, syntax(at, "want a MAC address")
		}
		return ethers{at, q.dir, mac}, nil
	}
	prefix, err := prefixOf(q, value)
	if err != nil {
		return nil, syntax(at, "%v", err)
	}
	ok := q.proto == "" || q.proto == "ip6" && prefix.Addr().Is6()
	if v4 := q.proto == "ip" || q.proto == "arp" || q.proto == "rarp"; !ok && (!v4 || !prefix.Addr().Is4()) {
		return nil, syntax(at, "%s has no such address", q.proto)
	}
	return hosts{at, q, prefix}, nil
}

// macForms matches the notations of a MAC address.
var macForms = regexp.MustCompile(`^(?:[[:xdigit:]]{1,2}(?:(?::[[:xdigit:]]{1,2}){5}|(?:-[[:xdigit:]]{1,2}){5}|(?:\.[[:xdigit:]]{1,2}){5})|` +
	`[[:xdigit:]]{4}\.[[:xdigit:]]{4}\.[[:xdigit:]]{4}|[[:xdigit:]]{12})$`)

func parseMAC(text string) (net.HardwareAddr, bool) {
	if !macForms.MatchString(text) {
		return nil, false
	}
	octets := strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(":-.", c) })
	digits := ""
	for _, o := range octets {
		if len(octets) == 6 && len(o) == 1 {
			o = "0" + o
		}
		digits += o
	}
	mac, err := hex.DecodeString(digits)
	return mac, err == nil
}

// inDirections combines the conditions for the source and the destination.
func inDirections(dir string, src, dst list) (list, error) {
	switch dir {
	case "src":
		return src, nil
	case "dst":
		return dst, nil
	case "src and dst":
		return src.and(dst)
	}
	neither, err := src.not().and(dst.not())
	return neither.not(), err
}

// ethers matches a MAC address of a frame.
type ethers struct {
	location
	dir string
	mac net.HardwareAddr
}

func (e ethers) list(c *compiler) (list, error) {
	if c.link == IP {
		return nil, unsupported(e.location, noFrame)
	}
	return inDirections(e.dir, anyOf(pattern{}.with(wire.FieldEthSrc, e.mac...)),
		anyOf(pattern{}.with(wire.FieldEthDst, e.mac...)))
}

// hosts matches an address or a network. libpcap also looks for an IPv4 address in ARP and RARP.
type hosts struct {
	location
	qualifiers
	prefix netip.Prefix
}

func (h hosts) list(c *compiler) (list, error) {
	address := h.prefix.Addr().AsSlice()
	mask := make([]byte, len(address))
	for i := range h.prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	sides := func(base pattern, src, dst wire.Field) (list, error) {
		return inDirections(h.dir, anyOf(base.masked(src, address, mask)), anyOf(base.masked(dst, address, mask)))
	}
	if h.prefix.Addr().Is6() {
		return sides(c.ip(h.location, 6), wire.FieldSrc, wire.FieldDst)
	}
	found := list{{}}
	var err error
	if h.proto == "" || h.proto == "ip" {
		if found, err = sides(c.ip(h.location, 4), wire.FieldSrc, wire.FieldDst); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"arp", "rarp"} {
		base, possible := c.etherType(h.location, etherTypes[name])
		if !possible || h.proto != "" && h.proto != name {
			continue
		}
		base.gap = &gap{part: h.text, implied: h.proto == "",
			why: "rules cannot look at the addresses in ARP and RARP packets: none of them is taken for a match"}
		in, err := sides(base, arpSender, arpTarget)
		if err != nil {
			return nil, err
		}
		either, err := found.not().and(in.not())
		if err != nil {
			return nil, err
		}
		found = either.not()
	}
	return found, nil
}

// ports matches a port or a range of ports.
type ports struct {
	location
	dir    string
	protos []byte
	lo, hi uint16
}

func resolvePorts(q qualifiers, value string, at location) (primitive, error) {
	p := ports{location: at, dir: q.dir, protos: []byte{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP}}
	switch q.proto {
	case "tcp", "udp", "sctp":
		p.protos = []byte{carried[q.proto].number}
	case "":
	default:
		return nil, syntax(at, "%s has no ports: write %s and port ...", q.proto, q.proto)
	}
	first, last := value, value // the name of a service may contain a dash
	if before, after, ok := strings.Cut(value, "-"); ok && q.kind == "portrange" {
		first, last = before, after
	}
	lo, proto, err := portNumber(first, q.proto)
	if err != nil {
		return nil, syntax(at, "%v", err)
	}
	hi, other, err := portNumber(last, q.proto)
	if err != nil {
		return nil, syntax(at, "%v", err)
	}
	if proto == other && proto != 0 {
		p.protos = []byte{proto}
	}
	p.lo, p.hi = min(lo, hi), max(lo, hi)
	return p, nil
}

// portNumber parses a port or the name of a service. The protocol is TCP or UDP for a service. It is 0 for a number,
// and for a service with the same port in both protocols.
func portNumber(text, of string) (port uint16, proto byte, err error) {
	if n, err := number(text); err == nil && n <= 0xffff {
		return uint16(n), 0, nil
	}
	if text == "" || isDigit(text[0]) {
		return 0, 0, fmt.Errorf("%q is not a port", text)
	}
	tcp, noTCP := net.LookupPort("tcp", text)
	udp, noUDP := net.LookupPort("udp", text)
	switch {
	case noTCP != nil && noUDP != nil:
		return 0, 0, fmt.Errorf("%q is neither a port nor a service of this host", text)
	case noTCP != nil:
		port, proto = uint16(udp), wire.ProtoUDP
	case noUDP == nil && tcp == udp:
		return uint16(tcp), 0, nil
	default:
		port, proto = uint16(tcp), wire.ProtoTCP
	}
	if of != "" && carried[of].number != proto {
		return 0, 0, fmt.Errorf("%q is no service of %s", text, of)
	}
	return port, proto, nil
}

func (p ports) list(c *compiler) (list, error) {
	var bases []pattern
	for _, proto := range p.protos {
		for _, version := range []int{4, 6} {
			base := c.ip(p.location, version).with(wire.FieldProto, proto).withBit(wire.FieldL4, 1)
			if proto == wire.ProtoSCTP {
				base.gap = &gap{part: p.text, implied: len(p.protos) > 1,
					why: "rules cannot look at the ports of SCTP: none of its packets is taken for a match"}
			}
			bases = append(bases, base)
		}
	}
	return inDirections(p.dir, c.inRange(bases, wire.FieldSrcPort, uint32(p.lo), uint32(p.hi), 16),
		c.inRange(bases, wire.FieldDstPort, uint32(p.lo), uint32(p.hi), 16))
}

// protos matches a protocol by its number, in the Ethernet or the IP header.
type protos struct {
	location
	layer  string
	number uint32
}

func resolveProto(q qualifiers, value string, at location) (primitive, error) {
	n, err := number(value)
	if q.proto == "ether" {
		if t, ok := etherTypes[value]; ok && value != "pppoed" {
			n, err = uint32(t), nil
		} else if t, ok := etherProtocols[value]; ok {
			n, err = uint32(t), nil
		} else if unsupportedWords[value] == noHeader {
			return nil, unsupported(at, "libpcap looks for it in LLC headers, which rules cannot")
		}
	} else if k, ok := ipProtocols[strings.ToLower(value)]; ok {
		n, err = uint32(k), nil
	}
	switch {
	case err != nil || q.dir != "":
		return nil, syntax(at, "want a protocol's number, or the name of one that is known")
	case q.proto == "ether" && n <= 0xffff, n <= 0xff && (q.proto == "" || q.proto == "ip" || q.proto == "ip6"):
		return protos{at, q.proto, n}, nil
	}
	return nil, syntax(at, "there is no such protocol")
}

func (p protos) list(c *compiler) (list, error) {
	switch {
	case p.layer == "ether" && (p.number < 0x600 || p.number == 0x809b || p.number == 0x80f3):
		return nil, unsupported(p.location, "libpcap looks for it in LLC headers, which rules cannot")
	case p.layer == "ether" && (p.number == wire.EtherTypeVLAN || p.number == wire.EtherTypeQinQ):
		return nil, unsupported(p.location, "write vlan")
	case p.layer == "ether":
		base, possible := c.etherType(p.location, uint16(p.number))
		if !possible {
			return list{{}}, nil
		}
		return anyOf(base), nil
	}
	var all []pattern
	if p.layer != "ip6" {
		all = append(all, c.ip(p.location, 4).with(wire.FieldProto, byte(p.number)))
	}
	if p.layer != "ip" {
		switch p.number {
		case 0, 43, 44, 60:
			return nil, unsupported(p.location,
				"rules see the protocol behind IPv6 extension headers, not these: write ip proto")
		}
		all = append(all, c.ip(p.location, 6).with(wire.FieldProto, byte(p.number)))
	}
	return anyOf(all...), nil
}

// number parses a number in the notation of C.
func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || strings.ContainsAny(text, "_oO") || strings.HasPrefix(strings.ToLower(text), "0b") {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return uint32(n), nil
}
