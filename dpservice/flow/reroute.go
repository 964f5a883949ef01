// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net"
	"net/netip"
	"slices"

	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// Traffic is packets of guests, and what a change of the graph may have led elsewhere: those to a prefix of a virtual
// network, or those that leave by an uplink.
type Traffic struct {
	vni    uint32
	prefix netip.Prefix // invalid: whatever leaves by the uplink
	uplink uint16
}

// To is what guests send to a prefix of a virtual network.
func To(vni uint32, prefix netip.Prefix) Traffic { return Traffic{vni: vni, prefix: prefix.Masked()} }

// By is what leaves by an uplink.
func By(uplink uint16) Traffic { return Traffic{uplink: uplink} }

// has reports whether the packets of a rule's flow belong to the traffic.
func (t Traffic) has(r *rule) bool {
	switch {
	case r.origin != graph.FromGuest:
		return false
	case t.prefix.IsValid():
		return r.vni == t.vni && t.prefix.Contains(r.address(r.dst))
	default:
		return r.out == t.uplink
	}
}

// items match the traffic among what a guest sends. By which uplink a packet would leave no item can say: all of the
// guest's packets are matched instead.
func (t Traffic) items() []rteflow.Item {
	if !t.prefix.IsValid() {
		return []rteflow.Item{rteflow.Eth{}}
	}
	var dst *rteflow.Match[netip.Addr]
	if t.prefix.Bits() > 0 {
		mask, _ := netip.AddrFromSlice(net.CIDRMask(t.prefix.Bits(), t.prefix.Addr().BitLen()))
		dst = rteflow.Masked(t.prefix.Addr(), mask)
	}
	if t.prefix.Addr().Is6() {
		return []rteflow.Item{guestEth[true], rteflow.IPv6{Dst: dst}}
	}
	return []rteflow.Item{guestEth[false], rteflow.IPv4{Dst: dst}}
}

// reroute is a change of the graph which is being followed.
type reroute struct {
	traffic    Traffic
	made       bool // by the graph; generation is valid
	generation uint32
	outdated   map[uint16]int // rules that the graph has reported so far, by the guest's port
	left       int            // of them, in the backlog
	detours    []*ruleset.Rule
}

const (
	// maxReroutes is how many changes are followed at a time: each event of a flow is compared with all of them.
	maxReroutes = 16
	// manyOutdated is how many rules of a guest are outdated before its packets take a detour: fewer are removed as soon.
	manyOutdated = batchSize
)

// Reroute makes a change of the graph that may lead traffic of guests elsewhere, and returns its error. The graph
// reports the flows that have another verdict then, and their rules are removed by Run. If many flows of a guest have,
// all of the traffic that this guest sends takes a detour by the software, which knows the new way, until the last of
// the rules is removed.
func (m *Manager) Reroute(t Traffic, change func() error) error {
	r := m.beginReroute(t)
	err := change()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.reroutes = slices.DeleteFunc(m.reroutes, func(other *reroute) bool { return other == r })
		m.endDetours(r.detours)
		return err
	}
	r.made, r.generation = true, m.cfg.Graph.Generation()
	m.endReroutes()
	return nil
}

func (m *Manager) beginReroute(t Traffic) *reroute {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &reroute{traffic: t, outdated: map[uint16]int{}}
	if len(m.reroutes) < maxReroutes {
		m.reroutes = append(m.reroutes, r)
	}
	return r
}

// outdate notes that a rule does not do what the graph does any more. It returns the change that may be why, or nil.
func (m *Manager) outdate(r *rule) *reroute {
	i := slices.IndexFunc(m.reroutes, func(c *reroute) bool { return c.traffic.has(r) })
	if i < 0 {
		return nil
	}
	c := m.reroutes[i]
	c.left++
	if c.outdated[r.in]++; c.outdated[r.in] == manyOutdated {
		d := m.detour(r.in, c.traffic)
		m.beginDetours(d)
		c.detours = append(c.detours, d)
	}
	return c
}

// endReroutes ends the changes of which all outdated rules were reported and removed.
func (m *Manager) endReroutes() {
	m.reroutes = slices.DeleteFunc(m.reroutes, func(c *reroute) bool {
		if !c.made || c.left > 0 || int32(m.resolved-c.generation) < 0 {
			return false
		}
		m.endDetours(c.detours)
		return true
	})
}
