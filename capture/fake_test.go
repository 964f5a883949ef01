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

// fakeFlows are offloaded flows between ports: from PF0 and each guest to each other guest.
type fakeFlows struct {
	rules *ruleset.Set
	paths map[fakeFlow]map[uint32]*ruleset.Rule // by the groups via which the rules send packets
}

type fakeFlow struct{ in, out uint16 }

func newFakeFlows(n *node) *fakeFlows {
	f := &fakeFlows{rules: n.rules, paths: map[fakeFlow]map[uint32]*ruleset.Rule{}}
	for _, in := range n.sorted() {
		for _, out := range n.sorted() {
			if in.ID == out.ID || in.SwitchDomain == nil || out.Role != port.VF {
				continue
			}
			flow := fakeFlow{in.ID, out.ID}
			f.paths[flow] = map[uint32]*ruleset.Rule{0: flow.rule(0),
				uint32(nicgroup.Delivery(out.ID)): flow.rule(uint32(nicgroup.Delivery(out.ID)))}
			if err := n.rules.Apply(ruleset.Add(f.paths[flow][0])); err != nil {
				panic(err)
			}
		}
	}
	return f
}

func (f fakeFlow) rule(group uint32) *ruleset.Rule {
	r := rteflow.Rule{
		Attr:    nic.InGroup(nicgroup.VNET, nicgroup.FlowPriority+1),
		Pattern: []rteflow.Item{rteflow.RepresentedPort{Port: f.in}, rteflow.Eth{Dst: rteflow.Is(macBehind(f.out))}},
		Actions: []rteflow.Action{rteflow.ToRepresentedPort{Port: f.out}},
	}
	if group != 0 {
		r.Priority, r.Actions = 1, []rteflow.Action{rteflow.Jump{Group: group}}
	}
	return &ruleset.Rule{Port: f.in, Owner: fakeOwner(fmt.Sprintf("flow/%d-%d/%d", f.in, f.out, group)), Spec: r}
}

type fakeOwner string

func (o fakeOwner) String() string { return string(o) }

// Divert moves the flows by adding the new rule and removing the other.
func (f *fakeFlows) Divert(groups map[uint16]uint32) Diversion {
	var moves fakeDiversion
	for _, flow := range slices.SortedFunc(maps.Keys(f.paths),
		func(a, b fakeFlow) int { return int(a.in)*100 + int(a.out) - int(b.in)*100 - int(b.out) }) {
		group, ok := groups[flow.out]
		if !ok {
			continue
		}
		if !f.rules.Installed(f.paths[flow][group]) {
			moves = append(moves, ruleset.Op{Rule: f.paths[flow][group]})
		}
		for via, r := range f.paths[flow] {
			if via != group && f.rules.Installed(r) {
				moves = append(moves, ruleset.Op{Rule: r, Remove: true})
			}
		}
	}
	return moves
}

// fakeDiversion is its operations: what became of them can be seen in the set of rules.
type fakeDiversion []ruleset.Op

func (d fakeDiversion) Ops() []ruleset.Op { return d }
func (fakeDiversion) Commit()             {}
func (fakeDiversion) Abort()              {}

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
		func(a, b tapKey) int { return int(a.port)*2 + int(a.side) - int(b.port)*2 - int(b.side) })
}

func validRequest() spec.Request {
	return spec.Request{
		Sink:       netip.MustParseAddr("fc00:2::9"),
		UDPSrcPort: 3000,
		UDPDstPort: 3010,
		Targets:    []spec.Target{{VF: "vm-1"}},
	}
}

func vfs(n int) []spec.Target {
	targets := make([]spec.Target, n)
	for i := range targets {
		targets[i].VF = fmt.Sprintf("vm-%d", i+1)
	}
	return targets
}
