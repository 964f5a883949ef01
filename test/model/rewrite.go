// SPDX-License-Identifier: Apache-2.0

package model

import (
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

// decap removes a header of data's length. Where the frame has IP, the parser knows better where that ends: before the
// inner IP header of a tunnel or before the outer one, behind the VLAN tags.
func (p *packet) decap(data []byte) {
	headers, end := parse(p.frame), min(len(data), len(p.frame))
	if outer, ok := outerIP(headers); ok {
		end = outer.at
	}
	if _, inner, ok := tunnel(headers); ok && len(data) > linkMost {
		end = inner.at
	}
	p.frame = p.frame[end:]
	p.lost = len(p.frame) == 0 // malformed, says the NIC's README: too short for the rule's actions
}

// encap puts a header before the packet and fills the lengths, the IPv4 checksum and the UDP source port in.
func (p *packet) encap(data []byte) {
	p.frame = slices.Concat(data, p.frame)
	p.entropy, p.inner = 0, len(data)
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
		p.entropy = ip.end
		put16(p.frame, ip.end+4, uint16(len(p.frame)-ip.end))
	}
}
