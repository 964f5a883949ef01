// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// String is the rule in the syntax of dpdk-testpmd's flow commands, from "group" on. What testpmd wants set up by
// commands of their own, headers and samples, stands inline in braces.
func (r Rule) String() string {
	return r.text(&printer{})
}

// PatternString is the pattern in testpmd's syntax, without the closing "/ end".
func (r Rule) PatternString() string {
	names := make([]string, len(r.Pattern))
	for i, it := range r.Pattern {
		names[i] = itemText(it)
	}
	return strings.Join(names, " / ")
}

// ActionsString is the actions as in String, without the closing "/ end".
func (r Rule) ActionsString() string {
	return (&printer{}).list(r.Actions)
}

// Commands are the lines for dpdk-testpmd that create the rule on the port. A header that testpmd has no words for
// is a comment, which begins with '#'.
func (r Rule) Commands(port uint16) []string {
	p := &printer{numbered: true}
	create := fmt.Sprintf("flow create %d %s", port, r.text(p))
	return append(p.setup, create)
}

func (r Rule) text(p *printer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "group %d priority %d", r.Group, r.Priority)
	for _, domain := range []struct {
		on   bool
		name string
	}{{r.Ingress, "ingress"}, {r.Egress, "egress"}, {r.Transfer, "transfer"}} {
		if domain.on {
			b.WriteString(" " + domain.name)
		}
	}
	fmt.Fprintf(&b, " pattern %s actions %s", closed(r.PatternString()), closed(p.list(r.Actions)))
	return b.String()
}

func closed(list string) string {
	if list == "" {
		return "end"
	}
	return list + " / end"
}

func itemName(it Item) string {
	if l := layoutOf(it); l.name != "" {
		return l.name
	}
	return fmt.Sprintf("unknown %T", it)
}

func itemText(it Item) string {
	words := []string{itemName(it)}
	for _, f := range layoutOf(it).fields {
		words = append(words, f.words())
	}
	return strings.Join(words, " ")
}

func (f *field) words() string {
	switch {
	case f.err != nil:
		return fmt.Sprintf("%s is invalid (%v)", f.name, f.err)
	case f.exact():
		return f.name + " is " + f.text(f.spec)
	case f.last == nil:
		return fmt.Sprintf("%s spec %s %s mask %s", f.name, f.text(f.spec), f.name, f.text(f.mask))
	default:
		return fmt.Sprintf("%s spec %s %s last %s %s mask %s",
			f.name, f.text(f.spec), f.name, f.text(f.last), f.name, f.text(f.mask))
	}
}

// printer writes actions. Numbered, it puts headers and samples into set-up commands and refers to them by their
// index, as testpmd does.
type printer struct {
	numbered              bool
	setup                 []string
	encaps, decaps, lists int
}

func (p *printer) list(actions []Action) string {
	words := make([]string, len(actions))
	for i, a := range actions {
		words[i] = p.action(a)
	}
	return strings.Join(words, " / ")
}

func (p *printer) action(a Action) string {
	name := actionName(a)
	switch a := a.(type) {
	case Jump:
		return fmt.Sprintf("%s group %d", name, a.Group)
	case Sample:
		return fmt.Sprintf("%s ratio %d %s", name, a.Ratio, p.sample(a))
	case RawEncap:
		return name + " " + p.header(name, a.Data, encapText, &p.encaps)
	case RawDecap:
		return name + " " + p.header(name, a.Data, decapText, &p.decaps)
	case SetMACSrc:
		return name + " mac_addr " + macCodec.text(a.MAC[:])
	case SetMACDst:
		return name + " mac_addr " + macCodec.text(a.MAC[:])
	case Age:
		return fmt.Sprintf("%s timeout %d", name, a.Timeout)
	case Queue:
		return fmt.Sprintf("%s index %d", name, a.Index)
	case ToRepresentedPort:
		return fmt.Sprintf("%s ethdev_port_id %d", name, a.Port)
	case ToPortID:
		return fmt.Sprintf("%s id %d", name, a.Port)
	default:
		return name
	}
}

func (p *printer) sample(s Sample) string {
	if !p.numbered {
		return "{ " + p.list(s.Actions) + " }"
	}
	index := p.lists
	p.lists++
	p.setup = append(p.setup, fmt.Sprintf("set sample_actions %d %s", index, closed(p.list(s.Actions))))
	return fmt.Sprintf("index %d", index)
}

// header is the operand of raw_encap and raw_decap: data in testpmd's words, if it has them; next counts those of
// this name.
func (p *printer) header(name string, data []byte, words func([]byte) (string, bool), next *int) string {
	text, ok := words(data)
	if !p.numbered {
		if !ok {
			text = "hex " + hex.EncodeToString(data)
		}
		return "{ " + text + " }"
	}
	index := *next
	*next++
	line := fmt.Sprintf("set %s %d %s / end_set", name, index, text)
	if !ok {
		line = fmt.Sprintf("# testpmd has no words for %s %d: %s", name, index, hex.EncodeToString(data))
	}
	p.setup = append(p.setup, line)
	return fmt.Sprintf("index %d", index)
}

func actionName(a Action) string {
	switch a.(type) {
	case Jump:
		return "jump"
	case Sample:
		return "sample"
	case RawEncap:
		return "raw_encap"
	case RawDecap:
		return "raw_decap"
	case SetMACSrc:
		return "set_mac_src"
	case SetMACDst:
		return "set_mac_dst"
	case DecTTL:
		return "dec_ttl"
	case Age:
		return "age"
	case Count:
		return "count"
	case Drop:
		return "drop"
	case Queue:
		return "queue"
	case ToRepresentedPort:
		return "represented_port"
	case ToPortID:
		return "port_id"
	default:
		return fmt.Sprintf("unknown %T", a)
	}
}
