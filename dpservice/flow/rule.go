// SPDX-License-Identifier: Apache-2.0

// Package flow offloads flows to the NIC: it makes a rule from the packet graph's verdict on a flow, and removes the
// rule when the flow has ended or aged.
package flow

import (
	"encoding/binary"
	"fmt"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/tunnel"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// rule is an offloaded flow, and its rule in the NIC, whose Owner it is. There are many: it has just the size of one of
// the allocator's classes.
type rule struct {
	compact
	ruleset.Rule
	template *rteflow.Template
	by       *tunnel.Key // nil: from a guest
	share    *share      // that it counts to
	place    int32       // in the share, or dropped
	aged     bool        // the NIC has told so
	ending   bool        // it is in the batch that is about to be removed
}

// newRule returns the rule that a flow may get.
func newRule(f *graph.Flow) *rule {
	r := &rule{compact: compactOf(f)}
	if f.Key.Origin == graph.FromWire {
		r.by = &tunnel.Key{Tunnel: f.Tunnel, Inner: etherType(f.Key)}
	}
	return r
}

// dropped is the place of a rule that is not in the NIC any more.
const dropped = -1

func (r *rule) isDropped() bool { return r.place == dropped }

// String names the rule.
func (r *rule) String() string { return fmt.Sprintf("flow/%x", r.id) }

// MakeSpec makes the whole rule: neither package ruleset nor the flow keeps it.
func (r *rule) MakeSpec() rteflow.Rule {
	spec, err := r.share.flows.specOf(&r.compact)
	if err != nil {
		panic(err) // the template is of such a rule
	}
	return spec
}

// Template is that of all rules of the shape.
func (r *rule) Template() *rteflow.Template { return r.template }

// outerLen is the length in bytes of the outer headers of a packet between two hypervisors.
const outerLen = wire.EthernetLen + wire.IPv6Len

// tcpControl are the flags SYN, FIN and RST. Packets with any of them take the software path, which tracks the state of
// the connection.
const tcpControl = 0x07

// Ports makes the items and actions that name a port in a rule. *nic.NIC implements it.
type Ports interface {
	PortItem(id uint16) rteflow.Item
	PortAction(id uint16) rteflow.Action
}

// ruleFor makes the rule that does the same to a flow's packets as the graph. Packets from the wire have already been
// decapsulated by another rule, and carry the mark of their tunnel. timeout is in seconds.
func ruleFor(ports Ports, f graph.Flow, mark uint16, timeout uint32) (rteflow.Rule, error) {
	ip, l4, err := match(f.Key)
	if err != nil {
		return rteflow.Rule{}, err
	}
	eth := guestEth[isIPv6(f.Key)]
	if f.Key.Origin == graph.FromWire {
		eth = nic.Decapsulated(mark, etherType(f.Key))
	}
	actions, err := rewrite(f)
	if err != nil {
		return rteflow.Rule{}, err
	}
	return rteflow.Rule{
		Attr:    attrOf(f.Key.Origin),
		Pattern: []rteflow.Item{ports.PortItem(f.Verdict.InPort), eth, ip, l4},
		Actions: append(actions, rteflow.Age{Timeout: timeout, Context: f.ID}, rteflow.Count{}, fate(ports, f.Verdict)),
	}, nil
}

// attrOf is where a flow's rule is.
func attrOf(origin graph.Origin) rteflow.Attr {
	group := nicgroup.VNET
	if origin == graph.FromWire {
		group = nicgroup.Decapsulated
	}
	return nic.InGroup(group, nicgroup.FlowPriority)
}

// fate sends the packets to the uplink, or to the group where captures find what a guest receives.
func fate(ports Ports, v graph.Verdict) rteflow.Action {
	if v.Kind == graph.Deliver {
		return nic.JumpTo(nicgroup.Delivery(v.TxPort))
	}
	return ports.PortAction(v.TxPort)
}

// Items and actions that many rules share. They must not be changed.
var (
	guestEth = map[bool]rteflow.Item{
		false: rteflow.Eth{Type: rteflow.Is[uint16](wire.EtherTypeIPv4)},
		true:  rteflow.Eth{Type: rteflow.Is[uint16](wire.EtherTypeIPv6)},
	}
	isProto = map[uint8]*rteflow.Match[uint8]{
		wire.ProtoICMP: rteflow.Is[uint8](wire.ProtoICMP), wire.ProtoTCP: rteflow.Is[uint8](wire.ProtoTCP),
		wire.ProtoUDP:    rteflow.Is[uint8](wire.ProtoUDP),
		wire.ProtoICMPv6: rteflow.Is[uint8](wire.ProtoICMPv6),
	}
	isWhole   = rteflow.Masked[uint16](0, wire.IPv4FragmentMask)
	noControl = rteflow.Masked[uint8](0, tcpControl)
	rawDecap  = map[bool]rteflow.Action{
		false: rteflow.RawDecap{Data: ethernet(wire.EtherTypeIPv4)},
		true:  rteflow.RawDecap{Data: ethernet(wire.EtherTypeIPv6)},
	}
)

// match returns the items that match the flow's own headers.
func match(k graph.FlowKey) (ip, l4 rteflow.Item, err error) {
	l4, err = matchL4(k)
	if err != nil {
		return nil, nil, err
	}
	if isIPv6(k) {
		return rteflow.IPv6{Src: rteflow.Is(k.Src), Dst: rteflow.Is(k.Dst), Proto: isProto[k.Proto]}, l4, nil
	}
	return rteflow.IPv4{
		Src: rteflow.Is(k.Src), Dst: rteflow.Is(k.Dst), Proto: isProto[k.Proto], FragmentOffset: isWhole,
	}, l4, nil
}

func matchL4(k graph.FlowKey) (rteflow.Item, error) {
	switch {
	case k.Proto == wire.ProtoTCP:
		return rteflow.TCP{SrcPort: rteflow.Is(k.SrcPort), DstPort: rteflow.Is(k.DstPort), Flags: noControl}, nil
	case k.Proto == wire.ProtoUDP:
		return rteflow.UDP{SrcPort: rteflow.Is(k.SrcPort), DstPort: rteflow.Is(k.DstPort)}, nil
	case k.Proto == wire.ProtoICMP && !isIPv6(k):
		return rteflow.ICMP{Type: rteflow.Is(uint8(k.SrcPort >> 8))}, nil
	case k.Proto == wire.ProtoICMPv6 && isIPv6(k):
		return rteflow.ICMP6{Type: rteflow.Is(uint8(k.SrcPort >> 8))}, nil
	default:
		return nil, fmt.Errorf("protocol %d of IPv%d is not offloaded", k.Proto, map[bool]int{false: 4, true: 6}[isIPv6(k)])
	}
}

// maxActions is the largest number of actions in a rule.
const maxActions = 6

// rewrite returns the actions that change the flow's packets. The slice has capacity for the actions that follow.
func rewrite(f graph.Flow) ([]rteflow.Action, error) {
	v := f.Verdict
	actions := make([]rteflow.Action, 0, maxActions)
	switch {
	case v.Kind == graph.Deliver && len(v.Header) == wire.EthernetLen:
		actions = append(actions,
			rteflow.SetMACSrc{MAC: wire.MAC(v.Header[6:12])}, rteflow.SetMACDst{MAC: wire.MAC(v.Header[:6])})
		if v.DecTTL {
			actions = append(actions, rteflow.DecTTL{})
		}
		return actions, nil
	case v.Kind == graph.Encap && len(v.Header) == outerLen && f.Key.Origin == graph.FromGuest:
		if v.DecTTL {
			actions = append(actions, rteflow.DecTTL{})
		}
		return append(actions, rawDecap[isIPv6(f.Key)], rteflow.RawEncap{Data: v.Header}), nil
	default:
		return nil, fmt.Errorf("no rule does verdict %d with a header of %d bytes", v.Kind, len(v.Header))
	}
}

// ethernet returns an Ethernet header for raw_decap to remove: only its length and its type matter.
func ethernet(etherType uint16) []byte {
	return binary.BigEndian.AppendUint16(make([]byte, wire.EthernetLen-2, outerLen), etherType)
}

func isIPv6(k graph.FlowKey) bool { return k.Src.Is6() }

func etherType(k graph.FlowKey) uint16 {
	if isIPv6(k) {
		return wire.EtherTypeIPv6
	}
	return wire.EtherTypeIPv4
}
