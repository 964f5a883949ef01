// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/tunnel"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// fakeGraph records which flows are offloaded. It forwards no packets.
type fakeGraph struct {
	events     chan []graph.FlowEvent
	offloaded  map[uint64]bool
	deleted    []uint64
	generation uint32
	gone       bool // the flows have ended meanwhile
	heldUp     bool // their worker is
	changes    int

	mu sync.Mutex // of deleted
}

// deletedFlows returns the deleted flows, also while Run is running.
func (g *fakeGraph) deletedFlows() []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deleted
}

func (g *fakeGraph) Generation() uint32 { return g.generation }

func (g *fakeGraph) FlowEvents() <-chan []graph.FlowEvent { return g.events }

// SetOffloaded fails for all flows, or for none.
func (g *fakeGraph) SetOffloaded(ids []uint64, on bool) error {
	g.changes++
	if err := g.refusal(ids); err != nil {
		return err
	}
	for _, id := range ids {
		g.offloaded[id] = on
	}
	return nil
}

func (g *fakeGraph) DeleteFlows(ids []uint64) error {
	g.changes++
	if g.heldUp {
		return g.refusal(ids)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		g.deleted = append(g.deleted, id)
		delete(g.offloaded, id)
	}
	return nil
}

// refusal is the error for calls that change none of the flows.
func (g *fakeGraph) refusal(ids []uint64) error {
	if !g.gone && !g.heldUp {
		return nil
	}
	failed := graph.FlowErrors{}
	for _, id := range ids {
		failed[id] = graph.ErrTimeout
		if g.gone {
			failed[id] = graph.ErrNotFound
		}
	}
	return fmt.Errorf("graph: %w", failed)
}

// fakeNIC has ports up to 9, and rules that age when told to.
type fakeNIC struct {
	flowtest.NIC
	aged []uint64
}

func (n *fakeNIC) Has(id uint16) bool                  { return id < 10 }
func (n *fakeNIC) PortItem(id uint16) rteflow.Item     { return rteflow.RepresentedPort{Port: id} }
func (n *fakeNIC) PortAction(id uint16) rteflow.Action { return rteflow.ToRepresentedPort{Port: id} }
func (n *fakeNIC) Aged() (aged []uint64, err error)    { aged, n.aged = n.aged, nil; return aged, nil }
func (n *fakeNIC) count(c rteflow.Counters)            { n.Hit(1, func(rteflow.Rule) bool { return true }, c) }
func (n *fakeNIC) refuse(method string)                { n.OnCall(refuse(method)) }
func refuse(method string) func(c flowtest.Call) error {
	return func(c flowtest.Call) error {
		if c.Method == method {
			return flowtest.Refusal(c, syscall.ENOTSUP, "no")
		}
		return nil
	}
}

// fakeTunnels counts the uses of tunnels. Marks start at 0x101.
type fakeTunnels struct {
	uses    []int // by mark, less 0x101
	keys    []tunnel.Key
	full    bool
	tidied  int
	tidyErr error
}

func (f *fakeTunnels) Acquire(k tunnel.Key) (uint16, error) {
	if f.full {
		return 0, tunnel.ErrFull
	}
	i := slices.Index(f.keys, k)
	if i < 0 {
		i = len(f.keys)
		f.keys, f.uses = append(f.keys, k), append(f.uses, 0)
	}
	f.uses[i]++
	return uint16(0x101 + i), nil
}

func (f *fakeTunnels) Release(k tunnel.Key) { f.uses[slices.Index(f.keys, k)]-- }
func (f *fakeTunnels) Tidy() error          { f.tidied++; return f.tidyErr }

type lab struct {
	*Manager
	graph   *fakeGraph
	nic     *fakeNIC
	set     *ruleset.Set
	tunnels *fakeTunnels
	log     bytes.Buffer
}

func newLab() *lab {
	b := &lab{
		graph: &fakeGraph{events: make(chan []graph.FlowEvent), offloaded: map[uint64]bool{}},
		nic:   &fakeNIC{}, tunnels: &fakeTunnels{},
	}
	b.set = ruleset.New(b.nic)
	b.Manager = New(Config{
		Graph: b.graph, NIC: b.nic, Rules: b.set, Tunnels: b.tunnels, Max: 2, Timeout: 30 * time.Second,
		HasInterface: func(index uint16) bool { return index == 3 },
		Log:          slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	return b
}

// age looks for aged rules once, and does all that follows.
func (b *lab) age() {
	b.Manager.age()
	b.workAll()
}

func (b *lab) workAll() {
	for {
		select {
		case <-b.reminder:
			b.catchUp()
		default:
			if b.backlog.isEmpty() {
				return
			}
			b.work()
		}
	}
}

func (b *lab) begin(f graph.Flow) { b.report(graph.FlowNew, f) }
func (b *lab) end(f graph.Flow)   { b.report(graph.FlowGone, f) }

func (b *lab) report(kind graph.EventKind, f graph.Flow) {
	b.take([]graph.FlowEvent{{Kind: kind, Flow: f}})
	b.workAll()
}

// release takes a port out of use.
func (b *lab) release(t *testing.T, port uint16) *Release {
	t.Helper()
	r, err := b.ReleasePort(port)
	require.NoError(t, err)
	return r
}

// countFlow counts one flow.
func (b *lab) countFlow(f *graph.Flow) {
	one := []graph.Flow{*f}
	b.Count(one)
	*f = one[0]
}

func withID(id uint64) graph.Flow {
	f := deliver()
	f.ID = id
	return f
}

func TestAFlowComesAndGoes(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	require.Len(t, b.nic.Rules(), 1)
	assert.Equal(t, uint16(1), b.nic.Rules()[0].Port)
	assert.True(t, b.graph.offloaded[1])
	assert.Equal(t, Stats{Rules: 1, Created: 1}, b.Stats())
	b.end(withID(1))
	assert.Empty(t, b.nic.Rules())
	assert.Empty(t, b.graph.deleted)
	b.end(withID(1))
	assert.Empty(t, b.nic.Misuse())
}

// Many flows are handled in one batch. If the NIC refuses the rule of one flow, the others still get theirs.
func TestManyFlowsAtOnce(t *testing.T) {
	const many = batchSize
	b := newLab()
	b.cfg.Max = 2 * many
	begin := func(first uint64) (events []graph.FlowEvent) {
		for id := range uint64(many) {
			events = append(events, graph.FlowEvent{Kind: graph.FlowNew, Flow: withID(first + id)})
		}
		return events
	}
	b.take(begin(1))
	b.nic.FailCalls(100)
	b.work()
	assert.Len(t, b.nic.Rules(), many-1)
	assert.Equal(t, 1, b.graph.changes)
	assert.NotContains(t, b.graph.offloaded, uint64(100))
	assert.Contains(t, b.waiting, uint64(100))
	assert.Equal(t, Stats{Rules: many - 1, Created: many - 1, Refused: 1}, b.Stats())

	for id := range uint64(many) {
		b.nic.aged = append(b.nic.aged, 1+id)
	}
	b.nic.OnCall(func(c flowtest.Call) error {
		if c.Method == "destroy" && c.Rule.Actions[3] == (rteflow.Age{Timeout: 30, Context: 7}) {
			return flowtest.Refusal(c, syscall.EBUSY, "no")
		}
		return nil
	})
	again := b.nic.aged
	b.Manager.age()
	b.nic.aged = again // a NIC tells of them until they are gone
	b.Manager.age()
	assert.Equal(t, many-1, b.Stats().Backlog)
	b.workAll()
	require.Len(t, b.nic.Rules(), 1)
	assert.Len(t, b.graph.deleted, many-2)
	assert.EqualValues(t, many-2, b.Stats().Aged)
	b.nic.OnCall(nil)
	b.age()
	assert.Empty(t, b.nic.Rules())
	assert.Contains(t, b.graph.deleted, uint64(7))
	assert.Zero(t, b.Stats().Backlog)
	assert.Empty(t, b.nic.Misuse())
}

func TestANewVerdictReplacesTheRule(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	changed := withID(1)
	changed.Verdict.TxPort = 4
	b.begin(changed)
	require.Len(t, b.nic.Rules(), 1)
	assert.Contains(t, b.nic.Rules()[0].Rule.Actions, rteflow.Action(nic.JumpTo(nicgroup.Delivery(4))))

	away := withID(1)
	away.Verdict.TxPort = 10
	b.begin(away)
	assert.Empty(t, b.nic.Rules())
	assert.Equal(t, []uint64{1}, b.graph.deleted, "the graph must not take the flow for offloaded any longer")
}

func TestOldFlowsAreForgotten(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	b.begin(withID(2))
	b.nic.aged = []uint64{1, 77}
	b.age()
	assert.Len(t, b.nic.Rules(), 1)
	assert.Equal(t, []uint64{1}, b.graph.deleted)
	assert.Equal(t, Stats{Rules: 1, Created: 2, Aged: 1}, b.Stats())
}

func TestNoMoreRulesThanAllowed(t *testing.T) {
	b := newLab()
	for id := range uint64(5) {
		b.begin(withID(id + 1))
	}
	assert.Len(t, b.nic.Rules(), 2)
	assert.Equal(t, Stats{Rules: 2, Created: 2, Limited: 3}, b.Stats())
	assert.Equal(t, 1, strings.Count(b.log.String(), "stays in software"), "said once")
}

func TestRefusedFlowsStayInSoftware(t *testing.T) {
	b := newLab()
	b.nic.refuse("create")
	b.begin(withID(1))
	assert.Empty(t, b.graph.offloaded)
	assert.Equal(t, Stats{Refused: 1}, b.Stats())
	assert.Len(t, b.nic.Calls(), 1, "tried once")
	assert.Contains(t, b.log.String(), "the NIC cannot take its rule")
}

// The NIC lacked a resource that it may have later, or there was no room for the rule.
func TestFlowsAreOfferedAgain(t *testing.T) {
	b := newLab()
	b.nic.FailCalls(1)
	b.begin(withID(1))
	b.begin(withID(2))
	b.begin(withID(3))
	b.begin(withID(4))
	require.Equal(t, map[uint64]bool{2: true, 3: true}, b.graph.offloaded)
	b.age()
	require.Len(t, b.graph.offloaded, 2, "there is no room")
	b.end(withID(4))
	b.end(withID(2))
	b.age()
	assert.Equal(t, map[uint64]bool{1: false, 2: true, 3: true}, b.graph.offloaded, "4 has ended")
	b.begin(withID(1))
	assert.True(t, b.graph.offloaded[1])
	assert.Empty(t, b.waiting)
}

func TestARuleThatTheNICDoesNotKnowIsNotOfferedAgain(t *testing.T) {
	b := newLab()
	b.nic.refuse("create") // ENOTSUP
	b.begin(withID(1))
	b.age()
	assert.Empty(t, b.graph.offloaded)
}

func TestOffersAreFew(t *testing.T) {
	b := newLab()
	b.cfg.Max = 10 * offersAtOnce
	for id := range uint64(2 * offersAtOnce) {
		b.waiting[id] = &share{}
	}
	b.age()
	assert.Len(t, b.graph.offloaded, offersAtOnce)
}

func TestPortsWithoutRules(t *testing.T) {
	b := newLab()
	legacy := withID(1)
	legacy.Verdict.InPort = 10
	b.begin(legacy)
	unknown := withID(2)
	unknown.Key.Interface = 99
	b.begin(unknown)
	assert.Empty(t, b.nic.Calls())
	assert.Equal(t, Stats{}, b.Stats())
}

func TestAFlowThatEndedMeanwhileLeavesNoRule(t *testing.T) {
	b := newLab()
	b.graph.gone = true
	b.begin(withID(1))
	assert.Empty(t, b.nic.Rules())
	assert.Zero(t, b.Stats().Rules)
}

// If a worker does not accept a request, the request is repeated: a flow without a rule must not stay offloaded in the
// graph, and must be offered to the NIC again.
func TestAWorkerThatIsHeldUp(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	b.graph.heldUp = true
	b.begin(withID(2))
	b.nic.aged = []uint64{1}
	b.age()
	assert.Empty(t, b.nic.Rules())
	b.age()
	assert.Equal(t, map[uint64]bool{1: true}, b.graph.offloaded)
	b.graph.heldUp = false
	b.age()
	assert.Equal(t, map[uint64]bool{1: false, 2: false}, b.graph.offloaded)
	assert.Empty(t, b.waiting)
}

func TestARuleThatStaysIsRemovedLater(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	b.nic.refuse("destroy")
	b.end(withID(1))
	b.nic.aged = []uint64{1}
	b.age()
	assert.Len(t, b.nic.Rules(), 1)
	b.nic.OnCall(nil)
	b.age()
	assert.Empty(t, b.nic.Rules())
	assert.Empty(t, b.nic.Misuse())
}

func TestReleasePort(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	elsewhere := withID(2)
	elsewhere.Verdict.InPort, elsewhere.Verdict.TxPort = 5, 6
	b.begin(elsewhere)
	b.release(t, 2) // where flow 1 goes to
	assert.Len(t, b.nic.Rules(), 1)
	b.release(t, 5).End()
	assert.Empty(t, b.nic.Rules())
	b.begin(withID(1))
	assert.Empty(t, b.nic.Rules(), "port 2 is still released")
	b.begin(elsewhere)
	assert.Len(t, b.nic.Rules(), 1)
}

// While a port is released, its flows need not begin again: the graph forgets them afterwards, a batch at a time, lest
// one goes on as an offloaded flow without a rule.
func TestFlowsOfAReleasedPortAreForgotten(t *testing.T) {
	const many = 2*batchSize + 1
	b := newLab()
	b.cfg.Max = many
	var events []graph.FlowEvent
	for id := range uint64(many) {
		events = append(events, graph.FlowEvent{Kind: graph.FlowNew, Flow: withID(1 + id)})
	}
	b.take(events)
	b.workAll()
	require.Len(t, b.nic.Rules(), many)
	b.graph.changes = 0
	release := b.release(t, 1)
	assert.Empty(t, b.nic.Rules())
	assert.Zero(t, b.graph.changes)
	assert.Empty(t, b.reminder)
	release.End()
	for calls := 1; len(b.reminder) > 0; calls++ {
		<-b.reminder
		b.catchUp()
		assert.Len(t, b.graph.deleted, min(many, calls*batchSize))
	}
	assert.Len(t, b.graph.deleted, many)
	assert.Empty(t, b.graph.offloaded)
	assert.Empty(t, b.unruled)
}

func TestAPortIsNotReleasedWhileARuleIsInstalled(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	b.nic.refuse("destroy")
	release, err := b.ReleasePort(1)
	assert.Nil(t, release)
	assert.ErrorContains(t, err, "no: operation not supported; the rule: "+b.nic.Rules()[0].Rule.String())
	assert.ErrorIs(t, err, syscall.ENOTSUP)
	assert.True(t, b.graph.offloaded[1], "as before")
	assert.Empty(t, b.unruled)
}

// If the NIC refuses some removals only, the flows without a rule begin again.
func TestAPortThatIsReleasedInPart(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	b.begin(withID(2))
	b.nic.FailCalls(2)
	_, err := b.ReleasePort(1)
	require.Error(t, err)
	require.Len(t, b.nic.Rules(), 1)
	b.catchUp()
	require.Len(t, b.graph.deleted, 1)
	ended := b.graph.deleted[0]
	assert.True(t, b.graph.offloaded[3-ended], "as before")
	b.begin(withID(ended + 2))
	assert.Len(t, b.nic.Rules(), 2)
}

// A lost uplink gets no packet any more as soon as the NIC hands the guests' packets to the software. The flows' rules
// are removed after that, and last what hands the packets over.
func TestFlowsLeaveAnUplink(t *testing.T) {
	b := newLab()
	b.cfg.Max = 2*batchSize + 2
	var events []graph.FlowEvent
	for id := range uint64(batchSize + 1) {
		events = append(events, graph.FlowEvent{Kind: graph.FlowNew, Flow: to3(1 + id)})
	}
	b.take(events)
	b.begin(withID(1000)) // goes to port 2
	other := to3(1001)
	other.Verdict.InPort = 4
	b.begin(other)
	before := len(b.nic.Calls())
	b.LeaveUplink(3)
	var detours []string
	for _, c := range b.nic.Calls()[before:] {
		detours = append(detours, fmt.Sprintf("%s on port %d: %v", c.Method, c.Port, c.Rule))
	}
	const detour = "create on port %[1]d: group 2 priority 0 transfer pattern represented_port ethdev_port_id is %[1]d " +
		"/ eth / end actions jump group 3 / end"
	assert.ElementsMatch(t, []string{fmt.Sprintf(detour, 1), fmt.Sprintf(detour, 4)}, detours)
	b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: to3(2000)}}) // that the graph has resolved before
	b.work()
	b.catchUp()
	assert.Len(t, b.nic.Rules(), 2+1+2, "a batch is removed; the detours stay until the last")
	b.workAll()
	require.Len(t, b.nic.Rules(), 1)
	assert.Equal(t, "flow/3e8", b.set.List()[0].Owner.String())
	assert.Len(t, b.graph.deleted, batchSize+2, "with another verdict they have begun again already")
	b.LeaveUplink(3)
	assert.Empty(t, b.reminder, "there is nothing to leave")
	b.begin(to3(2001))
	assert.Len(t, b.nic.Rules(), 2, "it is usable again")
	assert.Empty(t, b.nic.Misuse())
}

// encapIn is a flow of the guest at port 1 to 10.0.0.2 in a virtual network.
func encapIn(vni uint32, id uint64) graph.Flow {
	f := to3(id)
	f.VNI = vni
	return f
}

// Flows whose way has changed are removed one after the other. If they are many, their traffic takes a detour, and only
// theirs, until the graph has looked at all flows and the last of their rules is removed.
func TestFlowsAreReroutedByADetour(t *testing.T) {
	const many = 2 * batchSize
	for name, c := range map[string]struct {
		traffic Traffic
		detour  string // its pattern; empty: there is none
		flows   int
	}{
		"route": {To(100, netip.MustParsePrefix("10.0.0.77/24")),
			"eth type is 0x0800 / ipv4 dst spec 10.0.0.0 dst mask 255.255.255.0 / end", many},
		"host route": {To(100, netip.MustParsePrefix("10.0.0.2/32")),
			"eth type is 0x0800 / ipv4 dst is 10.0.0.2 / end", many},
		"default route": {To(100, netip.MustParsePrefix("0.0.0.0/0")), "eth type is 0x0800 / ipv4 / end", many},
		"router":        {By(3), "eth / end", many},
		"few":           {By(3), "", manyOutdated - 1},
		"other network": {To(200, netip.MustParsePrefix("10.0.0.0/24")), "", many},
		"other prefix":  {To(100, netip.MustParsePrefix("10.0.1.0/24")), "", many},
		"other family":  {To(100, netip.MustParsePrefix("::/0")), "", many},
		"other uplink":  {By(4), "", many},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLab()
			b.cfg.Max = 2 * many
			var begin, end []graph.FlowEvent
			for id := range uint64(c.flows) {
				begin = append(begin, graph.FlowEvent{Kind: graph.FlowNew, Flow: encapIn(100, 1+id)})
				end = append(end, graph.FlowEvent{Kind: graph.FlowGone, Flow: graph.Flow{ID: 1 + id}})
			}
			b.take(begin)
			b.workAll()
			b.graph.generation = math.MaxUint32 // the next is 1
			resolved := []graph.FlowEvent{{Kind: graph.FlowsResolved, Generation: math.MaxUint32}}
			require.NoError(t, b.Reroute(c.traffic, func() error {
				b.take(resolved) // of the change before
				b.take(end[:1])
				b.graph.generation = 1
				return nil
			}))
			b.take(end[1:])
			var detours []string
			for _, r := range b.nic.Rules() {
				if r.Rule.Priority == uint32(nicgroup.DetourPriority) {
					detours = append(detours, fmt.Sprint(r.Port, " ", r.Rule))
				}
			}
			if c.detour == "" {
				assert.Empty(t, detours)
			} else {
				assert.Equal(t, []string{"1 group 2 priority 0 transfer pattern represented_port ethdev_port_id is 1 / " +
					c.detour + " actions jump group 3 / end"}, detours)
			}
			b.workAll()
			assert.Len(t, b.nic.Rules(), len(detours), "the graph may tell of more")
			resolved[0].Generation = 1
			b.take(resolved)
			assert.Empty(t, b.nic.Rules())
			assert.Empty(t, b.reroutes)
			assert.Empty(t, b.nic.Misuse())
		})
	}
}

// The graph may have looked at all flows when the last of the outdated rules is still there, and a change that it has
// not made is none.
func TestDetoursOfReroutesEnd(t *testing.T) {
	b := newLab()
	b.cfg.Max = manyOutdated
	var begin, end []graph.FlowEvent
	for id := range uint64(manyOutdated) {
		begin = append(begin, graph.FlowEvent{Kind: graph.FlowNew, Flow: encapIn(100, 1+id)})
		end = append(end, graph.FlowEvent{Kind: graph.FlowGone, Flow: graph.Flow{ID: 1 + id}})
	}
	for _, refused := range []error{nil, errors.New("no room")} {
		b.take(begin)
		b.workAll()
		require.Len(t, b.nic.Rules(), manyOutdated)
		err := b.Reroute(By(3), func() error {
			b.graph.generation++
			b.take(end)
			b.take([]graph.FlowEvent{{Kind: graph.FlowsResolved, Generation: b.graph.generation}})
			require.Len(t, b.nic.Rules(), manyOutdated+1)
			return refused
		})
		require.Equal(t, refused, err)
		if refused == nil {
			assert.Len(t, b.nic.Rules(), manyOutdated+1, "there are outdated rules")
		} else {
			assert.Len(t, b.nic.Rules(), manyOutdated)
		}
		b.workAll()
		assert.Empty(t, b.nic.Rules())
		assert.Empty(t, b.reroutes)
	}
	for range maxReroutes + 1 {
		require.NoError(t, b.Reroute(By(3), func() error { b.graph.generation++; return nil }))
	}
	assert.Len(t, b.reroutes, maxReroutes)
	b.take([]graph.FlowEvent{{Kind: graph.FlowsResolved, Generation: b.graph.generation}})
	assert.Empty(t, b.reroutes)
	assert.Empty(t, b.nic.Misuse())
}

// What is to hand packets over to the software may be refused, and so may be its removal.
func TestDetoursThatAreRefused(t *testing.T) {
	b := newLab()
	b.begin(to3(1))
	b.nic.FailCalls(1)
	b.LeaveUplink(3)
	b.workAll()
	assert.Empty(t, b.nic.Rules())
	b.begin(to3(2))
	b.nic.FailCalls(3)
	b.LeaveUplink(3)
	b.workAll()
	require.Len(t, b.nic.Rules(), 1, "the detour")
	b.age()
	assert.Empty(t, b.nic.Rules())
	assert.Contains(t, b.log.String(), "the NIC does not hand a guest's packets to the software")
	assert.Contains(t, b.log.String(), "the NIC goes on handing a guest's packets to the software")
	assert.Empty(t, b.nic.Misuse())
}

func TestFlowsCountWhatTheNICForwards(t *testing.T) {
	b := newLab()
	f := withID(1)
	f.Packets, f.Bytes, f.Idle = 2, 200, time.Minute
	b.begin(f)
	b.nic.count(rteflow.Counters{Packets: 10, Bytes: 1000})
	b.countFlow(&f)
	assert.Equal(t, uint64(12), f.Packets)
	assert.Equal(t, uint64(1200), f.Bytes)
	assert.Zero(t, f.Idle, "its last packet was in the NIC")
	other := withID(2)
	b.countFlow(&other)
	assert.Zero(t, other.Packets)
}

// A flow from the wire uses its tunnel as long as its rule is installed. When it comes by another tunnel, it uses that.
func TestFlowsHoldTheirTunnels(t *testing.T) {
	b := newLab()
	by := func(id uint64, peer string) graph.Flow {
		f := fromWire()
		f.ID = id
		f.Tunnel.Peer = netip.MustParseAddr(peer)
		return f
	}
	pattern := func(i int) string { return b.nic.Rules()[i].Rule.PatternString() }
	b.begin(by(1, "fc00:2::1"))
	b.begin(by(2, "fc00:2::1"))
	assert.Equal(t, []int{2}, b.tunnels.uses)
	assert.Equal(t, tunnel.Key{Tunnel: by(1, "fc00:2::1").Tunnel, Inner: 0x800}, b.tunnels.keys[0])
	assert.Contains(t, pattern(0), "eth src is 02:64:70:73:01:01 ")
	b.begin(by(2, "fc00:3::1"))
	assert.Equal(t, []int{1, 1}, b.tunnels.uses)
	assert.Contains(t, pattern(1), "eth src is 02:64:70:73:01:02 ")
	b.nic.refuse("destroy")
	b.end(by(1, "fc00:2::1"))
	assert.Equal(t, []int{1, 1}, b.tunnels.uses, "its rule stands")
	b.nic.OnCall(nil)
	b.age()
	assert.Equal(t, []int{0, 1}, b.tunnels.uses)
	assert.Equal(t, 1, b.tunnels.tidied)
	b.nic.refuse("create")
	b.begin(by(3, "fc00:2::1"))
	b.nic.OnCall(nil)
	other := by(3, "fc00:2::1")
	other.Key.Proto = 132
	b.begin(other)
	b.release(t, 2).End()
	assert.Equal(t, []int{0, 0}, b.tunnels.uses)

	b.tunnels.full, b.tunnels.tidyErr = true, errors.New("busy")
	b.begin(by(4, "fc00:2::1"))
	assert.Contains(t, b.waiting, uint64(4), "there may be a mark later")
	b.age()
	assert.Contains(t, b.log.String(), "does not remove")
}

// The specifications of installed rules are not kept in memory. They are made again for a listing, and are the same.
func TestRulesAreMadeAgain(t *testing.T) {
	ipv6 := encap()
	ipv6.Key.Src, ipv6.Key.Dst = src6, dst6
	icmp := deliver()
	icmp.Key.Proto, icmp.Key.SrcPort = wire.ProtoICMP, 8<<8
	for _, f := range []graph.Flow{deliver(), encap(), ipv6, fromWire(), icmp} {
		b := newLab()
		b.begin(f)
		require.Len(t, b.set.List(), 1)
		r := b.set.List()[0]
		assert.Nil(t, r.Spec.Pattern, "not kept")
		assert.Equal(t, b.nic.Rules()[0].Rule, r.Full())
		b.end(f)
		assert.Empty(t, b.nic.Misuse())
	}
}

func TestRun(t *testing.T) {
	b := newLab()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.Run(ctx); close(done) }()
	b.graph.events <- []graph.FlowEvent{{Kind: graph.FlowNew, Flow: withID(1)}, {Kind: graph.FlowNew, Flow: withID(2)}}
	require.Eventually(t, func() bool { return b.Stats().Rules == 2 }, 10*time.Second, time.Millisecond)
	b.graph.events <- []graph.FlowEvent{{Kind: graph.FlowGone, Flow: withID(2)}}
	require.Eventually(t, func() bool { return b.Stats().Rules == 1 }, 10*time.Second, time.Millisecond)
	b.release(t, 1).End()
	require.Eventually(t, func() bool { return len(b.graph.deletedFlows()) == 1 }, 10*time.Second, time.Millisecond)
	b.graph.events <- []graph.FlowEvent{{Kind: graph.FlowNew, Flow: withID(3)}}
	require.Eventually(t, func() bool { return b.Stats().Rules == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	<-done
	assert.NotEmpty(t, b.nic.Rules(), "the rules stay: who cleans up removes them all")
}
