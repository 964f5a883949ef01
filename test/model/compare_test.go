// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"dpservice/rteflow"
)

// difference is what net_eswitch and net_mlx5 answer differently about a rule, and why that stays. README.md of
// net_eswitch lists the same.
type difference struct {
	reason string
	// applies is asked about the two answers, and the rule as cases have it.
	applies func(r rteflow.Rule, eswitch, mlx5 error) bool
}

// differences are all that are known.
var differences = []difference{
	// It has REG_C_0 to REG_C_5, of which the driver gives three to tags; it has numbers for five.
	{"a tag beyond the virtual card's registers", func(r rteflow.Rule, _, mlx5 error) bool {
		return errors.Is(mlx5, syscall.ENOTSUP) && namesTag(r, 3)
	}},
	// net_eswitch has no such counters.
	{"a counter within a sample of an ingress rule", func(r rteflow.Rule, eswitch, _ error) bool {
		return errors.Is(eswitch, syscall.ENOTSUP) && !r.Transfer &&
			slices.ContainsFunc(samples(r.Actions), func(list []rteflow.Action) bool {
				return slices.ContainsFunc(list, func(a rteflow.Action) bool { _, ok := a.(rteflow.Count); return ok })
			})
	}},
	// Packets would go round: what a card does then is not known.
	{"a mirror that does not jump upwards", func(r rteflow.Rule, eswitch, mlx5 error) bool {
		return errors.Is(eswitch, syscall.EINVAL) && mlx5 == nil && slices.ContainsFunc(r.Actions, mirrors) &&
			slices.ContainsFunc(r.Actions, func(a rteflow.Action) bool {
				j, ok := a.(rteflow.Jump)
				return ok &&
					j.Group <= r.Group
			})
	}},
}

// breaksDriver says whether net_mlx5 cannot be asked for the rule: of a mirror that it cannot make it frees parts
// twice, and crashes sooner or later.
func breaksDriver(r rteflow.Rule) bool {
	verdict, _ := (&Reference{}).checkDuplication(0, r)
	return verdict == Refused
}

// handledOtherwise says whether a card is known to do something else with packets than net_eswitch. Such rules are on
// neither.
func handledOtherwise(r rteflow.Rule) bool {
	encap := false
	for _, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.RawEncap:
			encap = true
		case rteflow.Sample:
			// The driver encapsulates the original only, wherever its raw_encap is; net_eswitch goes by the order.
			if encap && mirrors(a) {
				return true
			}
			// A card gives samples of some packets to the port that these come from, not to the switch's manager.
			if r.Transfer && a.Ratio > 1 {
				return true
			}
		}
	}
	return false
}

// ages says whether it is an age of the rule's own. Where the driver takes a counter for that, it lets applications
// query it.
func ages(a rteflow.Action) bool { _, ok := a.(rteflow.Age); return ok }

// namesTag says whether the rule matches or writes a tag of that index or of a higher one.
func namesTag(r rteflow.Rule, from uint8) bool {
	return slices.ContainsFunc(r.Pattern, func(it rteflow.Item) bool {
		t, ok := it.(rteflow.Tag)
		return ok &&
			t.Index >= from
	}) ||
		slices.ContainsFunc(r.Actions, func(a rteflow.Action) bool {
			t, ok := a.(rteflow.SetTag)
			return ok &&
				t.Index >= from
		})
}

// compareAnswers compares what net_eswitch and net_mlx5 say of a rule. It returns a difference in words, and whether
// there is one that is explained, which it counts.
func (p *player) compareAnswers(o op, answers []error) (why string, explained bool) {
	if len(answers) < 2 {
		return "", false
	}
	eswitch, mlx5 := answers[0], answers[1]
	if errnoOf(eswitch) == errnoOf(mlx5) {
		return "", false
	}
	for _, d := range differences {
		if d.applies(o.rule, eswitch, mlx5) {
			p.counts.explained[d.reason]++
			return "", true
		}
	}
	return fmt.Sprintf("%s says %v, %s says %v", p.devices[0].name(), eswitch, p.devices[1].name(), mlx5), false
}

// errnoOf is 0 of no error, and of one that does not come from the driver -1: rteflow has refused the rule.
func errnoOf(err error) syscall.Errno {
	var refusal *rteflow.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &refusal):
		return refusal.Errno
	default:
		return ^syscall.Errno(0)
	}
}
