// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/wire"
)

// labelled returns a copy with a drop's label in place of 7.
func (e encap) labelled(t *testing.T, reason wire.DropReason, frame []byte) []byte {
	t.Helper()
	c := e.copyOf(t, frame)
	label := uint32(wire.DropLabel(7, reason))
	if len(c)-len(frame) == wire.VXLANCopyHeaderLen {
		binary.BigEndian.PutUint32(c[wire.CopyHeaderLen+4:], label<<8)
	} else {
		binary.BigEndian.PutUint32(c[wire.EthernetLen:], 6<<28|label)
	}
	return c
}

// dropTap copies what is dropped of a port's packets.
func dropTap(t *testing.T, port *graphtest.Port, e encap) graph.Tap {
	t.Helper()
	tap := everything(t, port, graph.TapDrops)
	tap.Header = e.labelled(t, 0, nil)
	binary.BigEndian.PutUint16(tap.Header[18:], 0) // the lengths
	binary.BigEndian.PutUint16(tap.Header[58:], 0)
	return tap
}

// What is dropped is copied as it is, with the reason in the label: also what an ICMP error answers. What is forwarded
// is not, nor what another port has received.
func TestDropsAreCopied(t *testing.T) {
	g := newGraph(t, roomy)
	for _, e := range []encap{udpEncap(), vxlanEncap()} {
		require.NoError(t, setTap(g, dropTap(t, ports.vf0, e)))
		for _, c := range []struct {
			name   string
			frame  []byte
			reason wire.DropReason
			answer bool
		}{
			{"spoofed", frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.9", "10.0.0.2", 64, vUDP), udp(1, 2)),
				wire.DropSpoofed, false},
			{"multicast", fromGuest0(t, "224.0.0.5", vUDP, udp(1, 2)), wire.DropMulticast, false},
			{"of three bytes", []byte{1, 2, 3}, wire.DropMalformed, false},
			{"no route, answered", fromGuest0(t, "203.0.113.1", vUDP, udp(1, 2), payload(hello)), wire.DropNoRoute, true},
			{"hops used up, answered", frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 1, vUDP), udp(1, 2),
				payload(hello)), wire.DropTTL, true},
			{"no route, and no answer to a multicast source", fromGuest0(t, "203.0.113.1", inICMP4, payload("\x03\x00 error")),
				wire.DropNoRoute, false},
		} {
			made++
			send(t, ports.vf0, c.frame)
			if c.answer {
				receive(t, ports.vf0)
			}
			settle(t, g)
			require.Equal(t, [][]byte{e.labelled(t, c.reason, c.frame)}, receiveAll(ports.pf0), c.name)
		}
		send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
		receive(t, ports.vf1)
		send(t, ports.vf1, frame(t, eth(guest1MAC, gatewayMAC, v4), ip4("10.0.0.9", "10.0.0.1", 64, vUDP), udp(1, 2)))
		settle(t, g)
		require.Empty(t, receiveAll(ports.pf0))
		got, err := g.RemoveTap(ports.vf0.ID, graph.TapDrops)
		require.NoError(t, err)
		require.EqualValues(t, 6, got.Rules[0].Packets)
	}
	require.Contains(t, g.Drops(), graph.Drops{Port: ports.vf0.ID, Reason: wire.DropNoRoute, Packets: 4})
	require.Contains(t, g.Drops(), graph.Drops{Port: ports.vf1.ID, Reason: wire.DropSpoofed, Packets: 2})
}

// What the wire brings for a guest is the guest's, in its tunnel or taken out of it by the NIC; the rest is the
// uplink's. A filter is about the packets in the tunnel, where there is one, and about the others as they are.
func TestDropsFromTheWire(t *testing.T) {
	g := newGraph(t, roomy)
	for _, p := range []*graphtest.Port{ports.pf0, ports.vf0} {
		tap := dropTap(t, p, udpEncap())
		tap.Rules = port80()
		require.NoError(t, setTap(g, tap))
	}
	tunnel := eth(routerMAC, uplinkMAC, v6)
	to80, to81 := udp(1, 80), udp(1, 81)
	copied := [][]byte{
		frame(t, tunnel, ip6("fc00:66::1", underlay0.String(), 61, inIP4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), to80),
		frame(t, eth(routerMAC, uplinkMAC, v4), ip4("192.0.2.1", "192.0.2.2", 63, vUDP), to80),
		frame(t, tunnel, ip6(remote.String(), "fc00:1::dead", 61, inIP4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), to80),
		frame(t, eth(graph.Mark(1), uplinkMAC, v4), ip4("10.0.1.5", "127.0.0.1", 63, vUDP), to80),
	}
	passed := frame(t, tunnel, ip6("fc00:66::1", underlay0.String(), 61, inIP4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), to81)
	for _, f := range append(slices.Clone(copied), passed) {
		send(t, ports.pf0, f)
	}
	made += uint64(len(copied))
	settle(t, g)
	require.ElementsMatch(t, [][]byte{
		udpEncap().labelled(t, wire.DropWrongPeer, copied[0]), udpEncap().labelled(t, wire.DropUnsupported, copied[1]),
		udpEncap().labelled(t, wire.DropUnknownUnderlay, copied[2]), udpEncap().labelled(t, wire.DropLoopback, copied[3]),
	}, receiveAll(ports.pf0))
	require.ElementsMatch(t, []graph.Drops{
		{Port: ports.vf0.ID, Reason: wire.DropWrongPeer, Packets: 2},
		{Port: ports.vf0.ID, Reason: wire.DropLoopback, Packets: 1},
		{Port: ports.pf0.ID, Reason: wire.DropUnsupported, Packets: 1},
		{Port: ports.pf0.ID, Reason: wire.DropUnknownUnderlay, Packets: 1},
	}, g.Drops())
}

// Copies that the uplink does not take are nobody's drops, and are not copied again, though all that is dropped is.
func TestDroppedCopiesAreNotCopied(t *testing.T) {
	const packets = 50
	g := newGraph(t, roomy)
	for _, p := range allPorts() {
		require.NoError(t, setTap(g, dropTap(t, p, udpEncap())))
	}
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
	_, err := ports.pf0.Fill(0)
	require.NoError(t, err)
	spoofed := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.9", "10.0.0.2", 64, vUDP), udp(1, 2))
	for range packets {
		send(t, ports.vf0, spoofed)
	}
	made += 2 * packets
	settle(t, g)
	require.EqualValues(t, 2*packets, counters(g)["drop_tx"])
	require.Equal(t, []graph.Drops{{Port: ports.vf0.ID, Reason: wire.DropSpoofed, Packets: packets}}, g.Drops())
	for _, p := range allPorts() {
		c, err := g.RemoveTap(p.ID, graph.TapDrops)
		require.NoError(t, err)
		require.Equal(t, p == ports.vf0, c.Rules[0].Packets == packets)
	}
	receiveAll(ports.pf0)
}
