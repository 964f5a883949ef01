// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

const (
	v4     = layers.EthernetTypeIPv4
	v6     = layers.EthernetTypeIPv6
	vUDP   = layers.IPProtocolUDP
	vICMP6 = layers.IPProtocolICMPv6
	inIP4  = layers.IPProtocolIPv4
	inIP6  = layers.IPProtocolIPv6
)

// hello fills the smallest Ethernet frame: below it gopacket pads.
const hello = "hello, this is a payload of a fair length"

type stack = []gopacket.SerializableLayer

// Every case states the frame out in full: what the NIC makes of it once the flow is offloaded is the same.
func TestForward(t *testing.T) {
	g := newGraph(t)
	require.NoError(t, g.AddRoute(200, netip.MustParsePrefix("10.0.1.0/24"), graph.NextHop{Underlay: remote}))
	for _, c := range []struct {
		name    string
		in, out *graphtest.Port
		frame   stack
		want    stack
	}{
		{"VF to VF, IPv4", ports.vf0, ports.vf1,
			stack{eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), payload(hello)},
			stack{eth(gatewayMAC, guest1MAC, v4), ip4("10.0.0.1", "10.0.0.2", 63, vUDP), udp(1, 2), payload(hello)}},
		{"VF to VF, IPv6", ports.vf1, ports.vf0,
			stack{eth(guest1MAC, gatewayMAC, v6), ip6("fd00::2", "fd00::1", 2, vUDP), udp(1, 2), payload(hello)},
			stack{eth(gatewayMAC, guest0MAC, v6), ip6("fd00::2", "fd00::1", 1, vUDP), udp(1, 2), payload(hello)}},
		{"VF to VF by a route", ports.vf0, ports.vf1,
			stack{eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.2.9", 64, vUDP), udp(1, 2), payload(hello)},
			stack{eth(gatewayMAC, guest1MAC, v4), ip4("10.0.0.1", "10.0.2.9", 63, vUDP), udp(1, 2), payload(hello)}},
		{"VF to PF0, IPv4", ports.vf0, ports.pf0,
			stack{eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.1.5", 64, vUDP), udp(1, 2), payload(hello)},
			stack{eth(uplinkMAC, routerMAC, v6), ip6(underlay0.String(), remote.String(), 64, inIP4),
				ip4("10.0.0.1", "10.0.1.5", 63, vUDP), udp(1, 2), payload(hello)}},
		{"VF to PF0, the longer prefix", ports.vf0, ports.pf0,
			stack{eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.1.200", 64, vUDP), udp(1, 2), payload(hello)},
			stack{eth(uplinkMAC, routerMAC, v6), ip6(underlay0.String(), "fc00:3::1", 64, inIP4),
				ip4("10.0.0.1", "10.0.1.200", 63, vUDP), udp(1, 2), payload(hello)}},
		{"VF to PF0, IPv6", ports.vf1, ports.pf0,
			stack{eth(guest1MAC, gatewayMAC, v6), ip6("fd00::2", "fd00:1::9", 64, vUDP), udp(1, 2), payload(hello)},
			stack{eth(uplinkMAC, routerMAC, v6), ip6(underlay1.String(), remote.String(), 64, inIP6),
				ip6("fd00::2", "fd00:1::9", 63, vUDP), udp(1, 2), payload(hello)}},
		{"PF0 to VF, IPv4", ports.pf0, ports.vf0,
			stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)},
			stack{eth(gatewayMAC, guest0MAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}},
		{"PF0 to VF, IPv6, the last hop", ports.pf0, ports.vf1,
			stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay1.String(), 61, inIP6),
				ip6("fd00:1::9", "fd00::2", 1, vUDP), udp(2, 1), payload(hello)},
			stack{eth(gatewayMAC, guest1MAC, v6), ip6("fd00:1::9", "fd00::2", 1, vUDP), udp(2, 1), payload(hello)}},
		{"PF1 to VF", ports.pf1, ports.vf0,
			stack{eth(routerMAC, uplink1MAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)},
			stack{eth(gatewayMAC, guest0MAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}},
		{"PF0 to VF by a route", ports.pf0, ports.vf1,
			stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay1.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.2.9", 63, vUDP), udp(2, 1), payload(hello)},
			stack{eth(gatewayMAC, guest1MAC, v4), ip4("10.0.1.5", "10.0.2.9", 63, vUDP), udp(2, 1), payload(hello)}},
		{"the same address in another network", ports.pf0, ports.vf2,
			stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay2.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)},
			stack{eth(gatewayMAC, guest2MAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}},
		{"a protocol without ports", ports.vf0, ports.vf1,
			stack{eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolGRE), payload(hello)},
			stack{eth(gatewayMAC, guest1MAC, v4), ip4("10.0.0.1", "10.0.0.2", 63, layers.IPProtocolGRE), payload(hello)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, want := frame(t, c.frame...), frame(t, c.want...)
			for _, packet := range []string{"first", "second"} {
				send(t, c.in, in)
				require.Equal(t, want, receive(t, c.out), "the %s packet of the flow", packet)
			}
		})
	}
	require.Zero(t, counters(g).sum("drop_"))
}

// What a guest's driver has padded to the smallest frame keeps its padding, as in hardware; the outer length covers it.
func TestForwardPadded(t *testing.T) {
	newGraph(t)
	in := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.1.5", 64, vUDP), udp(1, 2), payload("x"))
	require.Len(t, in, 60)
	inner := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.1.5", 63, vUDP), udp(1, 2), payload("x"))[14:]
	send(t, ports.vf0, in)
	require.Equal(t, frame(t, eth(uplinkMAC, routerMAC, v6), ip6(underlay0.String(), remote.String(), 64, inIP4),
		payload(string(inner))), receive(t, ports.pf0))
}

// The checksum's update must be what a full computation gives, for every value that it can have.
func TestChecksumOfTTL(t *testing.T) {
	newGraph(t)
	const burst = 256
	for first := 0; first <= math.MaxUint16; first += burst {
		var in, want [][]byte
		for id := range burst {
			ip := ip4("10.0.0.1", "10.0.0.2", 64, vUDP)
			ip.Id = uint16(first + id)
			in = append(in, frame(t, eth(guest0MAC, gatewayMAC, v4), ip, udp(1, 2), payload("x")))
			ip.TTL--
			want = append(want, frame(t, eth(gatewayMAC, guest1MAC, v4), ip, udp(1, 2), payload("x")))
		}
		sendAll(t, ports.vf0, in)
		for i := range want {
			require.Equal(t, want[i], receive(t, ports.vf1))
		}
	}
}

func TestDrop(t *testing.T) {
	g := newGraph(t)
	other := wire.MAC{0x02, 9, 9, 9, 9, 9}
	short := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), payload("x"))[:38]
	for _, c := range []struct {
		node  string
		in    *graphtest.Port
		frame []byte
	}{
		{"drop_not_for_us", ports.vf0, frame(t, eth(guest0MAC, other, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2))},
		{"drop_multicast", ports.vf0, frame(t, eth(guest0MAC, wire.MAC{0x01, 0, 0x5e, 0, 0, 0xfb}, v4),
			ip4("10.0.0.1", "224.0.0.251", 1, vUDP), udp(5353, 5353))},
		{"drop_malformed", ports.vf0, []byte{1, 2, 3}},
		{"drop_malformed", ports.vf0, short},
		{"drop_malformed", ports.vf0, frame(t, eth(other, gatewayMAC, v6), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2),
			payload("an IPv4 packet that says IPv6"))},
		{"drop_malformed", ports.vf0, frame(t, eth(wire.MAC{0x01}, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP),
			udp(1, 2))},
		{"drop_spoofed", ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.9", "10.0.0.2", 64, vUDP),
			udp(1, 2))},
		{"drop_spoofed", ports.vf2, frame(t, eth(guest2MAC, gatewayMAC, v6), ip6("fd00::3", "fd00::2", 64, vUDP), udp(1, 2))},
		{"icmp_no_route", ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.9.0.2", 64, vUDP),
			udp(1, 2))},
		{"icmp_no_route", ports.vf2, frame(t, eth(guest2MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP),
			udp(1, 2))},
		{"icmp_time_exceeded", ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 1, vUDP),
			udp(1, 2))},
		{"icmp_time_exceeded", ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00:1::2", 0, vUDP),
			udp(1, 2))},
		{"drop_not_for_us", ports.pf0, frame(t, eth(routerMAC, other, v6),
			ip6(remote.String(), underlay0.String(), 64, inIP4),
			ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1))},
		{"drop_unsupported", ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6), ip6("fc00:2::1", "fc00:1::1", 64, vUDP),
			udp(2, 1))},
		{"drop_unsupported", ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v4), ip4("1.2.3.4", "10.0.0.1", 64, vUDP),
			udp(2, 1))},
		{"drop_unknown_underlay", ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6), ip6("fc00:2::1", "fc00:1::9", 64, inIP4),
			ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1))},
		{"icmp_no_route", ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6),
			ip6(remote.String(), underlay0.String(), 64, inIP4),
			ip4("10.0.1.5", "10.0.0.2", 63, vUDP), udp(2, 1))},
		{"drop_malformed", ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6),
			ip6(remote.String(), underlay0.String(), 64, inIP4), payload("xx"))},
		{"drop_malformed", ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6))[:20]},
	} {
		before := counters(g)
		send(t, c.in, c.frame)
		settle(t, g)
		require.Equal(t, before[c.node]+1, counters(g)[c.node], "%s of %x", c.node, c.frame)
	}
}

func TestPunt(t *testing.T) {
	g := newGraph(t)
	broadcast := wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	group := wire.MAC{0x33, 0x33, 0, 0, 0, 1}
	ns := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	echo := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0)}
	ping := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	for name, c := range map[string]struct {
		in    *graphtest.Port
		frame []byte
	}{
		"ARP": {ports.vf0, frame(t, eth(guest0MAC, broadcast, layers.EthernetTypeARP), payload("the slow path parses this"))},
		"neighbour solicitation": {ports.vf1, frame(t, eth(guest1MAC, group, v6), ip6("fd00::2", "ff02::1:ff00:1", 255,
			layers.IPProtocolICMPv6), ns, payload("0000fe80000000000001"))},
		"is a neighbour still there": {ports.vf1, frame(t, eth(guest1MAC, gatewayMAC, v6), ip6("fd00::2", "fd00::1", 255,
			layers.IPProtocolICMPv6), ns, target("fd00::1"))},
		"DHCP": {ports.vf0, frame(t, eth(guest0MAC, broadcast, v4), ip4("0.0.0.0", "255.255.255.255", 64, vUDP),
			udp(68, 67))},
		"DHCPv6": {ports.vf0, frame(t, eth(guest0MAC, group, v6), ip6("fe80::2", "ff02::1:2", 64, vUDP), udp(546, 547))},
		"ping of the gateway": {ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "169.254.0.1", 64,
			layers.IPProtocolICMPv4), payload("00000000"))},
		"ping of the IPv6 gateway": {ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fe80::1", 64,
			layers.IPProtocolICMPv6), ping, payload("0000"))},
		"ping of the gateway's other address": {ports.vf0,
			frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", gateway100.String(), 64,
				layers.IPProtocolICMPv6), ping, payload("0000"))},
		"echo reply on the underlay": {ports.pf0,
			frame(t, eth(routerMAC, uplinkMAC, v6), ip6("fe80::9", uplinkIP.String(), 64,
				layers.IPProtocolICMPv6), echo, payload("0000"))},
	} {
		t.Run(name, func(t *testing.T) {
			send(t, c.in, c.frame)
			require.Equal(t, graph.Punt{Port: c.in.ID, Frame: c.frame}, <-g.Punts())
		})
	}
}

// TestControlOfAnotherGuestIsForwarded sends one guest what only the gateway would answer: it is not the gateway's.
func TestControlOfAnotherGuestIsForwarded(t *testing.T) {
	g := newGraph(t)
	icmp := func(kind uint8) *layers.ICMPv6 { return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)} }
	for name, c := range map[string][]byte{
		"DHCP": frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(67, 67),
			payload(hello)),
		"DHCPv6": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 64, vUDP), udp(547, 547),
			payload(hello)),
		"solicitation": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 64, vICMP6), icmp(135),
			target("fd00::2")),
		"for another": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 255, vICMP6), icmp(135),
			target("fd00::9")),
		"cut short": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 255, vICMP6), icmp(135),
			payload("00000000")),
		"router": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 255, vICMP6), icmp(133),
			payload("0000")),
		"advertisement": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 255, vICMP6), icmp(136),
			target("fd00::1")),
		"redirect": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 255, vICMP6), icmp(137),
			target("fd00::1")),
		"router adverts": frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 255, vICMP6), icmp(134),
			target("fd00::1")),
	} {
		t.Run(name, func(t *testing.T) {
			send(t, ports.vf0, c)
			got := receive(t, ports.vf1)
			require.Equal(t, guest1MAC[:], got[:6])
			require.Equal(t, c[len(c)-8:], got[len(got)-8:])
		})
	}
	settle(t, g)
	require.Zero(t, counters(g)["punt"])
}

// target is what follows a neighbour message's checksum: reserved bytes and an address.
func target(ip string) gopacket.Payload { return append(make([]byte, 4), addr(ip).AsSlice()...) }

// TestAnotherSourceIsShown has a guest whose MAC has changed: its frames are forwarded, and the slow path sees one.
func TestAnotherSourceIsShown(t *testing.T) {
	g := newGraph(t)
	moved := wire.MAC{0x02, 0, 0, 0, 1, 0x99}
	in := frame(t, eth(moved, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), payload(hello))
	const frames = 20
	for range frames {
		send(t, ports.vf0, in)
		receive(t, ports.vf1)
	}
	var shown graph.Punt
	require.Eventually(t, func() bool { // another test may have taken the copy of this second
		select {
		case shown = <-g.Punts():
			return true
		default:
			send(t, ports.vf0, in)
			receive(t, ports.vf1)
			return false
		}
	}, waitLong, tick)
	require.Equal(t, graph.Punt{Port: ports.vf0.ID, Frame: in}, shown)
	require.InDelta(t, 1, counters(g)["guest_moved"], 1, "one a second, not one for each frame")
}

func TestPuntFull(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.PuntRate = 1e9 })
	arp := frame(t, eth(guest0MAC, gatewayMAC, layers.EthernetTypeARP), payload("flood"))
	for range 3000 { // the port's share, the channel and what lies between hold less
		send(t, ports.vf0, arp)
		if sent%500 == 0 {
			settle(t, g)
		}
	}
	settle(t, g)
	require.NotZero(t, counters(g)["drop_punt_full"])
	other := frame(t, eth(guest1MAC, gatewayMAC, layers.EthernetTypeARP), payload("another guest's"))
	send(t, ports.vf1, other)
	settle(t, g)
	for p := range g.Punts() { // not lost, behind what waited before
		if p.Port == ports.vf1.ID {
			require.Equal(t, other, p.Frame)
			break
		}
	}
}

// TestPuntRate floods from one port faster than it may, and finds that another is not held up.
func TestPuntRate(t *testing.T) {
	const burst = 8
	g := newGraph(t, func(c *nodes.Config) { c.PuntRate, c.PuntBurst = 1, burst })
	flood := frame(t, eth(guest0MAC, gatewayMAC, layers.EthernetTypeARP), payload("flood"))
	other := frame(t, eth(guest1MAC, gatewayMAC, layers.EthernetTypeARP), payload("another guest's"))
	for range 200 {
		send(t, ports.vf0, flood)
	}
	send(t, ports.vf1, other)
	settle(t, g)
	dropped := counters(g)["drop_punt_rate"]
	require.InDelta(t, 200-burst, dropped, 20, "at most the burst, and some for the seconds that it took")
	from := map[uint16]uint64{}
	for range 200 - dropped + 1 {
		from[(<-g.Punts()).Port]++
	}
	require.Equal(t, map[uint16]uint64{ports.vf0.ID: 200 - dropped, ports.vf1.ID: 1}, from)
}

func TestInject(t *testing.T) {
	g := newGraph(t)
	out := frame(t, eth(gatewayMAC, guest0MAC, layers.EthernetTypeARP), payload("reply"))
	require.NoError(t, g.Inject(ports.vf0.ID, out))
	require.Equal(t, out, receive(t, ports.vf0))
	require.ErrorIs(t, g.Inject(99, out), graph.ErrNotFound)
	require.ErrorIs(t, g.Inject(ports.vf0.ID, nil), graph.ErrInvalid)
	require.ErrorIs(t, g.Inject(ports.vf0.ID, make([]byte, 1515)), graph.ErrInvalid)
}

func TestSegmentedPacket(t *testing.T) {
	newGraph(t)
	in := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2),
		payload("a packet in pieces"))
	require.NoError(t, ports.vf0.Send(0, in, 16))
	sent++
	require.Equal(t, frame(t, eth(gatewayMAC, guest1MAC, v4), ip4("10.0.0.1", "10.0.0.2", 63, vUDP), udp(1, 2),
		payload("a packet in pieces")), receive(t, ports.vf1))
}

func TestPortFull(t *testing.T) {
	g := newGraph(t)
	filled, err := ports.vf1.Fill(0)
	require.NoError(t, err)
	require.NotZero(t, filled)
	send(t, ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2)))
	settle(t, g)
	require.EqualValues(t, 1, counters(g)["drop_tx"])
}

// Bursts in which every packet goes another way, and the first packets of a flow come together. Within a flow order is
// kept.
func TestBurst(t *testing.T) {
	g := newGraph(t)
	r := rand.New(rand.NewPCG(5, 6))
	want := map[*graphtest.Port]map[uint16][]string{ports.vf1: {}, ports.pf0: {}}
	got := map[*graphtest.Port]map[uint16][]string{ports.vf1: {}, ports.pf0: {}}
	for range 20 {
		var burst [][]byte
		for range 200 {
			out, dst := ports.vf1, "10.0.0.2"
			switch r.IntN(8) {
			case 0:
				out, dst = ports.pf0, "10.0.1.5"
			case 1:
				burst = append(burst, fromGuest0(t, "203.0.113.1", vUDP, udp(1, 2), payload(hello)))
				continue
			case 2:
				burst = append(burst, []byte(hello))
				continue
			}
			flow, text := uint16(r.IntN(40)), fmt.Sprintf("%s %d", hello, r.Uint32())
			burst = append(burst, fromGuest0(t, dst, vUDP, udp(flow, 2), payload(text)))
			want[out][flow] = append(want[out][flow], text)
		}
		require.NoError(t, ports.vf0.SendBurst(0, burst))
		sent += uint64(len(burst))
		settle(t, g)
		for port, l4 := range map[*graphtest.Port]int{ports.vf1: 14 + 20, ports.pf0: 54 + 20} {
			for f := port.Receive(0); f != nil; f = port.Receive(0) {
				flow := binary.BigEndian.Uint16(f[l4:])
				got[port][flow] = append(got[port][flow], string(f[l4+8:]))
			}
		}
	}
	require.Equal(t, want, got)
}
