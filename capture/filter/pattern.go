// SPDX-License-Identifier: Apache-2.0

package filter

import "encoding/binary"

// Field is a part of a packet that rules look at.
type Field int

// The fields. The IP header is that behind at most one VLAN tag.
const (
	EthDst    Field = iota // 6 bytes
	EthSrc                 // 6 bytes
	Tagged                 // 1 bit in a byte: there is a VLAN tag
	EtherType              // 2 bytes; of a frame without a tag. Link IP: 0x0800 or 0x86dd, by the IP version
	VLANTCI                // 2 bytes
	VLANType               // 2 bytes: the EtherType behind the tag
	Proto                  // 1 byte: what the IP packet carries, behind IPv6 extension headers
	TOS                    // 1 byte
	TTL                    // 1 byte: IPv4 TTL, IPv6 hop limit
	Fragment               // 1 bit in a byte: IPv4, a fragment
	Src                    // 16 bytes; 4 with IPv4
	Dst                    // 16 bytes; 4 with IPv4
	L4                     // 1 bit in a byte: there is a header of Proto, whole and not of a fragment
	SrcPort                // 2 bytes
	DstPort                // 2 bytes
	TCPFlags               // 1 byte
	ICMPType               // 1 byte, ICMP or ICMPv6
	ICMPCode               // 1 byte
	arpSender              // 4 bytes, which no rule can look at
	arpTarget              // 4 bytes, likewise
	numFields
)

// Condition is a masked comparison of a field's bytes, which come first in the arrays, in network order.
type Condition struct {
	Value, Mask [16]byte
}

// Any reports whether the condition holds whatever the field's value is.
func (c Condition) Any() bool { return c.Mask == [16]byte{} }

// Pattern is a condition for each field: a packet matches if all hold.
type Pattern [numFields]Condition

// pattern is a Pattern with the reason why no rule can express it; nil if one can.
type pattern struct {
	Pattern
	gap *gap
	// behindTag is set while the conditions are about what is behind a VLAN tag, but do not ask for one: the reason
	// why no rule can express that.
	behindTag *gap
}

// gap is something that rules cannot express.
type gap struct {
	part    string // of the filter
	why     string
	implied bool // the filter does not ask for it by name
}

// with returns the pattern with a condition of a whole field.
func (p pattern) with(f Field, value ...byte) pattern {
	mask := make([]byte, len(value))
	for i := range mask {
		mask[i] = 0xff
	}
	return p.masked(f, value, mask)
}

func (p pattern) masked(f Field, value, mask []byte) pattern { return p.maskedAt(f, 0, value, mask) }

// maskedAt returns the pattern with a condition of some bytes of a field.
func (p pattern) maskedAt(f Field, at int, value, mask []byte) pattern {
	c := &p.Pattern[f]
	copy(c.Mask[at:], mask)
	for i := range mask {
		c.Value[at+i] = value[i] & mask[i]
	}
	return p
}

func (p pattern) with16(f Field, v uint16) pattern {
	return p.with(f, binary.BigEndian.AppendUint16(nil, v)...)
}

// withBit is with for the fields of one bit.
func (p pattern) withBit(f Field, v byte) pattern { return p.masked(f, []byte{v}, []byte{1}) }

// intersect returns the pattern of the packets that match both, if there can be any; p was looked at first.
func intersect(p, q pattern) (pattern, bool) {
	switch tag := p.Pattern[Tagged]; {
	case q.behindTag == nil:
	case tag.Mask[0] == 0: // perhaps the tag is asked for by what this is combined with
		p.behindTag = q.behindTag
	case tag.Value[0] == 0:
		q.gap = q.behindTag
		return q, true
	}
	if p.gap == nil {
		p.gap = q.gap
	}
	for f := range p.Pattern {
		a, b := &p.Pattern[f], &q.Pattern[f]
		for i := range a.Mask {
			if (a.Value[i]^b.Value[i])&a.Mask[i]&b.Mask[i] != 0 {
				return pattern{}, false
			}
			a.Value[i] |= b.Value[i]
			a.Mask[i] |= b.Mask[i]
		}
	}
	whole := p.Pattern[L4].Value[0] == 1
	return p, !whole || p.Pattern[Fragment].Value[0] == 0
}

// within reports whether every packet that matches p matches q.
func (p *pattern) within(q *pattern) bool {
	for f := range p.Pattern {
		a, b := &p.Pattern[f], &q.Pattern[f]
		if b.Mask == [16]byte{} {
			continue
		}
		for i := range a.Mask {
			if b.Mask[i]&^a.Mask[i] != 0 || (a.Value[i]^b.Value[i])&b.Mask[i] != 0 {
				return false
			}
		}
	}
	return true
}

// merge returns the one pattern that matches what p and q match, if they differ in one bit of one value only.
func merge(p, q *pattern) (pattern, bool) {
	merged := *p
	bits := 0
	for f := range p.Pattern {
		a, b := &p.Pattern[f], &q.Pattern[f]
		if a.Mask != b.Mask {
			return pattern{}, false
		}
		for i := range a.Mask {
			if d := a.Value[i] ^ b.Value[i]; d != 0 {
				bits++
				if bits > 1 || d&(d-1) != 0 {
					return pattern{}, false
				}
				merged.Pattern[f].Mask[i] &^= d
				merged.Pattern[f].Value[i] &^= d
			}
		}
	}
	return merged, bits == 1 && p.gap == nil && q.gap == nil && p.keeps(&merged)
}

// keeps refuses a merger that would leave a condition without the one which it depends on: a header of no protocol.
func (p *pattern) keeps(merged *pattern) bool {
	for _, f := range []Field{EtherType, VLANType, Proto, Tagged, L4} {
		if p.Pattern[f].Mask != merged.Pattern[f].Mask {
			return false
		}
	}
	return true
}
