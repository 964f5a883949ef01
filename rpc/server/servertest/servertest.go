// SPDX-License-Identifier: Apache-2.0

// Package servertest runs an RPC server on services that exist in memory only, for the tests of its clients.
package servertest

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/fence"
	"dpservice/dpservice/port"
	"dpservice/dpservice/status"
	"dpservice/dpservice/uplink"
	"dpservice/dpservice/vnet"
	"dpservice/rpc/server"
	"dpservice/wire"
)

// Start serves s until the test ends, and returns the socket's path.
func Start(t testing.TB, s server.Services) string {
	t.Helper()
	return StartWith(t, s, Config())
}

// StartWith is Start with another configuration.
func StartWith(t testing.TB, s server.Services, cfg server.Config) string {
	t.Helper()
	return Serve(t, server.New(s, cfg), filepath.Join(SocketDir(t), "dpservice.sock"))
}

// Serve serves on a new socket until the test ends, and returns the socket's path.
func Serve(t testing.TB, s *server.Server, path string) string {
	t.Helper()
	l, err := server.Listen(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return path
}

// Config returns what a server is made of.
func Config() server.Config {
	return server.Config{
		MaxClients: 64, MaxClientsPerUser: 16, IdleTimeout: time.Minute, RequestTimeout: 10 * time.Second,
		Fence: fence.New(slog.Default()), Log: slog.Default(),
	}
}

// SocketDir returns a temporary directory with a path that is short enough for a socket's, whatever the test's name.
func SocketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rpc")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// Fake is every service at once: two uplinks and two VFs, and what a test creates.
type Fake struct {
	// Err, if set, is what the methods that can fail return.
	Err error
	// A trace is of Traced, and ends when they have been read.
	Traced []status.TracedPacket
	// Explanation answers flow.explain.
	Explanation status.Explanation
	// FlowTable is what flow.list lists, by ascending id.
	FlowTable []status.Flow
	// WaitingCaptures are those that could not be restored yet.
	WaitingCaptures []spec.Session

	mu         sync.Mutex
	last       Requests
	interfaces map[string]vnet.Interface
	routes     []vnet.Route
	sessions   map[string]spec.Session
	ended      []spec.Session
}

// Requests are the last ones of some methods.
type Requests struct {
	Capture spec.Request    // of capture.start
	Hangup  <-chan struct{} // closed when its client has hung up
	Trace   status.TraceRequest
	Explain status.ExplainRequest
}

// Last returns the last requests, also while others are being answered.
func (f *Fake) Last() Requests {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// New returns a Fake without interfaces, with two flows.
func New() *Fake {
	return &Fake{
		FlowTable: []status.Flow{
			{
				ID: 1, Interface: "vm-1", FromGuest: true, VNI: 100,
				Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
				Proto: 6, SrcPort: 40000, DstPort: 5201, InPort: vf(0), OutPort: vf(1),
				Action: "deliver", State: "established", Offloaded: true,
				Packets: 1200, Bytes: 1800000, Idle: 250 * time.Millisecond,
			},
			{
				ID: 2, Interface: "vm-2", VNI: 100,
				Src: netip.MustParseAddr("fd00::9"), Dst: netip.MustParseAddr("fd00::2"),
				Proto: 58, ICMPType: 128, InPort: pf0, OutPort: vf(1),
				Action: "deliver", State: "new", Packets: 1, Bytes: 118, Idle: 3 * time.Second,
			},
		},
		Traced: []status.TracedPacket{
			{
				Time: time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC), Port: vf(0), Origin: "guest",
				Length: len(tracedFrame), Frame: tracedFrame,
				Nodes: []status.TraceNode{
					{Name: "rx-" + vf(0), Cycles: 400, Burst: 2}, {Name: "classify_guest", Begin: 450, Cycles: 60, Burst: 2},
					{Name: "flow_lookup", Begin: 520, Cycles: 90, Burst: 1}, {Name: "flow_route", Begin: 620, Cycles: 300, Burst: 1},
					{Name: "drop_spoofed", Begin: 930, Cycles: 20, Burst: 1},
				},
				Dropped: true, Verdict: "dropped: its source address is not the guest's own (drop_spoofed)",
			},
		},
		Explanation: status.Explanation{
			Verdict: "delivered to vm-2 by " + vf(1),
			Steps: []status.ExplainStep{
				{Subject: "source", Text: "10.0.0.1 is the guest's own address"},
				{Subject: "route", Text: "10.0.0.2 is the address of vm-2 on this node"},
				{Subject: "NIC", Text: "forwards the flow by itself, by rule flow/1 in group 2 VNET"},
			},
			Rule: &status.Rule{Name: "flow/1", Port: vf(0), Domain: "transfer", Group: 2, Priority: 1, Pattern: "eth / ipv4 / tcp",
				Actions: "count / jump group 18", Hits: new(uint64), Bytes: new(uint64)},
			Captures: []status.ExplainCapture{{Session: "default", Interface: "vm-1", Direction: "rx", Rule: "eth / ipv4",
				Copied: true, Packets: 3, Bytes: 180}},
		},
		interfaces: map[string]vnet.Interface{},
		sessions:   map[string]spec.Session{},
	}
}

// Services returns the Fake as every service.
func (f *Fake) Services() server.Services {
	return server.Services{
		System:     system{},
		Ports:      ports{},
		Interfaces: f,
		Routes:     f,
		Flows:      flows{f},
		Rules:      rules{},
		Graph:      graph{},
		Capture:    captures{f},
		Waiting:    func() []spec.Session { return f.WaitingCaptures },
		Trace:      traces{f},
		Explain:    explain{f},
	}
}

const pf0 = "net_eswitch0"

func vf(n int) string { return pf0 + "_representor_vf" + string(rune('0'+n)) }

type system struct{}

func (system) Report(context.Context) (status.Report, error) {
	return status.Report{
		Configuration: "offload: true\n", Log: []string{"dpservice is up"},
		Check: []status.Finding{{Level: "failed", Subject: "hugepages", Text: "there are none", Fix: "reserve some"}},
	}, nil
}

func (system) Info() status.System {
	router := wire.MAC{2, 0, 0, 0, 0, 1}
	return status.System{
		Version:     "1.2.3",
		DPDKVersion: "DPDK 22.11.11",
		GoVersion:   "go1.26",
		PID:         4711,
		Uptime:      93784500 * time.Millisecond,
		Offload:     true,
		Workers:     []int{1},
		Driver:      pf0,
		PortNaming:  "represented_port",
		UnderlayIP:  netip.MustParseAddr("fc00:1::1"),
		Uplinks: []uplink.Uplink{
			{Name: pf0, LinkUp: true, RouterMAC: router, Source: uplink.Discovery},
			{Number: 1, Name: pf0 + "_pf1", Source: uplink.Kernel},
		},
		Flows: status.FlowTable{
			Known: 2, Capacity: 65536, Overflow: 3, Rules: 1, MaxRules: 32768, Created: 4, Aged: 2, Refused: 1,
			Guaranteed: 16384, GuaranteedRules: 8192, Shares: []status.FlowShare{
				{Interface: "vm-1", Origin: "guest", Flows: 2, Overflow: 3, Rules: 1, RulesEvicted: 1},
				{Interface: "vm-1", Origin: "wire"},
			},
		},
	}
}

type ports struct{}

func (ports) List() []port.Port {
	domain := uint16(0)
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 1, last} }
	return []port.Port{
		{ID: 0, Name: pf0, Role: port.PF, SwitchDomain: &domain, MAC: mac(0), MTU: 1500, LinkUp: true, Started: true},
		{ID: 1, Name: pf0 + "_pf1", Role: port.PF, Index: 1, MAC: mac(1), MTU: 1500, Started: true},
		{ID: 2, Name: vf(0), Role: port.VF, SwitchDomain: &domain, MAC: mac(2), MTU: 1500, LinkUp: true, Started: true},
		{ID: 3, Name: vf(1), Role: port.VF, Index: 1, SwitchDomain: &domain, MAC: mac(3), MTU: 1500, LinkUp: true,
			Started: true},
	}
}

func (p ports) Stats(name string) ([]port.Stats, error) {
	var all []port.Stats
	for _, p := range p.List() {
		if name == "" || name == p.Name {
			all = append(all, port.Stats{
				Port:     p,
				Counters: port.Counters{RxPackets: 10, RxBytes: 1000, TxPackets: 20, TxBytes: 2000, RxMissed: 1},
				Xstats:   []port.Xstat{{Name: "hw_rx_packets", Value: 7}},
			})
		}
	}
	if all == nil {
		return nil, fault.New(fault.NotFound, name, "no port %q", name)
	}
	return all, nil
}

// CreateInterface implements server.Interfaces.
func (f *Fake) CreateInterface(r vnet.CreateRequest) (vnet.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.interfaces[r.ID]; ok {
		return vnet.Interface{}, fault.New(fault.AlreadyExists, r.ID, "interface %q exists already", r.ID)
	}
	i := vnet.Interface{
		ID: r.ID, Device: r.Device, VNI: r.VNI, IPv4: r.IPv4, IPv6: r.IPv6, UnderlayIP: r.UnderlayIP, Hostname: r.Hostname,
		PXE: r.PXE,
	}
	if !i.UnderlayIP.IsValid() {
		i.UnderlayIP = netip.MustParseAddr("fc00:1::8000:0:1")
	}
	f.interfaces[r.ID] = i
	return i, f.Err
}

// Interface implements server.Interfaces.
func (f *Fake) Interface(id string) (vnet.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.interfaces[id]
	if !ok {
		return i, fault.New(fault.NotFound, id, "no interface %q", id)
	}
	return i, nil
}

// Interfaces implements server.Interfaces.
func (f *Fake) Interfaces() []vnet.Interface {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []vnet.Interface
	for _, id := range slices.Sorted(maps.Keys(f.interfaces)) {
		all = append(all, f.interfaces[id])
	}
	return all
}

// DeleteInterface implements server.Interfaces.
func (f *Fake) DeleteInterface(id string) error {
	if _, err := f.Interface(id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.interfaces, id)
	return nil
}

// AddRoute implements server.Routes.
func (f *Fake) AddRoute(r vnet.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes = append(f.routes, r)
	return f.Err
}

// Routes implements server.Routes.
func (f *Fake) Routes() []vnet.Route {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.routes)
}

// DeleteRoute implements server.Routes.
func (f *Fake) DeleteRoute(r vnet.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.routes, func(have vnet.Route) bool { return have.VNI == r.VNI && have.Prefix == r.Prefix })
	if i < 0 {
		return fault.New(fault.NotFound, "", "vni %d has no route to %s", r.VNI, r.Prefix)
	}
	f.routes = slices.Delete(f.routes, i, i+1)
	return nil
}

type flows struct{ *Fake }

func (f flows) Flows(cursor uint64, limit int, fits func(status.Flow) bool) ([]status.Flow, uint64, error) {
	first := min(int(cursor), len(f.FlowTable))
	end := min(first+limit, len(f.FlowTable))
	next := uint64(end)
	if end == len(f.FlowTable) {
		next = 0
	}
	var fit []status.Flow
	for _, flow := range f.FlowTable[first:end] {
		if fits(flow) {
			fit = append(fit, flow)
		}
	}
	return fit, next, f.Err
}

type rules struct{}

func (rules) Rules(port string, group *uint32) ([]status.Rule, error) {
	hits, bytes := uint64(12), uint64(1200)
	all := []status.Rule{
		{
			Name: "flow/1", Port: vf(0), PortID: 2, Domain: "transfer", Group: 2,
			Pattern: "represented_port ethdev_port_id is 2 / eth / ipv4 / tcp / end",
			Actions: "count / represented_port ethdev_port_id 3 / end", Hits: &hits, Bytes: &bytes,
		},
		{
			Name: "base/eth", Port: vf(0), PortID: 2, Domain: "transfer", Priority: 1,
			Pattern: "represented_port ethdev_port_id is 2 / eth / end", Actions: "jump group 2 / end",
		},
	}
	return slices.DeleteFunc(all, func(r status.Rule) bool {
		return port != "" && port != r.Port || group != nil && *group != r.Group
	}), nil
}

type graph struct{}

func (graph) Stats() []status.Node {
	return []status.Node{
		{Name: "rx-0", Calls: 100, Packets: 3200, Cycles: 64000},
		{Name: "drop_no_route", Calls: 1, Packets: 2, Cycles: 300},
	}
}

func (graph) Drops() []status.Drops {
	return []status.Drops{
		{Port: pf0, Reason: "unsupported", Packets: 9}, {Interface: "vm-1", Port: vf(0), Reason: "spoofed", Packets: 42},
	}
}

func (graph) DOT() string { return "digraph G {\n\t\"rx-0\" -> \"classify\";\n}\n" }

// tracedFrame is Ethernet, IPv4 and UDP.
var tracedFrame = []byte{
	2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 8, 0,
	0x45, 0, 0, 28, 0, 7, 0, 0, 64, 17, 0x66, 0xbf, 10, 0, 0, 9, 10, 0, 0, 2,
	0, 1, 0, 53, 0, 8, 0, 0,
}

type traces struct{ *Fake }

func (f traces) Start(_ context.Context, r status.TraceRequest) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last.Trace = r
	return []string{"packets that the NIC forwards by itself are not seen: it does so for 1 flows of vm-1 now"}, f.Err
}

func (f traces) Read(context.Context) (status.Trace, error) {
	return status.Trace{Packets: f.Traced, Missed: 3, Ended: true}, f.Err
}

func (f traces) Stop(context.Context) error { return f.Err }

type captures struct{ *Fake }

func (c captures) Start(ctx context.Context, r spec.Request) (spec.Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.Capture, c.last.Hangup = r, ctx.Done()
	if c.Err != nil {
		return spec.Session{}, c.Err
	}
	if r.Name == "" {
		r.Name = "default"
	}
	if _, ok := c.sessions[r.Name]; ok {
		return spec.Session{}, fault.New(fault.AlreadyActive, r.Name, "capture %q is active already", r.Name)
	}
	s := spec.Session{
		Name: r.Name, State: spec.Active, StartedAt: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		Sink: r.Sink, UDPSrcPort: r.UDPSrcPort, UDPDstPort: r.UDPDstPort, Encap: cmp.Or(r.Encap, wire.EncapUDP),
		Direction: cmp.Or(r.Direction, spec.RX), Drops: r.Drops,
		Filter: r.Filter, Limits: r.Limits, Held: r.Held, Warnings: []string{"the NIC overwrites the UDP source port"},
	}
	for i, target := range r.Targets {
		name := pf0
		if target.VF != "" {
			name = vf(i)
		}
		on := spec.SessionInterface{Target: target, Direction: s.Direction, Mode: spec.Hardware, Port: name,
			Label: wire.Label(i + 1), Packets: 5, Bytes: 500}
		if r.Filter != "" {
			on.Rules = []spec.SessionRule{
				{Pattern: "eth has_vlan is 0 / ipv4 / tcp dst is 443", Sample: true, Packets: 5, Bytes: 500},
				{Pattern: "eth", Packets: 3, Bytes: 300},
			}
		}
		if r.Direction != spec.None {
			s.Interfaces = append(s.Interfaces, on)
		}
		if r.Drops {
			on.Direction, on.Mode, on.Label = spec.Drops, spec.Software, wire.DropLabel(on.Label, 0)
			s.Interfaces = append(s.Interfaces, on)
		}
		s.Packets, s.Bytes = s.Packets+5, s.Bytes+500
	}
	if r.DryRun {
		s.State, s.StartedAt = spec.DryRun, time.Time{}
		s.Plan = []string{"flow create 2 group 1 transfer pattern eth / end actions jump group 2 / end"}
		return s, nil
	}
	c.sessions[r.Name] = s
	if r.Held {
		context.AfterFunc(ctx, func() {
			_, _ = c.Stop(r.Name) // it may have been stopped before
		})
	}
	return s, nil
}

func (c captures) Stop(name string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for id, s := range c.sessions {
		if name == "" || name == id {
			n += len(s.Interfaces)
			delete(c.sessions, id)
			s.State, s.EndReason, s.EndedAt = spec.Ended, spec.Stopped, s.StartedAt.Add(time.Minute)
			c.ended = append(c.ended, s)
		}
	}
	if n == 0 {
		return 0, fault.New(fault.NotActive, name, "no capture is active")
	}
	return n, nil
}

func (c captures) Capabilities() []spec.PortCapabilities {
	yes := spec.Capability{Name: "rx", Supported: true}
	no := spec.Capability{Name: "rx", Reason: "attr_transfer: not in switchdev mode"}
	tx := spec.Capability{Name: "tx", Reason: "item: no, thanks"}
	return []spec.PortCapabilities{
		{Port: port.Port{Name: pf0, Role: port.PF}, Mode: spec.Hardware, RX: yes, TX: tx,
			Encaps: []spec.Capability{{Name: "udp", Supported: true}},
			Filter: []spec.Capability{{Name: "ip", Supported: true}, {Name: "vlan", Reason: "item: vlan"}}},
		{Port: port.Port{Name: vf(0), Role: port.VF}, Mode: spec.Hardware, RX: no, TX: tx},
	}
}

func (c captures) Status() (all, ended []spec.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.sessions)) {
		all = append(all, c.sessions[name])
	}
	return all, c.ended
}

type explain struct{ f *Fake }

// Explain implements server.Explain.
func (e explain) Explain(r status.ExplainRequest) (status.Explanation, error) {
	e.f.mu.Lock()
	defer e.f.mu.Unlock()
	e.f.last.Explain = r
	x := e.f.Explanation
	x.Flow = &e.f.FlowTable[0]
	return x, e.f.Err
}
