// SPDX-License-Identifier: Apache-2.0

package ruleset_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
)

// Of a list the operations that fail are reported, and all others are carried out.
func TestApplyEach(t *testing.T) {
	a, b, c := rule(1, "a", 1), rule(1, "b", 2), rule(1, "c", 3)
	set, nic := newSet(t, c)
	require.Empty(t, set.ApplyEach(nil))
	nic.FailCalls(1)
	failed := set.ApplyEach(slices.Concat(ruleset.Add(a, b, c), ruleset.Remove(c)))
	require.Len(t, failed, 2)
	assert.Same(t, a, failed[0].Op.Rule)
	require.ErrorIs(t, failed[0], syscall.ENOMEM)
	assert.Same(t, c, failed[1].Op.Rule)
	require.ErrorIs(t, failed[1], ruleset.ErrInstalled)
	assert.Equal(t, []string{"1/b=2"}, names(set))
	require.Empty(t, set.ApplyEach(slices.Concat(ruleset.Add(a, c), ruleset.Remove(b))))
	assert.Equal(t, []string{"1/a=1", "1/c=3"}, names(set))
	assert.Empty(t, nic.Misuse())
}

// While a long list is carried out others read the set, and change rules of theirs.
func TestOthersDoNotWaitForAList(t *testing.T) {
	var many []*ruleset.Rule
	for i := range 2000 {
		many = append(many, rule(1, "many", uint32(i)))
	}
	other := rule(2, "other", 1)
	set, nic := newSet(t)
	went := make(chan error, 1)
	calls := 0
	nic.OnCall(func(c flowtest.Call) error {
		if c.Port != 1 {
			return nil
		}
		calls++
		switch {
		case calls == 300:
			go func() { set.Counts(); went <- set.Apply(ruleset.Add(other)) }()
		case calls < 1900 && calls%100 == 0:
			time.Sleep(2 * time.Millisecond) // a mutex gives way to who has waited for longer than one
		case calls == 1900: // the other one has had its turn before the end
			select {
			case err := <-went:
				went <- err
			case <-time.After(10 * time.Second):
				return syscall.ETIMEDOUT
			}
		}
		return nil
	})
	require.NoError(t, set.Apply(ruleset.Add(many...)))
	require.NoError(t, <-went)
}

// maker makes the rules that it owns.
type maker struct {
	group uint32
	made  int
}

func (*maker) String() string { return "maker" }

func (m *maker) MakeSpec() rteflow.Rule {
	m.made++
	return rule(1, "", m.group).Spec
}

func (m *maker) Template() *rteflow.Template { panic("this NIC does not encode") }
func (m *maker) Fill(rteflow.Values)         {}

// Of a Maker's rules no more is kept than where they are, also if they are added again.
func TestAMakersRules(t *testing.T) {
	set, nic := newSet(t)
	m := &maker{group: 7}
	spec := rule(1, "", 7).Spec
	r := &ruleset.Rule{Port: 1, Owner: m, Spec: rteflow.Rule{Attr: spec.Attr}}
	require.NoError(t, set.Apply(ruleset.Add(r)))
	assert.Equal(t, 1, m.made, "by the NIC")
	assert.Equal(t, spec, r.Full())
	assert.Equal(t, map[ruleset.Group]int{{Port: 1, Domain: "transfer", Number: 7}: 1}, set.Counts())
	require.NoError(t, set.Apply(slices.Concat(ruleset.Remove(r), ruleset.Add(r))))
	require.Len(t, nic.Rules(), 1)
	assert.Equal(t, spec, nic.Rules()[0].Rule)
	nic.FailCalls(1)
	err := set.Apply(ruleset.Remove(r))
	require.ErrorContains(t, err, spec.String())
}
