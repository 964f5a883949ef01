// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// hop returns the underlay address of the n-th guest on another hypervisor.
func hop(n int) string { return fmt.Sprintf("fc00:9::%d", n+1) }

// TestLongestPrefix sends to the nested prefixes of several next hops, takes the routes away one by one, the longest
// first, and adds one again: each time the flows, and their rules in the NIC, follow.
func TestLongestPrefix(t *testing.T) {
	tests := map[string]struct {
		offload  bool
		prefixes []string // each within the previous one; the n-th leads to the n-th hop
		dst      string   // within all of them
		inside   []string // the n-th is within n+1 of them
	}{
		"IPv4, offloaded": {true, []string{"0.0.0.0/0", "10.200.0.0/16", "10.200.1.0/24", "10.200.1.7/32"}, "10.200.1.7",
			[]string{"192.0.2.1", "10.200.2.1", "10.200.1.6", "10.200.1.7"}},
		"IPv6, offloaded": {true, []string{"::/0", "2001:db8::/32", "2001:db8:1::/57", "2001:db8:1::7/128"}, "2001:db8:1::7",
			[]string{"2001:db9::1", "2001:db8:2::1", "2001:db8:1::6", "2001:db8:1::7"}},
		"IPv4, in software": {false, []string{"0.0.0.0/0", "10.200.0.0/15", "10.200.1.4/30"}, "10.200.1.7",
			[]string{"192.0.2.1", "10.201.2.1", "10.200.1.7"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{NoOffload: !tt.offload}, 2)
			r := &routed{b, b.craft(b.vms[0]), tt.offload}
			b.reach(b.vms[0], b.vms[1].IPv4.String())
			for n, prefix := range tt.prefixes {
				b.route("add", prefix, n)
			}
			for n, dst := range tt.inside {
				r.leadsTo(dst, hop(n))
			}
			last := len(tt.prefixes) - 1
			for n := last; n > 0; n-- {
				b.route("delete", tt.prefixes[n], n)
				r.leadsTo(tt.dst, hop(n-1))
			}
			b.route("add", tt.prefixes[last], last)
			r.leadsTo(tt.dst, hop(last))
			b.route("delete", tt.prefixes[last], last)
			b.route("delete", tt.prefixes[0], 0)
			r.leadsNowhere(tt.dst)
		})
	}
}

// TestLocalGuestsComeFirst routes the addresses of a local guest to another hypervisor. The guest's interface takes
// precedence over any route.
func TestLocalGuestsComeFirst(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	for n, prefix := range []string{"10.100.0.0/24", vm2.IPv4.String() + "/32", "fd00:100::/64",
		vm2.IPv6.String() + "/128"} {
		b.route("add", prefix, n)
	}
	wire := b.record(b.net.Router, b.net.Hypervisors[0].RouterLink, record.In, "ip6 proto 4 or ip6 proto 41")
	for _, dst := range []string{vm2.IPv4.String(), vm2.IPv6.String()} {
		b.reach(vm1, dst)
		b.startPing(vm1, dst, 300*time.Millisecond).wait()
	}
	require.Empty(t, b.stopRecording(wire))
}

// TestManyFlowsTakeADetour gives many flows another next hop: the NIC takes the rule that hands their packets to the
// software. While the NIC removes no rule, they go the new way all the same. When it refuses that rule, the log tells.
func TestManyFlowsTakeADetour(t *testing.T) {
	const refused = "the NIC does not hand a guest's packets to the software"
	b := newLab(t, topology.DaemonConfig{Telemetry: true}, 1)
	r := &crowd{routed{b, b.craft(b.vms[0]), true}}
	b.route("add", "10.200.0.0/16", 0)
	r.waitRules(hop(0))
	b.route("add", "10.200.1.0/24", 1)
	r.waitRules(hop(1))
	if b.net.NIC.ReportsDestroy {
		b.refuse(refusal{call: "destroy", nth: 1, all: true})
		b.route("delete", "10.200.1.0/24", 1)
		r.takesDetour("10.200.1.0", "255.255.255.0")
		require.Equal(t, hop(0), r.hopOf(crowdDst))
		require.Len(t, r.rulesTo(hop(1)), crowdFlows)
		b.relent()
		r.waitRules(hop(0))
		b.route("add", "10.200.1.0/24", 1)
		r.waitRules(hop(1))
	}
	b.eventually(func() error {
		if d := r.detours(); len(d) > 0 {
			return fmt.Errorf("detours are left: %+v", d)
		}
		return nil
	})
	require.NotContains(t, b.daemons[0].Stderr.String(), refused)

	b.refuse(refusal{call: "create", nth: 1})
	b.route("delete", "10.200.1.0/24", 1)
	b.eventually(b.relented)
	require.Contains(t, b.daemons[0].Stderr.String(), refused)
	r.waitRules(hop(0))
}

// crowd is a guest with many flows to one address.
type crowd struct{ routed }

const (
	crowdFlows = 600
	crowdDst   = "10.200.1.7"
)

// waitRules waits until the NIC has all flows, and they lead to a hop.
func (c *crowd) waitRules(hop string) {
	c.b.t.Helper()
	c.b.eventually(func() error {
		n := len(c.rulesTo(hop))
		if all := len(c.rules(crowdDst)); n == crowdFlows && all == n {
			return nil
		}
		for i := range layers.UDPPort(crowdFlows) {
			c.sender.port = craftedSrc + i
			c.send(crowdDst)
		}
		return fmt.Errorf("%d rules lead to %s", n, hop)
	})
}

// rulesTo returns the flows' rules that lead to a hop.
func (c *crowd) rulesTo(hop string) []api.Rule {
	return slices.DeleteFunc(c.rules(crowdDst), func(rule api.Rule) bool {
		return !strings.Contains(rule.Actions, "dst is "+hop+" ")
	})
}

func (c *crowd) detours() []api.Rule {
	return slices.DeleteFunc(c.b.rules(), func(rule api.Rule) bool { return !strings.HasPrefix(rule.Name, "detour/") })
}

// takesDetour waits until the NIC hands what is sent to a prefix to the software.
func (c *crowd) takesDetour(prefix, mask string) {
	c.b.t.Helper()
	c.b.eventually(func() error {
		d := c.detours()
		if len(d) != 1 || !strings.HasSuffix(d[0].Pattern, fmt.Sprintf("/ ipv4 dst spec %s dst mask %s", prefix, mask)) {
			return fmt.Errorf("detours: %+v", d)
		}
		return nil
	})
}

// hopOf returns where datagrams to dst go.
func (c *crowd) hopOf(dst string) string {
	c.b.t.Helper()
	wire := c.record()
	c.send(dst)
	c.b.waitFrames(wire, 1)
	return outerDst(c.b.stopRecording(wire)[0])
}

// route adds a route to a hop, or deletes it.
func (b *lab) route(verb, prefix string, n int) {
	b.t.Helper()
	args := []string{"route", verb, prefix, fmt.Sprintf("--vni=%d", topology.VNI)}
	if verb == "add" {
		args = append(args, "--next-hop-ip="+hop(n))
	}
	b.dpctl(args...)
}

// routed is a guest that sends to routed addresses.
type routed struct {
	b       *lab
	sender  *crafter
	offload bool
}

func (r *routed) send(dst string) {
	r.b.t.Helper()
	to, own := netip.MustParseAddr(dst), r.b.vms[0].IPv4
	if to.Is6() {
		own = r.b.vms[0].IPv6
	}
	r.sender.udp(own, to, 64)
}

// leadsTo waits until the flow to dst leads to a hop, and requires that all of its datagrams go there, by the NIC if
// there is offload.
func (r *routed) leadsTo(dst, hop string) {
	r.b.t.Helper()
	r.b.eventually(func() error {
		r.send(dst)
		return r.follows(dst, hop)
	})
	wire := r.record()
	for range 5 {
		r.send(dst)
	}
	r.b.waitFrames(wire, 5)
	for _, f := range r.b.stopRecording(wire) {
		require.Equal(r.b.t, hop, outerDst(f), "%s", f)
	}
}

// follows returns nil when the flow and its rule lead to a hop.
func (r *routed) follows(dst, hop string) error {
	flows, err := r.b.flows(r.b.daemons[0], "udp", r.b.vms[0].IPv4.String(), dst)
	if netip.MustParseAddr(dst).Is6() {
		flows, err = r.b.flows(r.b.daemons[0], "udp", r.b.vms[0].IPv6.String(), dst)
	}
	if err != nil {
		return err
	}
	if len(flows) != 1 || flows[0].Offloaded != r.offload {
		return fmt.Errorf("flows to %s: %+v", dst, flows)
	}
	if rules := r.rules(dst); r.offload && (len(rules) != 1 || !strings.Contains(rules[0].Actions, "dst is "+hop+" ")) {
		return fmt.Errorf("rules to %s, not by %s: %+v", dst, hop, rules)
	}
	return nil
}

// leadsNowhere requires that no datagram to dst leaves from now on, and that neither flow nor rule is left.
func (r *routed) leadsNowhere(dst string) {
	r.b.t.Helper()
	r.b.eventually(func() error {
		var list api.FlowListResult
		r.b.call(api.MethodFlowList, &list)
		gone := !slices.ContainsFunc(list.Flows, func(f api.Flow) bool { return f.Dst == dst })
		if rules := r.rules(dst); !gone || len(rules) > 0 {
			return fmt.Errorf("flows %+v, rules %+v", list.Flows, rules)
		}
		return nil
	})
	wire, unreachable := r.record(), r.b.nodePackets("icmp_no_route")
	for range 5 {
		r.send(dst)
	}
	r.b.dropped("icmp_no_route", unreachable+5)
	require.Empty(r.b.t, r.b.stopRecording(wire))
}

// rules returns the rules of flows to dst.
func (r *routed) rules(dst string) []api.Rule {
	return slices.DeleteFunc(r.b.rules(), func(rule api.Rule) bool {
		return !strings.Contains(rule.Pattern, "dst is "+dst+" ")
	})
}

func (r *routed) record() *record.Recorder {
	r.b.t.Helper()
	return r.b.record(r.b.net.Router, r.b.net.Hypervisors[0].RouterLink, record.In, "ip6 proto 4 or ip6 proto 41")
}

func outerDst(f record.Frame) string { return net.IP(f.Data[14+24 : 14+40]).String() }

// TestFlowsEndWithTheirInterface deletes an interface that flows in the NIC go to, from this and from another
// hypervisor. When the call returns, their rules are removed, and nothing reaches the guest any more.
func TestFlowsEndWithTheirInterface(t *testing.T) {
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{NoOffload: noOffload}, 2, 1)
			vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
			b.reach(vm1, vm2.IPv4.String())
			b.reach(vm3, vm2.IPv6.String())
			stop := []func(){b.pingOn(vm1, vm2.IPv4.String()), b.pingOn(vm3, vm2.IPv6.String())}
			if !noOffload {
				b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
				b.waitOffloaded(b.daemons[0], 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
				b.waitOffloaded(b.daemons[0], 1, "icmp6", vm3.IPv6.String(), vm2.IPv6.String())
				b.waitOffloaded(b.daemons[0], 1, "icmp6", vm2.IPv6.String(), vm3.IPv6.String())
			}
			b.dpctl("interface", "delete", "vm-2")
			for _, r := range b.rules() {
				require.False(t, strings.HasPrefix(r.Name, "flow/"), "%+v", r)
			}
			late := b.record(vm2.Namespace, "eth0", record.In, "icmp or icmp6[0] == 128")
			noRoute, unknown := b.nodePackets("icmp_no_route"), b.nodePackets("drop_unknown_underlay")
			b.dropped("icmp_no_route", noRoute+20)
			b.dropped("drop_unknown_underlay", unknown+20)
			require.Empty(t, b.stopRecording(late))
			b.eventually(func() error {
				var list api.FlowListResult
				b.call(api.MethodFlowList, &list)
				if len(list.Flows) > 0 {
					return fmt.Errorf("flows that lead nowhere: %+v", list.Flows)
				}
				return nil
			})
			for _, f := range stop {
				f()
			}
		})
	}
}
