// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"dpservice/rteflow"
)

// difference is what net_eswitch and net_mlx5 answer differently about a rule, and why that stays. README.md of net_eswitch
// lists the same.
type difference struct {
	reason string
	// applies is asked about the two answers, and the rule as cases have it.
	applies func(ref *Reference, o op, eswitch, mlx5 error) bool
}

// differences are all that are known.
var differences = []difference{
	{"a tag beyond the virtual card's registers", func(_ *Reference, o op, _, mlx5 error) bool {
		// It has REG_C_0 to REG_C_5, of which the driver gives three to tags; it has numbers for five.
		return errors.Is(mlx5, syscall.ENOTSUP) && namesTag(o.rule, 3)
	}},
}

// ages says whether it is an age of the rule's own. Where the driver takes a counter for that, it lets applications query it.
func ages(a rteflow.Action) bool { _, ok := a.(rteflow.Age); return ok }

// namesTag says whether the rule matches or writes a tag of that index or of a higher one.
func namesTag(r rteflow.Rule, from uint8) bool {
	return slices.ContainsFunc(r.Pattern, func(it rteflow.Item) bool { t, ok := it.(rteflow.Tag); return ok && t.Index >= from }) ||
		slices.ContainsFunc(r.Actions, func(a rteflow.Action) bool { t, ok := a.(rteflow.SetTag); return ok && t.Index >= from })
}

// compareAnswers counts a difference between what net_eswitch and net_mlx5 say of a rule that is explained, and tells of others.
func (p *player) compareAnswers(o op, answers []error) string {
	if len(answers) < 2 {
		return ""
	}
	eswitch, mlx5 := answers[0], answers[1]
	if errnoOf(eswitch) == errnoOf(mlx5) {
		return ""
	}
	for _, d := range differences {
		if d.applies(&p.ref, o, eswitch, mlx5) {
			p.counts.explained[d.reason]++
			return ""
		}
	}
	if os.Getenv("MODEL_COLLECT") != "" { // XXX
		key := fmt.Sprintf("E %v | M %v", eswitch, mlx5)
		for _, re := range []string{`port \d+`, `(item|action) \d+`} {
			key = regexp.MustCompile(re).ReplaceAllString(key, "$1 N")
		}
		if p.counts.explained[key]++; p.counts.explained[key] == 1 {
			fmt.Fprintf(os.Stderr, "COLLECT %s\n   %s\n", key, strings.Join(o.rule.Commands(o.port), "\n   "))
		}
		return ""
	}
	return fmt.Sprintf("%s says %v, %s says %v", p.devices[0].name(), eswitch, p.devices[1].name(), mlx5)
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
