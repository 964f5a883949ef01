// SPDX-License-Identifier: Apache-2.0

// Package filter compiles filters in the language of libpcap (pcap-filter(7)) into ordered rules that a NIC can match.
// The first rule that matches a packet decides whether the packet is captured.
package filter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dpservice/dpservice/fault"
)

// Limits of the text of a filter.
const (
	MaxLength = 1024 // bytes
	maxDepth  = 32   // nested brackets and negations
)

// Link is the first header of the packets that a filter sees.
type Link int

// The links.
const (
	Ethernet Link = iota // frames as a guest sends them
	IP                   // IP packets without a frame, as a tunnel carries them
)

// Rule decides about the packets that match Pattern and no earlier rule: they are captured if Sample is set.
type Rule struct {
	Pattern Pattern
	Sample  bool
}

// Program is a compiled filter. Its last rule matches every packet.
type Program struct {
	Rules []Rule
	// Notes list the parts of the filter that match packets in libpcap but that rules cannot express. These packets are
	// not captured.
	Notes []string
}

// Everything returns the program of an empty filter: all packets are captured.
func Everything() Program { return Program{Rules: []Rule{{Sample: true}}} }

// Kind is the kind of an error in a filter.
type Kind int

// The kinds of errors.
const (
	Syntax      Kind = iota // the text is not valid in the language
	Unsupported             // rules cannot express the filter
	TooMany                 // the filter needs more rules than are allowed
)

// Error says why a filter was not compiled.
type Error struct {
	Kind  Kind
	Part  string // the part of the filter that causes the error; empty means the whole filter
	Why   string
	Rules int // for TooMany: the filter needs at least this many rules
}

func (e *Error) Error() string {
	if e.Part == "" {
		return "filter: " + e.Why
	}
	return fmt.Sprintf("filter: %q: %s", e.Part, e.Why)
}

// Reason is why a request is refused whose filter Compile has refused with this error.
func Reason(err error) fault.Reason {
	var e *Error
	if errors.As(err, &e) {
		switch e.Kind {
		case Unsupported:
			return fault.NotSupported
		case TooMany:
			return fault.LimitReached
		}
	}
	return fault.InvalidParams
}

// Compile compiles a filter to at most limit rules, and tries to use few. An empty filter captures everything. The
// error is an *Error. The result depends only on the arguments.
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

// never reports whether no Ethernet frame matches the filter. It is called for filters that match no packet in a
// tunnel. Some of these, such as arp, match frames, and may be meant for other interfaces of the capture.
func never(text string) bool {
	_, err := Compile(text, Ethernet, maxDecisions)
	return err != nil
}

// compilers returns the variants of the compiler. Which one needs the fewest rules depends on the filter.
func compilers(link Link, tagged bool) []*compiler {
	var all []*compiler
	for _, exclude := range []bool{false, true} {
		all = append(all, &compiler{link: link, exclude: exclude})
		if !tagged { // with a vlan the order of the terms matters: it changes the meaning of those after it
			all = append(all, &compiler{link: link, exclude: exclude, backward: true})
		}
	}
	return all
}

// compiler turns expressions into lists of decisions.
type compiler struct {
	link     Link
	exclude  bool // a range may be compiled to a larger range from which some numbers are excluded
	backward bool // the second of two operands is matched first
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

// withoutGaps removes the decisions with patterns that rules cannot express, and returns a note about each of them. If
// the filter asks for such a pattern by name, withoutGaps returns an error instead.
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
