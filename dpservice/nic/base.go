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

// BaseRules are the operations that add the rules of the default group.
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
	}
	return append(ops, n.receiveRules()...)
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
