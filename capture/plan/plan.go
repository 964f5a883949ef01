// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"dpservice/graph"
	"dpservice/rteflow/ruleset"
)

// Start copies the packets of the points. What leads packets to the rules comes last, so none reaches a group
// that would not send it on.
func Start(points []Point) []Step {
	var steps []Step
	rules := Rules(addRules(points))
	for _, p := range points {
		if p.Tap != nil {
			steps = append(steps, Tap{New: p.Tap})
		}
		rules = append(rules, ruleset.Add(p.Redirects...)...)
	}
	return appendNIC(steps, rules, Divert{Ports: delivered(points)})
}

// Replace replaces the rules and taps of points by those of fresh ones, in the next band. At any moment a packet hits
// exactly one of the old and fresh rules.
func Replace(old, fresh []Point) []Step {
	var steps []Step
	for i, p := range fresh {
		if p.Tap != nil {
			steps = append(steps, Tap{New: p.Tap, Old: old[i].Tap})
		}
	}
	var rules []*ruleset.Rule
	for _, p := range old {
		rules = append(rules, p.Rules...)
	}
	return appendRemoval(appendNIC(steps, addRules(fresh), Divert{}), rules)
}

// Stop removes what was made for points. After a change that could not be undone, some of their rules may be missing:
// installed are those that are there. It first leads the packets past the rules, and then removes these.
func Stop(points []Point, installed []*ruleset.Rule) []Step {
	isRedirect := func(r *ruleset.Rule) bool { o, ok := r.Owner.(*Owner); return ok && o.Redirect }
	var redirects, others []*ruleset.Rule
	for _, r := range installed {
		if isRedirect(r) {
			redirects = append(redirects, r)
		} else {
			others = append(others, r)
		}
	}
	steps := appendNIC(nil, ruleset.Remove(redirects...), Divert{Ports: delivered(points), Straight: true})
	steps = appendRemoval(steps, others)
	for _, p := range points {
		if p.Tap != nil {
			steps = append(steps, Tap{Old: p.Tap})
		}
	}
	return steps
}

// addRules adds the points' rules, the first of each first: ahead of rules that decide the same, any number of the
// first ones changes nothing.
func addRules(points []Point) []ruleset.Op {
	var ops []ruleset.Op
	for _, p := range points {
		ops = append(ops, ruleset.Add(p.Rules...)...)
	}
	return ops
}

// delivered are the ports whose deliveries are captured.
func delivered(points []Point) []uint16 {
	var ports []uint16
	for _, p := range points {
		if p.slot != nil && p.Side == graph.TapTX && !slices.Contains(ports, p.Port.ID) {
			ports = append(ports, p.Port.ID)
		}
	}
	return ports
}

// appendNIC adds steps, unless they would do nothing.
func appendNIC(steps []Step, rules Rules, divert Divert) []Step {
	if len(rules) > 0 {
		steps = append(steps, rules)
	}
	if len(divert.Ports) > 0 {
		steps = append(steps, divert)
	}
	return steps
}

// appendRemoval adds steps that remove rules which packets no longer reach, the last first, once their counters are
// read.
func appendRemoval(steps []Step, rules []*ruleset.Rule) []Step {
	if len(rules) == 0 {
		return steps
	}
	rules = slices.Clone(rules)
	slices.Reverse(rules)
	return append(steps, ReadCounters{}, Rules(ruleset.Remove(rules...)))
}
