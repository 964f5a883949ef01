// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"slices"

	"dpservice/wire"
)

// prefix is the set of numbers that begin with the same bits as value.
type prefix struct {
	value  uint32
	bits   int
	inside bool // the numbers are in the range
}

// cover returns the smallest set of prefixes that together are the range lo to hi. The numbers have width bits.
func cover(lo, hi uint32, width int) []prefix {
	return (&ranger{lo: lo, hi: hi, width: width}).cover(0, 0, nil)
}

// carve returns the smallest list of prefixes that separates the range lo to hi from the other numbers. The longest
// matching prefix decides whether a number is in the range; a number without one is not. The longest prefixes come
// first.
func carve(lo, hi uint32, width int) []prefix {
	r := &ranger{lo: lo, hi: hi, width: width}
	out := r.emit(r.tree(0, 0), false, nil)
	slices.SortStableFunc(out, func(a, b prefix) int { return b.bits - a.bits })
	return out
}

type ranger struct {
	lo, hi uint32
	width  int
}

// span returns the first and the last number of a prefix.
func (r *ranger) span(value uint32, bits int) (first, last uint32) {
	return value, value | (1<<(r.width-bits) - 1)
}

func (r *ranger) cover(value uint32, bits int, out []prefix) []prefix {
	first, last := r.span(value, bits)
	switch {
	case last < r.lo || first > r.hi:
		return out
	case first >= r.lo && last <= r.hi:
		return append(out, prefix{value, bits, true})
	}
	half := uint32(1) << (r.width - bits - 1)
	return r.cover(value|half, bits+1, r.cover(value, bits+1, out))
}

// branch is a node of the tree of prefixes. in and out say which decisions at this node lead to the fewest prefixes
// below it (Draves et al., Constructing optimal IP routing tables).
type branch struct {
	prefix
	in, out   bool
	low, high *branch
}

func (r *ranger) tree(value uint32, bits int) *branch {
	first, last := r.span(value, bits)
	b := &branch{prefix: prefix{value: value, bits: bits}}
	switch {
	case last < r.lo || first > r.hi:
		b.out = true
		return b
	case first >= r.lo && last <= r.hi:
		b.in = true
		return b
	}
	b.low = r.tree(value, bits+1)
	b.high = r.tree(value|1<<(r.width-bits-1), bits+1)
	b.in, b.out = b.low.in && b.high.in, b.low.out && b.high.out
	if !b.in && !b.out {
		b.in, b.out = b.low.in || b.high.in, b.low.out || b.high.out
	}
	return b
}

// emit appends the prefixes of a branch. Unless a prefix says otherwise, the numbers of the branch are in the range if
// inside is set.
func (r *ranger) emit(b *branch, inside bool, out []prefix) []prefix {
	if b == nil {
		return out
	}
	if inside && !b.in || !inside && !b.out {
		inside = !inside
		b.inside = inside
		out = append(out, b.prefix)
	}
	return r.emit(b.high, inside, r.emit(b.low, inside, out))
}

// inRange returns a list that samples the packets of each base whose field is in the range lo to hi. The field has
// width bits.
func (c *compiler) inRange(bases []pattern, f wire.Field, lo, hi uint32, width int) list {
	var l list
	for _, base := range bases {
		in := c.ranges(lo, hi, width, func(value, mask uint32) pattern {
			return base.masked(f, bytesOf(value, width), bytesOf(mask, width))
		})
		l = append(l, in[:len(in)-1]...)
	}
	return append(l, decision{})
}

// ranges returns a list that samples numbers in the range lo to hi. The numbers have width bits. The function with
// returns the pattern for a value and a mask.
func (c *compiler) ranges(lo, hi uint32, width int, with func(value, mask uint32) pattern) list {
	prefixes := cover(lo, hi, width)
	if carved := carve(lo, hi, width); c.exclude && len(carved) < len(prefixes) {
		prefixes = carved
	}
	all := uint32(1)<<width - 1
	var l list
	for _, p := range prefixes {
		l = append(l, decision{with(p.value, all&^(1<<(width-p.bits)-1)), p.inside})
	}
	return append(l, decision{})
}

// bytesOf returns a number of width bits in network order.
func bytesOf(v uint32, width int) []byte {
	b := make([]byte, width/8)
	for i := range b {
		b[i] = byte(v >> (width - 8*(i+1)))
	}
	return b
}
