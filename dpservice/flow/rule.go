// SPDX-License-Identifier: Apache-2.0

// Package flow puts flows into the NIC: it makes rules of the packet graph's verdicts, and removes them when a flow
// has ended or aged.
package flow

import (
	"encoding/binary"
	"fmt"

	"dpservice/dpservice/nic"
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

// fragmentBits is where an IPv4 header says that the packet is a fragment.
const fragmentBits = 0x3fff

// Ports names ports in rules. A *nic.NIC is one.
type Ports interface {
	PortItem(id uint16) rteflow.Item
	PortAction(id uint16) rteflow.Action
}

// ruleFor makes the rule that does to a flow's packets what the graph would. What comes from the wire has been
// decapsulated, and bears the mark of the tunnel that it came by.
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
		Attr:    attrOf(f.Key.Origin, 0),
		Pattern: []rteflow.Item{ports.PortItem(f.Verdict.InPort), eth, ip, l4},
		Actions: append(actions,
			rteflow.Age{Timeout: timeout, Context: f.ID}, rteflow.Count{}, ports.PortAction(f.Verdict.TxPort)),
	}, nil
}

// What many rules have in common is made once: nobody changes it.
var (
	guestEth = map[bool]rteflow.Item{
		false: rteflow.Eth{Type: rteflow.Is[uint16](etherTypeIPv4)},
		true:  rteflow.Eth{Type: rteflow.Is[uint16](etherTypeIPv6)},
	}
	isProto = map[uint8]*rteflow.Match[uint8]{
		protoICMP: rteflow.Is[uint8](protoICMP), protoTCP: rteflow.Is[uint8](protoTCP), protoUDP: rteflow.Is[uint8](protoUDP),
		protoICMPv6: rteflow.Is[uint8](protoICMPv6),
	}
	isWhole   = rteflow.Masked[uint16](0, fragmentBits)
	noControl = rteflow.Masked[uint8](0, tcpControl)
	rawDecap  = map[bool]rteflow.Action{
		false: rteflow.RawDecap{Data: ethernet(etherTypeIPv4)}, true: rteflow.RawDecap{Data: ethernet(etherTypeIPv6)},
	}
)

// match is the items of the flow's own headers.
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
	case k.Proto == protoTCP:
		return rteflow.TCP{SrcPort: rteflow.Is(k.SrcPort), DstPort: rteflow.Is(k.DstPort), Flags: noControl}, nil
	case k.Proto == protoUDP:
		return rteflow.UDP{SrcPort: rteflow.Is(k.SrcPort), DstPort: rteflow.Is(k.DstPort)}, nil
	case k.Proto == protoICMP && !isIPv6(k):
		return rteflow.ICMP{Type: rteflow.Is(uint8(k.SrcPort >> 8))}, nil
	case k.Proto == protoICMPv6 && isIPv6(k):
		return rteflow.ICMP6{Type: rteflow.Is(uint8(k.SrcPort >> 8))}, nil
	default:
		return nil, fmt.Errorf("protocol %d of IPv%d is not offloaded", k.Proto, map[bool]int{false: 4, true: 6}[isIPv6(k)])
	}
}

// mostActions is how many a rule has at most.
const mostActions = 6

// rewrite is what changes in the flow's packets, with room for the actions that follow.
func rewrite(f graph.Flow) ([]rteflow.Action, error) {
	v := f.Verdict
	actions := make([]rteflow.Action, 0, mostActions)
	switch {
	case v.Kind == graph.Deliver && len(v.Header) == ethLen:
		actions = append(actions,
			rteflow.SetMACSrc{MAC: rteflow.MAC(v.Header[6:12])}, rteflow.SetMACDst{MAC: rteflow.MAC(v.Header[:6])})
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
