// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"slices"

	"dpservice/capture/filter"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// The groups of the transfer domain that captures use. A packet enters the default group, and its flow's rule
// is in the flow group; a captured packet visits the capture group in between.
const (
	groupDefault = 0
	groupCapture = 1
	groupFlow    = 2
)

// redirectPriority precedes the base rules in the default group. These stay where they are beneath, so a packet
// finds its way before, during and after any change.
const redirectPriority = 0

// generations is how many places the capture group has for the rules of a point, which go through them from the last to the
// first. New rules take the next place, ahead of the rules that they replace: from then on packets hit the new rules
// only, and the old ones' counters stand still until they are read and the rules removed. At the first place they start
// again from the last, where new rules wait behind the old ones.
const generations = 16

// point is a place at which packets are copied.
type point struct {
	target     Target
	port       port.Port
	from       rteflow.Item     // what names the port in a pattern
	patterns   [][]rteflow.Item // of the port's base rules
	rules      []filterRule     // in the capture group, in order; the last one takes all packets
	generation uint32
}

// filterRule is a rule of the capture group: it copies packets, or lets them pass by the rules behind it.
type filterRule struct {
	pattern []rteflow.Item
	sample  bool
	seen    rteflow.Counters // the rule's counter when it was last read
	before  rteflow.Counters // what the rules in its place before it had counted
}

// copies says what becomes of a copy: the header before it, which each point gives its own label, and the port it leaves
// through.
type copies struct {
	session string
	header  Header
	out     rteflow.Action
}

// startOps copies the packets of the points. The redirects come last, so no packet reaches a capture group that
// would not send it on.
func startOps(c copies, points []point) []ruleset.Op {
	ops := addRules(c, points)
	for _, p := range points {
		for i, pattern := range p.patterns {
			ops = append(ops, ruleset.Add(p.port.ID, redirectName(c.session, i), redirect(pattern)))
		}
	}
	return ops
}

// addRules adds the points' rules, the first of each first: ahead of rules that decide the same, any number of the first
// ones changes nothing.
func addRules(c copies, points []point) []ruleset.Op {
	var ops []ruleset.Op
	for _, p := range points {
		for i := range p.rules {
			ops = append(ops, ruleset.Add(p.port.ID, ruleName(c.session, p.generation, i), captureRule(p, i, c)))
		}
	}
	return ops
}

// removeRules removes them, the last first.
func removeRules(session string, points []point) []ruleset.Op {
	var ops []ruleset.Op
	for _, p := range points {
		for i := range p.rules {
			ops = append(ops, ruleset.Remove(p.port.ID, ruleName(session, p.generation, len(p.rules)-1-i)))
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
		p.generation = (p.generation + generations - 1) % generations
		p.rules = slices.Clone(p.rules)
		for k := range p.rules {
			r := &p.rules[k]
			r.before, r.seen = r.counted(), rteflow.Counters{}
		}
	}
	return points
}

// stopOps removes what stands of the session at these points: after a change that could not be undone this may be
// any part of the rules. The redirects go first, so that packets are back on the base rules before the rules that
// they would have been sent to are gone.
func stopOps(c copies, points []point, has func(port uint16, name string) bool) (redirects, rules []ruleset.Op) {
	for _, p := range points {
		for i, pattern := range p.patterns {
			if name := redirectName(c.session, i); has(p.port.ID, name) {
				op := ruleset.Remove(p.port.ID, name)
				op.Rule = redirect(pattern)
				redirects = append(redirects, op)
			}
		}
		for generation := range uint32(generations) {
			for i := range p.rules {
				if name := ruleName(c.session, generation, len(p.rules)-1-i); has(p.port.ID, name) {
					rules = append(rules, ruleset.Remove(p.port.ID, name))
				}
			}
		}
	}
	return redirects, rules
}

// inverse undoes operations that have their rules.
func inverse(ops []ruleset.Op) []ruleset.Op {
	undo := slices.Clone(ops)
	slices.Reverse(undo)
	for i := range undo {
		undo[i].Remove = !undo[i].Remove
	}
	return undo
}

func captureRule(p point, i int, c copies) rteflow.Rule {
	header := c.header
	header.Label = labelOf(p.port.ID)
	r := rteflow.Rule{
		Attr:    rteflow.Attr{Group: groupCapture, Priority: p.generation*MaxRules + uint32(i), Transfer: true},
		Pattern: append([]rteflow.Item{p.from}, p.rules[i].pattern...),
		Actions: []rteflow.Action{rteflow.Count{}},
	}
	if p.rules[i].sample {
		r.Actions = append(r.Actions,
			rteflow.Sample{Ratio: 1, Actions: []rteflow.Action{rteflow.RawEncap{Data: header.Bytes()}, c.out}})
	}
	r.Actions = append(r.Actions, rteflow.Jump{Group: groupFlow})
	return r
}

func redirect(pattern []rteflow.Item) rteflow.Rule {
	return rteflow.Rule{
		Attr:    rteflow.Attr{Group: groupDefault, Priority: redirectPriority, Transfer: true},
		Pattern: pattern,
		Actions: []rteflow.Action{rteflow.Jump{Group: groupCapture}},
	}
}

func ruleName(session string, generation uint32, i int) string {
	return fmt.Sprintf("capture/%s/rule/%d/%d", session, generation, i)
}

func redirectName(session string, i int) string {
	return fmt.Sprintf("capture/%s/redirect/%d", session, i)
}

// rulesOf are the rules of a program on a port.
func rulesOf(p filter.Program, link filter.Link) []filterRule {
	rules := make([]filterRule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = filterRule{pattern: itemsOf(r.Pattern, link), sample: r.Sample}
	}
	return rules
}

// counted is what the rule and those in its place before have counted.
func (r *filterRule) counted() rteflow.Counters { return sum(r.before, r.seen) }

// count takes a reading of the rule's counter. One that went backwards is that of a rule which was removed and
// put back by an undone change.
func (r *filterRule) count(c rteflow.Counters) {
	if c.Packets < r.seen.Packets {
		r.before = r.counted()
	}
	r.seen = c
}

// copied is what the point's rules have copied.
func (p point) copied() (c rteflow.Counters) {
	for i := range p.rules {
		if p.rules[i].sample {
			c = sum(c, p.rules[i].counted())
		}
	}
	return c
}

func sum(a, b rteflow.Counters) rteflow.Counters {
	return rteflow.Counters{Packets: a.Packets + b.Packets, Bytes: a.Bytes + b.Bytes}
}
