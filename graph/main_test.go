// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
	"dpservice/cgo/mempool"
	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

const (
	poolSize = 8191
	queues   = 2 // of every port
)

var (
	pool  *mempool.Pool
	ports struct{ vf0, vf1, vf2, pf0, pf1 *graphtest.Port }

	gatewayMAC = wire.MAC{0x02, 0, 0, 0, 0, 0x01}
	guest0MAC  = wire.MAC{0x02, 0, 0, 0, 1, 0x00}
	guest1MAC  = wire.MAC{0x02, 0, 0, 0, 1, 0x01}
	guest2MAC  = wire.MAC{0x02, 0, 0, 0, 1, 0x02}
	uplinkMAC  = wire.MAC{0x02, 0, 0, 0, 2, 0x00}
	uplink1MAC = wire.MAC{0x02, 0, 0, 0, 2, 0x01}
	routerMAC  = wire.MAC{0x02, 0, 0, 0, 3, 0x00}

	underlay0  = netip.MustParseAddr("fc00:1::100:1")
	underlay1  = netip.MustParseAddr("fc00:1::100:2")
	underlay2  = netip.MustParseAddr("fc00:1::200:1")
	gateway100 = netip.MustParseAddr("fd99::64") // of the VNIs
	gateway200 = netip.MustParseAddr("fd99::c8")
	nodeIP     = netip.MustParseAddr("fc00:1::1")
	uplinkIP   = netip.MustParseAddr("fe80::ff:fe00:200") // by which uplinkMAC is a neighbour
	remote     = netip.MustParseAddr("fc00:2::100:1")
)

func TestMain(m *testing.M) {
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rc := m.Run()
	if err := eal.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		rc = 1
	}
	os.Exit(rc)
}

func setUp() error {
	err := eal.Init([]string{"--no-huge", "-m", "256", "--no-pci", "--lcores", "0@0,(1-3)@1", "--no-telemetry",
		"--file-prefix", "graph_" + rand.Text()[:8]})
	if err != nil {
		return err
	}
	if pool, err = mempool.NewPktmbuf("graph_test", poolSize, 0, 0, mempool.DataRoom); err != nil {
		return err
	}
	for name, port := range map[string]**graphtest.Port{
		"vf0": &ports.vf0, "vf1": &ports.vf1, "vf2": &ports.vf2, "pf0": &ports.pf0, "pf1": &ports.pf1,
	} {
		if *port, err = graphtest.NewPort(name, queues, pool); err != nil {
			return err
		}
	}
	return nil
}

func testConfig() nodes.Config {
	return nodes.Config{
		Ports: []graph.PortConfig{
			{ID: ports.vf0.ID, Name: "vf0", VF: true},
			{ID: ports.vf1.ID, Name: "vf1", VF: true},
			{ID: ports.vf2.ID, Name: "vf2", VF: true},
			{ID: ports.pf0.ID, Name: "pf0"},
			{ID: ports.pf1.ID, Name: "pf1", PF: 1},
		},
		Workers:      []int{1},
		FlowCapacity: 1024,
		Offload:      true,
		NodeIP:       nodeIP,
		Pool:         pool,
	}
}

func testInterfaces() []graph.Interface {
	return []graph.Interface{
		{Index: 1, Port: ports.vf0.ID, VNI: 100, IPv4: addr("10.0.0.1"), IPv6: addr("fd00::1"),
			Underlay: underlay0, GatewayMAC: gatewayMAC, GatewayIPv6: gateway100, GuestMAC: guest0MAC},
		{Index: 2, Port: ports.vf1.ID, VNI: 100, IPv4: addr("10.0.0.2"), IPv6: addr("fd00::2"),
			Underlay: underlay1, GatewayMAC: gatewayMAC, GatewayIPv6: gateway100, GuestMAC: guest1MAC},
		{Index: 3, Port: ports.vf2.ID, VNI: 200, IPv4: addr("10.0.0.1"),
			Underlay: underlay2, GatewayMAC: gatewayMAC, GatewayIPv6: gateway200, GuestMAC: guest2MAC},
	}
}

// newGraph returns a configured graph that runs; at the test's end it is closed, and every packet must be accounted for
// and given back.
func newGraph(t testing.TB, change ...func(*nodes.Config)) *nodes.Graph {
	t.Helper()
	drain(t)
	sent, made, unbalanced = 0, 0, false
	cfg := testConfig()
	for _, f := range change {
		f(&cfg)
	}
	g, err := nodes.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		settle(t, g)
		require.NoError(t, g.Close())
		drain(t)
	})
	for _, i := range testInterfaces() {
		require.NoError(t, g.SetInterface(i))
	}
	if cfg.Offload {
		for _, i := range testInterfaces() { // each interface's index is the mark, too
			require.NoError(t, g.SetTunnel(i.Index, graph.Tunnel{Interface: i.Index, Underlay: i.Underlay, Peer: remote}))
		}
	}
	require.NoError(t, g.SetUplink(graph.Uplink{Port: ports.pf0.ID, MAC: uplinkMAC, RouterMAC: routerMAC, LinkUp: true}))
	require.NoError(t, g.SetUplink(graph.Uplink{Port: ports.pf1.ID, MAC: uplink1MAC, LinkUp: true}))
	for prefix, hop := range map[string]netip.Addr{
		"10.0.1.0/24": remote, "10.0.1.128/25": addr("fc00:3::1"), "fd00:1::/64": remote, "10.0.2.0/24": underlay1,
	} {
		require.NoError(t, g.AddRoute(100, netip.MustParsePrefix(prefix), graph.NextHop{Underlay: hop}))
	}
	require.NoError(t, g.Start())
	return g
}

// drain takes what lies in the ports' rings, and then no buffer is missing.
func drain(t testing.TB) {
	t.Helper()
	for _, p := range allPorts() {
		for q := range queues {
			for p.Receive(q) != nil {
			}
		}
	}
	require.Equal(t, poolSize, graphtest.Available(pool), "buffers are missing")
}

func allPorts() []*graphtest.Port {
	return []*graphtest.Port{ports.vf0, ports.vf1, ports.vf2, ports.pf0, ports.pf1}
}

// settle waits until the graph has taken in what was sent and checks that nothing got lost within.
func settle(t testing.TB, g *nodes.Graph) {
	t.Helper()
	require.Eventually(t, func() bool {
		c := counters(g)
		out := c.sum("tx-") - c["drop_tx"] + c["punt"] - c["drop_punt_full"] - c["drop_punt_rate"]
		return c.sum("rx-") == sent && (unbalanced || sent+made+c["inject"]+c["guest_moved"] == out+c.sum("drop_"))
	}, 5*time.Second, time.Millisecond, "packets in are not packets out, dropped and punted: %v", g.Stats())
	requireDropsCounted(t, g)
}

// requireDropsCounted checks that the counters by port and reason are those of the reasons' nodes. They also have what
// was answered by an ICMP error; copies of taps that a port did not take are in drop_tx only.
func requireDropsCounted(t testing.TB, g *nodes.Graph) {
	t.Helper()
	answered := map[wire.DropReason]string{wire.DropTTL: "icmp_time_exceeded", wire.DropNoRoute: "icmp_no_route"}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		byReason := map[wire.DropReason]uint64{}
		for _, d := range g.Drops() {
			byReason[d.Reason] += d.Packets
		}
		c := counters(g)
		for reason := range wire.NumDropReasons {
			node := c["drop_"+reason.String()]
			switch reason {
			case wire.DropTX:
				assert.LessOrEqual(t, byReason[reason], node)
			case wire.DropTooBig: // some fragments cannot be made
				assert.GreaterOrEqual(t, byReason[reason], max(node, c["icmp_too_big"]))
			case wire.DropTTL, wire.DropNoRoute:
				assert.Equal(t, c[answered[reason]], byReason[reason], "%s", reason)
			default:
				assert.Equal(t, node, byReason[reason], "%s", reason)
			}
		}
	}, waitLong, time.Millisecond)
}

// sent counts what the tests gave to the graph at hand, and made what it shall have made besides, of packets that it
// has cut; unbalanced says that a test does not know how many.
var (
	sent, made uint64
	unbalanced bool
)

// For what the graph does by itself.
const (
	waitLong = 10 * time.Second
	tick     = 10 * time.Millisecond
)

func send(t *testing.T, p *graphtest.Port, frame []byte) {
	t.Helper()
	require.NoError(t, p.Send(0, frame, 0))
	sent++
}

func sendAll(t *testing.T, p *graphtest.Port, frames [][]byte) {
	t.Helper()
	require.NoError(t, p.SendBurst(0, frames))
	sent += uint64(len(frames))
}

type counts map[string]uint64

func counters(g *nodes.Graph) counts {
	c := counts{}
	for _, s := range g.Stats() {
		c[s.Name] = s.Packets
	}
	return c
}

func (c counts) sum(prefix string) (n uint64) {
	for name, v := range c {
		if strings.HasPrefix(name, prefix) {
			n += v
		}
	}
	return n
}

// receive waits for the next frame out of a port.
func receive(t *testing.T, p *graphtest.Port) []byte {
	t.Helper()
	var frame []byte
	require.Eventually(t, func() bool {
		frame = p.Receive(0)
		return frame != nil
	}, 10*time.Second, 50*time.Microsecond, "no frame out of port %d", p.ID)
	return frame
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func eth(src, dst wire.MAC, t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: t}
}

func ip4(src, dst string, ttl uint8, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: ttl, Protocol: proto, Id: 7, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func ip6(src, dst string, hops uint8, proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: proto, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func udp(src, dst uint16) *layers.UDP {
	return &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
}

// frame serializes layers with right lengths and checksums.
func frame(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			require.NoError(t, c.SetNetworkLayerForChecksum(network))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ls...))
	return buf.Bytes()
}

func payload(s string) gopacket.Payload { return gopacket.Payload(s) }
