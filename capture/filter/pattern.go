// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/binary"

	"dpservice/wire"
)

// Fields of ARP packets. Rules cannot match them.
const (
	arpSender wire.Field = wire.NumFields + iota // 4 bytes
	arpTarget                                    // 4 bytes
	numFields
)

// Condition is a masked comparison of the bytes of a field. The bytes are in network order, at the beginning of the
// arrays.
type Condition struct {
	Value, Mask [16]byte
}

// Any reports whether every value of the field meets the condition.
func (c Condition) Any() bool { return c.Mask == [16]byte{} }

// Pattern is one condition per field. A packet matches if it meets all conditions.
type Pattern [numFields]Condition

// pattern is a Pattern, and the reason why rules cannot express it. gap is nil if they can.
type pattern struct {
	Pattern
	gap *gap
	// behindTag is set while the conditions are about the headers after a VLAN tag, but do not require a tag. It is the
	// reason why rules cannot express that.
	behindTag *gap
}

// gap is a part of a filter that rules cannot express.
type gap struct {
	part    string // the part of the filter
	why     string
	implied bool // the filter does not ask for it by name
}

// with returns the pattern with an additional condition: the field has this value.
func (p pattern) with(f wire.Field, value ...byte) pattern {
	mask := make([]byte, len(value))
	for i := range mask {
		mask[i] = 0xff
	}
	return p.masked(f, value, mask)
}

func (p pattern) masked(f wire.Field, value, mask []byte) pattern {
	return p.maskedAt(f, 0, value, mask)
}

// maskedAt returns the pattern with an additional condition on some bytes of a field.
func (p pattern) maskedAt(f wire.Field, at int, value, mask []byte) pattern {
	c := &p.Pattern[f]
	copy(c.Mask[at:], mask)
	for i := range mask {
		c.Value[at+i] = value[i] & mask[i]
	}
	return p
}

func (p pattern) with16(f wire.Field, v uint16) pattern {
	return p.with(f, binary.BigEndian.AppendUint16(nil, v)...)
}

// withBit is like with, for a field of one bit.
func (p pattern) withBit(f wire.Field, v byte) pattern { return p.masked(f, []byte{v}, []byte{1}) }

// intersect returns the pattern of the packets that match both p and q. It returns false if there can be none. The
// filter tests p before q.
func intersect(p, q pattern) (pattern, bool) {
	switch tag := p.Pattern[wire.FieldTagged]; {
	case q.behindTag == nil:
	case tag.Mask[0] == 0: // a pattern that this one is combined with later may require the tag
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
	whole := p.Pattern[wire.FieldL4].Value[0] == 1
	return p, !whole || p.Pattern[wire.FieldFragment].Value[0] == 0
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

// merge returns a pattern that matches exactly the packets of p and q. It returns false unless they differ in one bit
// of one value only.
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

// keeps reports whether a merged pattern still has the conditions that others depend on. For example, a condition on a
// header depends on the protocol.
func (p *pattern) keeps(merged *pattern) bool {
	for _, f := range []wire.Field{wire.FieldEtherType, wire.FieldVLANType, wire.FieldProto, wire.FieldTagged,
		wire.FieldL4} {
		if p.Pattern[f].Mask != merged.Pattern[f].Mask {
			return false
		}
	}
	return true
}
