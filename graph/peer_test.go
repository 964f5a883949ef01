// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/nodes"
)

const other = "fc00:9::1" // an address on the underlay that no route leads to

// tunnelled is a frame to vm 0 from the wire, with an outer source.
func tunnelled(t *testing.T, outer string, inner stack) []byte {
	t.Helper()
	proto := inIP4
	if _, ok := inner[0].(*layers.IPv6); ok {
		proto = inIP6
	}
	return frame(t, append(stack{eth(routerMAC, uplinkMAC, v6), ip6(outer, underlay0.String(), 61, proto)}, inner...)...)
}

// requireDrop sends a frame to PF0, and requires that a node drops it.
func requireDrop(t *testing.T, g *nodes.Graph, node string, in []byte) {
	t.Helper()
	before := counters(g)
	send(t, ports.pf0, in)
	settle(t, g)
	after := counters(g)
	require.Equal(t, before[node]+1, after[node], "%s: %v", node, g.Stats())
	require.Equal(t, before.sum("tx-"), after.sum("tx-"))
}

// A packet from the wire is taken only from the next hop of the route to its inner source, whether its flow is known or
// not. Others make no flow, and their senders get no ICMP error.
func TestOnlyThePeerMaySend(t *testing.T) {
	const near, far = "10.0.1.5", "10.0.1.200" // by routes to remote and, the longer prefix, to fc00:3::1
	to0 := func(src string) stack { return stack{ip4(src, "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)} }
	to0v6 := stack{ip6("fd00:1::9", "fd00::1", 63, vUDP), udp(2, 1), payload(hello)}
	nobody := stack{ip4(near, "10.0.0.9", 63, vUDP), udp(2, 1), payload(hello)}
	marked := func(mark uint16, inner stack) []byte {
		return frame(t, append(stack{eth(graph.Mark(mark), uplinkMAC, v4)}, inner...)...)
	}
	g := newGraph(t)
	require.NoError(t, g.SetTunnel(9, graph.Tunnel{Interface: 1, Underlay: underlay0, Peer: addr("fc00:3::1")}))
	require.NoError(t, g.SetTunnel(10, graph.Tunnel{Interface: 1, Underlay: underlay0}))
	wrong := map[string][]byte{
		"a stranger":                 tunnelled(t, other, to0(near)),
		"a stranger, IPv6":           tunnelled(t, other, to0v6),
		"another peer":               tunnelled(t, "fc00:3::1", to0(near)),
		"the peer of a shorter one":  tunnelled(t, remote.String(), to0(far)),
		"ourselves":                  tunnelled(t, underlay0.String(), to0(near)),
		"another peer, by its mark":  marked(9, to0(near)),
		"nobody knows, by its mark":  marked(10, to0(near)),
		"a source without a route":   tunnelled(t, remote.String(), to0("198.51.100.1")),
		"a stranger, without a goal": tunnelled(t, other, nobody),
	}
	for range 2 { // without flows, and with them
		for name, in := range wrong {
			t.Run(name, func(t *testing.T) { requireDrop(t, g, "drop_wrong_peer", in) })
		}
		for _, in := range [][]byte{tunnelled(t, remote.String(), to0(near)), tunnelled(t, remote.String(), to0v6),
			tunnelled(t, "fc00:3::1", to0(far)), marked(1, to0(near)), marked(9, to0(far))} {
			send(t, ports.pf0, in)
			receive(t, ports.vf0)
		}
		require.Len(t, allFlows(g), 3)
	}
	for _, f := range allFlows(g) {
		want := graph.Tunnel{Interface: 1, Underlay: underlay0, Peer: remote}
		if f.Key.Src == addr(far) {
			want.Peer = addr("fc00:3::1")
		}
		assert.Equal(t, want, f.Tunnel)
		assert.Contains(t, []uint64{2, 4}, f.Packets, "what is forged is not the flow's")
	}
}

// What is said to come from an interface of this node, or by a route from behind one, does not come from the wire.
func TestLocalSourcesDoNotComeFromTheWire(t *testing.T) {
	for name, anyPeer := range map[string]bool{"checked": false, "not checked": true} {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t)
			i := testInterfaces()[0]
			i.AnyPeer = anyPeer
			require.NoError(t, g.SetInterface(i))
			for _, outer := range []string{remote.String(), other, underlay1.String()} {
				for _, src := range []string{"10.0.0.2", "10.0.0.1"} {
					requireDrop(t, g, "drop_local_source", tunnelled(t, outer,
						stack{ip4(src, "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}))
				}
				requireDrop(t, g, "drop_local_source", tunnelled(t, outer,
					stack{ip4("10.0.2.9", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}))
				requireDrop(t, g, "drop_local_source", tunnelled(t, outer,
					stack{ip6("fd00::2", "fd00::1", 63, vUDP), udp(2, 1), payload(hello)}))
			}
			assert.Empty(t, allFlows(g))
		})
	}
}

// Where the underlay filters, anybody may send for anybody, and flows name no peer.
func TestAnyPeer(t *testing.T) {
	g := newGraph(t)
	i := testInterfaces()[0]
	i.AnyPeer = true
	require.NoError(t, g.SetInterface(i))
	require.NoError(t, g.SetTunnel(10, graph.Tunnel{Interface: 1, Underlay: underlay0}))
	inner := stack{ip4("198.51.100.1", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}
	for _, in := range [][]byte{tunnelled(t, other, inner), tunnelled(t, remote.String(), inner),
		frame(t, append(stack{eth(graph.Mark(10), uplinkMAC, v4)}, inner...)...)} {
		send(t, ports.pf0, in)
		receive(t, ports.vf0)
	}
	flows := allFlows(g)
	require.Len(t, flows, 1)
	assert.Equal(t, graph.Tunnel{Interface: 1, Underlay: underlay0}, flows[0].Tunnel)
	assert.EqualValues(t, 3, flows[0].Packets)
}

// When the route goes, or leads elsewhere, the flow leaves the NIC; it begins anew with what comes from there.
func TestThePeerFollowsTheRoute(t *testing.T) {
	g := newGraph(t)
	inner := stack{ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)}
	elsewhere := addr("fc00:4::1")
	begin := func(peer netip.Addr) graph.Flow {
		send(t, ports.pf0, tunnelled(t, peer.String(), inner))
		receive(t, ports.vf0)
		e := nextEvent(t, g)
		require.Equal(t, graph.FlowNew, e.Kind)
		require.Equal(t, peer, e.Flow.Tunnel.Peer)
		require.NoError(t, g.SetOffloaded([]uint64{e.Flow.ID}, true))
		return e.Flow
	}
	requireGone := func(f graph.Flow) {
		e := nextEvent(t, g)
		require.Equal(t, graph.FlowGone, e.Kind)
		require.Equal(t, f.ID, e.Flow.ID)
	}
	flow := begin(remote)
	require.NoError(t, g.AddRoute(100, netip.MustParsePrefix("10.0.1.5/32"), graph.NextHop{Underlay: elsewhere}))
	requireGone(flow)
	requireDrop(t, g, "drop_wrong_peer", tunnelled(t, remote.String(), inner))
	requireNoEvent(t, g)

	flow = begin(elsewhere)
	require.NoError(t, g.DeleteRoute(100, netip.MustParsePrefix("10.0.1.5/32")))
	requireGone(flow)
	flow = begin(remote)
	require.NoError(t, g.DeleteRoute(100, netip.MustParsePrefix("10.0.1.0/24")))
	requireGone(flow)
	requireDrop(t, g, "drop_wrong_peer", tunnelled(t, remote.String(), inner))
}

// A router on the way, which the network has no route to, and the gateway, whatever routes say of its addresses, tell
// what became of a packet; but only where it went.
func TestErrorsComeFromWhereThePacketWent(t *testing.T) {
	g := newGraph(t)
	gone := frame(t, ip4("10.0.0.1", "10.0.1.5", 1, vUDP), udp(1, 2), payload(hello))
	gone6 := frame(t, ip6("fd00::1", "fd00:1::9", 1, vUDP), udp(1, 2), payload(hello))
	others := frame(t, ip4("10.0.0.2", "10.0.1.5", 1, vUDP), udp(1, 2), payload(hello))
	by4 := func(router string, kind uint8, quoted []byte) stack {
		return stack{ip4(router, "10.0.0.1", 64, inICMP4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0)},
			payload(string(quoted))}
	}
	by6 := func(router string, kind uint8, quoted []byte) stack {
		return stack{ip6(router, "fd00::1", 64, inICMP6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)},
			payload("\x00\x00\x00\x00" + string(quoted))}
	}
	said4 := func(kind uint8, quoted []byte) stack { return by4("198.51.100.1", kind, quoted) }
	said6 := func(kind uint8, quoted []byte) stack { return by6("2001:db8::1", kind, quoted) }
	gateway4 := func() stack { return by4("169.254.0.1", 11, gone) }
	gateway6 := func() stack { return by6(gateway100.String(), 3, gone6) }
	for _, inner := range []stack{said4(3, gone), said4(11, gone), said6(1, gone6), said6(3, gone6), gateway4(),
		gateway6()} {
		send(t, ports.pf0, tunnelled(t, remote.String(), inner))
		receive(t, ports.vf0)
		requireDrop(t, g, "drop_wrong_peer", tunnelled(t, other, inner))
		requireDrop(t, g, "drop_wrong_peer", tunnelled(t, "fc00:3::1", inner))
	}
	byNeighbour := said4(11, frame(t, ip4("10.0.0.1", "10.0.2.9", 1, vUDP), udp(1, 2), payload(hello)))
	requireDrop(t, g, "drop_wrong_peer", tunnelled(t, underlay1.String(), byNeighbour))
	for name, inner := range map[string]stack{
		"about another's packet": said4(11, others),
		"about nothing":          said4(11, nil),
		"cut short":              said4(11, gone[:19]),
		"cut short, IPv6":        said6(3, gone6[:39]),
		"of the other family":    said4(11, gone6),
		"to a neighbour":         byNeighbour,
		"to where no route is":   said4(11, frame(t, ip4("10.0.0.1", "203.0.113.1", 1, vUDP), udp(1, 2))),
		"a redirect":             said4(5, gone),
		"the gateway's redirect": by4("169.254.0.1", 5, gone),
		"no error":               said4(8, gone),
		"no error, IPv6":         said6(128, gone6),
	} {
		t.Run(name, func(t *testing.T) { requireDrop(t, g, "drop_wrong_peer", tunnelled(t, remote.String(), inner)) })
	}
	for _, underlay := range []netip.Addr{underlay1, addr("fc00:3::1")} {
		for _, prefix := range []string{"0.0.0.0/0", "::/0"} {
			require.NoError(t, g.AddRoute(100, netip.MustParsePrefix(prefix), graph.NextHop{Underlay: underlay}))
		}
		for _, inner := range []stack{gateway4(), gateway6()} {
			send(t, ports.pf0, tunnelled(t, remote.String(), inner))
			receive(t, ports.vf0)
			requireDrop(t, g, "drop_wrong_peer", tunnelled(t, "fc00:3::1", inner))
		}
		for _, prefix := range []string{"0.0.0.0/0", "::/0"} {
			require.NoError(t, g.DeleteRoute(100, netip.MustParsePrefix(prefix)))
		}
	}
}

// A mark names a tunnel as long as the tunnel's interface exists.
func TestTunnelsEndWithTheirInterface(t *testing.T) {
	g := newGraph(t)
	require.ErrorIs(t, g.SetTunnel(9, graph.Tunnel{Interface: 1, Underlay: underlay1}), graph.ErrNotFound,
		"another one's address")
	require.ErrorIs(t, g.SetTunnel(9, graph.Tunnel{Interface: 7, Underlay: addr("fc00:1::7")}), graph.ErrNotFound)
	in := frame(t, eth(graph.Mark(1), uplinkMAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello))
	learned := testInterfaces()[0]
	learned.GuestMAC = guest2MAC
	require.NoError(t, g.SetInterface(learned))
	send(t, ports.pf0, in)
	receive(t, ports.vf0)
	require.NoError(t, g.DeleteInterface(1))
	requireDrop(t, g, "drop_unknown_mark", in)
	require.NoError(t, g.SetInterface(learned))
	requireDrop(t, g, "drop_unknown_mark", in)
}
