// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The headers and lists of actions that rules refer to by their numbers, in testpmd's words.
var setup = []string{
	"set raw_encap 0 eth src is " + nicMAC + " dst is " + routerMAC +
		" / ipv6 src is fc00:1::1 dst is fc00:99::1 hop is 64 / udp src is 3000 dst is 3010 / end_set",
	"set raw_encap 1 eth src is " + nicMAC + " dst is " + routerMAC +
		" / ipv4 src is 192.0.2.1 dst is 192.0.2.2 ttl is 64 / udp src is 3000 dst is 3010 / end_set",
	"set raw_encap 2 eth src is " + nicMAC + " dst is " + routerMAC + " / ipv6 src is fc00:1::1 dst is fc00:2::1 proto is 4 hop is 63 / end_set",
	"set raw_encap 3 eth src is " + nicMAC + " dst is " + guestMAC + " type is 0x0800 / end_set",
	"set raw_decap 0 eth / ipv6 / end_set",
	"set raw_decap 1 eth / end_set",
	"set raw_decap 2 eth / ipv4 / udp / vxlan / end_set",
	fmt.Sprintf("set sample_actions 0 raw_encap index 0 / port_id id %d / end", pf0),
	// testpmd takes represented_port in a sample, but not as the first action there.
	fmt.Sprintf("set sample_actions 1 raw_encap index 0 / represented_port ethdev_port_id %d / end", pf0),
	fmt.Sprintf("set sample_actions 2 port_id id %d / end", vf1),
	"set sample_actions 3 queue index 1 / end",
	"set sample_actions 4 mark id 7 / queue index 1 / end",
}

// The same headers as the NIC has to hold them.
const (
	captureHeader = "02000000000202000000000186dd" + "6000000000001140fc000001000000000000000000000001fc000099000000000000000000000001" +
		"0bb80bc200000000"
	capture4Header = "0200000000020200000000010800" + "4500000000000000401100" + "00c0000201c0000202" + "0bb80bc200000000"
	tunnelHeader   = "02000000000202000000000186dd" + "600000000000043ffc000001000000000000000000000001fc000002000000000000000000000001"
	linkHeader     = "02000000000a0200000000010800"
)

// departure is a frame that leaves through a port. The NIC chooses the UDP source port at an offset, if it is not 0.
type departure struct {
	port    string
	frame   []byte
	entropy int
}

// action is what rules on a port do to a packet that arrives there, which the last of them matches.
type action struct {
	wire  string   // of the port: "pf0", or VF 0's by default
	rules []string // in groups that are jumped to
	rule  string
	dump  string // the NIC's words for the actions
	in    []byte
	out   []departure
	stats map[int]string // by port: a line of the extended statistics that it ends with
}

func captured(original []byte) departure {
	return departure{"pf0", withoutChecksum(frame(between(nicMAC, routerMAC), ip6(func(h *layers.IPv6) {
		h.SrcIP, h.DstIP = net.ParseIP("fc00:1::1"), net.ParseIP("fc00:99::1")
	}), &layers.UDP{DstPort: 3010}, gopacket.Payload(original)), 54), 54}
}

func captured4(original []byte) departure {
	return departure{"pf0", withoutChecksum(frame(between(nicMAC, routerMAC), ip4(func(h *layers.IPv4) {
		h.SrcIP, h.DstIP = net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)
	}), &layers.UDP{DstPort: 3010}, gopacket.Payload(original)), 34), 34}
}

// withoutChecksum is the frame with none in its UDP header.
func withoutChecksum(frame []byte, udp int) []byte {
	binary.BigEndian.PutUint16(frame[udp+6:], 0)
	return frame
}

func toVF1(frame []byte) departure { return departure{"vf1", frame, 0} }
func toPF0(frame []byte) departure { return departure{"pf0", frame, 0} }

var fullSize = frame(eth(), ip4(), udp(), text(1472))

// actions are all that decide what leaves the NIC, with every value that they take.
var actions = []action{
	{
		rule: "transfer pattern eth / end actions represented_port ethdev_port_id 9 / end", dump: "port=vf1",
		in: tcp4, out: []departure{toVF1(tcp4)}, stats: map[int]string{vf0: "hits: 1"},
	},
	{rule: "transfer pattern eth / end actions port_id id 6 / end", dump: "port=pf0", in: tcp4,
		out: []departure{toPF0(tcp4)}},
	{rule: "transfer pattern eth / end actions port_id original 1 / end", dump: "port=vf0", in: tcp4,
		out: []departure{{"vf0", tcp4, 0}}},
	{rule: "transfer pattern eth / end actions drop / end", dump: "drop", in: tcp4,
		stats: map[int]string{vf0: "dropped: 1"}},
	{
		rules: []string{"group 3 transfer pattern eth / ipv4 / end actions port_id id 9 / end"},
		rule:  "transfer pattern eth / end actions jump group 3 / end", dump: "jump=3", in: tcp4,
		out: []departure{toVF1(tcp4)},
	},
	{
		rules: []string{"group 1 transfer pattern eth / end actions port_id id 9 / end"},
		rule:  "transfer pattern eth / end actions sample ratio 1 index 0 / jump group 1 / end",
		dump:  "sample=1 { raw_encap=" + captureHeader + " port=pf0 } jump=1",
		in:    tcp6, out: []departure{toVF1(tcp6), captured(tcp6)}, stats: map[int]string{vf0: "sampled: 1"},
	},
	{
		rule: "transfer pattern eth / end actions sample ratio 1 index 1 / port_id id 9 / end",
		dump: "sample=1 { raw_encap=" + captureHeader + " port=pf0 } port=vf1",
		in:   unknown, out: []departure{toVF1(unknown), captured(unknown)},
	},
	{
		rule: "transfer pattern eth / end actions sample ratio 1 index 2 / port_id id 6 / end",
		dump: "sample=1 { port=vf1 } port=pf0", in: tcp4, out: []departure{toVF1(tcp4), toPF0(tcp4)},
	},
	{ // the copy is longer than PF 0's MTU
		rule: "transfer pattern eth / end actions sample ratio 1 index 0 / port_id id 9 / end",
		dump: "sample=1 { raw_encap=" + captureHeader + " port=pf0 } port=vf1",
		in:   fullSize, out: []departure{toVF1(fullSize)}, stats: map[int]string{pf0: "oversize: 1"},
	},
	{
		rule: "transfer pattern eth / end actions raw_encap index 0 / port_id id 6 / end",
		dump: "raw_encap=" + captureHeader + " port=pf0",
		in:   ping4, out: []departure{captured(ping4)}, stats: map[int]string{vf0: "encapsulated: 1"},
	},
	{
		rule: "transfer pattern eth / end actions raw_encap index 1 / port_id id 6 / end",
		dump: "raw_encap=" + capture4Header + " port=pf0",
		in:   udp6, out: []departure{captured4(udp6)},
	},
	{
		rule: "transfer pattern eth / ipv4 / end actions raw_decap index 1 / raw_encap index 2 / port_id id 6 / end",
		dump: "raw_decap=14 raw_encap=" + tunnelHeader + " port=pf0", in: tcp4,
		out: []departure{toPF0(frame(between(nicMAC, routerMAC), ip6(func(h *layers.IPv6) {
			h.SrcIP, h.DstIP, h.HopLimit = net.ParseIP("fc00:1::1"), net.ParseIP("fc00:2::1"), 63
		}), ip4(), tcp()))},
	},
	{ // decapsulation by the outer header; what is behind it then is what the next group matches, and the tag too
		wire: "pf0", rules: []string{
			"group 1 priority 1 transfer pattern tag data is 7 index is 2 / eth type is 0x0800 / ipv4 dst is 10.0.0.2 / tcp / end " +
				"actions dec_ttl / port_id id 9 / end",
			"group 1 priority 0 transfer pattern tag data is 8 index is 2 / eth / end actions drop / end",
		},
		rule: "transfer pattern eth / ipv6 dst is fd00::2 proto spec 0 proto mask 0xfb / end " +
			"actions raw_decap index 0 / raw_encap index 3 / set_tag data 7 index 2 mask 0xff / jump group 1 / end",
		dump: "raw_decap=54 raw_encap=" + linkHeader + " set_tag[2]=0x7/0xff jump=1", in: tunnel4,
		out:   []departure{toVF1(frame(between(nicMAC, guestMAC), ip4(func(h *layers.IPv4) { h.TTL = 63 }), tcp()))},
		stats: map[int]string{pf0: "decapsulated: 1"},
	},
	{
		wire: "pf0",
		rule: "transfer pattern eth / ipv6 / end actions raw_decap index 0 / raw_encap index 3 / port_id id 9 / end",
		dump: "raw_decap=54 raw_encap=" + linkHeader + " port=vf1", in: tcp6, stats: map[int]string{pf0: "malformed: 1"},
	},
	{
		wire: "pf0", rule: "transfer pattern eth / ipv4 / udp / vxlan / end actions raw_decap index 2 / port_id id 9 / end",
		dump: "raw_decap=50 port=vf1", in: overlay, out: []departure{toVF1(tcp4)},
	},
	{
		rules: []string{"group 70000 transfer pattern eth / end actions port_id id 9 / end"},
		rule:  "transfer pattern eth / end actions jump group 70000 / end", dump: "jump=70000", in: tcp4,
		out: []departure{toVF1(tcp4)},
	},
	{
		rule: "transfer pattern eth / end actions set_mac_src mac_addr " + nicMAC + " / port_id id 9 / end",
		dump: "set_mac_src=02:00:00:00:00:01 port=vf1", in: unknown,
		out: []departure{toVF1(frame(eth(func(h *layers.Ethernet) { h.SrcMAC, h.EthernetType = mac(nicMAC), 0x88b5 }),
			text(46)))},
	},
	{
		rule: "transfer pattern eth / end actions set_mac_dst mac_addr " + nicMAC + " / port_id id 9 / end",
		dump: "set_mac_dst=02:00:00:00:00:01 port=vf1", in: tcp4,
		out: []departure{toVF1(linked(func(h *layers.Ethernet) { h.DstMAC = mac(nicMAC) }))},
	},
	{
		rule: "transfer pattern eth / ipv4 / end actions set_ipv4_src ipv4_addr 192.0.2.9 / port_id id 9 / end",
		dump: "set_ipv4_src=192.0.2.9 port=vf1", in: tcp4,
		out: []departure{toVF1(tcp4With(func(h *layers.IPv4) { h.SrcIP = net.IPv4(192, 0, 2, 9) }))},
	},
	{
		rule: "transfer pattern eth / ipv4 / end actions set_ipv4_dst ipv4_addr 192.0.2.9 / port_id id 9 / end",
		dump: "set_ipv4_dst=192.0.2.9 port=vf1", in: udp4,
		out: []departure{toVF1(frame(eth(), ip4(func(h *layers.IPv4) { h.DstIP = net.IPv4(192, 0, 2, 9) }), udp(), text(9)))},
	},
	{
		rule: "transfer pattern eth / ipv6 / end actions set_ipv6_src ipv6_addr fc00:77::1 / port_id id 9 / end",
		dump: "set_ipv6_src=fc00:77::1 port=vf1", in: udp6,
		out: []departure{toVF1(frame(eth(), ip6(func(h *layers.IPv6) { h.SrcIP = net.ParseIP("fc00:77::1") }), udp(),
			text(9)))},
	},
	{
		rule: "transfer pattern eth / ipv6 / end actions set_ipv6_dst ipv6_addr fc00:77::1 / port_id id 9 / end",
		dump: "set_ipv6_dst=fc00:77::1 port=vf1", in: tcp6,
		out: []departure{toVF1(tcp6With(func(h *layers.IPv6) { h.DstIP = net.ParseIP("fc00:77::1") }))},
	},
	{
		rule: "transfer pattern eth / ipv4 / tcp / end actions set_tp_src port 4321 / port_id id 9 / end",
		dump: "set_tp_src=4321 port=vf1",
		in:   tcp4, out: []departure{toVF1(segment(func(h *layers.TCP) { h.SrcPort = 4321 }))},
	},
	{
		rule: "transfer pattern eth / ipv6 / udp / end actions set_tp_dst port 4321 / port_id id 9 / end",
		dump: "set_tp_dst=4321 port=vf1",
		in:   udp6, out: []departure{toVF1(datagram(func(h *layers.UDP) { h.DstPort = 4321 }))},
	},
	{
		rule: "transfer pattern eth / ipv4 / end actions dec_ttl / port_id id 9 / end", dump: "dec_ttl port=vf1",
		in: tcp4, out: []departure{toVF1(tcp4With(func(h *layers.IPv4) { h.TTL = 63 }))},
	},
	{
		rule: "transfer pattern eth / ipv6 / end actions dec_ttl / port_id id 9 / end", dump: "dec_ttl port=vf1",
		in: tcp6, out: []departure{toVF1(tcp6With(func(h *layers.IPv6) { h.HopLimit = 63 }))},
	},
	{
		rule: "transfer pattern eth / vlan / end actions of_pop_vlan / port_id id 9 / end", dump: "of_pop_vlan port=vf1",
		in: tagged, out: []departure{toVF1(tcp4)},
	},
	{
		rule: "transfer pattern eth / end actions of_push_vlan ethertype 0x8100 / port_id id 9 / end",
		dump: "of_push_vlan=0x8100,tci=0x0 port=vf1",
		in:   tcp4, out: []departure{toVF1(frame(eth(), tag(0), ip4(), tcp()))},
	},
	{
		rule: "transfer pattern eth / vlan pcp is 3 vid is 5 / end actions of_push_vlan ethertype 0x88a8 / port_id id 9 / end",
		dump: "of_push_vlan=0x88a8,tci=0x6005 port=vf1", in: tagged,
		out: []departure{toVF1(frame(eth(func(h *layers.Ethernet) { h.EthernetType = 0x88a8 }),
			tag(5, func(h *layers.Dot1Q) { h.Priority = 3 }), tag(5, func(h *layers.Dot1Q) { h.Priority = 3 }), ip4(), tcp()))},
	},
	{
		rules: []string{"group 1 transfer pattern tag data is 0x12 index is 2 / eth / end actions port_id id 9 / end"},
		rule:  "transfer pattern eth / end actions set_tag data 0x12 index 2 mask 0xff / jump group 1 / end",
		dump:  "set_tag[2]=0x12/0xff jump=1", in: tcp4, out: []departure{toVF1(tcp4)},
	},
	{ // the tag with that value is another
		rules: []string{
			"group 1 priority 0 transfer pattern tag data is 0x12 index is 1 / end actions drop / end",
			"group 1 priority 1 transfer pattern tag data spec 0x2 data mask 0x3 index is 2 / end actions port_id id 9 / end",
		},
		rule: "transfer pattern eth / end actions set_tag data 0x12 index 2 mask 0x0f / jump group 1 / end",
		dump: "set_tag[2]=0x2/0xf jump=1", in: tcp4, out: []departure{toVF1(tcp4)},
	},
	{
		rule: "transfer pattern eth / end actions count / age timeout 600 / void / port_id id 9 / end",
		dump: "count age=600 port=vf1 # 0 packets 0 bytes",
		in:   tcp4, out: []departure{toVF1(tcp4)},
	},
}

func (w *walk) actions(t *testing.T) {
	w.tell(t, setup...)
	for _, a := range actions {
		t.Run(a.dump, func(t *testing.T) { w.action(t, a) })
	}
}

func (w *walk) action(t *testing.T, a action) {
	w.counts.actions++
	wire, port := "vf0", vf0
	if a.wire == "pf0" {
		wire, port = "pf0", pf0
	}
	for _, rule := range a.rules {
		w.create(t, port, rule)
	}
	defer w.flush(t, port)
	rule := w.create(t, port, a.rule)
	_, got, ok := strings.Cut(w.dump(t, port, rule), " actions ")
	require.True(t, ok)
	assert.Equal(t, a.dump, got)
	w.Ask(t, "clear port xstats all")
	w.counts.packets++
	w.send(t, wire, a.in)
	for _, d := range a.out {
		left := w.left(t, d.port, 1)
		require.Len(t, left, 1)
		assert.Equal(t, d.frame, d.withoutEntropy(t, left[0]), d.port)
	}
	for port, stat := range a.stats {
		w.stat(t, port, stat)
	}
}

// withoutEntropy is the frame without the UDP source port that the NIC chose.
func (d departure) withoutEntropy(t *testing.T, frame []byte) []byte {
	t.Helper()
	if d.entropy != 0 {
		require.Greater(t, len(frame), d.entropy+2)
		assert.GreaterOrEqual(t, binary.BigEndian.Uint16(frame[d.entropy:]), uint16(49152),
			"the source port is the NIC's entropy")
		binary.BigEndian.PutUint16(frame[d.entropy:], 0)
	}
	return frame
}

// stat waits until the port's extended statistics have a line.
func (w *walk) stat(t *testing.T, port int, line string) {
	t.Helper()
	require.NoError(t, until(t.Context(), func() error {
		answer := w.Ask(t, fmt.Sprintf("show port xstats %d", port))
		if !strings.Contains(answer, "\n"+line+"\n") {
			return fmt.Errorf("no %q in %s", line, answer)
		}
		return nil
	}))
}
