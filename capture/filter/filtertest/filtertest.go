// SPDX-License-Identifier: Apache-2.0

// Package filtertest generates random filters and packets for tests, and compares with libpcap's results.
package filtertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"dpservice/capture/filter"
	"dpservice/wire"
)

// Oracle is a filter that libpcap has compiled.
type Oracle struct{ vm *bpf.VM }

// NewOracle compiles a filter with tcpdump; an error comes from libpcap. The program is not optimized, since the
// optimizer of libpcap 1.10 has a bug: it compiles `tcp[13] & 2 = 2 || ! (! port 80 or tcp[13] & 2 = 2) || port 79` to
// a program that rejects UDP from port 79.
func NewOracle(t *testing.T, text string, link filter.Link) (*Oracle, error) {
	t.Helper()
	linkName := map[filter.Link]string{filter.Ethernet: "EN10MB", filter.IP: "RAW"}[link]
	out, err := exec.CommandContext(context.Background(), "tcpdump", "-O", "-y", linkName, "-ddd", "--",
		text).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("tcpdump: %s", out)
	}
	var raw []bpf.RawInstruction
	for line := range strings.Lines(string(out)) {
		var i bpf.RawInstruction
		if n, _ := fmt.Sscan(line, &i.Op, &i.Jt, &i.Jf, &i.K); n == 4 {
			const negate, multiply = 0x84, 0x24
			if i.Op == negate { // not implemented by bpf.VM
				i.Op, i.K = multiply, 0xffffffff
			}
			raw = append(raw, i)
		}
	}
	program, ok := bpf.Disassemble(raw)
	require.True(t, ok, "%s", out)
	vm, err := bpf.NewVM(program)
	require.NoError(t, err, "%s: %s", text, out)
	return &Oracle{vm}, nil
}

// Accepts reports whether the filter matches the packet.
func (o *Oracle) Accepts(t *testing.T, packet []byte) bool {
	t.Helper()
	n, err := o.vm.Run(packet)
	require.NoError(t, err)
	return n > 0
}

// Packet is a packet, and the fields that a NIC finds in it.
type Packet struct {
	Data   []byte
	Unlike bool           // libpcap and NICs parse it differently; the difference is documented
	values filter.Pattern // the fields' values
}

// Decide applies a program to a packet, as a NIC does.
func (p *Packet) Decide(program filter.Program) bool {
	for _, r := range program.Rules {
		if p.matches(r.Pattern) {
			return r.Sample
		}
	}
	panic("a packet that no rule matches")
}

func (p *Packet) matches(pattern filter.Pattern) bool {
	for f, c := range pattern {
		for i := range c.Mask {
			if p.values[f].Value[i]&c.Mask[i] != c.Value[i] {
				return false
			}
		}
	}
	return true
}

func (p *Packet) set(f wire.Field, value ...byte) { copy(p.values[f].Value[:], value) }

// The values are from small sets, so that filters often match packets.
var (
	somePorts = []int{0, 1, 79, 80, 81, 443, 1023, 1024, 3128, 5004, 8079, 8080, 49152, 65535}
	someV4    = []string{"10.0.0.9", "10.0.0.8", "10.0.1.9", "192.168.7.1", "224.0.0.251"}
	someV6    = []string{"2001:db8::9", "2001:db8::8", "fe80::1", "ff02::fb", "2001:db8:1::9"}
	someMACs  = []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"}
	someFlags = []byte{0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x00, 0xc2}
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// RandomPacket generates a packet and the fields in it.
func RandomPacket(r *rand.Rand, link filter.Link) *Packet {
	p := &Packet{}
	if link == filter.IP {
		p.randomIP(r, pick(r, wire.EtherTypeIPv4, wire.EtherTypeIPv6), link)
		return p
	}
	dst, src := macOf(pick(r, someMACs...)), macOf(pick(r, someMACs[:2]...))
	p.Data = append(append(p.Data, dst...), src...)
	p.set(wire.FieldEthDst, dst...)
	p.set(wire.FieldEthSrc, src...)
	kind := pick(r, wire.EtherTypeIPv4, wire.EtherTypeIPv4, wire.EtherTypeIPv4, wire.EtherTypeIPv6, wire.EtherTypeIPv6,
		wire.EtherTypeARP, wire.EtherTypeRARP, 0x88cc)
	typeBytes := binary.BigEndian.AppendUint16(nil, uint16(kind))
	if r.IntN(4) > 0 {
		p.set(wire.FieldEtherType, typeBytes...)
	} else {
		tpid := pick(r, wire.EtherTypeVLAN, wire.EtherTypeQinQ)
		tci := binary.BigEndian.AppendUint16(nil, pick[uint16](r, 5, 6, 0x2005))
		p.Data = append(binary.BigEndian.AppendUint16(p.Data, uint16(tpid)), tci...)
		p.set(wire.FieldTagged, 1)
		p.set(wire.FieldVLANTCI, tci...)
		p.set(wire.FieldVLANType, typeBytes...)
		p.set(wire.FieldEtherType, byte(tpid>>8), byte(tpid))
	}
	p.Data = append(p.Data, typeBytes...)
	switch kind {
	case wire.EtherTypeARP, wire.EtherTypeRARP:
		p.randomARP(r)
	case wire.EtherTypeIPv4, wire.EtherTypeIPv6:
		p.randomIP(r, kind, link)
	default:
		p.Data = append(p.Data, make([]byte, 60)...)
	}
	return p
}

func (p *Packet) randomARP(r *rand.Rand) {
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	arp = append(append(arp, make([]byte, 6)...), addr(pick(r, someV4...))...)
	arp = append(append(arp, make([]byte, 6)...), addr(pick(r, someV4...))...)
	p.Data = append(append(p.Data, arp...), make([]byte, 30)...)
}

func (p *Packet) randomIP(r *rand.Rand, kind int, link filter.Link) {
	if link == filter.IP {
		p.set(wire.FieldEtherType, byte(kind>>8), byte(kind))
	}
	proto := pick[byte](r, wire.ProtoTCP, wire.ProtoTCP, wire.ProtoUDP, wire.ProtoUDP, wire.ProtoICMP, wire.ProtoICMPv6,
		wire.ProtoSCTP, 2, 50)
	tos, ttl := pick[byte](r, 0, 0xb8), pick[byte](r, 1, 64, 255)
	p.set(wire.FieldProto, proto)
	p.set(wire.FieldTOS, tos)
	p.set(wire.FieldTTL, ttl)
	var whole bool
	if kind == wire.EtherTypeIPv4 {
		whole = p.randomIPv4(r, proto, tos, ttl)
	} else {
		whole = p.randomIPv6(r, proto, tos, ttl)
	}
	p.randomL4(r, proto, kind, whole)
}

func (p *Packet) randomIPv4(r *rand.Rand, proto, tos, ttl byte) (whole bool) {
	fragment := uint16(0)
	if r.IntN(6) == 0 {
		fragment = pick[uint16](r, 0x2000, 0x0010, 0x2010, 0x4000)
	}
	options := 4 * r.IntN(3)
	src, dst := addr(pick(r, someV4...)), addr(pick(r, someV4...))
	h := []byte{0x45 + byte(options/4), tos, 0, byte(60 + options), 1, 2, byte(fragment >> 8), byte(fragment), ttl, proto,
		0, 0}
	h = append(append(append(h, src...), dst...), make([]byte, options)...)
	p.Data = append(p.Data, h...)
	p.set(wire.FieldSrc, src...)
	p.set(wire.FieldDst, dst...)
	whole = fragment&0x3fff == 0
	if !whole {
		p.set(wire.FieldFragment, 1)
	}
	p.Unlike = fragment&0x3fff == 0x2000 // a first fragment, in which libpcap finds the ports
	return whole
}

func (p *Packet) randomIPv6(r *rand.Rand, proto, tos, ttl byte) (whole bool) {
	src, dst := addr(pick(r, someV6...)), addr(pick(r, someV6...))
	h := []byte{0x60 | tos>>4, tos << 4, 0, 0, 0, 48, proto, ttl}
	p.Data = append(append(append(p.Data, h...), src...), dst...)
	p.set(wire.FieldSrc, src...)
	p.set(wire.FieldDst, dst...)
	next := len(p.Data) - 34
	switch r.IntN(8) {
	case 0: // a fragment, whose protocol libpcap knows
		p.Data[next] = 44
		p.Data = append(p.Data, proto, 0, 0, 0x11, 0, 0, 0, 1)
		return false
	case 1: // an extension header, behind which libpcap does not look
		p.Data[next] = 60
		p.Data = append(p.Data, proto, 0, 1, 4, 0, 0, 0, 0)
		p.Unlike = true
	}
	return true
}

func (p *Packet) randomL4(r *rand.Rand, proto byte, kind int, whole bool) {
	ports := binary.BigEndian.AppendUint16(nil, uint16(pick(r, somePorts...)))
	ports = binary.BigEndian.AppendUint16(ports, uint16(pick(r, somePorts...)))
	body := make([]byte, 40)
	copy(body, ports)
	switch proto {
	case wire.ProtoTCP:
		body[13] = pick(r, someFlags...)
		body[12] = 0x50
	case wire.ProtoICMP, wire.ProtoICMPv6:
		body[0], body[1] = pick[byte](r, 0, 3, 8, 128, 135), pick[byte](r, 0, 1)
	}
	p.Data = append(p.Data, body...)
	if !whole {
		return
	}
	switch {
	case proto == wire.ProtoTCP || proto == wire.ProtoUDP:
		p.set(wire.FieldSrcPort, body[:2]...)
		p.set(wire.FieldDstPort, body[2:4]...)
		p.set(wire.FieldL4, 1)
		if proto == wire.ProtoTCP {
			p.set(wire.FieldTCPFlags, body[13])
		}
	case proto == wire.ProtoICMP && kind == wire.EtherTypeIPv4, proto == wire.ProtoICMPv6 && kind == wire.EtherTypeIPv6:
		p.set(wire.FieldICMPType, body[0])
		p.set(wire.FieldICMPCode, body[1])
		p.set(wire.FieldL4, 1)
	}
}

// Hidden reports whether the packet contains something that only libpcap looks at.
func (p *Packet) Hidden() bool {
	t := p.values[wire.FieldEtherType].Value
	if p.values[wire.FieldTagged].Value[0] == 1 {
		t = p.values[wire.FieldVLANType].Value
	}
	kind := binary.BigEndian.Uint16(t[:])
	return kind == wire.EtherTypeARP || kind == wire.EtherTypeRARP || p.values[wire.FieldProto].Value[0] == wire.ProtoSCTP
}

// randomPrimitive returns a primitive of any kind.
func randomPrimitive(r *rand.Rand, link filter.Link) string {
	dir := pick(r, "", "", "src ", "dst ", "src or dst ", "src and dst ")
	port := func() int { return pick(r, somePorts...) }
	all := []func() string{
		func() string {
			return pick(r, "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "esp", "arp")
		},
		func() string { return fmt.Sprintf("%s%sport %d", pick(r, "", "tcp ", "udp "), dir, port()) },
		func() string {
			return fmt.Sprintf("%s%sportrange %d-%d", pick(r, "", "tcp ", "udp "), dir, port(), port())
		},
		func() string { return fmt.Sprintf("%s%shost %s", pick(r, "", "ip "), dir, pick(r, someV4...)) },
		func() string { return fmt.Sprintf("%s%shost %s", pick(r, "", "ip6 "), dir, pick(r, someV6...)) },
		func() string {
			return dir + "net " + pick(r, "10.0.0.0/24", "10.0.0.8/30", "10.0", "10", "192.168.0.0 mask 255.255.0.0")
		},
		func() string { return dir + "net " + pick(r, "2001:db8::/32", "fe80::/10", "2001:db8::8/126") },
		func() string { return pick(r, "proto 17", "ip proto 6", "ip6 proto 58", `ip proto \udp`, "proto 50") },
		func() string { return pick(r, "ip multicast", "ip6 multicast") },
		func() string {
			return fmt.Sprintf("tcp[%s] & (tcp-syn|tcp-ack) %s %s", pick(r, "tcpflags", "13"), pick(r, "=", "!=", "=="),
				pick(r, "0", "tcp-syn", "18"))
		},
		func() string {
			return fmt.Sprintf("icmp[icmptype] %s %s", pick(r, "=", "!="), pick(r, "icmp-echo", "3"))
		},
		func() string { return fmt.Sprintf("icmp6[icmp6type] %s 135", pick(r, "=", "<", ">=")) },
		func() string {
			return fmt.Sprintf("%s[2:2] %s %d", pick(r, "tcp", "udp"), pick(r, "<", ">", "<=", ">=", "="), port())
		},
		func() string {
			return pick(r, "ip[8] < 64", "ip[1] & 0xfc = 0xb8", "ip[12] = 10", "ip[9] != 6", "ip[6:2] & 0x3fff != 0")
		},
		func() string { return fmt.Sprintf("port (%d or %d)", port(), port()) },
		func() string { // a calculation
			return fmt.Sprintf("%s %s %d %s %d", pick(r, "tcp[13]", "ip[9]", "ip[8]", "icmp[0]"),
				pick(r, "&", "|", "^", "+", "-", "%", ">>", "*"),
				1+r.IntN(20), pick(r, "=", "!=", "<", ">", "<=", ">="), r.IntN(80))
		},
		func() string { // a number first
			return fmt.Sprintf("%d %s %s", port(), pick(r, "=", "!=", "<", ">", "<=", ">="),
				pick(r, "tcp[0:2]", "udp[2:2]", "tcp[2:2] & 0xfff8"))
		},
		func() string {
			return pick(r, "icmp[0:2] = 0x0301", "tcp[0:4] & 0xffff00ff = 0x00500051", "ip proto gre", "ip[8:2] > 0x4006",
				"5 > 4", "tcp[13] & 3 > 0")
		},
	}
	if link == filter.Ethernet {
		all = append(all, func() string { return fmt.Sprintf("ether %shost %s", dir, pick(r, someMACs...)) },
			func() string {
				return pick(r, "ether proto 0x88cc", `ether proto \ip`, "broadcast", "ether multicast", "rarp", "ether[0] & 1 = 0",
					"ether[12:2] = 0x800",
					"ether[12:2] != 0x86dd", "ether[5:2] = 0x0102", "link src 2:0:0:0:0:1")
			})
	}
	return pick(r, all...)()
}

// RandomFilter generates a filter of primitives in brackets, which are nested up to depth.
func RandomFilter(r *rand.Rand, link filter.Link, depth int) string {
	not := pick(r, "", "", "not ", "! ")
	if depth == 0 || r.IntN(3) == 0 {
		return not + randomPrimitive(r, link)
	}
	text := RandomFilter(r, link, depth-1)
	for range 1 + r.IntN(2) {
		text += pick(r, " and ", " or ", " && ", " || ") + RandomFilter(r, link, depth-1)
	}
	if r.IntN(2) == 0 {
		text = not + "(" + text + ")"
	}
	if link == filter.Ethernet && depth == 2 && r.IntN(8) == 0 {
		text = "(" + text + ") " + pick(r, "or", "and") + " (vlan " + pick(r, "", "5 ") + "and " + RandomFilter(r, link,
			1) + ")"
	}
	return text
}

func macOf(s string) []byte {
	b := make([]byte, 0, 6)
	for octet := range bytes.SplitSeq([]byte(s), []byte(":")) {
		var v byte
		_, _ = fmt.Sscanf(string(octet), "%02x", &v)
		b = append(b, v)
	}
	return b
}

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
