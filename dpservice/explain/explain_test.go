// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/status"
	"dpservice/dpservice/uplink"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/wire"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	guestMAC   = wire.MAC{2, 0, 0, 0, 0, 1}
	gatewayMAC = wire.MAC{2, 0, 0, 0, 0, 2}
	remote     = addr("fc00:2::1")
	vm1        = vnet.Attachment{
		Interface: vnet.Interface{ID: "vm-1", Port: 3, VNI: 100, IPv4: addr("10.0.0.1"), IPv6: addr("fd00::1"),
			UnderlayIP: addr("fc00:1::1")},
		Index: 1, GatewayMAC: gatewayMAC, GuestMAC: guestMAC,
	}
)

// node is all that an Explainer asks. It has the first interface, whose port is vf0; PF0 is port 0.
type node struct {
	asked    graph.Question
	answer   graph.Answer
	err      error
	sessions []spec.Session
	rule     *status.Rule
	why      string
}

func (n *node) Explain(q graph.Question) (graph.Answer, error) {
	n.asked = q
	return n.answer, n.err
}
func (n *node) networks() vnet.Networks {
	return vnet.Networks{Interfaces: []vnet.Attachment{vm1}, Routes: []vnet.Route{
		{VNI: 100, Prefix: netip.MustParsePrefix("0.0.0.0/0"), NextHopIP: addr("fc00:9::9")},
		{VNI: 100, Prefix: netip.MustParsePrefix("10.0.1.0/24"), NextHopIP: remote},
		{VNI: 200, Prefix: netip.MustParsePrefix("10.0.1.5/32"), NextHopIP: addr("fc00:9::8")},
	}}
}

func (n *node) config() Config {
	return Config{
		Graph: n, Networks: n.networks,
		Uplinks: func() []uplink.Uplink {
			return []uplink.Uplink{{Number: 0, Port: 0, Name: "pf0", LinkUp: true, RouterMAC: gatewayMAC, Source: uplink.Kernel}}
		},
		Captures: func() (sessions, ended []spec.Session) { return n.sessions, nil },
		Rule:     func(uint64) (*status.Rule, string) { return n.rule, n.why },
		Describe: func(f graph.Flow) status.Flow {
			return status.Flow{ID: f.ID, State: f.State.String(), Packets: f.Packets, Bytes: f.Bytes, Idle: f.Idle}
		},
		PortName: func(id uint16) string { return map[uint16]string{0: "pf0", 3: "vf0", 4: "vf1"}[id] },
	}
}

// encapsulated is the answer about a packet of the first guest that goes to another node.
func encapsulated() graph.Answer {
	header := make([]byte, 54)
	copy(header[38:], remote.AsSlice())
	return graph.Answer{
		Next: graph.Flow{
			Key:     graph.FlowKey{Interface: 1, Src: vm1.IPv4, Dst: addr("10.0.1.5"), Proto: 6, SrcPort: 1, DstPort: 443},
			VNI:     100,
			Verdict: graph.Verdict{Kind: graph.Encap, InPort: 3, TxPort: 0, Header: header},
		},
		MTU: 1500, Offloadable: true,
	}
}

func known(a graph.Answer) graph.Answer {
	f := a.Next
	f.ID, f.Packets, f.Bytes, f.Idle = 7, 3, 180, 1500*time.Millisecond
	a.Flow = &graph.TracedFlow{Flow: f, Candidate: true, Announced: true}
	return a
}

var request = status.ExplainRequest{Interface: "vm-1", Dst: addr("10.0.1.5"), Proto: 6, SrcPort: 1, DstPort: 443}

// text is what the explanation's step about a subject says.
func text(x status.Explanation, subject string) string {
	for _, s := range x.Steps {
		if s.Subject == subject {
			return s.Text
		}
	}
	return ""
}

func TestSteps(t *testing.T) {
	ends := func(node string) graph.Answer {
		a := encapsulated()
		a.Node = node
		return a
	}
	rule := &status.Rule{Name: "flow/7", Group: 2}
	for name, c := range map[string]struct {
		answer  graph.Answer
		rule    *status.Rule
		why     string
		verdict string
		dropped bool
		steps   map[string]string
	}{
		"never seen": {encapsulated(), nil, "",
			"encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0", false, map[string]string{
				"source": "10.0.0.1 is the guest's own address",
				"route":  "10.0.1.0/24 to fc00:2::1 in VNI 100, the longest prefix that holds 10.0.1.5",
				"uplink": "pf0, whose link is up, by the router 02:00:00:00:00:02 (kernel)",
				"flow":   "not seen, or forgotten: the packet would begin it",
				"NIC":    "has no rule yet: the flow's first packet brings it, if it is no TCP SYN, FIN or RST",
			}},
		"offloaded": {known(encapsulated()), rule, "",
			"encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0", false, map[string]string{
				"flow": "7, new: 3 packets of 180 bytes in all so far, the last one 1.5 s ago",
				"NIC":  "forwards the flow by itself, by rule flow/7 in group 2 VNET",
			}},
		"stale, and no rule": {func() graph.Answer { a := known(encapsulated()); a.Stale = true; return a }(), nil, "why not",
			"encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0", false, map[string]string{
				"flow": "7, new: 3 packets of 180 bytes in all so far, the last one 1.5 s ago; interfaces, " +
					"routes or uplinks have " +
					"changed since, so the next packet looks all of this up again",
				"NIC": "why not",
			}},
		"never in the NIC": {func() graph.Answer { a := encapsulated(); a.Offloadable = false; return a }(), nil, "",
			"encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0", false, map[string]string{
				"NIC": "has no rule: only TCP, UDP and echoes are offloaded"}},
		"too big once": {func() graph.Answer { a := known(encapsulated()); a.Flow.Candidate = false; return a }(), nil, "x",
			"encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0", false, map[string]string{
				"NIC": "has no rule: the flow had a packet that was too big for the MTU where it goes"}},
		"a SYN so far": {func() graph.Answer { a := known(encapsulated()); a.Flow.Announced = false; return a }(), nil, "x",
			"encapsulated to fc00:2::1 by route 10.0.1.0/24, out of pf0", false, map[string]string{
				"NIC": "has no rule: the flow waits for a packet without SYN, FIN or RST"}},
		"dropped": {ends("drop_no_neighbour"), nil, "",
			"dropped: the MAC of the guest or of the router is not known, or no uplink is usable (drop_no_neighbour)", true,
			map[string]string{
				"uplink": "", "flow": "none: what is not forwarded begins no flow",
				"NIC": "has no rule: the software drops the packet or answers it itself",
			}},
		"answered": {ends("icmp_no_route"), nil, "",
			"answered with an ICMP error: there is no route to its destination", true, nil},
		"slow path": {ends("punt"), nil, "",
			"left to the slow path, which answers ARP, neighbour discovery, DHCP and pings of the gateway", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{answer: c.answer, rule: c.rule, why: c.why}
			x, err := New(n.config()).Explain(request)
			require.NoError(t, err)
			assert.Equal(t, c.verdict, x.Verdict)
			assert.Equal(t, c.dropped, x.Dropped)
			assert.Equal(t, c.rule, x.Rule)
			for subject, want := range c.steps {
				assert.Equal(t, want, text(x, subject), subject)
			}
			asked := graph.Question{Port: 3, Src: vm1.IPv4, Dst: request.Dst, Proto: 6, SrcPort: 1, DstPort: 443}
			assert.Equal(t, asked, n.asked)
		})
	}
}

func TestFromTheWire(t *testing.T) {
	n := &node{answer: graph.Answer{Next: graph.Flow{
		Key: graph.FlowKey{Origin: graph.FromWire, Interface: 1, Src: addr("10.0.1.5"), Dst: vm1.IPv4, Proto: 17},
		VNI: 100, Verdict: graph.Verdict{Kind: graph.Deliver, TxPort: 3, Header: make([]byte, 14)},
	}}}
	x, err := New(n.config()).Explain(status.ExplainRequest{Interface: "vm-1", FromWire: true,
		Src: addr("10.0.1.5"), Proto: 17,
		Peer: remote})
	require.NoError(t, err)
	require.Equal(t, graph.Question{Origin: graph.FromWire, Underlay: vm1.UnderlayIP, Peer: remote, Src: addr("10.0.1.5"),
		Dst: vm1.IPv4, Proto: 17}, n.asked)
	require.Equal(t, "delivered to vm-1 by vf0", x.Verdict)
	require.Equal(t,
		"the route 10.0.1.0/24 to 10.0.1.5 leads to fc00:2::1, who alone may send it; it comes from fc00:2::1",
		text(x, "source"))
	require.Equal(t, "10.0.0.1 is the address of vm-1 on this node", text(x, "route"))

	n.answer.Node = "drop_wrong_peer"
	for port, met := range map[string]int{"vf0": 1, "pf0": 0} { // it is the guest's that is dropped
		n.sessions = []spec.Session{captureOf(t, "", spec.SessionInterface{Target: spec.Target{VF: "vm-1"},
			Direction: spec.Drops, Port: port})}
		x, err = New(n.config()).Explain(status.ExplainRequest{
			Interface: "vm-1", FromWire: true, Src: addr("10.0.1.5"), Proto: 17, Peer: remote,
		})
		require.NoError(t, err)
		require.Len(t, x.Captures, met, port)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		request status.ExplainRequest
		err     error
		reason  fault.Reason
	}{
		"no interface":  {status.ExplainRequest{Interface: "vm-9", Dst: addr("10.0.1.5")}, nil, fault.NotFound},
		"no other side": {status.ExplainRequest{Interface: "vm-1", Src: addr("10.0.0.1")}, nil, fault.InvalidParams},
		"two families": {status.ExplainRequest{Interface: "vm-1", Src: vm1.IPv6, Dst: addr("10.0.1.5")}, nil,
			fault.InvalidParams},
		"no flow":           {status.ExplainRequest{ID: 9}, graph.ErrNotFound, fault.NotFound},
		"interface deleted": {status.ExplainRequest{ID: 9}, nil, fault.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{err: c.err, answer: known(encapsulated())}
			n.answer.Flow.Key.Interface = 9 // that of nobody
			_, err := New(n.config()).Explain(c.request)
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			require.Equal(t, c.reason, f.Reason)
		})
	}
	n := &node{err: graph.ErrTimeout}
	_, err := New(n.config()).Explain(request)
	require.ErrorIs(t, err, graph.ErrTimeout)
}

// captureOf is a session with this filter on an interface, as the captures report it.
func captureOf(t *testing.T, text string, i spec.SessionInterface) spec.Session {
	t.Helper()
	link := filter.Ethernet
	if i.VF == "" {
		link = filter.IP
	}
	p, err := filter.Compile(text, link, spec.MaxRules)
	require.NoError(t, err)
	for n, r := range p.Rules {
		i.Rules = append(i.Rules, spec.SessionRule{Sample: r.Sample, Packets: uint64(n + 1)})
	}
	return spec.Session{Name: "s", State: spec.Active, Filter: text, Interfaces: []spec.SessionInterface{i}}
}

func TestCaptures(t *testing.T) {
	on := spec.SessionInterface{Target: spec.Target{VF: "vm-1"}, Direction: spec.RX, Port: "vf0"}
	other, tx, drops, pf := on, on, on, spec.SessionInterface{Direction: spec.RX, Port: "pf0"}
	other.Port, tx.Direction, drops.Direction = "vf1", spec.TX, spec.Drops
	none := []bool{}
	for name, c := range map[string]struct {
		filter  string
		on      spec.SessionInterface
		node    string
		copied  []bool // of the rules that the packet meets or may meet
		depends string // of the first one
	}{
		"all":                     {"", on, "", []bool{true}, ""},
		"its port":                {"tcp dst port 443", on, "", []bool{true}, ""},
		"another port":            {"tcp dst port 80", on, "", []bool{false}, ""},
		"its MAC":                 {"ether src 02:00:00:00:00:01", on, "", []bool{true}, ""},
		"IPv6":                    {"ip6", on, "", []bool{false}, ""},
		"UDP or its address":      {"udp or dst host 10.0.1.5", on, "", []bool{true}, ""},
		"some of its packets":     {"tcp[tcpflags] & tcp-syn != 0", on, "", []bool{false, true}, "the TCP flags"},
		"by time to live":         {"ip[8] = 1", on, "", []bool{true, false}, "the time to live"},
		"another interface":       {"", other, "", none, ""},
		"what the guest receives": {"", tx, "", none, ""},
		"drops, but it is not":    {"", drops, "", none, ""},
		"drops":                   {"", drops, "drop_no_route", []bool{true}, ""},
		"drops, by the slow path": {"", drops, "punt", none, ""},
		"the uplink":              {"", pf, "", none, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := encapsulated()
			a.Node = c.node
			n := &node{answer: a, sessions: []spec.Session{captureOf(t, c.filter, c.on)}}
			x, err := New(n.config()).Explain(request)
			require.NoError(t, err)
			copied := []bool{}
			for _, m := range x.Captures {
				assert.Equal(t, "s", m.Session)
				assert.NotZero(t, m.Packets)
				copied = append(copied, m.Copied)
			}
			require.Equal(t, c.copied, copied)
			if len(copied) > 0 {
				assert.Equal(t, c.depends, x.Captures[0].Depends)
				assert.Empty(t, x.Captures[len(copied)-1].Depends, "the last one decides")
			} else {
				assert.Equal(t, "none sees the packet", text(x, "captures"))
			}
		})
	}
}
