// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
)

const (
	inICMP4 = layers.IPProtocolICMPv4
	inICMP6 = layers.IPProtocolICMPv6
)

// error4 is the gateway's ICMP error to a guest: all of it but the headers that carry it.
func error4(to string, kind, code uint8, mtu uint16, quoted []byte) stack {
	ip := ip4("169.254.0.1", to, 64, inICMP4)
	ip.Id, ip.TOS, ip.Flags = 0, 0xc0, layers.IPv4DontFragment
	return stack{ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Seq: mtu}, gopacket.Payload(quoted)}
}

func error6(to string, kind uint8, mtu uint16, quoted []byte) stack {
	body := append([]byte{0, 0, byte(mtu >> 8), byte(mtu)}, quoted...)
	return stack{ip6(gateway100.String(), to, 64, inICMP6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)},
		gopacket.Payload(body)}
}

func text(n int) gopacket.Payload { return payload(strings.Repeat("0123456789abcdef", n/16+1)[:n]) }

// What a router tells the sender of a packet that it does not forward, in full, whichever side that is on.
func TestErrors(t *testing.T) {
	g := newGraph(t)
	from0, to0 := eth(guest0MAC, gatewayMAC, v4), eth(gatewayMAC, guest0MAC, v4)
	from0v6, to0v6 := eth(guest0MAC, gatewayMAC, v6), eth(gatewayMAC, guest0MAC, v6)
	df := func(ip *layers.IPv4) *layers.IPv4 { ip.Flags = layers.IPv4DontFragment; return ip }
	tunnel := func(proto layers.IPProtocol) stack {
		return stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, proto)}
	}
	back := func(proto layers.IPProtocol) stack {
		return stack{eth(uplinkMAC, routerMAC, v6), ip6(underlay0.String(), remote.String(), 64, proto)}
	}
	for _, c := range []struct {
		name        string
		in          *graphtest.Port
		outer, sent stack
		carry       stack
		want        func(quoted []byte) stack
		quoted      int // bytes; 0: all
	}{
		{"hops used up, IPv4", ports.vf0, stack{from0},
			stack{ip4("10.0.0.1", "10.0.0.2", 1, vUDP), udp(1, 2), payload(hello)},
			stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 11, 0, 0, q) }, 0},
		{"hops used up on the way to another node, IPv6", ports.vf0, stack{from0v6},
			stack{ip6("fd00::1", "fd00:1::9", 1, vUDP), udp(1, 2), payload(hello)},
			stack{to0v6}, func(q []byte) stack { return error6("fd00::1", 3, 0, q) }, 0},
		{"hops used up, a long packet", ports.vf0, stack{from0},
			stack{ip4("10.0.0.1", "10.0.0.2", 0, vUDP), udp(1, 2), text(1000)},
			stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 11, 0, 0, q) }, 548},
		{"hops used up before the size matters", ports.vf0, stack{from0},
			stack{df(ip4("10.0.0.1", "10.0.1.5", 1, vUDP)), udp(1, 2), text(1472)},
			stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 11, 0, 0, q) }, 548},
		{"no route, IPv4", ports.vf0, stack{from0},
			stack{ip4("10.0.0.1", "203.0.113.1", 64, vUDP), udp(1, 2), payload(hello)},
			stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 3, 0, 0, q) }, 0},
		{"no route, IPv6", ports.vf0, stack{from0v6},
			stack{ip6("fd00::1", "2001:db8::1", 64, vUDP), udp(1, 2), payload(hello)},
			stack{to0v6}, func(q []byte) stack { return error6("fd00::1", 1, 0, q) }, 0},
		{"no route, from the wire", ports.pf0, tunnel(inIP4),
			stack{ip4("10.0.1.5", "10.0.0.9", 63, vUDP), udp(1, 2), payload(hello)},
			back(inIP4), func(q []byte) stack { return error4("10.0.1.5", 3, 0, 0, q) }, 0},
		{"too big for the uplink, IPv4", ports.vf0, stack{from0},
			stack{df(ip4("10.0.0.1", "10.0.1.5", 64, vUDP)), udp(1, 2), text(1433)},
			stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 3, 4, 1460, q) }, 548},
		{"too big for the uplink, IPv6", ports.vf0, stack{from0v6},
			stack{ip6("fd00::1", "fd00:1::9", 64, vUDP), udp(1, 2), text(1413)},
			stack{to0v6}, func(q []byte) stack { return error6("fd00::1", 2, 1460, q) }, 1232},
		{"too big for the guest, from the wire, IPv4", ports.pf0, tunnel(inIP4),
			stack{df(ip4("10.0.1.5", "10.0.0.1", 63, vUDP)), udp(1, 2), text(1473)},
			back(inIP4), func(q []byte) stack { return error4("10.0.1.5", 3, 4, 1500, q) }, 548},
		{"too big for the guest, from the wire, IPv6", ports.pf0, tunnel(inIP6),
			stack{ip6("fd00:1::9", "fd00::1", 63, vUDP), udp(1, 2), text(1453)},
			back(inIP6), func(q []byte) stack { return error6("fd00:1::9", 2, 1500, q) }, 1232},
		{"the first fragment", ports.vf0, stack{from0}, stack{func() *layers.IPv4 {
			ip := ip4("10.0.0.1", "203.0.113.1", 64, vUDP)
			ip.Flags = layers.IPv4MoreFragments
			return ip
		}(), payload(hello)}, stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 3, 0, 0, q) }, 0},
		{"a ping", ports.vf0, stack{from0}, stack{ip4("10.0.0.1", "203.0.113.1", 64, inICMP4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 2}, payload(hello)},
			stack{to0}, func(q []byte) stack { return error4("10.0.0.1", 3, 0, 0, q) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			packet := frame(t, c.sent...)
			quoted := packet
			if c.quoted != 0 {
				quoted = packet[:c.quoted]
			}
			send(t, c.in, frame(t, append(c.outer, c.sent...)...))
			require.Equal(t, frame(t, append(c.carry, c.want(quoted)...)...), receive(t, c.in))
		})
	}
	require.Zero(t, counters(g).sum("drop_"))
}

// About these no error must ever be sent: RFC 1812, 4.3.2.7, and RFC 4443, 2.4 e.
func TestNoErrors(t *testing.T) {
	g := newGraph(t)
	from4, from6 := eth(guest0MAC, gatewayMAC, v4), eth(guest0MAC, gatewayMAC, v6)
	icmp4 := func(kind uint8) *layers.ICMPv4 { return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0)} }
	icmp6 := func(kind uint8) *layers.ICMPv6 { return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)} }
	later := ip4("10.0.0.1", "203.0.113.1", 64, vUDP)
	later.FragOffset = 8
	second := []byte{17, 0, 0, 8, 0, 0, 0, 1}
	quoting := []byte{58, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0}
	for name, s := range map[string]stack{
		"ICMP error":               {from4, ip4("10.0.0.1", "203.0.113.1", 64, inICMP4), icmp4(3), payload(hello)},
		"ICMP time exceeded":       {from4, ip4("10.0.0.1", "203.0.113.1", 64, inICMP4), icmp4(11), payload(hello)},
		"ICMP redirect":            {from4, ip4("10.0.0.1", "203.0.113.1", 64, inICMP4), icmp4(5), payload(hello)},
		"ICMP without a type":      {from4, ip4("10.0.0.1", "203.0.113.1", 64, inICMP4)},
		"ICMPv6 error":             {from6, ip6("fd00::1", "2001:db8::1", 64, inICMP6), icmp6(1), payload(hello)},
		"ICMPv6 error, fragment":   {from6, ip6("fd00::1", "2001:db8::1", 64, 44), payload(string(quoting))},
		"later fragment":           {from4, later, payload(hello)},
		"later fragment, IPv6":     {from6, ip6("fd00::1", "2001:db8::1", 64, 44), payload(string(second) + hello)},
		"multicast":                {from4, ip4("10.0.0.1", "224.0.0.5", 64, vUDP), udp(1, 2), payload(hello)},
		"broadcast":                {from4, ip4("10.0.0.1", "255.255.255.255", 64, vUDP), udp(1, 2), payload(hello)},
		"multicast, IPv6":          {from6, ip6("fd00::1", "ff0e::5", 64, vUDP), udp(1, 2), payload(hello)},
		"spoofed, hops used up":    {from4, ip4("10.0.0.9", "10.0.0.2", 1, vUDP), udp(1, 2), payload(hello)},
		"spoofed, without a route": {from6, ip6("fd00::9", "2001:db8::1", 64, vUDP), udp(1, 2), payload(hello)},
	} {
		before := counters(g).sum("drop_")
		send(t, ports.vf0, frame(t, s...))
		settle(t, g)
		require.Equal(t, before+1, counters(g).sum("drop_"), name)
	}
	// From the wire: nobody to tell.
	for name, c := range map[string]struct{ src, node string }{
		"sender without a route": {"198.51.100.1", "drop_wrong_peer"},
		"sender is a group":      {"224.0.0.1", "drop_martian_source"},
		"sender is loopback":     {"127.0.0.1", "drop_martian_source"},
	} {
		before := counters(g)[c.node]
		send(t, ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
			ip4(c.src, "10.0.0.9", 63, vUDP), udp(1, 2), payload(hello)))
		settle(t, g)
		require.Equal(t, before+1, counters(g)[c.node], name)
	}
}

// A guest gets no more errors than a bucket holds and a second refills, and takes none from another's.
func TestErrorsAreRateLimited(t *testing.T) {
	g := newGraph(t)
	const flood = 200
	for range flood {
		send(t, ports.vf0, fromGuest0(t, "203.0.113.1", vUDP, udp(1, 2), payload(hello)))
	}
	settle(t, g)
	dropped := counters(g)["drop_no_route"]
	require.Less(t, dropped, uint64(flood-49), "a burst is answered")
	require.Greater(t, dropped, uint64(0), "but not all of it")
	send(t, ports.vf1, frame(t, eth(guest1MAC, gatewayMAC, v4), ip4("10.0.0.2", "203.0.113.1", 64, vUDP), udp(1, 2),
		payload(hello)))
	receive(t, ports.vf1)
	require.Eventually(t, func() bool { // the bucket fills again
		before := counters(g)["drop_no_route"]
		send(t, ports.vf0, fromGuest0(t, "203.0.113.1", vUDP, udp(1, 2), payload(hello)))
		settle(t, g)
		return counters(g)["drop_no_route"] == before
	}, waitLong, tick)
}

// reassemble puts the payload of an IPv4 packet's fragments together, and requires that they are sound.
func reassemble(t *testing.T, fragments [][]byte, mtu int) []byte {
	t.Helper()
	var whole []byte
	for i, f := range fragments {
		p := gopacket.NewPacket(f, layers.LayerTypeIPv4, gopacket.Default)
		ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		require.LessOrEqual(t, int(ip.Length), mtu)
		require.Equal(t, len(whole)/8, int(ip.FragOffset))
		require.Equal(t, i < len(fragments)-1, ip.Flags&layers.IPv4MoreFragments != 0)
		require.EqualValues(t, 63, ip.TTL)
		sum := *ip
		buf := gopacket.NewSerializeBuffer()
		require.NoError(t, sum.SerializeTo(buf, gopacket.SerializeOptions{ComputeChecksums: true}))
		require.Equal(t, f[:20], buf.Bytes()[:20], "checksum")
		whole = append(whole, ip.Payload...)
	}
	return whole
}

// An IPv4 packet that may be cut is cut, whichever way it goes.
func TestFragment(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) {
		for i := range c.Ports {
			c.Ports[i].MTU = map[string]uint16{"vf1": 700, "vf0": 1000}[c.Ports[i].Name]
		}
	})
	outer := stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4)}
	for _, c := range []struct {
		name      string
		in, out   *graphtest.Port
		outer     stack
		ip        *layers.IPv4
		skip, mtu int
		fragments int
	}{
		{"to a guest", ports.vf0, ports.vf1, stack{eth(guest0MAC, gatewayMAC, v4)}, ip4("10.0.0.1", "10.0.0.2", 64, vUDP), 14,
			700, 3},
		{"to the wire", ports.vf0, ports.pf0, stack{eth(guest0MAC, gatewayMAC, v4)}, ip4("10.0.0.1", "10.0.1.5", 64, vUDP),
			54, 1460, 2},
		{"from the wire", ports.pf0, ports.vf0, outer, ip4("10.0.1.5", "10.0.0.1", 63, vUDP), 14, 1000, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			packet := frame(t, c.ip, udp(1, 2), text(1465))
			for range 2 {
				send(t, c.in, frame(t, append(c.outer, gopacket.Payload(packet))...))
				made += uint64(c.fragments - 1)
				var fragments [][]byte
				for range c.fragments {
					f := receive(t, c.out)
					if c.skip == 54 {
						require.Equal(t, len(f)-54, int(f[18])<<8|int(f[19]), "the tunnel's length")
					}
					fragments = append(fragments, f[c.skip:])
				}
				require.Equal(t, packet[20:], reassemble(t, fragments, c.mtu))
			}
		})
	}
	require.Zero(t, counters(g).sum("drop_"))
}

// Hardware would drop such packets without a word: their flows stay in software, also those that it has already.
func TestOversizeFlowsStayInSoftware(t *testing.T) {
	g := newGraph(t)
	long := fromGuest0(t, "10.0.1.5", vUDP, udp(1, 2), text(1450))
	cut := func() {
		send(t, ports.vf0, long)
		made++
		receive(t, ports.pf0)
		receive(t, ports.pf0)
	}
	send(t, ports.vf0, fromGuest0(t, "10.0.1.5", vUDP, udp(1, 2), payload(hello)))
	receive(t, ports.pf0)
	e := nextEvent(t, g)
	require.Equal(t, graph.FlowNew, e.Kind)
	require.NoError(t, g.SetOffloaded([]uint64{e.Flow.ID}, true))
	cut()
	gone := nextEvent(t, g)
	require.Equal(t, graph.FlowGone, gone.Kind)
	require.Equal(t, e.Flow.ID, gone.Flow.ID)
	require.ErrorIs(t, g.SetOffloaded([]uint64{e.Flow.ID}, true), graph.ErrNotFound, "an offload that comes late")
	require.False(t, allFlows(g)[0].Offloaded)
	cut()
	send(t, ports.vf0, fromGuest0(t, "10.0.1.5", vUDP, udp(1, 2), payload(hello)))
	receive(t, ports.pf0)
	requireNoEvent(t, g)
}

// Whatever the header says: nothing crashes, and what goes out fits.
func TestRandomOversize(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) {
		for i := range c.Ports {
			c.Ports[i].MTU = 300
		}
	})
	unbalanced = true
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 3000 {
		in := fromGuest0(t, []string{"10.0.0.2", "10.0.1.5"}[r.IntN(2)], vUDP, udp(1, 2), text(r.IntN(1400)))
		in[14] = 0x45 + byte(r.IntN(11)) // options, of noise
		for range r.IntN(3) {
			in[14+1+r.IntN(40)] = byte(r.Uint32())
		}
		send(t, ports.vf0, in)
		if i%20 != 0 {
			continue
		}
		settle(t, g)
		for _, p := range allPorts() {
			for f := p.Receive(0); f != nil; f = p.Receive(0) {
				require.LessOrEqual(t, len(f), 14+300, "%x", f)
			}
		}
	}
	require.NotZero(t, counters(g)["oversize"])
}
