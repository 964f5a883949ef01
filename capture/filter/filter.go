// SPDX-License-Identifier: Apache-2.0

// Package filter compiles filters in libpcap's language (pcap-filter(7)) into ordered rules that a NIC can match: the
// first rule that a packet matches says whether it is captured.
package filter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a filter's text.
const (
	MaxLength = 1024 // bytes
	maxDepth  = 32   // brackets and negations within each other
)

// Link is what a filter's packets begin with.
type Link int

// The links.
const (
	Ethernet Link = iota // frames as a guest sends them
	IP                   // IP packets without a frame, as a tunnel carries them
)

// Rule says of the packets that match Pattern, and no rule before it, whether they are captured.
type Rule struct {
	Pattern Pattern
	Sample  bool
}

// Program is a compiled filter. Its last rule matches every packet.
type Program struct {
	Rules []Rule
	// Notes say what the filter means in libpcap's language and rules cannot tell: it does not match.
	Notes []string
}

// Everything is the program without a filter: all packets are captured.
func Everything() Program { return Program{Rules: []Rule{{Sample: true}}} }

// Kind says what is wrong with a filter.
type Kind int

// The kinds of errors.
const (
	Syntax      Kind = iota // it is not of the language
	Unsupported             // no rules can express it
	TooMany                 // it takes more rules than are allowed
)

// Error is a filter that was not compiled.
type Error struct {
	Kind  Kind
	Part  string // the part of the filter that is to blame; empty: the whole
	Why   string
	Rules int // TooMany: how many rules it takes, at least
}

func (e *Error) Error() string {
	if e.Part == "" {
		return "filter: " + e.Why
	}
	return fmt.Sprintf("filter: %q: %s", e.Part, e.Why)
}

// Compile turns a filter into at most limit rules, as few as it can find. An empty filter captures everything. The
// error is an *Error. It is a pure function of its arguments.
func Compile(text string, link Link, limit int) (Program, error) {
	root, tagged, err := parse(text, link)
	if err != nil {
		return Program{}, err
	}
	if root == nil {
		return Everything(), nil
	}
	var best Program
	err = nil
	for _, c := range compilers(link, tagged) {
		p, failed := c.program(root)
		if failed != nil {
			err = failed
		} else if best.Rules == nil || len(p.Rules) < len(best.Rules) {
			best = p
		}
	}
	switch {
	case best.Rules == nil:
		return Program{}, err
	case len(best.Rules) > limit:
		return Program{}, &Error{Kind: TooMany, Rules: len(best.Rules),
			Why: fmt.Sprintf("it takes %d rules, and at most %d are allowed for an interface", len(best.Rules), limit)}
	case best.isNothing() && (link == Ethernet || never(text)):
		return Program{}, &Error{Kind: Unsupported,
			Why: strings.Join(append(best.Notes, "no packet would be captured"), "; ")}
	}
	return best, nil
}

func (p Program) isNothing() bool { return len(p.Rules) == 1 && !p.Rules[0].Sample }

// never reports whether a filter that no packet in a tunnel matches is one that no frame matches, too: the other ones,
// such as arp, may be meant for further interfaces.
func never(text string) bool {
	_, err := Compile(text, Ethernet, maxDecisions)
	return err != nil
}

// compilers are the ways to compile, of which sometimes the one and sometimes the other takes fewer rules.
func compilers(link Link, tagged bool) []*compiler {
	var all []*compiler
	for _, exclude := range []bool{false, true} {
		all = append(all, &compiler{link: link, exclude: exclude})
		if !tagged { // what a vlan makes of those behind it is only known in their order
			all = append(all, &compiler{link: link, exclude: exclude, backward: true})
		}
	}
	return all
}

// compiler turns expressions into lists of decisions.
type compiler struct {
	link     Link
	exclude  bool // ranges of numbers may be written as larger ones without some
	backward bool // of two operands the second is looked at first
}

func (c *compiler) program(root *node) (Program, error) {
	decisions, err := c.list(root)
	if err != nil {
		return Program{}, err
	}
	var p Program
	decisions, p.Notes, err = withoutGaps(decisions)
	if err != nil {
		return Program{}, err
	}
	for _, d := range decisions.minimal() {
		p.Rules = append(p.Rules, Rule{d.pattern.Pattern, d.sample})
	}
	return p, nil
}

func (c *compiler) list(n *node) (list, error) {
	switch n.op {
	case opPrimitive:
		return n.primitive.list(c)
	case opNot:
		l, err := c.list(n.left)
		return l.not(), err
	}
	left, err := c.list(n.left)
	if err != nil {
		return nil, err
	}
	right, err := c.list(n.right)
	if err != nil {
		return nil, err
	}
	if c.backward {
		left, right = right, left
	}
	if n.op == opOr {
		l, err := left.not().and(right.not())
		return l.not(), err
	}
	return left.and(right)
}

// withoutGaps removes the decisions whose patterns no rule can express, and says which these were, if the filter's
// words only imply them. Those that it asks for are an error.
func withoutGaps(decisions list) (list, []string, error) {
	var notes []string
	kept := make(list, 0, len(decisions))
	for _, d := range decisions {
		g := cmp.Or(d.pattern.behindTag, d.pattern.gap)
		switch {
		case g == nil:
			kept = append(kept, d)
		case !g.implied:
			return nil, nil, &Error{Kind: Unsupported, Part: g.part, Why: g.why}
		default:
			if note := fmt.Sprintf("filter: %q: %s", g.part, g.why); !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	return kept, notes, nil
}
