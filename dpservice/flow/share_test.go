// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// between returns a flow from one port to another. Port 0 is the wire.
func between(id uint64, in, out uint16) graph.Flow {
	f := withID(id)
	f.Verdict.InPort, f.Verdict.TxPort = in, out
	if in == 0 {
		f.Key.Origin = graph.FromWire
	}
	return f
}

// Flows between random ports begin and end. A share below its guarantee always gets a rule, the number of rules never
// exceeds its limit, and a single share can have all of them.
func TestSharesOfTheRules(t *testing.T) {
	const most, shares = 41, 6
	random := rand.New(rand.NewPCG(1, 2))
	b := newLab()
	b.cfg.Max, b.cfg.Shares = most, shares
	holders := []struct{ in, out uint16 }{{1, 2}, {2, 3}, {3, 1}, {0, 1}, {0, 2}, {0, 3}}
	held := func() map[holder]int {
		n := map[holder]int{}
		for _, s := range b.Shares() {
			n[holder{s.Port, s.Origin}] = s.Rules
		}
		return n
	}
	var alive []graph.Flow
	for id := uint64(1); id < 5000; id++ {
		if id%1000 < 300 && len(alive) > 0 && random.IntN(3) == 0 {
			at := random.IntN(len(alive))
			b.end(alive[at])
			alive = append(alive[:at], alive[at+1:]...)
		}
		h := holders[min(random.IntN(12), 5)] // one of them more than the others
		f := between(id, h.in, h.out)
		before, evicted := held(), b.Stats().Evicted
		b.begin(f)
		alive = append(alive, f)
		after := held()
		if before[holderOf(f)] < b.Guaranteed() {
			require.Equal(t, before[holderOf(f)]+1, after[holderOf(f)])
		} else {
			require.Equal(t, evicted, b.Stats().Evicted, "who has its guarantee takes nothing from others")
		}
		for h, n := range before {
			if after[h] < n {
				require.Greater(t, n, b.Guaranteed(), "only borrowed places are taken back")
			}
		}
		require.LessOrEqual(t, len(b.nic.Rules()), most)
		require.Len(t, b.nic.Rules(), b.Stats().Rules)
	}
	assert.NotZero(t, b.Stats().Evicted)
	assert.NotZero(t, b.Stats().Limited)
	for _, f := range alive {
		b.end(f)
	}
	require.Empty(t, b.nic.Rules())
	for id := range uint64(2 * most) {
		b.begin(between(1<<32+id, 2, 3))
	}
	assert.Equal(t, most, held()[holder{2, graph.FromGuest}], "all of it")
	assert.Empty(t, b.nic.Misuse())
}

// The same with many flows at once: each share gets rules up to its guarantee, taken from shares above theirs, and all
// room is used.
func TestSharesInBatches(t *testing.T) {
	const most, shares = 41, 6
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		b := newLab()
		b.cfg.Max, b.cfg.Shares = most, shares
		asked := map[holder]int{}
		id := uint64(0)
		for range 1 + random.IntN(4) {
			var events []graph.FlowEvent
			for range random.IntN(60) {
				id++
				f := between(id, 0, uint16(1+random.IntN(3)))
				if random.IntN(3) > 0 { // one of them more than the others
					f = between(id, 1, 2)
				}
				events = append(events, graph.FlowEvent{Kind: graph.FlowNew, Flow: f})
				asked[holderOf(f)]++
			}
			b.take(events)
			b.workAll()
			total := 0
			for _, s := range b.Shares() {
				n := asked[holder{s.Port, s.Origin}]
				total += n
				require.LessOrEqual(t, s.Rules, n)
				require.GreaterOrEqual(t, s.Rules, min(n, b.Guaranteed()))
			}
			require.Len(t, b.nic.Rules(), min(total, most))
			require.Len(t, b.nic.Rules(), b.Stats().Rules)
			require.Empty(t, b.nic.Misuse())
		}
		offloaded := 0
		for _, on := range b.graph.offloaded {
			if on {
				offloaded++
			}
		}
		require.Len(t, b.nic.Rules(), offloaded)
	}
}

// Of the largest share's rules, the one without a packet for the longest time is evicted. The software forwards its
// flow again.
func TestTheIdlestRuleMakesRoom(t *testing.T) {
	b := newLab()
	b.cfg.Max, b.cfg.Shares = 4, 2
	for id := range uint64(4) {
		b.begin(between(id+1, 1, 2))
	}
	b.cfg.Rules = idleRules{b.cfg.Rules, map[string]time.Duration{"flow/1": 1, "flow/2": 3, "flow/3": 9, "flow/4": 2}}
	b.begin(between(5, 2, 1))
	assert.Equal(t, map[uint64]bool{1: true, 2: true, 3: false, 4: true, 5: true}, b.graph.offloaded)
	assert.Equal(t, []Share{{Port: 1, Rules: 3, Evicted: 1}, {Port: 2, Rules: 1}}, b.Shares())
}

// A flow of a share below its guarantee is offered again even if there is no room.
func TestOwedFlowsAreOfferedAgain(t *testing.T) {
	b := newLab()
	b.cfg.Max, b.cfg.Shares = 4, 2
	for id := range uint64(5) {
		b.begin(between(id+1, 1, 2))
	}
	b.nic.FailCalls(len(b.nic.Calls()) + 2) // after the removal of another's
	b.begin(between(6, 2, 1))
	b.begin(between(7, 1, 2))
	require.Len(t, b.nic.Rules(), 4)
	b.age()
	assert.Contains(t, b.graph.offloaded, uint64(6))
	assert.NotContains(t, b.graph.offloaded, uint64(5))
	b.begin(between(6, 2, 1))
	assert.True(t, b.graph.offloaded[6])
}

// Thousands of a guest's rules are to be removed, and as many installed. Another guest's flow waits for one entry only.
func TestLanesTakeTurns(t *testing.T) {
	const many = 3000
	b := newLab()
	b.cfg.Max, b.cfg.Shares = 2*many, 2
	for id := range uint64(many) {
		b.begin(between(id+1, 1, 2))
	}
	for id := range uint64(many) {
		b.take([]graph.FlowEvent{{Kind: graph.FlowGone, Flow: graph.Flow{ID: id + 1}}})
		b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(many+id+1, 1, 2)}})
	}
	for id := range uint64(100) {
		b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(1<<32+id, 3, 2)}})
	}
	b.work()
	for id := range uint64(100) {
		require.True(t, b.graph.offloaded[1<<32+id])
	}
	b.workAll()
	assert.Len(t, b.nic.Rules(), many+100)
}

// A flow that waited in the backlog must not get a rule for a port that has been released in the meantime.
func TestAReleasedPortGetsNoRules(t *testing.T) {
	b := newLab()
	b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(1, 1, 2)}})
	b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(2, 3, 1)}})
	b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(3, 3, 2)}})
	release := b.release(t, 1)
	b.workAll()
	b.begin(between(4, 1, 2))
	assert.Contains(t, b.waiting, uint64(4), "nor does one that begins meanwhile")
	release.End()
	assert.Equal(t, map[uint64]bool{3: true}, b.graph.offloaded)
	assert.Zero(t, b.Stats().Backlog)
}

// Removals come first: the NIC forwards packets by the outdated rule until then.
func TestRulesGoBeforeNewOnesCome(t *testing.T) {
	b := newLab()
	b.begin(between(1, 1, 2))
	b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(2, 1, 2)}})
	b.take([]graph.FlowEvent{{Kind: graph.FlowGone, Flow: graph.Flow{ID: 1}}})
	first := len(b.nic.Calls())
	b.work()
	calls := b.nic.Calls()[first:]
	require.Len(t, calls, 2)
	assert.Equal(t, []string{"destroy", "create"}, []string{calls[0].Method, calls[1].Method})
}

// A flow that ends while it waits gets no rule. A flow that finds the backlog full is offered again.
func TestTheBacklogIsBounded(t *testing.T) {
	b := newLab()
	b.cfg.Max = 2 * backlogMax
	for id := range uint64(backlogMax + 2) {
		b.take([]graph.FlowEvent{{Kind: graph.FlowNew, Flow: between(id+1, 1, 2)}})
	}
	assert.Len(t, b.late, 2)
	b.take([]graph.FlowEvent{{Kind: graph.FlowGone, Flow: graph.Flow{ID: 7}}})
	b.take([]graph.FlowEvent{{Kind: graph.FlowGone, Flow: graph.Flow{ID: backlogMax + 1}}})
	assert.Len(t, b.late, 1)
	b.work()
	assert.NotContains(t, b.graph.offloaded, uint64(backlogMax+2))
	b.workAll()
	assert.Len(t, b.nic.Rules(), backlogMax-1)
	assert.NotContains(t, b.graph.offloaded, uint64(7))
	assert.Equal(t, false, b.graph.offloaded[backlogMax+2], "offered again as soon as the others are done")
	assert.Empty(t, b.late)
}

// idleRules reports idle times that the test sets, by the rule's name.
type idleRules struct {
	Rules
	idle map[string]time.Duration
}

func (r idleRules) Age(rule *ruleset.Rule) (rteflow.AgeState, error) {
	return rteflow.AgeState{IdleKnown: true, Idle: r.idle[rule.Owner.String()]}, nil
}

func holderOf(f graph.Flow) holder {
	c := compactOf(&f)
	return c.holder()
}
