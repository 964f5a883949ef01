// SPDX-License-Identifier: Apache-2.0

// Package flow puts flows into the NIC: it makes rules of the packet graph's verdicts, and removes them when a flow
// has ended or aged.
package flow

import (
	"encoding/binary"
	"fmt"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/graph"
	"dpservice/rteflow"
)

// Protocol numbers.
const (
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoICMPv6   = 58
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

// Lengths of headers.
const (
	ethLen   = 14
	ipv6Len  = 40
	outerLen = ethLen + ipv6Len
)

// tcpControl are the flags SYN, FIN and RST. Packets that have one stay on the software path, which so sees how a
// connection stands.
const tcpControl = 0x07

// notFragment is where an IPv4 header says that the packet is a fragment.
const notFragment = 0x3fff

// Ports names ports in rules. A *nic.NIC is one.
type Ports interface {
	PortItem(id uint16) rteflow.Item
	PortAction(id uint16) rteflow.Action
}

// ruleFor makes the rule that does to a flow's packets what the graph would. What comes from the wire has been decapsulated, and bears
// the mark of the tunnel that it came by.
func ruleFor(ports Ports, f graph.Flow, mark uint16, timeout uint32) (rteflow.Rule, error) {
	layers, err := match(f.Key)
	if err != nil {
		return rteflow.Rule{}, err
	}
	group, eth := uint32(nicgroup.VNET), rteflow.Item(rteflow.Eth{Type: rteflow.Is(etherType(f.Key))})
	if f.Key.Origin == graph.FromWire {
		group, eth = nicgroup.Decapsulated, nic.Decapsulated(mark, etherType(f.Key))
	}
	rewrite, err := rewrite(f)
	if err != nil {
		return rteflow.Rule{}, err
	}
	return rteflow.Rule{
		Attr:    rteflow.Attr{Group: group, Priority: straightPriority, Transfer: true},
		Pattern: append([]rteflow.Item{ports.PortItem(f.Verdict.InPort), eth}, layers...),
		Actions: append(rewrite,
			rteflow.Age{Timeout: timeout, Context: f.ID}, rteflow.Count{}, ports.PortAction(f.Verdict.TxPort)),
	}, nil
}

// match is the pattern of the flow's own headers.
func match(k graph.FlowKey) ([]rteflow.Item, error) {
	l4, err := matchL4(k)
	if err != nil {
		return nil, err
	}
	if isIPv6(k) {
		return []rteflow.Item{rteflow.IPv6{Src: rteflow.Is(k.Src), Dst: rteflow.Is(k.Dst), Proto: rteflow.Is(k.Proto)}, l4}, nil
	}
	return []rteflow.Item{rteflow.IPv4{
		Src: rteflow.Is(k.Src), Dst: rteflow.Is(k.Dst), Proto: rteflow.Is(k.Proto),
		FragmentOffset: rteflow.Masked[uint16](0, notFragment),
	}, l4}, nil
}

func matchL4(k graph.FlowKey) (rteflow.Item, error) {
	icmpType := rteflow.Is(uint8(k.SrcPort >> 8))
	switch {
	case k.Proto == protoTCP:
		return rteflow.TCP{
			SrcPort: rteflow.Is(k.SrcPort), DstPort: rteflow.Is(k.DstPort), Flags: rteflow.Masked[uint8](0, tcpControl),
		}, nil
	case k.Proto == protoUDP:
		return rteflow.UDP{SrcPort: rteflow.Is(k.SrcPort), DstPort: rteflow.Is(k.DstPort)}, nil
	case k.Proto == protoICMP && !isIPv6(k):
		return rteflow.ICMP{Type: icmpType}, nil
	case k.Proto == protoICMPv6 && isIPv6(k):
		return rteflow.ICMP6{Type: icmpType}, nil
	default:
		return nil, fmt.Errorf("protocol %d of IPv%d is not offloaded", k.Proto, map[bool]int{false: 4, true: 6}[isIPv6(k)])
	}
}

// rewrite is what changes in the flow's packets.
func rewrite(f graph.Flow) ([]rteflow.Action, error) {
	v := f.Verdict
	var actions []rteflow.Action
	if v.DecTTL {
		actions = append(actions, rteflow.DecTTL{})
	}
	switch {
	case v.Kind == graph.Deliver && len(v.Header) == ethLen:
		macs := []rteflow.Action{
			rteflow.SetMACSrc{MAC: rteflow.MAC(v.Header[6:12])}, rteflow.SetMACDst{MAC: rteflow.MAC(v.Header[:6])},
		}
		return append(macs, actions...), nil
	case v.Kind == graph.Encap && len(v.Header) == outerLen && f.Key.Origin == graph.FromGuest:
		return append(actions, rteflow.RawDecap{Data: ethernet(etherType(f.Key))}, rteflow.RawEncap{Data: v.Header}), nil
	default:
		return nil, fmt.Errorf("no rule does verdict %d with a header of %d bytes", v.Kind, len(v.Header))
	}
}

// ethernet is an Ethernet header as raw_decap removes it: only its shape matters.
func ethernet(etherType uint16) []byte {
	return binary.BigEndian.AppendUint16(make([]byte, ethLen-2, outerLen), etherType)
}

func isIPv6(k graph.FlowKey) bool { return k.Src.Is6() }

func etherType(k graph.FlowKey) uint16 {
	if isIPv6(k) {
		return etherTypeIPv6
	}
	return etherTypeIPv4
}
