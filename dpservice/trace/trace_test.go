// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/status"
	"dpservice/dpservice/trace"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/wire"
)

// fakeGraph has packets for the trace that runs.
type fakeGraph struct {
	running *graph.Trace
	packets []graph.TracedPacket
	vni     atomic.Uint32 // of the interface
	stops   int
	hangs   int // calls of StopTrace that fail
}

func (f *fakeGraph) StartTrace(t graph.Trace) error {
	if f.running != nil {
		return graph.ErrExists
	}
	f.running = &t
	return nil
}

func (f *fakeGraph) ReadTrace() ([]graph.TracedPacket, uint64) {
	packets := f.packets
	f.packets = nil
	return packets, 7
}

func (f *fakeGraph) StopTrace() error {
	if f.hangs > 0 {
		f.hangs--
		return graph.ErrTimeout
	}
	f.running = nil
	f.stops++
	return nil
}

var (
	underlay = netip.MustParseAddr("fc00:1::1")
	remote   = netip.MustParseAddr("fc00:2::1")
)

func (f *fakeGraph) networks() vnet.Networks {
	on := vnet.Interface{ID: "vm-1", Port: 2, VNI: f.vni.Load(), UnderlayIP: underlay}
	route := func(vni uint32, prefix string, hop netip.Addr) vnet.Route {
		return vnet.Route{VNI: vni, Prefix: netip.MustParsePrefix(prefix), NextHopIP: hop}
	}
	return vnet.Networks{Interfaces: []vnet.Attachment{{Interface: on, Index: 5}}, Routes: []vnet.Route{
		route(100, "10.0.0.0/8", remote), route(100, "10.0.1.0/24", remote), route(200, "10.0.1.0/28", remote),
		route(100, "10.0.1.0/26", underlay),
	}}
}

func newManager() (*trace.Manager, *fakeGraph) { return newManagerWith(true) }

func newManagerWith(offload bool) (*trace.Manager, *fakeGraph) {
	f := &fakeGraph{}
	f.vni.Store(100)
	cfg := trace.Config{
		Graph: f, Networks: f.networks, Offload: offload, Log: slog.Default(),
		Describe: func(graph.Flow) status.Flow { return status.Flow{OutPort: "pf0"} },
		PortName: func(uint16) string { return "vf0" },
	}
	if offload {
		cfg.Offloaded = func(uint16) int { return 3 }
	}
	return trace.New(cfg), f
}

func packet(hops ...string) graph.TracedPacket {
	p := graph.TracedPacket{Length: 60, Frame: []byte{1}}
	for i, h := range hops {
		p.Hops = append(p.Hops, graph.TraceHop{Node: h, Begin: uint32(i * 10), End: uint32(i*10 + 7), Burst: 1})
	}
	return p
}

func TestTraceBelongsToItsConnection(t *testing.T) {
	m, f := newManager()
	client, hangUp := context.WithCancel(t.Context())
	other, otherHangsUp := context.WithCancel(t.Context())
	defer otherHangsUp()
	warnings, err := m.Start(client, status.TraceRequest{Interface: "vm-1", Filter: "udp", Drops: true, Client: "first"})
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "for 3 flows of vm-1")
	assert.EqualValues(t, 2, f.running.Port)
	assert.EqualValues(t, 5, f.running.Interface)
	assert.Equal(t, underlay, f.running.Underlay)
	assert.True(t, f.running.Drops)
	assert.NotEmpty(t, f.running.Guest)
	assert.NotEmpty(t, f.running.Wire)

	_, err = m.Start(other, status.TraceRequest{Interface: "vm-1"})
	require.ErrorContains(t, err, "first traces interface vm-1 since ")
	assert.True(t, fault.Is(err, fault.AlreadyActive))
	_, err = m.Read(other)
	assert.True(t, fault.Is(err, fault.NotActive), err)
	assert.True(t, fault.Is(m.Stop(other), fault.NotActive))

	f.packets = []graph.TracedPacket{packet("rx-vf0", "drop_spoofed")}
	got, err := m.Read(client)
	require.NoError(t, err)
	require.Len(t, got.Packets, 1)
	assert.False(t, got.Ended)
	assert.EqualValues(t, 7, got.Missed)
	assert.Equal(t, []status.TraceNode{{Name: "rx-vf0", Cycles: 7, Burst: 1},
		{Name: "drop_spoofed", Begin: 10, Cycles: 7, Burst: 1}},
		got.Packets[0].Nodes)

	f.hangs = 1 // it is tried again
	hangUp()
	require.Eventually(t, func() bool {
		_, err := m.Start(other, status.TraceRequest{Interface: "vm-1"})
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, m.Stop(other))
	assert.True(t, fault.Is(m.Stop(other), fault.NotActive))
	assert.Equal(t, 2, f.stops)
}

func TestTraceEndsWithItsLastPacket(t *testing.T) {
	m, f := newManager()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := m.Start(ctx, status.TraceRequest{Interface: "vm-1", Count: 2})
	require.NoError(t, err)
	f.packets = []graph.TracedPacket{packet("rx-vf0", "punt"), packet("rx-vf0", "punt"), packet("rx-vf0", "punt")}
	got, err := m.Read(ctx)
	require.NoError(t, err)
	assert.Len(t, got.Packets, 2)
	assert.True(t, got.Ended)
	assert.Nil(t, f.running)
	_, err = m.Read(ctx)
	assert.True(t, fault.Is(err, fault.NotActive))
}

// Who comes after the traced interface on its port is not traced.
func TestTraceEndsWithItsInterface(t *testing.T) {
	m, f := newManager()
	_, err := m.Start(t.Context(), status.TraceRequest{Interface: "vm-1"})
	require.NoError(t, err)
	f.vni.Store(200) // deleted, and created anew in another network
	f.packets = []graph.TracedPacket{packet("rx-vf0", "punt")}
	got, err := m.Read(t.Context())
	assert.True(t, fault.Is(err, fault.NotFound), err)
	assert.Empty(t, got.Packets)
	assert.Nil(t, f.running)
}

func TestReadEnds(t *testing.T) {
	m, _ := newManager()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := m.Start(ctx, status.TraceRequest{Interface: "vm-1"})
	require.NoError(t, err)
	got, err := m.Read(ctx) // nothing comes
	require.NoError(t, err)
	assert.Empty(t, got.Packets)
	cancel()
	_, err = m.Read(ctx)
	assert.Error(t, err)
}

func TestStartRefuses(t *testing.T) {
	m, f := newManager()
	for want, r := range map[fault.Reason]status.TraceRequest{
		fault.NotFound:      {Interface: "vm-9"},
		fault.InvalidParams: {Interface: "vm-1", Filter: "host ("},
		fault.NotSupported:  {Interface: "vm-1", Filter: "greater 100"},
	} {
		_, err := m.Start(t.Context(), r)
		assert.True(t, fault.Is(err, want), "%v", err)
	}
	assert.Nil(t, f.running)
	warnings, err := m.Start(t.Context(), status.TraceRequest{Interface: "vm-1", Filter: "ether host 02:00:00:00:00:01"})
	require.NoError(t, err)
	assert.Contains(t, warnings[0], "only what the guest sends is followed")
	assert.Empty(t, f.running.Wire)
}

func TestVerdicts(t *testing.T) {
	header := make([]byte, 54)
	copy(header[38:], remote.AsSlice())
	flow := func(candidate, announced, offloaded bool) *graph.TracedFlow {
		return &graph.TracedFlow{Candidate: candidate, Announced: announced, Flow: graph.Flow{
			VNI: 100, Offloaded: offloaded, Key: graph.FlowKey{Dst: netip.MustParseAddr("10.0.1.5")},
			Verdict: graph.Verdict{Kind: graph.Encap, Header: header},
		}}
	}
	delivered := flow(true, true, false)
	delivered.Verdict = graph.Verdict{Kind: graph.Deliver, TxPort: 2}
	const to = "encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0; "
	for want, p := range map[string]graph.TracedPacket{
		"flow new, or resolved again after a change; " + to + "not offloaded yet: offered to the NIC just now": with(
			flow(true, true, false), "rx-vf0", "flow_lookup", "flow_route", "encap", "tx-pf0"),
		"flow known; " + to + "offloaded, but the NIC leaves TCP SYN, FIN and RST, fragments and " +
			"what has no hop left to the software": with(
			flow(true, true, true), "rx-vf0", "flow_lookup", "encap", "tx-pf0"),
		"flow known; " + to + "not offloaded: it waits for a packet without SYN, FIN or RST": with(
			flow(true, false, false), "rx-vf0", "flow_lookup", "encap", "tx-pf0"),
		"flow known; " + to + "not offloaded: the NIC has no rule for it yet, or no room, or " +
			"has refused it (dpctl system info)": with(
			flow(true, true, false), "rx-vf0", "flow_lookup", "encap", "tx-pf0"),
		"flow known; " + to + "cut into fragments, which went on; not offloaded: " +
			"a fragment, too big for an MTU, or no TCP, UDP or echo": with(
			flow(false, false, false), "rx-vf0", "flow_lookup", "encap", "oversize"),
		"flow not kept, since the flow table is full; delivered to vm-1 by pf0; " +
			"not offloaded: a flow that is not kept is not offered to the NIC": with(
			delivered, "rx-vf0", "flow_lookup", "flow_route", "flow_overflow", "deliver", "tx-vf0"),
		"left to the slow path, which answers ARP, neighbour discovery, DHCP and pings of the gateway": packet(
			"rx-vf0", "punt"),
		"ended at nowhere": packet("rx-vf0", "nowhere"),
	} {
		assertVerdict(t, p, want, false)
	}
	for want, p := range map[string]graph.TracedPacket{
		"dropped: its source address is not the guest's own (drop_spoofed)": packet("rx-vf0", "flow_route", "drop_spoofed"),
		"dropped: it is for a group, which is not forwarded (drop_multicast)": packet(
			"rx-vf0", "drop_multicast", "tap_drop", "free"),
		"answered with an ICMP error: its time to live is used up": with(
			flow(true, true, true), "encap", "icmp_time_exceeded", "tx-vf0"),
		"dropped: its time to live is used up (drop_ttl)": packet("encap", "icmp_time_exceeded", "drop_ttl"),
	} {
		assertVerdict(t, p, want, true)
	}
	m, f := newManagerWith(false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := m.Start(ctx, status.TraceRequest{Interface: "vm-1"})
	require.NoError(t, err)
	f.packets = []graph.TracedPacket{with(flow(false, false, false), "flow_lookup", "encap", "tx-pf0")}
	got, err := m.Read(ctx)
	require.NoError(t, err)
	assert.Equal(t, "flow known; "+to+"not offloaded: offload is off", got.Packets[0].Verdict)
}

func with(f *graph.TracedFlow, hops ...string) graph.TracedPacket {
	p := packet(hops...)
	p.Flow = f
	return p
}

func assertVerdict(t *testing.T, p graph.TracedPacket, want string, dropped bool) {
	t.Helper()
	m, f := newManager()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := m.Start(ctx, status.TraceRequest{Interface: "vm-1"})
	require.NoError(t, err)
	f.packets = []graph.TracedPacket{p}
	got, err := m.Read(ctx)
	require.NoError(t, err)
	assert.Equal(t, want, got.Packets[0].Verdict)
	assert.Equal(t, dropped, got.Packets[0].Dropped, want)
}

// Each node at which packets are dropped, or answered, has its reason in words.
func TestEveryDropHasItsReason(t *testing.T) {
	nodes := []string{"drop_copy_too_big"}
	for reason := range wire.NumDropReasons {
		nodes = append(nodes, "drop_"+reason.String())
	}
	source, err := os.ReadFile("../../graph/nodes/icmp_error.c")
	require.NoError(t, err)
	answers := regexp.MustCompile(`(?m)^ICMP_NODE\((\w+)`).FindAllStringSubmatch(string(source), -1)
	require.Len(t, answers, 3)
	for _, match := range answers {
		nodes = append(nodes, "icmp_"+match[1])
	}
	for _, node := range nodes {
		m, f := newManager()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := m.Start(ctx, status.TraceRequest{Interface: "vm-1"})
		require.NoError(t, err)
		f.packets = []graph.TracedPacket{packet("rx-vf0", node)}
		got, err := m.Read(ctx)
		require.NoError(t, err)
		assert.Regexp(t, `: \w.* `, got.Packets[0].Verdict, node)
		assert.NotContains(t, got.Packets[0].Verdict, ":  ", node)
		assert.True(t, got.Packets[0].Dropped, node)
		cancel()
	}
}

func TestStartOfTheGraphFails(t *testing.T) {
	m, f := newManager()
	f.running = &graph.Trace{} // somebody else's
	_, err := m.Start(t.Context(), status.TraceRequest{Interface: "vm-1"})
	assert.True(t, errors.Is(err, graph.ErrExists))
}
