// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/nodes"
)

// asked makes questions, and the packets that they are about.
type asked struct {
	*rand.Rand
	t *testing.T
}

func (a asked) pick(of ...string) string { return of[a.IntN(len(of))] }

// question is about a packet that the first guest sends, or that comes for it from the wire. Few addresses and ports
// make some of them packets of known flows.
func (a asked) question() graph.Question {
	q := graph.Question{Origin: graph.Origin(a.IntN(2)), Port: ports.vf0.ID, Proto: uint8(layers.IPProtocolUDP)}
	mine, others := []string{"10.0.0.1", "10.0.0.1", "10.0.0.9"}, []string{"10.0.0.2", "10.0.1.5", "10.0.1.5", "10.0.1.5",
		"10.0.1.200", "10.0.9.9", "169.254.0.1", "224.0.0.5", "127.0.0.1", "255.255.255.255", "10.0.2.7"}
	if a.IntN(2) == 0 {
		mine, others = []string{"fd00::1", "fd00::9"}, []string{"fd00::2", "fd00:1::5", "fd00:1::5", "fd00:9::9", "fe80::1", "ff02::5",
			"::1", gateway100.String()}
	}
	q.Src, q.Dst = addr(a.pick(mine...)), addr(a.pick(others...))
	if q.Origin == graph.FromWire {
		q.Port, q.Underlay, q.Src, q.Dst = ports.pf0.ID, underlay0, q.Dst, q.Src
		q.Peer = addr(a.pick(remote.String(), remote.String(), "fc00:3::1"))
	}
	q.SrcPort, q.DstPort = uint16(1+a.IntN(2)), uint16([]int{53, 67, 547}[a.IntN(3)])
	if a.IntN(4) == 0 {
		q.Proto, q.SrcPort, q.DstPort = uint8(layers.IPProtocolICMPv4), 8<<8, 0
		if q.Src.Is6() {
			q.Proto, q.SrcPort = uint8(layers.IPProtocolICMPv6), 128<<8
		}
	}
	return q
}

// frame is the question's packet.
func (a asked) frame(q graph.Question) []byte {
	l4 := stack{udp(q.SrcPort, q.DstPort), payload(hello)}
	switch layers.IPProtocol(q.Proto) {
	case layers.IPProtocolICMPv4:
		l4 = stack{&layers.ICMPv4{TypeCode: layers.ICMPv4TypeCode(q.SrcPort)}, payload(hello)}
	case layers.IPProtocolICMPv6:
		l4 = stack{&layers.ICMPv6{TypeCode: layers.ICMPv6TypeCode(q.SrcPort)}, payload(hello)}
	}
	proto := layers.IPProtocol(q.Proto)
	inner, etherType, inIP := append(stack{ip4(q.Src.String(), q.Dst.String(), 64, proto)}, l4...), v4, inIP4
	if q.Src.Is6() {
		inner, etherType, inIP = append(stack{ip6(q.Src.String(), q.Dst.String(), 64, proto)}, l4...), v6, inIP6
	}
	if q.Origin == graph.FromWire {
		outer := ip6(q.Peer.String(), q.Underlay.String(), 61, inIP)
		return frame(a.t, append(stack{eth(routerMAC, uplinkMAC, v6), outer}, inner...)...)
	}
	return frame(a.t, append(stack{eth(guest0MAC, gatewayMAC, etherType)}, inner...)...)
}

// What Explain says of a packet is what becomes of it: where it ends, or by which flow it is forwarded. To ask changes
// nothing: the packet finds its flow known only if the answer has said so.
func TestExplainSaysWhatBecomesOfPackets(t *testing.T) {
	g := newGraph(t)
	require.NoError(t, g.StartTrace(traceOf0(t, "")))
	a := asked{rand.New(rand.NewPCG(1, 2)), t}
	ends := map[string]int{}
	for i := range 400 {
		q := a.question()
		if i%50 == 49 { // all verdicts are to be resolved again
			require.NoError(t, g.SetUplink(graph.Uplink{Port: ports.pf0.ID, MAC: uplinkMAC, RouterMAC: routerMAC, LinkUp: true}))
		}
		said, err := g.Explain(q)
		require.NoError(t, err)
		in := ports.vf0
		if q.Origin == graph.FromWire {
			in = ports.pf0
		}
		send(t, in, a.frame(q))
		p := nextTraced(t, g)
		for _, port := range allPorts() {
			receiveAll(port)
		}
		require.Equal(t, said.Node, end(p), "%+v: %s", q, path(p))
		ends[said.Node]++
		if said.Node != "" {
			continue
		}
		known := said.Flow != nil && !said.Stale
		require.Equal(t, known, !strings.Contains(path(p), "flow_route"), "%+v: %s", q, path(p))
		assert.Equal(t, p.Flow.Verdict, said.Next.Verdict, "%+v", q)
		assert.Equal(t, p.Flow.Key, said.Next.Key, "%+v", q)
		assert.Equal(t, p.Flow.Candidate, said.Offloadable, "%+v", q)
		again, err := g.Explain(graph.Question{ID: p.Flow.ID})
		require.NoError(t, err)
		assert.Equal(t, p.Flow.ID, again.Flow.ID)
		assert.False(t, again.Stale)
		assert.Equal(t, said.Next.Verdict, again.Next.Verdict, "%+v", q)
	}
	t.Log(ends)
	require.Greater(t, len(ends), 8)
	require.Greater(t, ends[""], 50)
	require.NoError(t, g.StopTrace())
}

// nextTraced waits for the next packet that the trace tells of.
func nextTraced(t *testing.T, g *nodes.Graph) graph.TracedPacket {
	t.Helper()
	var packets []graph.TracedPacket
	require.Eventually(t, func() bool {
		packets, _ = g.ReadTrace()
		return len(packets) > 0
	}, waitLong, 100*time.Microsecond)
	require.Len(t, packets, 1)
	return packets[0]
}

// end is the node where a packet has ended, as Explain calls it.
func end(p graph.TracedPacket) string {
	for _, h := range p.Hops {
		if strings.HasPrefix(h.Node, "drop_") || strings.HasPrefix(h.Node, "icmp_") || h.Node == "punt" {
			return h.Node
		}
	}
	return ""
}

func TestExplainRefusesQuestions(t *testing.T) {
	g := newGraph(t)
	for _, c := range []struct {
		q   graph.Question
		err error
	}{
		{graph.Question{ID: 4711}, graph.ErrNotFound},
		{graph.Question{ID: 1 << 60}, graph.ErrNotFound},
		{graph.Question{Port: 999, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2")}, graph.ErrNotFound},
		{graph.Question{Port: ports.vf0.ID, Src: addr("10.0.0.1"), Dst: addr("fd00::2")}, graph.ErrInvalid},
		{graph.Question{Port: ports.vf0.ID, Src: netip.Addr{}, Dst: addr("fd00::2")}, graph.ErrInvalid},
	} {
		_, err := g.Explain(c.q)
		require.ErrorIs(t, err, c.err, "%+v", c.q)
	}
}
