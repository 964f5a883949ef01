// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/rteflow/flowtest"
	"dpservice/test/report"
)

// lives of flows, as the graph and the NIC tell of them. Flow 2 goes from port 1 to port 3, the others to port 2.
var lives = map[string]struct {
	do    func(b *lab)
	calls int      // of the NIC
	rules []uint64 // the flows that have a rule in the end
}{
	"begin": {func(b *lab) { b.begin(withID(1)); b.begin(to3(2)) }, 2, []uint64{1, 2}},
	"end":   {func(b *lab) { b.begin(withID(1)); b.begin(to3(2)); b.endInGraph(1) }, 3, []uint64{2}},
	"another verdict": {func(b *lab) {
		b.begin(withID(1))
		b.begin(to3(1))
	}, 3, []uint64{1}},
	"another verdict, without a rule": {func(b *lab) {
		b.begin(withID(1))
		elsewhere := withID(1)
		elsewhere.Verdict.TxPort = 10
		b.begin(elsewhere)
	}, 2, nil},
	"age": {func(b *lab) {
		b.begin(withID(1))
		b.begin(to3(2))
		b.nic.aged = []uint64{1}
		b.age()
	}, 3, []uint64{2}},
	"the uplink is lost": {func(b *lab) {
		b.begin(withID(1))
		b.begin(to3(2))
		b.LeaveUplink(3)
		b.workAll()
	}, 5, []uint64{1}},
	"ended in the meantime": {func(b *lab) {
		b.graph.gone = true
		b.begin(withID(1))
	}, 2, nil},
}

func to3(id uint64) graph.Flow {
	f := withID(id)
	f.Verdict.TxPort = 3
	return f
}

func (b *lab) endInGraph(id uint64) {
	delete(b.graph.offloaded, id)
	b.end(withID(id))
}

// live runs a life on a NIC that refuses some calls, and then lets the manager repair what remained.
func live(do func(*lab), fail func(call int) bool) *lab {
	b := newLab()
	b.nic.OnCall(func(c flowtest.Call) error {
		if fail(c.N) {
			return flowtest.Refusal(c, syscall.EBUSY, "out of luck")
		}
		return nil
	})
	do(b)
	b.nic.OnCall(nil)
	b.age()
	return b
}

func installedFlows(b *lab) (ids []uint64) {
	for id := range b.rules {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Whichever calls the NIC refuses: in the end the NIC's rules are those that the manager and the graph know of, no rule
// is left of an ended flow, and the software forwards every flow without a rule.
func TestEveryCallFails(t *testing.T) {
	total := 0
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			unharmed := live(life.do, func(int) bool { return false })
			require.Len(t, unharmed.nic.Calls(), life.calls)
			require.Equal(t, life.rules, installedFlows(unharmed))
			points := 0
			try := func(fail func(call int) bool) {
				points++
				b := live(life.do, fail)
				var names []string
				for _, id := range installedFlows(b) {
					r := b.rules[id]
					require.Contains(t, life.rules, id)
					assert.Equal(t, unharmed.rules[id].compact, r.compact)
					assert.Equal(t, unharmed.rules[id].Full(), r.Full())
					assert.True(t, b.graph.offloaded[id], "rule of flow %d", id)
					names = append(names, r.String())
				}
				var believed []string
				for _, r := range b.set.List() {
					believed = append(believed, r.Owner.String())
				}
				assert.ElementsMatch(t, believed, names)
				assert.Len(t, b.nic.Rules(), len(names))
				for id, on := range b.graph.offloaded {
					if !on {
						continue // offered again
					}
					assert.Contains(t, installedFlows(b), id, "the graph leaves it to the NIC")
				}
				assert.Empty(t, b.nic.Misuse())
			}
			for first := 1; first <= life.calls; first++ {
				try(func(call int) bool { return call == first })
				try(func(call int) bool { return call >= first })
				for second := first + 1; second <= life.calls+2; second++ {
					try(func(call int) bool { return call == first || call == second })
				}
			}
			t.Logf("%d calls of the NIC, fault points tried: %d", life.calls, points)
			total += points
		})
	}
	report.Printf(t, "faults in flow offload: points tried: %d", total)
}
