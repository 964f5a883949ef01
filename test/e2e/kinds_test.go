// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/test/report"
	"dpservice/test/topology"
)

// cards are the models that the NIC can be.
var cards = []string{"cx5", "cx6dx", "cx7"}

// kindFilters are filters that together use every field that rules of a capture can match.
var kindFilters = []string{
	"not arp",
	"ether host 02:00:00:00:00:01 or net 2001:db8::/32 or udp portrange 5000-5003 or (vlan 5 and ip)",
	"ip6 or tcp port 443 and not host 10.0.0.9",
	"ip[8] < 5 or ip[1] & 0xfc = 0xb8",
	"ip[6:2] & 0x3fff != 0 or tcp[tcpflags] & tcp-syn != 0 or icmp[icmptype] = icmp-echo or icmp6[icmp6type] = icmp6-echo",
}

// TestEveryKindOfRule installs every kind of rule that dpservice makes on each card. The driver creates all of them,
// except, on a ConnectX-5, the rules that copy what a VM sends and also jump.
func TestEveryKindOfRule(t *testing.T) {
	kinds := map[string]map[string]bool{}
	for _, card := range cards {
		kinds[card] = map[string]bool{}
		t.Run(card, func(t *testing.T) { collectKinds(t, card, kinds[card]) })
	}
	all := maps.Clone(kinds["cx7"])
	maps.Copy(all, kinds["cx6dx"])
	require.Equal(t, all, kinds["cx6dx"])
	require.Equal(t, all, kinds["cx7"])
	var refused []string
	for kind := range all {
		if !kinds["cx5"][kind] {
			refused = append(refused, kind)
		}
	}
	slices.Sort(refused)
	for _, kind := range refused {
		require.Regexp(t, `^transfer represented_port .* count (/ sample .*)?/ jump group #$`, kind,
			"only what captures by copying and jumping is missing")
	}
	nic, err := topology.CurrentNIC()
	require.NoError(t, err)
	report.Printf(t,
		"kinds of rules that %s created: cx5 %d, and not the %d of captures that copy and jump; cx6dx %d; cx7 %d",
		nic.Driver,
		len(kinds["cx5"]), len(refused), len(kinds["cx6dx"]), len(kinds["cx7"]))
}

// collectKinds makes one card create all rules, and records their kinds.
func collectKinds(t *testing.T, card string, kinds map[string]bool) {
	b := newLab(t, topology.DaemonConfig{Card: card, FlowTimeout: time.Hour}, 2, 1)
	b.offloadEveryProtocol(b.vms[0], b.vms[1:])
	b.noteKinds(kinds)
	for _, encap := range []string{"udp", "vxlan"} {
		b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--direction=tx", "--encap="+encap)...)
		b.noteKinds(kinds)
		b.dpctl("capture", "stop")
		b.dpctl(captureStart(b.net.SinkIP.String(), "--pf=0", "--encap="+encap)...)
		b.noteKinds(kinds)
		b.dpctl("capture", "stop")
		b.captureKinds(card, kinds, "--vf=vm-1", "--encap="+encap)
	}
	for _, filter := range kindFilters {
		b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1", "--direction=tx", "--filter="+filter)...)
		b.noteKinds(kinds)
		b.dpctl("capture", "stop")
		b.captureKinds(card, kinds, "--vf=vm-1", "--filter="+filter)
	}
}

// captureKinds captures what a VM sends, or requires the error of a card that cannot.
func (b *lab) captureKinds(card string, kinds map[string]bool, args ...string) {
	b.t.Helper()
	start := captureStart(b.net.SinkIP.String(), args...)
	if card != "cx5" {
		b.dpctl(start...)
		b.noteKinds(kinds)
		b.dpctl("capture", "stop")
		return
	}
	before := b.rules()
	r, err := b.daemons[0].Dpctl(b.ctx, start...)
	require.NoError(b.t, err)
	require.Equal(b.t, exitRefused, r.Code)
	require.Contains(b.t, r.Stderr, b.net.NIC.SampleAndJump)
	require.Equal(b.t, before, b.rules(), "a refusal changes nothing")
}

// offloadEveryProtocol makes a guest talk to others by each protocol that is offloaded, until the NIC has the flows of
// both directions.
func (b *lab) offloadEveryProtocol(from *topology.Guest, others []*topology.Guest) {
	b.t.Helper()
	var streams []*iperf
	for i, to := range others {
		for j, address := range []string{to.IPv4.String(), to.IPv6.String()} {
			b.reach(from, address)
			streams = append(streams, b.startIperf(from, to, address, 5200+10*i+j, time.Second, "1M", "-u", "-l", "200"))
		}
	}
	for _, s := range streams {
		s.wait()
	}
	for _, to := range others {
		for proto, ends := range map[string][2]string{
			"icmp": {from.IPv4.String(), to.IPv4.String()}, "icmp6": {from.IPv6.String(), to.IPv6.String()},
		} {
			b.startPing(from, ends[1], 200*time.Millisecond).wait()
			b.waitBothWays(proto, ends)
		}
		for _, proto := range []string{"tcp", "udp"} { // iperf3 talks TCP to control the datagrams
			b.waitBothWays(proto, [2]string{from.IPv4.String(), to.IPv4.String()})
			b.waitBothWays(proto, [2]string{from.IPv6.String(), to.IPv6.String()})
		}
	}
}

// waitBothWays waits until the NIC has the flows between two addresses in both directions.
func (b *lab) waitBothWays(proto string, ends [2]string) {
	b.t.Helper()
	b.waitOffloaded(b.daemons[0], 1, proto, ends[0], ends[1])
	b.waitOffloaded(b.daemons[0], 1, proto, ends[1], ends[0])
}

// value matches a value, not a keyword, in testpmd's syntax.
var value = regexp.MustCompile(`^(0x)?[0-9a-f:.]+$`)

// noteKinds records the rules in the NIC without their values.
func (b *lab) noteKinds(kinds map[string]bool) {
	b.t.Helper()
	for _, r := range b.rules() {
		words := strings.Fields(fmt.Sprintf("%s %s %s", r.Domain, r.Pattern, r.Actions))
		for i, w := range words {
			if value.MatchString(w) {
				words[i] = "#"
			}
		}
		kinds[strings.Join(words, " ")] = true
	}
}
