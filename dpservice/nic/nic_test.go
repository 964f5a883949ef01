// SPDX-License-Identifier: Apache-2.0

package nic

import (
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
)

// fakeDriver is a NIC whose transfer rules go through proxy, unless that is nil.
type fakeDriver struct {
	flowtest.NIC
	proxy    *uint16
	isolated []uint16
	aged     map[uint16][]uint64
}

func (f *fakeDriver) TransferProxy(id uint16) (uint16, error) {
	if f.proxy != nil {
		return *f.proxy, nil
	}
	return id, nil
}

func (f *fakeDriver) Aged(id uint16) ([]uint64, error) { return f.aged[id], nil }

func (f *fakeDriver) Isolate(id uint16, _ bool) error {
	f.isolated = append(f.isolated, id)
	return nil
}

// refuse makes the driver refuse rules with such an item or action.
func (f *fakeDriver) refuse(unwanted func(item rteflow.Item, action rteflow.Action) bool) {
	f.OnCall(func(c flowtest.Call) error {
		for _, i := range c.Rule.Pattern {
			if unwanted(i, nil) {
				return flowtest.Refusal(c, syscall.ENOTSUP, "item")
			}
		}
		for _, a := range c.Rule.Actions {
			if unwanted(nil, a) {
				return flowtest.Refusal(c, syscall.ENOTSUP, "action")
			}
		}
		return nil
	})
}

func testPorts() []port.Port {
	domain, other := uint16(7), uint16(8)
	return []port.Port{
		{ID: 10, Name: "pf0", Role: port.PF, SwitchDomain: &domain},
		{ID: 11, Name: "pf1", Role: port.PF, Index: 1},
		{ID: 12, Name: "vf0", Role: port.VF, SwitchDomain: &domain},
		{ID: 13, Name: "elsewhere", Role: port.VF, SwitchDomain: &other},
	}
}

func isItem[T rteflow.Item](i rteflow.Item) bool       { _, ok := i.(T); return ok }
func isAction[T rteflow.Action](a rteflow.Action) bool { _, ok := a.(T); return ok }

func TestProbeFindsTheNamesThatTheDriverTakes(t *testing.T) {
	newItem, newAction := isItem[rteflow.RepresentedPort], isAction[rteflow.ToRepresentedPort]
	tests := map[string]struct {
		unwanted func(rteflow.Item, rteflow.Action) bool
		want     string
	}{
		"current":  {func(rteflow.Item, rteflow.Action) bool { return false }, "represented_port"},
		"older":    {func(i rteflow.Item, a rteflow.Action) bool { return newItem(i) || newAction(a) }, "port_id"},
		"old item": {func(i rteflow.Item, _ rteflow.Action) bool { return newItem(i) }, "item port_id, action represented_port"},
		"old action": {func(_ rteflow.Item, a rteflow.Action) bool { return newAction(a) },
			"item represented_port, action port_id"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			driver := &fakeDriver{}
			driver.refuse(tt.unwanted)
			n, err := Probe(driver, testPorts())
			require.NoError(t, err)
			assert.Equal(t, tt.want, n.Names())
			for _, op := range n.BaseRules() {
				assert.NoError(t, n.Validate(op.Port, op.Rule))
			}
			assert.Empty(t, driver.Rules(), "a probe leaves nothing")
		})
	}
}

func TestProbeErrors(t *testing.T) {
	driver := &fakeDriver{}
	driver.refuse(func(i rteflow.Item, _ rteflow.Action) bool {
		return isItem[rteflow.RepresentedPort](i) || isItem[rteflow.PortID](i)
	})
	_, err := Probe(driver, testPorts())
	assert.ErrorContains(t, err, "in a pattern")

	driver.refuse(func(_ rteflow.Item, a rteflow.Action) bool {
		return isAction[rteflow.ToRepresentedPort](a) || isAction[rteflow.ToPortID](a)
	})
	_, err = Probe(driver, testPorts())
	assert.ErrorContains(t, err, "as an action")

	legacy := testPorts()
	legacy[0].SwitchDomain = nil
	_, err = Probe(&fakeDriver{}, legacy)
	assert.ErrorContains(t, err, "pf0 is not in switchdev mode")
	driver = &fakeDriver{}
	err = Isolate(driver, legacy, func(uint16) bool { return true })
	assert.ErrorContains(t, err, "pf0 is not in switchdev mode")
	assert.Empty(t, driver.isolated, "a port that takes no rules is asked for none")
}

func TestBaseRules(t *testing.T) {
	n, err := Probe(&fakeDriver{}, testPorts())
	require.NoError(t, err)
	transfer := rteflow.Attr{Group: 0, Priority: 1, Transfer: true}
	ingress := rteflow.Attr{Group: 0, Priority: 1, Ingress: true}
	first, used := rteflow.Attr{Group: 2, Priority: 0, Transfer: true}, rteflow.Masked[uint8](0, 0xfe)
	jump, software := []rteflow.Action{rteflow.Jump{Group: 2}}, []rteflow.Action{rteflow.Jump{Group: 3}}
	queue := []rteflow.Action{rteflow.Queue{Index: 0}}
	ipip, ip6ip := rteflow.IPv6{Proto: rteflow.Is[uint8](4)}, rteflow.IPv6{Proto: rteflow.Is[uint8](41)}
	pf, vf := rteflow.RepresentedPort{Port: 10}, rteflow.RepresentedPort{Port: 12}
	assert.Equal(t, []ruleset.Op{
		ruleset.Add(10, "base/0", rteflow.Rule{Attr: transfer, Pattern: []rteflow.Item{pf, rteflow.Eth{}, ipip}, Actions: jump}),
		ruleset.Add(10, "base/1", rteflow.Rule{Attr: transfer, Pattern: []rteflow.Item{pf, rteflow.Eth{}, ip6ip}, Actions: jump}),
		ruleset.Add(12, "base/0", rteflow.Rule{Attr: transfer, Pattern: []rteflow.Item{vf, rteflow.Eth{}}, Actions: jump}),
		ruleset.Add(12, "base/last_hop/0", rteflow.Rule{Attr: first, Pattern: []rteflow.Item{vf, rteflow.Eth{}, rteflow.IPv4{TTL: used}}, Actions: software}),
		ruleset.Add(12, "base/last_hop/1", rteflow.Rule{Attr: first, Pattern: []rteflow.Item{vf, rteflow.Eth{}, rteflow.IPv6{HopLimit: used}}, Actions: software}),
		ruleset.Add(10, "base/receive/0", rteflow.Rule{Attr: ingress, Pattern: []rteflow.Item{rteflow.Eth{}, ipip}, Actions: queue}),
		ruleset.Add(10, "base/receive/1", rteflow.Rule{Attr: ingress, Pattern: []rteflow.Item{rteflow.Eth{}, ip6ip}, Actions: queue}),
	}, n.BaseRules(), "no rules for ports of another switch domain, or none")
	assert.True(t, n.Has(12))
	assert.False(t, n.Has(11))
	assert.False(t, n.Has(13))
}

// Without rules for the TTL, the NIC is used as far as it goes.
func TestLastHopRulesAreRefused(t *testing.T) {
	driver := &fakeDriver{}
	n, err := Probe(driver, testPorts())
	require.NoError(t, err)
	require.NoError(t, n.LastHop())
	all := len(n.BaseRules())

	driver.refuse(func(i rteflow.Item, _ rteflow.Action) bool {
		ip, ok := i.(rteflow.IPv6)
		return ok && ip.HopLimit != nil
	})
	n, err = Probe(driver, testPorts())
	require.NoError(t, err)
	require.ErrorIs(t, n.LastHop(), syscall.ENOTSUP)
	require.NoError(t, ruleset.New(n).Apply(n.BaseRules()))
	require.Len(t, n.BaseRules(), all-2)
}

func TestTransferRulesGoThroughTheProxy(t *testing.T) {
	proxy := uint16(10)
	driver := &fakeDriver{proxy: &proxy, aged: map[uint16][]uint64{10: {1, 2}, 12: {3}}}
	n, err := Probe(driver, testPorts())
	require.NoError(t, err)
	set := ruleset.New(n)
	require.NoError(t, set.Apply(n.BaseRules()))
	for _, r := range driver.Rules() {
		assert.Equal(t, proxy, r.Port)
	}
	counted := ruleset.Add(12, "counted", rteflow.Rule{
		Attr: rteflow.Attr{Group: 2, Transfer: true}, Pattern: []rteflow.Item{n.PortItem(12)}, Actions: []rteflow.Action{rteflow.Count{}, rteflow.Age{Timeout: 1}},
	})
	require.NoError(t, set.Apply([]ruleset.Op{counted}))
	_, err = set.Counters(12, "counted")
	assert.NoError(t, err)
	_, err = set.Age(12, "counted")
	assert.NoError(t, err)
	aged, err := n.Aged()
	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 2}, aged, "the proxy is asked, and once")

	for _, e := range slices.Backward(set.List()) {
		require.NoError(t, set.Apply([]ruleset.Op{ruleset.Remove(e.Port, e.Name)}))
	}
	assert.Empty(t, driver.Rules())
	assert.Empty(t, driver.Misuse())
	assert.Empty(t, n.via)
}

func TestIsolateOnlyBesideTheKernel(t *testing.T) {
	driver := &fakeDriver{}
	require.NoError(t, Isolate(driver, testPorts(), func(id uint16) bool { return id == 10 }))
	assert.Equal(t, []uint16{10}, driver.isolated)
}
