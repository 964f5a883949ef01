// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/wire"
)

func validRequest() Request {
	return Request{
		Sink:       netip.MustParseAddr("fc00:2::9"),
		UDPSrcPort: 3000,
		UDPDstPort: 3010,
		Targets:    []Target{{VF: "vm-1"}},
	}
}

func TestValidateAccepts(t *testing.T) {
	tests := map[string]func(*Request){
		"vf":               func(*Request) {},
		"pf":               func(r *Request) { r.Targets = []Target{{PF: 0}} },
		"vf and pf":        func(r *Request) { r.Targets = []Target{{VF: "vm-1"}, {PF: 0}} },
		"global sink":      func(r *Request) { r.Sink = netip.MustParseAddr("2001:db8::1") },
		"no source port":   func(r *Request) { r.UDPSrcPort = 0 },
		"highest ports":    func(r *Request) { r.UDPSrcPort, r.UDPDstPort = 65535, 65535 },
		"udp":              func(r *Request) { r.Encap = wire.EncapUDP },
		"vxlan":            func(r *Request) { r.Encap = wire.EncapVXLAN },
		"vxlan's own port": func(r *Request) { r.Encap, r.UDPDstPort = wire.EncapVXLAN, 0 },
		"name":             func(r *Request) { r.Name = "night-shift_2.0" },
		"drops alone":      func(r *Request) { r.Direction, r.Drops = None, true },
		"drops as well":    func(r *Request) { r.Direction, r.Drops = Both, true },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			r := validRequest()
			change(&r)
			assert.NoError(t, r.WithDefaults().Validate())
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	sink := func(s string) func(*Request) {
		return func(r *Request) { r.Sink = netip.MustParseAddr(s) }
	}
	tests := map[string]struct {
		change  func(*Request)
		reason  fault.Reason
		message string
	}{
		"no sink":              {func(r *Request) { r.Sink = netip.Addr{} }, fault.InvalidParams, "sink_node_ip is missing"},
		"IPv4 sink":            {sink("10.0.0.1"), fault.InvalidParams, "sink_node_ip 10.0.0.1 is an IPv4 address"},
		"mapped IPv4 sink":     {sink("::ffff:10.0.0.1"), fault.InvalidParams, "is an IPv4 address"},
		"unspecified sink":     {sink("::"), fault.InvalidParams, "unspecified"},
		"loopback sink":        {sink("::1"), fault.InvalidParams, "loopback"},
		"multicast sink":       {sink("ff0e::1"), fault.InvalidParams, "multicast"},
		"link-local sink":      {sink("fe80::1"), fault.InvalidParams, "link-local"},
		"link-local multicast": {sink("ff02::1"), fault.InvalidParams, "multicast"},
		"sink with a zone":     {sink("fc00::1%eth0"), fault.InvalidParams, "zone"},
		"encapsulation":        {func(r *Request) { r.Encap = "gre" }, fault.InvalidParams, `encap "gre": want udp or vxlan`},
		"destination port 0":   {func(r *Request) { r.UDPDstPort = 0 }, fault.InvalidParams, "udp_dst_port is 0"},
		"no target":            {func(r *Request) { r.Targets = nil }, fault.InvalidParams, "no interface to capture"},
		"vf twice": {func(r *Request) { r.Targets = []Target{{VF: "vm-1"}, {VF: "vm-2"}, {VF: "vm-1", PF: 3}} },
			fault.InvalidParams, "interface vm-1 is named twice"},
		"pf twice": {func(r *Request) { r.Targets = []Target{{PF: 0}, {PF: 0}} },
			fault.InvalidParams, "interface pf0 is named twice"},
		"direction": {func(r *Request) { r.Direction = Drops }, fault.InvalidParams,
			`direction "drops": want rx, tx, both or none`},
		"nothing": {func(r *Request) { r.Direction = None }, fault.InvalidParams, "direction none without drops"},
		"negative duration": {func(r *Request) { r.Limits.Duration = -1 }, fault.InvalidParams,
			"limits.duration is negative"},
		"name, slash":    {func(r *Request) { r.Name = "a/b" }, fault.InvalidParams, `session name "a/b"`},
		"name, too long": {func(r *Request) { r.Name = strings.Repeat("a", 64) }, fault.InvalidParams, "session name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := validRequest()
			tt.change(&r)
			err := r.WithDefaults().Validate()
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			assert.Equal(t, tt.reason, f.Reason)
			assert.Contains(t, err.Error(), tt.message)
		})
	}
}

// An accepted request can be carried out: its sink is reachable, its ports are set, and its targets differ.
func FuzzValidate(f *testing.F) {
	f.Add("default", "fc00:2::9", uint16(3000), uint16(3010), "vm-1,vm-2", 0)
	f.Add("", "::ffff:1.2.3.4", uint16(0), uint16(1), "vm-1,vm-1", 1)
	f.Add("a/b", "ff02::1", uint16(1), uint16(0), "", -1)
	f.Fuzz(func(t *testing.T, name, sink string, src, dst uint16, names string, pf int) {
		addr, _ := netip.ParseAddr(sink)
		r := Request{Name: name, Sink: addr, UDPSrcPort: src, UDPDstPort: dst}
		for vf := range strings.SplitSeq(names, ",") {
			r.Targets = append(r.Targets, Target{VF: vf, PF: pf})
		}
		r = r.WithDefaults()
		err := r.Validate()
		if err != nil {
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			assert.Contains(t, []fault.Reason{fault.InvalidParams, fault.LimitReached}, e.Reason)
			return
		}
		assert.True(t, addr.Is6() && !addr.Is4In6() && addr.IsGlobalUnicast(), addr)
		assert.NotZero(t, dst)
		assert.NotContains(t, r.Name, "/")
		seen := map[Target]bool{}
		for _, target := range r.Targets {
			seen[target] = true
		}
		assert.Len(t, seen, len(r.Targets))
	})
}

func TestWithDefaults(t *testing.T) {
	r := Request{Targets: []Target{{VF: "vm-1", PF: 3}, {PF: 1}}}
	full := r.WithDefaults()
	assert.Equal(t, Request{
		Name: DefaultName, UDPSrcPort: wire.DefaultCopySrcPort, Encap: wire.EncapUDP, Direction: RX,
		Targets: []Target{{VF: "vm-1"}, {PF: 1}},
	}, full)
	assert.Equal(t, 3, r.Targets[0].PF, "the caller's targets stay as they are")
	assert.Equal(t, full, full.WithDefaults())
	assert.EqualValues(t, wire.VXLANPort, Request{Encap: wire.EncapVXLAN}.WithDefaults().UDPDstPort)
	assert.EqualValues(t, 7, Request{Encap: wire.EncapVXLAN, UDPDstPort: 7}.WithDefaults().UDPDstPort)
}

func TestDirections(t *testing.T) {
	vf, pf := Target{VF: "vm-1"}, Target{PF: 0}
	tests := []struct {
		direction Direction
		of        Target
		want      []Direction
	}{
		{RX, vf, []Direction{RX}}, {TX, vf, []Direction{TX}}, {Both, vf, []Direction{RX, TX}},
		{RX, pf, []Direction{RX}}, {Both, pf, []Direction{RX}},
	}
	for _, tt := range tests {
		got, err := Request{Direction: tt.direction}.Directions(tt.of)
		require.NoError(t, err)
		assert.Equal(t, tt.want, got)
	}
	_, err := Request{Direction: TX}.Directions(pf)
	assert.True(t, fault.Is(err, fault.NotSupported))
}
