// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
)

// traceOf0 follows what the first interface sends and what comes for it from the wire, if it matches the filter.
func traceOf0(t testing.TB, text string) graph.Trace {
	t.Helper()
	tr := graph.Trace{Port: ports.vf0.ID, Interface: 1, Underlay: underlay0}
	for link, rules := range map[filter.Link]*[]graph.TapRule{filter.Ethernet: &tr.Guest, filter.IP: &tr.Wire} {
		p, err := filter.Compile(text, link, graph.MaxTapRules)
		require.NoError(t, err)
		*rules = tapRules(p)
	}
	return tr
}

// readTrace waits for so many packets of the trace.
func readTrace(t testing.TB, g *nodes.Graph, n int) []graph.TracedPacket {
	t.Helper()
	var all []graph.TracedPacket
	require.Eventually(t, func() bool {
		packets, missed := g.ReadTrace()
		require.Zero(t, missed)
		all = append(all, packets...)
		return len(all) >= n
	}, waitLong, time.Millisecond)
	require.Len(t, all, n)
	return all
}

// path is the nodes that a packet has visited.
func path(p graph.TracedPacket) string {
	var names []string
	for _, h := range p.Hops {
		names = append(names, h.Node)
	}
	return strings.Join(names, " ")
}

func TestTrace(t *testing.T) {
	g := newGraph(t)
	require.NoError(t, g.StartTrace(traceOf0(t, "ip")))
	udpFrom0 := func(src, dst string, ttl uint8) stack {
		return stack{eth(guest0MAC, gatewayMAC, v4), ip4(src, dst, ttl, vUDP), udp(1, 2), payload(hello)}
	}
	for _, c := range []struct {
		name     string
		in, out  *graphtest.Port
		frame    stack
		path     string // none: the packet is not followed
		kind     graph.VerdictKind
		flow     bool
		fromWire bool
	}{
		{"the first packet of a flow", ports.vf0, ports.pf0, udpFrom0("10.0.0.1", "10.0.1.5", 64),
			"rx-vf0 classify_guest flow_lookup flow_route encap tx-pf0", graph.Encap, true, false},
		{"the second packet of a flow", ports.vf0, ports.pf0, udpFrom0("10.0.0.1", "10.0.1.5", 64),
			"rx-vf0 classify_guest flow_lookup encap tx-pf0", graph.Encap, true, false},
		{"to a local guest", ports.vf0, ports.vf1, udpFrom0("10.0.0.1", "10.0.0.2", 64),
			"rx-vf0 classify_guest flow_lookup flow_route deliver tx-vf1", graph.Deliver, true, false},
		{"a forged source", ports.vf0, nil, udpFrom0("10.0.0.9", "10.0.0.2", 64),
			"rx-vf0 classify_guest flow_lookup flow_route drop_spoofed", 0, false, false},
		{"the last hop, answered", ports.vf0, ports.vf0, udpFrom0("10.0.0.1", "10.0.1.5", 1),
			"rx-vf0 classify_guest flow_lookup encap icmp_time_exceeded tx-vf0", graph.Encap, true, false},
		{"for the interface from the wire", ports.pf0, ports.vf0,
			stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)},
			"rx-pf0 classify_wire flow_lookup flow_route decap tx-vf0", graph.Deliver, true, true},
		{"decapsulated by the NIC", ports.pf0, ports.vf0,
			stack{eth(graph.Mark(1), uplinkMAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 7), payload(hello)},
			"rx-pf0 classify_wire flow_lookup flow_route decap tx-vf0", graph.Deliver, true, true},
		{"for another interface from the wire", ports.pf0, ports.vf1,
			stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay1.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.2", 63, vUDP), udp(2, 1), payload(hello)},
			"", 0, false, false},
		{"of another guest", ports.vf1, ports.vf0,
			stack{eth(guest1MAC, gatewayMAC, v4), ip4("10.0.0.2", "10.0.0.1", 64, vUDP), udp(1, 2), payload(hello)},
			"", 0, false, false},
		{"not in the filter", ports.vf0, ports.pf0,
			stack{eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00:1::9", 64, vUDP), udp(1, 2), payload(hello)},
			"", 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := frame(t, c.frame...)
			send(t, c.in, in)
			if c.out != nil {
				receive(t, c.out)
			}
			settle(t, g)
			require.NoError(t, g.Ping()) // the walk has ended
			if c.path == "" {
				readTrace(t, g, 0)
				return
			}
			p := readTrace(t, g, 1)[0]
			assert.Equal(t, c.path, path(p))
			assert.Equal(t, in, p.Frame)
			assert.Equal(t, len(in), p.Length)
			assert.Equal(t, c.in.ID, p.Port)
			assert.Equal(t, c.fromWire, p.Origin == graph.FromWire)
			assert.WithinDuration(t, time.Now(), p.Time, time.Minute)
			last := uint32(0)
			for _, h := range p.Hops {
				assert.LessOrEqual(t, last, h.Begin)
				assert.Less(t, h.Begin, h.End)
				assert.Equal(t, 1, h.Burst)
				last = h.End
			}
			if require.Equal(t, c.flow, p.Flow != nil); c.flow {
				assert.Equal(t, c.kind, p.Flow.Verdict.Kind)
				assert.True(t, p.Flow.Candidate)
				assert.True(t, p.Flow.Announced)
				assert.EqualValues(t, 1, p.Flow.Key.Interface)
			}
		})
	}
	require.NoError(t, g.Inject(ports.vf0.ID, frame(t, eth(gatewayMAC, guest0MAC, v4),
		ip4("10.0.0.2", "10.0.0.1", 64, vUDP), udp(1, 2), payload(hello))))
	receive(t, ports.vf0)
	require.NoError(t, g.Ping())
	readTrace(t, g, 0) // what the slow path sends comes from no guest
	require.NoError(t, g.StopTrace())
}

// The trace of all packets tells of each visit that the nodes count, with several packets in one burst, and with copies
// and fragments, which are no packets that came in.
func TestTraceVisitsWhatNodesCount(t *testing.T) {
	g := newGraph(t)
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
	require.NoError(t, g.StartTrace(traceOf0(t, "")))
	before := counters(g)
	big := ip4("10.0.0.1", "10.0.1.5", 64, vUDP)
	var frames [][]byte
	for i := range 60 {
		src := []string{"10.0.0.1", "10.0.0.9"}[i%2]
		ip := ip4(src, "10.0.1.5", uint8(1+i%3), vUDP)
		frames = append(frames, frame(t, eth(guest0MAC, gatewayMAC, v4), ip, udp(uint16(i), 2), payload(hello)))
	}
	frames[7] = frame(t, eth(guest0MAC, gatewayMAC, v4), big, udp(1, 2), text(1472))
	require.NoError(t, ports.vf0.SendBurst(0, frames))
	sent += uint64(len(frames))
	unbalanced = true // fragments and copies
	settle(t, g)
	visits := counts{}
	fragments := 0
	for _, p := range readTrace(t, g, len(frames)) {
		for _, h := range p.Hops {
			visits[h.Node]++
		}
		if p.Hops[len(p.Hops)-1].Node == "oversize" {
			fragments++
		}
	}
	require.Equal(t, 1, fragments)
	require.Zero(t, visits["drop_copy_too_big"])
	after := counters(g)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if strings.HasPrefix(name, "tx-pf") || name == "encap" || name == "drop_copy_too_big" {
			continue // copies and fragments pass them, too
		}
		assert.Equal(t, after[name]-before[name], visits[name], name)
	}
	require.NoError(t, g.StopTrace())
	_, err := g.RemoveTap(ports.vf0.ID, graph.TapRX)
	require.NoError(t, err)
	receiveAll(ports.pf0)
	receiveAll(ports.vf0)
}

// With Drops only packets are recorded that were dropped or answered.
func TestTraceOfDrops(t *testing.T) {
	g := newGraph(t)
	tr := traceOf0(t, "")
	tr.Drops = true
	require.NoError(t, g.StartTrace(tr))
	for _, src := range []string{"10.0.0.1", "10.0.0.9", "10.0.0.1"} {
		send(t, ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v4), ip4(src, "10.0.0.2", 64, vUDP), udp(1, 2),
			payload(hello)))
	}
	receive(t, ports.vf1)
	receive(t, ports.vf1)
	p := readTrace(t, g, 1)[0]
	assert.Equal(t, "rx-vf0 classify_guest flow_lookup flow_route drop_spoofed", path(p))
	assert.Nil(t, p.Flow)
	require.NoError(t, g.StopTrace())
}

// Whatever comes, a trace tells of a bounded number, counts the others, and forwards all.
func TestTraceIsBounded(t *testing.T) {
	g := newGraph(t)
	require.NoError(t, g.StartTrace(traceOf0(t, "")))
	f := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), payload(hello))
	const bursts, burst = 200, 32
	for range bursts {
		require.NoError(t, ports.vf0.SendBurst(0, slices.Repeat([][]byte{f}, burst)))
		sent += burst
		for range burst {
			receive(t, ports.vf1)
		}
	}
	require.NoError(t, g.Ping())
	recorded := 0
	var missed uint64
	for {
		packets, m := g.ReadTrace()
		if missed = m; len(packets) == 0 {
			break
		}
		recorded += len(packets)
	}
	assert.LessOrEqual(t, recorded, 512)
	assert.EqualValues(t, bursts*burst, uint64(recorded)+missed)
	require.NoError(t, g.StopTrace())
}

// Traces begin and end while packets flow, on all workers, and leave nothing behind.
func TestTraceStartsAndStops(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.Workers = []int{1, 2} })
	heap := graphtest.HeapInUse()
	f := frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolTCP),
		&layers.TCP{SrcPort: 1, DstPort: 2, SYN: true, DataOffset: 5}, payload(hello))
	for range 50 {
		require.NoError(t, g.StartTrace(traceOf0(t, "tcp")))
		require.ErrorIs(t, g.StartTrace(traceOf0(t, "")), graph.ErrExists)
		send(t, ports.vf0, f)
		receive(t, ports.vf1)
		require.NoError(t, ports.vf0.Send(1, f, 0)) // the second worker's
		sent++
		require.Eventually(t, func() bool { return ports.vf1.Receive(1) != nil }, waitLong, time.Millisecond)
		for _, p := range readTrace(t, g, 2) {
			assert.Equal(t, "tx-vf1", p.Hops[len(p.Hops)-1].Node)
			assert.False(t, p.Flow.Announced, "the handshake stays in software")
		}
		require.NoError(t, g.StopTrace())
		require.ErrorIs(t, g.StopTrace(), graph.ErrNotFound)
		packets, missed := g.ReadTrace()
		require.Empty(t, packets)
		require.Zero(t, missed)
	}
	require.Equal(t, heap, graphtest.HeapInUse())
}

func TestTraceRefuses(t *testing.T) {
	g := newGraph(t)
	for want, change := range map[error]func(*graph.Trace){
		graph.ErrNotFound: func(tr *graph.Trace) { tr.Port = 1000 },
		graph.ErrInvalid:  func(tr *graph.Trace) { tr.Guest = nil },
	} {
		tr := traceOf0(t, "")
		change(&tr)
		require.ErrorIs(t, g.StartTrace(tr), want)
	}
	tr := traceOf0(t, "")
	tr.Port = ports.pf0.ID
	require.ErrorIs(t, g.StartTrace(tr), graph.ErrInvalid)
	giveBack := graphtest.FillHeap()
	err := g.StartTrace(traceOf0(t, ""))
	giveBack()
	require.ErrorIs(t, err, graph.ErrFull)
	require.NoError(t, g.StartTrace(traceOf0(t, "")))
	// the graph is closed while it runs
}
