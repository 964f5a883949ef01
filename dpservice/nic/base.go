// SPDX-License-Identifier: Apache-2.0

package nic

import (
	"fmt"

	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// Protocol numbers of IPv4 and IPv6 within IPv6.
const (
	protoIPv4 = 4
	protoIPv6 = 41
)

// BasePatterns are the patterns of the rules which send a port's packets from the default group to the flows' rules:
// everything from a guest, and from the wire what is encapsulated. Each names its port.
func (n *NIC) BasePatterns(p port.Port) [][]rteflow.Item {
	if p.Role == port.VF {
		return [][]rteflow.Item{{n.PortItem(p.ID), rteflow.Eth{}}}
	}
	var patterns [][]rteflow.Item
	for _, pattern := range ipInIP() {
		patterns = append(patterns, append([]rteflow.Item{n.PortItem(p.ID)}, pattern...))
	}
	return patterns
}

func ipInIP() [][]rteflow.Item {
	return [][]rteflow.Item{
		{rteflow.Eth{}, rteflow.IPv6{Proto: rteflow.Is[uint8](protoIPv4)}},
		{rteflow.Eth{}, rteflow.IPv6{Proto: rteflow.Is[uint8](protoIPv6)}},
	}
}

// BaseRules are the operations that add the rules that stand whatever the flows are.
func (n *NIC) BaseRules() []ruleset.Op {
	var ops []ruleset.Op
	for _, p := range n.ports {
		for i, pattern := range n.BasePatterns(p) {
			ops = append(ops, ruleset.Add(p.ID, fmt.Sprintf("base/%d", i), rteflow.Rule{
				Attr:    rteflow.Attr{Group: GroupDefault, Priority: BasePriority, Transfer: true},
				Pattern: pattern,
				Actions: []rteflow.Action{rteflow.Jump{Group: GroupVNET}},
			}))
		}
		if n.lastHop == nil {
			ops = append(ops, n.lastHopRules(p)...)
		}
	}
	return append(ops, n.receiveRules()...)
}

// noHopLeft is how a TTL of 0 or 1 is matched.
var noHopLeft = rteflow.Masked[uint8](0, 0xfe)

// lastHopRules keep a guest's packets that have no hop left from the flows' rules: the software tells the sender. From the
// wire, the hop was counted by the sending hypervisor.
func (n *NIC) lastHopRules(p port.Port) []ruleset.Op {
	if p.Role != port.VF {
		return nil
	}
	var ops []ruleset.Op
	for i, ip := range []rteflow.Item{rteflow.IPv4{TTL: noHopLeft}, rteflow.IPv6{HopLimit: noHopLeft}} {
		ops = append(ops, ruleset.Add(p.ID, fmt.Sprintf("base/last_hop/%d", i), rteflow.Rule{
			Attr:    rteflow.Attr{Group: GroupVNET, Priority: lastHopPriority, Transfer: true},
			Pattern: []rteflow.Item{n.PortItem(p.ID), rteflow.Eth{}, ip},
			Actions: []rteflow.Action{rteflow.Jump{Group: GroupSoftware}},
		}))
	}
	return ops
}

// receiveRules hand what is encapsulated, and found no flow's rule, to the software, also where the kernel shares the
// uplink.
func (n *NIC) receiveRules() []ruleset.Op {
	var ops []ruleset.Op
	for i, pattern := range ipInIP() {
		ops = append(ops, ruleset.Add(n.ports[0].ID, fmt.Sprintf("base/receive/%d", i), rteflow.Rule{
			Attr:    rteflow.Attr{Priority: BasePriority, Ingress: true},
			Pattern: pattern,
			Actions: []rteflow.Action{rteflow.Queue{Index: 0}},
		}))
	}
	return ops
}
