// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rule lets some peers make some requests. A peer is meant if one of the four lists has it.
type Rule struct {
	UIDs   []uint32 `yaml:"uids,omitempty"`
	Users  []string `yaml:"users,omitempty"`
	GIDs   []uint32 `yaml:"gids,omitempty"`
	Groups []string `yaml:"groups,omitempty"`
	Allow  []Class  `yaml:"allow"`
	Limits Limits   `yaml:"captures,omitempty"`
}

// Limits bound the captures that a rule allows. What is absent is not limited; all that is there must hold.
type Limits struct {
	Sinks      []netip.Prefix `yaml:"sinks,omitempty"`      // the sink is in one of them
	Interfaces []string       `yaml:"interfaces,omitempty"` // patterns of path.Match: each target's id fits one. No PF does
	VNIs       []uint32       `yaml:"vnis,omitempty"`       // each target is in one of them. No PF is
	// A capture that is started has limits of its own, which are at most these.
	MaxDuration         time.Duration `yaml:"max_duration,omitempty"`
	MaxPacketsPerSecond uint64        `yaml:"max_packets_per_second,omitempty"`
}

// Validate says what is wrong with a rule. A list that is there but empty is an error: it would look like a limit.
func (r Rule) Validate() (problems []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	check(len(r.UIDs)+len(r.Users)+len(r.GIDs)+len(r.Groups) > 0, "names nobody: give uids, users, gids or groups")
	check(!slices.Contains(r.Users, ""), "users has an empty name")
	check(!slices.Contains(r.Groups, ""), "groups has an empty name")
	check(len(r.Allow) > 0, "allows nothing: allow has some of %s", list(classes))
	for _, c := range r.Allow {
		check(slices.Contains(classes, c), "allow: %q is none of %s", c, list(classes))
	}
	l := r.Limits
	check(slices.Contains(r.Allow, Captures) || !l.Any(), "limits captures, but does not allow them")
	for name, empty := range map[string]bool{
		"sinks": l.Sinks != nil && len(l.Sinks) == 0, "interfaces": l.Interfaces != nil && len(l.Interfaces) == 0,
		"vnis": l.VNIs != nil && len(l.VNIs) == 0,
	} {
		check(!empty, "captures.%s is empty: leave it out if there is no such limit", name)
	}
	for _, p := range l.Sinks {
		check(p.IsValid() && p == p.Masked() && p.Addr().Is6() && !p.Addr().Is4In6(), "captures.sinks: %q is no IPv6 prefix", p)
	}
	for _, pattern := range l.Interfaces {
		_, err := path.Match(pattern, "")
		check(err == nil && pattern != "", "captures.interfaces: %q is not a pattern", pattern)
	}
	check(!slices.Contains(l.VNIs, 0), "captures.vnis: 0 is no VNI")
	check(l.MaxDuration >= 0, "captures.max_duration %v is negative", l.MaxDuration)
	return problems
}

// Any reports whether there is a limit.
func (l Limits) Any() bool {
	return l.Sinks != nil || l.Interfaces != nil || l.VNIs != nil || l.MaxDuration != 0 || l.MaxPacketsPerSecond != 0
}

// refusal returns which limit a capture exceeds; empty if none.
func (l Limits) refusal(c Capture, starts bool) string {
	if l.Sinks != nil && !slices.ContainsFunc(l.Sinks, func(p netip.Prefix) bool { return p.Contains(c.Sink) }) {
		return fmt.Sprintf("allows sinks in %s only", list(l.Sinks))
	}
	if (l.Interfaces != nil || l.VNIs != nil) && len(c.Targets) == 0 {
		return "allows captures of some interfaces only, and this one's are not known"
	}
	for _, t := range c.Targets {
		if why := l.refusalOf(t); why != "" {
			return why
		}
	}
	switch {
	case !starts:
		return ""
	case l.MaxDuration != 0 && (c.Duration <= 0 || c.Duration > l.MaxDuration):
		return fmt.Sprintf("wants a limit of the duration, %v at most", l.MaxDuration)
	case l.MaxPacketsPerSecond != 0 && (c.PacketsPerSecond == 0 || c.PacketsPerSecond > l.MaxPacketsPerSecond):
		return fmt.Sprintf("wants a limit of the packets per second, %d at most", l.MaxPacketsPerSecond)
	}
	return ""
}

// refusalOf returns which limit a target exceeds; empty if none.
func (l Limits) refusalOf(t Target) string {
	fits := func(pattern string) bool { ok, _ := path.Match(pattern, t.Interface); return ok }
	switch {
	case t.Interface == "" && (l.Interfaces != nil || l.VNIs != nil):
		return fmt.Sprintf("allows captures of some interfaces only, not of pf%d, which sees all", t.PF)
	case l.Interfaces != nil && !slices.ContainsFunc(l.Interfaces, fits):
		return fmt.Sprintf("allows interfaces %s only, not %s", list(l.Interfaces), t.Interface)
	case l.VNIs != nil && !slices.Contains(l.VNIs, t.VNI):
		return fmt.Sprintf("allows VNIs %s only, and %s is in none of them", list(l.VNIs), t.Interface)
	}
	return ""
}

// list returns values for people: a, b, c.
func list[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ", ")
}

// missing returns the rule that would allow a request, and little more, as a line of YAML.
func missing(peer Peer, r Request) string {
	who := fmt.Sprintf("uids: [%d]", peer.UID)
	if peer.User != "" {
		who = "users: " + quoted([]string{peer.User})
	}
	line := fmt.Sprintf("- {%s, allow: [%s]", who, r.Class)
	if len(r.Captures) > 0 {
		if limits := limitsOf(r); limits != "" {
			line += ", captures: {" + limits + "}"
		}
	}
	return line + "}"
}

// limitsOf returns the limits that the captures of a request keep, as fields of YAML. A capture of a PF, or of what is
// not known, keeps none of interfaces.
func limitsOf(r Request) string {
	var sinks, interfaces []string
	var longest time.Duration
	var fastest uint64
	known, ends, slow := true, r.Starts, r.Starts
	for _, c := range r.Captures {
		if c.Sink.IsValid() {
			sinks = append(sinks, netip.PrefixFrom(c.Sink, c.Sink.BitLen()).String())
		}
		for _, t := range c.Targets {
			known = known && t.Interface != ""
			interfaces = append(interfaces, escaped(t.Interface))
		}
		known = known && len(c.Targets) > 0
		longest, fastest = max(longest, c.Duration), max(fastest, c.PacketsPerSecond)
		ends, slow = ends && c.Duration > 0, slow && c.PacketsPerSecond > 0
	}
	var fields []string
	if len(sinks) == len(r.Captures) {
		fields = append(fields, "sinks: "+quoted(sinks))
	}
	if known {
		fields = append(fields, "interfaces: "+quoted(interfaces))
	}
	if ends {
		fields = append(fields, fmt.Sprintf("max_duration: %v", longest))
	}
	if slow {
		fields = append(fields, fmt.Sprintf("max_packets_per_second: %d", fastest))
	}
	return strings.Join(fields, ", ")
}

// escaped returns the pattern that only this text fits.
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

// quoted returns a list of YAML, each text once. Texts are of ASCII in double quotes, which Go and YAML write alike.
func quoted(texts []string) string {
	slices.Sort(texts)
	texts = slices.Compact(texts)
	for i, t := range texts {
		texts[i] = strconv.QuoteToASCII(t)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
