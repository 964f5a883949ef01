// SPDX-License-Identifier: Apache-2.0

package model

import (
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
		(*Reference).checkRewrites, (*Reference).checkSample,
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
		return false
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
	}
	return Accepted, ""
}

func rewrites(a rteflow.Action) bool {
	switch a.(type) {
	case rteflow.SetMACSrc, rteflow.SetMACDst, rteflow.DecTTL, rteflow.RawEncap, rteflow.RawDecap, rteflow.SetIPv4Src,
		rteflow.SetIPv4Dst, rteflow.SetIPv6Src, rteflow.SetIPv6Dst, rteflow.SetTPSrc, rteflow.SetTPDst, rteflow.PopVLAN:
		return true
	default:
		return false
	}
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
