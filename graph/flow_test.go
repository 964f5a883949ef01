// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

func tcp(dst uint16, flags string) *layers.TCP {
	t := &layers.TCP{SrcPort: 1000, DstPort: layers.TCPPort(dst), Window: 100}
	for _, f := range flags {
		switch f {
		case 'S':
			t.SYN = true
		case 'A':
			t.ACK = true
		case 'F':
			t.FIN = true
		case 'R':
			t.RST = true
		}
	}
	return t
}

// fromGuest0 is a packet from the first guest; its last layers are l4.
func fromGuest0(t *testing.T, dst string, proto layers.IPProtocol, l4 ...gopacket.SerializableLayer) []byte {
	ls := []gopacket.SerializableLayer{eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", dst, 64, proto)}
	return frame(t, append(ls, l4...)...)
}

func allFlows(g *nodes.Graph) []graph.Flow {
	flows, _ := g.Flows(0, 1<<20)
	return flows
}

// unread is the rest of a batch of events.
var unread = map[*nodes.Graph][]graph.FlowEvent{}

// takeEvent waits so long for an event of a flow.
func takeEvent(g *nodes.Graph, wait time.Duration) (e graph.FlowEvent, ok bool) {
	for {
		if e, ok = takeAnyEvent(g, wait); !ok || e.Kind != graph.FlowsResolved {
			return e, ok
		}
	}
}

// takeAnyEvent waits so long for an event.
func takeAnyEvent(g *nodes.Graph, wait time.Duration) (e graph.FlowEvent, ok bool) {
	if len(unread[g]) == 0 {
		select {
		case unread[g] = <-g.FlowEvents():
		case <-time.After(wait):
			return graph.FlowEvent{}, false
		}
	}
	e, unread[g] = unread[g][0], unread[g][1:]
	e.Flow.Verdict.Header = bytes.Clone(e.Flow.Verdict.Header) // the batch is valid for a while only
	return e, true
}

func nextEvent(t *testing.T, g *nodes.Graph) graph.FlowEvent {
	t.Helper()
	e, ok := takeEvent(g, 3*time.Second)
	require.True(t, ok, "no flow event")
	return e
}

func requireNoEvent(t *testing.T, g *nodes.Graph) {
	t.Helper()
	settle(t, g)
	e, ok := takeEvent(g, 50*time.Millisecond)
	require.False(t, ok, "unexpected event: %+v", e)
}

func withTimeouts(d time.Duration) func(*nodes.Config) {
	return func(c *nodes.Config) {
		c.Timeouts = graph.Timeouts{TCPNew: d, TCPEstablished: d, TCPClosing: d, UDP: d, ICMP: d, Other: d}
	}
}

// What an event says is all that a rule is made of.
func TestFlowEvent(t *testing.T) {
	g := newGraph(t)
	for name, c := range map[string]struct {
		send func()
		want graph.Flow
	}{
		"VF to VF": {
			func() { send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1000, 2000), payload(hello))) },
			graph.Flow{VNI: 100, Packets: 1,
				Key: graph.FlowKey{Origin: graph.FromGuest, Interface: 1, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: 17,
					SrcPort: 1000, DstPort: 2000},
				Verdict: graph.Verdict{Kind: graph.Deliver, InPort: ports.vf0.ID, TxPort: ports.vf1.ID, DecTTL: true,
					Header: frame(t, eth(gatewayMAC, guest1MAC, v4))[:14]}},
		},
		"VF to PF0": {
			func() {
				send(t, ports.vf1, frame(t, eth(guest1MAC, gatewayMAC, v6), ip6("fd00::2", "fd00:1::9", 64, vUDP), udp(3, 4)))
			},
			graph.Flow{VNI: 100, Packets: 1,
				Key: graph.FlowKey{Origin: graph.FromGuest, Interface: 2, Src: addr("fd00::2"), Dst: addr("fd00:1::9"), Proto: 17,
					SrcPort: 3, DstPort: 4},
				Verdict: graph.Verdict{Kind: graph.Encap, InPort: ports.vf1.ID, TxPort: ports.pf0.ID, DecTTL: true,
					Header: frame(t, eth(uplinkMAC, routerMAC, v6), ip6(underlay1.String(), remote.String(), 64, inIP6))[:54]}},
		},
		"PF0 to VF": {
			func() {
				send(t, ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
					ip4("10.0.1.5", "10.0.0.1", 63, layers.IPProtocolICMPv4),
					&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0)}))
			},
			graph.Flow{VNI: 100, Packets: 1,
				Key:    graph.FlowKey{Origin: graph.FromWire, Interface: 1, Src: addr("10.0.1.5"), Dst: addr("10.0.0.1"), Proto: 1},
				Tunnel: graph.Tunnel{Interface: 1, Underlay: underlay0, Peer: remote},
				Verdict: graph.Verdict{Kind: graph.Deliver, InPort: ports.pf0.ID, TxPort: ports.vf0.ID,
					Header: frame(t, eth(gatewayMAC, guest0MAC, v4))[:14]}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.send()
			e := nextEvent(t, g)
			require.Equal(t, graph.FlowNew, e.Kind)
			got := e.Flow
			require.NotZero(t, got.ID)
			require.NotZero(t, got.Bytes)
			got.ID, got.Bytes, got.Idle, got.State = 0, 0, 0, 0
			if c.want.Verdict.Kind == graph.Encap {
				c.want.Verdict.Header[18], c.want.Verdict.Header[19] = 0, 0 // the payload length is each packet's own
			}
			require.Equal(t, c.want, got)
			c.send()
			requireNoEvent(t, g)
		})
	}
}

func TestNotOffered(t *testing.T) {
	g := newGraph(t)
	more := ip4("10.0.0.1", "10.0.0.2", 64, vUDP)
	more.Flags = layers.IPv4MoreFragments
	rest := ip4("10.0.0.1", "10.0.0.2", 64, vUDP)
	rest.FragOffset = 100
	for name, in := range map[string][]byte{
		"first fragment": frame(t, eth(guest0MAC, gatewayMAC, v4), more, udp(1, 2), payload(hello)),
		"last fragment":  frame(t, eth(guest0MAC, gatewayMAC, v4), rest, payload(hello)),
		"GRE":            fromGuest0(t, "10.0.0.2", layers.IPProtocolGRE, payload(hello)),
		"unreachable": fromGuest0(t, "10.0.0.2", layers.IPProtocolICMPv4,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}, payload(hello)),
		"extension header": frame(t, eth(guest0MAC, gatewayMAC, v6),
			ip6("fd00::1", "fd00::2", 64, layers.IPProtocolIPv6Fragment),
			payload("\x11\x00\x00\x01....01020304"+hello)),
		"short TCP": fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, payload("1234567")),
		"SYN":       fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "S")),
		"RST":       fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(3, "RA")),
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				send(t, ports.vf0, in)
				require.NotNil(t, receive(t, ports.vf1))
			}
			requireNoEvent(t, g)
		})
	}
	require.Len(t, allFlows(g), 7, "both fragments are of one flow, all others have their own")
}

func TestOffloadDisabled(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.Offload = false })
	send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
	requireNoEvent(t, g)
	require.Len(t, allFlows(g), 1)
}

func TestTCPState(t *testing.T) {
	g := newGraph(t)
	for _, step := range []struct {
		flags string
		want  graph.FlowState
		event bool
	}{
		{"S", graph.StateNew, false}, {"S", graph.StateNew, false}, {"A", graph.StateEstablished, true},
		{"A", graph.StateEstablished, false},
		{"FA", graph.StateClosing, false}, {"A", graph.StateClosing, false}, {"S", graph.StateNew, false},
		{"A", graph.StateEstablished, false},
		{"R", graph.StateClosing, false},
	} {
		send(t, ports.vf0, fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, step.flags)))
		if step.event {
			require.Equal(t, graph.FlowNew, nextEvent(t, g).Kind)
		}
		requireNoEvent(t, g)
		require.Equal(t, step.want, allFlows(g)[0].State, step.flags)
	}
	require.Len(t, allFlows(g), 1)
	require.EqualValues(t, 9, allFlows(g)[0].Packets)
}

func TestFlowTimeout(t *testing.T) {
	g := newGraph(t, withTimeouts(200*time.Millisecond))
	start := time.Now()
	send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
	send(t, ports.vf0, fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "S")))
	begun := nextEvent(t, g)
	ended := nextEvent(t, g)
	require.Equal(t, graph.FlowGone, ended.Kind)
	require.Equal(t, begun.Flow.ID, ended.Flow.ID)
	require.GreaterOrEqual(t, time.Since(start), 200*time.Millisecond)
	require.Eventually(t, func() bool { return len(allFlows(g)) == 0 }, 3*time.Second, time.Millisecond)
	requireNoEvent(t, g) // the SYN was never announced
}

// A change of the timeouts is also for flows that there are.
func TestSetTimeouts(t *testing.T) {
	g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.Offload = false })
	send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
	require.NotNil(t, receive(t, ports.vf1))
	require.Len(t, allFlows(g), 1)
	const d = time.Millisecond
	require.NoError(t, g.SetTimeouts(graph.Timeouts{TCPNew: d, TCPEstablished: d, TCPClosing: d, UDP: d, ICMP: d,
		Other: d}))
	require.Eventually(t, func() bool { return len(allFlows(g)) == 0 }, 5*time.Second, time.Millisecond)
}

// Each protocol, and each state of TCP, has a timeout of its own.
func TestTimeoutByProtocol(t *testing.T) {
	const brief, long = 100 * time.Millisecond, time.Hour
	all := graph.Timeouts{TCPNew: long, TCPEstablished: long, TCPClosing: long, UDP: long, ICMP: long, Other: long}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}
	for name, c := range map[string]struct {
		timeout func(*graph.Timeouts) *time.Duration
		frames  [][]byte
	}{
		"TCP new": {func(t *graph.Timeouts) *time.Duration { return &t.TCPNew }, [][]byte{
			fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "S")),
		}},
		"TCP established": {func(t *graph.Timeouts) *time.Duration { return &t.TCPEstablished }, [][]byte{
			fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "A")),
		}},
		"TCP closing": {func(t *graph.Timeouts) *time.Duration { return &t.TCPClosing }, [][]byte{
			fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "A")),
			fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "R")),
		}},
		"UDP": {func(t *graph.Timeouts) *time.Duration { return &t.UDP },
			[][]byte{fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2))}},
		"ICMP": {func(t *graph.Timeouts) *time.Duration { return &t.ICMP },
			[][]byte{fromGuest0(t, "10.0.0.2", layers.IPProtocolICMPv4, echo)}},
		"other": {func(t *graph.Timeouts) *time.Duration { return &t.Other },
			[][]byte{fromGuest0(t, "10.0.0.2", layers.IPProtocolGRE, payload(hello))}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t, func(cfg *nodes.Config) {
				cfg.Timeouts, cfg.Offload = all, false
				*c.timeout(&cfg.Timeouts) = brief
			})
			other := fromGuest0(t, "10.0.0.2", vUDP, udp(7, 7))
			if name == "UDP" {
				other = fromGuest0(t, "10.0.0.2", layers.IPProtocolICMPv4, echo)
			}
			for _, frame := range append(c.frames, other) {
				send(t, ports.vf0, frame)
				require.NotNil(t, receive(t, ports.vf1))
			}
			require.Len(t, allFlows(g), 2)
			require.Eventually(t, func() bool { return len(allFlows(g)) == 1 }, 5*time.Second, time.Millisecond)
			time.Sleep(2 * brief)
			require.Len(t, allFlows(g), 1, "the other flow has another timeout")
		})
	}
}

// What is removed from a crowded table is not found any more, and its place is used again.
func TestPlacesAreUsedAgain(t *testing.T) {
	const capacity = 1000
	g := newGraph(t, func(c *nodes.Config) { c.FlowCapacity = capacity; c.Offload = false })
	for round := range uint16(3) {
		for i := range uint16(capacity) {
			send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1000+i, 1+round), payload(hello)))
			require.NotNil(t, receive(t, ports.vf1))
		}
		flows := allFlows(g)
		require.Len(t, flows, capacity)
		require.EqualValues(t, capacity, g.FlowTable().Flows)
		seen := map[uint16]bool{}
		for _, f := range flows {
			require.Equal(t, 1+round, f.Key.DstPort)
			seen[f.Key.SrcPort] = true
			require.NoError(t, g.DeleteFlows([]uint64{f.ID}))
		}
		require.Len(t, seen, capacity)
		require.Empty(t, allFlows(g))
	}
	require.Zero(t, g.FlowTable().Flows)
	for _, s := range g.FlowTable().Shares {
		require.Equal(t, graph.FlowShare{Port: s.Port, Origin: s.Origin}, s)
	}
}

func TestOffloadedFlowStays(t *testing.T) {
	g := newGraph(t, withTimeouts(100*time.Millisecond))
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	send(t, ports.vf0, in)
	id := nextEvent(t, g).Flow.ID
	require.NoError(t, g.SetOffloaded([]uint64{id}, true))
	time.Sleep(1200 * time.Millisecond) // a whole sweep
	require.True(t, allFlows(g)[0].Offloaded)

	require.NoError(t, g.SetOffloaded([]uint64{id}, false))
	send(t, ports.vf0, in)
	again := nextEvent(t, g)
	require.Equal(t, graph.FlowNew, again.Kind, "its rule has gone: it is offered again")
	require.Equal(t, id, again.Flow.ID)
	require.Equal(t, graph.FlowGone, nextEvent(t, g).Kind)
	require.ErrorIs(t, g.SetOffloaded([]uint64{id}, true), graph.ErrNotFound)
}

// The end of a connection that hardware forwards takes the flow out of it.
func TestOffloadedConnectionEnds(t *testing.T) {
	for _, end := range []string{"FA", "R"} {
		t.Run(end, func(t *testing.T) {
			g := newGraph(t, withTimeouts(100*time.Millisecond))
			send(t, ports.vf0, fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, "A")))
			id := nextEvent(t, g).Flow.ID
			require.NoError(t, g.SetOffloaded([]uint64{id}, true))
			time.Sleep(1200 * time.Millisecond) // a whole sweep
			require.Len(t, allFlows(g), 1)
			send(t, ports.vf0, fromGuest0(t, "10.0.0.2", layers.IPProtocolTCP, tcp(2, end)))
			gone := nextEvent(t, g)
			require.Equal(t, graph.FlowGone, gone.Kind)
			require.Equal(t, id, gone.Flow.ID)
		})
	}
}

func TestDeleteFlow(t *testing.T) {
	g := newGraph(t)
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	send(t, ports.vf0, in)
	id := nextEvent(t, g).Flow.ID
	require.NoError(t, g.DeleteFlows([]uint64{id}))
	require.Empty(t, allFlows(g))
	require.ErrorIs(t, g.DeleteFlows([]uint64{id}), graph.ErrNotFound)
	require.ErrorIs(t, g.DeleteFlows([]uint64{1 << 63}), graph.ErrNotFound)
	requireNoEvent(t, g)
	send(t, ports.vf0, in)
	require.NotEqual(t, id, nextEvent(t, g).Flow.ID)
}

// A change of the configuration reaches flows that no packet touches any more, since hardware has them: they leave it,
// and with their next packet begin anew.
func TestChangeReachesOffloadedFlows(t *testing.T) {
	header := func(mac wire.MAC) func(*testing.T, graph.Flow) {
		return func(t *testing.T, f graph.Flow) { require.Equal(t, mac[:], f.Verdict.Header[:6]) }
	}
	for name, c := range map[string]struct {
		dst    string
		change func(*nodes.Graph) error
		anew   func(t *testing.T, f graph.Flow) // nil: it ends
	}{
		"router's MAC": {"10.0.1.5",
			func(g *nodes.Graph) error {
				return g.SetUplink(graph.Uplink{Port: ports.pf0.ID, MAC: uplinkMAC, RouterMAC: guest2MAC, LinkUp: true})
			}, header(guest2MAC)},
		"guest's MAC": {"10.0.0.2",
			func(g *nodes.Graph) error {
				i := testInterfaces()[1]
				i.GuestMAC = guest2MAC
				return g.SetInterface(i)
			}, header(guest2MAC)},
		"longer route": {"10.0.1.5",
			func(g *nodes.Graph) error {
				return g.AddRoute(100, netip.MustParsePrefix("10.0.1.5/32"), graph.NextHop{Underlay: underlay1})
			},
			func(t *testing.T, f graph.Flow) { require.Equal(t, graph.Deliver, f.Verdict.Kind) }},
		"route deleted": {"10.0.1.5",
			func(g *nodes.Graph) error { return g.DeleteRoute(100, netip.MustParsePrefix("10.0.1.0/24")) }, nil},
		"sender deleted":   {"10.0.0.2", func(g *nodes.Graph) error { return g.DeleteInterface(1) }, nil},
		"receiver deleted": {"10.0.0.2", func(g *nodes.Graph) error { return g.DeleteInterface(2) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t)
			in := fromGuest0(t, c.dst, vUDP, udp(1, 2), payload(hello))
			send(t, ports.vf0, in)
			id := nextEvent(t, g).Flow.ID
			require.NoError(t, g.SetOffloaded([]uint64{id}, true))
			require.NoError(t, g.AddRoute(100, netip.MustParsePrefix("192.0.2.0/24"), graph.NextHop{Underlay: remote}))
			requireNoEvent(t, g) // nothing has changed for this flow
			start := time.Now()
			require.NoError(t, c.change(g))
			require.Equal(t, graph.FlowEvent{Kind: graph.FlowGone, Flow: graph.Flow{ID: id}}, nextEvent(t, g))
			require.Less(t, time.Since(start), 500*time.Millisecond)
			require.ErrorIs(t, g.SetOffloaded([]uint64{id}, true), graph.ErrNotFound, "an offload that comes late")
			if c.anew == nil {
				requireNoEvent(t, g)
				require.Empty(t, allFlows(g))
				return
			}
			require.False(t, allFlows(g)[0].Offloaded)
			send(t, ports.vf0, in)
			e := nextEvent(t, g)
			require.Equal(t, graph.FlowNew, e.Kind)
			require.NotEqual(t, id, e.Flow.ID)
			c.anew(t, e.Flow)
		})
	}
}

// After a change the control side is told when all flows have been looked at, and not before it is told of those that
// have another verdict.
func TestFlowsAreResolvedAfterAChange(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.Workers = []int{1, 2} })
	for range sendMany(t, g) {
		nextEvent(t, g)
	}
	before := g.Generation()
	require.NoError(t, g.AddRoute(100, netip.MustParsePrefix("10.0.1.5/32"), graph.NextHop{Underlay: underlay1}))
	require.NotEqual(t, before, g.Generation())
	gone := 0
	for {
		e, ok := takeAnyEvent(g, 3*time.Second)
		require.True(t, ok, "no event")
		if e.Kind == graph.FlowGone {
			gone++
		}
		if e.Kind == graph.FlowsResolved && e.Generation == g.Generation() {
			break
		}
	}
	require.Equal(t, manyFlows, gone)
	requireNoEvent(t, g)
}

func TestTableFull(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.FlowCapacity = 16; c.Offload = false })
	for port := range uint16(100) {
		send(t, ports.vf0, fromGuest0(t, "10.0.1.5", vUDP, udp(port, 2), payload(hello)))
		out := receive(t, ports.pf0)
		require.Equal(t, frame(t, ip4("10.0.0.1", "10.0.1.5", 63, vUDP), udp(port, 2), payload(hello)), out[54:])
	}
	require.LessOrEqual(t, len(allFlows(g)), 16)
	c := counters(g)
	require.EqualValues(t, 100, c["flow_overflow"]+uint64(len(allFlows(g))))
	table := g.FlowTable()
	require.Equal(t, []int{len(allFlows(g)), 16}, []int{table.Flows, table.Capacity})
	require.Equal(t, c["flow_overflow"], table.Overflow)
	require.Zero(t, c.sum("drop_"))
}

// A reader that sleeps gets every flow in the end, once.
func TestSlowEventReader(t *testing.T) {
	const n = 18_000 // more than the ring and the channel hold
	g := newGraph(t, withTimeouts(time.Hour), func(c *nodes.Config) { c.FlowCapacity = 32768 })
	flow := func(i int) []byte {
		return fromGuest0(t, "10.0.0.2", vUDP, udp(uint16(1+i), 2), payload(hello))
	}
	for i := range n {
		send(t, ports.vf0, flow(i))
		receive(t, ports.vf1)
	}
	seen := map[uint16]bool{}
	for i := 0; len(seen) < n; i++ {
		if e, ok := takeEvent(g, 20*time.Millisecond); ok {
			require.Equal(t, graph.FlowNew, e.Kind)
			require.False(t, seen[e.Flow.Key.SrcPort], "announced twice")
			seen[e.Flow.Key.SrcPort] = true
			continue
		}
		require.Less(t, i, 3*n)
		for i := range n { // the next packet tries again
			if !seen[uint16(1+i)] {
				send(t, ports.vf0, flow(i))
				receive(t, ports.vf1)
			}
		}
	}
}

func TestFlowsInPages(t *testing.T) {
	g := newGraph(t)
	for port := range uint16(300) {
		send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(port, 2), payload(hello)))
		receive(t, ports.vf1)
	}
	seen := map[uint64]bool{}
	flows, next := g.Flows(0, 7)
	for {
		require.LessOrEqual(t, len(flows), 7)
		for _, f := range flows {
			require.False(t, seen[f.ID])
			seen[f.ID] = true
		}
		if next == 0 {
			break
		}
		flows, next = g.Flows(next, 7)
	}
	require.Len(t, seen, 300)
}

// A configuration that changes all the time must not tear what a reader sees: key and verdict belong together.
func TestReadWhileChanging(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.Offload = false })
	for port := range uint16(50) {
		send(t, ports.vf0, fromGuest0(t, "10.0.1.5", vUDP, udp(port, 2), payload(hello)))
		receive(t, ports.pf0)
	}
	change := func(i byte) error {
		return g.SetUplink(graph.Uplink{Port: ports.pf0.ID, MAC: wire.MAC{2, 0, 0, 0, 0, i},
			RouterMAC: wire.MAC{2, 0, 0, 0, 1, i}, LinkUp: true})
	}
	require.NoError(t, change(0))
	require.Eventually(t, func() bool { return allFlows(g)[0].Verdict.Header[4] == 1 }, time.Second, time.Millisecond)
	done := make(chan error)
	go func() {
		var err error
		for i := 1; i < 300 && err == nil; i++ {
			err = change(byte(i))
		}
		done <- err
	}()
	for {
		for _, f := range allFlows(g) {
			h := f.Verdict.Header
			require.Equal(t, h[5], h[11], "source and destination are of different times: %x", h)
		}
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
		}
	}
}
