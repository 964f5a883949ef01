// SPDX-License-Identifier: Apache-2.0

package ruleset_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
)

// rule is one that can be told from others by its group.
func rule(group uint32) rteflow.Rule {
	return rteflow.Rule{
		Attr:    rteflow.Attr{Group: group, Transfer: true},
		Pattern: []rteflow.Item{rteflow.Eth{}},
		Actions: []rteflow.Action{rteflow.Count{}, rteflow.Drop{}},
	}
}

func newSet(t *testing.T, ops ...ruleset.Op) (*ruleset.Set, *flowtest.NIC) {
	nic := &flowtest.NIC{}
	set := ruleset.New(nic)
	require.NoError(t, set.Apply(ops))
	return set, nic
}

func names(set *ruleset.Set) []string {
	var names []string
	for _, e := range set.List() {
		names = append(names, fmt.Sprintf("%d/%s=%d", e.Port, e.Name, e.Rule.Group))
	}
	return names
}

func TestApplyAddsAndRemoves(t *testing.T) {
	set, nic := newSet(t, ruleset.Add(1, "b", rule(0)), ruleset.Add(0, "a", rule(7)), ruleset.Add(1, "a", rule(0)))
	assert.Equal(t, []string{"0/a=7", "1/a=0", "1/b=0"}, names(set))
	assert.True(t, set.Has(1, "b"))

	require.NoError(t, set.Apply([]ruleset.Op{ruleset.Remove(1, "b"), ruleset.Add(1, "b", rule(5))}))
	assert.Equal(t, []string{"0/a=7", "1/a=0", "1/b=5"}, names(set))
	assert.False(t, set.Has(0, "b"))
	assert.Len(t, nic.Rules(), 3)
}

func TestListOrdersByPriorityWithinAGroup(t *testing.T) {
	low := rule(0)
	low.Priority = 1
	set, _ := newSet(t, ruleset.Add(0, "a", low), ruleset.Add(0, "z", rule(0)))
	assert.Equal(t, "z", set.List()[0].Name)
}

func TestCounters(t *testing.T) {
	silent := rule(9)
	silent.Actions = silent.Actions[1:]
	set, nic := newSet(t, ruleset.Add(0, "a", rule(1)), ruleset.Add(0, "silent", silent))
	nic.Hit(0, func(r rteflow.Rule) bool { return r.Group == 1 }, rteflow.Counters{Packets: 2, Bytes: 120})

	counters, err := set.Counters(0, "a")
	require.NoError(t, err)
	assert.Equal(t, rteflow.Counters{Packets: 2, Bytes: 120}, counters)
	_, err = set.Counters(0, "silent")
	assert.ErrorIs(t, err, syscall.ENOTSUP)
	_, err = set.Age(0, "a")
	assert.ErrorIs(t, err, syscall.ENOTSUP, "the rule does not age")
	_, err = set.Age(1, "a")
	assert.ErrorIs(t, err, ruleset.ErrNotFound)
	_, err = set.Counters(1, "a")
	assert.ErrorIs(t, err, ruleset.ErrNotFound)
}

func TestApplyThatDoesNotFit(t *testing.T) {
	for _, tt := range []struct {
		name string
		ops  []ruleset.Op
		err  error
		text string
	}{
		{"name taken", []ruleset.Op{ruleset.Add(0, "old", rule(2))}, ruleset.ErrExists, `add rule "old" to port 0: a rule of this name stands already`},
		{
			"added twice", []ruleset.Op{ruleset.Add(0, "new", rule(2)), ruleset.Add(0, "new", rule(2))},
			ruleset.ErrExists, `add rule "new" to port 0: a rule of this name stands already`,
		},
		{"not there", []ruleset.Op{ruleset.Remove(1, "old")}, ruleset.ErrNotFound, `remove rule "old" from port 1: no rule of this name`},
		{
			"removed twice", []ruleset.Op{ruleset.Remove(0, "old"), ruleset.Remove(0, "old")},
			ruleset.ErrNotFound, `remove rule "old" from port 0: no rule of this name`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, nic := newSet(t, ruleset.Add(0, "old", rule(1)))
			for _, err := range []error{set.Check(tt.ops), set.Apply(tt.ops)} {
				require.ErrorIs(t, err, tt.err)
				require.EqualError(t, err, tt.text)
			}
			assert.Equal(t, []string{"0/old=1"}, names(set))
			assert.Empty(t, nic.Misuse())
		})
	}
}

func TestCheckChangesNothing(t *testing.T) {
	set, nic := newSet(t, ruleset.Add(0, "old", rule(1)))
	require.NoError(t, set.Check([]ruleset.Op{
		ruleset.Remove(0, "old"), ruleset.Add(0, "old", rule(2)), ruleset.Add(0, "new", rule(3)), ruleset.Remove(0, "new"),
	}))
	assert.Equal(t, []string{"0/old=1"}, names(set))

	nic.OnCall(func(c flowtest.Call) error {
		if c.Rule.Group == 3+ruleset.OutOfReach {
			return flowtest.Refusal(c, syscall.ENOTSUP, "no such group")
		}
		return nil
	})
	err := set.Check([]ruleset.Op{ruleset.Add(0, "x", rule(2)), ruleset.Add(0, "y", rule(3))})
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	assert.Equal(t, "y", aerr.Op.Name)
	assert.Empty(t, aerr.Undo)
	assert.Len(t, nic.Rules(), 1)
}

// A rule is tried where no packet comes, and all that it leads to is as far away.
func TestTry(t *testing.T) {
	var nic flowtest.NIC
	r := rule(2)
	r.Actions = []rteflow.Action{rteflow.Count{}, rteflow.Jump{Group: 7}}
	require.NoError(t, ruleset.Try(&nic, 4, r))
	assert.Equal(t, rteflow.Jump{Group: 7}, r.Actions[1], "it is the caller's")
	calls := nic.Calls()
	require.Len(t, calls, 2)
	assert.Equal(t, []string{"create", "destroy"}, []string{calls[0].Method, calls[1].Method})
	for _, c := range calls {
		assert.EqualValues(t, 4, c.Port)
		assert.EqualValues(t, 2+ruleset.OutOfReach, c.Rule.Group)
		assert.Equal(t, []rteflow.Action{rteflow.Count{}, rteflow.Jump{Group: 7 + ruleset.OutOfReach}}, c.Rule.Actions)
	}
	assert.Empty(t, nic.Rules())

	nic.FailCalls(2)
	err := ruleset.Try(&nic, 4, r)
	assert.ErrorContains(t, err, "now stands in group 1026, where no packet comes")
	assert.ErrorIs(t, err, syscall.ENOMEM)
}

func TestAFailedApplyIsUndoneInReverse(t *testing.T) {
	set, nic := newSet(t, ruleset.Add(0, "old", rule(1)))
	nic.FailCalls(4)
	before := len(nic.Calls())
	err := set.Apply([]ruleset.Op{
		ruleset.Add(0, "a", rule(2)), ruleset.Remove(0, "old"), ruleset.Add(0, "b", rule(3)), ruleset.Add(0, "c", rule(4)),
	})
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	assert.Equal(t, ruleset.Add(0, "c", rule(4)), aerr.Op)
	assert.Empty(t, aerr.Undo)
	var rerr *rteflow.Error
	require.ErrorAs(t, err, &rerr)
	assert.Equal(t, syscall.ENOMEM, rerr.Errno)

	var undo []string
	for _, c := range nic.Calls()[before+4:] {
		undo = append(undo, fmt.Sprintf("%s %d", c.Method, c.Rule.Group))
	}
	assert.Equal(t, []string{"destroy 3", "create 1", "destroy 2"}, undo)
	assert.Equal(t, []string{"0/old=1"}, names(set))
}

func TestAFailedUndoSaysWhatIsLeftToDo(t *testing.T) {
	set, nic := newSet(t, ruleset.Add(0, "old", rule(1)))
	nic.FailCalls(4, 5) // the fourth operation, and the undo of the third
	err := set.Apply([]ruleset.Op{
		ruleset.Add(0, "a", rule(2)), ruleset.Add(1, "a", rule(4)), ruleset.Remove(0, "old"), ruleset.Add(0, "b", rule(3)),
	})
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	require.Len(t, aerr.Undo, 2)
	assert.Equal(t, ruleset.Add(0, "old", rule(1)), aerr.Undo[0].Op)
	assert.True(t, aerr.Undo[1].Op.Remove)
	assert.Equal(t, rule(2), aerr.Undo[1].Op.Rule)
	assert.ErrorIs(t, aerr.Undo[0].Err, syscall.ENOMEM)
	assert.EqualError(t, err, `add rule "b" to port 0: rte_flow create on port 0: told to fail: cannot allocate memory; `+
		`the rule: `+rule(3).String()+`; `+
		`undo failed: add rule "old" to port 0: rte_flow create on port 0: told to fail: cannot allocate memory; `+
		`undo failed: remove rule "a" from port 0: left in place, since a later change of this port could not be undone`)
	assert.Equal(t, []string{"0/a=2"}, names(set), "the other port is as before")
	assert.Empty(t, nic.Misuse())
}

func TestARemovalThatFailsKeepsTheRule(t *testing.T) {
	set, nic := newSet(t, ruleset.Add(0, "old", rule(1)))
	nic.FailCalls(1)
	err := set.Apply([]ruleset.Op{ruleset.Remove(0, "old")})
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	assert.Equal(t, rule(1), aerr.Op.Rule, "for those who read the error")
	assert.Equal(t, []string{"0/old=1"}, names(set))
	require.NoError(t, set.Apply([]ruleset.Op{ruleset.Remove(0, "old")}))
	assert.Empty(t, nic.Rules())
}

func TestClearGoesOnAndKeepsWhatItCannotRemove(t *testing.T) {
	set, nic := newSet(t, ruleset.Add(0, "a", rule(1)), ruleset.Add(0, "b", rule(2)), ruleset.Add(0, "c", rule(3)))
	nic.FailCalls(2)
	before := len(nic.Calls())
	err := set.Clear()
	assert.ErrorContains(t, err, `remove rule "b" from port 0: `)
	assert.Equal(t, []string{"0/b=2"}, names(set))
	assert.Equal(t, uint32(3), nic.Calls()[before].Rule.Group, "the youngest first")
	require.NoError(t, set.Clear())
	assert.Empty(t, nic.Rules())
}

func TestConcurrentUse(t *testing.T) {
	set, nic := newSet(t)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			port := uint16(worker)
			for i := range 50 {
				name := fmt.Sprint(i)
				assert.NoError(t, set.Apply([]ruleset.Op{ruleset.Add(port, name, rule(uint32(i)))}))
				_, err := set.Counters(port, name)
				assert.NoError(t, err)
				set.List()
				assert.NoError(t, set.Apply([]ruleset.Op{ruleset.Remove(port, name)}))
			}
		})
	}
	wg.Wait()
	assert.Empty(t, nic.Rules())
	assert.Empty(t, nic.Misuse())
}

// Whatever is applied, and whatever fails, the undo included: the set lists what is in the NIC; a success is the new
// state; a failure is the old one, or becomes the old one by what ApplyError.Undo lists.
func FuzzApply(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		seed := make([]byte, 64)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		nic := &flowtest.NIC{}
		set := ruleset.New(nic)
		fits := map[string]uint32{} // the state that the operations lead to, as a model: name to group
		for len(data) > 8 {
			plan, failures := data[:8], data[8:]
			data = data[min(len(data), 10):]
			ops, after := operations(plan, fits)
			nic.OnCall(failing(failures))
			err := set.Apply(ops)
			nic.OnCall(nil)
			requireSame(t, nic, set)
			if err == nil {
				requireState(t, after, set)
				fits = after
				continue
			}
			repair(t, set, err)
			requireState(t, fits, set)
			requireSame(t, nic, set)
		}
		if misuse := nic.Misuse(); len(misuse) > 0 {
			t.Fatal(misuse)
		}
	})
}

// operations makes a list that fits the state of few names, so that they are used again and again.
func operations(plan []byte, state map[string]uint32) ([]ruleset.Op, map[string]uint32) {
	after := map[string]uint32{}
	for name, group := range state {
		after[name] = group
	}
	var ops []ruleset.Op
	for i, b := range plan[:1+int(plan[0])%len(plan)] {
		name := string('a' + rune(b%4))
		if _, stands := after[name]; stands {
			ops = append(ops, ruleset.Remove(0, name))
			delete(after, name)
			continue
		}
		group := uint32(b)<<8 | uint32(i)
		ops = append(ops, ruleset.Add(0, name, rule(group)))
		after[name] = group
	}
	return ops, after
}

// failing makes about every fourth call fail, as the bytes say.
func failing(bytes []byte) func(flowtest.Call) error {
	n := 0
	return func(c flowtest.Call) error {
		n++
		if bytes[(n-1)%len(bytes)]%4 == 0 {
			return flowtest.Refusal(c, syscall.EIO, "unlucky")
		}
		return nil
	}
}

func repair(t *testing.T, set *ruleset.Set, err error) {
	var aerr *ruleset.ApplyError
	if !errors.As(err, &aerr) {
		t.Fatalf("%T: %v", err, err)
	}
	var ops []ruleset.Op
	for _, u := range aerr.Undo {
		if u.Err == nil {
			t.Fatalf("%v: without a cause", u.Op)
		}
		ops = append(ops, u.Op)
	}
	if err := set.Apply(ops); err != nil {
		t.Fatalf("what is left to do cannot be done: %v", err)
	}
}

func requireState(t *testing.T, want map[string]uint32, set *ruleset.Set) {
	got := map[string]uint32{}
	for _, e := range set.List() {
		got[e.Name] = e.Rule.Group
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Fatalf("want %v, got %v", want, got)
	}
}

// requireSame compares the set and the NIC by the rules' groups, which are unique.
func requireSame(t *testing.T, nic *flowtest.NIC, set *ruleset.Set) {
	inNIC, inSet := map[uint32]bool{}, map[uint32]bool{}
	for _, r := range nic.Rules() {
		inNIC[r.Rule.Group] = true
	}
	for _, e := range set.List() {
		inSet[e.Rule.Group] = true
	}
	if fmt.Sprint(inNIC) != fmt.Sprint(inSet) {
		t.Fatalf("in the NIC %v, in the set %v", inNIC, inSet)
	}
}
