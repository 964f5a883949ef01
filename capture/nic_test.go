// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"dpservice/capture/spec"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// fakeNIC is an E-Switch small enough to be right: each packet tries all rules. It can refuse any call, and shows
// itself after every change, so that no step goes unobserved.
type fakeNIC struct {
	rules  map[rteflow.Handle]*fakeRule
	last   rteflow.Handle
	calls  int                     // creates and destroys so far
	fail   func(call int) bool     // refuses the call-th
	refuse func(rteflow.Rule) bool // refuses a rule
	after  func()
	deaf   bool // answers no query
}

type fakeRule struct {
	rteflow.Rule
	port     uint16
	counters rteflow.Counters
}

// packet is what the rules of these tests look at, and proto a packet's outer IPv6 next header.
type packet struct {
	port     uint16
	proto    uint8
	ip6      bool // what a guest sends
	udp      bool
	to       uint16 // the guest's port that an offloaded flow takes it to; 0: it has no flow
	unwanted bool   // no filter of these tests takes it
}

// frameLen is the length of a packet.
const frameLen = 100

// fate is what became of a packet.
type fate struct {
	copies    [][]byte // the headers of the copies
	atFlows   bool     // it came to the flow rules
	delivered uint16   // the port it came to in the end; 0: none
}

func newFakeNIC() *fakeNIC {
	return &fakeNIC{
		rules:  map[rteflow.Handle]*fakeRule{},
		fail:   func(int) bool { return false },
		refuse: func(rteflow.Rule) bool { return false },
		after:  func() {},
	}
}

func (n *fakeNIC) CreateBatch(port uint16, rules []rteflow.Rule) (handles []rteflow.Handle, err error) {
	for _, r := range rules {
		h, err := n.create(port, r)
		if err != nil {
			return handles, err
		}
		handles = append(handles, h)
	}
	return handles, nil
}

func (n *fakeNIC) create(port uint16, r rteflow.Rule) (rteflow.Handle, error) {
	n.calls++
	if n.fail(n.calls) || n.refuse(inReach(r)) {
		return 0, flowError("create", port)
	}
	if looksIntoTunnel(r) {
		return 0, &rteflow.Error{Op: "create", Port: port, Type: rteflow.ErrorItem, Message: tunnelRefused,
			Errno: syscall.ENOTSUP}
	}
	n.last++
	n.rules[n.last] = &fakeRule{Rule: r, port: port}
	n.after()
	return n.last, nil
}

func (n *fakeNIC) DestroyBatch(port uint16, handles []rteflow.Handle) (int, error) {
	for i, h := range handles {
		n.calls++
		if n.fail(n.calls) {
			return i, flowError("destroy", port)
		}
		if n.rules[h] == nil {
			panic("a rule is destroyed twice")
		}
		delete(n.rules, h)
		n.after()
	}
	return len(handles), nil
}

func (n *fakeNIC) QueryAge(uint16, rteflow.Handle) (rteflow.AgeState, error) {
	return rteflow.AgeState{}, syscall.ENOTSUP
}

func (n *fakeNIC) Query(port uint16, h rteflow.Handle) (rteflow.Counters, error) {
	if n.deaf {
		return rteflow.Counters{}, flowError("query", port)
	}
	return n.rules[h].counters, nil
}

// inReach is a rule in the group that it is meant for: one that is only tried is in a higher group.
func inReach(r rteflow.Rule) rteflow.Rule {
	r.Group %= ruleset.OutOfReach
	return r
}

const tunnelRefused = "multiple L3 layers not supported"

func looksIntoTunnel(r rteflow.Rule) bool {
	headers := 0
	for _, i := range r.Pattern {
		switch i.(type) {
		case rteflow.IPv4, rteflow.IPv6:
			headers++
		}
	}
	return headers > 1
}

func flowError(op string, port uint16) error {
	return &rteflow.Error{Op: op, Port: port, Type: rteflow.ErrorAction, Message: "no, thanks", Errno: syscall.ENOTSUP}
}

// send lets a packet through the rules.
func (n *fakeNIC) send(p packet) (f fate) {
	for group := nicgroup.Default; f.delivered == 0; {
		f.atFlows = f.atFlows || group == nicgroup.VNET
		r := n.match(uint32(group), p)
		if r == nil {
			return f
		}
		for _, a := range r.Actions {
			switch a := a.(type) {
			case rteflow.Count:
				r.counters.Packets++
				r.counters.Bytes += frameLen
			case rteflow.Sample:
				f.copies = append(f.copies, a.Actions[0].(rteflow.RawEncap).Data)
			case rteflow.Jump:
				group = nicgroup.Group(a.Group)
			case rteflow.ToRepresentedPort:
				f.delivered = a.Port
			}
		}
	}
	return f
}

func (n *fakeNIC) match(group uint32, p packet) *fakeRule {
	var best *fakeRule
	for _, r := range n.rules {
		if r.Group != group || !matches(r.Pattern, p) {
			continue
		}
		if best != nil && best.Priority == r.Priority {
			panic("two rules match at one priority")
		}
		if best == nil || r.Priority < best.Priority {
			best = r
		}
	}
	return best
}

func matches(pattern []rteflow.Item, p packet) bool {
	for _, i := range pattern {
		switch i := i.(type) {
		case rteflow.Eth:
			if i.Dst != nil && i.Dst.Spec != macBehind(p.to) {
				return false
			}
		case rteflow.RepresentedPort:
			if i.Port != p.port {
				return false
			}
		case rteflow.IPv6:
			if p.port == 0 && !hasProto(i.Proto, p.proto) || p.port != 0 && !p.ip6 {
				return false
			}
		case rteflow.IPv4:
			if p.ip6 || i.Proto != nil && (i.Proto.Spec == 17) != p.udp {
				return false
			}
		}
	}
	return true
}

func hasProto(m *rteflow.Match[uint8], proto uint8) bool {
	mask := uint8(0xff)
	if m.Mask != nil {
		mask = *m.Mask
	}
	return (m.Spec^proto)&mask == 0
}

// macBehind is the destination by which these tests' flow rules match.
func macBehind(port uint16) wire.MAC { return wire.MAC{2, 5: byte(port)} }

// dump lists the installed rules, without handles and counters.
func (n *fakeNIC) dump() []string {
	var lines []string
	for _, r := range n.rules {
		lines = append(lines, fmt.Sprintf("port %d: %s", r.port, r.Rule))
	}
	slices.Sort(lines)
	return lines
}

func dumpSet(s *ruleset.Set) []string {
	var lines []string
	for _, e := range s.List() {
		lines = append(lines, fmt.Sprintf("port %d: %s", e.Port, e.Spec))
	}
	slices.Sort(lines)
	return lines
}

// node is a node's ports and base rules: PF0 is port 0, PF1 port 1, vm-1 port 2, and so on.
type node struct {
	ports      map[spec.Target]*port.Port
	devices    map[string]port.Port // by name, whether or not an interface is on them
	nic        *fakeNIC
	rules      *ruleset.Set
	flows      []fakeFlow
	taps       *fakeTaps
	manager    *Manager
	interfaces int
	extra      []packet // to be observed too
}

const (
	testMTU       = 1400
	testUplinkMTU = 1500
)

var testUplink = Uplink{MAC: testHeader.UplinkMAC, RouterMAC: testHeader.RouterMAC, NodeIP: testHeader.NodeIP}

func newNode(vms int) *node {
	domain := uint16(7)
	n := &node{ports: map[spec.Target]*port.Port{}, devices: map[string]port.Port{}, nic: newFakeNIC(), interfaces: vms}
	n.rules = ruleset.New(n.nic)
	n.ports[spec.Target{PF: 0}] = &port.Port{ID: 0, Name: "net_eswitch0", Role: port.PF, SwitchDomain: &domain,
		MTU: testUplinkMTU, Started: true}
	n.ports[spec.Target{PF: 1}] = &port.Port{ID: 1, Name: "net_eswitch0_pf1", Role: port.PF, Index: 1, MTU: testUplinkMTU,
		Started: true}
	for i := range vms {
		n.ports[spec.Target{VF: fmt.Sprintf("vm-%d", i+1)}] = &port.Port{ID: uint16(i + 2),
			Name: fmt.Sprintf("net_eswitch0_representor_vf%d", i), Role: port.VF, Index: i, SwitchDomain: &domain,
			MTU: testMTU, Started: true}
	}
	for _, p := range n.sorted() {
		n.addBaseRules(p)
	}
	n.addFlows()
	n.taps = &fakeTaps{taps: map[tapKey]*fakeTap{}}
	n.manager = New(Deps{Rules: n.rules, Ports: n, NIC: n, Taps: n.taps})
	if err := n.manager.UplinkChanged(testUplink); err != nil {
		panic(err)
	}
	return n
}

func (n *node) sorted() []port.Port {
	var ports []port.Port
	for _, p := range n.ports {
		ports = append(ports, *p)
	}
	slices.SortFunc(ports, func(a, b port.Port) int { return cmp.Compare(a.ID, b.ID) })
	return ports
}

func (n *node) addBaseRules(p port.Port) {
	if p.SwitchDomain == nil {
		return
	}
	for i, pattern := range n.BasePatterns(p) {
		n.add(&ruleset.Rule{Port: p.ID, Owner: fakeOwner(fmt.Sprintf("base/%d", i)), Spec: rteflow.Rule{
			Attr:    nic.InGroup(nicgroup.Default, nicgroup.BasePriority),
			Pattern: pattern,
			Actions: []rteflow.Action{nic.JumpTo(nicgroup.VNET)},
		}})
	}
	if p.Role == port.VF {
		n.add(&ruleset.Rule{Owner: fakeOwner(fmt.Sprintf("base/delivery/%d", p.ID)), Spec: rteflow.Rule{
			Attr:    nic.InGroup(nicgroup.Delivery(p.ID), nicgroup.BasePriority),
			Pattern: []rteflow.Item{n.AnyPort(), rteflow.Eth{}},
			Actions: []rteflow.Action{n.PortAction(p.ID)},
		}})
	}
}

func (n *node) add(r *ruleset.Rule) {
	if err := n.rules.Apply(ruleset.Add(r)); err != nil {
		panic(err)
	}
}

func (n *node) Interface(id string) (port.Port, bool) {
	return n.port(spec.Target{VF: id})
}

func (n *node) Device(name string) (port.Port, bool) {
	p, ok := n.devices[name]
	return p, ok
}

func (n *node) PF(number int) (port.Port, bool) {
	return n.port(spec.Target{PF: number})
}

func (n *node) All() []port.Port { return n.sorted() }

func (n *node) port(t spec.Target) (port.Port, bool) {
	if p := n.ports[t]; p != nil {
		return *p, true
	}
	return port.Port{}, false
}

func (n *node) BasePatterns(p port.Port) [][]rteflow.Item {
	from := n.PortItem(p.ID)
	if p.Role == port.VF {
		return [][]rteflow.Item{{from, rteflow.Eth{}}}
	}
	return [][]rteflow.Item{
		{from, rteflow.Eth{}, rteflow.IPv6{Proto: nic.ProtoOf(nic.InnerTypes[0])}},
		{from, rteflow.Eth{}, rteflow.IPv6{Proto: nic.ProtoOf(nic.InnerTypes[1])}},
	}
}

func (n *node) PortItem(id uint16) rteflow.Item { return rteflow.RepresentedPort{Port: id} }

func (n *node) AnyPort() rteflow.Item { return rteflow.AnyPort{} }

func (n *node) PortAction(id uint16) rteflow.Action { return rteflow.ToRepresentedPort{Port: id} }

// packets are one packet of each kind that is forwarded by flow rules, and one of each offloaded flow.
func (n *node) packets() []packet {
	all := []packet{{port: 0, proto: 4, udp: true}, {port: 0, proto: 41, udp: true}}
	for i := range n.interfaces {
		all = append(all, packet{port: uint16(i + 2), udp: true})
	}
	for _, f := range n.flows {
		all = append(all, packet{port: f.in, to: f.out, udp: true, proto: 4})
	}
	return append(all, n.extra...)
}

// observe sends packets after every change of the rules. Each must come to the flow rules, be delivered if it has a
// flow, and be copied at most once in each direction, if filters want it. It returns how many copies had each port's
// packets, or in TX those to it.
func (n *node) observe(fail func(format string, args ...any)) map[point2]uint64 {
	copied := map[point2]uint64{}
	n.nic.after = func() {
		for _, p := range n.packets() {
			f := n.nic.send(p)
			if !f.atFlows || f.delivered != p.to {
				fail("a packet %+v is lost: %+v", p, f)
			}
			seen := map[point2]bool{}
			for _, c := range f.copies {
				at := n.pointOf(c)
				if seen[at] || p.unwanted {
					fail("a packet %+v is copied at %+v as well", p, at)
				}
				seen[at] = true
				copied[at]++
			}
		}
	}
	return copied
}

// labelTX is set in the labels of what guests receive, and bands is how many priority bands rules go through.
const (
	labelTX = 1 << 19
	bands   = 16
)

var testHeader = wire.CopyHeader{
	RouterMAC:  wire.MAC{0x02, 0, 0, 0, 0, 0xfe},
	UplinkMAC:  wire.MAC{0x02, 0, 0, 0, 0, 0x01},
	NodeIP:     netip.MustParseAddr("fc00:1::1"),
	Sink:       netip.MustParseAddr("fc00:2::9"),
	UDPSrcPort: 3000,
	UDPDstPort: 3010,
}

// point2 is a direction of a port.
type point2 struct {
	port uint16
	d    spec.Direction
}

// pointOf reads from a copy's header where it was made.
func (n *node) pointOf(copied []byte) point2 {
	label := wire.Label(copied[15]&0xf)<<16 | wire.Label(copied[16])<<8 | wire.Label(copied[17])
	if label&labelTX != 0 {
		return point2{uint16(label&^labelTX) - 1, spec.TX}
	}
	return point2{uint16(label) - 1, spec.RX}
}
