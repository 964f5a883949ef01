// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"slices"

	"dpservice/dpservice/nic"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// generations is how many places a group has for the rules of a point, which go through them from the last to the
// first. New rules take the next place, ahead of the rules that they replace: from then on packets hit the new rules
// only, and the old ones' counters stand still until they are read and the rules removed. At the first place they start
// again from the last, where new rules wait behind the old ones.
const generations = 16

// copies says what becomes of a copy: the header before it, which each point gives its own label, and the port it leaves
// through.
type copies struct {
	session string
	header  Header
	out     uint16
	rules   registry
}

// change is what is done to the NIC at once: rules are added and removed, and what it delivers to ports passes a group on its
// way, or none if that is 0.
type change struct {
	ops     []ruleset.Op
	diverts map[uint16]uint32
}

// inverse undoes a change whose operations have their rules.
func (c change) inverse() change {
	undo := change{ops: slices.Clone(c.ops), diverts: map[uint16]uint32{}}
	slices.Reverse(undo.ops)
	for i := range undo.ops {
		undo.ops[i].Remove = !undo.ops[i].Remove
	}
	for port, group := range c.diverts {
		if group == 0 {
			undo.diverts[port] = nic.GroupDelivery(port)
		} else {
			undo.diverts[port] = 0
		}
	}
	return undo
}

// startChange copies the packets of the points. What leads packets to the rules comes last, so none reaches a group
// that would not send it on.
func startChange(c copies, points []point) change {
	start := change{ops: addRules(c, points), diverts: map[uint16]uint32{}}
	for _, p := range points {
		for i, pattern := range p.redirects() {
			start.ops = append(start.ops, c.rules.add(p.port.ID, redirectName(c.session, i), &ruleset.Rule{Spec: redirect(pattern)}))
		}
		if p.isDelivery() {
			start.diverts[p.port.ID] = nic.GroupDelivery(p.port.ID)
		}
	}
	return start
}

// addRules adds the points' rules, the first of each first: ahead of rules that decide the same, any number of the first
// ones changes nothing.
func addRules(c copies, points []point) []ruleset.Op {
	var ops []ruleset.Op
	for _, p := range points {
		for i := range p.ruleCount() {
			ops = append(ops, c.rules.add(p.place.on.ID, p.ruleName(c.session, p.generation, i),
				&ruleset.Rule{Spec: captureRule(p, i, c)}))
		}
	}
	return ops
}

// removeRules removes them, the last first.
func removeRules(c copies, points []point) []ruleset.Op {
	var ops []ruleset.Op
	for _, p := range points {
		for i := range p.ruleCount() {
			ops = append(ops, c.rules.remove(p.place.on.ID, p.ruleName(c.session, p.generation, p.ruleCount()-1-i)))
		}
	}
	return ops
}

// next are the points with the rules that take the place of theirs. Between addRules of the one and
// removeRules of the other, a packet still hits exactly one rule.
func next(points []point) []point {
	points = slices.Clone(points)
	for i := range points {
		p := &points[i]
		p.rules = slices.Clone(p.rules)
		if p.place == nil {
			continue
		}
		p.generation = (p.generation + generations - 1) % generations
		for k := range p.rules {
			p.rules[k].startAgain()
		}
	}
	return points
}

// stopChange takes the packets away from the points' rules, and removal then removes these: what stands of them, as after
// a change that could not be undone this may be any part.
func stopChange(c copies, points []point) change {
	stop := change{diverts: map[uint16]uint32{}}
	for _, p := range points {
		for i := range p.redirects() {
			if name := redirectName(c.session, i); c.rules.has(p.port.ID, name) {
				stop.ops = append(stop.ops, c.rules.remove(p.port.ID, name))
			}
		}
		if p.isDelivery() {
			stop.diverts[p.port.ID] = 0
		}
	}
	return stop
}

func removal(c copies, points []point) change {
	var ops []ruleset.Op
	for _, p := range points {
		for generation := range uint32(generations) {
			for i := range p.ruleCount() {
				if name := p.ruleName(c.session, generation, p.ruleCount()-1-i); c.rules.has(p.place.on.ID, name) {
					ops = append(ops, c.rules.remove(p.place.on.ID, name))
				}
			}
		}
	}
	return change{ops: ops}
}

func captureRule(p point, i int, c copies) rteflow.Rule {
	r := rteflow.Rule{
		Attr:    rteflow.Attr{Group: p.place.group, Priority: p.generation*MaxRules + uint32(i), Transfer: true},
		Pattern: append([]rteflow.Item{p.place.from}, p.rules[i].pattern...),
		Actions: []rteflow.Action{rteflow.Count{}},
	}
	if p.rules[i].sample {
		r.Actions = append(r.Actions,
			rteflow.Sample{Ratio: 1, Actions: []rteflow.Action{rteflow.RawEncap{Data: c.headerOf(p).Bytes()}, p.place.out}})
	}
	r.Actions = append(r.Actions, p.place.then)
	return r
}

// headerOf is the header of a point's copies.
func (c copies) headerOf(p point) Header {
	h := c.header
	h.Label = labelOf(p.port.ID, p.direction)
	return h
}

// redirect has a port's packets visit the captures' rules. The base rules stay where they are beneath, so a packet finds its
// way before, during and after any change.
func redirect(pattern []rteflow.Item) rteflow.Rule {
	return rteflow.Rule{
		Attr:    rteflow.Attr{Group: nic.GroupDefault, Priority: nic.RedirectPriority, Transfer: true},
		Pattern: pattern,
		Actions: []rteflow.Action{rteflow.Jump{Group: nic.GroupCapture}},
	}
}

func redirectName(session string, i int) string {
	return fmt.Sprintf("capture/%s/redirect/%d", session, i)
}
