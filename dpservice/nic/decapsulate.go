// SPDX-License-Identifier: Apache-2.0

package nic

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// EtherTypes of what is encapsulated.
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
)

var innerTypes = []uint16{typeIPv4, typeIPv6}

// Lengths of headers.
const (
	ethLen  = 14
	ipv6Len = 40
)

// protoIPv6 is the next header of IPv6 in IPv6.
const protoIPv6 = 41

// ProtoOf matches the next header of an outer IPv6 header with a packet of this EtherType inside. net_mlx5 takes a pattern that
// names 4, IPv4's, for one of a tunnel, and refuses it. What it takes without that thought, and comes closest, are 0 and 4.
// A packet with 0, options for each hop, is so taken for one with 4: who sends it could as well have sent that.
func ProtoOf(inner uint16) *rteflow.Match[uint8] {
	if inner == typeIPv6 {
		return rteflow.Is[uint8](protoIPv6)
	}
	return rteflow.Masked[uint8](0, 0xfb)
}

// marked matches all frames with a mark, see graph.Mark.
var marked = rteflow.Eth{Src: rteflow.Masked(rteflow.MAC(graph.Mark(0)), rteflow.MAC(graph.MarkMask))}

// Decapsulated matches what was decapsulated for the interface with this index, by the EtherType of what was inside.
func Decapsulated(index uint16, inner uint16) rteflow.Item {
	return rteflow.Eth{Src: rteflow.Is(rteflow.MAC(graph.Mark(index))), Type: rteflow.Is(inner)}
}

// InterfaceRules are the operations that add an interface's own rules: what comes from the wire for its underlay address is
// decapsulated, marked as the interface's, and goes on to the flows' rules.
func (n *NIC) InterfaceRules(index uint16, underlay netip.Addr) []ruleset.Op {
	uplink := n.ports[0]
	var ops []ruleset.Op
	for i, inner := range innerTypes {
		ops = append(ops, ruleset.Add(uplink.ID, interfaceRule(index, i), rteflow.Rule{
			Attr:    rteflow.Attr{Group: GroupVNET, Priority: decapsulatePriority, Transfer: true},
			Pattern: []rteflow.Item{n.PortItem(uplink.ID), rteflow.Eth{}, rteflow.IPv6{Dst: rteflow.Is(underlay), Proto: ProtoOf(inner)}},
			Actions: []rteflow.Action{
				rteflow.Count{}, rteflow.RawDecap{Data: tunnel()}, rteflow.RawEncap{Data: markedHeader(uplink, index, inner)},
				rteflow.Jump{Group: GroupDecapsulated},
			},
		}))
	}
	return ops
}

func interfaceRule(index uint16, i int) string { return fmt.Sprintf("interface/%d/%d", index, i) }

// RemoveInterfaceRules are the operations that remove those of an interface's rules that stand.
func (n *NIC) RemoveInterfaceRules(index uint16, stands func(port uint16, name string) bool) []ruleset.Op {
	var ops []ruleset.Op
	for i := range innerTypes {
		if name := interfaceRule(index, i); stands(n.ports[0].ID, name) {
			ops = append(ops, ruleset.Remove(n.ports[0].ID, name))
		}
	}
	return ops
}

// tunnel is an Ethernet and an IPv6 header as raw_decap removes them: only their shapes matter.
func tunnel() []byte {
	header := make([]byte, ethLen+ipv6Len)
	binary.BigEndian.PutUint16(header[ethLen-2:], typeIPv6)
	header[ethLen] = 6 << 4
	return header
}

// markedHeader is the Ethernet header of what is decapsulated for an interface.
func markedHeader(uplink port.Port, index uint16, inner uint16) []byte {
	mark := graph.Mark(index)
	header := append(make([]byte, 0, ethLen), uplink.MAC...)
	return binary.BigEndian.AppendUint16(append(header, mark[:]...), inner)
}
