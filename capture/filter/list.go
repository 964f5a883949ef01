// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"slices"
)

// decision says whether the packets that match a pattern are captured.
type decision struct {
	pattern pattern
	sample  bool
}

// list is an ordered list of decisions: the first one that matches a packet applies. The last one matches all packets.
type list []decision

// maxDecisions limits the length of a list, and so the time to compile.
const maxDecisions = 256

// anyOf returns a list that samples packets that match one of the patterns.
func anyOf(patterns ...pattern) list {
	l := make(list, 0, len(patterns)+1)
	for _, p := range patterns {
		l = append(l, decision{p, true})
	}
	return append(l, decision{})
}

func (l list) not() list {
	l = slices.Clone(l)
	for i := range l {
		l[i].sample = !l[i].sample
	}
	return l
}

// and returns a list that samples the packets that both lists sample: m decides about those that l samples.
func (l list) and(m list) (list, error) {
	var out list
	for _, a := range l {
		if !a.sample {
			out = append(out, a)
			continue
		}
		for _, b := range m {
			if p, ok := intersect(a.pattern, b.pattern); ok {
				out = append(out, decision{p, b.sample})
			}
		}
		if len(out) > maxDecisions {
			return nil, &Error{Kind: TooMany, Rules: len(out), Why: fmt.Sprintf("it takes more than %d rules", maxDecisions)}
		}
	}
	return out.minimal(), nil
}

// minimal returns an equivalent list with fewer decisions. It uses simple rules and may not find the shortest list.
func (l list) minimal() list {
	l = slices.Clone(l)
	for n := -1; n != len(l); {
		n = len(l)
		l = l.merged().needed()
	}
	return l
}

// needed removes decisions that no packet reaches, and those that a later decision repeats.
func (l list) needed() list {
	for i := len(l) - 1; i >= 0; i-- {
		if l.shadowed(i) || l.repeated(i) {
			l = slices.Delete(l, i, i+1)
		}
	}
	return l
}

// shadowed reports whether an earlier decision matches all packets of decision i.
func (l list) shadowed(i int) bool {
	for k := range i {
		if l[i].pattern.within(&l[k].pattern) {
			return true
		}
	}
	return false
}

// repeated reports whether decision i is redundant: without it, a later decision samples its packets in the same way.
func (l list) repeated(i int) bool {
	for j := i + 1; j < len(l); j++ {
		if l[j].sample != l[i].sample {
			if l.meet(i, j, i) {
				return false
			}
		} else if l[i].pattern.within(&l[j].pattern) {
			return true
		}
	}
	return false
}

// meet reports whether a packet may match both i and j, but none of the first k decisions.
func (l list) meet(i, j, k int) bool {
	both, ok := intersect(l[i].pattern, l[j].pattern)
	if !ok {
		return false
	}
	for e := range k {
		if both.within(&l[e].pattern) {
			return false
		}
	}
	return true
}

// merged merges pairs of decisions whose patterns differ in one bit.
func (l list) merged() list {
	for i := range l {
		for j := i + 1; j < len(l); j++ {
			if l[i].sample != l[j].sample {
				continue
			}
			p, ok := merge(&l[i].pattern, &l[j].pattern)
			if !ok || !l.canMoveUp(j, i) {
				continue
			}
			l[i].pattern = p
			return slices.Delete(l, j, j+1).merged()
		}
	}
	return l
}

// canMoveUp reports whether decision j can move to index i: no decision in between has the opposite result for a packet
// of j.
func (l list) canMoveUp(j, i int) bool {
	for k := i + 1; k < j; k++ {
		if l[k].sample != l[j].sample && l.meet(k, j, i) {
			return false
		}
	}
	return true
}
