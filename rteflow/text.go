// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
)

// String is the rule in the syntax of dpdk-testpmd's flow commands, from "group" on. What testpmd wants set up by
// commands of their own, headers and samples, is written inline in braces.
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
	words := append([]string{fmt.Sprintf("group %d priority %d", r.Group, r.Priority)}, r.domains()...)
	words = append(words, "pattern", closed(r.PatternString()), "actions", closed(p.list(r.Actions)))
	return strings.Join(words, " ")
}

// domains are testpmd's words for the rule's domain.
func (a Attr) domains() []string {
	var words []string
	if a.Ingress {
		words = append(words, "ingress")
	}
	if a.Egress {
		words = append(words, "egress")
	}
	if a.Transfer {
		words = append(words, "transfer")
	}
	return words
}

func closed(list string) string {
	if list == "" {
		return "end"
	}
	return list + " / end"
}

func itemName(it Item) string {
	if name := newLayout(it).name; name != "" {
		return name
	}
	return fmt.Sprintf("unknown %T", it)
}

func itemText(it Item) string {
	l := newLayout(it)
	words := []string{itemName(it)}
	for i := range l.fields {
		words = append(words, l.words(&l.fields[i]))
	}
	return strings.Join(words, " ")
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
	case SetIPv4Src:
		return fmt.Sprintf("%s ipv4_addr %v", name, a.Addr)
	case SetIPv4Dst:
		return fmt.Sprintf("%s ipv4_addr %v", name, a.Addr)
	case SetIPv6Src:
		return fmt.Sprintf("%s ipv6_addr %v", name, a.Addr)
	case SetIPv6Dst:
		return fmt.Sprintf("%s ipv6_addr %v", name, a.Addr)
	case SetTPSrc:
		return fmt.Sprintf("%s port %d", name, a.Port)
	case SetTPDst:
		return fmt.Sprintf("%s port %d", name, a.Port)
	case PushVLAN:
		return fmt.Sprintf("%s ethertype 0x%04x", name, a.EtherType)
	case SetMark:
		return fmt.Sprintf("%s id %d", name, a.ID)
	case SetTag:
		return fmt.Sprintf("%s data %d index %d mask %d", name, a.Data, a.Index, a.Mask)
	case SetMeta:
		return fmt.Sprintf("%s data %d mask %d", name, a.Data, a.Mask)
	case Indirect:
		return fmt.Sprintf("%s %d", name, a.ID)
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

// actionNames is what testpmd calls the actions.
var actionNames = map[reflect.Type]string{
	reflect.TypeFor[Jump]():              "jump",
	reflect.TypeFor[Sample]():            "sample",
	reflect.TypeFor[RawEncap]():          "raw_encap",
	reflect.TypeFor[RawDecap]():          "raw_decap",
	reflect.TypeFor[SetMACSrc]():         "set_mac_src",
	reflect.TypeFor[SetMACDst]():         "set_mac_dst",
	reflect.TypeFor[SetIPv4Src]():        "set_ipv4_src",
	reflect.TypeFor[SetIPv4Dst]():        "set_ipv4_dst",
	reflect.TypeFor[SetIPv6Src]():        "set_ipv6_src",
	reflect.TypeFor[SetIPv6Dst]():        "set_ipv6_dst",
	reflect.TypeFor[SetTPSrc]():          "set_tp_src",
	reflect.TypeFor[SetTPDst]():          "set_tp_dst",
	reflect.TypeFor[PopVLAN]():           "of_pop_vlan",
	reflect.TypeFor[PushVLAN]():          "of_push_vlan",
	reflect.TypeFor[SetMark]():           "mark",
	reflect.TypeFor[SetTag]():            "set_tag",
	reflect.TypeFor[SetMeta]():           "set_meta",
	reflect.TypeFor[DecTTL]():            "dec_ttl",
	reflect.TypeFor[Age]():               "age",
	reflect.TypeFor[Count]():             "count",
	reflect.TypeFor[Indirect]():          "indirect",
	reflect.TypeFor[Drop]():              "drop",
	reflect.TypeFor[Queue]():             "queue",
	reflect.TypeFor[ToRepresentedPort](): "represented_port",
	reflect.TypeFor[ToPortID]():          "port_id",
}

func actionName(a Action) string {
	if name, ok := actionNames[reflect.TypeOf(a)]; ok {
		return name
	}
	return fmt.Sprintf("unknown %T", a)
}
