// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"slices"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/tunnel"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// The priorities of flows' rules. A rule that sends packets via a group precedes the one that sends them straight,
// so that one can replace the other while packets arrive.
const (
	divertedPriority = nicgroup.FlowPriority
	straightPriority = nicgroup.FlowPriority + 1
)

// rule is an offloaded flow.
type rule struct {
	compact
	by     *tunnel.Key      // nil: from a guest
	paths  []*path          // the installed rules; more than one where the NIC kept a rule
	before rteflow.Counters // what removed rules of the flow had counted
	share  *share           // that it counts to
	place  int              // in the share
	aged   bool             // the NIC has told so
}

// path is a rule of a flow in the NIC. It is its own Owner.
type path struct {
	ruleset.Rule
	flows *Manager
	flow  *rule
	via   uint32 // the group that packets pass on their way to the port; 0: they go straight
}

// String names the rule.
func (p *path) String() string {
	if p.via == 0 {
		return fmt.Sprintf("flow/%x", p.flow.id)
	}
	return fmt.Sprintf("flow/%x/by/%d", p.flow.id, p.via)
}

// MakeSpec makes the rule: package ruleset does not keep it.
func (p *path) MakeSpec() rteflow.Rule {
	r, err := p.flows.straight(&p.flow.compact)
	if err != nil {
		return p.Spec // never: it was made when the flow began
	}
	if p.via != 0 {
		r.Attr = p.Spec.Attr
		r.Actions = slices.Clone(r.Actions)
		r.Actions[len(r.Actions)-1] = rteflow.Jump{Group: p.via}
	}
	return r
}

// newPath makes a flow's rule via a group.
func (m *Manager) newPath(r *rule, via uint32) *path {
	spec := rteflow.Rule{Attr: attrOf(r.origin, via)}
	p := &path{Rule: ruleset.Rule{Port: r.in, Spec: spec}, flows: m, flow: r, via: via}
	p.Owner = p
	return p
}

// attrOf is where a flow's rule via a group is.
func attrOf(origin graph.Origin, via uint32) rteflow.Attr {
	group, priority := nicgroup.VNET, straightPriority
	if origin == graph.FromWire {
		group = nicgroup.Decapsulated
	}
	if via != 0 {
		priority = divertedPriority
	}
	return nic.InGroup(group, priority)
}

// isOnly reports whether all of the flow's packets go via a group.
func (r *rule) isOnly(via uint32) bool { return len(r.paths) == 1 && r.paths[0].via == via }

// removeAll removes the flow's rules.
func (r *rule) removeAll() []ruleset.Op {
	ops := make([]ruleset.Op, len(r.paths))
	for i, p := range r.paths {
		ops[i] = ruleset.Op{Rule: &p.Rule, Remove: true}
	}
	return ops
}

// Diversion is a change of the groups via which flows go to some ports. Its operations are to be carried out as a
// whole or not at all; then either Commit or Abort must be called, once. Until then flows that begin, end or age wait
// for their rules to be made or removed, as do ReleasePort and another Divert. What only reads the Manager does not
// wait.
type Diversion struct {
	flows  *Manager
	groups map[uint16]uint32
	moves  []*move
}

// move is a flow whose packets are to go via another group.
type move struct {
	*rule
	keep *path            // the rule that is to be the only one
	isIn bool             // it is installed already
	old  []*path          // the rules that are to go
	seen rteflow.Counters // of old
}

// Divert plans to send the packets that the NIC delivers to ports via a group each, as a guest receives them; group 0
// sends them straight to the port.
func (m *Manager) Divert(groups map[uint16]uint32) *Diversion {
	m.lockToChange()
	defer m.mu.Unlock()
	d := &Diversion{flows: m, groups: groups}
	for _, r := range m.rules {
		if via, ok := groups[r.out]; ok && m.doomed[r.id] == nil && !r.isOnly(via) {
			d.moves = append(d.moves, m.newMove(r, via))
		}
	}
	m.diversion = d
	return d
}

func (m *Manager) newMove(r *rule, via uint32) *move {
	v := &move{rule: r}
	for _, p := range r.paths {
		if p.via == via {
			v.keep, v.isIn = p, true
		} else {
			v.old = append(v.old, p)
		}
	}
	if !v.isIn {
		v.keep = m.newPath(r, via)
	}
	v.seen = m.count(v.old)
	return v
}

// atOnce is how many flows are moved at a time: enough for batches, few enough for the rules that are installed twice
// meanwhile.
const atOnce = 256

// Ops returns the operations in order. New rules are installed before the old ones are removed: each packet finds a
// rule.
func (d *Diversion) Ops() []ruleset.Op {
	var ops []ruleset.Op
	for moves := range slices.Chunk(d.moves, atOnce) {
		for _, v := range moves {
			if !v.isIn {
				ops = append(ops, ruleset.Op{Rule: &v.keep.Rule})
			}
		}
		for _, v := range moves {
			for _, p := range v.old {
				ops = append(ops, ruleset.Op{Rule: &p.Rule, Remove: true})
			}
		}
	}
	return ops
}

// Commit is called when the operations were carried out: new flows to the ports follow.
func (d *Diversion) Commit() { d.end(true) }

// Abort is called when the operations were not carried out, or were undone, perhaps in part. Flows go where their
// installed rules send them, new ones as before.
func (d *Diversion) Abort() { d.end(false) }

func (d *Diversion) end(done bool) {
	m := d.flows
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range d.moves {
		m.settle(v, done)
	}
	for port, via := range d.groups {
		switch {
		case !done:
		case via == 0:
			delete(m.diverts, port)
		default:
			m.diverts[port] = via
		}
	}
	m.diversion = nil
	m.settled.Broadcast()
}

// settle finds out which rules of a flow are installed that was to be moved, and keeps what the old ones had counted
// if they were removed, also if they were put back: then they count anew.
func (m *Manager) settle(v *move, done bool) {
	if done || m.count(v.old).Packets < v.seen.Packets {
		v.before = v.before.Plus(v.seen)
	}
	v.paths = m.installed(append([]*path{v.keep}, v.old...))
}

// installed are those of the rules that are in the NIC.
func (m *Manager) installed(paths []*path) []*path {
	return slices.DeleteFunc(paths, func(p *path) bool { return !m.cfg.Rules.Installed(&p.Rule) })
}

// counted is what the NIC has forwarded of a flow.
func (m *Manager) counted(r *rule) rteflow.Counters { return r.before.Plus(m.count(r.paths)) }

// count reads the counters of installed rules.
func (m *Manager) count(paths []*path) (c rteflow.Counters) {
	for _, p := range paths {
		if more, err := m.cfg.Rules.Counters(&p.Rule); err == nil {
			c = c.Plus(more)
		}
	}
	return c
}

// lockToChange takes the lock for a change of the rules, once no diversion is under way.
func (m *Manager) lockToChange() {
	m.mu.Lock()
	for m.diversion != nil {
		m.settled.Wait()
	}
}
