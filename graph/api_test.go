// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*nodes.Config){
		"no pool":        func(c *nodes.Config) { c.Pool = nil },
		"no worker":      func(c *nodes.Config) { c.Workers = nil },
		"main lcore":     func(c *nodes.Config) { c.Workers = []int{0} },
		"no such lcore":  func(c *nodes.Config) { c.Workers = []int{77} },
		"lcore twice":    func(c *nodes.Config) { c.Workers = []int{1, 1} },
		"negative lcore": func(c *nodes.Config) { c.Workers = []int{-1} },
		"no port":        func(c *nodes.Config) { c.Ports = nil },
		"no such port":   func(c *nodes.Config) { c.Ports[0].ID = 31 },
		"port twice":     func(c *nodes.Config) { c.Ports[0].ID = c.Ports[1].ID },
		"name twice":     func(c *nodes.Config) { c.Ports[0].Name = c.Ports[1].Name },
		"no name":        func(c *nodes.Config) { c.Ports[0].Name = "" },
		"long name":      func(c *nodes.Config) { c.Ports[0].Name = strings.Repeat("n", 61) },
		"third uplink":   func(c *nodes.Config) { c.Ports[4].PF = 2 },
		"uplink twice":   func(c *nodes.Config) { c.Ports[4].PF = 0 },
		"too many flows": func(c *nodes.Config) { c.FlowCapacity = 1<<24 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			change(&cfg)
			before := openFiles(t)
			_, err := nodes.New(cfg)
			require.Error(t, err)
			require.Equal(t, before, openFiles(t))
		})
	}
	g := newGraph(t) // nothing stands in the way
	_, err := nodes.New(testConfig())
	require.ErrorIs(t, err, graph.ErrExists)
	require.ErrorIs(t, g.Start(), graph.ErrExists)
}

func openFiles(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(files)
}

func TestStartNeedsQueues(t *testing.T) {
	cfg := testConfig()
	cfg.Workers = []int{1, 2, 3}
	g, err := nodes.New(cfg)
	require.NoError(t, err)
	require.ErrorIs(t, g.Start(), graph.ErrInvalid)
	require.NoError(t, g.Close())
}

// The tables of all these would not fit into EAL's memory together.
func TestCloseGivesEverythingBack(t *testing.T) {
	before := openFiles(t)
	for range 30 {
		cfg := testConfig()
		cfg.FlowCapacity = graph.DefaultFlowCapacity
		g, err := nodes.New(cfg)
		require.NoError(t, err)
		require.NoError(t, g.Close())
	}
	require.Equal(t, before, openFiles(t))
}

func TestCloseIsFinal(t *testing.T) {
	g, err := nodes.New(testConfig())
	require.NoError(t, err)
	require.NoError(t, g.Start())
	require.NoError(t, g.Stop())
	require.NoError(t, g.Stop())
	require.NoError(t, g.Start())
	require.NoError(t, g.Close())
	require.ErrorIs(t, g.Close(), graph.ErrClosed)
	require.ErrorIs(t, g.Start(), graph.ErrClosed)
	require.ErrorIs(t, g.SetInterface(testInterfaces()[0]), graph.ErrClosed)
	require.ErrorIs(t, g.Inject(ports.vf0.ID, make([]byte, 60)), graph.ErrClosed)
	require.ErrorIs(t, setTap(g, everything(t, ports.vf0, graph.TapRX)), graph.ErrClosed)
	_, err = g.RemoveTap(ports.vf0.ID, graph.TapRX)
	require.ErrorIs(t, err, graph.ErrClosed)
	_, err = g.TapCounters(ports.vf0.ID, graph.TapRX)
	require.ErrorIs(t, err, graph.ErrClosed)
	require.Empty(t, g.Stats())
	require.Empty(t, g.DOT())
	_, open := <-g.Punts()
	require.False(t, open)
	_, open = <-g.FlowEvents()
	require.False(t, open)
}

func TestInterfaceConflicts(t *testing.T) {
	g := newGraph(t)
	for name, c := range map[string]struct {
		change func(*graph.Interface)
		want   error
	}{
		"itself":                  {func(*graph.Interface) {}, nil},
		"other's underlay":        {func(i *graph.Interface) { i.Underlay = underlay1 }, graph.ErrExists},
		"other's IPv4":            {func(i *graph.Interface) { i.IPv4 = addr("10.0.0.2") }, graph.ErrExists},
		"other's IPv6":            {func(i *graph.Interface) { i.IPv6 = addr("fd00::2") }, graph.ErrExists},
		"other's port":            {func(i *graph.Interface) { i.Port = ports.vf1.ID }, graph.ErrExists},
		"uplink":                  {func(i *graph.Interface) { i.Port = ports.pf0.ID }, graph.ErrInvalid},
		"no such port":            {func(i *graph.Interface) { i.Port = 1000 }, graph.ErrInvalid},
		"VNI 0":                   {func(i *graph.Interface) { i.VNI = 0 }, graph.ErrInvalid},
		"index":                   {func(i *graph.Interface) { i.Index = 65535 }, graph.ErrInvalid},
		"IPv4 underlay":           {func(i *graph.Interface) { i.Underlay = addr("10.0.0.1") }, graph.ErrInvalid},
		"multicast underlay":      {func(i *graph.Interface) { i.Underlay = addr("ff02::1") }, graph.ErrInvalid},
		"families mixed up":       {func(i *graph.Interface) { i.IPv4, i.IPv6 = i.IPv6, i.IPv4 }, graph.ErrInvalid},
		"same address, other VNI": {func(i *graph.Interface) { i.VNI = 300 }, nil},
		"back":                    {func(*graph.Interface) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			i := testInterfaces()[0]
			c.change(&i)
			require.ErrorIs(t, g.SetInterface(i), c.want)
			require.NoError(t, g.SetInterface(testInterfaces()[0]))
			send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
			receive(t, ports.vf1)
		})
	}
	require.NoError(t, g.DeleteInterface(1))
	require.ErrorIs(t, g.DeleteInterface(1), graph.ErrNotFound)
	require.ErrorIs(t, g.DeleteInterface(65535), graph.ErrNotFound)
	send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
	settle(t, g)
	require.EqualValues(t, 1, counters(g)["drop_no_interface"])
}

func TestNeighbourUnknown(t *testing.T) {
	g := newGraph(t)
	i := testInterfaces()[1]
	i.GuestMAC = wire.MAC{}
	require.NoError(t, g.SetInterface(i))
	require.NoError(t, g.SetUplink(graph.Uplink{Port: ports.pf0.ID, MAC: uplinkMAC, LinkUp: true}))
	send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)))
	send(t, ports.vf0, fromGuest0(t, "10.0.1.5", vUDP, udp(1, 2), payload(hello)))
	settle(t, g)
	require.EqualValues(t, 2, counters(g)["drop_no_neighbour"])
	require.Empty(t, allFlows(g), "what is dropped is not kept")
}

func TestRoutes(t *testing.T) {
	g := newGraph(t)
	hop := graph.NextHop{Underlay: remote}
	p := netip.MustParsePrefix
	require.ErrorIs(t, g.AddRoute(100, p("10.0.1.0/24"), hop), graph.ErrExists)
	require.ErrorIs(t, g.AddRoute(100, p("10.0.1.77/24"), hop), graph.ErrExists, "the host part does not count")
	require.ErrorIs(t, g.AddRoute(0, p("10.7.0.0/24"), hop), graph.ErrInvalid)
	require.ErrorIs(t, g.AddRoute(100, netip.Prefix{}, hop), graph.ErrInvalid)
	require.ErrorIs(t, g.AddRoute(100, p("10.7.0.0/24"), graph.NextHop{}), graph.ErrInvalid)
	require.ErrorIs(t, g.DeleteRoute(100, p("10.7.0.0/24")), graph.ErrNotFound)
	require.ErrorIs(t, g.DeleteRoute(101, p("10.0.1.0/24")), graph.ErrNotFound)
	for _, def := range []string{"0.0.0.0/0", "::/0"} {
		require.NoError(t, g.AddRoute(100, p(def), hop))
	}
	send(t, ports.vf0, fromGuest0(t, "8.8.8.8", vUDP, udp(1, 2), payload(hello)))
	send(t, ports.vf0, frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "2001:db8::1", 64, vUDP), udp(1, 2)))
	receive(t, ports.pf0)
	receive(t, ports.pf0)
}

// Longest-prefix match against the plain definition.
func TestLongestPrefix(t *testing.T) {
	g := newGraph(t)
	r := rand.New(rand.NewPCG(1, 2))
	hops := map[netip.Prefix]netip.Addr{}
	for len(hops) < 60 {
		a := netip.AddrFrom4([4]byte{172, 16, byte(r.Uint32() & 3), byte(r.Uint32())})
		p := netip.PrefixFrom(a, 8+r.IntN(25)).Masked()
		if _, ok := hops[p]; ok {
			continue
		}
		hop := addr("fc00:4::")
		b := hop.As16()
		b[15] = byte(len(hops) + 1)
		hops[p] = netip.AddrFrom16(b)
		require.NoError(t, g.AddRoute(100, p, graph.NextHop{Underlay: hops[p]}))
	}
	for range 200 {
		dst := netip.AddrFrom4([4]byte{172, 16, byte(r.Uint32() & 3), byte(r.Uint32())})
		best, found := netip.Prefix{}, false
		for p := range hops {
			if p.Contains(dst) && (!found || p.Bits() > best.Bits()) {
				best, found = p, true
			}
		}
		send(t, ports.vf0, fromGuest0(t, dst.String(), vUDP, udp(1, 2), payload(hello)))
		if !found {
			settle(t, g)
			continue
		}
		out := receive(t, ports.pf0)
		require.Equal(t, hops[best].AsSlice(), out[38:54], "next hop of %v", dst)
	}
}

func TestDOT(t *testing.T) {
	g := newGraph(t)
	text := g.DOT()
	require.True(t, strings.HasPrefix(strings.ToLower(text), "digraph"))
	require.NotContains(t, text, `"rx-vf0"->"classify_wire"`)
	for _, s := range g.Stats() {
		require.Contains(t, text, s.Name)
	}
}

// Control does not wait for packets, nor packets for control.
func TestControlUnderLoad(t *testing.T) {
	g := newGraph(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24)
			if g.AddRoute(100, p, graph.NextHop{Underlay: remote}) != nil || g.DeleteRoute(100, p) != nil {
				return
			}
		}
	}()
	for i := range uint16(2000) {
		send(t, ports.vf0, fromGuest0(t, "10.0.0.2", vUDP, udp(i&15, 2), payload(hello)))
		receive(t, ports.vf1)
	}
	close(stop)
	<-done
	require.Zero(t, counters(g).sum("drop_"))
}

func TestTwoWorkers(t *testing.T) {
	g := newGraph(t, func(c *nodes.Config) { c.Workers = []int{1, 2} })
	in := fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello))
	for q := range 2 {
		require.NoError(t, ports.vf0.Send(q, in, 0))
		sent++
		require.Eventually(t, func() bool { return ports.vf1.Receive(q) != nil }, 2*time.Second, time.Millisecond)
	}
	flows := allFlows(g)
	require.Len(t, flows, 2, "each worker has its own table")
	require.NotEqual(t, flows[0].ID>>56, flows[1].ID>>56)
	require.Equal(t, flows[0].Key, flows[1].Key)
	require.Equal(t, map[graph.FlowClass]int{{State: graph.StateEstablished}: 2}, g.CountFlows())

	// What is said of flows reaches the worker of each, and only those fail that are not there.
	ids := []uint64{flows[1].ID + 1<<40, flows[0].ID, 7 << 56, flows[1].ID, flows[0].ID + 1<<40}
	err := g.SetOffloaded(ids, true)
	var failed graph.FlowErrors
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, graph.ErrNotFound)
	require.Equal(t, graph.FlowErrors{ids[0]: graph.ErrNotFound, ids[2]: graph.ErrNotFound, ids[4]: graph.ErrNotFound},
		failed)
	require.Equal(t, map[graph.FlowClass]int{{State: graph.StateEstablished, Offloaded: true}: 2}, g.CountFlows())
	require.NoError(t, g.SetOffloaded(ids[1:2], false))
	require.Equal(t, 1, g.CountFlows()[graph.FlowClass{State: graph.StateEstablished, Offloaded: true}])
	require.NoError(t, g.DeleteFlows([]uint64{flows[1].ID}))
	require.Len(t, allFlows(g), 1)
	require.NoError(t, g.SetOffloaded(nil, true))
}

// What a port may leave to the slow path, and the errors about an interface's packets, are not more by several workers.
func TestWorkersShareRates(t *testing.T) {
	const burst = 8
	g := newGraph(t, func(c *nodes.Config) { c.Workers, c.PuntRate, c.PuntBurst = []int{1, 2}, 1, burst })
	punted := frame(t, eth(guest0MAC, gatewayMAC, layers.EthernetTypeARP), payload("flood"))
	astray := fromGuest0(t, "203.0.113.1", vUDP, udp(1, 2), payload(hello))
	const flood = 100
	for range flood {
		for q := range 2 {
			require.NoError(t, ports.vf0.Send(q, punted, 0))
			require.NoError(t, ports.vf0.Send(q, astray, 0))
			sent += 2
		}
	}
	settle(t, g)
	c := counters(g)
	require.InDelta(t, 2*flood-burst, c["drop_punt_rate"], burst/2)
	require.InDelta(t, 2*flood-50, c["drop_no_route"], 25, "50 at once, and some for the time that it took")
}

// Whatever comes in: nothing crashes, and every packet goes somewhere (newGraph's end checks both).
func TestRandomFrames(t *testing.T) {
	g := newGraph(t)
	go func() {
		for range g.Punts() {
		}
	}()
	r := rand.New(rand.NewPCG(3, 4))
	seeds := [][]byte{
		fromGuest0(t, "10.0.0.2", vUDP, udp(1, 2), payload(hello)),
		fromGuest0(t, "10.0.1.5", 6, tcp(2, "A"), payload(hello)),
		frame(t, eth(guest0MAC, gatewayMAC, v6), ip6("fd00::1", "fd00:1::9", 64, vUDP), udp(3, 4), payload(hello)),
		frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
			ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello)),
		frame(t, eth(routerMAC, uplinkMAC, v6), ip6(remote.String(), underlay0.String(), 61, inIP6),
			ip6("fd00:1::9", "fd00::1", 63, vUDP), udp(2, 1), payload(hello)),
	}
	in := []*graphtest.Port{ports.vf0, ports.vf1, ports.pf0, ports.pf1}
	for i := range 20000 {
		f := mutate(r, seeds[r.IntN(len(seeds))])
		require.NoError(t, in[r.IntN(len(in))].Send(0, f, []int{0, 0, 0, 7}[r.IntN(4)]))
		sent++
		if i%100 == 0 {
			settle(t, g)
			for _, p := range allPorts() {
				for p.Receive(0) != nil {
				}
			}
		}
	}
	settle(t, g)
	c := counters(g)
	for _, node := range []string{"deliver", "encap", "decap", "punt", "drop_malformed", "flow_route"} {
		require.NotZero(t, c[node], node)
	}
}

// mutate cuts a frame short, flips bytes in its headers, or makes noise.
func mutate(r *rand.Rand, f []byte) []byte {
	f = append([]byte(nil), f...)
	if r.IntN(20) == 0 {
		for i := range f {
			f[i] = byte(r.Uint32())
		}
	}
	for range r.IntN(4) {
		f[r.IntN(len(f))] = byte(r.Uint32())
	}
	if r.IntN(3) == 0 {
		f = f[:1+r.IntN(len(f))]
	}
	return f
}
