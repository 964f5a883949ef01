// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"

	"dpservice/rteflow"
)

// checkDuplication knows the mirrors that net_mlx5 cannot make, though they are valid.
func (n *Reference) checkDuplication(_ uint16, r rteflow.Rule) (Verdict, string) {
	at := slices.IndexFunc(r.Actions, mirrors)
	if at < 0 || !r.Transfer {
		return Accepted, ""
	}
	for i, a := range r.Actions {
		if _, ok := a.(rteflow.Drop); ok {
			return Refused, "a mirror of what is dropped"
		}
		if _, ok := target(a); ok && i < at && slices.ContainsFunc(r.Actions[at:], ownRule) {
			return Refused, "a mirror behind the port, and changes behind it"
		}
	}
	return Accepted, ""
}

// mirrors says whether it is a sample of all packets.
func mirrors(a rteflow.Action) bool {
	s, ok := a.(rteflow.Sample)
	return ok && len(s.Actions) > 0
}

// ownRule says whether what is behind a mirror becomes a rule of its own for such an action: it changes what was
// mirrored.
func ownRule(a rteflow.Action) bool {
	switch a := a.(type) {
	case rteflow.RawEncap:
		return false
	case rteflow.RawDecap:
		return len(a.Data) > linkMost
	default:
		return rewrites(a)
	}
}

// kinds of actions, to the card: it makes one of all changes of fields, at the place of the first.
type stepKind int

const (
	start stepKind = iota
	decapsulates
	modifiesFields
	pops
	pushes
	encapsulates
	ends
)

// mayFollow are the kinds behind which the card takes one: what comes from the wire, and what a guest or the
// application sends, are different.
var mayFollow = map[bool]map[stepKind][]stepKind{
	true: {
		decapsulates:   {start},
		modifiesFields: {start, decapsulates, pops},
		pops:           {start, decapsulates},
		pushes:         {start, decapsulates, modifiesFields, pushes},
		encapsulates:   {start, decapsulates, modifiesFields, pops, pushes},
		ends:           {start, decapsulates, modifiesFields, pops, pushes, encapsulates},
	},
	false: {
		modifiesFields: {start, pops},
		pops:           {start},
		pushes:         {start, modifiesFields, pops, pushes},
		encapsulates:   {start, modifiesFields, pops, pushes},
		ends:           {start, modifiesFields, pops, pushes, encapsulates},
	},
}

// checkRoot knows what the root tables outside of the switch take. They are the kernel's, which sorts the actions.
func checkRoot(actions []rteflow.Action) (Verdict, string) {
	for _, a := range actions {
		switch a.(type) {
		case rteflow.Sample, rteflow.PopVLAN, rteflow.PushVLAN:
			return Refused, "an action that the kernel's tables do not take"
		}
	}
	return Accepted, ""
}

// checkOrder knows the orders of actions that the card takes, and that jumps lead upwards.
func (n *Reference) checkOrder(port uint16, r rteflow.Rule) (Verdict, string) {
	if !r.Transfer && r.Group == 0 {
		return checkRoot(r.Actions)
	}
	for _, a := range r.Actions {
		if s, ok := a.(rteflow.Sample); ok && r.Transfer && n.counts(s.Actions) {
			return Refused, "a mirror that counts"
		}
	}
	source, all := sourceOf(port, r)
	fromWire := r.Ingress || r.Transfer && n.port(source).Uplink
	if all {
		if verdict, why := n.checkDirection(r, !fromWire); verdict != Accepted {
			return verdict, why
		}
	}
	return n.checkDirection(r, fromWire)
}

// checkDirection knows the orders in the tables of one direction. A rule for all ports is in those of both.
func (n *Reference) checkDirection(r rteflow.Rule, fromWire bool) (Verdict, string) {
	split := slices.ContainsFunc(r.Actions, func(a rteflow.Action) bool {
		s, ok := a.(rteflow.Sample)
		return ok &&
			len(s.Actions) == 0
	})
	at := slices.IndexFunc(r.Actions, mirrors)
	split = split || !r.Transfer || at >= 0 && slices.ContainsFunc(r.Actions[at:], ownRule)
	last, modified, tags := start, false, 0
	for i, a := range r.Actions {
		if j, ok := a.(rteflow.Jump); ok && j.Group <= r.Group {
			return Refused, "a jump that does not lead upwards"
		}
		k, ok := stepOf(a)
		_, isSample := a.(rteflow.Sample)
		_, isAge := a.(rteflow.Age)
		switch {
		case isAge && last == ends && n.agesInCard(r.Actions)(a):
			return Refused, "an age behind the fate"
		case !ok || k == modifiesFields && modified:
			continue
		case at >= 0 && !split && (k == ends && !isSample || k == encapsulates && i > at):
			continue // it is in the mirror
		}
		if k == pushes {
			tags++
		}
		if !slices.Contains(mayFollow[fromWire][k], last) || tags > maxTags {
			return Refused, "the order of the actions"
		}
		last, modified = k, modified || k == modifiesFields
		if isSample && split {
			last, modified, tags = start, false, 0
		}
	}
	return Accepted, ""
}

// stepOf is what an action is to the card, if its place matters.
func stepOf(a rteflow.Action) (stepKind, bool) {
	if _, ok := target(a); ok || modifies(a) {
		return map[bool]stepKind{true: ends, false: modifiesFields}[ok], true
	}
	switch a := a.(type) {
	case rteflow.SetMark, rteflow.SetMeta, rteflow.SetTag:
		return modifiesFields, true
	case rteflow.RawDecap:
		return decapsulates, len(a.Data) > linkMost
	case rteflow.RawEncap:
		return encapsulates, len(a.Data) > linkMost
	case rteflow.PopVLAN:
		return pops, true
	case rteflow.PushVLAN:
		return pushes, true
	case rteflow.Sample, rteflow.Jump:
		return ends, true
	default:
		return start, false
	}
}
