// SPDX-License-Identifier: Apache-2.0

package nic

import (
	"fmt"
	"net/netip"
	"strconv"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// BasePatterns are the patterns of the rules which send a port's packets from the default group to the flows' rules:
// everything from a guest, and from the wire what is encapsulated and for this node. Each names its port.
func (n *NIC) BasePatterns(p port.Port) [][]rteflow.Item {
	if p.Role == port.VF {
		return [][]rteflow.Item{{n.PortItem(p.ID), rteflow.Eth{}}}
	}
	var patterns [][]rteflow.Item
	for _, pattern := range n.encapsulated() {
		patterns = append(patterns, append([]rteflow.Item{n.PortItem(p.ID)}, pattern...))
	}
	return patterns
}

// encapsulated are the patterns of what is encapsulated and for this node. By the prefix alone they would take more:
// the kernel's share of what is for the node's own address, and copies that a capture sends to a sink on this node,
// which would be copied again, without an end.
func (n *NIC) encapsulated() [][]rteflow.Item {
	mask, _ := netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").Prefix(n.prefix.Bits())
	var patterns [][]rteflow.Item
	for _, inner := range InnerTypes {
		dst := rteflow.Masked(n.prefix.Addr(), mask.Addr())
		patterns = append(patterns, []rteflow.Item{rteflow.Eth{}, rteflow.IPv6{Dst: dst, Proto: ProtoOf(inner)}})
	}
	return patterns
}

// baseOwner is the Owner of a base rule: what the rule is for.
type baseOwner string

func (o baseOwner) String() string { return "base/" + string(o) }

// BaseRules are the rules that are installed whatever the interfaces and the flows are. They are to be installed
// first of all, in this order, and removed last: without the guard, a frame from the wire could pass for one that was
// decapsulated.
func (n *NIC) BaseRules() []*ruleset.Rule {
	rules := []*ruleset.Rule{n.guard()}
	for _, p := range n.ports {
		for i, pattern := range n.BasePatterns(p) {
			rules = append(rules, &ruleset.Rule{Port: p.ID, Owner: baseOwner(strconv.Itoa(i)), Spec: rteflow.Rule{
				Attr:    InGroup(nicgroup.Default, nicgroup.BasePriority),
				Pattern: pattern,
				Actions: []rteflow.Action{JumpTo(nicgroup.VNET)},
			}})
		}
		if n.lastHop == nil {
			rules = append(rules, n.lastHopRules(p)...)
		}
		if p.Role == port.VF {
			rules = append(rules, n.deliver(p))
		}
	}
	return append(rules, n.receiveRules()...)
}

// guard drops what comes from the wire with a mark.
func (n *NIC) guard() *ruleset.Rule {
	uplink := n.ports[0].ID
	return &ruleset.Rule{Port: uplink, Owner: baseOwner("guard"), Spec: rteflow.Rule{
		Attr:    InGroup(nicgroup.Default, nicgroup.GuardPriority),
		Pattern: []rteflow.Item{n.PortItem(uplink), marked},
		Actions: []rteflow.Action{rteflow.Count{}, rteflow.Drop{}},
	}}
}

// deliver sends to a guest what flows bring to its group, wherever it comes from. Captures of what the guest receives
// precede it there, so that they need not touch the flows.
func (n *NIC) deliver(p port.Port) *ruleset.Rule {
	return &ruleset.Rule{Port: n.ports[0].ID, Owner: baseOwner(fmt.Sprintf("delivery/%d", p.ID)), Spec: rteflow.Rule{
		Attr:    InGroup(nicgroup.Delivery(p.ID), nicgroup.BasePriority),
		Pattern: []rteflow.Item{n.AnyPort(), rteflow.Eth{}},
		Actions: []rteflow.Action{n.PortAction(p.ID)},
	}}
}

// noHopLeft is how a TTL of 0 or 1 is matched.
var noHopLeft = rteflow.Masked[uint8](0, 0xfe)

// lastHopRules keep a guest's packets that have no hop left from the flows' rules: the software informs the sender.
// From the wire, the hop was counted by the sending hypervisor.
func (n *NIC) lastHopRules(p port.Port) []*ruleset.Rule {
	if p.Role != port.VF {
		return nil
	}
	var rules []*ruleset.Rule
	for i, ip := range []rteflow.Item{rteflow.IPv4{TTL: noHopLeft}, rteflow.IPv6{HopLimit: noHopLeft}} {
		owner := baseOwner(fmt.Sprintf("last_hop/%d", i))
		rules = append(rules, &ruleset.Rule{Port: p.ID, Owner: owner, Spec: rteflow.Rule{
			Attr:    InGroup(nicgroup.VNET, nicgroup.LastHopPriority),
			Pattern: []rteflow.Item{n.PortItem(p.ID), rteflow.Eth{}, ip},
			Actions: []rteflow.Action{JumpTo(nicgroup.Software)},
		}})
	}
	return rules
}

// receiveRules hand what is for this node, and found no flow's rule, to the software, also where the kernel shares
// the uplink: what is for no interface as it came in, the rest decapsulated. On an uplink outside of the E-Switch
// nothing is.
func (n *NIC) receiveRules() []*ruleset.Rule {
	rules := receive(n.ports[0].ID, append(n.encapsulated(), []rteflow.Item{marked}))
	for _, id := range n.sharing {
		rules = append(rules, receive(id, n.encapsulated())...)
	}
	return rules
}

func receive(id uint16, patterns [][]rteflow.Item) []*ruleset.Rule {
	var rules []*ruleset.Rule
	for i, pattern := range patterns {
		owner := baseOwner(fmt.Sprintf("receive/%d", i))
		rules = append(rules, &ruleset.Rule{Port: id, Owner: owner, Spec: rteflow.Rule{
			Attr:    rteflow.Attr{Priority: uint32(nicgroup.BasePriority), Ingress: true},
			Pattern: pattern,
			Actions: []rteflow.Action{rteflow.Queue{Index: 0}},
		}})
	}
	return rules
}
