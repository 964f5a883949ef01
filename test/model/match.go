// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"

	"dpservice/rteflow"
)

// layer is the header that an item is about; there is none for the items that name a port or a register.
func layer(it rteflow.Item) (kind, bool) {
	switch it.(type) {
	case rteflow.Eth:
		return eth, true
	case rteflow.VLAN:
		return vlan, true
	case rteflow.IPv4:
		return ipv4, true
	case rteflow.IPv6:
		return ipv6, true
	case rteflow.TCP:
		return tcp, true
	case rteflow.UDP:
		return udp, true
	case rteflow.ICMP:
		return icmp, true
	case rteflow.ICMP6:
		return icmp6, true
	case rteflow.VXLAN:
		return vxlan, true
	default:
		return 0, false
	}
}

// matches tells whether the packet begins with the pattern's layers, each with the values asked for, and whether what
// other rules wrote to its registers is as asked for. VLAN tags that the pattern does not name do not matter.
func matches(pattern []rteflow.Item, p *packet, headers []header) bool {
	for _, it := range pattern {
		k, ok := layer(it)
		if !ok {
			if !matchesRegister(it, p) {
				return false
			}
			continue
		}
		for len(headers) > 0 && headers[0].kind == vlan && k != vlan {
			headers = headers[1:]
		}
		// Of a frame within VXLAN cut short a card does not know that there is no Ethernet header: it reads zeros.
		if k == eth && len(headers) == 0 && matchesItem(it, make([]byte, ethLen), 0) {
			continue
		}
		if len(headers) == 0 || headers[0].kind != k || !matchesItem(it, p.frame[headers[0].at:], headers[0].proto) {
			return false
		}
		headers = headers[1:]
	}
	return true
}

// matchesRegister compares the registers; the items that name a port are satisfied already.
func matchesRegister(it rteflow.Item, p *packet) bool {
	switch it := it.(type) {
	case rteflow.Mark:
		return is32(it.ID, p.mark)
	case rteflow.Meta:
		return is32(it.Data, p.meta)
	case rteflow.Tag:
		return is32(it.Data, p.tags[it.Index])
	default:
		return true
	}
}

// matchesItem compares an item's fields with the header that b begins with. The protocol of an IPv6 header is that
// behind its extension headers: net_mlx5 refuses rules that name one of these.
func matchesItem(it rteflow.Item, b []byte, proto uint8) bool {
	switch it := it.(type) {
	case rteflow.Eth:
		return isMAC(it.Dst, b) && isMAC(it.Src, b[6:]) && is16(it.Type, b[12:])
	case rteflow.VLAN:
		return is16(it.TCI, b) && is16(it.InnerType, b[2:])
	case rteflow.IPv4:
		return isAddr(it.Src, b[12:16]) && isAddr(it.Dst, b[16:20]) && is8(it.TOS, b[1]) && is8(it.TTL, b[8]) &&
			is8(it.Proto, b[9]) && is16(it.FragmentOffset, b[6:])
	case rteflow.IPv6:
		return isAddr(it.Src, b[8:24]) && isAddr(it.Dst, b[24:40]) && is8(it.Proto, proto) && is8(it.HopLimit, b[7])
	case rteflow.TCP:
		return is16(it.SrcPort, b) && is16(it.DstPort, b[2:]) && is8(it.Flags, b[13])
	case rteflow.UDP:
		return is16(it.SrcPort, b) && is16(it.DstPort, b[2:])
	case rteflow.ICMP:
		return is8(it.Type, b[0]) && is8(it.Code, b[1]) && is16(it.Ident, b[4:])
	case rteflow.ICMP6:
		return is8(it.Type, b[0]) && is8(it.Code, b[1])
	case rteflow.VXLAN:
		return is32(it.VNI, uint32(b[4])<<16|uint32(b[5])<<8|uint32(b[6]))
	default:
		return false
	}
}

func is8(m *rteflow.Match[uint8], v uint8) bool {
	if m == nil {
		return true
	}
	mask := uint8(0xff)
	if m.Mask != nil {
		mask = *m.Mask
	}
	return v&mask == m.Spec&mask
}

func is16(m *rteflow.Match[uint16], b []byte) bool {
	if m == nil {
		return true
	}
	mask := uint16(0xffff)
	if m.Mask != nil {
		mask = *m.Mask
	}
	return be16(b, 0)&mask == m.Spec&mask
}

func is32(m *rteflow.Match[uint32], v uint32) bool {
	if m == nil {
		return true
	}
	mask := uint32(0xffffffff)
	if m.Mask != nil {
		mask = *m.Mask
	}
	return v&mask == m.Spec&mask
}

func isMAC(m *rteflow.Match[rteflow.MAC], b []byte) bool {
	if m == nil {
		return true
	}
	if m.Mask == nil {
		return isBytes(m.Spec[:], nil, b)
	}
	return isBytes(m.Spec[:], m.Mask[:], b)
}

func isAddr(m *rteflow.Match[netip.Addr], b []byte) bool {
	if m == nil {
		return true
	}
	if m.Mask == nil {
		return isBytes(m.Spec.AsSlice(), nil, b)
	}
	return isBytes(m.Spec.AsSlice(), m.Mask.AsSlice(), b)
}

// isBytes compares under a mask, nil for all ones.
func isBytes(spec, mask, b []byte) bool {
	for i := range spec {
		m := byte(0xff)
		if mask != nil {
			m = mask[i]
		}
		if b[i]&m != spec[i]&m {
			return false
		}
	}
	return true
}
