// SPDX-License-Identifier: Apache-2.0

package nic

import (
	"encoding/binary"
	"fmt"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// InnerTypes are the EtherTypes of what tunnels carry.
var InnerTypes = []uint16{wire.EtherTypeIPv4, wire.EtherTypeIPv6}

// ProtoOf matches the next header of an outer IPv6 header with a packet of this EtherType inside. net_mlx5 takes a
// pattern that names 4, IPv4's, for one of a tunnel, and refuses it. What it takes without that thought, and comes
// closest, are 0 and 4. A packet with 0, options for each hop, is so taken for one with 4: who sends it could as well
// have sent that.
func ProtoOf(inner uint16) *rteflow.Match[uint8] {
	if inner == wire.EtherTypeIPv6 {
		return rteflow.Is[uint8](wire.ProtoIPv6)
	}
	return rteflow.Masked[uint8](0, 0xfb)
}

// marked matches all frames with a mark, see graph.Mark.
var marked = rteflow.Eth{Src: rteflow.Masked(graph.Mark(0), graph.MarkMask)}

// Decapsulated matches what was decapsulated under a mark, by the EtherType of what was inside.
func Decapsulated(mark uint16, inner uint16) rteflow.Item {
	return rteflow.Eth{Src: rteflow.Is(graph.Mark(mark)), Type: rteflow.Is(inner)}
}

// tunnelOwner is the Owner of a tunnel's rule: the mark that it gives.
type tunnelOwner uint16

func (o tunnelOwner) String() string { return fmt.Sprintf("tunnel/%d", uint16(o)) }

// TunnelRule is a tunnel's rule: what comes by it from the wire, with a packet of this EtherType inside, is
// decapsulated, marked, and goes on to the flows' rules.
func (n *NIC) TunnelRule(mark uint16, t graph.Tunnel, inner uint16) *ruleset.Rule {
	uplink := n.ports[0]
	ip := rteflow.IPv6{Dst: rteflow.Is(t.Underlay), Proto: ProtoOf(inner)}
	if t.Peer.IsValid() {
		ip.Src = rteflow.Is(t.Peer)
	}
	return &ruleset.Rule{Port: uplink.ID, Owner: tunnelOwner(mark), Spec: rteflow.Rule{
		Attr:    InGroup(nicgroup.VNET, nicgroup.DecapsulatePriority),
		Pattern: []rteflow.Item{n.PortItem(uplink.ID), rteflow.Eth{}, ip},
		Actions: []rteflow.Action{
			rteflow.Count{}, rteflow.RawDecap{Data: tunnel()}, rteflow.RawEncap{Data: markedHeader(uplink, mark, inner)},
			JumpTo(nicgroup.Decapsulated),
		},
	}}
}

// tunnel is an Ethernet and an IPv6 header as raw_decap removes them: only their shapes matter.
func tunnel() []byte {
	header := make([]byte, wire.EthernetLen+wire.IPv6Len)
	binary.BigEndian.PutUint16(header[wire.EthernetLen-2:], wire.EtherTypeIPv6)
	header[wire.EthernetLen] = 6 << 4
	return header
}

// markedHeader is the Ethernet header of what is decapsulated under a mark.
func markedHeader(uplink port.Port, mark uint16, inner uint16) []byte {
	src := graph.Mark(mark)
	header := append(make([]byte, 0, wire.EthernetLen), uplink.MAC...)
	return binary.BigEndian.AppendUint16(append(header, src[:]...), inner)
}
