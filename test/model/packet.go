// SPDX-License-Identifier: Apache-2.0

package model

import "encoding/binary"

// kind is a protocol header's.
type kind int

const (
	eth kind = iota
	vlan
	ipv4
	ipv6
	tcp
	udp
	icmp
	icmp6
	vxlan
)

// header is one protocol header of a frame, from offset at to offset end.
type header struct {
	kind    kind
	at, end int
	proto   uint8 // of an IP header: what follows it
}

const ethLen = 14

// maxTags is the most VLAN tags of a frame behind which a card looks for more.
const maxTags = 2

// EtherTypes and protocol numbers.
const (
	typeIPv4, typeIPv6, typeVLAN, typeQinQ = 0x0800, 0x86dd, 0x8100, 0x88a8

	protoICMP, protoIPIP, protoTCP, protoUDP, protoIP6IP, protoICMP6 = 1, 4, 6, 17, 41, 58

	portVXLAN = 4789

	protoHopOpts, protoRouting, protoFragment, protoESP, protoAH, protoNone, protoDstOpts = 0, 43, 44, 50, 51, 59, 60
)

// parse lists the frame's headers from the outside in. It ends at the first that is incomplete, wrong or unknown. What
// is beyond an IP packet's length is padding.
func parse(frame []byte) []header {
	return parseEth(frame, 0, nil)
}

// parseEth appends an Ethernet header, its VLAN tags, and what follows them.
func parseEth(frame []byte, at int, headers []header) []header {
	if len(frame) < at+ethLen {
		return headers
	}
	headers = append(headers, header{kind: eth, at: at, end: at + ethLen})
	next := int(be16(frame, at+12))
	at += ethLen
	for tags := 0; next == typeVLAN || next == typeQinQ; tags++ {
		if len(frame) < at+4 || tags == maxTags {
			return headers
		}
		headers = append(headers, header{kind: vlan, at: at, end: at + 4})
		next, at = int(be16(frame, at+2)), at+4
	}
	switch next {
	case typeIPv4:
		return parseIP(frame, at, ipv4, headers)
	case typeIPv6:
		return parseIP(frame, at, ipv6, headers)
	default:
		return headers
	}
}

// parseIP appends an IP header of kind k and what follows it. IPv6 extension headers belong to their IPv6 header.
func parseIP(frame []byte, at int, k kind, headers []header) []header {
	var end, proto int
	var fragment, ok bool
	length := ipLength(frame, at, k)
	if k == ipv4 {
		end, proto, fragment, ok = ipv4At(frame, at)
		length = max(length, end)
	} else {
		end, proto, fragment, ok = ipv6At(frame[:length], at)
	}
	if !ok {
		return headers
	}
	headers = append(headers, header{k, at, end, uint8(proto)})
	frame = frame[:length]
	if fragment {
		return headers
	}
	switch proto {
	case protoIPIP:
		return parseIP(frame, end, ipv4, headers)
	case protoIP6IP:
		return parseIP(frame, end, ipv6, headers)
	case protoTCP:
		return parseL4(frame, end, tcp, 20, headers)
	case protoUDP:
		return parseVXLAN(frame, parseL4(frame, end, udp, 8, headers))
	case protoICMP:
		if k == ipv4 {
			return parseL4(frame, end, icmp, 8, headers)
		}
	case protoICMP6:
		if k == ipv6 {
			return parseL4(frame, end, icmp6, 8, headers)
		}
	}
	return headers
}

// parseVXLAN appends a VXLAN header and the frame within, if the last header is an outermost UDP header that announces
// one.
func parseVXLAN(frame []byte, headers []header) []header {
	last := headers[len(headers)-1]
	outer, _ := outerIP(headers)
	if last.kind != udp || outer.end != last.at || be16(frame, last.at+2) != portVXLAN {
		return headers
	}
	if len(frame) < last.end+8 || frame[last.end]&8 == 0 {
		return headers
	}
	headers = append(headers, header{kind: vxlan, at: last.end, end: last.end + 8})
	return parseEth(frame, last.end+8, headers)
}

func parseL4(frame []byte, at int, k kind, size int, headers []header) []header {
	if len(frame) < at+size {
		return headers
	}
	return append(headers, header{kind: k, at: at, end: at + size})
}

// ipLength is the length of the frame without padding.
func ipLength(frame []byte, at int, k kind) int {
	switch {
	case k == ipv4 && len(frame) >= at+20:
		return min(len(frame), at+int(be16(frame, at+2)))
	case k == ipv6 && len(frame) >= at+40:
		return min(len(frame), at+40+int(be16(frame, at+4)))
	default:
		return len(frame)
	}
}

// ipv4At returns where the IPv4 header ends, and what follows it. fragment: that is not all there, even if it begins
// here.
func ipv4At(frame []byte, at int) (end, proto int, fragment, ok bool) {
	if len(frame) < at+20 || frame[at]>>4 != 4 {
		return 0, 0, false, false
	}
	end = at + int(frame[at]&15)*4
	if end < at+20 || len(frame) < end {
		return 0, 0, false, false
	}
	return end, int(frame[at+9]), be16(frame, at+6)&0x3fff != 0, true
}

// ipv6At is ipv4At for IPv6: it goes over the extension headers. Behind an incomplete one there is nothing to be found,
// and nothing that is known of it.
func ipv6At(frame []byte, at int) (end, proto int, fragment, ok bool) {
	if len(frame) < at+40 || frame[at]>>4 != 6 {
		return 0, 0, false, false
	}
	end, proto = at+40, int(frame[at+6])
	for {
		size := 8
		switch proto {
		case protoHopOpts, protoRouting, protoDstOpts:
			if len(frame) < end+8 {
				return end, protoNone, true, true
			}
			size = 8 + 8*int(frame[end+1])
		case protoFragment:
			if len(frame) < end+8 {
				return end, protoNone, true, true
			}
			fragment = be16(frame, end+2)&0xfff9 != 0
		default:
			return end, proto, fragment, true
		}
		if len(frame) < end+size {
			return end, protoNone, true, true
		}
		proto = int(frame[end])
		end += size
		if fragment {
			return end, proto, true, true
		}
	}
}

// tunnelled is the second of a tunnel's two IP headers.
func tunnelled(headers []header) (header, bool) {
	within := false
	for _, h := range headers {
		if isIP(h.kind) && within {
			return h, true
		}
		within = within || isIP(h.kind)
	}
	return header{}, false
}

// linkLen is the length of the Ethernet header with its VLAN tags.
func linkLen(frame []byte) int {
	end := ethLen
	for _, h := range parse(frame) {
		if h.kind == vlan && h.at == end {
			end = h.end
		}
	}
	return end
}

// outerIP is the outermost IP header.
func outerIP(headers []header) (header, bool) {
	for _, h := range headers {
		if isIP(h.kind) {
			return h, true
		}
	}
	return header{}, false
}

func isIP(k kind) bool { return k == ipv4 || k == ipv6 }

func be16(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }

func put16(b []byte, at int, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }

// checksum is the Internet checksum (RFC 1071) of b.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(be16(b, i))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// adjust is the checksum sum after a 16-bit word has changed from old to now (RFC 1624, equation 3).
func adjust(sum, old, now uint16) uint16 {
	s := uint32(^sum) + uint32(^old) + uint32(now)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
