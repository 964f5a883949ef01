// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph/nodes"
)

// flowOf is what a flow's packets have in common, as their headers say.
type flowOf struct {
	ipv6         bool
	proto        uint8
	sport, dport uint16
}

// The flow of a guest's packet is what RFC 791 and RFC 8200 say of its headers, whatever lengths, options, fragments
// and protocols it claims. IPv4 and IPv6, in the same bursts, from random headers.
func TestFlowsOfRandomHeaders(t *testing.T) {
	const bursts, burst = 200, 48
	g := newGraph(t, func(c *nodes.Config) { c.FlowCapacity = 1 << 15; c.Offload = false })
	r := rand.New(rand.NewPCG(7, 791)) //nolint:gosec // the same packets in each run
	from4, from6 := ip4("10.0.0.1", "10.0.0.2", 64, 0), ip6("fd00::1", "fd00::2", 64, 0)
	malformed, want := uint64(0), map[flowOf]uint64{}
	for range bursts {
		var frames [][]byte
		for range burst {
			f, flow := randomIPv4(t, r, from4)
			if r.IntN(3) == 0 {
				f, flow = randomIPv6(t, r, from6)
			}
			if flow == nil {
				malformed++
			} else {
				want[*flow]++
			}
			frames = append(frames, f)
		}
		sendAll(t, ports.vf0, frames)
		settle(t, g)
		receiveAll(ports.vf1)
	}
	require.Equal(t, malformed, counters(g)["drop_malformed"])
	require.Equal(t, malformed, counters(g).sum("drop_"))
	got := map[flowOf]uint64{}
	for _, f := range allFlows(g) {
		got[flowOf{f.Key.Src.Is6(), f.Key.Proto, f.Key.SrcPort, f.Key.DstPort}] += f.Packets
	}
	require.Equal(t, want, got)
}

// often returns one of its values, the first one in most cases.
func often[T any](r *rand.Rand, usual T, others ...T) T {
	if r.IntN(4) > 0 {
		return usual
	}
	return others[r.IntN(len(others))]
}

func randomProto(r *rand.Rand, icmp uint8) uint8 {
	return []uint8{6, 6, 17, 17, icmp, 47, 44, 0, 255}[r.IntN(9)]
}

// randomPayload has bytes of few values, so that flows have more than one packet.
func randomPayload(r *rand.Rand) []byte {
	p := make([]byte, often(r, 24, r.IntN(24)))
	for i := range p {
		p[i] = byte(r.IntN(3))
	}
	return p
}

// readL4 returns the flow of a packet's protocol and what follows its IP header.
func readL4(proto uint8, l4 []byte) *flowOf {
	header := map[uint8]int{6: 20, 17: 8, 1: 8, 58: 8}[proto]
	f := &flowOf{proto: proto}
	if header == 0 || len(l4) < header {
		return f
	}
	f.sport = binary.BigEndian.Uint16(l4)
	if proto == 6 || proto == 17 {
		f.dport = binary.BigEndian.Uint16(l4[2:])
	}
	return f
}

// randomIPv4 returns a frame and its flow; nil: it is malformed.
func randomIPv4(t *testing.T, r *rand.Rand, ip *layers.IPv4) ([]byte, *flowOf) {
	options, l4 := make([]byte, 4*often(r, 0, 1, 5, 10)), randomPayload(r)
	f := frame(t, eth(guest0MAC, gatewayMAC, v4), ip, payload(""))[:34]
	p := slices.Concat(f[14:34], options, l4)
	size := often(r, len(p), len(p)-r.IntN(5), 20, 19, r.IntN(1<<16))
	p[0] = 4<<4 | byte(20+len(options))/4
	p[0] = often(r, p[0], p[0], p[0], 0x44, 0x4f, 0x65, 0x00)
	binary.BigEndian.PutUint16(p[2:], uint16(size))
	binary.BigEndian.PutUint16(p[6:], often[uint16](r, 0, 0x4000, 0x2000, 0x0001, 0x1fff))
	p[9] = randomProto(r, 1)
	padded := append(slices.Concat(f[:14], p), make([]byte, often(r, 0, 6))...)

	header := int(p[0]&15) * 4
	if p[0]>>4 != 4 || header < 20 || size < header || size > len(padded)-14 {
		return padded, nil
	}
	if binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
		return padded, &flowOf{proto: p[9]}
	}
	return padded, readL4(p[9], padded[14:][header:size])
}

// randomIPv6 returns a frame and its flow; nil: it is malformed.
func randomIPv6(t *testing.T, r *rand.Rand, ip *layers.IPv6) ([]byte, *flowOf) {
	l4 := randomPayload(r)
	l4 = append(l4, make([]byte, max(0, 8-len(l4)))...) // with less, none of the slow path's
	f := frame(t, eth(guest0MAC, gatewayMAC, v6), ip, payload(""))[:54]
	p := slices.Concat(f[14:54], l4)
	size := often(r, len(l4), len(l4)-r.IntN(5), 0, r.IntN(1<<16))
	p[0] = often[byte](r, 0x60, 0x6f, 0x45, 0x70)
	binary.BigEndian.PutUint16(p[4:], uint16(size))
	p[6] = randomProto(r, 58)
	padded := append(slices.Concat(f[:14], p), make([]byte, often(r, 0, 6))...)
	if p[0]>>4 != 6 || size > len(padded)-54 {
		return padded, nil
	}
	flow := readL4(p[6], padded[54:54+size])
	flow.ipv6 = true
	return padded, flow
}
