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

// Check says whether the NIC takes a rule, and for a refusal why.
func (n *Reference) Check(port uint16, r rteflow.Rule) (Verdict, string) {
	for _, check := range []func(*Reference, uint16, rteflow.Rule) (Verdict, string){
		(*Reference).checkDomain, (*Reference).checkPorts, (*Reference).checkLayers, (*Reference).checkFields, (*Reference).checkFate, (*Reference).checkHeaders,
		(*Reference).checkRewrites, (*Reference).checkRegisters, (*Reference).checkVXLAN, (*Reference).checkTags, (*Reference).checkSample,
	} {
		if verdict, why := check(n, port, r); verdict != Accepted {
			return verdict, why
		}
	}
	return Accepted, ""
}

func (n *Reference) checkDomain(port uint16, r rteflow.Rule) (Verdict, string) {
	switch {
	case r.Egress:
		return Refused, "egress"
	case r.Ingress == r.Transfer:
		return Refused, "not one domain"
	case r.Transfer && !n.port(port).Switch:
		return Refused, "transfer outside of the switch"
	}
	return Accepted, ""
}

// checkPorts looks at the ports that the rule names, within a sample too.
func (n *Reference) checkPorts(_ uint16, r rteflow.Rule) (Verdict, string) {
	var named []uint16
	items := 0
	for _, it := range r.Pattern {
		switch it := it.(type) {
		case rteflow.RepresentedPort:
			named, items = append(named, it.Port), items+1
		case rteflow.PortID:
			named, items = append(named, it.Port), items+1
		}
	}
	if items > 1 {
		return Refused, "two source ports"
	}
	for _, a := range flat(r.Actions) {
		if to, ok := target(a); ok {
			named = append(named, to)
		}
	}
	if len(named) > 0 && !r.Transfer {
		return Refused, "a port is named outside of the transfer domain"
	}
	for _, id := range named {
		if p := n.port(id); p == nil || !p.Switch {
			return Refused, "a port outside of the switch"
		}
	}
	return Accepted, ""
}

// checkLayers wants the layers stacked from the lowest to the highest.
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
		return below == eth || below == vlan || isIP(below)
	case icmp:
		return below == ipv4
	case icmp6:
		return below == ipv6
	default:
		return isIP(below)
	}
}

// checkFields refuses values that contradict the layer above, and masks that net_mlx5 has no room for.
func (n *Reference) checkFields(_ uint16, r rteflow.Rule) (Verdict, string) {
	for i, it := range r.Pattern {
		var proto *rteflow.Match[uint8]
		switch it := it.(type) {
		case rteflow.IPv4:
			proto = it.Proto
		case rteflow.IPv6:
			proto = it.Proto
		}
		if proto == nil {
			continue
		}
		if proto.Mask != nil && *proto.Mask != 0xff && *proto.Mask != 0 {
			return Refused, "a partial mask of the protocol"
		}
		if i+1 == len(r.Pattern) || proto.Mask != nil && *proto.Mask == 0 {
			continue
		}
		above, _ := layer(r.Pattern[i+1])
		want := map[kind]uint8{ipv4: protoIPIP, ipv6: protoIP6IP, tcp: protoTCP, udp: protoUDP, icmp: protoICMP, icmp6: protoICMP6}
		if proto.Spec != want[above] {
			return Refused, "the protocol is not the next layer's"
		}
	}
	return Accepted, ""
}

// checkFate wants one fate, of the rule's domain.
func (n *Reference) checkFate(port uint16, r rteflow.Rule) (Verdict, string) {
	fates, counts, ages := 0, 0, 0
	for _, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.Jump:
			fates++
			if a.Group <= r.Group {
				return Refused, "a jump that does not lead upwards"
			}
		case rteflow.Queue:
			fates++
			if r.Transfer {
				return Refused, "a queue in the transfer domain"
			}
			if a.Index >= n.port(port).Queues {
				return Refused, "no such queue"
			}
		case rteflow.Drop, rteflow.ToRepresentedPort, rteflow.ToPortID:
			fates++
		case rteflow.Count:
			counts++
		case rteflow.Indirect:
			shared := n.Shared[a.ID]
			if shared.Port != port {
				return Refused, "an indirect action of another port"
			}
			counts, ages = counts+flag01(shared.Counts), ages+flag01(!shared.Counts)
		case rteflow.Age:
			ages++
			if a.Timeout == 0 {
				return Refused, "no timeout"
			}
		}
	}
	switch {
	case fates != 1:
		return Refused, "not one fate"
	case counts > 1 || ages > 1:
		return Refused, "the same twice"
	}
	return Accepted, ""
}

// checkHeaders looks at raw_decap and raw_encap, within a sample too.
func (n *Reference) checkHeaders(_ uint16, r rteflow.Rule) (Verdict, string) {
	for _, a := range flat(r.Actions) {
		e, isEncap := a.(rteflow.RawEncap)
		_, isDecap := a.(rteflow.RawDecap)
		if (isEncap || isDecap) && !r.Transfer {
			return Refused, "a header outside of the transfer domain"
		}
		if isEncap && (len(e.Data) == 0 || len(e.Data) > maxHeader) {
			return Refused, "the header's size"
		}
	}
	if why := checkTunnel(r.Actions); why != "" {
		return Refused, why
	}
	for _, a := range r.Actions {
		if s, ok := a.(rteflow.Sample); ok {
			if why := checkTunnel(s.Actions); why != "" {
				return Refused, why
			}
		}
	}
	return Accepted, ""
}

// checkTunnel wants a raw_decap and a raw_encap, of which exactly one is about a tunnel, or only the raw_encap of one.
func checkTunnel(actions []rteflow.Action) string {
	var encaps, decaps, encap, decap int
	for _, a := range actions {
		switch a := a.(type) {
		case rteflow.RawEncap:
			encaps, encap = encaps+1, len(a.Data)
		case rteflow.RawDecap:
			decaps, decap = decaps+1, len(a.Data)
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

// checkRewrites wants the layer in the pattern that an action rewrites.
func (n *Reference) checkRewrites(_ uint16, r rteflow.Rule) (Verdict, string) {
	ips := 0
	for _, it := range r.Pattern {
		if k, ok := layer(it); ok && isIP(k) {
			ips++
		}
	}
	for _, a := range r.Actions {
		if d, ok := a.(rteflow.RawDecap); ok && len(d.Data) > linkMost {
			ips--
		}
		if _, ok := a.(rteflow.DecTTL); ok && ips <= 0 {
			return Refused, "dec_ttl without an IP item"
		}
		if _, ok := a.(rteflow.Drop); ok && slices.ContainsFunc(r.Actions, rewrites) {
			return Refused, "a drop of what was rewritten"
		}
		if !addressed(r.Pattern, a) {
			return Refused, "an address of a header that the pattern does not have"
		}
	}
	return Accepted, ""
}

// addressed says whether the pattern has an item of the header whose address the action rewrites, if it is such an action.
func addressed(pattern []rteflow.Item, a rteflow.Action) bool {
	switch a.(type) {
	case rteflow.SetIPv4Src, rteflow.SetIPv4Dst:
		return slices.ContainsFunc(pattern, func(it rteflow.Item) bool { _, ok := it.(rteflow.IPv4); return ok })
	case rteflow.SetIPv6Src, rteflow.SetIPv6Dst:
		return slices.ContainsFunc(pattern, func(it rteflow.Item) bool { _, ok := it.(rteflow.IPv6); return ok })
	default:
		return true
	}
}

func rewrites(a rteflow.Action) bool {
	switch a.(type) {
	case rteflow.SetMACSrc, rteflow.SetMACDst, rteflow.DecTTL, rteflow.RawEncap, rteflow.RawDecap, rteflow.SetIPv4Src,
		rteflow.SetIPv4Dst, rteflow.SetIPv6Src, rteflow.SetIPv6Dst, rteflow.SetTPSrc, rteflow.SetTPDst, rteflow.PopVLAN, rteflow.PushVLAN, rteflow.SetMark, rteflow.SetTag, rteflow.SetMeta:
		return true
	default:
		return false
	}
}

// maxMark is the largest mark that net_mlx5 leaves to applications.
const maxMark = 0xffffef

// checkRegisters looks at marks, metadata and tags: what is written, and that what is matched is there, and named once.
func (n *Reference) checkRegisters(_ uint16, r rteflow.Rule) (Verdict, string) {
	seen := map[string]bool{}
	for _, it := range r.Pattern {
		var name string
		var m *rteflow.Match[uint32]
		bits := uint32(0xffffffff)
		switch it := it.(type) {
		case rteflow.Mark:
			name, m, bits = "mark", it.ID, 0xffffff
		case rteflow.Meta:
			name, m = "meta", it.Data
		case rteflow.Tag:
			name, m = fmt.Sprint("tag", it.Index), it.Data
		default:
			continue
		}
		mask := uint32(0xffffffff)
		switch {
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
			if a.Mask == 0 || r.Transfer && r.Group == 0 {
				return Refused, "metadata"
			}
		case rteflow.SetTag:
			if a.Mask == 0 {
				return Refused, "a tag"
			}
		}
	}
	return Accepted, ""
}

// checkVXLAN wants VXLAN's port of the UDP header below, if any, and a VNI that is not 0.
func (n *Reference) checkVXLAN(_ uint16, r rteflow.Rule) (Verdict, string) {
	for i, it := range r.Pattern {
		v, ok := it.(rteflow.VXLAN)
		if !ok {
			continue
		}
		if below, ok := r.Pattern[i-1].(rteflow.UDP); ok && below.DstPort != nil && below.DstPort.Spec != portVXLAN &&
			(below.DstPort.Mask == nil || *below.DstPort.Mask == 0xffff) {
			return Refused, "another port than VXLAN's"
		}
		if m := v.VNI; m != nil && (m.Mask == nil && m.Spec == 0 || m.Mask != nil && *m.Mask != 0 && m.Spec&*m.Mask == 0) {
			return Refused, "a VNI of 0"
		}
	}
	return Accepted, ""
}

// checkTags looks at the actions on VLAN tags.
func (n *Reference) checkTags(port uint16, r rteflow.Rule) (Verdict, string) {
	changes, tagged := 0, false
	var tci *rteflow.Match[uint16]
	for _, it := range r.Pattern {
		if v, ok := it.(rteflow.VLAN); ok {
			tagged, tci = true, v.TCI
		}
	}
	for _, a := range r.Actions {
		switch a := a.(type) {
		case rteflow.PopVLAN:
			if changes > 0 || !tagged || r.Ingress && n.port(port).Switch && !n.port(port).Uplink {
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
	if r.Ingress {
		return checkNICSample(s)
	}
	if s.Ratio > 1 && len(s.Actions) > 0 {
		return Refused, "actions in a sample of some packets"
	}
	if s.Ratio > 1 {
		return Accepted, ""
	}
	encap, uplink, targets := false, false, 0
	for _, a := range s.Actions {
		if _, ok := a.(rteflow.RawEncap); ok {
			encap = true
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
	case !encap && jumps:
		return Refused, "a jump with a sample that is not encapsulated"
	case !encap && uplink:
		return Either, "a sample to the uplink that is not encapsulated"
	case slices.ContainsFunc(r.Actions[:at], rewrites):
		return Either, "a sample behind a rewriting action"
	}
	return Accepted, ""
}

// checkNICSample wants a queue, beside which a sample outside of the E-Switch may count.
func checkNICSample(s rteflow.Sample) (Verdict, string) {
	queues := 0
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
