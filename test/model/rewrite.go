// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"slices"

	"dpservice/rteflow"
)

// rewrite does an action that changes the packet; other actions are left alone.
func (p *packet) rewrite(a rteflow.Action) {
	switch a := a.(type) {
	case rteflow.SetMACDst:
		copy(p.frame, a.MAC[:])
	case rteflow.SetMACSrc:
		copy(p.frame[6:], a.MAC[:])
	case rteflow.DecTTL:
		p.decTTL()
	case rteflow.SetIPv4Src:
		p.setIP(ipv4, 12, a.Addr.AsSlice())
	case rteflow.SetIPv4Dst:
		p.setIP(ipv4, 16, a.Addr.AsSlice())
	case rteflow.SetIPv6Src:
		p.setIP(ipv6, 8, a.Addr.AsSlice())
	case rteflow.SetIPv6Dst:
		p.setIP(ipv6, 24, a.Addr.AsSlice())
	case rteflow.SetTPSrc:
		p.setPort(0, a.Port)
	case rteflow.SetTPDst:
		p.setPort(2, a.Port)
	case rteflow.PopVLAN:
		p.frame = slices.Concat(p.frame[:12], p.frame[16:])
	case rteflow.PushVLAN:
		tag := binary.BigEndian.AppendUint16(nil, a.EtherType)
		p.frame = slices.Concat(p.frame[:12], binary.BigEndian.AppendUint16(tag, p.tci), p.frame[12:])
	case rteflow.SetMark:
		p.mark = a.ID
	case rteflow.SetMeta:
		p.meta = p.meta&^a.Mask | a.Data&a.Mask
	case rteflow.SetTag:
		p.tags[a.Index] = p.tags[a.Index]&^a.Mask | a.Data&a.Mask
	case rteflow.RawDecap:
		p.decap(a.Data)
	case rteflow.RawEncap:
		p.encap(a.Data)
	}
}

func (p *packet) decTTL() {
	ip, ok := outerIP(parse(p.frame))
	if !ok {
		return
	}
	if ip.kind == ipv6 {
		p.frame[ip.at+7]--
		return
	}
	old := be16(p.frame, ip.at+8)
	p.frame[ip.at+8]--
	put16(p.frame, ip.at+10, adjust(be16(p.frame, ip.at+10), old, be16(p.frame, ip.at+8)))
}

// setIP writes an address to the outermost IP header and adjusts the checksums that cover it.
func (p *packet) setIP(k kind, offset int, addr []byte) {
	headers := parse(p.frame)
	i := slices.IndexFunc(headers, func(h header) bool { return isIP(h.kind) })
	if i < 0 || headers[i].kind != k {
		return
	}
	at := headers[i].at
	for j := 0; j < len(addr); j += 2 {
		old, now := be16(p.frame, at+offset+j), be16(addr, j)
		put16(p.frame, at+offset+j, now)
		if k == ipv4 {
			put16(p.frame, at+10, adjust(be16(p.frame, at+10), old, now))
		}
		if i+1 < len(headers) {
			p.adjustL4(headers[i+1], old, now)
		}
	}
}

// setPort writes a port to the TCP or UDP header behind the outermost IP header.
func (p *packet) setPort(offset int, port uint16) {
	headers := parse(p.frame)
	i := slices.IndexFunc(headers, func(h header) bool { return isIP(h.kind) }) + 1
	if i == 0 || i == len(headers) || headers[i].kind != tcp && headers[i].kind != udp {
		return
	}
	old := be16(p.frame, headers[i].at+offset)
	put16(p.frame, headers[i].at+offset, port)
	p.adjustL4(headers[i], old, port)
}

// adjustL4 keeps a TCP or UDP checksum right. A UDP checksum of 0 is none.
func (p *packet) adjustL4(h header, old, now uint16) {
	switch h.kind {
	case tcp:
		put16(p.frame, h.at+16, adjust(be16(p.frame, h.at+16), old, now))
	case udp:
		if sum := be16(p.frame, h.at+6); sum != 0 {
			if sum = adjust(sum, old, now); sum == 0 {
				sum = 0xffff
			}
			put16(p.frame, h.at+6, sum)
		}
	}
}

// decap removes a header of data's length. Where the frame has IP, the parser knows better where that ends: before the
// inner IP header of a tunnel or before the outer one, behind the VLAN tags. A packet that is no tunnel has nothing in
// one.
func (p *packet) decap(data []byte) {
	headers, end := parse(p.frame), min(len(data), len(p.frame))
	if outer, ok := outerIP(headers); ok && len(data) <= linkMost {
		end = outer.at
	}
	inner, ok := tunnelled(headers)
	if len(data) > linkMost {
		end = inner.at
		p.lost = !ok
	}
	p.frame = p.frame[end:]
	p.moveEntropy(-end)
	p.lost = p.lost || len(p.frame) == 0 // malformed, says the NIC's README: too short for the rule's actions
}

// moveEntropy follows the UDP source ports that the NIC chose when headers before them come or go.
func (p *packet) moveEntropy(by int) {
	var moved []int
	for _, at := range p.entropy {
		if at+by >= 0 {
			moved = append(moved, at+by)
		}
	}
	p.entropy = moved
}

// encap puts a header before the packet and fills the lengths, the IPv4 checksum and the UDP source port in.
func (p *packet) encap(data []byte) {
	p.frame = slices.Concat(data, p.frame)
	p.inner = len(data)
	p.moveEntropy(len(data))
	if len(data) <= ethLen {
		return
	}
	ip, ok := outerIP(parse(p.frame))
	if !ok {
		return
	}
	proto := p.frame[ip.at+6]
	if ip.kind == ipv6 {
		put16(p.frame, ip.at+4, uint16(len(p.frame)-ip.at-40))
	} else {
		proto = p.frame[ip.at+9]
		put16(p.frame, ip.at+2, uint16(len(p.frame)-ip.at))
		put16(p.frame, ip.at+10, 0)
		put16(p.frame, ip.at+10, checksum(p.frame[ip.at:ip.end]))
	}
	if proto == protoUDP && len(data) >= ip.end+8 {
		p.entropy = append(p.entropy, ip.end)
		put16(p.frame, ip.end+4, uint16(len(p.frame)-ip.end))
	}
}
