// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

// BenchmarkNodes shows the TSC cycles per packet of every node but rx and tx, with full bursts.
func BenchmarkNodes(b *testing.B) {
	for name, c := range map[string]struct {
		in, out *graphtest.Port
		frame   func(flow int) []byte
	}{
		"VF to VF": {ports.vf0, ports.vf1, func(flow int) []byte {
			return frame(b, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(uint16(flow), 2))
		}},
		"VF to PF0": {ports.vf0, ports.pf0, func(flow int) []byte {
			return frame(b, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.1.5", 64, vUDP), udp(uint16(flow), 2))
		}},
		"PF0 to VF": {ports.pf0, ports.vf0, func(flow int) []byte {
			return frame(b, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(uint16(flow), 1))
		}},
	} {
		for _, flows := range []int{1, 1000, 50000} {
			b.Run(fmt.Sprintf("%s/%d flows", name, flows), func(b *testing.B) {
				benchmarkNodes(b, c.in, c.out, flows, c.frame)
			})
		}
	}
}

// BenchmarkTaps shows what a copy costs, and what it costs to look at a packet, with rules that it does not match.
func BenchmarkTaps(b *testing.B) {
	port := graph.TapCondition{Field: wire.FieldDstPort, Value: [16]byte{0, 3}, Mask: [16]byte{0xff, 0xff}}
	rules := func(n int) []graph.TapRule {
		rules := make([]graph.TapRule, n)
		for i := range n - 1 {
			rules[i] = graph.TapRule{Sample: true, Conditions: []graph.TapCondition{port}}
		}
		return rules
	}
	everything := []graph.TapRule{{Sample: true}}
	for _, size := range []int{18, 1400} {
		frameOf := func(int) []byte {
			return frame(b, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), text(size))
		}
		for _, c := range []struct {
			name  string
			port  *graphtest.Port
			side  graph.TapSide
			rules []graph.TapRule
		}{
			{"RX", ports.vf0, graph.TapRX, everything},
			{"TX", ports.vf1, graph.TapTX, everything},
			{"RX, 2 rules, no copy", ports.vf0, graph.TapRX, rules(2)},
			{"RX, 64 rules, no copy", ports.vf0, graph.TapRX, rules(64)},
		} {
			b.Run(fmt.Sprintf("%s, %d bytes", c.name, len(frameOf(0))), func(b *testing.B) {
				tap := graph.Tap{Port: c.port.ID, Side: c.side, Out: ports.pf0.ID, Header: udpEncap().header(b), Rules: c.rules}
				benchmarkNodes(b, ports.vf0, ports.vf1, 1, frameOf, tap)
			})
		}
	}
}

// BenchmarkTrace shows what a trace costs: before the first one, after one, and while one runs that follows no packet,
// or as many as it may. The nodes' cycles do not have what the worker does between its walks.
func BenchmarkTrace(b *testing.B) {
	frameOf := func(flow int) []byte {
		return frame(b, eth(guest0MAC, gatewayMAC, v4), ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(uint16(flow), 2))
	}
	for _, c := range []struct {
		name    string
		prepare func(b *testing.B, g *nodes.Graph)
	}{
		{"never", func(*testing.B, *nodes.Graph) {}},
		{"off again", func(b *testing.B, g *nodes.Graph) {
			require.NoError(b, g.StartTrace(traceOf0(b, "")))
			require.NoError(b, g.StopTrace())
		}},
		{"on, nothing matches", func(b *testing.B, g *nodes.Graph) {
			require.NoError(b, g.StartTrace(traceOf0(b, "tcp port 9")))
		}},
		{"on", func(b *testing.B, g *nodes.Graph) { require.NoError(b, g.StartTrace(traceOf0(b, ""))) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newBenchGraph(b)
			c.prepare(b, g)
			benchmarkGraph(b, g, ports.vf0, ports.vf1, 1000, frameOf)
		})
	}
}

func newBenchGraph(b *testing.B) *nodes.Graph {
	return newGraph(b, roomy, func(c *nodes.Config) { c.FlowCapacity = 1 << 16; c.Offload = false })
}

func benchmarkNodes(b *testing.B, in, out *graphtest.Port, flows int, frameOf func(int) []byte, taps ...graph.Tap) {
	benchmarkGraph(b, newBenchGraph(b), in, out, flows, frameOf, taps...)
}

func benchmarkGraph(b *testing.B, g *nodes.Graph, in, out *graphtest.Port, flows int, frameOf func(int) []byte,
	taps ...graph.Tap) {
	for _, t := range taps {
		require.NoError(b, setTap(g, t))
	}
	const burst = 512
	next := func(i int) [][]byte {
		frames := make([][]byte, burst)
		for j := range frames {
			frames[j] = frameOf((i*burst + j) % flows)
		}
		return frames
	}
	receive := func(p *graphtest.Port) {
		for n := 0; n < burst; {
			if p.Receive(0) != nil {
				n++
			}
		}
	}
	send := func(frames [][]byte) {
		require.NoError(b, in.SendBurst(0, frames))
		sent += burst
		receive(out)
		for _, t := range taps {
			if t.Rules[len(t.Rules)-1].Sample {
				made += burst
				receive(ports.pf0)
			}
		}
	}
	bursts := make([][][]byte, max(1, flows/burst))
	for i := range bursts {
		bursts[i] = next(i)
		send(bursts[i])
	}
	samples := map[string][]float64{}
	before := g.Stats()
	b.ResetTimer()
	for i := range b.N {
		send(bursts[i%len(bursts)])
		after := g.Stats()
		for j, s := range after {
			if s.Packets-before[j].Packets == burst && !strings.HasPrefix(s.Name, "rx-") && !strings.HasPrefix(s.Name, "tx-") {
				samples[s.Name] = append(samples[s.Name], float64(s.Cycles-before[j].Cycles)/burst)
			}
		}
		before = after
	}
	b.StopTimer()
	var total float64
	for name, s := range samples {
		slices.Sort(s)
		median := s[len(s)/2] // whoever else uses the core makes outliers
		b.ReportMetric(median, name+"-cycles")
		total += median
	}
	b.ReportMetric(total, "cycles/packet")
}
