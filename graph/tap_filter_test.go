// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/capture/filter/filtertest"
	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/test/report"
	"dpservice/wire"
)

// tapRules are a compiled filter's rules. The fields have the same order on both sides.
func tapRules(p filter.Program) []graph.TapRule {
	rules := make([]graph.TapRule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i].Sample = r.Sample
		for f, c := range r.Pattern {
			if !c.Any() {
				rules[i].Conditions = append(rules[i].Conditions,
					graph.TapCondition{Field: wire.Field(f), Value: c.Value, Mask: c.Mask})
			}
		}
	}
	return rules
}

// place is where packets pass a tap.
type place struct {
	link filter.Link
	port *graphtest.Port
	side graph.TapSide
	pass func(g *nodes.Graph, r *rand.Rand, packet []byte) ([]byte, error) // returns the frame that passed
}

func places(t *testing.T) []place {
	receive := func(port *graphtest.Port) func(*nodes.Graph, *rand.Rand, []byte) ([]byte, error) {
		return func(_ *nodes.Graph, r *rand.Rand, packet []byte) ([]byte, error) {
			sent++
			return packet, port.Send(0, packet, []int{0, 0, 7, 33}[r.IntN(4)])
		}
	}
	tunnel := map[byte][]byte{
		4: frame(t, eth(routerMAC, uplinkMAC, v6), ip6("fc00:2::1", "fc00:1::9", 64, inIP4))[:54],
		6: frame(t, eth(routerMAC, uplinkMAC, v6), ip6("fc00:2::1", "fc00:1::9", 64, inIP6))[:54],
	}
	return []place{
		{filter.Ethernet, ports.vf0, graph.TapRX, receive(ports.vf0)},
		{filter.Ethernet, ports.vf1, graph.TapTX, func(g *nodes.Graph, _ *rand.Rand, packet []byte) ([]byte, error) {
			return packet, g.Inject(ports.vf1.ID, packet)
		}},
		{filter.IP, ports.pf0, graph.TapRX, func(g *nodes.Graph, r *rand.Rand, packet []byte) ([]byte, error) {
			f := append(append([]byte(nil), tunnel[packet[0]>>4]...), packet...)
			f[19] = byte(len(packet)) // the payload length: they are short
			return receive(ports.pf0)(g, r, f)
		}},
	}
}

// sums are all packets that a tap has counted, and those that it has copied.
func sums(tap graph.Tap, c graph.TapCounters) (all, copied uint64) {
	for i, n := range c.Rules {
		all += n.Packets
		if tap.Rules[i].Sample {
			copied += n.Packets
		}
	}
	return all, copied
}

// What a filter's rules let a tap copy is what libpcap would have captured, but for what the documentation names: at
// every place, for packets in one piece or more.
func TestTapFiltersDecideLikeLibpcap(t *testing.T) {
	const filters, packets, maxRules = 120, 200, 256
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	g := newGraph(t, roomy)
	go func() {
		for range g.Punts() {
		}
	}()
	compared, accepted := 0, 0
	for i := range filters {
		p := places(t)[i%3]
		text := filtertest.RandomFilter(r, p.link, 2)
		oracle, err := filtertest.NewOracle(t, text, p.link)
		program, refused := filter.Compile(text, p.link, maxRules)
		if err != nil || refused != nil {
			continue
		}
		tap := everything(t, p.port, p.side)
		tap.Inner = p.link == filter.IP
		tap.Rules = tapRules(program)
		require.NoError(t, setTap(g, tap), text)
		var want [][]byte
		var passed uint64
		for range packets {
			packet := filtertest.RandomPacket(r, p.link)
			if packet.Unlike || len(program.Notes) > 0 && packet.Hidden() {
				continue
			}
			f, err := p.pass(g, r, packet.Data)
			require.NoError(t, err)
			passed++
			if oracle.Accepts(t, packet.Data) {
				want = append(want, udpEncap().copyOf(t, f))
				made++
			}
		}
		require.Eventually(t, func() bool {
			c, err := g.TapCounters(p.port.ID, p.side)
			all, _ := sums(tap, c)
			return err == nil && all == passed
		}, waitLong, time.Millisecond, "not every packet counted once: %s", text)
		settle(t, g)
		require.Equal(t, want, receiveAll(ports.pf0), "%s\nseed %d\n%v", text, seed, program.Rules)
		c, err := g.RemoveTap(p.port.ID, p.side)
		require.NoError(t, err)
		all, copied := sums(tap, c)
		require.Equal(t, passed, all)
		require.EqualValues(t, len(want), copied)
		compared += int(passed)
		accepted += len(want)
		for _, port := range allPorts() {
			receiveAll(port)
		}
	}
	require.Greater(t, accepted, compared/20)
	require.Less(t, accepted, compared*19/20)
	report.Printf(t, "filters of taps beside libpcap: %d, %d packets compared, %d copied", filters, compared, accepted)
}
