// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"net/netip"
	"time"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/wire"
)

// compact holds what a flow's rule is made from. It has no pointers, so that the garbage collector does not scan it:
// there are many of them.
type compact struct {
	id       uint64
	vni      uint32
	src, dst [16]byte
	srcPort  uint16
	dstPort  uint16
	in, out  uint16 // ports
	iface    uint16 // index
	mark     uint16 // of the tunnel, for a flow from the wire
	proto    uint8
	origin   graph.Origin
	kind     graph.VerdictKind
	ipv6     bool
	decTTL   bool
	length   uint8 // of header, in bytes
	header   [outerLen]byte
}

func compactOf(f *graph.Flow) compact {
	c := compact{
		id: f.ID, vni: f.VNI, src: f.Key.Src.As16(), dst: f.Key.Dst.As16(), srcPort: f.Key.SrcPort, dstPort: f.Key.DstPort,
		in: f.Verdict.InPort, out: f.Verdict.TxPort, iface: f.Key.Interface, proto: f.Key.Proto, origin: f.Key.Origin,
		kind: f.Verdict.Kind, ipv6: isIPv6(f.Key), decTTL: f.Verdict.DecTTL,
	}
	c.length = uint8(copy(c.header[:], f.Verdict.Header))
	return c
}

// holder is what the flow counts to.
func (c *compact) holder() holder {
	if c.origin == graph.FromWire {
		return holder{c.out, graph.FromWire}
	}
	return holder{c.in, graph.FromGuest}
}

// address is one of the flow's.
func (c *compact) address(b [16]byte) netip.Addr {
	if c.ipv6 {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom16(b).Unmap()
}

// flow returns the flow, with the fields that its rule is made from only.
func (c *compact) flow() graph.Flow {
	return graph.Flow{
		ID: c.id,
		Key: graph.FlowKey{
			Origin: c.origin, Interface: c.iface, Src: c.address(c.src), Dst: c.address(c.dst), Proto: c.proto,
			SrcPort: c.srcPort, DstPort: c.dstPort,
		},
		Verdict: graph.Verdict{
			Kind: c.kind, InPort: c.in, TxPort: c.out, DecTTL: c.decTTL, Header: c.header[:c.length],
		},
	}
}

// shape is what decides which items and actions a flow's rule has. Rules of one shape differ in values only.
type shape struct {
	origin graph.Origin
	kind   graph.VerdictKind
	out    uint16 // the uplink; 0 if the rule leads to a guest
	proto  uint8
	ipv6   bool
	decTTL bool
	length uint8 // of the header
}

func (c *compact) shape() shape {
	s := shape{c.origin, c.kind, 0, c.proto, c.ipv6, c.decTTL, c.length}
	if c.kind != graph.Deliver {
		s.out = c.out
	}
	return s
}

// The items of a flow's rule, see ruleFor.
const (
	portItem = iota
	ethItem
	ipItem
	l4Item
)

// Fill puts the flow's values into a rule of its shape.
func (c *compact) Fill(v rteflow.Values) {
	v.SetPort(portItem, c.in)
	if c.origin == graph.FromWire {
		mark := graph.Mark(c.mark)
		copy(v.Header(ethItem)[6:], mark[:])
	}
	if ip := v.Header(ipItem); c.ipv6 {
		copy(ip[8:], c.src[:])
		copy(ip[24:], c.dst[:])
	} else {
		copy(ip[12:], c.src[12:])
		copy(ip[16:], c.dst[12:])
	}
	if l4 := v.Header(l4Item); c.proto == wire.ProtoTCP || c.proto == wire.ProtoUDP {
		binary.BigEndian.PutUint16(l4, c.srcPort)
		binary.BigEndian.PutUint16(l4[2:], c.dstPort)
	} else {
		l4[0] = uint8(c.srcPort >> 8) // the type of ICMP
	}
	c.fillActions(v)
}

func (c *compact) fillActions(v rteflow.Values) {
	ttl := 0 // or 1: the number of DecTTL actions
	if c.decTTL {
		ttl = 1
	}
	if c.kind != graph.Deliver {
		copy(v.Data(ttl+1), c.header[:c.length])
		v.SetAge(ttl+2, c.id)
		return
	}
	copy(v.Data(0), c.header[6:12])
	copy(v.Data(1), c.header[:6])
	v.SetAge(2+ttl, c.id)
	v.SetJump(4+ttl, uint32(nicgroup.Delivery(c.out)))
}

// templateOf returns the template of a flow's rule.
func (m *Manager) templateOf(c *compact) (*rteflow.Template, error) {
	s := c.shape()
	if t := m.templates[s]; t != nil {
		return t, nil
	}
	spec, err := m.specOf(c)
	if err != nil {
		return nil, err
	}
	t, err := rteflow.NewTemplate(spec)
	if err != nil {
		return nil, err
	}
	m.templates[s] = t
	return t, nil
}

// specOf makes the flow's rule.
func (m *Manager) specOf(c *compact) (rteflow.Rule, error) {
	return ruleFor(m.cfg.NIC, c.flow(), c.mark, uint32(m.cfg.Timeout/time.Second))
}
