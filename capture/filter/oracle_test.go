// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"dpservice/test/report"
)

// oracle is a filter as libpcap compiles it.
type oracle struct{ vm *bpf.VM }

// newOracle has tcpdump compile a filter; an error is libpcap's. Not optimized: libpcap 1.10's optimizer makes of
// `tcp[13] & 2 = 2 || ! (! port 80 or tcp[13] & 2 = 2) || port 79` a program that refuses UDP from port 79.
func newOracle(t *testing.T, text string, link Link) (*oracle, error) {
	t.Helper()
	linkName := map[Link]string{Ethernet: "EN10MB", IP: "RAW"}[link]
	out, err := exec.CommandContext(context.Background(), "tcpdump", "-O", "-y", linkName, "-ddd", text).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("tcpdump: %s", out)
	}
	var raw []bpf.RawInstruction
	for line := range strings.Lines(string(out)) {
		var i bpf.RawInstruction
		if n, _ := fmt.Sscan(line, &i.Op, &i.Jt, &i.Jf, &i.K); n == 4 {
			raw = append(raw, i)
		}
	}
	program, ok := bpf.Disassemble(raw)
	require.True(t, ok, "%s", out)
	vm, err := bpf.NewVM(program)
	require.NoError(t, err, "%s: %s", text, out)
	return &oracle{vm}, nil
}

func (o *oracle) accepts(t *testing.T, packet []byte) bool {
	t.Helper()
	n, err := o.vm.Run(packet)
	require.NoError(t, err)
	return n > 0
}

// packet is a packet with what a NIC knows of it.
type packet struct {
	data   []byte
	values Pattern // the fields' values
	unlike bool    // libpcap and NICs are known to look at it differently, as the documentation says
}

// decide runs a packet through a program, as a NIC does.
func (p *packet) decide(program Program) bool {
	for _, r := range program.Rules {
		if p.matches(r.Pattern) {
			return r.Sample
		}
	}
	panic("a packet that no rule matches")
}

func (p *packet) matches(pattern Pattern) bool {
	for f, c := range pattern {
		for i := range c.Mask {
			if p.values[f].Value[i]&c.Mask[i] != c.Value[i] {
				return false
			}
		}
	}
	return true
}

func (p *packet) set(f Field, value ...byte) { copy(p.values[f].Value[:], value) }

// Values that are close together, so that filters and packets meet.
var (
	somePorts = []int{0, 1, 79, 80, 81, 443, 1023, 1024, 3128, 5004, 8079, 8080, 49152, 65535}
	someV4    = []string{"10.0.0.9", "10.0.0.8", "10.0.1.9", "192.168.7.1", "224.0.0.251"}
	someV6    = []string{"2001:db8::9", "2001:db8::8", "fe80::1", "ff02::fb", "2001:db8:1::9"}
	someMACs  = []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"}
	someFlags = []byte{0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x00, 0xc2}
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// randomPacket makes a packet and, beside it, says what is in it.
func randomPacket(r *rand.Rand, link Link) *packet {
	p := &packet{}
	if link == IP {
		p.randomIP(r, pick(r, typeIPv4, typeIPv6), link)
		return p
	}
	dst, src := macOf(pick(r, someMACs...)), macOf(pick(r, someMACs[:2]...))
	p.data = append(append(p.data, dst...), src...)
	p.set(EthDst, dst...)
	p.set(EthSrc, src...)
	kind := pick(r, typeIPv4, typeIPv4, typeIPv4, typeIPv6, typeIPv6, typeARP, typeRARP, 0x88cc)
	typeBytes := binary.BigEndian.AppendUint16(nil, uint16(kind))
	if r.IntN(4) > 0 {
		p.set(EtherType, typeBytes...)
	} else {
		tpid := pick(r, typeVLAN, typeQinQ)
		tci := binary.BigEndian.AppendUint16(nil, pick[uint16](r, 5, 6, 0x2005))
		p.data = append(binary.BigEndian.AppendUint16(p.data, uint16(tpid)), tci...)
		p.set(Tagged, 1)
		p.set(VLANTCI, tci...)
		p.set(VLANType, typeBytes...)
		p.set(EtherType, byte(tpid>>8), byte(tpid))
	}
	p.data = append(p.data, typeBytes...)
	switch kind {
	case typeARP, typeRARP:
		p.randomARP(r)
	case typeIPv4, typeIPv6:
		p.randomIP(r, kind, link)
	default:
		p.data = append(p.data, make([]byte, 60)...)
	}
	return p
}

func (p *packet) randomARP(r *rand.Rand) {
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	arp = append(append(arp, make([]byte, 6)...), addr(pick(r, someV4...))...)
	arp = append(append(arp, make([]byte, 6)...), addr(pick(r, someV4...))...)
	p.data = append(append(p.data, arp...), make([]byte, 30)...)
}

func (p *packet) randomIP(r *rand.Rand, kind int, link Link) {
	if link == IP {
		p.set(EtherType, byte(kind>>8), byte(kind))
	}
	proto := pick[byte](r, protoTCP, protoTCP, protoUDP, protoUDP, protoICMP, protoICMP6, protoSCTP, 2, 50)
	tos, ttl := pick[byte](r, 0, 0xb8), pick[byte](r, 1, 64, 255)
	p.set(Proto, proto)
	p.set(TOS, tos)
	p.set(TTL, ttl)
	var whole bool
	if kind == typeIPv4 {
		whole = p.randomIPv4(r, proto, tos, ttl)
	} else {
		whole = p.randomIPv6(r, proto, tos, ttl)
	}
	p.randomL4(r, proto, kind, whole)
}

func (p *packet) randomIPv4(r *rand.Rand, proto, tos, ttl byte) (whole bool) {
	fragment := uint16(0)
	if r.IntN(6) == 0 {
		fragment = pick[uint16](r, 0x2000, 0x0010, 0x2010, 0x4000)
	}
	options := 4 * r.IntN(3)
	src, dst := addr(pick(r, someV4...)), addr(pick(r, someV4...))
	h := []byte{0x45 + byte(options/4), tos, 0, byte(60 + options), 1, 2, byte(fragment >> 8), byte(fragment), ttl, proto, 0, 0}
	h = append(append(append(h, src...), dst...), make([]byte, options)...)
	p.data = append(p.data, h...)
	p.set(Src, src...)
	p.set(Dst, dst...)
	whole = fragment&0x3fff == 0
	if !whole {
		p.set(Fragment, 1)
	}
	p.unlike = fragment&0x3fff == 0x2000 // a first fragment, in which libpcap finds the ports
	return whole
}

func (p *packet) randomIPv6(r *rand.Rand, proto, tos, ttl byte) (whole bool) {
	src, dst := addr(pick(r, someV6...)), addr(pick(r, someV6...))
	h := []byte{0x60 | tos>>4, tos << 4, 0, 0, 0, 48, proto, ttl}
	p.data = append(append(append(p.data, h...), src...), dst...)
	p.set(Src, src...)
	p.set(Dst, dst...)
	next := len(p.data) - 34
	switch r.IntN(8) {
	case 0: // a fragment, libpcap knows its protocol
		p.data[next] = 44
		p.data = append(p.data, proto, 0, 0, 0x11, 0, 0, 0, 1)
		return false
	case 1: // an extension header, behind which libpcap does not look
		p.data[next] = 60
		p.data = append(p.data, proto, 0, 1, 4, 0, 0, 0, 0)
		p.unlike = true
	}
	return true
}

func (p *packet) randomL4(r *rand.Rand, proto byte, kind int, whole bool) {
	ports := binary.BigEndian.AppendUint16(nil, uint16(pick(r, somePorts...)))
	ports = binary.BigEndian.AppendUint16(ports, uint16(pick(r, somePorts...)))
	body := make([]byte, 40)
	copy(body, ports)
	switch proto {
	case protoTCP:
		body[13] = pick(r, someFlags...)
		body[12] = 0x50
	case protoICMP, protoICMP6:
		body[0], body[1] = pick[byte](r, 0, 3, 8, 128, 135), pick[byte](r, 0, 1)
	}
	p.data = append(p.data, body...)
	if !whole {
		return
	}
	switch {
	case proto == protoTCP || proto == protoUDP:
		p.set(SrcPort, body[:2]...)
		p.set(DstPort, body[2:4]...)
		p.set(L4, 1)
		if proto == protoTCP {
			p.set(TCPFlags, body[13])
		}
	case proto == protoICMP && kind == typeIPv4, proto == protoICMP6 && kind == typeIPv6:
		p.set(ICMPType, body[0])
		p.set(ICMPCode, body[1])
		p.set(L4, 1)
	}
}

// hidden reports whether the packet has what only libpcap looks at.
func (p *packet) hidden() bool {
	t := p.values[EtherType].Value
	if p.values[Tagged].Value[0] == 1 {
		t = p.values[VLANType].Value
	}
	kind := binary.BigEndian.Uint16(t[:])
	return kind == typeARP || kind == typeRARP || p.values[Proto].Value[0] == protoSCTP
}

// randomPrimitive is a primitive of any kind.
func randomPrimitive(r *rand.Rand, link Link) string {
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
			return fmt.Sprintf("tcp[%s] & (tcp-syn|tcp-ack) %s %s", pick(r, "tcpflags", "13"), pick(r, "=", "!=", "=="), pick(r, "0", "tcp-syn", "18"))
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
	}
	if link == Ethernet {
		all = append(all, func() string { return fmt.Sprintf("ether %shost %s", dir, pick(r, someMACs...)) },
			func() string {
				return pick(r, "ether proto 0x88cc", `ether proto \ip`, "broadcast", "ether multicast", "rarp")
			})
	}
	return pick(r, all...)()
}

func randomFilter(r *rand.Rand, link Link, depth int) string {
	not := pick(r, "", "", "not ", "! ")
	if depth == 0 || r.IntN(3) == 0 {
		return not + randomPrimitive(r, link)
	}
	text := randomFilter(r, link, depth-1)
	for range 1 + r.IntN(2) {
		text += pick(r, " and ", " or ", " && ", " || ") + randomFilter(r, link, depth-1)
	}
	if r.IntN(2) == 0 {
		text = not + "(" + text + ")"
	}
	if link == Ethernet && depth == 2 && r.IntN(8) == 0 {
		text = "(" + text + ") " + pick(r, "or", "and") + " (vlan " + pick(r, "", "5 ") + "and " + randomFilter(r, link, 1) + ")"
	}
	return text
}

// Whatever the filter and the packet, rules decide like libpcap, but for what the documentation names.
func TestFiltersDecideLikeLibpcap(t *testing.T) {
	const filters, packets = 300, 300
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	compared, refused, accepted, rules := 0, 0, 0, 0
	for range filters {
		link := pick(r, Ethernet, Ethernet, IP)
		text := randomFilter(r, link, 2)
		reference, err := newOracle(t, text, link)
		program, failed := Compile(text, link, maxDecisions)
		if err != nil {
			// libpcap finds out that some expressions can never be true, and refuses them.
			require.ErrorContains(t, err, "expression rejects all packets", text)
			continue
		}
		if failed != nil {
			var e *Error
			require.ErrorAs(t, failed, &e)
			require.NotEqual(t, Syntax, e.Kind, "%s: %v", text, failed)
			refused++
			continue
		}
		rules += len(program.Rules)
		for range packets {
			p := randomPacket(r, link)
			if p.unlike || len(program.Notes) > 0 && p.hidden() {
				continue
			}
			want := reference.accepts(t, p.data)
			require.Equal(t, want, p.decide(program), "%s\nseed %d\npacket %x\n%v", text, seed, p.data, program.Rules)
			compared++
			if want {
				accepted++
			}
		}
	}
	require.Less(t, refused, filters/3)
	require.Greater(t, accepted, compared/20)
	require.Less(t, accepted, compared*19/20)
	report.Printf(t, "filters beside libpcap: %d, %d refused, %d packets compared, %d accepted, %d rules", filters, refused, compared, accepted, rules)
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
