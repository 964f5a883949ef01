// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// EtherTypes and protocol numbers.
const (
	typeIPv4, typeARP, typeRARP, typeVLAN, typeIPv6, typeQinQ = 0x0800, 0x0806, 0x8035, 0x8100, 0x86dd, 0x88a8

	protoICMP, protoTCP, protoUDP, protoICMP6, protoSCTP = 1, 6, 17, 58, 132
)

// carried are the protocols with a name, and which versions of IP libpcap looks for them in.
var carried = map[string]struct {
	number byte
	v4, v6 bool
}{
	"tcp": {protoTCP, true, true}, "udp": {protoUDP, true, true}, "sctp": {protoSCTP, true, true},
	"icmp": {protoICMP, true, false}, "icmp6": {protoICMP6, false, true}, "igmp": {2, true, false},
	"pim": {103, true, true}, "vrrp": {112, true, false}, "esp": {50, true, true}, "ah": {51, true, true},
}

// etherTypes are the protocols of Ethernet with a name.
var etherTypes = map[string]uint16{"ip": typeIPv4, "ip6": typeIPv6, "arp": typeARP, "rarp": typeRARP}

func unsupported(at place, why string) error {
	return &Error{Kind: Unsupported, Part: at.text, Why: why}
}

func syntax(at place, format string, args ...any) error {
	return &Error{Kind: Syntax, Part: at.text, Why: fmt.Sprintf(format, args...)}
}

// etherType is the pattern of the packets of this type; none can be of an ARP packet within IP.
func (c *compiler) etherType(at place, t uint16) (p pattern, possible bool) {
	switch {
	case c.link == IP:
		return p.with16(EtherType, t), t == typeIPv4 || t == typeIPv6
	case at.behind:
		p.behindTag = &gap{part: at.text, why: "what follows a vlan is looked for behind the tag, and this could match " +
			"packets without one: put it before the vlan, or write (vlan and ...)"}
		return p.with16(VLANType, t), true
	}
	return p.with16(EtherType, t).withBit(Tagged, 0), true
}

// ip is the pattern of the packets of an IP version, 4 or 6.
func (c *compiler) ip(at place, version int) pattern {
	t := uint16(typeIPv4)
	if version == 6 {
		t = typeIPv6
	}
	p, _ := c.etherType(at, t)
	return p
}

// protocol is the name of a protocol: all of its packets.
type protocol struct {
	place
	name string
}

func (p protocol) list(c *compiler) (list, error) {
	if t, ok := etherTypes[p.name]; ok {
		pattern, possible := c.etherType(p.place, t)
		if !possible {
			return list{{}}, nil
		}
		return anyOf(pattern), nil
	}
	k, ok := carried[p.name]
	if !ok {
		return nil, syntax(p.place, "it takes a host, or proto, behind it")
	}
	var all []pattern
	if k.v4 {
		all = append(all, c.ip(p.place, 4).with(Proto, k.number))
	}
	if k.v6 {
		all = append(all, c.ip(p.place, 6).with(Proto, k.number))
	}
	return anyOf(all...), nil
}

// vlan is a frame with a tag.
type vlan struct {
	place
	id *uint16
}

func (v vlan) list(c *compiler) (list, error) {
	if c.link == IP {
		return nil, unsupported(v.place, noFrame)
	}
	p := pattern{}.withBit(Tagged, 1)
	if v.id != nil {
		p = p.masked(VLANTCI, bytesOf(uint32(*v.id), 16), []byte{0x0f, 0xff})
	}
	return anyOf(p), nil
}

const noFrame = "packets in the tunnel have no Ethernet header"

// cast is broadcast or multicast, of Ethernet or of IP.
type cast struct {
	place
	proto, kind string
}

func (m cast) list(c *compiler) (list, error) {
	switch {
	case m.proto == "" || m.proto == "ether":
		if c.link == IP {
			return nil, unsupported(m.place, noFrame)
		}
		if m.kind == "broadcast" {
			return anyOf(pattern{}.with(EthDst, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), nil
		}
		return anyOf(pattern{}.masked(EthDst, []byte{1}, []byte{1})), nil
	case m.proto == "ip" && m.kind == "multicast":
		return anyOf(c.ip(m.place, 4).masked(Dst, []byte{0xe0}, []byte{0xe0})), nil
	case m.proto == "ip6" && m.kind == "multicast":
		return anyOf(c.ip(m.place, 6).with(Dst, 0xff)), nil
	case m.proto == "ip":
		return nil, unsupported(m.place, "the guest's netmask is not known here: name the address")
	}
	return nil, syntax(m.place, "only ether, ip and ip6 have one")
}

// resolve makes a primitive of an identifier.
func (p *parser) resolve(q qualifiers, value string, at place) (primitive, error) {
	switch q.kind {
	case "port", "portrange":
		return resolvePorts(q, value, at)
	case "proto":
		return resolveProto(q, value, at)
	}
	if q.proto == "ether" {
		mac, err := net.ParseMAC(value)
		if err != nil || len(mac) != 6 || q.kind == "net" {
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

// inDirections combines what the source and the destination are asked for.
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

// ethers is the address of a frame.
type ethers struct {
	place
	dir string
	mac net.HardwareAddr
}

func (e ethers) list(c *compiler) (list, error) {
	if c.link == IP {
		return nil, unsupported(e.place, noFrame)
	}
	return inDirections(e.dir, anyOf(pattern{}.with(EthSrc, e.mac...)), anyOf(pattern{}.with(EthDst, e.mac...)))
}

// hosts is an address or a network. Of IPv4, libpcap looks for it in ARP and RARP too.
type hosts struct {
	place
	qualifiers
	prefix netip.Prefix
}

func (h hosts) list(c *compiler) (list, error) {
	address := h.prefix.Addr().AsSlice()
	mask := make([]byte, len(address))
	for i := range h.prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	sides := func(base pattern, src, dst Field) (list, error) {
		return inDirections(h.dir, anyOf(base.masked(src, address, mask)), anyOf(base.masked(dst, address, mask)))
	}
	if h.prefix.Addr().Is6() {
		return sides(c.ip(h.place, 6), Src, Dst)
	}
	found := list{{}}
	var err error
	if h.proto == "" || h.proto == "ip" {
		if found, err = sides(c.ip(h.place, 4), Src, Dst); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"arp", "rarp"} {
		base, possible := c.etherType(h.place, etherTypes[name])
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

// ports is a port or a range of ports.
type ports struct {
	place
	dir    string
	protos []byte
	lo, hi uint16
}

func resolvePorts(q qualifiers, value string, at place) (primitive, error) {
	p := ports{place: at, dir: q.dir, protos: []byte{protoTCP, protoUDP, protoSCTP}}
	switch q.proto {
	case "tcp", "udp", "sctp":
		p.protos = []byte{carried[q.proto].number}
	case "":
	default:
		return nil, syntax(at, "%s has no ports: write %s and port ...", q.proto, q.proto)
	}
	first, last := value, value // also of a service with a dash in its name
	if before, after, ok := strings.Cut(value, "-"); ok && q.kind == "portrange" {
		first, last = before, after
	}
	lo, err := portNumber(first, q.proto)
	if err != nil {
		return nil, syntax(at, "%v", err)
	}
	hi, err := portNumber(last, q.proto)
	if err != nil {
		return nil, syntax(at, "%v", err)
	}
	p.lo, p.hi = min(lo, hi), max(lo, hi)
	return p, nil
}

func portNumber(text, proto string) (uint16, error) {
	if n, err := number(text); err == nil && n <= 0xffff {
		return uint16(n), nil
	}
	if text == "" || isDigit(text[0]) {
		return 0, fmt.Errorf("%q is not a port", text)
	}
	if proto == "" {
		proto = "tcp"
	}
	n, err := net.LookupPort(proto, text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a port nor a service of this host", text)
	}
	return uint16(n), nil
}

func (p ports) list(c *compiler) (list, error) {
	var bases []pattern
	for _, proto := range p.protos {
		for _, version := range []int{4, 6} {
			base := c.ip(p.place, version).with(Proto, proto).withBit(L4, 1)
			if proto == protoSCTP {
				base.gap = &gap{part: p.text, implied: len(p.protos) > 1,
					why: "rules cannot look at the ports of SCTP: none of its packets is taken for a match"}
			}
			bases = append(bases, base)
		}
	}
	return inDirections(p.dir, c.inRange(bases, SrcPort, 0, uint32(p.lo), uint32(p.hi), 16),
		c.inRange(bases, DstPort, 0, uint32(p.lo), uint32(p.hi), 16))
}

// protos is a protocol by its number: that of Ethernet, or that which IP carries.
type protos struct {
	place
	layer  string
	number uint32
}

func resolveProto(q qualifiers, value string, at place) (primitive, error) {
	n, err := number(value)
	if t, ok := etherTypes[value]; ok && q.proto == "ether" {
		n, err = uint32(t), nil
	}
	if k, ok := carried[value]; ok && q.proto != "ether" {
		n, err = uint32(k.number), nil
	}
	switch {
	case err != nil || q.dir != "":
		return nil, syntax(at, "want a protocol's number")
	case q.proto == "ether" && n <= 0xffff, n <= 0xff && (q.proto == "" || q.proto == "ip" || q.proto == "ip6"):
		return protos{at, q.proto, n}, nil
	}
	return nil, syntax(at, "there is no such protocol")
}

func (p protos) list(c *compiler) (list, error) {
	switch {
	case p.layer == "ether" && (p.number < 0x600 || p.number == 0x809b || p.number == 0x80f3):
		return nil, unsupported(p.place, "libpcap looks for it in LLC headers, which rules cannot")
	case p.layer == "ether" && (p.number == typeVLAN || p.number == typeQinQ):
		return nil, unsupported(p.place, "write vlan")
	case p.layer == "ether":
		base, possible := c.etherType(p.place, uint16(p.number))
		if !possible {
			return list{{}}, nil
		}
		return anyOf(base), nil
	}
	var all []pattern
	if p.layer != "ip6" {
		all = append(all, c.ip(p.place, 4).with(Proto, byte(p.number)))
	}
	if p.layer != "ip" {
		switch p.number {
		case 0, 43, 44, 60:
			return nil, unsupported(p.place, "rules see the protocol behind IPv6 extension headers, not these: write ip proto")
		}
		all = append(all, c.ip(p.place, 6).with(Proto, byte(p.number)))
	}
	return anyOf(all...), nil
}

// number reads a number in C's notation.
func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || strings.ContainsAny(text, "_oO") || strings.HasPrefix(strings.ToLower(text), "0b") {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return uint32(n), nil
}
