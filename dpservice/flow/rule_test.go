// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/wire"
)

var (
	src4     = netip.MustParseAddr("10.0.0.1")
	dst4     = netip.MustParseAddr("10.0.0.2")
	src6     = netip.MustParseAddr("fd00::1")
	dst6     = netip.MustParseAddr("fd00::2")
	ethBytes = []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}
)

// deliver is a TCP flow from a guest on port 1 to one on port 2.
func deliver() graph.Flow {
	return graph.Flow{
		ID: 5,
		Key: graph.FlowKey{Origin: graph.FromGuest, Interface: 3, Src: src4, Dst: dst4, Proto: wire.ProtoTCP, SrcPort: 1000,
			DstPort: 80},
		Verdict: graph.Verdict{
			Kind: graph.Deliver, InPort: 1, TxPort: 2, DecTTL: true, Header: ethBytes,
		},
	}
}

func encap() graph.Flow {
	f := deliver()
	f.Verdict.Kind, f.Verdict.TxPort = graph.Encap, 0
	f.Verdict.Header = bytes.Repeat([]byte{7}, outerLen)
	return f
}

func fromWire() graph.Flow {
	f := deliver()
	f.Key.Origin = graph.FromWire
	f.Verdict.InPort, f.Verdict.TxPort, f.Verdict.DecTTL = 0, 2, false
	return f
}

// The expected texts are testpmd's syntax.
func TestRules(t *testing.T) {
	ipv6 := func(f graph.Flow, proto uint8, srcPort, dstPort uint16) graph.Flow {
		f.Key.Src, f.Key.Dst, f.Key.Proto, f.Key.SrcPort, f.Key.DstPort = src6, dst6, proto, srcPort, dstPort
		return f
	}
	icmp := func(f graph.Flow, kind uint16) graph.Flow {
		f.Key.Proto, f.Key.SrcPort, f.Key.DstPort = wire.ProtoICMP, kind<<8, 0
		return f
	}
	const tcp4 = "ipv4 fragment_offset spec 0x0000 fragment_offset mask 0x3fff " +
		"proto is 6 src is 10.0.0.1 dst is 10.0.0.2 / " +
		"tcp src is 1000 dst is 80 flags spec 0x00 flags mask 0x07"
	tests := map[string]struct {
		flow    graph.Flow
		pattern string
		actions []rteflow.Action
	}{
		"guest to guest": {
			deliver(), "represented_port ethdev_port_id is 1 / eth type is 0x0800 / " + tcp4,
			[]rteflow.Action{
				rteflow.SetMACSrc{MAC: wire.MAC{2, 0, 0, 0, 0, 1}}, rteflow.SetMACDst{MAC: wire.MAC{2, 0, 0, 0, 0, 2}},
				rteflow.DecTTL{}, rteflow.Age{Timeout: 30, Context: 5}, rteflow.Count{}, nic.JumpTo(nicgroup.Delivery(2)),
			},
		},
		"guest to wire": {
			encap(), "represented_port ethdev_port_id is 1 / eth type is 0x0800 / " + tcp4,
			[]rteflow.Action{
				rteflow.DecTTL{}, rteflow.RawDecap{Data: ethernet(0x800)},
				rteflow.RawEncap{Data: bytes.Repeat([]byte{7}, outerLen)},
				rteflow.Age{Timeout: 30, Context: 5}, rteflow.Count{}, rteflow.ToRepresentedPort{Port: 0},
			},
		},
		"wire to guest": {
			fromWire(), "represented_port ethdev_port_id is 0 / eth src is 02:64:70:73:01:02 type is 0x0800 / " + tcp4,
			[]rteflow.Action{
				rteflow.SetMACSrc{MAC: wire.MAC{2, 0, 0, 0, 0, 1}}, rteflow.SetMACDst{MAC: wire.MAC{2, 0, 0, 0, 0, 2}},
				rteflow.Age{Timeout: 30, Context: 5}, rteflow.Count{}, nic.JumpTo(nicgroup.Delivery(2)),
			},
		},
		"udp6": {ipv6(deliver(), wire.ProtoUDP, 53, 5353), "represented_port ethdev_port_id is 1 / eth type is 0x86dd / " +
			"ipv6 proto is 17 src is fd00::1 dst is fd00::2 / udp src is 53 dst is 5353", nil},
		"ping6 from the wire": {ipv6(fromWire(), wire.ProtoICMPv6, 129<<8, 0),
			"represented_port ethdev_port_id is 0 / eth src is 02:64:70:73:01:02 type is 0x86dd / " +
				"ipv6 proto is 58 src is fd00::1 dst is fd00::2 / icmp6 type is 129", nil},
		"ping": {icmp(deliver(), 8), "represented_port ethdev_port_id is 1 / eth type is 0x0800 / " +
			"ipv4 fragment_offset spec 0x0000 fragment_offset mask 0x3fff " +
			"proto is 1 src is 10.0.0.1 dst is 10.0.0.2 / icmp type is 8", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := ruleFor(&fakeNIC{}, tt.flow, 0x102, 30)
			require.NoError(t, err)
			group := nicgroup.VNET
			if tt.flow.Key.Origin == graph.FromWire {
				group = nicgroup.Decapsulated
			}
			assert.Equal(t, nic.InGroup(group, nicgroup.FlowPriority), r.Attr)
			assert.Equal(t, tt.pattern, r.PatternString())
			if tt.actions != nil {
				assert.Equal(t, tt.actions, r.Actions)
			}
		})
	}
}

func TestHeadersToRemove(t *testing.T) {
	assert.Equal(t, append(make([]byte, 12), 0x86, 0xdd), ethernet(0x86dd))
}

func TestNoRuleFor(t *testing.T) {
	tests := map[string]func(*graph.Flow){
		"another protocol": func(f *graph.Flow) { f.Key.Proto = 132 },
		"icmp in ipv6":     func(f *graph.Flow) { f.Key.Src, f.Key.Proto = src6, wire.ProtoICMP },
		"icmp6 in ipv4":    func(f *graph.Flow) { f.Key.Proto = wire.ProtoICMPv6 },
		"a short header":   func(f *graph.Flow) { f.Verdict.Header = ethBytes[:13] },
		"wire to wire":     func(f *graph.Flow) { f.Key.Origin = graph.FromWire; f.Verdict.Kind = graph.Encap },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			f := deliver()
			change(&f)
			_, err := ruleFor(&fakeNIC{}, f, 0, 30)
			assert.Error(t, err)
		})
	}
}

// A rule made from a template is the rule of the flow, whichever flow of its shape the template was made of.
func TestTemplates(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	m := newLab().Manager
	address := func(v6 bool) netip.Addr {
		var b [16]byte
		binary.BigEndian.PutUint64(b[8:], random.Uint64())
		b[0] = 0xfd
		if v6 {
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	for range 2000 {
		f := []graph.Flow{deliver(), encap(), fromWire()}[random.IntN(3)]
		v6 := random.IntN(2) == 1
		f.ID, f.Verdict.InPort, f.Verdict.DecTTL = random.Uint64(), uint16(random.IntN(10)), random.IntN(2) == 1
		f.Key.Src, f.Key.Dst = address(v6), address(v6)
		f.Key.SrcPort, f.Key.DstPort = uint16(random.Uint32()), uint16(random.Uint32())
		icmp := map[bool]uint8{false: wire.ProtoICMP, true: wire.ProtoICMPv6}[v6]
		f.Key.Proto = []uint8{wire.ProtoTCP, wire.ProtoUDP, icmp}[random.IntN(3)]
		f.Verdict.Header = make([]byte, len(f.Verdict.Header))
		for i := range f.Verdict.Header {
			f.Verdict.Header[i] = byte(random.Uint32())
		}
		if f.Verdict.Kind == graph.Deliver {
			f.Verdict.TxPort = uint16(random.IntN(10))
		}
		r := newRule(&f)
		r.share = m.share(r.holder())
		r.mark = uint16(random.Uint32())
		var err error
		r.template, err = m.templateOf(&r.compact)
		require.NoError(t, err)
		want, err := rteflow.Encoded(r.MakeSpec())
		require.NoError(t, err)
		got, err := rteflow.Encoded(rteflow.Rule{Attr: attrOf(r.origin), Maker: r})
		require.NoError(t, err)
		require.Equal(t, want, got, f)
	}
	assert.Less(t, len(m.templates), 64)
}

// Go's allocator would round a larger one up to 320 bytes.
func TestSizeOfARule(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(rule{}), uintptr(288))
}
