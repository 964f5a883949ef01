// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"dpservice/capture/spec"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// fakeFlow is an offloaded flow from PF0 or a guest to another guest.
type fakeFlow struct{ in, out uint16 }

// addFlows offloads a flow between each two ports.
func (n *node) addFlows() {
	for _, in := range n.sorted() {
		for _, out := range n.sorted() {
			if in.ID == out.ID || in.SwitchDomain == nil || out.Role != port.VF {
				continue
			}
			flow := fakeFlow{in.ID, out.ID}
			n.flows = append(n.flows, flow)
			n.add(flow.rule())
		}
	}
}

func (f fakeFlow) rule() *ruleset.Rule {
	return &ruleset.Rule{Port: f.in, Owner: fakeOwner(fmt.Sprintf("flow/%d-%d", f.in, f.out)), Spec: rteflow.Rule{
		Attr:    nic.InGroup(nicgroup.VNET, nicgroup.FlowPriority),
		Pattern: []rteflow.Item{rteflow.RepresentedPort{Port: f.in}, rteflow.Eth{Dst: rteflow.Is(macBehind(f.out))}},
		Actions: []rteflow.Action{nic.JumpTo(nicgroup.Delivery(f.out))},
	}}
}

type fakeOwner string

func (o fakeOwner) String() string { return string(o) }

// fakeTaps are those of a graph that copies on request, and may refuse.
type fakeTaps struct {
	taps map[tapKey]*fakeTap
	fail func(call string) error
}

type tapKey struct {
	port uint16
	side graph.TapSide
}

type fakeTap struct {
	graph.Tap
	graph.TapCounters
}

func (f *fakeTaps) call(what string) error {
	if f.fail == nil {
		return nil
	}
	return f.fail(what)
}

func (f *fakeTaps) SetTap(t graph.Tap) (graph.TapCounters, error) {
	if err := f.call("set"); err != nil {
		return graph.TapCounters{}, err
	}
	key := tapKey{t.Port, t.Side}
	var replaced graph.TapCounters
	if old := f.taps[key]; old != nil {
		replaced = old.TapCounters
	}
	f.taps[key] = &fakeTap{t, graph.TapCounters{Rules: make([]graph.TapCount, len(t.Rules))}}
	return replaced, nil
}

func (f *fakeTaps) RemoveTap(port uint16, side graph.TapSide) (graph.TapCounters, error) {
	if err := f.call("remove"); err != nil {
		return graph.TapCounters{}, err
	}
	t := f.taps[tapKey{port, side}]
	if t == nil {
		return graph.TapCounters{}, graph.ErrNotFound
	}
	delete(f.taps, tapKey{port, side})
	return t.TapCounters, nil
}

func (f *fakeTaps) TapCounters(port uint16, side graph.TapSide) (graph.TapCounters, error) {
	if err := f.call("read"); err != nil {
		return graph.TapCounters{}, err
	}
	t := f.taps[tapKey{port, side}]
	if t == nil {
		return graph.TapCounters{}, graph.ErrNotFound
	}
	return t.TapCounters, nil
}

// send lets a packet pass a port in the graph that the rule-th rule of its tap matches, and returns its copies'
// headers.
func (f *fakeTaps) send(port uint16, side graph.TapSide, rule int) [][]byte {
	t := f.taps[tapKey{port, side}]
	if t == nil {
		return nil
	}
	t.TapCounters.Rules[rule].Packets++
	t.TapCounters.Rules[rule].Bytes += frameLen
	if !t.Tap.Rules[rule].Sample {
		return nil
	}
	return [][]byte{t.Header}
}

// set lists the taps there are.
func (f *fakeTaps) set() []tapKey {
	return slices.SortedFunc(maps.Keys(f.taps),
		func(a, b tapKey) int { return int(a.port)*3 + int(a.side) - int(b.port)*3 - int(b.side) })
}

func validRequest() spec.Request {
	return spec.Request{
		Sink:       netip.MustParseAddr("fc00:2::9"),
		UDPSrcPort: 3000,
		UDPDstPort: 3010,
		Targets:    []spec.Target{{VF: "vm-1"}},
	}.WithDefaults()
}

func vfs(n int) []spec.Target {
	targets := make([]spec.Target, n)
	for i := range targets {
		targets[i].VF = fmt.Sprintf("vm-%d", i+1)
	}
	return targets
}
