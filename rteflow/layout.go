// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#include <rte_flow.h>
#include "flow.h"
*/
import "C"

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"dpservice/wire"
)

// hasVLANOffset is where struct rte_flow_item_eth has the bit: the compilers of little-endian machines put it right
// behind the header, into the lowest bit.
const hasVLANOffset = 14

// headerRoom is what each of an item's spec, mask and last has in an encoder.
const headerRoom = C.RF_ROOM

// layout is an item as its protocol's header lies on the wire: what rte_flow's own structs begin with, and what
// testpmd calls it.
type layout struct {
	room       []byte // 3 * headerRoom zeros, given by the owner: for spec, mask and last
	texts      bool   // whether to collect fields, for text; encoding a rule does without, and allocates nothing
	kind       uint32
	name       string // empty: not an item of this package
	size       int    // of the header in bytes
	conditions int    // the number of fields that the item looks at
	lasts      uint64 // the bytes of the fields that have a last, as bits
	err        error  // of the first field that is invalid
	fields     []field
}

// newLayout describes the item with its fields.
func newLayout(it Item) *layout {
	l := &layout{room: make([]byte, 3*headerRoom), texts: true}
	l.describe(it)
	return l
}

// ranged says whether last means something.
func (l *layout) ranged() bool { return l.lasts != 0 }

func (l *layout) spec() []byte { return l.room[:l.size] }
func (l *layout) mask() []byte { return l.room[headerRoom:][:l.size] }
func (l *layout) last() []byte { return l.room[2*headerRoom:][:l.size] }

// field is a header's field with a condition.
type field struct {
	name         string
	offset, size int
	ranged       bool
	full         []byte // the mask that looks at all of the field
	text         func([]byte) string
	err          error
}

// codec puts a field's value into bytes and these into testpmd's notation.
type codec[T any] struct {
	full []byte // the mask that looks at all of the field, of its size
	put  func([]byte, T) error
	text func([]byte) string
}

// ones are a mask of n bytes.
func ones(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }

var (
	macCodec    = codec[wire.MAC]{ones(6), putMAC, func(b []byte) string { return net.HardwareAddr(b).String() }}
	byteCodec   = codec[uint8]{ones(1), putByte, decimal}
	bitCodec    = codec[uint8]{[]byte{1}, putByte, decimal}
	flagsCodec  = codec[uint8]{ones(1), putByte, hexadecimal}
	numberCodec = codec[uint16]{ones(2), putUint16, decimal}
	hexCodec    = codec[uint16]{ones(2), putUint16, hexadecimal}
	vniCodec    = codec[uint32]{ones(3), putUint24, decimal}
	labelCodec  = codec[uint32]{[]byte{0x0f, 0xff, 0xff}, putUint20, decimal}
	ipv4Codec   = codec[netip.Addr]{ones(4), putIPv4, addrText}
	ipv6Codec   = codec[netip.Addr]{ones(16), putIPv6, addrText}
	// What is not from a packet is in the CPU's byte order.
	nativeUint16 = codec[uint16]{ones(2), putNative16, nativeText}
	nativeUint32 = codec[uint32]{ones(4), putNative32, nativeText}
)

// describe makes l, which is new, the item's layout. Unknown items, which a caller can only make of pointers to items,
// get no name.
func (l *layout) describe(it Item) {
	switch it := it.(type) {
	case Eth:
		l.start(C.RTE_FLOW_ITEM_TYPE_ETH, "eth", 14)
		if it.HasVLAN != nil {
			l.size = hasVLANOffset + 1
		}
		look(l, "dst", 0, it.Dst, &macCodec)
		look(l, "src", 6, it.Src, &macCodec)
		look(l, "type", 12, it.Type, &hexCodec)
		look(l, "has_vlan", hasVLANOffset, it.HasVLAN, &bitCodec)
	case VLAN:
		l.start(C.RTE_FLOW_ITEM_TYPE_VLAN, "vlan", 4)
		look(l, "tci", 0, it.TCI, &hexCodec)
		look(l, "inner_type", 2, it.InnerType, &hexCodec)
	case IPv4:
		l.start(C.RTE_FLOW_ITEM_TYPE_IPV4, "ipv4", 20)
		look(l, "tos", 1, it.TOS, &flagsCodec)
		look(l, "fragment_offset", 6, it.FragmentOffset, &hexCodec)
		look(l, "ttl", 8, it.TTL, &byteCodec)
		look(l, "proto", 9, it.Proto, &byteCodec)
		look(l, "src", 12, it.Src, &ipv4Codec)
		look(l, "dst", 16, it.Dst, &ipv4Codec)
	case IPv6:
		l.start(C.RTE_FLOW_ITEM_TYPE_IPV6, "ipv6", 40)
		look(l, "flow", 1, it.FlowLabel, &labelCodec)
		look(l, "proto", 6, it.Proto, &byteCodec)
		look(l, "hop", 7, it.HopLimit, &byteCodec)
		look(l, "src", 8, it.Src, &ipv6Codec)
		look(l, "dst", 24, it.Dst, &ipv6Codec)
	case TCP:
		l.start(C.RTE_FLOW_ITEM_TYPE_TCP, "tcp", 20)
		look(l, "src", 0, it.SrcPort, &numberCodec)
		look(l, "dst", 2, it.DstPort, &numberCodec)
		look(l, "flags", 13, it.Flags, &flagsCodec)
	case UDP:
		l.start(C.RTE_FLOW_ITEM_TYPE_UDP, "udp", 8)
		look(l, "src", 0, it.SrcPort, &numberCodec)
		look(l, "dst", 2, it.DstPort, &numberCodec)
	case ICMP:
		l.start(C.RTE_FLOW_ITEM_TYPE_ICMP, "icmp", 8)
		look(l, "type", 0, it.Type, &byteCodec)
		look(l, "code", 1, it.Code, &byteCodec)
		look(l, "ident", 4, it.Ident, &numberCodec)
	case ICMP6:
		l.start(C.RTE_FLOW_ITEM_TYPE_ICMP6, "icmp6", 4)
		look(l, "type", 0, it.Type, &byteCodec)
		look(l, "code", 1, it.Code, &byteCodec)
	case VXLAN:
		l.start(C.RTE_FLOW_ITEM_TYPE_VXLAN, "vxlan", 8)
		look(l, "vni", 4, it.VNI, &vniCodec)
	case Mark:
		l.start(C.RTE_FLOW_ITEM_TYPE_MARK, "mark", 4)
		look(l, "id", 0, it.ID, &nativeUint32)
	case Tag:
		l.start(C.RTE_FLOW_ITEM_TYPE_TAG, "tag", 5)
		look(l, "data", 0, it.Data, &nativeUint32)
		look(l, "index", 4, Is(it.Index), &byteCodec)
	case Meta:
		l.start(C.RTE_FLOW_ITEM_TYPE_META, "meta", 4)
		look(l, "data", 0, it.Data, &nativeUint32)
	case RepresentedPort:
		l.start(C.RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT, "represented_port", 2)
		look(l, "ethdev_port_id", 0, Is(it.Port), &nativeUint16)
	case PortID:
		l.start(C.RTE_FLOW_ITEM_TYPE_PORT_ID, "port_id", 4)
		look(l, "id", 0, Is(uint32(it.Port)), &nativeUint32)
	case AnyPort:
		l.start(C.RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT, "represented_port", 2)
	case AnyPortID:
		l.start(C.RTE_FLOW_ITEM_TYPE_PORT_ID, "port_id", 4)
	}
}

func (l *layout) start(kind uint32, name string, size int) {
	l.kind, l.name, l.size = kind, name, size
}

// look lets the item look at a field, unless m is nil.
func look[T any](l *layout, name string, offset int, m *Match[T], c *codec[T]) {
	if m != nil {
		lookAt(l, name, offset, m, c)
	}
}

func lookAt[T any](l *layout, name string, offset int, m *Match[T], c *codec[T]) {
	l.conditions++
	spec, mask := l.spec()[offset:], l.mask()[offset:]
	err := c.put(spec, m.Spec)
	if m.Mask == nil {
		copy(mask, c.full)
	} else if err == nil {
		err = c.put(mask, *m.Mask)
	}
	if m.Last != nil {
		l.lasts |= (1<<len(c.full) - 1) << offset
		if err == nil {
			err = c.put(l.last()[offset:], *m.Last)
		}
	}
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("%s: %w", name, err)
	}
	if l.texts {
		l.fields = append(l.fields, field{name, offset, len(c.full), m.Last != nil, c.full, c.text, err})
	}
}

// closeRanges gives the fields without a range, if others have one, the range of their spec alone: below its spec a
// last is undefined.
func (l *layout) closeRanges() {
	spec, last := l.spec(), l.last()
	for i := range last {
		if l.lasts&(1<<i) == 0 {
			last[i] = spec[i]
		}
	}
}

// words are the field's condition in testpmd's syntax.
func (l *layout) words(f *field) string {
	end := f.offset + f.size
	spec, mask, last := l.spec()[f.offset:end], l.mask()[f.offset:end], l.last()[f.offset:end]
	switch {
	case f.err != nil:
		return fmt.Sprintf("%s is invalid (%v)", f.name, f.err)
	case !f.ranged && bytes.Equal(mask, f.full):
		return f.name + " is " + f.text(spec)
	case !f.ranged:
		return fmt.Sprintf("%s spec %s %s mask %s", f.name, f.text(spec), f.name, f.text(mask))
	default:
		return fmt.Sprintf("%s spec %s %s last %s %s mask %s", f.name, f.text(spec), f.name, f.text(last), f.name,
			f.text(mask))
	}
}

func putMAC(b []byte, m wire.MAC) error {
	copy(b, m[:])
	return nil
}

func putByte(b []byte, v uint8) error {
	b[0] = v
	return nil
}

func putUint16(b []byte, v uint16) error {
	binary.BigEndian.PutUint16(b, v)
	return nil
}

func putUint24(b []byte, v uint32) error {
	if v >= 1<<24 {
		return fmt.Errorf("%d is more than 24 bits", v)
	}
	b[0], b[1], b[2] = byte(v>>16), byte(v>>8), byte(v)
	return nil
}

func putUint20(b []byte, v uint32) error {
	if v >= 1<<20 {
		return fmt.Errorf("%d is more than 20 bits", v)
	}
	return putUint24(b, v)
}

func putNative16(b []byte, v uint16) error {
	binary.NativeEndian.PutUint16(b, v)
	return nil
}

func putNative32(b []byte, v uint32) error {
	binary.NativeEndian.PutUint32(b, v)
	return nil
}

func putIPv4(b []byte, a netip.Addr) error {
	if !a.Is4() {
		return fmt.Errorf("%q is not an IPv4 address", a)
	}
	octets := a.As4()
	copy(b, octets[:])
	return nil
}

func putIPv6(b []byte, a netip.Addr) error {
	if !a.Is6() {
		return fmt.Errorf("%q is not an IPv6 address", a)
	}
	octets := a.As16()
	copy(b, octets[:])
	return nil
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
