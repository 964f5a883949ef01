// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"

	"dpservice/rteflow"
)

// Verdict is what the documents say of a rule.
type Verdict int

// The verdicts.
const (
	Accepted Verdict = iota
	Refused
	// Either: the documents leave it to the driver.
	Either
)

// maxHeader is the most bytes that raw_encap takes.
const maxHeader = 132

// linkMost is the longest header of raw_decap and raw_encap that net_mlx5 takes for a link layer; longer ones are
// tunnels.
const linkMost = 34

type check func(*Reference, uint16, rteflow.Rule) (Verdict, string)

// Check says whether the NIC takes a rule, and for a refusal why.
func (n *Reference) Check(port uint16, r rteflow.Rule) (Verdict, string) {
	if verdict, why := n.Valid(port, r); verdict != Accepted {
		return verdict, why
	}
	return n.first(port, r, (*Reference).checkDuplication, (*Reference).checkOrder)
}

// Valid says what rte_flow_validate answers: it does not ask the card.
func (n *Reference) Valid(port uint16, r rteflow.Rule) (Verdict, string) {
	return n.first(port, r, (*Reference).checkDomain, (*Reference).checkPorts, (*Reference).checkLayers,
		(*Reference).checkFields, (*Reference).checkFate,
		(*Reference).checkHeaders, (*Reference).checkRewrites, (*Reference).checkRegisters, (*Reference).checkTags,
		(*Reference).checkSample)
}

func (n *Reference) first(port uint16, r rteflow.Rule, checks ...check) (Verdict, string) {
	for _, c := range checks {
		if verdict, why := c(n, port, r); verdict != Accepted {
			return verdict, why
		}
	}
	return Accepted, ""
}

func (n *Reference) checkDomain(port uint16, r rteflow.Rule) (Verdict, string) {
	switch {
	case flag01(r.Ingress)+flag01(r.Egress)+flag01(r.Transfer) != 1:
		return Refused, "not one domain"
	case r.Transfer && !n.port(port).Switch:
		return Refused, "transfer outside of the switch"
	}
	return Accepted, ""
}

// checkPorts looks at the ports that the rule names, within a sample too.
func (n *Reference) checkPorts(_ uint16, r rteflow.Rule) (Verdict, string) {
	var named []uint16
	represented, ids := 0, 0
	for _, it := range r.Pattern {
		switch it := it.(type) {
		case rteflow.RepresentedPort:
			named, represented = append(named, it.Port), represented+1
		case rteflow.PortID:
			named, ids = append(named, it.Port), ids+1
		case rteflow.AnyPort:
			represented++
		case rteflow.AnyPortID:
			ids++
		}
	}
	if represented > 1 || ids > 1 {
		return Refused, "a source port twice"
	}
	for _, a := range flat(r.Actions) {
		if to, ok := target(a); ok {
			named = append(named, to)
		}
	}
	if len(named)+represented+ids > 0 && !r.Transfer {
		return Refused, "a port is named outside of the transfer domain"
	}
	for _, id := range named {
		if p := n.port(id); p == nil || !p.Switch {
			return Refused, "a port outside of the switch"
		}
	}
	return Accepted, ""
}

// checkLayers wants the layers stacked from the lowest to the highest, of IP one.
func (n *Reference) checkLayers(_ uint16, r rteflow.Rule) (Verdict, string) {
	var below []kind
	for _, it := range r.Pattern {
		k, ok := layer(it)
		if !ok {
			continue
		}
		if len(below) == 0 && k != eth || len(below) > 0 && !follows(below[len(below)-1], k) {
			return Refused, "layers out of order"
		}
		if k == vxlan && slices.Contains(below, vxlan) {
			return Refused, "VXLAN within VXLAN"
		}
		below = append(below, k)
	}
	return Accepted, ""
}

func follows(below, k kind) bool {
	switch k {
	case eth:
		return below == vxlan
	case vxlan:
		return below == udp
	case vlan:
		return below == eth
	case ipv4, ipv6:
		return below == eth || below == vlan || below == vxlan
	case icmp:
		return below == ipv4
	case icmp6:
		return below == ipv6
	default:
		return isIP(below)
	}
}

// checkFields refuses values that contradict the layers, and masks that net_mlx5 has no room for.
func (n *Reference) checkFields(_ uint16, r rteflow.Rule) (Verdict, string) {
	within := false
	for i, it := range r.Pattern {
		k, _ := layer(it)
		within = within || k == vxlan
		var next *kind
		if i+1 < len(r.Pattern) {
			if above, ok := layer(r.Pattern[i+1]); ok {
				next = &above
			}
		}
		if why := checkType(it, next); why != "" {
			return Refused, why
		}
		if m := protoMatch(it); m != nil {
			if why := checkProto(k, m, next, within); why != "" {
				return Refused, why
			}
		}
		if ip, ok := it.(rteflow.IPv4); ok && ip.FragmentOffset != nil {
			if m := ip.FragmentOffset; m.Mask == nil && m.Spec != 0 || m.Mask != nil && m.Spec&*m.Mask != 0 {
				return Refused, "a fragment's offset"
			}
		}
	}
	return Accepted, ""
}

// checkType: what an L2 item says of the EtherType, under its mask, has to be that of the IP item behind it.
func checkType(it rteflow.Item, next *kind) string {
	var m *rteflow.Match[uint16]
	switch it := it.(type) {
	case rteflow.Eth:
		m = it.Type
	case rteflow.VLAN:
		m = it.InnerType
	}
	if m == nil || next == nil {
		return ""
	}
	says := m.Spec
	if m.Mask != nil {
		says &= *m.Mask
	}
	if says != 0 && (*next == ipv4 && says != typeIPv4 || *next == ipv6 && says != typeIPv6) {
		return "the EtherType is not the next layer's"
	}
	return ""
}

func protoMatch(it rteflow.Item) *rteflow.Match[uint8] {
	switch it := it.(type) {
	case rteflow.IPv4:
		return it.Proto
	case rteflow.IPv6:
		return it.Proto
	}
	return nil
}

// checkProto knows that net_mlx5 takes an outermost header for a tunnel's that says that IP follows, what it thinks of
// these, and that it does not look into extension headers.
func checkProto(k kind, m *rteflow.Match[uint8], next *kind, within bool) string {
	mask := uint8(0xff)
	if m.Mask != nil {
		mask = *m.Mask
	}
	says := m.Spec & mask
	switch {
	case mask == 0:
		return ""
	case k == ipv4 && mask != 0xff:
		return "a partial mask of the protocol"
	case !within && says == protoIPIP:
		return "a tunnel"
	case !within && k == ipv4 && says == protoIP6IP:
		return "a tunnel in IPv4"
	case !within && says == protoIP6IP && next != nil:
		return "something within a tunnel"
	case k == ipv6 && mask == 0xff && slices.Contains([]uint8{protoHopOpts, protoRouting, protoFragment, protoESP, protoAH,
		protoDstOpts}, says):
		return "an extension header"
	case next == nil:
		return ""
	}
	if want, ok := map[kind]uint8{tcp: protoTCP, udp: protoUDP, icmp: protoICMP, icmp6: protoICMP6}[*next]; ok &&
		says != want {
		return "the protocol is not the next layer's"
	}
	return ""
}

// checkFate wants one fate, of the rule's domain.
func (n *Reference) checkFate(port uint16, r rteflow.Rule) (Verdict, string) {
	fates, drops, counts, ages := 0, 0, 0, 0
	shares, keeps := false, false // a counter with others, an age of its own
	for _, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.Jump:
			fates++
			if !r.Transfer && a.Group == 0 {
				return Refused, "a jump to group 0"
			}
		case rteflow.Queue:
			fates++
			if !r.Ingress {
				return Refused, "a queue of what does not come in"
			}
			if a.Index >= n.port(port).Queues {
				return Refused, "no such queue"
			}
		case rteflow.Drop:
			drops++
		case rteflow.ToRepresentedPort, rteflow.ToPortID:
			fates++
		case rteflow.Count:
			counts++
		case rteflow.Indirect:
			shared := n.Shared[a.ID]
			if shared.Port != port {
				return Refused, "an indirect action of another port"
			}
			if !shared.Counts && !r.Transfer && r.Group == 0 {
				return Refused, "a shared age in a root table"
			}
			counts, ages, shares = counts+flag01(shared.Counts), ages+flag01(!shared.Counts), shares || shared.Counts
		case rteflow.Age:
			ages, keeps = ages+1, true
			if a.Timeout == 0 {
				return Refused, "no timeout"
			}
		}
	}
	switch {
	case fates > 1 || fates == 1 && drops > 0:
		return Refused, "two fates"
	case fates+drops == 0 && !r.Egress:
		return Refused, "no fate"
	case counts > 1 || ages > 1:
		return Refused, "the same twice"
	case shares && keeps && n.agesByCounter(r):
		return Refused, "an age beside a shared counter"
	}
	return Accepted, ""
}

// agesByCounter says whether the card cannot keep an age for the rule, so that the driver takes the rule's own counter
// for one.
func (n *Reference) agesByCounter(r rteflow.Rule) bool {
	return n.Card == "cx5" || !r.Transfer && r.Group == 0
}

// checkHeaders looks at raw_decap and raw_encap, within a sample too.
func (n *Reference) checkHeaders(port uint16, r rteflow.Rule) (Verdict, string) {
	representor := n.port(port).Switch && !n.port(port).Uplink
	for _, a := range flat(r.Actions) {
		if e, ok := a.(rteflow.RawEncap); ok && (len(e.Data) == 0 || len(e.Data) > maxHeader) {
			return Refused, "the header's size"
		}
	}
	for _, actions := range append([][]rteflow.Action{r.Actions}, samples(r.Actions)...) {
		if why := checkTunnel(actions); why != "" {
			return Refused, why
		}
		t := tunnelOf(actions)
		switch {
		case t.encap && r.Ingress:
			return Refused, "an encapsulation of what comes in"
		case t.decap && (r.Egress || r.Ingress && representor):
			return Refused, "a decapsulation of what does not come from the wire"
		}
	}
	return Accepted, ""
}

// samples are the actions of the samples.
func samples(actions []rteflow.Action) (all [][]rteflow.Action) {
	for _, a := range actions {
		if s, ok := a.(rteflow.Sample); ok {
			all = append(all, s.Actions)
		}
	}
	return all
}

// tunnel is what a list's raw_decap and raw_encap amount to. A new link layer belongs to a decapsulation, and the old
// one to an encapsulation.
type tunnel struct{ encap, decap bool }

func tunnelOf(actions []rteflow.Action) (t tunnel) {
	for _, a := range actions {
		switch a := a.(type) {
		case rteflow.RawEncap:
			t.encap = t.encap || len(a.Data) > linkMost
		case rteflow.RawDecap:
			t.decap = t.decap || len(a.Data) > linkMost
		}
	}
	return t
}

// checkTunnel wants a raw_decap and a raw_encap, of which exactly one is about a tunnel, or only the raw_encap of one;
// and what changes the packet neither before a decapsulation nor behind an encapsulation.
func checkTunnel(actions []rteflow.Action) string {
	var encaps, decaps, encap, decap int
	modified := false
	for _, a := range actions {
		switch a := a.(type) {
		case rteflow.RawEncap:
			encaps, encap = encaps+1, len(a.Data)
		case rteflow.RawDecap:
			decaps, decap = decaps+1, len(a.Data)
			if modified && decap > linkMost {
				return "a decapsulation of what was changed"
			}
		case rteflow.SetMark, rteflow.SetTag, rteflow.SetMeta:
			modified = true
		default:
			if !modifies(a) {
				continue
			}
			modified = true
			if encap > linkMost {
				return "a change of what was encapsulated"
			}
		}
	}
	switch {
	case encaps > 1 || decaps > 1:
		return "two encapsulations or decapsulations"
	case encaps == 1 && decaps == 0 && encap <= linkMost:
		return "an encapsulation with a link layer only"
	case decaps == 1 && (encap > linkMost) == (decap > linkMost):
		return "a decapsulation without its encapsulation"
	}
	return ""
}

// named are the headers that a pattern names, as net_mlx5 counts them.
type named struct {
	vlan, l4 bool
	ip       kind // eth: none
}

// headersOf are the outer and the inner headers: inner are those behind VXLAN, and an outermost IP header that says
// that IPv6 follows.
func headersOf(pattern []rteflow.Item) (all [2]named, icmpv6 bool) {
	all[0].ip, all[1].ip = eth, eth
	side := 0
	for _, it := range pattern {
		k, ok := layer(it)
		if !ok {
			continue
		}
		if m := protoMatch(it); side == 0 && m != nil && m.Spec == protoIP6IP &&
			(m.Mask == nil || *m.Mask&protoIP6IP == protoIP6IP && m.Spec&*m.Mask == protoIP6IP) {
			side = 1
		}
		switch k {
		case vxlan:
			side = 1
		case vlan:
			all[side].vlan = true
		case ipv4, ipv6:
			all[side].ip = k
		case tcp, udp:
			all[side].l4 = true
		case icmp6:
			icmpv6 = true
		}
	}
	return all, icmpv6
}

// checkRewrites wants the header in the pattern that an action rewrites, and no rewriting of what is dropped.
func (n *Reference) checkRewrites(_ uint16, r rteflow.Rule) (Verdict, string) {
	all, icmpv6 := headersOf(r.Pattern)
	h := all[0]
	for _, a := range r.Actions {
		if d, ok := a.(rteflow.RawDecap); ok && len(d.Data) > linkMost {
			h = all[1]
		}
		if _, ok := a.(rteflow.Drop); ok && slices.ContainsFunc(r.Actions, rewrites) {
			return Refused, "a drop of what was rewritten"
		}
		if !addressed(h, a, icmpv6) {
			return Refused, "a field of a header that the pattern does not have"
		}
	}
	return Accepted, ""
}

// addressed says whether the pattern has an item of the header that the action rewrites, if it is such an action.
func addressed(h named, a rteflow.Action, icmpv6 bool) bool {
	switch a.(type) {
	case rteflow.SetIPv4Src, rteflow.SetIPv4Dst:
		return h.ip == ipv4
	case rteflow.SetIPv6Src, rteflow.SetIPv6Dst:
		return h.ip == ipv6 && !icmpv6
	case rteflow.SetTPSrc, rteflow.SetTPDst:
		return h.l4
	case rteflow.DecTTL:
		return h.ip != eth
	default:
		return true
	}
}

// modifies tells whether the action changes a field of the packet.
func modifies(a rteflow.Action) bool {
	switch a.(type) {
	case rteflow.SetMACSrc, rteflow.SetMACDst, rteflow.DecTTL, rteflow.SetIPv4Src, rteflow.SetIPv4Dst, rteflow.SetIPv6Src,
		rteflow.SetIPv6Dst, rteflow.SetTPSrc, rteflow.SetTPDst:
		return true
	default:
		return false
	}
}

func rewrites(a rteflow.Action) bool {
	switch a.(type) {
	case rteflow.RawEncap, rteflow.RawDecap, rteflow.PopVLAN, rteflow.PushVLAN, rteflow.SetMark, rteflow.SetTag,
		rteflow.SetMeta:
		return true
	default:
		return modifies(a)
	}
}

// maxMark is the largest mark that net_mlx5 leaves to applications.
const maxMark = 0xffffef

// maxIndex is how many tags a card has for applications.
const maxIndex = 3

// checkRegisters looks at marks, metadata and tags: what is written, and that what is matched is there, and named once.
func (n *Reference) checkRegisters(port uint16, r rteflow.Rule) (Verdict, string) {
	// Metadata shares a register with the source port. A port outside of the switch has them for the application only.
	metaBits := uint32(0xffff)
	if !n.port(port).Switch {
		metaBits = 0xffffffff
	}
	seen := map[string]bool{}
	for _, it := range r.Pattern {
		var name string
		var m *rteflow.Match[uint32]
		bits := uint32(0xffffffff)
		switch it := it.(type) {
		case rteflow.Mark:
			name, m, bits = "mark", it.ID, 0xffffff
		case rteflow.Meta:
			name, m, bits = "meta", it.Data, metaBits
		case rteflow.Tag:
			if it.Index >= maxIndex {
				return Refused, "no such tag"
			}
			name, m = fmt.Sprint("tag", it.Index), it.Data
		default:
			continue
		}
		mask := uint32(0xffffffff)
		switch {
		case name[:1] == "m" && !n.port(port).Switch:
			return Refused, "a mark or metadata outside of the switch"
		case seen[name]:
			return Refused, "the same register twice"
		case m == nil:
			return Refused, "no value of a register"
		case m.Mask != nil:
			mask = *m.Mask
		}
		if mask == 0 || mask&^bits != 0 {
			return Refused, "a mask of nothing, or of bits that there are not"
		}
		seen[name] = true
	}
	marks := 0
	for _, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.SetMark:
			if marks++; marks > 1 || a.ID > maxMark {
				return Refused, "a mark"
			}
		case rteflow.SetMeta:
			if a.Mask == 0 || a.Mask&^metaBits != 0 {
				return Refused, "metadata"
			}
		case rteflow.SetTag:
			if a.Mask == 0 || a.Index >= maxIndex {
				return Refused, "a tag"
			}
		}
	}
	return Accepted, ""
}

// checkTags looks at the actions on VLAN tags.
func (n *Reference) checkTags(port uint16, r rteflow.Rule) (Verdict, string) {
	changes := 0
	all, _ := headersOf(r.Pattern)
	tagged := all[0].vlan
	var tci *rteflow.Match[uint16]
	for _, it := range r.Pattern {
		if v, ok := it.(rteflow.VLAN); ok && tci == nil {
			tci = v.TCI
		}
	}
	for _, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.RawDecap:
			if len(a.Data) > linkMost {
				tagged = all[1].vlan
			}
		case rteflow.PopVLAN:
			if changes > 0 || !tagged || r.Egress || r.Ingress && n.port(port).Switch && !n.port(port).Uplink {
				return Refused, "a tag that cannot be removed"
			}
			changes++
		case rteflow.PushVLAN:
			if r.Ingress || a.EtherType != typeVLAN && a.EtherType != typeQinQ {
				return Refused, "a tag that cannot be added"
			}
			for _, part := range []uint16{0xe000, 0x0fff} {
				if tci != nil && tci.Mask != nil && *tci.Mask&part != 0 && *tci.Mask&part != part {
					return Refused, "a tag of which the pattern does not say all"
				}
			}
			changes++
		}
	}
	return Accepted, ""
}

// checkSample knows the limits of net_mlx5's mirroring.
func (n *Reference) checkSample(_ uint16, r rteflow.Rule) (Verdict, string) {
	samples, jumped := 0, false
	for i, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.Jump:
			jumped = true
		case rteflow.Sample:
			samples++
			if jumped {
				return Refused, "a sample behind a jump"
			}
			if samples > 1 {
				return Refused, "two samples"
			}
			if verdict, why := n.checkMirror(r, i, a); verdict != Accepted {
				return verdict, why
			}
		}
	}
	return Accepted, ""
}

func (n *Reference) checkMirror(r rteflow.Rule, at int, s rteflow.Sample) (Verdict, string) {
	if s.Ratio == 0 {
		return Refused, "no ratio"
	}
	if !r.Transfer {
		return checkNICSample(r, s)
	}
	if s.Ratio > 1 && len(s.Actions) > 0 {
		return Refused, "actions in a sample of some packets"
	}
	if len(s.Actions) == 0 {
		return Accepted, ""
	}
	encap, uplink, targets := false, false, 0
	for _, a := range s.Actions {
		if _, ok := a.(rteflow.RawEncap); ok {
			encap = true
			continue
		}
		if _, ok := a.(rteflow.Count); ok { // the driver refuses it only when it makes the mirror
			if n.counts(r.Actions) {
				return Refused, "two counters"
			}
			continue
		}
		to, ok := target(a)
		if !ok {
			return Refused, "an action that a sample may not have"
		}
		uplink, targets = n.port(to).Uplink, targets+1
	}
	jumps := slices.ContainsFunc(r.Actions, func(a rteflow.Action) bool { _, ok := a.(rteflow.Jump); return ok })
	switch {
	case targets != 1:
		return Refused, "a sample without one target"
	case encap && !uplink:
		return Refused, "an encapsulated sample that does not leave by the uplink"
	case !encap && uplink && jumps:
		return Refused, "a jump with a sample for the uplink that is not encapsulated"
	case tunnelOf(r.Actions).encap && n.toGuest(r.Actions):
		return Refused, "an encapsulated packet for a guest, and a sample"
	case slices.ContainsFunc(r.Actions[at:], n.agesInCard(r.Actions)):
		return Refused, "an age that the card keeps behind a sample"
	}
	return Accepted, ""
}

// toGuest says whether the fate is a port that is not the uplink.
func (n *Reference) toGuest(actions []rteflow.Action) bool {
	return slices.ContainsFunc(actions, func(a rteflow.Action) bool {
		to, ok := target(a)
		return ok &&
			!n.port(to).Uplink
	})
}

// agesInCard tells of an action of the list whether the card keeps it as an age. It need not when the rule also counts.
func (n *Reference) agesInCard(actions []rteflow.Action) func(rteflow.Action) bool {
	counts := n.counts(actions)
	return func(a rteflow.Action) bool {
		i, shared := a.(rteflow.Indirect)
		_, own := a.(rteflow.Age)
		return own && !counts || shared && !n.Shared[i.ID].Counts
	}
}

// counts says whether one of the actions counts.
func (n *Reference) counts(actions []rteflow.Action) bool {
	return slices.ContainsFunc(actions, func(a rteflow.Action) bool {
		i, shared := a.(rteflow.Indirect)
		_, own := a.(rteflow.Count)
		return own || shared && n.Shared[i.ID].Counts
	})
}

// checkNICSample wants a queue, beside which a sample outside of the E-Switch may count.
func checkNICSample(r rteflow.Rule, s rteflow.Sample) (Verdict, string) {
	queues := 0
	if r.Egress {
		return Refused, "a sample of what goes out"
	}
	for _, a := range s.Actions {
		switch a.(type) {
		case rteflow.Queue:
			queues++
		case rteflow.Count:
		default:
			return Refused, "an action that a sample may not have"
		}
	}
	if queues != 1 {
		return Refused, "a sample without one queue"
	}
	return Accepted, ""
}

func flag01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// flat is the actions with those within samples.
func flat(actions []rteflow.Action) []rteflow.Action {
	var all []rteflow.Action
	for _, a := range actions {
		all = append(all, a)
		if s, ok := a.(rteflow.Sample); ok {
			all = append(all, s.Actions...)
		}
	}
	return all
}

// target is the port that an action sends to.
func target(a rteflow.Action) (uint16, bool) {
	switch a := a.(type) {
	case rteflow.ToRepresentedPort:
		return a.Port, true
	case rteflow.ToPortID:
		return a.Port, true
	default:
		return 0, false
	}
}
