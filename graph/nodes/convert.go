// SPDX-License-Identifier: Apache-2.0

package nodes

/*
#include "control.h"
*/
import "C"

import (
	"bytes"
	"net/netip"
	"time"
	"unsafe"

	"dpservice/graph"
	"dpservice/wire"
)

func asMAC(m wire.MAC) C.struct_rte_ether_addr {
	return *(*C.struct_rte_ether_addr)(unsafe.Pointer(&m))
}

// putString writes a string that leaves room for the terminating zero.
func putString(dst []C.char, s string) {
	for i := range len(s) {
		dst[i] = C.char(s[i])
	}
}

func putBytes(dst []C.uint8_t, src []byte) {
	for i, b := range src {
		dst[i] = C.uint8_t(b)
	}
}

// putAddr writes an address's bytes; an invalid one has none.
func putAddr(dst []C.uint8_t, a netip.Addr) { putBytes(dst, a.AsSlice()) }

func asRoute(vni uint32, p netip.Prefix) C.struct_route {
	r := C.struct_route{vni: C.uint32_t(vni), len: C.uint8_t(p.Bits())}
	if p.Addr().Is6() {
		r.is_ipv6 = 1
	}
	putAddr(r.addr[:], p.Masked().Addr())
	return r
}

// viewOf is the same memory.
func viewOf(b []C.uint8_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), len(b))
}

func asAddr(b *[16]C.uint8_t, ipv6 bool) netip.Addr {
	a := *(*[16]byte)(unsafe.Pointer(b))
	if ipv6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

func asFlow(c *C.struct_flow_info) graph.Flow {
	f := asFlowOf(c)
	f.Verdict.Header = bytes.Clone(f.Verdict.Header)
	return f
}

// asFlowOf returns a flow whose header is c's.
func asFlowOf(c *C.struct_flow_info) graph.Flow {
	ipv6 := c.ipv6 != 0
	f := graph.Flow{
		ID: uint64(c.id),
		Key: graph.FlowKey{
			Interface: uint16(c.iface),
			Src:       asAddr(&c.src, ipv6),
			Dst:       asAddr(&c.dst, ipv6),
			Proto:     uint8(c.proto),
			SrcPort:   uint16(c.sport),
			DstPort:   uint16(c.dport),
		},
		VNI: uint32(c.vni),
		Verdict: graph.Verdict{
			Kind:   graph.VerdictKind(c.kind),
			InPort: uint16(c.in_port),
			TxPort: uint16(c.tx_port),
			Header: viewOf(c.header[:min(int(c.header_len), len(c.header))]),
			DecTTL: c.dec_ttl != 0,
		},
		State:     graph.FlowState(c.state),
		Offloaded: c.offloaded != 0,
		Packets:   uint64(c.packets),
		Bytes:     uint64(c.bytes),
		Idle:      time.Duration(c.idle_ns),
	}
	if c.wire != 0 {
		f.Key.Origin = graph.FromWire
		f.Tunnel = graph.Tunnel{Interface: f.Key.Interface, Underlay: asAddr(&c.outer, true)}
	}
	if c.from_peer != 0 {
		f.Tunnel.Peer = asAddr(&c.peer, true)
	}
	return f
}
