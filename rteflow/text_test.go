// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
)

// captureHeader is what precedes a captured frame: Ethernet, IPv6, UDP.
var captureHeader = mustHex("020000000001" + "02000000000a" + "86dd" +
	"60000000" + "0000" + "11" + "40" + "fc000001000000000000000000000001" + "fc000002000000000000000000000009" +
	"0bb8" + "0bc2" + "0000" + "0000")

// labelledHeader is captureHeader with a flow label, vxlanHeader the same for VXLAN.
var (
	labelledHeader = mustHex("020000000001" + "02000000000a" + "86dd" +
		"600fedcb" + "0000" + "11" + "40" + "fc000001000000000000000000000001" + "fc000002000000000000000000000009" +
		"0bb8" + "0bc2" + "0000" + "0000")
	vxlanHeader = mustHex("020000000001" + "02000000000a" + "86dd" +
		"60000000" + "0000" + "11" + "40" + "fc000001000000000000000000000001" + "fc000002000000000000000000000009" +
		"0bb8" + "12b5" + "0000" + "0000" + "08000000" + "fedcba00")
)

// tunnelHeader is what precedes a guest's packet between hypervisors: Ethernet, IPv6.
var tunnelHeader = mustHex("020000000001" + "02000000000a" + "86dd" +
	"60000000" + "0000" + "04" + "40" + "fc000001000000000000000000000001" + "fc000002000000000000000000000009")

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func addr(s string) *Match[netip.Addr] { return Is(netip.MustParseAddr(s)) }

func TestRuleString(t *testing.T) {
	last := uint16(90)
	mask := uint16(0xffff)
	for _, tt := range []struct {
		name string
		rule Rule
		want string
	}{
		{
			"empty", Rule{},
			"group 0 priority 0 pattern end actions end",
		},
		{
			"base rule of a VF",
			Rule{
				Attr{Group: 0, Priority: 1, Transfer: true},
				[]Item{RepresentedPort{Port: 2}, Eth{}},
				[]Action{Jump{Group: 2}},
				nil,
			},
			"group 0 priority 1 transfer pattern represented_port ethdev_port_id is 2 / eth / end actions jump group 2 / end",
		},
		{
			"base rule of the uplink",
			Rule{Attr{Ingress: true}, []Item{Eth{}, IPv6{Proto: Is(uint8(4))}}, []Action{Queue{}}, nil},
			"group 0 priority 0 ingress pattern eth / ipv6 proto is 4 / end actions queue index 0 / end",
		},
		{
			"capture",
			Rule{
				Attr{Group: 1, Transfer: true},
				[]Item{PortID{Port: 3}, Eth{}},
				[]Action{Count{}, Sample{Ratio: 1, Actions: []Action{RawEncap{Data: captureHeader}, ToPortID{Port: 0}}},
					Jump{Group: 2}},
				nil,
			},
			"group 1 priority 0 transfer pattern port_id id is 3 / eth / end actions count / sample ratio 1 { raw_encap { " +
				"eth dst is 02:00:00:00:00:01 src is 02:00:00:00:00:0a type is 0x86dd / " +
				"ipv6 proto is 17 hop is 64 src is fc00:1::1 dst is fc00:2::9 / udp src is 3000 dst is 3010 } / port_id id 0 } / " +
				"jump group 2 / end",
		},
		{
			"flow between guests",
			Rule{
				Attr{Group: 2, Transfer: true},
				[]Item{
					Eth{}, IPv4{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: Is(uint8(6))},
					TCP{SrcPort: Is(uint16(1024)), DstPort: Is(uint16(80)), Flags: Masked[uint8](0, 7)},
				},
				[]Action{
					SetMACSrc{wire.MAC{2, 0, 0, 0, 0, 1}}, SetMACDst{wire.MAC{2, 0, 0, 0, 0, 2}}, DecTTL{},
					Age{Timeout: 30, Context: 7},
					Count{},
					ToRepresentedPort{Port: 4},
				},
				nil,
			},
			"group 2 priority 0 transfer pattern eth / ipv4 proto is 6 src is 10.0.0.1 dst is 10.0.0.2 / " +
				"tcp src is 1024 dst is 80 flags spec 0x00 flags mask 0x07 / end actions " +
				"set_mac_src mac_addr 02:00:00:00:00:01 / set_mac_dst mac_addr 02:00:00:00:00:02 / dec_ttl / age timeout 30 / " +
				"count / " +
				"represented_port ethdev_port_id 4 / end",
		},
		{
			"decapsulation",
			Rule{
				Attr{Egress: true},
				[]Item{Eth{}, IPv6{}, IPv4{}, ICMP{Type: Is(uint8(8)), Code: Is(uint8(0)), Ident: Is(uint16(3))}},
				[]Action{RawDecap{Data: tunnelHeader}, RawEncap{Data: tunnelHeader[:14]}, Drop{}},
				nil,
			},
			"group 0 priority 0 egress pattern eth / ipv6 / ipv4 / icmp type is 8 code is 0 ident is 3 / end actions " +
				"raw_decap { eth / ipv6 } / raw_encap { eth dst is 02:00:00:00:00:01 src is 02:00:00:00:00:0a type is 0x86dd " +
				"} / drop / end",
		},
		{
			"masks",
			Rule{Pattern: []Item{IPv4{TOS: Masked[uint8](8, 0xfc),
				Dst: Masked(addr("10.0.0.0").Spec, addr("255.192.0.0").Spec)}}},
			"group 0 priority 0 pattern ipv4 tos spec 0x08 tos mask 0xfc dst spec 10.0.0.0 dst mask 255.192.0.0 / end " +
				"actions end",
		},
		{
			"tags and marks",
			Rule{
				Attr{Transfer: true},
				[]Item{
					Mark{Is[uint32](7)}, Tag{Masked[uint32](1, 3), 2}, Meta{Is[uint32](9)}, Eth{},
					VLAN{TCI: Masked[uint16](100, 0xfff), InnerType: Is[uint16](0x0800)}, IPv4{}, UDP{}, VXLAN{Is[uint32](70000)},
				},
				[]Action{PopVLAN{}, PushVLAN{0x88a8}, SetMark{8}, SetTag{1, 3, 2}, SetMeta{9, 15}, Indirect{ID: 3, Handle: 0xffff}},
				nil,
			},
			"group 0 priority 0 transfer pattern mark id is 7 / tag data spec 1 data mask 3 index is 2 / meta data is 9 / " +
				"eth / " +
				"vlan tci spec 0x0064 tci mask 0x0fff inner_type is 0x0800 / ipv4 / udp / vxlan vni is 70000 / end actions " +
				"of_pop_vlan / of_push_vlan ethertype 0x88a8 / mark id 8 / set_tag data 1 index 2 mask 3 / set_meta data 9 mask " +
				"15 / indirect 3 / end",
		},
		{
			"rewriting",
			Rule{Actions: []Action{
				SetIPv4Src{netip.MustParseAddr("1.2.3.4")}, SetIPv4Dst{netip.MustParseAddr("5.6.7.8")},
				SetIPv6Src{netip.MustParseAddr("fc00::1")}, SetIPv6Dst{netip.MustParseAddr("::ffff:1.2.3.4")}, SetTPSrc{1},
				SetTPDst{2},
			}},
			"group 0 priority 0 pattern end actions set_ipv4_src ipv4_addr 1.2.3.4 / set_ipv4_dst ipv4_addr 5.6.7.8 / " +
				"set_ipv6_src ipv6_addr fc00::1 / set_ipv6_dst ipv6_addr ::ffff:1.2.3.4 / set_tp_src port 1 / set_tp_dst port " +
				"2 / end",
		},
		{
			"range",
			Rule{Pattern: []Item{UDP{DstPort: &Match[uint16]{Spec: 80, Last: &last, Mask: &mask}}, ICMP6{Type: Is(uint8(128))}}},
			"group 0 priority 0 pattern udp dst spec 80 dst last 90 dst mask 65535 / icmp6 type is 128 / end actions end",
		},
		{
			"a header without words",
			Rule{Actions: []Action{RawEncap{Data: []byte{1, 2, 3}}, RawDecap{}}},
			"group 0 priority 0 pattern end actions raw_encap { hex 010203 } / raw_decap { hex  } / end",
		},
		{
			"what no rule may contain",
			Rule{Pattern: []Item{nil, &Eth{}, IPv4{Src: addr("::1")}}, Actions: []Action{nil, &Drop{}}},
			"group 0 priority 0 pattern unknown <nil> / unknown *rteflow.Eth / ipv4 src is invalid (\"::1\" is not an IPv4 " +
				"address) / end " +
				"actions unknown <nil> / unknown *rteflow.Drop / end",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, tt.rule.String())
		})
	}
}

func TestRuleCommands(t *testing.T) {
	sample := Sample{Ratio: 1, Actions: []Action{RawEncap{Data: captureHeader}, ToRepresentedPort{Port: 0}}}
	rule := Rule{
		Attr{Group: 1, Transfer: true},
		[]Item{Eth{}},
		[]Action{RawDecap{Data: tunnelHeader}, RawEncap{Data: tunnelHeader[:14]}, sample, RawEncap{Data: []byte{1}},
			Jump{Group: 2}},
		nil,
	}
	require.Equal(t, []string{
		"set raw_decap 0 eth / ipv6 / end_set",
		"set raw_encap 0 eth dst is 02:00:00:00:00:01 src is 02:00:00:00:00:0a type is 0x86dd / end_set",
		"set raw_encap 1 eth dst is 02:00:00:00:00:01 src is 02:00:00:00:00:0a type is 0x86dd / " +
			"ipv6 proto is 17 hop is 64 src is fc00:1::1 dst is fc00:2::9 / udp src is 3000 dst is 3010 / end_set",
		"set sample_actions 0 raw_encap index 1 / represented_port ethdev_port_id 0 / end",
		"# testpmd has no words for raw_encap 2: 01",
		"flow create 7 group 1 priority 0 transfer pattern eth / end actions raw_decap index 0 / raw_encap index 0 / " +
			"sample ratio 1 index 0 / raw_encap index 2 / jump group 2 / end",
	}, rule.Commands(7))
}

func TestIndirectCommand(t *testing.T) {
	assert.Equal(t, "flow indirect_action 2 create action_id 5 transfer action age timeout 10 / end",
		IndirectCommand(2, 5, Attr{Transfer: true}, Age{Timeout: 10}))
}

func TestHeadersThatTestpmdCannotExpress(t *testing.T) {
	change := func(at int, to byte) []byte {
		data := append([]byte(nil), captureHeader...)
		data[at] = to
		return data
	}
	for name, data := range map[string][]byte{
		"traffic class":          change(15, 0x10),
		"payload length":         change(19, 8),
		"IP version":             change(14, 0x40),
		"UDP checksum":           change(61, 1),
		"ether type":             change(13, 0),
		"protocol":               change(20, 6),
		"truncated":              captureHeader[:60],
		"bytes behind":           append(change(0, 2), 1),
		"IPv6 header cut":        captureHeader[:40],
		"shorter than Ethernet ": captureHeader[:13],
		"VXLAN without a VNI":    append(bytes.Clone(vxlanHeader[:62]), make([]byte, 8)...),
		"VXLAN's reserved byte":  append(bytes.Clone(vxlanHeader[:69]), 1),
	} {
		_, ok := encapText(data)
		assert.False(t, ok, name)
	}
}
