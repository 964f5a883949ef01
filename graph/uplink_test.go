// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

var router1MAC = wire.MAC{0x02, 0, 0, 0, 3, 0x01}

// uplinks are the two uplinks, with a router each.
func uplinks() (pf0, pf1 graph.Uplink) {
	return graph.Uplink{Port: ports.pf0.ID, MAC: uplinkMAC, RouterMAC: routerMAC, LinkUp: true},
		graph.Uplink{Port: ports.pf1.ID, MAC: uplink1MAC, RouterMAC: router1MAC, LinkUp: true}
}

// newGraphWithUplinks returns a graph whose uplinks are both usable.
func newGraphWithUplinks(t *testing.T) (g *nodes.Graph, pf0, pf1 graph.Uplink) {
	t.Helper()
	g = newGraph(t)
	pf0, pf1 = uplinks()
	require.NoError(t, g.SetUplink(pf1))
	return g, pf0, pf1
}

func down(u graph.Uplink) graph.Uplink    { u.LinkUp = false; return u }
func unknown(u graph.Uplink) graph.Uplink { u.RouterMAC = wire.MAC{}; return u }

const manyFlows = 400

// sendMany sends a packet of each of many flows to another hypervisor, and returns the port that each has left by. Its
// headers are those of that uplink.
func sendMany(t *testing.T, g *nodes.Graph) map[uint16]*graphtest.Port {
	t.Helper()
	macs := map[*graphtest.Port][]byte{
		ports.pf0: append(append([]byte{}, routerMAC[:]...), uplinkMAC[:]...),
		ports.pf1: append(append([]byte{}, router1MAC[:]...), uplink1MAC[:]...),
	}
	left := map[uint16]*graphtest.Port{}
	for flow := range uint16(manyFlows) {
		send(t, ports.vf0, fromGuest0(t, "10.0.1.5", vUDP, udp(flow+1, 2), payload(hello)))
	}
	settle(t, g)
	for port, want := range macs {
		for f := port.Receive(0); f != nil; f = port.Receive(0) {
			require.True(t, bytes.HasPrefix(f, want), "%x out of port %d", f[:12], port.ID)
			left[uint16(f[74])<<8+uint16(f[75])-1] = port
		}
	}
	return left
}

func countOn(left map[uint16]*graphtest.Port, port *graphtest.Port) (n int) {
	for _, p := range left {
		if p == port {
			n++
		}
	}
	return n
}

// Flows are spread over the usable uplinks, and one that fails or comes back moves its own flows only, to where they
// would have been without it. Any order of changes ends in the same picture.
func TestFlowsAreSpreadOverUplinks(t *testing.T) {
	g, pf0, pf1 := newGraphWithUplinks(t)
	spread := sendMany(t, g)
	require.Len(t, spread, manyFlows)
	require.InDelta(t, manyFlows/2, countOn(spread, ports.pf0), manyFlows/5)
	require.Equal(t, spread, sendMany(t, g), "a flow stays where it is")
	for name, change := range map[string]struct {
		lost, back graph.Uplink
		rest       *graphtest.Port
	}{
		"PF0's link":   {down(pf0), pf0, ports.pf1},
		"PF1's link":   {down(pf1), pf1, ports.pf0},
		"PF0's router": {unknown(pf0), pf0, ports.pf1},
		"PF1's router": {unknown(pf1), pf1, ports.pf0},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, g.SetUplink(change.lost))
			left := sendMany(t, g)
			require.Len(t, left, manyFlows)
			require.Equal(t, manyFlows, countOn(left, change.rest))
			require.NoError(t, g.SetUplink(change.back))
			require.Equal(t, spread, sendMany(t, g))
		})
	}
	require.Zero(t, counters(g).sum("drop_"))
	require.Len(t, allFlows(g), manyFlows, "moved, not begun anew")
}

// Flows that hardware has, and of which no packet comes, leave it when their uplink fails, and begin anew with their
// next packet; the others are not touched. Hardware does not send to PF1, so flows there are not announced.
func TestOffloadedFlowsLeaveAFailedUplink(t *testing.T) {
	g, pf0, _ := newGraphWithUplinks(t)
	onPF0 := map[uint64]bool{}
	announced := func(n int) {
		t.Helper()
		clear(onPF0)
		for range n {
			e := nextEvent(t, g)
			require.Equal(t, graph.FlowNew, e.Kind)
			require.Equal(t, ports.pf0.ID, e.Flow.Verdict.TxPort)
			require.NoError(t, g.SetOffloaded([]uint64{e.Flow.ID}, true))
			onPF0[e.Flow.ID] = true
		}
		requireNoEvent(t, g)
	}
	n := countOn(sendMany(t, g), ports.pf0)
	require.NotZero(t, n)
	announced(n)
	require.NoError(t, g.SetUplink(down(pf0)))
	moved := map[uint64]bool{}
	for range onPF0 {
		e := nextEvent(t, g)
		require.Equal(t, graph.FlowGone, e.Kind)
		moved[e.Flow.ID] = true
	}
	require.Equal(t, onPF0, moved)
	require.Equal(t, manyFlows, countOn(sendMany(t, g), ports.pf1))
	requireNoEvent(t, g)
	require.NoError(t, g.SetUplink(pf0))
	require.Equal(t, n, countOn(sendMany(t, g), ports.pf0))
	announced(n)
}

// beginOnPF0 begins a flow that leaves by PF0.
func beginOnPF0(t *testing.T, g *nodes.Graph) (in []byte, f graph.Flow) {
	t.Helper()
	for port := range uint16(100) {
		in := fromGuest0(t, "10.0.1.5", vUDP, udp(1, 2+port), payload(hello))
		send(t, ports.vf0, in)
		settle(t, g)
		if e, ok := takeEvent(g, 100*time.Millisecond); ok {
			return in, e.Flow
		}
	}
	require.FailNow(t, "no flow leaves by PF0")
	return nil, f
}

// Without a usable uplink there is nowhere to go; what hardware has goes too.
func TestNoUsableUplink(t *testing.T) {
	g, pf0, pf1 := newGraphWithUplinks(t)
	in, flow := beginOnPF0(t, g)
	require.NoError(t, g.SetOffloaded([]uint64{flow.ID}, true))
	require.NoError(t, g.SetUplink(down(pf0)))
	require.NoError(t, g.SetUplink(unknown(pf1)))
	gone := nextEvent(t, g)
	require.Equal(t, graph.FlowGone, gone.Kind)
	require.Equal(t, flow.ID, gone.Flow.ID)
	send(t, ports.vf0, in)
	settle(t, g)
	require.EqualValues(t, 1, counters(g)["drop_no_neighbour"])
	require.Empty(t, allFlows(g))
	require.NoError(t, g.SetUplink(pf0))
	send(t, ports.vf0, in)
	settle(t, g)
	require.Equal(t, ports.pf0.ID, nextEvent(t, g).Flow.Verdict.TxPort)
}

// What came by PF0 before its link failed is answered by PF1, and what PF1 receives is forwarded all along.
func TestErrorsLeaveByAUsableUplink(t *testing.T) {
	g, pf0, _ := newGraphWithUplinks(t)
	require.NoError(t, g.SetUplink(down(pf0)))
	send(t, ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
		ip4("10.0.1.5", "10.0.0.2", 63, vUDP), udp(2, 1), payload(hello)))
	f := receive(t, ports.pf1)
	require.Equal(t, append(router1MAC[:], uplink1MAC[:]...), f[:12])
	send(t, ports.pf1, frame(t, eth(router1MAC, uplink1MAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
		ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)))
	receive(t, ports.vf0)
}
