// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"container/list"
	"fmt"
	"slices"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/tunnel"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// The priorities of flows' rules. A rule that has packets pass a group on their way precedes the one that sends them straight,
// so that the one can take the place of the other without a packet between them.
const (
	divertedPriority = nic.FlowPriority
	straightPriority = nic.FlowPriority + 1
)

// rule is a flow's rule in the NIC.
type rule struct {
	id       uint64
	in, out  uint16           // ports
	by       *tunnel.Key      // nil: from a guest
	straight rteflow.Rule     // as it sends packets straight to out
	ways     []uint32         // the groups that packets pass on their way, 0 for none; more than one where the NIC kept a rule
	before   rteflow.Counters // what rules in its place before had counted
	share    *share           // that it counts to
	place    *list.Element    // in the share
	doomed   bool             // it should be gone, but the NIC would not remove it
}

func (r *rule) name(group uint32) string {
	if group == 0 {
		return fmt.Sprintf("flow/%x", r.id)
	}
	return fmt.Sprintf("flow/%x/by/%d", r.id, group)
}

// spec is the rule that has packets pass a group on their way.
func (r *rule) spec(group uint32) rteflow.Rule {
	if group == 0 {
		return r.straight
	}
	diverted := r.straight
	diverted.Priority = divertedPriority
	diverted.Actions = slices.Clone(diverted.Actions)
	diverted.Actions[len(diverted.Actions)-1] = rteflow.Jump{Group: group}
	return diverted
}

func (r *rule) add(group uint32) ruleset.Op { return ruleset.Add(r.in, r.name(group), r.spec(group)) }

// none is no group.
const none = -1

// removeBut removes the flow's rules but the one by way of a group.
func (r *rule) removeBut(group int64) []ruleset.Op {
	var ops []ruleset.Op
	for _, way := range r.ways {
		if int64(way) != group {
			ops = append(ops, ruleset.Remove(r.in, r.name(way)))
		}
	}
	return ops
}

// move is a flow whose packets are to pass a group on their way, or none if it is 0.
type move struct {
	*rule
	group uint32
	seen  rteflow.Counters // of the rules that are to go
}

// ops add the new rule before the old ones go: no packet finds no rule.
func (v move) ops() []ruleset.Op {
	ops := v.removeBut(int64(v.group))
	if !slices.Contains(v.ways, v.group) {
		ops = slices.Insert(ops, 0, v.add(v.group))
	}
	return ops
}

// Divert has the packets that the NIC delivers to ports, as they are there, pass a group each on their way; group 0 is none.
// apply is given the changes that bring the standing flows there, and makes all of them, or none. Flows that come
// after it has succeeded go the new way. If it fails, the flows go as their rules then stand.
func (m *Manager) Divert(groups map[uint16]uint32, apply func(moves []ruleset.Op) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ops []ruleset.Op
	var moves []move
	for _, r := range m.rules {
		group, ok := groups[r.out]
		if !ok || r.doomed || slices.Equal(r.ways, []uint32{group}) {
			continue
		}
		v := move{rule: r, group: group}
		v.seen = m.countersBut(r, int64(group))
		moves, ops = append(moves, v), append(ops, v.ops()...)
	}
	err := apply(ops)
	for _, v := range moves {
		m.settle(v, err == nil)
	}
	if err != nil {
		return err
	}
	for port, group := range groups {
		if group == 0 {
			delete(m.diverts, port)
		} else {
			m.diverts[port] = group
		}
	}
	return nil
}

// settle finds out which rules of a flow stand that was to be moved, and keeps what those had counted that were removed, also
// if they were put back.
func (m *Manager) settle(v move, moved bool) {
	v.ways = m.standing(v.rule, append([]uint32{v.group}, slices.DeleteFunc(v.ways, func(way uint32) bool { return way == v.group })...))
	if moved || m.countersBut(v.rule, int64(v.group)).Packets < v.seen.Packets {
		v.before = v.before.Plus(v.seen)
	}
}

// standing are those of the ways by which rules of the flow stand.
func (m *Manager) standing(r *rule, ways []uint32) []uint32 {
	return slices.DeleteFunc(ways, func(way uint32) bool { return !m.cfg.Rules.Has(r.in, r.name(way)) })
}

// counted is what the NIC has forwarded of a flow.
func (m *Manager) counted(r *rule) rteflow.Counters { return r.before.Plus(m.countersBut(r, none)) }

// countersBut reads the flow's rules but the one by way of a group.
func (m *Manager) countersBut(r *rule, group int64) (c rteflow.Counters) {
	for _, way := range r.ways {
		if int64(way) == group {
			continue
		}
		if more, err := m.cfg.Rules.Counters(r.in, r.name(way)); err == nil {
			c = c.Plus(more)
		}
	}
	return c
}
