// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"slices"
)

// decision is what becomes of the packets of a pattern.
type decision struct {
	pattern pattern
	sample  bool
}

// list is decisions in order: the first that a packet matches counts. The last one matches all.
type list []decision

// maxDecisions bounds the work on a list.
const maxDecisions = 256

// anyOf samples what matches one of the patterns.
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

// and samples what both sample: where l samples, m decides.
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

// minimal returns a list that decides the same in fewer steps, as far as simple means find it.
func (l list) minimal() list {
	l = slices.Clone(l)
	for n := -1; n != len(l); {
		n = len(l)
		l = l.merged().needed()
	}
	return l
}

// needed leaves out what never decides anything and what a later decision decides in the same way.
func (l list) needed() list {
	for i := len(l) - 1; i >= 0; i-- {
		if l.shadowed(i) || l.repeated(i) {
			l = slices.Delete(l, i, i+1)
		}
	}
	return l
}

// shadowed: one before it matches all that it does.
func (l list) shadowed(i int) bool {
	for k := range i {
		if l[i].pattern.within(&l[k].pattern) {
			return true
		}
	}
	return false
}

// repeated: without it, its packets come to one that decides the same.
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

// meet reports whether there may be packets that i and j match, and none before k does.
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

// merged makes one decision of two that differ in one bit.
func (l list) merged() list {
	for i := range l {
		for j := i + 1; j < len(l); j++ {
			if l[i].sample != l[j].sample {
				continue
			}
			p, ok := merge(&l[i].pattern, &l[j].pattern)
			if !ok || !l.canRise(j, i) {
				continue
			}
			l[i].pattern = p
			return slices.Delete(l, j, j+1).merged()
		}
	}
	return l
}

// canRise reports whether j could be looked at as early as i: nothing in between decides otherwise.
func (l list) canRise(j, i int) bool {
	for k := i + 1; k < j; k++ {
		if l[k].sample != l[j].sample && l.meet(k, j, i) {
			return false
		}
	}
	return true
}
