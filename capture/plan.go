// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"slices"

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

// samplePriorities is how many priorities of the capture group the sample rules go through, from the last to the
// first. A new rule takes the next one, ahead of the rule that it replaces: from then on packets hit the new rule
// only, and the old one's counter stands still until it is read and the rule removed. At the first priority it starts
// again from the last, where the new rule waits behind the old one.
const samplePriorities = 16

// point is a place at which packets are copied.
type point struct {
	target   Target
	port     port.Port
	from     rteflow.Item     // what names the port in a pattern
	patterns [][]rteflow.Item // of the port's base rules
	priority uint32           // of the sample rule
	seen     rteflow.Counters // the sample rule's counter when it was last read
	before   rteflow.Counters // what the rules in its place before it had counted
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
	ops := addSamples(c, points)
	for _, p := range points {
		for i, pattern := range p.patterns {
			ops = append(ops, ruleset.Add(p.port.ID, redirectName(c.session, i), redirect(pattern)))
		}
	}
	return ops
}

func addSamples(c copies, points []point) []ruleset.Op {
	ops := make([]ruleset.Op, len(points))
	for i, p := range points {
		ops[i] = ruleset.Add(p.port.ID, sampleName(c.session, p.priority), sample(p, c))
	}
	return ops
}

func removeSamples(session string, points []point) []ruleset.Op {
	ops := make([]ruleset.Op, len(points))
	for i, p := range points {
		ops[i] = ruleset.Remove(p.port.ID, sampleName(session, p.priority))
	}
	return ops
}

// next are the points with the sample rules that take the place of theirs. Between addSamples of the one and
// removeSamples of the other, a packet still hits exactly one rule.
func next(points []point) []point {
	points = slices.Clone(points)
	for i := range points {
		p := &points[i]
		p.priority = (p.priority + samplePriorities - 1) % samplePriorities
		p.before, p.seen = p.copied(), rteflow.Counters{}
	}
	return points
}

// stopOps removes what stands of the session at these points: after a change that could not be undone this may be
// any part of the rules. The redirects go first, so that packets are back on the base rules before the rules that
// they would have been sent to are gone.
func stopOps(session string, points []point, has func(port uint16, name string) bool) []ruleset.Op {
	var ops []ruleset.Op
	remove := func(p point, name string) {
		if has(p.port.ID, name) {
			ops = append(ops, ruleset.Remove(p.port.ID, name))
		}
	}
	for _, p := range points {
		for i := range p.patterns {
			remove(p, redirectName(session, i))
		}
	}
	for _, p := range points {
		for priority := range uint32(samplePriorities) {
			remove(p, sampleName(session, priority))
		}
	}
	return ops
}

func sample(p point, c copies) rteflow.Rule {
	header := c.header
	header.Label = labelOf(p.port.ID)
	return rteflow.Rule{
		Attr:    rteflow.Attr{Group: groupCapture, Priority: p.priority, Transfer: true},
		Pattern: []rteflow.Item{p.from, rteflow.Eth{}},
		Actions: []rteflow.Action{
			rteflow.Count{},
			rteflow.Sample{Ratio: 1, Actions: []rteflow.Action{rteflow.RawEncap{Data: header.Bytes()}, c.out}},
			rteflow.Jump{Group: groupFlow},
		},
	}
}

func redirect(pattern []rteflow.Item) rteflow.Rule {
	return rteflow.Rule{
		Attr:    rteflow.Attr{Group: groupDefault, Priority: redirectPriority, Transfer: true},
		Pattern: pattern,
		Actions: []rteflow.Action{rteflow.Jump{Group: groupCapture}},
	}
}

func sampleName(session string, priority uint32) string {
	return fmt.Sprintf("capture/%s/sample/%d", session, priority)
}

func redirectName(session string, i int) string {
	return fmt.Sprintf("capture/%s/redirect/%d", session, i)
}

// copied is what the point's rules have counted.
func (p point) copied() rteflow.Counters {
	return rteflow.Counters{Packets: p.before.Packets + p.seen.Packets, Bytes: p.before.Bytes + p.seen.Bytes}
}

// count takes a reading of the sample rule's counter. One that went backwards is that of a rule which was removed and
// put back by an undone change.
func (p *point) count(c rteflow.Counters) {
	if c.Packets < p.seen.Packets {
		p.before = p.copied()
	}
	p.seen = c
}
