// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"time"

	"dpservice/graph"
	"dpservice/rteflow"
)

// compact holds what a flow's rule is made from. It has no pointers, so that the garbage collector does not scan it:
// there are many of them.
type compact struct {
	id       uint64
	src, dst [16]byte
	srcPort  uint16
	dstPort  uint16
	in, out  uint16 // ports
	mark     uint16 // of the tunnel, for a flow from the wire
	proto    uint8
	origin   graph.Origin
	kind     graph.VerdictKind
	ipv6     bool
	decTTL   bool
	length   uint8 // of header, in bytes
	header   [outerLen]byte
}

func compactOf(f *graph.Flow, mark uint16) compact {
	c := compact{
		id: f.ID, src: f.Key.Src.As16(), dst: f.Key.Dst.As16(), srcPort: f.Key.SrcPort, dstPort: f.Key.DstPort,
		in: f.Verdict.InPort, out: f.Verdict.TxPort, mark: mark, proto: f.Key.Proto, origin: f.Key.Origin,
		kind: f.Verdict.Kind, ipv6: isIPv6(f.Key), decTTL: f.Verdict.DecTTL,
	}
	c.length = uint8(copy(c.header[:], f.Verdict.Header))
	return c
}

// flow returns the flow, with the fields that its rule is made from only.
func (c *compact) flow() graph.Flow {
	address := func(b [16]byte) netip.Addr {
		if c.ipv6 {
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom16(b).Unmap()
	}
	return graph.Flow{
		ID: c.id,
		Key: graph.FlowKey{
			Origin: c.origin, Src: address(c.src), Dst: address(c.dst), Proto: c.proto, SrcPort: c.srcPort, DstPort: c.dstPort,
		},
		Verdict: graph.Verdict{
			Kind: c.kind, InPort: c.in, TxPort: c.out, DecTTL: c.decTTL, Header: c.header[:c.length],
		},
	}
}

// specOf makes the flow's rule.
func (m *Manager) specOf(c *compact) (rteflow.Rule, error) {
	return ruleFor(m.cfg.NIC, c.flow(), c.mark, uint32(m.cfg.Timeout/time.Second))
}
