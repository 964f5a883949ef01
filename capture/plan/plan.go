// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

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
	return appendRules(steps, rules)
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
	return appendRemoval(appendRules(steps, addRules(fresh)), rules)
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
	steps := appendRemoval(appendRules(nil, ruleset.Remove(redirects...)), others)
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

// appendRules adds a step that changes rules, unless it would do nothing.
func appendRules(steps []Step, rules Rules) []Step {
	if len(rules) > 0 {
		steps = append(steps, rules)
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
