// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

// A frame that the NIC has decapsulated for an interface is treated as the one that came in: the same comes out, the
// same nodes count, and it is of the same flow.
func TestMarkedAsEncapsulated(t *testing.T) {
	filler := strings.Repeat("f", 32) // no frame is so short that it is padded
	long, df := strings.Repeat("x", 1300), layers.IPv4DontFragment
	from := func(l *layers.IPv4, change func(*layers.IPv4)) *layers.IPv4 { change(l); return l }
	to1 := func() *layers.IPv4 { return ip4("10.0.1.5", "10.0.0.1", 63, vUDP) }
	tests := map[string]struct {
		inner  []gopacket.SerializableLayer
		outs   int             // frames
		to     *graphtest.Port // nil: dropped
		counts string
	}{
		"IPv4": {inner: []gopacket.SerializableLayer{to1(), udp(2, 1), payload(filler)}, outs: 1, to: ports.vf0,
			counts: "decap"},
		"IPv6": {inner: []gopacket.SerializableLayer{ip6("fd00:1::5", "fd00::1", 63, vUDP), udp(2, 1),
			payload(filler)}, outs: 1, to: ports.vf0, counts: "decap"},
		"no hop left": {inner: []gopacket.SerializableLayer{ip4("10.0.1.5", "10.0.0.1", 1, vUDP), udp(2, 1),
			payload(filler)}, outs: 1, to: ports.vf0, counts: "decap"},
		"fragment": {inner: []gopacket.SerializableLayer{from(to1(), func(l *layers.IPv4) { l.FragOffset = 10 }),
			payload(filler)}, outs: 1, to: ports.vf0, counts: "decap"},
		"another's": {inner: []gopacket.SerializableLayer{ip4("10.0.1.5", "10.0.0.2", 63, vUDP), udp(2, 1),
			payload(filler)}, outs: 1, to: ports.pf0, counts: "icmp_no_route"},
		"too big": {inner: []gopacket.SerializableLayer{from(to1(), func(l *layers.IPv4) { l.Flags = df }), udp(2, 1),
			payload(long)}, outs: 1, to: ports.pf0, counts: "icmp_too_big"},
		"too big IPv6": {inner: []gopacket.SerializableLayer{ip6("fd00:1::5", "fd00::1", 63, vUDP), udp(2, 1), payload(long)},
			outs: 1, to: ports.pf0, counts: "icmp_too_big"},
		"to be cut": {inner: []gopacket.SerializableLayer{to1(), udp(2, 1), payload(long)}, outs: 2, to: ports.vf0,
			counts: "oversize"},
		"malformed": {inner: []gopacket.SerializableLayer{payload("no IP")}, counts: "drop_malformed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t, func(c *nodes.Config) { c.Ports[0].MTU = 1280 })
			etherType, proto := v4, inIP4
			if _, ok := tt.inner[0].(*layers.IPv6); ok {
				etherType, proto = v6, inIP6
			}
			through := func(headers ...gopacket.SerializableLayer) (outs [][]byte, counted counts, flows []graph.Flow) {
				before := counters(g)
				send(t, ports.pf0, frame(t, append(headers, tt.inner...)...))
				for range tt.outs {
					outs = append(outs, receive(t, tt.to))
				}
				made += uint64(max(tt.outs, 1) - 1)
				settle(t, g)
				counted = counters(g)
				maps.DeleteFunc(counted, func(node string, n uint64) bool { return n == before[node] })
				for node := range counted {
					counted[node] -= before[node]
				}
				flows, _ = g.Flows(0, 10)
				return outs, counted, flows
			}
			encapsulated := []gopacket.SerializableLayer{eth(routerMAC, uplinkMAC, v6),
				ip6(remote.String(), underlay0.String(), 64, proto)}
			through(encapsulated...) // the flow's first one takes a way of its own
			outs, counted, flows := through(encapsulated...)
			markedOuts, markedCounted, markedFlows := through(eth(graph.Mark(1), uplinkMAC, etherType))
			assert.Equal(t, outs, markedOuts)
			assert.Equal(t, counted, markedCounted)
			assert.NotZero(t, counted[tt.counts])
			require.Len(t, markedFlows, len(flows))
			for i := range flows {
				assert.Equal(t, flows[i].ID, markedFlows[i].ID)
				assert.Equal(t, flows[i].Packets+1, markedFlows[i].Packets)
			}
		})
	}
}

// Whose a marked frame is, the mark says, not its addresses: two networks may use the same.
func TestMarkTellsTheInterface(t *testing.T) {
	g := newGraph(t)
	require.NoError(t, g.AddRoute(200, netip.MustParsePrefix("10.0.1.0/24"), graph.NextHop{Underlay: remote}))
	for index, out := range map[uint16]*graphtest.Port{1: ports.vf0, 3: ports.vf2} {
		in := frame(t, eth(graph.Mark(index), uplinkMAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1),
			payload("whose?"))
		send(t, ports.pf0, in)
		assert.Equal(t, in[14:], receive(t, out)[14:])
	}
}

// What looks like a mark is none where the NIC makes none: on a guest's port, on PF1, and without offload.
func TestMarkIsReadOnlyWhereTheNICWritesIt(t *testing.T) {
	inner := []gopacket.SerializableLayer{ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1)}
	marked := func(dst wire.MAC, index uint16) []byte {
		return frame(t, append([]gopacket.SerializableLayer{eth(graph.Mark(index), dst, v4)}, inner...)...)
	}
	for _, offload := range []bool{true, false} {
		t.Run(fmt.Sprintf("offload %t", offload), func(t *testing.T) {
			g := newGraph(t, func(c *nodes.Config) { c.Offload = offload })
			onPF0 := "drop_unsupported"
			if offload {
				onPF0 = "decap"
				for _, unknown := range []uint16{0, 4, 2047, 2048, 65535} {
					send(t, ports.pf0, marked(uplinkMAC, unknown))
				}
				settle(t, g)
				assert.EqualValues(t, 5, counters(g)["drop_unknown_mark"])
			}
			for node, c := range map[string]struct {
				in  *graphtest.Port
				dst wire.MAC
			}{onPF0: {ports.pf0, uplinkMAC}, "drop_spoofed": {ports.vf1, gatewayMAC}} {
				send(t, c.in, marked(c.dst, 1))
				settle(t, g)
				assert.EqualValues(t, 1, counters(g)[node], node)
			}
			before := counters(g)["drop_unsupported"]
			send(t, ports.pf1, marked(uplink1MAC, 1))
			settle(t, g)
			assert.Equal(t, before+1, counters(g)["drop_unsupported"])
		})
	}
}
