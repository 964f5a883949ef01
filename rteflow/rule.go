// SPDX-License-Identifier: Apache-2.0

// Package rteflow is rte_flow in Go: rules as values, and the calls that put them into a NIC.
//
// Field values are in host byte order; addresses and MACs are byte strings in network order. See the DPDK
// programmer's guide, "Generic flow API (rte_flow)", for the meaning of items and actions.
package rteflow

import (
	"net/netip"

	"dpservice/wire"
)

// Attr is where a rule applies: its group, priority and domain. A lower Priority value is matched first.
type Attr struct {
	Group    uint32
	Priority uint32
	Ingress  bool
	Egress   bool
	Transfer bool
}

// Domain is the rule's domain: transfer, egress or ingress.
func (a Attr) Domain() string {
	switch {
	case a.Transfer:
		return "transfer"
	case a.Egress:
		return "egress"
	default:
		return "ingress"
	}
}

// Rule is one flow rule: a packet that matches every item of Pattern undergoes Actions in order.
type Rule struct {
	Attr
	Pattern []Item
	Actions []Action
	Maker   Maker // if not nil, it makes Pattern and Actions, which are nil then
}

// Whole returns the rule with its Pattern and Actions.
func (r Rule) Whole() Rule {
	if r.Maker != nil {
		return r.Maker.MakeSpec()
	}
	return r
}

// Item is one protocol layer or meta item of a pattern. The set of items is closed.
type Item interface{ item() }

// Action is one thing done to a packet that matches. The set of actions is closed.
type Action interface{ action() }

// Match is a field's condition: (packet & Mask) == (Spec & Mask). A nil Mask is all ones; with Last set the field
// lies within Spec..Last. A nil *Match does not look at the field.
type Match[T any] struct {
	Spec T
	Last *T
	Mask *T
}

// Is matches exactly v.
func Is[T any](v T) *Match[T] { return &Match[T]{Spec: v} }

// Masked matches v under mask.
func Masked[T any](v, mask T) *Match[T] { return &Match[T]{Spec: v, Mask: &mask} }

// The pattern items.
type (
	// Eth is an Ethernet header; Type is the EtherType. HasVLAN is 1 if a VLAN tag follows, and has but this bit.
	Eth struct {
		Src, Dst *Match[wire.MAC]
		Type     *Match[uint16]
		HasVLAN  *Match[uint8]
	}
	// VLAN is an 802.1Q or 802.1ad tag: TCI is priority, DEI and the 12-bit VLAN ID, InnerType the EtherType behind.
	VLAN struct {
		TCI, InnerType *Match[uint16]
	}
	// IPv4 is an IPv4 header; FragmentOffset is the 16-bit word with the fragment flags.
	IPv4 struct {
		Src, Dst       *Match[netip.Addr]
		TOS            *Match[uint8]
		TTL            *Match[uint8]
		Proto          *Match[uint8]
		FragmentOffset *Match[uint16]
	}
	// IPv6 is an IPv6 header; Proto is its next-header field, FlowLabel has 20 bits.
	IPv6 struct {
		Src, Dst  *Match[netip.Addr]
		FlowLabel *Match[uint32]
		Proto     *Match[uint8]
		HopLimit  *Match[uint8]
	}
	// TCP is a TCP header; Flags is the byte with FIN as its lowest bit (RFC 9293).
	TCP struct {
		SrcPort, DstPort *Match[uint16]
		Flags            *Match[uint8]
	}
	// UDP is a UDP header.
	UDP struct {
		SrcPort, DstPort *Match[uint16]
	}
	// ICMP is an ICMPv4 header.
	ICMP struct {
		Type, Code *Match[uint8]
		Ident      *Match[uint16]
	}
	// ICMP6 is an ICMPv6 header.
	ICMP6 struct {
		Type, Code *Match[uint8]
	}
	// VXLAN is a VXLAN header; VNI has 24 bits.
	VXLAN struct {
		VNI *Match[uint32]
	}
	// Mark matches the number that a SetMark action gave the packet.
	Mark struct {
		ID *Match[uint32]
	}
	// Tag matches the packet's tag register of this Index.
	Tag struct {
		Data  *Match[uint32]
		Index uint8
	}
	// Meta matches the packet's metadata.
	Meta struct {
		Data *Match[uint32]
	}
	// RepresentedPort matches packets that come from behind the ethdev (the guest, the wire).
	RepresentedPort struct{ Port uint16 }
	// PortID is RepresentedPort's older name for drivers that refuse it.
	PortID struct{ Port uint16 }
	// AnyPort is represented_port without a port: it matches packets that come from behind any ethdev of the switch.
	// Without it, a rule is for the ethdev that it is created on.
	AnyPort struct{}
	// AnyPortID is port_id without a port, which rte_flow says is the same. To net_mlx5, which takes AnyPort, it is the
	// ethdev that the rule is created on.
	AnyPortID struct{}
)

func (Eth) item()             {}
func (VLAN) item()            {}
func (IPv4) item()            {}
func (IPv6) item()            {}
func (TCP) item()             {}
func (UDP) item()             {}
func (ICMP) item()            {}
func (ICMP6) item()           {}
func (VXLAN) item()           {}
func (Mark) item()            {}
func (Tag) item()             {}
func (Meta) item()            {}
func (RepresentedPort) item() {}
func (PortID) item()          {}
func (AnyPort) item()         {}
func (AnyPortID) item()       {}

// The actions.
type (
	// Jump continues matching in Group.
	Jump struct{ Group uint32 }
	// Sample duplicates one packet in Ratio and does Actions to the copy.
	Sample struct {
		Ratio   uint32
		Actions []Action
	}
	// RawEncap prepends Data, at most MaxRawEncap bytes, to the packet.
	RawEncap struct{ Data []byte }
	// RawDecap removes a header of Data's length and layers from the packet.
	RawDecap struct{ Data []byte }
	// SetMACSrc rewrites the Ethernet source address.
	SetMACSrc struct{ MAC wire.MAC }
	// SetMACDst rewrites the Ethernet destination address.
	SetMACDst struct{ MAC wire.MAC }
	// SetIPv4Src rewrites the source address of the outermost IPv4 header.
	SetIPv4Src struct{ Addr netip.Addr }
	// SetIPv4Dst rewrites the destination address of the outermost IPv4 header.
	SetIPv4Dst struct{ Addr netip.Addr }
	// SetIPv6Src rewrites the source address of the outermost IPv6 header.
	SetIPv6Src struct{ Addr netip.Addr }
	// SetIPv6Dst rewrites the destination address of the outermost IPv6 header.
	SetIPv6Dst struct{ Addr netip.Addr }
	// SetTPSrc rewrites the source port of the outermost TCP or UDP header.
	SetTPSrc struct{ Port uint16 }
	// SetTPDst rewrites the destination port of the outermost TCP or UDP header.
	SetTPDst struct{ Port uint16 }
	// PopVLAN removes the outermost VLAN tag.
	PopVLAN struct{}
	// PushVLAN adds an outermost VLAN tag of this type, with VLAN ID and priority 0.
	PushVLAN struct{ EtherType uint16 }
	// SetMark gives the packet a number, which Mark matches and the application finds in the mbuf.
	SetMark struct{ ID uint32 }
	// SetTag writes the bits of Data under Mask to the packet's tag register of this Index, which Tag matches.
	SetTag struct {
		Data, Mask uint32
		Index      uint8
	}
	// SetMeta writes the bits of Data under Mask to the packet's metadata, which Meta matches.
	SetMeta struct{ Data, Mask uint32 }
	// DecTTL decrements the TTL or hop limit.
	DecTTL struct{}
	// Age reports the rule as aged after Timeout seconds without a packet. Context comes back from Aged.
	Age struct {
		Timeout uint32
		Context uint64
	}
	// Count counts packets and bytes; Query reads it.
	Count struct{}
	// Indirect is an action that CreateIndirect made and that rules share.
	Indirect struct {
		ID     uint32 // what testpmd's syntax calls it; nothing to the NIC
		Handle IndirectHandle
	}
	// Drop drops the packet.
	Drop struct{}
	// Queue hands the packet to an RX queue of the port (ingress rules).
	Queue struct{ Index uint16 }
	// ToRepresentedPort sends the packet to what is behind the ethdev (the guest, the wire).
	ToRepresentedPort struct{ Port uint16 }
	// ToPortID is ToRepresentedPort's older name for drivers that refuse it.
	ToPortID struct{ Port uint16 }
)

func (Jump) action()              {}
func (Sample) action()            {}
func (RawEncap) action()          {}
func (RawDecap) action()          {}
func (SetMACSrc) action()         {}
func (SetMACDst) action()         {}
func (SetIPv4Src) action()        {}
func (SetIPv4Dst) action()        {}
func (SetIPv6Src) action()        {}
func (SetIPv6Dst) action()        {}
func (SetTPSrc) action()          {}
func (SetTPDst) action()          {}
func (PopVLAN) action()           {}
func (PushVLAN) action()          {}
func (SetMark) action()           {}
func (SetTag) action()            {}
func (SetMeta) action()           {}
func (DecTTL) action()            {}
func (Age) action()               {}
func (Count) action()             {}
func (Indirect) action()          {}
func (Drop) action()              {}
func (Queue) action()             {}
func (ToRepresentedPort) action() {}
func (ToPortID) action()          {}

// Counters are what a rule's Count action has seen.
type Counters struct {
	Packets uint64
	Bytes   uint64
}

// Plus is the sum of both.
func (c Counters) Plus(d Counters) Counters {
	return Counters{Packets: c.Packets + d.Packets, Bytes: c.Bytes + d.Bytes}
}
