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
	var rules, redirects []*ruleset.Rule
	for _, p := range points {
		if p.Tap != nil {
			steps = append(steps, Tap{New: p.Tap})
		}
		rules, redirects = append(rules, p.Rules...), append(redirects, p.Redirects...)
	}
	return append(steps, Rules(ruleset.Add(append(rules, redirects...)...)))
}

// Replace replaces the rules and taps of points by those of fresh ones, in the next band. At any moment a packet hits
// exactly one of the old and fresh rules. The first of each point's rules are added first: ahead of rules that decide
// the same, any number of the first ones changes nothing.
func Replace(old, fresh []Point) []Step {
	var steps []Step
	var added, removed []*ruleset.Rule
	for i, p := range fresh {
		if p.Tap != nil {
			steps = append(steps, Tap{New: p.Tap, Old: old[i].Tap})
		}
		added, removed = append(added, p.Rules...), append(removed, old[i].Rules...)
	}
	return appendRemoval(append(steps, Rules(ruleset.Add(added...))), removed)
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
	steps := appendRemoval([]Step{Rules(ruleset.Remove(redirects...))}, others)
	for _, p := range points {
		if p.Tap != nil {
			steps = append(steps, Tap{Old: p.Tap})
		}
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
