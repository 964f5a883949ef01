// SPDX-License-Identifier: Apache-2.0

package nic

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// refuse makes the driver refuse rules with such an item or action.
func refuse(driver *flowtest.NIC, unwanted func(item rteflow.Item, action rteflow.Action) bool) {
	driver.OnCall(func(c flowtest.Call) error {
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

func noTwin(uint16) bool { return false }

var testNode = netip.MustParseAddr("fc00:1::1")

func testPorts() []port.Port {
	domain, other := uint16(7), uint16(8)
	return []port.Port{
		{ID: 10, Name: "pf0", Role: port.PF, SwitchDomain: &domain, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 10}},
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
		"current": {func(rteflow.Item, rteflow.Action) bool { return false }, "represented_port"},
		"older":   {func(i rteflow.Item, a rteflow.Action) bool { return newItem(i) || newAction(a) }, "port_id"},
		"old item": {func(i rteflow.Item, _ rteflow.Action) bool { return newItem(i) },
			"item port_id, action represented_port"},
		"old action": {func(_ rteflow.Item, a rteflow.Action) bool { return newAction(a) },
			"item represented_port, action port_id"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			driver := &flowtest.NIC{}
			refuse(driver, tt.unwanted)
			n, err := Probe(driver, testPorts(), testNode, noTwin)
			require.NoError(t, err)
			assert.Equal(t, tt.want, n.Names())
			for _, r := range append(n.BaseRules(), n.TunnelRule(0, graph.Tunnel{Underlay: testNode}, wire.EtherTypeIPv4)) {
				assert.NoError(t, ruleset.Try(n, r.Port, r.Spec))
			}
			assert.Empty(t, driver.Rules(), "a probe leaves nothing")
		})
	}
}

func TestProbeErrors(t *testing.T) {
	driver := &flowtest.NIC{}
	refuse(driver, func(i rteflow.Item, _ rteflow.Action) bool {
		return isItem[rteflow.RepresentedPort](i) || isItem[rteflow.PortID](i)
	})
	_, err := Probe(driver, testPorts(), testNode, noTwin)
	assert.ErrorContains(t, err, "in a pattern")

	refuse(driver, func(_ rteflow.Item, a rteflow.Action) bool {
		return isAction[rteflow.ToRepresentedPort](a) || isAction[rteflow.ToPortID](a)
	})
	_, err = Probe(driver, testPorts(), testNode, noTwin)
	assert.ErrorContains(t, err, "as an action")

	legacy := testPorts()
	legacy[0].SwitchDomain = nil
	_, err = Probe(&flowtest.NIC{}, legacy, testNode, noTwin)
	assert.ErrorContains(t, err, "pf0 is not in switchdev mode")
	driver = &flowtest.NIC{}
	err = Isolate(driver, legacy, func(uint16) bool { return true })
	assert.ErrorContains(t, err, "pf0 is not in switchdev mode")
	assert.Empty(t, driver.Isolated(), "a port that takes no rules is asked for none")
}

func TestBaseRules(t *testing.T) {
	n, err := Probe(&flowtest.NIC{}, testPorts(), testNode, noTwin)
	require.NoError(t, err)
	var said []string
	for _, r := range n.BaseRules() {
		said = append(said, fmt.Sprintf("%d %s: %s", r.Port, r.Owner, r.Spec))
	}
	const from, overlay, marked = "represented_port ethdev_port_id is ", "eth / ipv6 proto spec 0 proto mask 251 dst spec fc00:1:: dst mask ffff:ffff:ffff:ffff::",
		"eth src spec 02:64:70:73:00:00 src mask ff:ff:ff:ff:00:00"
	overlay6 := strings.Replace(overlay, "proto spec 0 proto mask 251", "proto is 41", 1)
	assert.Equal(t, []string{
		"10 base/guard: group 0 priority 0 transfer pattern " + from + "10 / " + marked + " / end actions count / drop / end",
		"10 base/0: group 0 priority 2 transfer pattern " + from + "10 / " + overlay + " / end actions jump group 2 / end",
		"10 base/1: group 0 priority 2 transfer pattern " + from + "10 / " + overlay6 + " / end actions jump group 2 / end",
		"12 base/0: group 0 priority 2 transfer pattern " + from + "12 / eth / end actions jump group 2 / end",
		"12 base/last_hop/0: group 2 priority 0 transfer pattern " + from + "12 / eth / ipv4 ttl spec 0 ttl mask 254 / end actions jump group 3 / end",
		"12 base/last_hop/1: group 2 priority 0 transfer pattern " + from + "12 / eth / ipv6 hop spec 0 hop mask 254 / end actions jump group 3 / end",
		"10 base/delivery/12: group 40 priority 2 transfer pattern represented_port / eth / end actions represented_port ethdev_port_id 12 / end",
		"10 base/receive/0: group 0 priority 2 ingress pattern " + overlay + " / end actions queue index 0 / end",
		"10 base/receive/1: group 0 priority 2 ingress pattern " + overlay6 + " / end actions queue index 0 / end",
		"10 base/receive/2: group 0 priority 2 ingress pattern " + marked + " / end actions queue index 0 / end",
	}, said, "no rules for ports of another switch domain, or none")
	assert.True(t, n.Has(12))
	assert.False(t, n.Has(11))
	assert.False(t, n.Has(13))
}

// Where the kernel shares another uplink, too, what is for this node is received there.
func TestReceiveRulesOfAnotherUplink(t *testing.T) {
	n, err := Probe(&flowtest.NIC{}, testPorts(), testNode, func(uint16) bool { return true })
	require.NoError(t, err)
	var onPF0, onPF1 []rteflow.Rule
	for _, r := range n.BaseRules() {
		switch {
		case r.Port == 10 && r.Spec.Ingress:
			onPF0 = append(onPF0, r.Spec)
		case r.Port == 11:
			onPF1 = append(onPF1, r.Spec)
		}
	}
	assert.Equal(t, onPF0[:2], onPF1, "but nothing is decapsulated there")
}

// Without rules for the TTL, the NIC is used as far as it goes.
func TestLastHopRulesAreRefused(t *testing.T) {
	driver := &flowtest.NIC{}
	n, err := Probe(driver, testPorts(), testNode, noTwin)
	require.NoError(t, err)
	require.NoError(t, n.LastHop())
	all := len(n.BaseRules())

	refuse(driver, func(i rteflow.Item, _ rteflow.Action) bool {
		ip, ok := i.(rteflow.IPv6)
		return ok && ip.HopLimit != nil
	})
	n, err = Probe(driver, testPorts(), testNode, noTwin)
	require.NoError(t, err)
	require.ErrorIs(t, n.LastHop(), syscall.ENOTSUP)
	require.NoError(t, ruleset.New(n).Apply(ruleset.Add(n.BaseRules()...)))
	require.Len(t, n.BaseRules(), all-2)
}

func TestTransferRulesGoThroughTheProxy(t *testing.T) {
	proxy := uint16(10)
	driver := &flowtest.NIC{Proxy: &proxy, AgedByPort: map[uint16][]uint64{10: {1, 2}, 12: {3}}}
	n, err := Probe(driver, testPorts(), testNode, noTwin)
	require.NoError(t, err)
	set := ruleset.New(n)
	require.NoError(t, set.Apply(ruleset.Add(n.BaseRules()...)))
	for _, r := range driver.Rules() {
		assert.Equal(t, proxy, r.Port)
	}
	counted := &ruleset.Rule{Port: 12, Owner: baseOwner("counted"), Spec: rteflow.Rule{
		Attr: rteflow.Attr{Group: 2, Transfer: true}, Pattern: []rteflow.Item{n.PortItem(12)},
		Actions: []rteflow.Action{rteflow.Count{}, rteflow.Age{Timeout: 1}},
	}}
	direct := &ruleset.Rule{Port: 12, Owner: baseOwner("direct"), Spec: rteflow.Rule{
		Attr: rteflow.Attr{Ingress: true}, Pattern: []rteflow.Item{rteflow.Eth{}},
		Actions: []rteflow.Action{rteflow.Count{}, rteflow.Queue{}},
	}}
	require.NoError(t, set.Apply(ruleset.Add(counted, direct)), "in one batch")
	assert.Equal(t, uint16(12), driver.Rules()[len(driver.Rules())-1].Port, "no transfer rule")
	for _, r := range []*ruleset.Rule{counted, direct} {
		_, err = set.Counters(r)
		assert.NoError(t, err)
	}
	_, err = set.Age(counted)
	assert.NoError(t, err)
	aged, err := n.Aged()
	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 2}, aged, "the proxy is asked, and once")

	require.NoError(t, set.Apply(ruleset.Remove(counted, direct)))
	for _, r := range slices.Backward(set.List()) {
		require.NoError(t, set.Apply(ruleset.Remove(r)))
	}
	assert.Empty(t, driver.Rules())
	assert.Empty(t, driver.Misuse())
	assert.Empty(t, n.direct)
}

func TestIsolateOnlyBesideTheKernel(t *testing.T) {
	driver := &flowtest.NIC{}
	require.NoError(t, Isolate(driver, testPorts(), func(id uint16) bool { return id != 11 }))
	assert.Equal(t, []uint16{10}, driver.Isolated(), "no representor, though it has a twin too")
}

// A tunnel's rule looks at who has sent a packet, unless anybody may, and says by the mark which tunnel it came by.
func TestTunnelRule(t *testing.T) {
	n, err := Probe(&flowtest.NIC{}, testPorts(), testNode, noTwin)
	require.NoError(t, err)
	to := graph.Tunnel{Underlay: netip.MustParseAddr("fc00:1::1:1")}
	from := to
	from.Peer = netip.MustParseAddr("fc00:2::1:1")
	const form = "10 tunnel/258: group 2 priority 1 transfer pattern represented_port ethdev_port_id is 10 / eth / ipv6 %s dst is fc00:1::1:1 / end actions " +
		"count / raw_decap { eth / ipv6 } / raw_encap { eth dst is 02:00:00:00:00:0a src is 02:64:70:73:01:02 type is %s } / jump group 4 / end"
	for want, r := range map[string]*ruleset.Rule{
		fmt.Sprintf(form, "proto spec 0 proto mask 251", "0x0800"): n.TunnelRule(0x102, to,
			wire.EtherTypeIPv4),
		fmt.Sprintf(form, "proto is 41 src is fc00:2::1:1", "0x86dd"): n.TunnelRule(0x102, from,
			wire.EtherTypeIPv6),
		fmt.Sprintf(form, "proto spec 0 proto mask 251 src is fc00:2::1:1", "0x0800"): n.TunnelRule(0x102, from,
			wire.EtherTypeIPv4),
	} {
		assert.Equal(t, want, fmt.Sprintf("%d %s: %s", r.Port, r.Owner, r.Spec))
		assert.Len(t, r.Spec.Actions[1].(rteflow.RawDecap).Data, 54)
	}
}

// The match of a next header takes the packets that it is for. net_mlx5 takes a spec of 4 with any mask that has its
// bit for a tunnel.
func TestProtoOf(t *testing.T) {
	for inner, proto := range map[uint16]uint8{wire.EtherTypeIPv4: 4, wire.EtherTypeIPv6: 41} {
		m := ProtoOf(inner)
		mask := uint8(0xff)
		if m.Mask != nil {
			mask = *m.Mask
		}
		assert.Zero(t, (m.Spec^proto)&mask)
		assert.NotEqual(t, uint8(4), m.Spec&mask)
		for other := range 256 {
			if o := uint8(other); o != proto && o != 0 {
				assert.NotZero(t, (m.Spec^o)&mask, other)
			}
		}
	}
}
