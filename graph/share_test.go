// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

// source is where flows of a share come from.
type source struct {
	port   *graphtest.Port
	holder graph.FlowShare // with no more than the port and the origin
	out    *graphtest.Port
	frame  func(t *testing.T, n int) []byte // of the n-th flow
}

func sources() []source {
	fromWire := func(underlay, dst string) func(t *testing.T, n int) []byte {
		return func(t *testing.T, n int) []byte {
			return frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay, 61, inIP4),
				ip4("10.0.1.5", dst, 63, vUDP),
				udp(uint16(n>>8), uint16(n&0xff)), payload(hello))
		}
	}
	fromGuest := func(mac wire.MAC, src, dst string) func(t *testing.T, n int) []byte {
		return func(t *testing.T, n int) []byte {
			return frame(t, eth(mac, gatewayMAC, v4), ip4(src, dst, 64, vUDP), udp(uint16(n>>8), uint16(n&0xff)),
				payload(hello))
		}
	}
	return []source{
		{ports.vf0, graph.FlowShare{Port: ports.vf0.ID, Origin: graph.FromGuest}, ports.vf1,
			fromGuest(guest0MAC, "10.0.0.1", "10.0.0.2")},
		{ports.vf1, graph.FlowShare{Port: ports.vf1.ID, Origin: graph.FromGuest}, ports.vf0,
			fromGuest(guest1MAC, "10.0.0.2", "10.0.0.1")},
		{ports.pf0, graph.FlowShare{Port: ports.vf0.ID, Origin: graph.FromWire}, ports.vf0,
			fromWire(underlay0.String(), "10.0.0.1")},
		{ports.pf0, graph.FlowShare{Port: ports.vf1.ID, Origin: graph.FromWire}, ports.vf1,
			fromWire(underlay1.String(), "10.0.0.2")},
	}
}

// begin sends the first packet of a flow, which arrives whatever the tables hold.
func (s source) begin(t *testing.T, n int) {
	t.Helper()
	send(t, s.port, s.frame(t, n))
	receive(t, s.out)
}

func (s source) share(g *nodes.Graph) graph.FlowShare {
	for _, share := range g.FlowTable().Shares {
		if share.Port == s.holder.Port && share.Origin == s.holder.Origin {
			return share
		}
	}
	panic("no such share")
}

// Flows of random ports begin and end. A share below its guarantee always gets its place, the table never holds more
// than its capacity, only borrowed places are taken back, and what is listed is what is counted.
func TestShares(t *testing.T) {
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload %v", offload), func(t *testing.T) {
			const capacity = 205
			random := rand.New(rand.NewPCG(3, 4))
			g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.FlowCapacity, c.Offload = capacity, offload })
			all := sources()
			n := 0
			for step := range 3000 {
				s := all[min(random.IntN(8), 3)] // the last one more than the others
				if step%1000 < 100 {
					flows := allFlows(g)
					if len(flows) > 0 {
						require.NoError(t, g.DeleteFlows([]uint64{flows[random.IntN(len(flows))].ID}))
					}
				}
				before := g.FlowTable()
				mine := s.share(g)
				n++
				s.begin(t, n)
				after := g.FlowTable()
				got := s.share(g)
				if mine.Flows < before.Guaranteed {
					require.Equal(t, mine.Flows+1, got.Flows)
					require.Equal(t, mine.Overflow, got.Overflow)
				}
				for i, share := range after.Shares {
					if taken := before.Shares[i].Flows - share.Flows; taken > 0 {
						require.Equal(t, 1, taken)
						require.Equal(t, before.Shares[i].Evicted+1, share.Evicted)
						require.GreaterOrEqual(t, share.Flows, before.Guaranteed, "only what is borrowed is taken back")
					}
				}
				require.LessOrEqual(t, after.Flows, capacity)
			}
			held := map[graph.FlowShare]int{}
			for _, f := range allFlows(g) {
				h := graph.FlowShare{Port: f.Verdict.InPort, Origin: f.Key.Origin}
				if f.Key.Origin == graph.FromWire {
					h.Port = f.Verdict.TxPort
				}
				held[h]++
			}
			for _, s := range all {
				require.Equal(t, s.share(g).Flows, held[s.holder])
				require.GreaterOrEqual(t, held[s.holder], g.FlowTable().Guaranteed)
			}
		})
	}
}

// Whoever is alone may have the whole table, and others get what they are guaranteed all the same.
func TestIdleRoomIsBorrowed(t *testing.T) {
	const capacity = 400
	g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.FlowCapacity, c.Offload = capacity, false })
	all, guaranteed := sources(), g.FlowTable().Guaranteed
	for n := range capacity + 50 {
		all[2].begin(t, n)
	}
	require.Equal(t, capacity, all[2].share(g).Flows)
	require.EqualValues(t, 50, all[2].share(g).Overflow)
	for _, s := range []source{all[0], all[1], all[3]} {
		for n := range guaranteed {
			s.begin(t, n)
		}
		require.Equal(t, guaranteed, s.share(g).Flows)
		require.Zero(t, s.share(g).Overflow)
	}
	require.Equal(t, capacity-3*guaranteed, all[2].share(g).Flows)
	require.EqualValues(t, 3*guaranteed, all[2].share(g).Evicted)
}

// Idle flows make room before those that are in use, and those that hardware forwards, of which nothing is seen here,
// last.
func TestTheIdlestFlowsMakeRoom(t *testing.T) {
	const capacity, inUse = 400, 20
	g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.FlowCapacity = capacity })
	borrower, other := sources()[0], sources()[1]
	offloaded := map[uint64]bool{}
	for n := range capacity {
		borrower.begin(t, n)
		e := nextEvent(t, g)
		if n%20 == 1 {
			require.NoError(t, g.SetOffloaded([]uint64{e.Flow.ID}, true))
			offloaded[e.Flow.ID] = true
		}
	}
	time.Sleep(time.Millisecond)
	used := map[uint16]bool{}
	for n := 0; n < capacity; n += capacity / inUse {
		borrower.begin(t, n)
		used[uint16(n>>8)<<8|uint16(n&0xff)] = true
	}
	for n := range g.FlowTable().Guaranteed {
		other.begin(t, n)
	}
	left := 0
	for _, f := range allFlows(g) {
		if f.Verdict.InPort == ports.vf0.ID {
			delete(used, f.Key.SrcPort<<8|f.Key.DstPort)
			if offloaded[f.ID] {
				left++
			}
		}
	}
	require.Empty(t, used, "flows in use have lost their places")
	require.Len(t, offloaded, left)
}

// Thousands of known flows end at once, and nobody reads of it: none is forgotten, and no new one is kept waiting for
// ever.
func TestEveryEndIsTold(t *testing.T) {
	const n = 18_000 // more than the ring and the channel hold
	g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.FlowCapacity = 2 * n })
	s := sources()[0]
	known := map[uint64]bool{}
	for i := range n {
		s.begin(t, i)
		known[nextEvent(t, g).Flow.ID] = true
	}
	require.NoError(t, g.DeleteInterface(2)) // where they go to
	require.Eventually(t, func() bool { return len(allFlows(g)) == 0 }, waitLong, tick)
	for len(known) > 0 {
		e := nextEvent(t, g)
		require.Equal(t, graph.FlowGone, e.Kind)
		require.True(t, known[e.Flow.ID])
		delete(known, e.Flow.ID)
	}
	requireNoEvent(t, g)
}

// A guest whose flows fill the ring of events does not keep those of another out of it.
func TestEventsAreShared(t *testing.T) {
	const n = 18_000 // more than the ring and the channel hold
	g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.FlowCapacity = 2 * n })
	flood, victim := sources()[0], sources()[1]
	for i := range n {
		flood.begin(t, i)
	}
	victim.begin(t, 1)
	for {
		if e := nextEvent(t, g); e.Flow.Verdict.InPort == ports.vf1.ID {
			return
		}
	}
}
