// SPDX-License-Identifier: Apache-2.0

package ruleset_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
)

// name is an Owner.
type name string

func (n name) String() string { return string(n) }

// rule has a group of its own, by which tests know it.
func rule(port uint16, owner string, group uint32) *ruleset.Rule {
	return &ruleset.Rule{Port: port, Owner: name(owner), Spec: rteflow.Rule{
		Attr:    rteflow.Attr{Group: group, Transfer: true},
		Pattern: []rteflow.Item{rteflow.Eth{}},
		Actions: []rteflow.Action{rteflow.Count{}, rteflow.Drop{}},
	}}
}

func newSet(t *testing.T, rules ...*ruleset.Rule) (*ruleset.Set, *flowtest.NIC) {
	nic := &flowtest.NIC{}
	set := ruleset.New(nic)
	require.NoError(t, set.Apply(ruleset.Add(rules...)))
	return set, nic
}

func names(set *ruleset.Set) []string {
	var names []string
	for _, r := range set.List() {
		names = append(names, fmt.Sprintf("%d/%s=%d", r.Port, r.Owner, r.Spec.Group))
	}
	return names
}

func TestApplyAddsAndRemoves(t *testing.T) {
	b := rule(1, "b", 0)
	set, nic := newSet(t, b, rule(0, "a", 7), rule(1, "a", 0))
	assert.Equal(t, []string{"0/a=7", "1/a=0", "1/b=0"}, names(set))
	assert.True(t, set.Installed(b))
	assert.Equal(t, map[ruleset.Group]int{{Domain: "transfer", Number: 7}: 1, {Port: 1, Domain: "transfer"}: 2},
		set.Counts())

	other := rule(1, "b", 5)
	require.NoError(t, set.Apply(slices.Concat(ruleset.Remove(b), ruleset.Add(other))))
	assert.Equal(t, []string{"0/a=7", "1/a=0", "1/b=5"}, names(set))
	assert.False(t, set.Installed(b))
	require.NoError(t, set.Apply(slices.Concat(ruleset.Remove(other), ruleset.Add(b), ruleset.Remove(b), ruleset.Add(b))))
	assert.Equal(t, []string{"0/a=7", "1/a=0", "1/b=0"}, names(set), "a removed rule can be added again")
	assert.Len(t, nic.Rules(), 3)
	require.NoError(t, set.Clear())
	assert.Empty(t, set.Counts())
}

// However long a list is, the calls of the driver are in its order.
func TestApplyOfMany(t *testing.T) {
	var rules []*ruleset.Rule
	for i := range 1000 {
		rules = append(rules, rule(uint16(i/400), fmt.Sprint(i), uint32(i)))
	}
	set, nic := newSet(t, rules...)
	require.NoError(t, set.Apply(ruleset.Remove(rules...)))
	calls := nic.Calls()
	require.Len(t, calls, 2000)
	for i, c := range calls {
		require.EqualValues(t, i%1000, c.Rule.Group)
		require.EqualValues(t, i%1000/400, c.Port)
	}
	nic.FailCalls(700)
	require.Error(t, set.Apply(ruleset.Add(rules...)))
	assert.Empty(t, set.List())
	assert.Empty(t, nic.Rules())
	assert.Empty(t, nic.Misuse())
}

func TestListOrdersByPriorityWithinAGroup(t *testing.T) {
	low := rule(0, "a", 0)
	low.Spec.Priority = 1
	high := rule(0, "z", 0)
	set, _ := newSet(t, low, high)
	assert.Equal(t, []*ruleset.Rule{high, low}, set.List())
}

func TestCounters(t *testing.T) {
	a, silent, removed := rule(0, "a", 1), rule(0, "silent", 9), rule(0, "removed", 1)
	silent.Spec.Actions = silent.Spec.Actions[1:]
	set, nic := newSet(t, a, silent, removed)
	require.NoError(t, set.Apply(ruleset.Remove(removed)))
	nic.Hit(0, func(r rteflow.Rule) bool { return r.Group == 1 }, rteflow.Counters{Packets: 2, Bytes: 120})

	counters, err := set.Counters(a)
	require.NoError(t, err)
	assert.Equal(t, rteflow.Counters{Packets: 2, Bytes: 120}, counters)
	_, err = set.Counters(silent)
	assert.ErrorIs(t, err, syscall.ENOTSUP)
	_, err = set.Age(a)
	assert.ErrorIs(t, err, syscall.ENOTSUP, "the rule does not age")
	_, err = set.Age(removed)
	assert.ErrorIs(t, err, ruleset.ErrNotInstalled)
	_, err = set.Counters(removed)
	assert.ErrorIs(t, err, ruleset.ErrNotInstalled)
}

func TestApplyThatDoesNotFit(t *testing.T) {
	for name, tt := range map[string]struct {
		ops  func(old, added *ruleset.Rule) []ruleset.Op
		err  error
		text string
	}{
		"installed": {func(old, _ *ruleset.Rule) []ruleset.Op { return ruleset.Add(old) }, ruleset.ErrInstalled,
			`add rule "old" to port 0: the rule is installed already`},
		"added twice": {func(_, added *ruleset.Rule) []ruleset.Op { return ruleset.Add(added, added) }, ruleset.ErrInstalled,
			`add rule "new" to port 0: the rule is installed already`},
		"not there": {func(_, added *ruleset.Rule) []ruleset.Op { return ruleset.Remove(added) }, ruleset.ErrNotInstalled,
			`remove rule "new" from port 0: the rule is not installed`},
		"removed twice": {func(old, _ *ruleset.Rule) []ruleset.Op { return ruleset.Remove(old, old) },
			ruleset.ErrNotInstalled,
			`remove rule "old" from port 0: the rule is not installed`},
	} {
		t.Run(name, func(t *testing.T) {
			old := rule(0, "old", 1)
			set, nic := newSet(t, old)
			ops := tt.ops(old, rule(0, "new", 2))
			for _, err := range []error{set.Check(ops), set.Apply(ops)} {
				require.ErrorIs(t, err, tt.err)
				require.EqualError(t, err, tt.text)
			}
			assert.Equal(t, []string{"0/old=1"}, names(set))
			assert.Empty(t, nic.Misuse())
		})
	}
}

func TestCheckChangesNothing(t *testing.T) {
	old, added := rule(0, "old", 1), rule(0, "new", 3)
	set, nic := newSet(t, old)
	require.NoError(t, set.Check(slices.Concat(ruleset.Remove(old), ruleset.Add(old, added), ruleset.Remove(added))))
	assert.Equal(t, []string{"0/old=1"}, names(set))

	nic.OnCall(func(c flowtest.Call) error {
		if c.Rule.Group == 3+ruleset.OutOfReach {
			return flowtest.Refusal(c, syscall.ENOTSUP, "no such group")
		}
		return nil
	})
	y := rule(0, "y", 3)
	err := set.Check(ruleset.Add(rule(0, "x", 2), y))
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	assert.Same(t, y, aerr.Op.Rule)
	assert.Empty(t, aerr.Undo)
	assert.Len(t, nic.Rules(), 1)
}

// A rule is tried where no packet comes, and all that it leads to is as far away.
func TestTry(t *testing.T) {
	var nic flowtest.NIC
	r := rule(4, "", 2).Spec
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
	assert.ErrorContains(t, err, "now is left in group 1026, where no packet comes")
	assert.ErrorIs(t, err, syscall.ENOMEM)
}

func TestAFailedApplyIsUndoneInReverse(t *testing.T) {
	old, c := rule(0, "old", 1), rule(0, "c", 4)
	set, nic := newSet(t, old)
	nic.FailCalls(4)
	before := len(nic.Calls())
	err := set.Apply(slices.Concat(ruleset.Add(rule(0, "a", 2)), ruleset.Remove(old), ruleset.Add(rule(0, "b", 3), c)))
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	assert.Equal(t, ruleset.Op{Rule: c}, aerr.Op)
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
	old, a, b := rule(0, "old", 1), rule(0, "a", 2), rule(0, "b", 3)
	set, nic := newSet(t, old)
	nic.FailCalls(4, 5) // the fourth operation, and the undo of the third
	err := set.Apply(slices.Concat(ruleset.Add(a, rule(1, "a", 4)), ruleset.Remove(old), ruleset.Add(b)))
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	require.Len(t, aerr.Undo, 2)
	assert.Equal(t, ruleset.Op{Rule: old}, aerr.Undo[0].Op)
	assert.Equal(t, ruleset.Op{Rule: a, Remove: true}, aerr.Undo[1].Op)
	assert.ErrorIs(t, aerr.Undo[0].Err, syscall.ENOMEM)
	assert.EqualError(t, err, `add rule "b" to port 0: rte_flow create on port 0: told to fail: cannot allocate memory; `+
		`the rule: `+b.Spec.String()+`; `+
		`undo failed: add rule "old" to port 0: rte_flow create on port 0: told to fail: cannot allocate memory; `+
		`undo failed: remove rule "a" from port 0: left in place, since a later change of this port could not be undone`)
	assert.Equal(t, []string{"0/a=2"}, names(set), "the other port is as before")
	assert.Empty(t, nic.Misuse())
}

func TestARemovalThatFailsKeepsTheRule(t *testing.T) {
	old := rule(0, "old", 1)
	set, nic := newSet(t, old)
	nic.FailCalls(1)
	err := set.Apply(ruleset.Remove(old))
	var aerr *ruleset.ApplyError
	require.ErrorAs(t, err, &aerr)
	assert.Same(t, old, aerr.Op.Rule)
	assert.Equal(t, []string{"0/old=1"}, names(set))
	require.NoError(t, set.Apply(ruleset.Remove(old)))
	assert.Empty(t, nic.Rules())
}

func TestClearGoesOnAndKeepsWhatItCannotRemove(t *testing.T) {
	set, nic := newSet(t, rule(0, "a", 1), rule(0, "b", 2), rule(0, "c", 3))
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
			for i := range 50 {
				r := rule(uint16(worker), fmt.Sprint(i), uint32(i))
				assert.NoError(t, set.Apply(ruleset.Add(r)))
				_, err := set.Counters(r)
				assert.NoError(t, err)
				set.List()
				set.Counts()
				assert.NoError(t, set.Apply(ruleset.Remove(r)))
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
		var rules []*ruleset.Rule // few, so that they are used again and again, on two ports
		for i := range uint32(5) {
			rules = append(rules, rule(uint16(i/3), string('a'+rune(i)), i))
		}
		fits := map[*ruleset.Rule]bool{} // the rules that are installed, as a model
		for len(data) > 8 {
			plan, failures := data[:8], data[8:]
			data = data[min(len(data), 10):]
			ops, after := operations(plan, rules, fits)
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

// operations makes a list that fits the state.
func operations(plan []byte, rules []*ruleset.Rule, state map[*ruleset.Rule]bool) ([]ruleset.Op,
	map[*ruleset.Rule]bool) {
	after := maps.Clone(state)
	var ops []ruleset.Op
	for _, b := range plan[:1+int(plan[0])%len(plan)] {
		r := rules[int(b)%len(rules)]
		ops = append(ops, ruleset.Op{Rule: r, Remove: after[r]})
		if after[r] {
			delete(after, r)
		} else {
			after[r] = true
		}
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

func requireState(t *testing.T, want map[*ruleset.Rule]bool, set *ruleset.Set) {
	got := map[*ruleset.Rule]bool{}
	for _, r := range set.List() {
		got[r] = true
	}
	if !maps.Equal(want, got) {
		t.Fatalf("want %v, got %v", want, got)
	}
}

// requireSame compares the set and the NIC by the rules' groups, which are unique, and the set's counts.
func requireSame(t *testing.T, nic *flowtest.NIC, set *ruleset.Set) {
	inNIC, inSet, counted := map[uint32]bool{}, map[uint32]bool{}, 0
	for _, r := range nic.Rules() {
		inNIC[r.Rule.Group] = true
	}
	for _, r := range set.List() {
		inSet[r.Spec.Group] = true
	}
	for _, n := range set.Counts() {
		counted += n
	}
	if !maps.Equal(inNIC, inSet) || counted != len(inNIC) {
		t.Fatalf("in the NIC %v, in the set %v, counted %d", inNIC, inSet, counted)
	}
}
