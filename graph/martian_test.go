// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/nodes"
)

// martians are addresses that no router forwards to, and the nodes that drop what a guest sends there.
var martians = map[string]string{
	"0.0.0.0": "drop_unspecified", "0.0.0.5": "drop_reserved", "127.0.0.1": "drop_loopback",
	"127.255.255.255": "drop_loopback",
	"169.254.0.0":     "drop_link_local", "169.254.169.254": "drop_link_local", "169.254.0.1": "drop_to_gateway",
	"224.0.0.5": "drop_multicast", "239.255.255.255": "drop_multicast", "240.0.0.1": "drop_reserved",
	"255.255.255.254": "drop_reserved", "255.255.255.255": "drop_broadcast",
	"::": "drop_unspecified", "::1": "drop_loopback", "fe80::1": "drop_to_gateway", "fe80::1234": "drop_link_local",
	"febf:ffff::1": "drop_link_local", "ff02::5": "drop_multicast", "ff0e::5": "drop_multicast",
	"::ffff:10.0.0.5": "drop_reserved", gateway100.String(): "drop_to_gateway",
}

// neighbours are addresses beside those ranges: they are forwarded.
var neighbours = []string{
	"1.0.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "223.255.255.255", "8.8.8.8",
	"::2", "::fffe:0:1", "fe7f::1", "fec0::1", "feff::1", gateway200.String(), "2001:db8::9",
}

// datagram is a datagram of either family, with its EtherType and the protocol number of IP in IP for it.
func datagram(src, dst string) (stack, layers.EthernetType, layers.IPProtocol) {
	if netip.MustParseAddr(dst).Is4() {
		return stack{ip4(src, dst, 9, vUDP), udp(1, 2), payload(hello)}, v4, inIP4
	}
	ip := ip6(src, dst, 9, vUDP)
	ip.SrcIP, ip.DstIP = ip.SrcIP.To16(), ip.DstIP.To16()
	return stack{ip, udp(1, 2), payload(hello)}, v6, inIP6
}

func withDefaultRoutes(t *testing.T) *nodes.Graph {
	g := newGraph(t)
	for _, prefix := range []string{"0.0.0.0/0", "::/0"} {
		require.NoError(t, g.AddRoute(100, netip.MustParsePrefix(prefix), graph.NextHop{Underlay: remote}))
	}
	return g
}

func own(ip string) string {
	if netip.MustParseAddr(ip).Is4() {
		return "10.0.0.1"
	}
	return "fd00::1"
}

// A default route leads to no address that no router forwards to. It is no flow, so the NIC gets no rule for it.
func TestMartianDestinations(t *testing.T) {
	g := withDefaultRoutes(t)
	for dst, node := range martians {
		inner, kind, _ := datagram(own(dst), dst)
		before := counters(g)[node]
		send(t, ports.vf0, frame(t, append(stack{eth(guest0MAC, gatewayMAC, kind)}, inner...)...))
		settle(t, g)
		require.Equal(t, before+1, counters(g)[node], "%s to %s", node, dst)
	}
	require.Empty(t, allFlows(g))
	for _, dst := range neighbours {
		inner, kind, _ := datagram(own(dst), dst)
		send(t, ports.vf0, frame(t, append(stack{eth(guest0MAC, gatewayMAC, kind)}, inner...)...))
		require.NotNil(t, receive(t, ports.pf0), dst)
	}
	require.Len(t, allFlows(g), len(neighbours))
}

// The same from the wire, whatever routes say, and from no such address either.
func TestMartiansFromTheWire(t *testing.T) {
	g := withDefaultRoutes(t)
	fromWire := func(src, dst string) {
		inner, _, proto := datagram(src, dst)
		send(t, ports.pf0, frame(t, append(stack{eth(routerMAC, uplinkMAC, v6),
			ip6(remote.String(), underlay0.String(), 61, proto)}, inner...)...))
	}
	for ip, node := range martians {
		from := "10.0.1.5"
		if netip.MustParseAddr(ip).Is6() {
			from = "fd00:1::9"
		}
		before := counters(g)
		fromWire(from, ip)
		settle(t, g)
		require.Equal(t, before[node]+1, counters(g)[node], "%s to %s", node, ip)
		fromWire(ip, own(ip))
		settle(t, g)
		require.Equal(t, before["drop_martian_source"]+1, counters(g)["drop_martian_source"], "from %s", ip)
	}
	require.Empty(t, allFlows(g))
	for _, ip := range neighbours {
		fromWire(ip, own(ip))
		require.NotNil(t, receive(t, ports.vf0), ip)
	}
}

// The gateway of another hypervisor tells this one's guests of errors, and nothing else.
func TestErrorsOfAnotherGatewayArrive(t *testing.T) {
	g := withDefaultRoutes(t)
	icmp := func(kind uint8) *layers.ICMPv4 { return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0)} }
	outer := func(proto layers.IPProtocol) stack {
		return stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, proto)}
	}
	about := ip4("10.0.0.1", "10.0.1.5", 1, vUDP)
	about.Length = 28
	quoted := payload(string(frame(t, about, udp(1, 2))) + hello)
	for _, kind := range []uint8{layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded} {
		send(t, ports.pf0, frame(t, append(outer(inIP4), ip4("169.254.0.1", "10.0.0.1", 63, inICMP4), icmp(kind), quoted)...))
		require.NotNil(t, receive(t, ports.vf0))
	}
	about6 := frame(t, ip6("fd00::1", "fd00:1::9", 1, vUDP), udp(1, 2))
	send(t, ports.pf0, frame(t, append(outer(inIP6), ip6(gateway100.String(), "fd00::1", 63, inICMP6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(3, 0)}, gopacket.Payload("0000"+string(about6)))...))
	require.NotNil(t, receive(t, ports.vf0))
	for _, kind := range []uint8{layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply} {
		before := counters(g)["drop_martian_source"]
		send(t, ports.pf0, frame(t, append(outer(inIP4), ip4("169.254.0.1", "10.0.0.1", 63, inICMP4), icmp(kind), quoted)...))
		settle(t, g)
		require.Equal(t, before+1, counters(g)["drop_martian_source"])
	}
	for _, f := range allFlows(g) {
		require.False(t, f.Offloaded)
	}
	e, ok := takeEvent(g, 0)
	require.False(t, ok, "offered to the NIC: %+v", e)
}
