// SPDX-License-Identifier: Apache-2.0

// Package model is a reference of the test NIC net_eswitch: what becomes of a packet under a set of rte_flow rules, as
// DPDK's documentation of rte_flow and of net_mlx5 says. It is written to be obviously right: a linear search over all
// rules, no caches, no shared code with the NIC. Its test compares the two on random rules, packets and orders.
package model

import (
	"slices"

	"dpservice/rteflow"
)

// Port is one of the NIC's ports.
type Port struct {
	ID       uint16
	Name     string
	Switch   bool // it belongs to the switch domain
	Uplink   bool // it is the switch's physical port
	MTU      int
	Queues   uint16
	Isolated bool
}

// The Queue of an Output that leaves the NIC at a port's far side, and of one that the application receives by whatever
// queue the NIC chooses: it spreads flows.
const (
	FarSide  = -1
	AnyQueue = -2
)

// Output is a frame that the NIC gives away: to the application by an RX queue of Port, or to its far side.
type Output struct {
	From  int // where the packet came from: frames from one place leave in order
	Port  uint16
	Queue int
	Frame []byte
	// Entropy has the offsets of UDP source ports that the NIC chose; the last is the outermost. Inner is where the
	// packet begins from which that is computed.
	Entropy []int
	Inner   int
	// Perhaps: it is a sample of some packets only, and this may be another.
	Perhaps bool
}

// Reference is the NIC as the documents have it.
type Reference struct {
	Ports []Port
	Card  string // cx5, cx6dx or cx7; those that are none of these are like the last two
	// Shared are the indirect actions that count or age, by their IDs.
	Shared map[uint32]*Shared
	rules  []*Flow // oldest first
	// trying: nothing is counted, but whether rules tie.
	trying, tied bool
}

// Shared is an indirect action of a port.
type Shared struct {
	Port     uint16
	Counts   bool // else it ages
	Counters rteflow.Counters
}

// Flow is an installed rule.
type Flow struct {
	Port     uint16
	Rule     rteflow.Rule
	Counters rteflow.Counters
}

// Create installs a rule, whether or not Check accepts it.
func (n *Reference) Create(port uint16, r rteflow.Rule) *Flow {
	f := &Flow{Port: port, Rule: r}
	n.rules = append(n.rules, f)
	return f
}

// Destroy takes a rule away.
func (n *Reference) Destroy(f *Flow) {
	n.rules = slices.DeleteFunc(n.rules, func(other *Flow) bool { return other == f })
}

// Flush takes all rules away that were created on a port.
func (n *Reference) Flush(port uint16) {
	n.rules = slices.DeleteFunc(n.rules, func(f *Flow) bool { return f.Port == port })
}

// Ties tells whether a frame from the far side of a port meets rules between which only age decides. There cards and
// NIC differ.
func (n *Reference) Ties(port uint16, frame []byte) bool {
	n.trying, n.tied = true, false
	n.Receive(port, frame)
	n.trying = false
	return n.tied
}

// TakesSent tells whether a rule for all ports takes a frame that the application sends by a port. There cards and NIC
// differ: net_mlx5 leads what the application sends through group 0.
func (n *Reference) TakesSent(port uint16, frame []byte) bool {
	p, headers := &packet{source: port, frame: frame}, parse(frame)
	return n.port(port).Switch && slices.ContainsFunc(n.rules, func(f *Flow) bool {
		_, all := sourceOf(f.Port, f.Rule)
		return all && f.Rule.Transfer && f.Rule.Group == 0 && matches(f.Rule.Pattern, p, headers)
	})
}

// packet is one on its way through the NIC.
type packet struct {
	source  uint16
	frame   []byte
	entropy []int
	inner   int
	lost    bool
	// What actions write and items match, but is not in the frame. A card has 5 tags, says the NIC's README.
	mark, meta uint32
	tags       [5]uint32
	tci        uint16 // of the tag that the rule adds
}

// Receive is what the NIC does with a frame from the far side of a port.
func (n *Reference) Receive(port uint16, frame []byte) []Output {
	if len(frame) < ethLen {
		return nil
	}
	p := &packet{source: port, frame: slices.Clone(frame)}
	var out []Output
	if n.port(port).Switch && n.pass(p, true, &out) {
		return out
	}
	clear(p.tags[:]) // these end where the switch does, says the NIC's README
	if n.pass(p, false, &out) {
		return out
	}
	if !n.port(port).Isolated {
		n.emit(p, port, AnyQueue, &out)
	}
	return out
}

// pass runs the packet through the groups of a domain, transfer or ingress, and tells whether a rule decided its fate.
// Outside of the switch a jump to where no rule takes the packet does.
func (n *Reference) pass(p *packet, transfer bool, out *[]Output) bool {
	for group := uint32(0); ; {
		f := n.lookup(p, transfer, group)
		if f == nil {
			return !transfer && group > 0
		}
		n.count(f, len(p.frame))
		p.tci = tagOf(f.Rule.Pattern)
		next, jumped := n.run(p, f.Rule.Actions, out)
		if !jumped || p.lost {
			return true
		}
		group = next
	}
}

// Counters tells whether the rule counts, and what a query of it says: what it has counted, or the counter that it
// shares.
func (n *Reference) Counters(f *Flow) (bool, rteflow.Counters) {
	for _, a := range f.Rule.Actions {
		if _, ok := a.(rteflow.Count); ok {
			return true, f.Counters
		}
		if i, ok := a.(rteflow.Indirect); ok && n.Shared[i.ID].Counts {
			return true, n.Shared[i.ID].Counters
		}
	}
	return false, rteflow.Counters{}
}

// count counts for the rule, and for the counter that it shares.
func (n *Reference) count(f *Flow, size int) {
	if n.trying {
		return
	}
	counters := []*rteflow.Counters{&f.Counters}
	for _, a := range f.Rule.Actions {
		if i, ok := a.(rteflow.Indirect); ok {
			counters = append(counters, &n.Shared[i.ID].Counters)
		}
	}
	for _, c := range counters {
		c.Packets++
		c.Bytes += uint64(size)
	}
}

// tagOf is the PCP and the VID that the pattern wants of a tag in full: those of a new one, says the NIC's README.
func tagOf(pattern []rteflow.Item) (tci uint16) {
	for _, it := range pattern {
		v, ok := it.(rteflow.VLAN)
		if !ok || v.TCI == nil {
			continue
		}
		for _, part := range []uint16{0xe000, 0x0fff} {
			if v.TCI.Mask == nil || *v.TCI.Mask&part == part {
				tci |= v.TCI.Spec & part
			}
		}
	}
	return tci
}

// lookup is the rule that the packet meets in a group.
func (n *Reference) lookup(p *packet, transfer bool, group uint32) *Flow {
	var best *Flow
	ties := false
	headers := parse(p.frame)
	for _, f := range n.rules {
		if f.Rule.Transfer != transfer || f.Rule.Group != group || !f.isFor(p.source) {
			continue
		}
		if !matches(f.Rule.Pattern, p, headers) {
			continue
		}
		switch {
		case best == nil || f.before(best):
			best, ties = f, false
		case !best.before(f):
			ties = true
		}
	}
	n.tied = n.tied || ties
	return best
}

// before tells whether f, which is younger than g, precedes it: by the lower priority value or, at equal ones, by the
// rank of the last header.
func (f *Flow) before(g *Flow) bool {
	if f.Rule.Priority != g.Rule.Priority {
		return f.Rule.Priority < g.Rule.Priority
	}
	return rank(f.Rule.Pattern) > rank(g.Rule.Pattern)
}

// isFor says whether the rule is for packets that come from the port.
func (f *Flow) isFor(source uint16) bool {
	port, all := sourceOf(f.Port, f.Rule)
	return all || port == source
}

// sourceOf is the port that the last item says which names one; port_id without a number names the rule's own. If only
// represented_port without a number is there, the rule is for all ports of the switch.
func sourceOf(own uint16, r rteflow.Rule) (port uint16, all bool) {
	port, named := own, false
	for _, it := range r.Pattern {
		switch it := it.(type) {
		case rteflow.RepresentedPort:
			port, named = it.Port, true
		case rteflow.PortID:
			port, named = it.Port, true
		case rteflow.AnyPortID:
			port, named = own, true
		case rteflow.AnyPort:
			all = true
		}
	}
	return port, all && !named
}

// rank is that of a pattern's last header: 0 of L2, 1 of L3, 2 of what is above, and of none.
func rank(pattern []rteflow.Item) int {
	n := 2
	for _, it := range pattern {
		switch k, ok := layer(it); {
		case !ok:
		case k == eth || k == vlan:
			n = 0
		case isIP(k):
			n = 1
		default:
			n = 2
		}
	}
	return n
}

// run does a rule's actions. A jump tells the next group; all other fates end the packet's way.
func (n *Reference) run(p *packet, actions []rteflow.Action, out *[]Output) (group uint32, jumped bool) {
	fate := func() {}
	for _, a := range changesFirst(actions) {
		if p.lost {
			return 0, false
		}
		switch a := a.(type) {
		case rteflow.Jump:
			group, jumped = a.Group, true
		case rteflow.ToRepresentedPort:
			fate = func() { n.emit(p, a.Port, FarSide, out) }
		case rteflow.ToPortID:
			fate = func() { n.emit(p, a.Port, FarSide, out) }
		case rteflow.Queue:
			fate = func() { n.emit(p, p.source, int(a.Index), out) }
		case rteflow.Sample:
			n.sample(*p, a, out)
		default:
			p.rewrite(a)
		}
	}
	fate()
	return group, jumped
}

// changesFirst has the changes of fields before the tags that are added: to the card they are one action, at the place
// of the first of them, and it adds no tag before that.
func changesFirst(actions []rteflow.Action) []rteflow.Action {
	actions = slices.Clone(actions)
	for i := range actions {
		for at := i; at > 0 && changesField(actions[at]) && pushesTag(actions[at-1]); at-- {
			actions[at], actions[at-1] = actions[at-1], actions[at]
		}
	}
	return actions
}

// changesField says whether it changes a field or a register.
func changesField(a rteflow.Action) bool { k, ok := stepOf(a); return ok && k == modifiesFields }

func pushesTag(a rteflow.Action) bool { _, ok := a.(rteflow.PushVLAN); return ok }

// sample duplicates the packet. One in a few, which in the E-Switch takes no actions, goes to the E-Switch's manager.
func (n *Reference) sample(p packet, s rteflow.Sample, out *[]Output) {
	p.frame = slices.Clone(p.frame)
	begin := len(*out)
	if len(s.Actions) == 0 {
		n.emit(&p, n.manager(), 0, out)
	}
	n.run(&p, s.Actions, out)
	for i := range (*out)[begin:] {
		(*out)[begin+i].Perhaps = s.Ratio > 1
	}
}

// emit gives the packet away unless it is too long for the port.
func (n *Reference) emit(p *packet, port uint16, queue int, out *[]Output) {
	if len(p.frame)-linkLen(p.frame) <= n.port(port).MTU {
		*out = append(*out, Output{From: int(p.source), Port: port, Queue: queue, Frame: slices.Clone(p.frame),
			Entropy: p.entropy, Inner: p.inner})
	}
}

// manager is the E-Switch's manager, which is the uplink.
func (n *Reference) manager() uint16 {
	return n.Ports[slices.IndexFunc(n.Ports, func(p Port) bool { return p.Uplink })].ID
}

func (n *Reference) port(id uint16) *Port {
	for i := range n.Ports {
		if n.Ports[i].ID == id {
			return &n.Ports[i]
		}
	}
	return nil
}
