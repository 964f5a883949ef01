// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/port"
	"dpservice/dpservice/tunnel"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
	"dpservice/test/report"
)

// fakePorts are PF0 (port 0) and VFs (ports 1 to 4).
type fakePorts struct{ vnet *vnet.Manager }

func (fakePorts) List() []port.Port {
	domain := uint16(7)
	ports := []port.Port{{Name: "pf0", Role: port.PF, MTU: 1800}}
	for i := range 4 {
		ports = append(ports, port.Port{ID: uint16(i + 1), Name: fmt.Sprintf("vf%d", i), Role: port.VF, Index: i, MTU: 1500})
	}
	for i := range ports {
		ports[i].SwitchDomain, ports[i].Started, ports[i].MAC = &domain, true, net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}
	}
	return ports
}

func (f fakePorts) ByName(name string) (port.Port, bool) {
	i := slices.IndexFunc(f.List(), func(p port.Port) bool { return p.Name == name })
	if i < 0 {
		return port.Port{}, false
	}
	return f.List()[i], true
}

func (f fakePorts) All() []port.Port                     { return f.List() }
func (f fakePorts) Device(name string) (port.Port, bool) { return f.ByName(name) }
func (f fakePorts) PF(number int) (port.Port, bool)      { return f.List()[0], number == 0 }
func (f fakePorts) Interface(id string) (port.Port, bool) {
	i, err := f.vnet.Interface(id)
	return f.List()[i.Port], err == nil
}

// fakeGraph accepts every change, and announces the flows that traffic makes.
type fakeGraph struct {
	events chan []graph.FlowEvent

	mu        sync.Mutex
	offloaded map[uint64]bool
	taps      map[uint16]graph.Tap // by port: there are such of what guests receive only
}

func (*fakeGraph) SetInterface(vnet.Attachment) error     { return nil }
func (*fakeGraph) DeleteInterface(uint16) error           { return nil }
func (*fakeGraph) SetTunnel(uint16, graph.Tunnel) error   { return nil }
func (*fakeGraph) AddRoute(vnet.Route) error              { return nil }
func (*fakeGraph) DeleteRoute(vnet.Route) error           { return nil }
func (*fakeGraph) Generation() uint32                     { return 0 }
func (g *fakeGraph) FlowEvents() <-chan []graph.FlowEvent { return g.events }

func (g *fakeGraph) SetOffloaded(ids []uint64, on bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		g.offloaded[id] = on
	}
	return nil
}

func (g *fakeGraph) DeleteFlows(ids []uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		delete(g.offloaded, id)
	}
	return nil
}

func (g *fakeGraph) SetTap(t graph.Tap) (graph.TapCounters, error) {
	g.taps[t.Port] = t
	return graph.TapCounters{}, nil
}

func (g *fakeGraph) RemoveTap(port uint16, _ graph.TapSide) (graph.TapCounters, error) {
	if _, ok := g.taps[port]; !ok {
		return graph.TapCounters{}, graph.ErrNotFound
	}
	delete(g.taps, port)
	return graph.TapCounters{}, nil
}

func (g *fakeGraph) TapCounters(port uint16, _ graph.TapSide) (graph.TapCounters, error) {
	return graph.TapCounters{}, nil
}

func (g *fakeGraph) isOffloaded(id uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.offloaded[id]
}

// node is a node in which everything is real but its ports, its NIC and its graph. vm-1 to vm-3 are on ports 1 to 3.
type node struct {
	t *testing.T
	interfaces
	driver flowtest.NIC
	rules  *ruleset.Set
	graph  *fakeGraph
}

func newNode(t *testing.T) *node {
	n := &node{t: t, graph: &fakeGraph{events: make(chan []graph.FlowEvent), offloaded: map[uint64]bool{},
		taps: map[uint16]graph.Tap{}}}
	ports := &fakePorts{}
	nodeIP := netip.MustParseAddr("fc00:1::1")
	eswitch, err := nic.Probe(&n.driver, ports.List(), nodeIP, func(uint16) bool { return false })
	require.NoError(t, err)
	n.rules = ruleset.New(eswitch)
	require.NoError(t, n.rules.Apply(ruleset.Add(eswitch.BaseRules()...)))
	ports.vnet = vnet.New(vnet.Config{NodeIP: nodeIP, Ports: ports, Dataplane: n.graph, MaxInterfaces: 9, MaxRoutes: 9})
	tunnels := tunnel.New(tunnel.Config{Graph: n.graph, NIC: eswitch, Rules: n.rules})
	flows := flow.New(flow.Config{
		Graph: n.graph, Tunnels: tunnels, NIC: eswitch, Rules: n.rules, Max: 100, Timeout: time.Minute,
		Log:          slog.New(slog.DiscardHandler),
		HasInterface: (&daemon{vnet: ports.vnet}).hasInterface,
	})
	n.interfaces = interfaces{
		Manager:  ports.vnet,
		capture:  capture.New(capture.Deps{Rules: n.rules, Ports: ports, Taps: n.graph, NIC: eswitch}),
		flows:    flows,
		tunnels:  tunnels,
		checks:   func(vni uint32) bool { return vni == 200 },
		greet:    func(uint16) {},
		portName: func(id uint16) string { return ports.List()[id].Name },
		changing: &sync.Mutex{},
	}
	require.NoError(t, n.capture.UplinkChanged(capture.Uplink{RouterMAC: [6]byte{2, 9}, NodeIP: nodeIP}))
	for i := range 3 {
		require.NoError(t, n.create(i+1))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run tasks
	run.start(func() { n.flows.Run(ctx) })
	t.Cleanup(func() { cancel(); run.wait() })
	return n
}

func (n *node) create(number int) error {
	vni := uint32(100)
	if number == 3 {
		vni = 200 // where it is checked who sends from the wire
	}
	_, err := n.CreateInterface(vnet.CreateRequest{
		ID: fmt.Sprintf("vm-%d", number), Device: fmt.Sprintf("vf%d", number-1), VNI: vni,
		IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}),
	})
	return err
}

// startIn captures vm-1, vm-2 and PF0.
func startIn(d spec.Direction) func(n *node) error {
	return func(n *node) error {
		_, err := n.capture.Start(context.Background(), spec.Request{
			Sink: netip.MustParseAddr("fc00:9::1"), UDPSrcPort: 3000, UDPDstPort: 3010, Direction: d,
			Targets: []spec.Target{{VF: "vm-1"}, {VF: "vm-2"}, {PF: 0}},
		}.WithDefaults())
		return err
	}
}

func stopAll(n *node) error {
	_, err := n.capture.Stop("")
	return err
}

func deleteOne(n *node) error { return n.DeleteInterface("vm-2") }

// talk has every pair of guests exchange packets, and each get some from the wire: flows that have ended begin anew,
// and are offered to the NIC.
func (n *node) talk() {
	n.t.Helper()
	n.settle() // the graph has forgotten the flows of deleted interfaces
	guests := n.Attachments()
	for _, to := range guests {
		if f := n.flowTo(to); !n.graph.isOffloaded(f.ID) {
			n.graph.events <- []graph.FlowEvent{{Kind: graph.FlowNew, Flow: f}}
		}
	}
	for _, from := range guests {
		for _, to := range guests {
			f := flowBetween(from, to)
			if from.ID != to.ID && !n.graph.isOffloaded(f.ID) {
				n.graph.events <- []graph.FlowEvent{{Kind: graph.FlowNew, Flow: f}}
			}
		}
	}
	// An event of a flow that nobody knows: once it is taken, the others are too.
	n.graph.events <- []graph.FlowEvent{{Kind: graph.FlowGone}}
	n.settle()
}

// settle waits until the flows are as they are to be.
func (n *node) settle() {
	n.t.Helper()
	require.Eventually(n.t, func() bool { return n.flows.Stats().Backlog == 0 }, 10*time.Second, 10*time.Microsecond)
}

func (n *node) flowTo(to vnet.Attachment) graph.Flow {
	f := graph.Flow{
		ID: 0xff00 | uint64(to.Port), VNI: to.VNI,
		Key: graph.FlowKey{
			Origin: graph.FromWire, Interface: to.Index, Src: netip.MustParseAddr("10.0.1.1"), Dst: to.IPv4, Proto: 17,
			SrcPort: 1, DstPort: 2,
		},
		Verdict: graph.Verdict{Kind: graph.Deliver, TxPort: to.Port,
			Header: []byte{2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 2, 8, 0}},
		Tunnel: graph.Tunnel{Interface: to.Index, Underlay: to.UnderlayIP},
	}
	if n.checks(to.VNI) {
		f.Tunnel.Peer = netip.MustParseAddr("fc00:2::1")
	}
	return f
}

func flowBetween(from, to vnet.Attachment) graph.Flow {
	return graph.Flow{
		ID: uint64(from.Port)<<8 | uint64(to.Port), VNI: 100,
		Key: graph.FlowKey{
			Origin: graph.FromGuest, Interface: from.Index, Src: from.IPv4, Dst: to.IPv4, Proto: 17, SrcPort: 1, DstPort: 2,
		},
		Verdict: graph.Verdict{
			Kind: graph.Deliver, InPort: from.Port, TxPort: to.Port, Header: []byte{2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 2, 8, 0},
			DecTTL: true,
		},
	}
}

// aMark is the mark of a tunnel, which is another one when it comes again.
var aMark = regexp.MustCompile(`02:64:70:73:00:..`)

// installed lists what the NIC holds; it must be what dpservice believes that it holds.
func (n *node) installed() []string {
	n.t.Helper()
	var inNIC, believed []string
	for _, r := range n.driver.Rules() {
		inNIC = append(inNIC, fmt.Sprintf("port %d: %s", r.Port, r.Rule))
	}
	for _, r := range n.rules.List() {
		believed = append(believed, fmt.Sprintf("port %d: %s", r.Port, r.Full()))
	}
	for i := range inNIC {
		inNIC[i] = aMark.ReplaceAllString(inNIC[i], "MARK")
	}
	for i := range believed {
		believed[i] = aMark.ReplaceAllString(believed[i], "MARK")
	}
	slices.Sort(inNIC)
	slices.Sort(believed)
	require.Equal(n.t, inNIC, believed)
	require.Empty(n.t, n.driver.Misuse())
	return inNIC
}

// operations are what changes rules, each from the state in which all guests talk.
var operations = map[string]struct {
	captured spec.Direction // empty: nothing is captured
	do       func(n *node) error
	calls    int // of the NIC, at least
}{
	"capture.start":    {"", startIn(spec.RX), 7},
	"capture.stop":     {spec.RX, stopAll, 7},
	"interface.create": {"", func(n *node) error { return n.create(4) }, 2},
	"interface.delete": {"", deleteOne, 6},
	"interface.delete, whose senders are checked": {"", func(n *node) error { return n.DeleteInterface("vm-3") }, 6},
	"interface.delete, while captured":            {spec.RX, deleteOne, 8},

	"capture.start, both directions":                      {"", startIn(spec.Both), 11},
	"capture.stop, both directions":                       {spec.Both, stopAll, 11},
	"interface.delete, while captured in both directions": {spec.Both, deleteOne, 11},
}

// talkingNode is a node on which all guests talk.
func talkingNode(t *testing.T, captured spec.Direction) *node {
	n := newNode(t)
	n.talk()
	if captured != "" {
		require.NoError(t, startIn(captured)(n))
	}
	return n
}

// under runs an operation on a NIC that refuses some of its calls: the first is 1. It returns how many there were.
func (n *node) under(op func(*node) error, fail func(call int) bool) (calls int, err error) {
	first := len(n.driver.Calls())
	n.driver.OnCall(func(c flowtest.Call) error {
		if fail(c.N - first) {
			return flowtest.Refusal(c, syscall.EBUSY, "out of luck")
		}
		return nil
	})
	err = op(n)
	n.driver.OnCall(nil)
	return len(n.driver.Calls()) - first, err
}

// Whether a change that failed was undone, for sure or perhaps.
var (
	undone = []fault.Reason{fault.RuleRejected}
	either = []fault.Reason{fault.RuleRejected, fault.RollbackFailed}
)

// Whichever calls the NIC refuses, also while undoing: either the old or the new state is installed, or the error says
// what is left, and it can be repaired.
func TestEveryCallFails(t *testing.T) {
	total := 0
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			idle := talkingNode(t, "").installed()
			n := talkingNode(t, op.captured)
			oldState := n.installed()
			calls, err := n.under(op.do, func(int) bool { return false })
			require.NoError(t, err)
			require.GreaterOrEqual(t, calls, op.calls)
			n.talk()
			newState, interfaces := n.installed(), n.Interfaces()

			points := 0
			try := func(reasons []fault.Reason, fail func(call int) bool) {
				points++
				n := talkingNode(t, op.captured)
				before := n.Interfaces()
				_, err := n.under(op.do, fail)
				n.installed()
				n.talk()
				if err == nil {
					assert.Equal(t, newState, n.installed())
					assert.Equal(t, interfaces, n.Interfaces())
					return
				}
				checkRefusal(t, err, reasons)
				if fault.Is(err, fault.RollbackFailed) {
					n.repair(before)
					assert.Equal(t, idle, n.installed())
					return
				}
				assert.Equal(t, before, n.Interfaces())
				assert.Equal(t, oldState, n.installed())
				require.NoError(t, op.do(n), "the next time it works")
				n.talk()
				assert.Equal(t, newState, n.installed())
			}
			for first := 1; first <= calls; first++ {
				try(undone, func(call int) bool { return call == first })
				try(either, func(call int) bool { return call >= first })
				for second := first + 1; second <= calls+first; second++ {
					try(either, func(call int) bool { return call == first || call == second })
				}
			}
			t.Logf("%d calls of the NIC, fault points tried: %d", calls, points)
			total += points
		})
	}
	report.Printf(t, "faults in interfaces and captures: points tried: %d", total)
}

// repair does what is asked for after a ROLLBACK_FAILED: the captures are stopped, and the interface that may lack
// rules is deleted. The interfaces are then as they were before.
func (n *node) repair(before []vnet.Interface) {
	n.t.Helper()
	if err := stopAll(n); err != nil {
		require.True(n.t, fault.Is(err, fault.NotActive), err)
	}
	for _, i := range n.Interfaces() {
		if !slices.Contains(before, i) {
			require.NoError(n.t, n.DeleteInterface(i.ID))
		}
	}
	require.Equal(n.t, before, n.Interfaces())
	require.NoError(n.t, deleteOne(n))
	require.NoError(n.t, n.create(2))
	n.talk()
}

// checkRefusal requires that an error says what the NIC did not do.
func checkRefusal(t *testing.T, err error, reasons []fault.Reason) {
	t.Helper()
	var f *fault.Error
	require.True(t, errors.As(err, &f), err)
	assert.Contains(t, reasons, f.Reason)
	assert.NotEmpty(t, f.Interface)
	assert.Regexp(t, `^group \d+ priority \d+ transfer pattern .* / end actions .* / end$`, f.Rule)
	assert.Equal(t, syscall.EBUSY, f.Errno)
	assert.Contains(t, f.RTEFlowError, "out of luck")
	assert.Regexp(t, `port (pf0|vf\d)`, err.Error())
	assert.Contains(t, err.Error(), f.Rule)
	assert.Contains(t, err.Error(), "device or resource busy")
}
