// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/cgo/mempool"
	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

// encap makes copies, as the encapsulation's definition has it.
type encap struct{ layers stack }

func udpEncap() encap {
	ip := ip6("fc00:1::1", "fc00:99::1", 64, vUDP)
	ip.FlowLabel = 7
	return encap{stack{eth(uplinkMAC, routerMAC, v6), ip, udp(3000, 3010)}}
}

func vxlanEncap() encap {
	return encap{stack{eth(uplinkMAC, routerMAC, v6), ip6("fc00:1::1", "fc00:99::1", 64, vUDP), udp(3000, 4789),
		&layers.VXLAN{ValidIDFlag: true, VNI: 7}}}
}

func (e encap) serialize(t testing.TB, lengths bool, frame []byte) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: lengths},
		append(slices.Clone(e.layers), gopacket.Payload(frame))...))
	return buf.Bytes()
}

func (e encap) header(t testing.TB) []byte {
	t.Helper()
	for _, l := range e.layers {
		switch l := l.(type) {
		case *layers.IPv6:
			l.Length = 0
		case *layers.UDP:
			l.Length = 0
		}
	}
	return e.serialize(t, false, nil)
}

func (e encap) copyOf(t testing.TB, frame []byte) []byte {
	t.Helper()
	return e.serialize(t, true, frame)
}

// setTap sets a tap in the place of none, or of one whose counters do not matter.
func setTap(g *nodes.Graph, tap graph.Tap) error {
	_, err := g.SetTap(tap)
	return err
}

// everything is a tap without a filter.
func everything(t testing.TB, port *graphtest.Port, side graph.TapSide) graph.Tap {
	t.Helper()
	return graph.Tap{Port: port.ID, Side: side, Out: ports.pf0.ID, Header: udpEncap().header(t),
		Rules: []graph.TapRule{{Sample: true}}}
}

// roomy makes place for the copies of full-size frames.
func roomy(c *nodes.Config) {
	for i := range c.Ports {
		if c.Ports[i].Name == "pf0" {
			c.Ports[i].MTU = 9000
		}
	}
}

func receiveAll(p *graphtest.Port) (frames [][]byte) {
	for f := p.Receive(0); f != nil; f = p.Receive(0) {
		frames = append(frames, f)
	}
	return frames
}

func counted(packets, size int) graph.TapCounters {
	return graph.TapCounters{Rules: []graph.TapCount{{Packets: uint64(packets), Bytes: uint64(packets * size)}}}
}

// Every case states in full what a guest, or the wire, has sent or received: that, and nothing else, is in the copy.
func TestTapCopies(t *testing.T) {
	g := newGraph(t, roomy)
	wire := func(inner ...gopacket.SerializableLayer) []byte {
		return frame(t, append(stack{eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4)},
			inner...)...)
	}
	toGuest0 := frame(t, eth(guest1MAC, gatewayMAC, v4), ip4("10.0.0.2", "10.0.0.1", 64, vUDP), udp(1, 2), payload(hello))
	hopsUsedUp := stack{ip4("10.0.0.1", "10.0.0.2", 1, vUDP), udp(1, 2), payload(hello)}
	for _, c := range []struct {
		name   string
		port   *graphtest.Port
		side   graph.TapSide
		inner  bool
		in     *graphtest.Port // nil: injected
		frame  []byte
		copied []byte
		out    *graphtest.Port // nil: it goes nowhere
	}{
		{"a guest's, to another", ports.vf0, graph.TapRX, false, ports.vf0,
			fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)),
			fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)), ports.vf1},
		{"a guest's, dropped", ports.vf0, graph.TapRX, false, ports.vf0, fromGuest0(t, "224.0.0.5", vUDP, udp(1, 2)),
			fromGuest0(t, "224.0.0.5", vUDP, udp(1, 2)), nil},
		{"a guest's, of three bytes", ports.vf0, graph.TapRX, false, ports.vf0, []byte{1, 2, 3}, []byte{1, 2, 3}, nil},
		{"to a guest, from another", ports.vf0, graph.TapTX, false, ports.vf1, toGuest0,
			frame(t, eth(gatewayMAC, guest0MAC, v4), ip4("10.0.0.2", "10.0.0.1", 63, vUDP), udp(1, 2), payload(hello)),
			ports.vf0},
		{"to a guest, from the wire", ports.vf0, graph.TapTX, false, ports.pf0,
			wire(ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)),
			frame(t, eth(gatewayMAC, guest0MAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)),
			ports.vf0},
		{"to a guest, from the slow path", ports.vf0, graph.TapTX, false, nil,
			frame(t, eth(gatewayMAC, guest0MAC, layers.EthernetTypeARP), payload("reply")),
			frame(t, eth(gatewayMAC, guest0MAC, layers.EthernetTypeARP), payload("reply")), ports.vf0},
		{"to a guest, an error", ports.vf0, graph.TapTX, false, ports.vf0,
			frame(t, append(stack{eth(guest0MAC, gatewayMAC, v4)}, hopsUsedUp...)...),
			frame(t, append(stack{eth(gatewayMAC, guest0MAC, v4)}, error4("10.0.0.1", 11, 0, 0, frame(t, hopsUsedUp...))...)...),
			ports.vf0},
		{"from the wire", ports.pf0, graph.TapRX, true, ports.pf0,
			wire(ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)),
			wire(ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)), ports.vf0},
		{"from the other wire, dropped", ports.pf1, graph.TapRX, true, ports.pf1,
			wire(payload("neither IPv4 nor IPv6, but in a tunnel")),
			wire(payload("neither IPv4 nor IPv6, but in a tunnel")), nil},
	} {
		for name, e := range map[string]encap{"UDP": udpEncap(), "VXLAN": vxlanEncap()} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				pass := func() {
					if c.in == nil {
						require.NoError(t, g.Inject(c.port.ID, c.frame))
					} else {
						send(t, c.in, c.frame)
					}
					if c.out != nil {
						receive(t, c.out)
					}
					settle(t, g)
				}
				tap := graph.Tap{Port: c.port.ID, Side: c.side, Out: ports.pf0.ID, Header: e.header(t), Inner: c.inner,
					Rules: []graph.TapRule{{Sample: true}}}
				require.NoError(t, setTap(g, tap))
				made++
				pass()
				require.Equal(t, [][]byte{e.copyOf(t, c.copied)}, receiveAll(ports.pf0))

				got, err := g.TapCounters(c.port.ID, c.side)
				require.NoError(t, err)
				require.Equal(t, counted(1, len(c.copied)), got)
				got, err = g.RemoveTap(c.port.ID, c.side)
				require.NoError(t, err)
				require.Equal(t, counted(1, len(c.copied)), got)
				pass()
				require.Empty(t, receiveAll(ports.pf0))
			})
		}
	}
}

// Of what comes from the wire only the guests' packets are copied, whatever comes beside them.
func TestTapInnerOnly(t *testing.T) {
	g := newGraph(t, roomy)
	tap := everything(t, ports.pf0, graph.TapRX)
	tap.Inner = true
	require.NoError(t, setTap(g, tap))
	for _, f := range [][]byte{
		frame(t, eth(routerMAC, uplinkMAC, v6), ip6("fc00:2::1", "fc00:1::1", 64, vUDP), udp(2, 1)),
		frame(t, eth(routerMAC, uplinkMAC, v4), ip4("1.2.3.4", "10.0.0.1", 64, inIP4), ip4("1.2.3.4", "10.0.0.1", 64, vUDP)),
		frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4))[:53],
		{1, 2, 3},
	} {
		send(t, ports.pf0, f)
	}
	settle(t, g)
	require.Empty(t, receiveAll(ports.pf0))
	got, err := g.RemoveTap(ports.pf0.ID, graph.TapRX)
	require.NoError(t, err)
	require.Equal(t, counted(0, 0), got)
}

// A port without an interface has nothing forwarded, but what its guest sends is copied.
func TestTapWithoutInterface(t *testing.T) {
	g := newGraph(t, roomy)
	require.NoError(t, g.DeleteInterface(1))
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	made++
	send(t, ports.vf0, in)
	settle(t, g)
	require.Equal(t, [][]byte{udpEncap().copyOf(t, in)}, receiveAll(ports.pf0))
	require.EqualValues(t, 1, counters(g)["drop_no_interface"])
}

// Fragments that the graph makes are copied as the guest receives them.
func TestTapFragments(t *testing.T) {
	g := newGraph(t, roomy)
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapTX)))
	send(t, ports.pf0, frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
		ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), text(1473)))
	made += 1 + 2
	settle(t, g)
	var want [][]byte
	for _, f := range receiveAll(ports.vf0) {
		want = append(want, udpEncap().copyOf(t, f))
	}
	require.Len(t, want, 2)
	require.Equal(t, want, receiveAll(ports.pf0))
}

// port80 samples TCP and UDP to port 80, and not what is from 10.0.0.9.
func port80() []graph.TapRule {
	is := func(f wire.Field, value ...byte) graph.TapCondition {
		c := graph.TapCondition{Field: f}
		copy(c.Value[:], value)
		copy(c.Mask[:], bytes.Repeat([]byte{0xff}, len(value)))
		return c
	}
	ip, l4, port := is(wire.FieldEtherType, 8, 0), is(wire.FieldL4, 1), is(wire.FieldDstPort, 0, 80)
	return []graph.TapRule{
		{Conditions: []graph.TapCondition{ip, is(wire.FieldSrc, 10, 0, 0, 9)}},
		{Sample: true, Conditions: []graph.TapCondition{ip, is(wire.FieldProto, 6), l4, port}},
		{Sample: true, Conditions: []graph.TapCondition{ip, is(wire.FieldProto, 17), l4, port}},
		{},
	}
}

func TestTapRulesInOrder(t *testing.T) {
	g := newGraph(t, roomy)
	tap := everything(t, ports.vf0, graph.TapRX)
	tap.Rules = port80()
	require.NoError(t, setTap(g, tap))
	from := func(src string, proto layers.IPProtocol, ls ...gopacket.SerializableLayer) []byte {
		return frame(t, append(stack{eth(guest0MAC, gatewayMAC, v4), ip4(src, "10.0.0.2", 64, proto)}, ls...)...)
	}
	web, dns := from("10.0.0.1", 6, tcp(80, "S"), text(30)), from("10.0.0.1", vUDP, udp(1, 80), text(30))
	broken := slices.Clone(web)
	broken[14] = 0x44 // an IP header of 16 bytes
	var want graph.TapCounters
	for _, c := range []struct {
		rule  int
		frame []byte
	}{
		{0, from("10.0.0.9", 6, tcp(80, "S"))},
		{1, web}, {1, web}, {2, dns},
		{3, from("10.0.0.1", 6, tcp(81, "S"))},
		{3, broken},
		{3, web[:53]}, // no whole TCP header
	} {
		want.Rules = append(want.Rules, make([]graph.TapCount, max(0, len(tap.Rules)-len(want.Rules)))...)
		want.Rules[c.rule].Packets++
		want.Rules[c.rule].Bytes += uint64(len(c.frame))
		send(t, ports.vf0, c.frame)
	}
	made += 3
	settle(t, g)
	require.Equal(t, [][]byte{udpEncap().copyOf(t, web), udpEncap().copyOf(t, web), udpEncap().copyOf(t, dns)},
		receiveAll(ports.pf0))
	got, err := g.TapCounters(ports.vf0.ID, graph.TapRX)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestTapOversize(t *testing.T) {
	const longest = 14 + 1500 - 62
	g := newGraph(t)
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
	fits := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), text(longest-42))
	made += 2
	send(t, ports.vf0, fits)
	send(t, ports.vf0, append(slices.Clone(fits), 0))
	settle(t, g)
	require.Equal(t, [][]byte{udpEncap().copyOf(t, fits)}, receiveAll(ports.pf0))
	require.Len(t, receiveAll(ports.vf1), 2)
	got, err := g.RemoveTap(ports.vf0.ID, graph.TapRX)
	require.NoError(t, err)
	require.Equal(t, graph.TapCounters{Rules: []graph.TapCount{{Packets: 2, Bytes: 2*longest + 1}}, Oversize: 1}, got)
	require.EqualValues(t, 1, counters(g)["drop_copy_too_big"])
}

// Without a buffer there is no copy; the packets themselves go their way.
func TestTapWithoutBuffers(t *testing.T) {
	const buffers, packets = 7, 40
	small, err := mempool.NewPktmbuf("few", buffers, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	t.Cleanup(small.Free)
	g := newGraph(t, roomy, func(c *nodes.Config) { c.Pool = small })
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
	require.NoError(t, setTap(g, everything(t, ports.vf1, graph.TapTX)))
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	made += buffers
	for range packets {
		send(t, ports.vf0, in)
	}
	settle(t, g)
	require.Len(t, receiveAll(ports.vf1), packets)
	require.Len(t, receiveAll(ports.pf0), buffers)
	require.Equal(t, buffers, graphtest.Available(small))
	var missing uint64
	for port, side := range map[*graphtest.Port]graph.TapSide{ports.vf0: graph.TapRX, ports.vf1: graph.TapTX} {
		got, err := g.RemoveTap(port.ID, side)
		require.NoError(t, err)
		require.Equal(t, counted(packets, len(in)).Rules, got.Rules)
		missing += got.NoBuffer
	}
	require.EqualValues(t, 2*packets-buffers, missing)
}

// What a port does not take has not been received, and is neither copied nor counted.
func TestTapPortFull(t *testing.T) {
	const room, packets = 5, 100
	g := newGraph(t, roomy)
	require.NoError(t, setTap(g, everything(t, ports.vf1, graph.TapTX)))
	_, err := ports.vf1.Fill(0)
	require.NoError(t, err)
	for range room {
		ports.vf1.Receive(0)
	}
	var burst [][]byte
	for i := range packets {
		burst = append(burst, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(fmt.Sprint(hello, i))))
	}
	require.NoError(t, ports.vf0.SendBurst(0, burst))
	sent += packets
	made += room
	settle(t, g)
	got := receiveAll(ports.vf1)
	got = got[len(got)-room:]
	var want [][]byte
	for _, f := range got {
		want = append(want, udpEncap().copyOf(t, f))
	}
	require.Equal(t, want, receiveAll(ports.pf0))
	c, err := g.RemoveTap(ports.vf1.ID, graph.TapTX)
	require.NoError(t, err)
	require.Equal(t, counted(room, len(got[0])), c)
	require.EqualValues(t, packets-room, counters(g)["drop_tx"])
}

// A packet in pieces is copied whole, and its rules see all of it; a copy may be in pieces itself.
func TestTapSegments(t *testing.T) {
	g := newGraph(t, roomy)
	tap := everything(t, ports.vf0, graph.TapRX)
	tap.Rules = port80()
	require.NoError(t, setTap(g, tap))
	for _, size := range []int{30, 1400, 5000} {
		for _, segment := range []int{0, 1, 13, 1000} {
			if size/max(segment, 1900) > 0 && segment == 0 || segment > 0 && size/segment > 200 {
				continue // more than a buffer, or than a ring's worth of buffers
			}
			in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 80), text(size))
			require.NoError(t, ports.vf0.Send(0, in, segment))
			sent++
			made++
			settle(t, g)
			require.Equal(t, [][]byte{udpEncap().copyOf(t, in)}, receiveAll(ports.pf0), "%d bytes in segments of %d", size,
				segment)
			receiveAll(ports.vf1)
			receiveAll(ports.vf0)
		}
	}
}

// Whatever comes in, with taps at every place: every buffer comes back, and every packet and copy is accounted for.
func TestTapRandomFrames(t *testing.T) {
	g := newGraph(t)
	unbalanced = true
	go func() {
		for range g.Punts() {
		}
	}()
	var taps []graph.Tap
	for _, p := range allPorts() {
		taps = append(taps, everything(t, p, graph.TapRX), dropTap(t, p, udpEncap()))
		if p != ports.pf0 && p != ports.pf1 {
			taps = append(taps, everything(t, p, graph.TapTX))
		}
	}
	for i := range taps {
		taps[i].Inner = taps[i].Port == ports.pf0.ID
		if i%2 == 0 {
			taps[i].Rules = slices.Concat(port80()[:3], taps[i].Rules)
		}
		require.NoError(t, setTap(g, taps[i]))
	}
	r := rand.New(rand.NewPCG(7, 8))
	seeds := [][]byte{
		fromGuest0(t, "10.0.0.2", vUDP, udp(1, 80), payload(hello)),
		fromGuest0(t, "10.0.0.2", 6, tcp(80, "A"), text(1446)), // its copy is too long
		frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00::2", 64, vUDP), udp(3, 4), payload(hello)),
		frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
			ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)),
	}
	in := []*graphtest.Port{ports.vf0, ports.vf1, ports.pf0, ports.pf1}
	for i := range 10000 {
		require.NoError(t, in[r.IntN(len(in))].Send(0, mutate(r, seeds[r.IntN(len(seeds))]), []int{0, 0, 29}[r.IntN(3)]))
		sent++
		if i%100 == 99 {
			settle(t, g)
			for _, p := range allPorts() {
				receiveAll(p)
			}
		}
	}
	for _, tap := range taps {
		c, err := g.RemoveTap(tap.Port, tap.Side)
		require.NoError(t, err)
		_, copied := sums(tap, c)
		made += copied - c.NoBuffer
	}
	unbalanced = false
	settle(t, g)
	require.NotZero(t, counters(g)["drop_copy_too_big"])
}

func TestTapRefuses(t *testing.T) {
	g := newGraph(t)
	condition := func(f wire.Field, value, mask byte, at int) []graph.TapRule {
		c := graph.TapCondition{Field: f}
		c.Value[at], c.Mask[at] = value, mask
		return []graph.TapRule{{Conditions: []graph.TapCondition{c}}, {}}
	}
	for name, c := range map[string]struct {
		change func(*graph.Tap)
		want   error
	}{
		"nothing wrong":        {func(*graph.Tap) {}, nil},
		"no such port":         {func(t *graph.Tap) { t.Port = 99 }, graph.ErrNotFound},
		"no such way out":      {func(t *graph.Tap) { t.Out = 99 }, graph.ErrNotFound},
		"out by a VF":          {func(t *graph.Tap) { t.Out = ports.vf1.ID }, graph.ErrInvalid},
		"what an uplink sends": {func(t *graph.Tap) { t.Port, t.Side = ports.pf1.ID, graph.TapTX }, graph.ErrInvalid},
		"no such side":         {func(t *graph.Tap) { t.Side = 3 }, graph.ErrInvalid},
		"no header":            {func(t *graph.Tap) { t.Header = nil }, graph.ErrInvalid},
		"another header":       {func(t *graph.Tap) { t.Header = make([]byte, 66) }, graph.ErrInvalid},
		"no rule":              {func(t *graph.Tap) { t.Rules = nil }, graph.ErrInvalid},
		"as many rules as fit": {func(t *graph.Tap) { t.Rules = make([]graph.TapRule, 256) }, nil},
		"too many rules":       {func(t *graph.Tap) { t.Rules = make([]graph.TapRule, 257) }, graph.ErrInvalid},
		"nothing for the rest": {func(t *graph.Tap) { t.Rules = condition(wire.FieldProto, 6, 0xff, 0)[:1] },
			graph.ErrInvalid},
		"no such field": {func(t *graph.Tap) { t.Rules = condition(wire.FieldICMPCode+1, 6, 0xff, 0) },
			graph.ErrInvalid},
		"more than the field": {func(t *graph.Tap) { t.Rules = condition(wire.FieldDstPort, 6, 0xff, 2) },
			graph.ErrInvalid},
		"the field's last byte": {func(t *graph.Tap) { t.Rules = condition(wire.FieldSrc, 6, 0xff, 15) }, nil},
		"a field twice": {func(t *graph.Tap) {
			t.Rules = condition(wire.FieldProto, 6, 0xff, 0)
			t.Rules[0].Conditions = append(t.Rules[0].Conditions, t.Rules[0].Conditions[0])
		}, graph.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			tap := everything(t, ports.vf0, graph.TapRX)
			c.change(&tap)
			require.ErrorIs(t, setTap(g, tap), c.want)
			_, err := g.RemoveTap(ports.vf0.ID, graph.TapRX)
			if c.want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, graph.ErrNotFound)
			}
		})
	}
	for _, port := range []uint16{ports.vf0.ID, ports.pf0.ID, 99, 65535} {
		for _, side := range []graph.TapSide{graph.TapRX, graph.TapTX, graph.TapDrops, 3} {
			_, err := g.RemoveTap(port, side)
			require.ErrorIs(t, err, graph.ErrNotFound)
			_, err = g.TapCounters(port, side)
			require.ErrorIs(t, err, graph.ErrNotFound)
		}
	}
}

// Taps outlive a stop of the workers, can be changed meanwhile, and do not outlive the graph.
func TestTapAndStop(t *testing.T) {
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	t.Run("one graph", func(t *testing.T) {
		g := newGraph(t, roomy)
		require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
		require.NoError(t, g.Stop())
		require.NoError(t, setTap(g, everything(t, ports.vf1, graph.TapTX)))
		require.NoError(t, g.Start())
		made += 2
		send(t, ports.vf0, in)
		settle(t, g)
		require.ElementsMatch(t, [][]byte{udpEncap().copyOf(t, in), udpEncap().copyOf(t, receive(t, ports.vf1))},
			receiveAll(ports.pf0))
	})
	t.Run("the next", func(t *testing.T) {
		g := newGraph(t, roomy)
		send(t, ports.vf0, in)
		settle(t, g)
		require.Empty(t, receiveAll(ports.pf0))
	})
}

// Every worker counts for itself, and all count.
func TestTapTwoWorkers(t *testing.T) {
	g := newGraph(t, roomy, func(c *nodes.Config) { c.Workers = []int{1, 2} })
	require.NoError(t, setTap(g, everything(t, ports.vf0, graph.TapRX)))
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	for i := range 2 * 30 {
		require.NoError(t, ports.vf0.Send(i%2, in, 0))
	}
	sent += 60
	made += 60
	settle(t, g)
	got, err := g.RemoveTap(ports.vf0.ID, graph.TapRX)
	require.NoError(t, err)
	require.Equal(t, counted(60, len(in)), got)
	for q := range 2 {
		for range 30 {
			require.Equal(t, udpEncap().copyOf(t, in), ports.pf0.Receive(q))
		}
	}
}

// copies are the numbers of the packets whose copies have come out of pf0, by the copies' destination port.
type copies map[uint16][]uint32

func (c copies) gather() {
	for _, f := range receiveAll(ports.pf0) {
		dst := binary.BigEndian.Uint16(f[56:])
		c[dst] = append(c[dst], binary.BigEndian.Uint32(f[len(f)-4:]))
	}
}

// numbered sends packets from vf0 to vf1 until change, which is called again and again meanwhile, has been rounds
// times. It returns their number, and such copies as have come out.
func numbered(t *testing.T, rounds int, change func(round int) error) (n uint32, copied copies) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < rounds && err == nil; i++ {
			err = change(i)
		}
		done <- err
	}()
	copied = copies{}
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), text(40))
	for running := true; running; {
		select {
		case err := <-done:
			require.NoError(t, err)
			running = false
		default:
		}
		for range 100 {
			binary.BigEndian.PutUint32(in[len(in)-4:], n)
			send(t, ports.vf0, in)
			n++
		}
		for range 100 {
			receive(t, ports.vf1)
		}
		copied.gather()
	}
	return n, copied
}

// Whichever tap is at work while it is replaced, every packet is copied once, and counted by one of the taps.
func TestTapReplacedUnderTraffic(t *testing.T) {
	g := newGraph(t, roomy)
	taps := []graph.Tap{everything(t, ports.vf0, graph.TapRX), everything(t, ports.vf0, graph.TapRX)}
	taps[1].Header = slices.Clone(taps[1].Header)
	binary.BigEndian.PutUint16(taps[1].Header[56:], 3011)
	require.NoError(t, setTap(g, taps[0]))
	var seen uint64
	n, copied := numbered(t, 500, func(round int) error {
		replaced, err := g.SetTap(taps[(round+1)%2])
		seen += replaced.Rules[0].Packets
		return err
	})
	made += uint64(n)
	settle(t, g)
	copied.gather()
	last, err := g.RemoveTap(ports.vf0.ID, graph.TapRX)
	require.NoError(t, err)
	require.EqualValues(t, n, seen+last.Rules[0].Packets)
	require.NotEmpty(t, copied[3010])
	require.NotEmpty(t, copied[3011])
	all := slices.Concat(copied[3010], copied[3011])
	slices.Sort(all)
	require.EqualValues(t, n, len(all))
	require.True(t, int(all[0]) == 0 && int(all[n-1]) == int(n-1) && len(slices.Compact(all)) == int(n),
		"every packet once")
}

// The last counters of a tap are those of the copies that were made.
func TestTapRemovedUnderTraffic(t *testing.T) {
	for name, tap := range map[string]graph.Tap{"RX": everything(t, ports.vf0, graph.TapRX),
		"TX": everything(t, ports.vf1, graph.TapTX)} {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t, roomy)
			var sum uint64
			_, copied := numbered(t, 500, func(int) error {
				if err := setTap(g, tap); err != nil {
					return err
				}
				c, err := g.RemoveTap(tap.Port, tap.Side)
				sum += c.Rules[0].Packets
				return err
			})
			made += sum
			settle(t, g)
			copied.gather()
			require.NotZero(t, sum)
			require.EqualValues(t, sum, len(copied[3010]))
			require.True(t, slices.IsSorted(copied[3010]), "in order")
			require.EqualValues(t, sum, len(slices.Compact(copied[3010])))
		})
	}
}
