// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
	"dpservice/test/report"
)

// divert diverts packets to ports via groups.
func (b *lab) divert(groups map[uint16]uint32) error {
	d := b.Divert(groups)
	err := b.set.Apply(d.Ops())
	if err == nil {
		d.Commit()
	} else {
		d.Abort()
	}
	return err
}

// groups returns the groups that the flow's rules send packets via.
func (r *rule) groups() (groups []uint32) {
	for _, p := range r.paths {
		groups = append(groups, p.via)
	}
	return groups
}

// last returns the destination of a rule: its last action.
func last(r rteflow.Rule) rteflow.Action { return r.Actions[len(r.Actions)-1] }

// ends returns the destinations of the rules in the NIC, by priority.
func (b *lab) ends() map[uint32]rteflow.Action {
	ends := map[uint32]rteflow.Action{}
	for _, r := range b.nic.Rules() {
		ends[r.Rule.Priority] = last(r.Rule)
	}
	return ends
}

func TestDivert(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	straight := b.nic.Rules()[0].Rule
	toPort := rteflow.ToRepresentedPort{Port: 2}
	require.Equal(t, map[uint32]rteflow.Action{uint32(straightPriority): toPort}, b.ends())

	require.NoError(t, b.divert(map[uint16]uint32{2: 18}))
	require.Equal(t, map[uint32]rteflow.Action{uint32(divertedPriority): rteflow.Jump{Group: 18}}, b.ends())
	diverted := b.nic.Rules()[0].Rule
	assert.Equal(t, straight.Pattern, diverted.Pattern)
	assert.Equal(t, straight.Actions[:len(straight.Actions)-1], diverted.Actions[:len(diverted.Actions)-1])

	b.begin(withID(2))
	require.Len(t, b.nic.Rules(), 2, "a new flow")
	assert.Equal(t, rteflow.Jump{Group: 18}, last(b.nic.Rules()[1].Rule))
	b.end(withID(2))
	b.begin(to3(3))
	assert.Equal(t, rteflow.ToRepresentedPort{Port: 3}, last(b.nic.Rules()[1].Rule), "to another port")

	require.NoError(t, b.divert(map[uint16]uint32{2: 0}))
	assert.Equal(t, straight, b.nic.Rules()[1].Rule)
	calls := len(b.nic.Calls())
	require.NoError(t, b.divert(map[uint16]uint32{2: 0}))
	assert.Len(t, b.nic.Calls(), calls, "nothing to do")
	assert.Empty(t, b.nic.Misuse())
}

// The new rule is installed before the old one is removed, and takes precedence over it.
func TestDivertLeavesNoGap(t *testing.T) {
	b := newLab()
	b.begin(withID(1))
	for _, group := range []uint32{18, 0, 18} {
		least := 1
		b.nic.OnCall(func(flowtest.Call) error { least = min(least, len(b.nic.Rules())); return nil })
		require.NoError(t, b.divert(map[uint16]uint32{2: group}))
		b.nic.OnCall(nil)
		require.Equal(t, 1, least)
	}
}

func TestDivertedFlowsKeepTheirCounters(t *testing.T) {
	b := newLab()
	f := withID(1)
	b.begin(f)
	for i, group := range []uint32{18, 0, 18} {
		b.nic.count(rteflow.Counters{Packets: 10, Bytes: 1000})
		require.NoError(t, b.divert(map[uint16]uint32{2: group}))
		counted := f
		b.countFlow(&counted)
		assert.EqualValues(t, 10*(i+1), counted.Packets)
		assert.EqualValues(t, 1000*(i+1), counted.Bytes)
	}
}

func TestAReleasedPortIsStraightAgain(t *testing.T) {
	b := newLab()
	require.NoError(t, b.divert(map[uint16]uint32{2: 18}))
	b.release(t, 2).Abort()
	b.begin(withID(1))
	require.Contains(t, b.ends(), uint32(divertedPriority), "it is not released")
	b.release(t, 2).Commit()
	b.begin(withID(2))
	assert.Equal(t, map[uint32]rteflow.Action{uint32(straightPriority): rteflow.ToRepresentedPort{Port: 2}}, b.ends())
}

// During a diversion, flows can be read but get no rules. Flows that begin in that time are diverted from the start.
func TestFlowsWaitForADiversion(t *testing.T) {
	for _, done := range []bool{true, false} {
		b := newLab()
		b.begin(withID(1))
		d := b.Divert(map[uint16]uint32{2: 18})
		begun := make(chan struct{})
		go func() { b.begin(withID(2)); b.end(withID(1)); close(begun) }()
		time.Sleep(10 * time.Millisecond)
		f := withID(1)
		b.countFlow(&f)
		assert.Equal(t, 1, b.Stats().Rules)
		require.Len(t, b.nic.Rules(), 1)
		if done {
			require.NoError(t, b.set.Apply(d.Ops()))
			d.Commit()
		} else {
			d.Abort()
		}
		<-begun
		require.Len(t, b.nic.Rules(), 1)
		assert.Equal(t, done, last(b.nic.Rules()[0].Rule) == rteflow.Jump{Group: 18})
		assert.Empty(t, b.nic.Misuse())
	}
}

// Whichever calls the NIC refuses, including calls of the undo: every flow has a rule, and either all flows take the
// old path, or all take the new one, or the error says what is left to do. Diverting the flows back then repairs it.
func TestDivertUnderFire(t *testing.T) {
	points := 0
	for _, back := range []bool{false, true} {
		try := func(fail func(call int) bool) (failed bool) {
			points++
			b := newLab()
			b.cfg.Max = 3
			for id := range uint64(3) {
				b.begin(withID(id + 1))
			}
			from, to := uint32(0), uint32(18)
			if back {
				require.NoError(t, b.divert(map[uint16]uint32{2: 18}))
				from, to = to, from
			}
			first := len(b.nic.Calls())
			b.nic.OnCall(func(c flowtest.Call) error {
				if fail(c.N - first) {
					return flowtest.Refusal(c, syscall.EBUSY, "out of luck")
				}
				return nil
			})
			err := b.divert(map[uint16]uint32{2: to})
			b.nic.OnCall(nil)
			var refused *ruleset.ApplyError
			switch {
			case err == nil:
				b.requireWay(t, to)
			case errors.As(err, &refused) && len(refused.Undo) == 0:
				b.requireWay(t, from)
			}
			for id := range b.rules {
				require.NotEmpty(t, b.rules[id].paths)
			}
			if err == nil {
				return false
			}
			require.NoError(t, b.divert(map[uint16]uint32{2: 0}))
			b.requireWay(t, 0)
			require.Empty(t, b.nic.Misuse())
			return true
		}
		first := 1
		for ; try(func(call int) bool { return call == first }); first++ {
			try(func(call int) bool { return call >= first })
			for second := first + 1; second < first+8; second++ {
				try(func(call int) bool { return call == first || call == second })
			}
		}
		require.Equal(t, 7, first, "three flows, two calls each")
	}
	report.Printf(t, "faults in diversions: points tried: %d", points)
}

// requireWay requires that all flows take the same path, and no other.
func (b *lab) requireWay(t *testing.T, group uint32) {
	t.Helper()
	require.Len(t, b.nic.Rules(), len(b.rules))
	for _, r := range b.rules {
		require.Equal(t, []uint32{group}, r.groups())
	}
	for _, r := range b.nic.Rules() {
		if group == 0 {
			require.Equal(t, rteflow.ToRepresentedPort{Port: 2}, last(r.Rule))
		} else {
			require.Equal(t, rteflow.Jump{Group: group}, last(r.Rule))
		}
	}
}
