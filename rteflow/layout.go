// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#include <rte_flow.h>
*/
import "C"

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// layout is an item as its protocol's header lies on the wire: what rte_flow's own structs begin with, and what
// testpmd calls it.
type layout struct {
	kind   uint32
	name   string
	size   int // of the header in bytes
	fields []field
}

// field is a header's field with a condition. last is nil without a range.
type field struct {
	name             string
	offset           int
	spec, last, mask []byte
	text             func([]byte) string
	err              error
}

// codec puts a field's value into bytes and these into testpmd's notation.
type codec[T any] struct {
	put  func(T) ([]byte, error)
	text func([]byte) string
}

var (
	macCodec = codec[MAC]{
		func(m MAC) ([]byte, error) { return m[:], nil },
		func(b []byte) string { return net.HardwareAddr(b).String() },
	}
	byteCodec    = codec[uint8]{func(v uint8) ([]byte, error) { return []byte{v}, nil }, decimal}
	flagsCodec   = codec[uint8]{byteCodec.put, hexadecimal}
	numberCodec  = codec[uint16]{func(v uint16) ([]byte, error) { return binary.BigEndian.AppendUint16(nil, v), nil }, decimal}
	hexCodec     = codec[uint16]{numberCodec.put, hexadecimal}
	ipv4Codec    = codec[netip.Addr]{putIPv4, addrText}
	ipv6Codec    = codec[netip.Addr]{putIPv6, addrText}
	nativeUint16 = codec[uint16]{func(v uint16) ([]byte, error) { return binary.NativeEndian.AppendUint16(nil, v), nil }, nativeText}
	nativeUint32 = codec[uint32]{func(v uint32) ([]byte, error) { return binary.NativeEndian.AppendUint32(nil, v), nil }, nativeText}
)

// layoutOf says how the item is laid out; unknown items, which a caller can only make of pointers to items, have
// no name.
func layoutOf(it Item) layout {
	switch it := it.(type) {
	case Eth:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_ETH, "eth", 14,
			fieldOf("dst", 0, it.Dst, macCodec),
			fieldOf("src", 6, it.Src, macCodec),
			fieldOf("type", 12, it.Type, hexCodec))
	case IPv4:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_IPV4, "ipv4", 20,
			fieldOf("tos", 1, it.TOS, flagsCodec),
			fieldOf("fragment_offset", 6, it.FragmentOffset, hexCodec),
			fieldOf("ttl", 8, it.TTL, byteCodec),
			fieldOf("proto", 9, it.Proto, byteCodec),
			fieldOf("src", 12, it.Src, ipv4Codec),
			fieldOf("dst", 16, it.Dst, ipv4Codec))
	case IPv6:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_IPV6, "ipv6", 40,
			fieldOf("proto", 6, it.Proto, byteCodec),
			fieldOf("hop", 7, it.HopLimit, byteCodec),
			fieldOf("src", 8, it.Src, ipv6Codec),
			fieldOf("dst", 24, it.Dst, ipv6Codec))
	case TCP:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_TCP, "tcp", 20,
			fieldOf("src", 0, it.SrcPort, numberCodec),
			fieldOf("dst", 2, it.DstPort, numberCodec),
			fieldOf("flags", 13, it.Flags, flagsCodec))
	case UDP:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_UDP, "udp", 8,
			fieldOf("src", 0, it.SrcPort, numberCodec),
			fieldOf("dst", 2, it.DstPort, numberCodec))
	case ICMP:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_ICMP, "icmp", 8,
			fieldOf("type", 0, it.Type, byteCodec),
			fieldOf("code", 1, it.Code, byteCodec),
			fieldOf("ident", 4, it.Ident, numberCodec))
	case ICMP6:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_ICMP6, "icmp6", 4,
			fieldOf("type", 0, it.Type, byteCodec),
			fieldOf("code", 1, it.Code, byteCodec))
	case RepresentedPort:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT, "represented_port", 2,
			fieldOf("ethdev_port_id", 0, Is(it.Port), nativeUint16))
	case PortID:
		return newLayout(C.RTE_FLOW_ITEM_TYPE_PORT_ID, "port_id", 4,
			fieldOf("id", 0, Is(uint32(it.Port)), nativeUint32))
	default:
		return layout{}
	}
}

func newLayout(kind uint32, name string, size int, fields ...*field) layout {
	l := layout{kind: kind, name: name, size: size}
	for _, f := range fields {
		if f != nil {
			l.fields = append(l.fields, *f)
		}
	}
	return l
}

// fieldOf is nil if m does not look at the field.
func fieldOf[T any](name string, offset int, m *Match[T], c codec[T]) *field {
	if m == nil {
		return nil
	}
	f := &field{name: name, offset: offset, text: c.text}
	f.spec, f.err = c.put(m.Spec)
	f.mask = bytes.Repeat([]byte{0xff}, len(f.spec))
	if m.Mask != nil && f.err == nil {
		f.mask, f.err = c.put(*m.Mask)
	}
	if m.Last != nil && f.err == nil {
		f.last, f.err = c.put(*m.Last)
	}
	return f
}

// exact reports whether the field has one value only.
func (f *field) exact() bool {
	return f.last == nil && len(bytes.Trim(f.mask, "\xff")) == 0
}

func putIPv4(a netip.Addr) ([]byte, error) {
	if !a.Is4() {
		return nil, fmt.Errorf("%q is not an IPv4 address", a)
	}
	return a.AsSlice(), nil
}

func putIPv6(a netip.Addr) ([]byte, error) {
	if !a.Is6() {
		return nil, fmt.Errorf("%q is not an IPv6 address", a)
	}
	return a.AsSlice(), nil
}

func addrText(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

// bigEndian reads a number of any size.
func bigEndian(b []byte) (v uint64) {
	for _, octet := range b {
		v = v<<8 | uint64(octet)
	}
	return v
}

func decimal(b []byte) string     { return strconv.FormatUint(bigEndian(b), 10) }
func hexadecimal(b []byte) string { return fmt.Sprintf("0x%0*x", 2*len(b), bigEndian(b)) }

func nativeText(b []byte) string {
	if len(b) == 2 {
		return strconv.Itoa(int(binary.NativeEndian.Uint16(b)))
	}
	return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10)
}
