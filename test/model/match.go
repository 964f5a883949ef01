// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"slices"

	"dpservice/rteflow"
	"dpservice/wire"
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
// other rules wrote to its registers is as asked for.
func matches(pattern []rteflow.Item, p *packet, headers []header) bool {
	var last header // that an item has matched
	pattern = withPorts(pattern)
	for i, it := range pattern {
		k, ok := layer(it)
		switch {
		case !ok:
			if !matchesRegister(it, p) {
				return false
			}
			continue
		case k == vlan:
			continue // its Ethernet item has looked at the tags
		case k == eth && len(headers) == 0 && matchesItem(it, make([]byte, ethLen), 0):
			continue // of a frame within VXLAN cut short a card does not know that there is no Ethernet header: it reads zeros
		case len(headers) == 0 && i > 0 && announces(last, k) && matchesItem(it, make([]byte, 20), 0):
			continue // nor of an L4 header cut short, or of a fragment: it looks at the IP header's protocol
		case len(headers) == 0 && k == vxlan && last.kind == udp && matchesItem(it, make([]byte, 8), 0):
			continue // nor, from the UDP port alone, that it is no VXLAN
		case len(headers) == 0 || headers[0].kind != k || !matchesItem(it, p.frame[headers[0].at:], headers[0].proto):
			return false
		}
		last = headers[0]
		at := headers[0].at
		headers = headers[1:]
		if k != eth {
			continue
		}
		for len(headers) > 0 && headers[0].kind == vlan {
			headers = headers[1:]
		}
		e, _ := it.(rteflow.Eth)
		if at == 0 && !matchesLink(e, pattern[i+1:], linkOf(p.frame), headers) {
			return false
		}
	}
	return true
}

// withPorts is the pattern with VXLAN's port in the UDP item in front of it, if that names none, or 0.
func withPorts(pattern []rteflow.Item) []rteflow.Item {
	for i, it := range pattern {
		if _, ok := it.(rteflow.VXLAN); !ok {
			continue
		}
		u, _ := pattern[i-1].(rteflow.UDP)
		if m := u.DstPort; m == nil || m.Spec == 0 || m.Mask != nil && m.Spec&*m.Mask == 0 {
			u.DstPort = rteflow.Is[uint16](portVXLAN)
			pattern = slices.Clone(pattern)
			pattern[i-1] = u
		}
	}
	return pattern
}

// announces says whether it is an IP header that says that an L4 header of that kind follows.
func announces(h header, k kind) bool {
	proto, ok := map[kind]uint8{tcp: protoTCP, udp: protoUDP, icmp: protoICMP, icmp6: protoICMP6}[k]
	return ok && isIP(h.kind) && h.proto == proto && (k != icmp || h.kind == ipv4) && (k != icmp6 || h.kind == ipv6)
}

// link is what a card knows of a frame's tags and EtherType.
type link struct {
	tpid      uint16 // the first tag's, 0: none
	tci       uint16 // the first tag's
	etherType uint16 // behind the last tag that it looks at
}

func linkOf(frame []byte) link {
	l := link{etherType: be16(frame, 12)}
	for at, tags := ethLen, 0; l.etherType == typeVLAN || l.etherType == typeQinQ; at, tags = at+4, tags+1 {
		if tags == 0 {
			l.tpid = l.etherType
		}
		if tags == maxTags || len(frame) < at+4 {
			break
		}
		if tags == 0 {
			l.tci = be16(frame, at)
		}
		l.etherType = be16(frame, at+2)
	}
	return l
}

// matchesLink compares tags and EtherTypes as net_mlx5 translates an Ethernet item with what follows it: to the card a
// frame is tagged when its first tag is 0x8100, and a whole EtherType also says whether it is.
func matchesLink(e rteflow.Eth, rest []rteflow.Item, l link, above []header) bool {
	tagged := l.tpid == typeVLAN
	if len(rest) > 0 {
		if v, ok := rest[0].(rteflow.VLAN); ok {
			if !tagged && !isFull(e.Type, typeQinQ) || v.TCI != nil && !is16(v.TCI, []byte{byte(l.tci >> 8), byte(l.tci)}) {
				return false
			}
			return matchesType(v.InnerType, rest[1:], l, above)
		}
	}
	switch {
	case isFull(e.Type, typeVLAN):
		return tagged
	case isFull(e.Type, typeQinQ):
		return l.tpid == typeQinQ
	case e.Type != nil && (e.Type.Mask == nil || *e.Type.Mask == 0xffff):
		if tagged {
			return false
		}
	case e.HasVLAN != nil:
		if tagged != (e.HasVLAN.Spec == 1) {
			return false
		}
		if tagged {
			return true
		}
	}
	return matchesType(e.Type, rest, l, above)
}

// matchesType compares an EtherType. That of IP is the header's version, and an IP item says it all.
func matchesType(m *rteflow.Match[uint16], rest []rteflow.Item, l link, above []header) bool {
	for want, k := range map[uint16]kind{typeIPv4: ipv4, typeIPv6: ipv6} {
		if isFull(m, want) {
			return len(above) > 0 && above[0].kind == k
		}
	}
	if len(rest) > 0 {
		if k, ok := layer(rest[0]); ok && isIP(k) {
			return true
		}
	}
	return is16(m, []byte{byte(l.etherType >> 8), byte(l.etherType)})
}

func isFull(m *rteflow.Match[uint16], value uint16) bool {
	return m != nil && m.Spec == value && (m.Mask == nil || *m.Mask == 0xffff)
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
		return isMAC(it.Dst, b) && isMAC(it.Src, b[6:])
	case rteflow.IPv4:
		return isAddr(it.Src, b[12:16]) && isAddr(it.Dst, b[16:20]) && is8(it.TOS, b[1]) && is8(it.TTL, b[8]) &&
			is8(it.Proto, b[9]) && isFragment(it.FragmentOffset, be16(b, 6)&0x3fff != 0)
	case rteflow.IPv6:
		return isAddr(it.Src, b[8:24]) && isAddr(it.Dst, b[24:40]) && is8(it.Proto, proto) && is8(it.HopLimit, b[7]) &&
			is32(it.FlowLabel, uint32(b[1]&15)<<16|uint32(b[2])<<8|uint32(b[3]))
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

// isFragment: a card knows whether a packet is a fragment, whatever the mask looks at.
func isFragment(m *rteflow.Match[uint16], fragment bool) bool {
	switch {
	case m == nil || m.Mask != nil && *m.Mask == 0:
		return true
	case m.Mask != nil:
		return fragment == (m.Spec&*m.Mask != 0)
	default:
		return fragment == (m.Spec != 0)
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

func isMAC(m *rteflow.Match[wire.MAC], b []byte) bool {
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
