// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// entropies remembers the UDP source port that the NIC chose for a packet: for the same one it is always the same.
type entropies map[string]uint16

// compare tells how the NIC's outputs differ from the reference's, "" if they do not. Their order does not matter.
func (e entropies) compare(want, got []Output) string {
	want = mandatoryFirst(want)
	m := matching{e: e, want: want, got: got, owner: map[int]int{}}
	var missing, surplus []Output
	for i, w := range want {
		if !m.place(i, map[int]bool{}) && !w.Perhaps {
			missing = append(missing, w)
		}
	}
	for j, g := range got {
		if _, ok := m.owner[j]; !ok {
			surplus = append(surplus, g)
		}
	}
	if len(missing) == 0 && len(surplus) == 0 {
		return ""
	}
	return "missing:" + describe(missing) + "\nsurplus:" + describe(surplus)
}

// matching finds for each wanted output one that came.
type matching struct {
	e         entropies
	want, got []Output
	owner     map[int]int // the wanted one by the place of the one that came
}

// place finds one for the i-th, for which others may have to take another one. None that has one loses it.
func (m *matching) place(i int, tried map[int]bool) bool {
	for j, g := range m.got {
		if tried[j] || !m.e.same(m.want[i], g) {
			continue
		}
		tried[j] = true
		if other, taken := m.owner[j]; !taken || m.place(other, tried) {
			m.owner[j] = i
			return true
		}
	}
	return false
}

// mandatoryFirst has the outputs that must be there before those that may be.
func mandatoryFirst(outputs []Output) []Output {
	var must, may []Output
	for _, o := range outputs {
		if o.Perhaps {
			may = append(may, o)
		} else {
			must = append(must, o)
		}
	}
	return append(must, may...)
}

// queues are those by which an output may come.
func queues(o Output) []int {
	if o.Queue != AnyQueue {
		return []int{o.Queue}
	}
	var all []int
	for q := range rxQueues {
		all = append(all, q)
	}
	return all
}

func (e entropies) same(want, got Output) bool {
	if want.Port != got.Port || !slices.Contains(queues(want), got.Queue) || len(want.Frame) != len(got.Frame) {
		return false
	}
	expected := slices.Clone(want.Frame)
	for _, at := range want.Entropy {
		port := be16(got.Frame, at)
		if port < 49152 {
			return false
		}
		put16(expected, at, port)
	}
	if !bytes.Equal(expected, got.Frame) {
		return false
	}
	if len(want.Entropy) == 0 {
		return true
	}
	inner, port := string(got.Frame[want.Inner:]), be16(got.Frame, want.Entropy[len(want.Entropy)-1])
	if before, ok := e[inner]; ok && before != port {
		return false
	}
	e[inner] = port
	return true
}

// order tells what left in another order than it came: from each place to each place the frames keep theirs.
func (e entropies) order(want, got []Output) string {
	type way struct{ from, port, queue int }
	at := map[way]int{} // where in got the next frame of that way may be
	for _, w := range want {
		if w.Perhaps {
			continue
		}
		if !slices.ContainsFunc(queues(w), func(queue int) bool {
			k := way{w.From, int(w.Port), queue}
			i := slices.IndexFunc(got[at[k]:], func(g Output) bool { return g.Queue == queue && e.same(w, g) })
			at[k] += i + 1
			return i >= 0
		}) {
			return "out of order:" + describe([]Output{w})
		}
	}
	return ""
}

func describe(outputs []Output) string {
	var b strings.Builder
	for _, o := range outputs {
		where := fmt.Sprintf("queue %d", o.Queue)
		switch o.Queue {
		case FarSide:
			where = "far side"
		case AnyQueue:
			where = "any queue"
		}
		fmt.Fprintf(&b, "\n  port %d, %s: %x", o.Port, where, o.Frame)
	}
	if len(outputs) == 0 {
		return " none"
	}
	return b.String()
}
