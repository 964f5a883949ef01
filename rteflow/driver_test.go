// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"encoding/hex"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
)

// driver builds flow.c with the driver of testdata/show_rule.c and with gcc's sanitizers, feeds it lines, and returns
// what it printed for each.
func driver(t *testing.T, lines []string) []string {
	t.Helper()
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libdpdk").Output()
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "show_rule")
	args := append([]string{
		"-g", "-Wall", "-Wextra", "-Werror", "-DALLOW_EXPERIMENTAL_API", "-fsanitize=address,undefined",
		"-fno-sanitize-recover",
		"-o", program, "flow.c", "testdata/show_rule.c", "-Wl,--wrap=rte_flow_validate",
	}, strings.Fields(string(flags))...)
	out, err := exec.Command("gcc", args...).CombinedOutput()
	require.NoError(t, err, string(out))

	cmd := exec.Command(program)
	cmd.Env = []string{"ASAN_OPTIONS=detect_leaks=1"}
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	require.NoError(t, err, stderr.String())
	answers := strings.Split(string(out), "\n.\n")
	require.Len(t, answers, len(lines)+1)
	return answers[:len(lines)]
}

// encode is the rule's memory for flow.c.
func encode(r Rule) ([]byte, *Error) {
	e := newEncoder()
	defer e.free()
	err := e.rule(r)
	return slices.Clone(e.buf), err
}

func line(t *testing.T, cause string, r Rule) string {
	t.Helper()
	buf, err := encode(r)
	require.Nil(t, err)
	return cause + " " + hex.EncodeToString(buf)
}

func TestWhatADriverSees(t *testing.T) {
	last, mask := wire.MAC{2, 0, 0, 0, 0, 9}, wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0}
	rules := []Rule{
		{},
		{
			Attr{Group: 3, Priority: 4, Transfer: true},
			[]Item{
				RepresentedPort{Port: 258}, PortID{Port: 259}, Eth{},
				Eth{Src: &Match[wire.MAC]{Spec: wire.MAC{2}, Last: &last, Mask: &mask}, Type: Is[uint16](0x0800)},
				IPv4{
					Src: addr("10.0.0.1"), Dst: Masked(addr("10.0.0.2").Spec, addr("255.255.0.0").Spec), TOS: Is[uint8](1),
					TTL: Is[uint8](2), Proto: Is[uint8](3), FragmentOffset: Is[uint16](0x3fff),
				},
				TCP{SrcPort: Is[uint16](258), DstPort: Is[uint16](259), Flags: Masked[uint8](0, 7)},
			},
			[]Action{
				Age{Timeout: maxAge, Context: 0xfedcba9876543210}, Count{}, DecTTL{}, Drop{}, Queue{Index: 258},
				SetMACSrc{wire.MAC{1, 2, 3, 4, 5, 6}}, SetMACDst{wire.MAC{6, 5, 4, 3, 2, 1}},
			},
			nil,
		},
		{
			Attr{Ingress: true},
			[]Item{
				IPv6{Src: addr("fc00::1"), Dst: addr("fc00::2"), Proto: Is[uint8](4), HopLimit: Is[uint8](5)},
				UDP{SrcPort: Is[uint16](1), DstPort: Is[uint16](2)},
				ICMP{Type: Is[uint8](8), Code: Is[uint8](1), Ident: Is[uint16](258)},
				ICMP6{Type: Is[uint8](128), Code: Is[uint8](1)},
			},
			[]Action{Jump{Group: 70000}},
			nil,
		},
		{
			Attr{Egress: true}, nil,
			[]Action{
				RawDecap{Data: []byte{9}}, RawEncap{},
				Sample{Ratio: 1, Actions: []Action{RawEncap{Data: captureHeader}, ToPortID{Port: 258}}},
				Sample{Ratio: 5}, ToRepresentedPort{Port: 259},
			},
			nil,
		},
		{
			Attr{Transfer: true},
			[]Item{
				VLAN{TCI: Masked[uint16](0x0102, 0x0fff), InnerType: Is[uint16](0x86dd)}, VXLAN{Is[uint32](0x010203)},
				Mark{Is[uint32](70001)}, Tag{Masked[uint32](70002, 70003), 4}, Meta{Is[uint32](70004)}, VXLAN{},
			},
			[]Action{
				SetIPv4Src{addr("1.2.3.4").Spec}, SetIPv4Dst{addr("1.2.3.5").Spec}, SetIPv6Src{addr("fc00::1").Spec},
				SetIPv6Dst{addr("fc00::2").Spec}, SetTPSrc{258}, SetTPDst{259}, PopVLAN{}, PushVLAN{0x88a8}, SetMark{70005},
				SetTag{70006, 70007, 3}, SetMeta{70008, 70009},
				Indirect{ID: 9, Handle: 0xfedcba98},
			},
			nil,
		},
	}
	var lines []string
	for _, r := range rules {
		lines = append(lines, line(t, "-", r))
	}
	answers := driver(t, lines)
	const refused = "\nrc=-95 type=13 cause=0 index=-1 sub=-1 refused"
	assert.Equal(t, "port=7 group=0 priority=0 ingress=0 egress=0 transfer=0"+refused, answers[0])
	assert.Equal(t, `port=7 group=3 priority=4 ingress=0 egress=0 transfer=1
 item REPRESENTED_PORT
  spec port=258
  mask port=65535
 item PORT_ID
  spec port=259
  mask port=4294967295
 item ETH
 item ETH
  spec dst=000000000000 src=020000000000 type=0800 vlan=0
  mask dst=000000000000 src=ffffffffff00 type=ffff vlan=0
  last dst=000000000000 src=020000000009 type=0800 vlan=0
 item IPV4
  spec version_ihl=0 tos=1 len=0 id=0 frag=3fff ttl=2 proto=3 sum=0 src=0a000001 dst=0a000002
  mask version_ihl=0 tos=255 len=0 id=0 frag=ffff ttl=255 proto=255 sum=0 src=ffffffff dst=ffff0000
 item TCP
  spec src=258 dst=259 off=0 flags=00 win=0
  mask src=65535 dst=65535 off=0 flags=07 win=0
 action AGE timeout=16777215 reserved=0 context=fedcba9876543210
 action COUNT id=0
 action DEC_TTL conf=0
 action DROP conf=0
 action QUEUE index=258
 action SET_MAC_SRC mac=010203040506
 action SET_MAC_DST mac=060504030201`+refused, answers[1])
	assert.Equal(t, `port=7 group=0 priority=0 ingress=1 egress=0 transfer=0
 item IPV6
  spec vtc_flow=0 len=0 proto=4 hop=5 src=fc000000000000000000000000000001 dst=fc000000000000000000000000000002 ext=0
  mask vtc_flow=0 len=0 proto=255 hop=255 src=ffffffffffffffffffffffffffffffff dst=ffffffffffffffffffffffffffffffff ext=0
 item UDP
  spec src=1 dst=2
  mask src=65535 dst=65535
 item ICMP
  spec type=8 code=1 ident=258
  mask type=255 code=255 ident=65535
 item ICMP6
  spec type=128 code=1
  mask type=255 code=255
 action JUMP group=70000`+refused, answers[2])
	assert.Equal(t, `port=7 group=0 priority=0 ingress=0 egress=1 transfer=0
 action RAW_DECAP data=09
 action RAW_ENCAP preserve=0 data=
 action SAMPLE ratio=1
  action RAW_ENCAP preserve=0 data=`+hex.EncodeToString(captureHeader)+`
  action PORT_ID port=258 original=0
 action SAMPLE ratio=5
 action REPRESENTED_PORT port=259`+refused, answers[3])
	assert.Equal(t, `port=7 group=0 priority=0 ingress=0 egress=0 transfer=1
 item VLAN
  spec tci=0102 inner=86dd more=0
  mask tci=0fff inner=ffff more=0
 item VXLAN
  spec flags=00 vni=010203 reserved=0
  mask flags=00 vni=ffffff reserved=0
 item MARK
  spec id=70001
  mask id=4294967295
 item TAG
  spec data=70002 index=4
  mask data=70003 index=255
 item META
  spec data=70004
  mask data=4294967295
 item VXLAN
 action SET_IPV4_SRC addr=01020304
 action SET_IPV4_DST addr=01020305
 action SET_IPV6_SRC addr=fc000000000000000000000000000001
 action SET_IPV6_DST addr=fc000000000000000000000000000002
 action SET_TP_SRC port=258
 action SET_TP_DST port=259
 action OF_POP_VLAN conf=0
 action OF_PUSH_VLAN type=88a8
 action MARK id=70005
 action SET_TAG data=70006 mask=70007 index=3
 action SET_META data=70008 mask=70009
 action INDIRECT handle=fedcba98`+refused, answers[4])
}

func TestTheCulpritIsFound(t *testing.T) {
	last := uint8(9)
	rule := Rule{
		Pattern: []Item{Eth{}, IPv4{TTL: &Match[uint8]{Spec: 1, Last: &last}}, UDP{}},
		Actions: []Action{Count{}, Drop{}, Sample{Ratio: 1, Actions: []Action{RawEncap{}, ToPortID{}}}, Jump{}},
	}
	const item, action = 1, 2
	tests := []struct {
		cause            string
		kind, index, sub int
		where            string
	}{
		{cause: "-", kind: 0, index: -1, sub: -1},
		{cause: "i0", kind: item, index: 0, sub: -1, where: "item 0: eth"},
		{cause: "i2", kind: item, index: 2, sub: -1, where: "item 2: udp"},
		{cause: "s1", kind: item, index: 1, sub: -1, where: "item 1: ipv4"},
		{cause: "m1", kind: item, index: 1, sub: -1, where: "item 1: ipv4"},
		{cause: "l1", kind: item, index: 1, sub: -1, where: "item 1: ipv4"},
		{cause: "a1", kind: action, index: 1, sub: -1, where: "action 1: drop"},
		{cause: "c3", kind: action, index: 3, sub: -1, where: "action 3: jump"},
		{cause: "c2", kind: action, index: 2, sub: -1, where: "action 2: sample"},
		{cause: "n2", kind: action, index: 2, sub: 1, where: "action 2: sample: action 1: port_id"},
		{cause: "i3", kind: 0, index: -1, sub: -1},
	}
	var lines []string
	for _, tt := range tests {
		lines = append(lines, line(t, tt.cause, rule))
	}
	for i, answer := range driver(t, lines) {
		tt := tests[i]
		assert.True(t, strings.HasSuffix(answer, fmt.Sprintf("cause=%d index=%d sub=%d refused", tt.kind, tt.index, tt.sub)),
			answer)
		switch tt.kind {
		case item:
			assert.Equal(t, tt.where, itemCause(rule, tt.index))
		case action:
			assert.Equal(t, tt.where, actionCause(rule, tt.index, tt.sub))
		}
	}
}

// The C side reads nothing that is not there: every rule cut short is refused, whether or not it says so.
func TestARuleCutShort(t *testing.T) {
	whole, err := encode(Rule{
		Pattern: []Item{Eth{Type: Is[uint16](1)}, UDP{}},
		Actions: []Action{Age{Timeout: 1}, Sample{Actions: []Action{RawEncap{Data: []byte{1}}, ToPortID{}}}, Count{},
			Indirect{}, PopVLAN{}},
	})
	require.Nil(t, err)
	const size, lists = 0, 24 // where a rule has its size, and where its lists are
	var lines []string
	for n := range whole {
		cut := slices.Clone(whole[:n])
		lines = append(lines, "- "+hex.EncodeToString(cut))
		if n >= size+4 {
			native.PutUint32(cut[size:], uint32(n))
			lines = append(lines, "- "+hex.EncodeToString(cut))
		}
	}
	for _, offset := range []uint32{uint32(len(whole)), uint32(len(whole)) - 1, 1 << 31, 1<<32 - 1} {
		for list := range 2 {
			elsewhere := slices.Clone(whole)
			native.PutUint32(elsewhere[lists+4*list:], offset)
			lines = append(lines, "- "+hex.EncodeToString(elsewhere))
		}
	}
	for i, answer := range driver(t, lines) {
		assert.Equal(t, "rc=-22 type=1 cause=0 index=0 sub=-1 cannot build the rule", answer, i)
	}
}
