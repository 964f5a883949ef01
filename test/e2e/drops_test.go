// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
)

// nobody is an underlay address of the first hypervisor that no interface has.
const nobody = "fc00:1::dead"

// drops sends packets that the software drops: of a guest and of the wire, each as often as the name of its copies
// says.
func (b *lab) drops(guest, wire *crafter) (want map[string]int) {
	b.t.Helper()
	vm1, vm2 := b.vms[0], b.vms[1]
	at := b.underlays()
	want = map[string]int{
		"vm-1-drop-spoofed": 3, "vm-1-drop-no_route": 2, "vm-1-drop-ttl": 1, "vm-1-drop-wrong_peer": 3,
		"pf0-drop-unknown_underlay": 1,
	}
	for range want["vm-1-drop-spoofed"] {
		guest.udp(netip.MustParseAddr("10.100.0.77"), vm2.IPv4, 64)
	}
	for range want["vm-1-drop-no_route"] {
		guest.udp(vm1.IPv4, netip.MustParseAddr("203.0.113.1"), 64)
	}
	for range want["vm-1-drop-ttl"] {
		guest.udp(vm1.IPv4, vm2.IPv4, 1)
	}
	for range want["vm-1-drop-wrong_peer"] {
		wire.tunnelled(stranger, at[vm1.ID], b.vms[2].IPv4, vm1.IPv4)
	}
	wire.tunnelled(stranger, nobody, b.vms[2].IPv4, vm1.IPv4)
	return want
}

// waitCopied waits until the session has copied so many packets.
func (b *lab) waitCopied(want int) {
	b.t.Helper()
	b.eventually(func() error {
		if got := b.session().Packets; got != uint64(want) {
			return fmt.Errorf("%d of %d packets were copied", got, want)
		}
		return nil
	})
}

// byName counts frames by the interface that they are from.
func byName(frames []received) map[string]int {
	counts := map[string]int{}
	for _, f := range frames {
		counts[f.from]++
	}
	return counts
}

// TestCaptureDrops captures what the software drops, of all interfaces and of the wire: nothing else, byte for byte as
// it was sent, with the reason by name in the sink's file, in Wireshark, on the terminal and in the counters. No rule
// of the NIC is touched.
func TestCaptureDrops(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2 := b.vms[0], b.vms[1]
	guest, wire, sink, rules := b.craft(vm1), b.onTheWire(), b.net.SinkIP.String(), b.rules()
	b.reach(vm1, vm2.IPv4.String())
	start := func(args ...string) string {
		return b.dpctl(append([]string{"capture", "start", "--sink-node-ip=" + sink, "--udp-dst-port=3010", "--pf=0",
			"--drops", "--direction=none", "--filter=udp dst port 40002"}, args...)...)
	}

	for _, encap := range []string{"udp", "vxlan"} {
		t.Run(encap, func(t *testing.T) {
			r := b.receive(b.net.Path(encap+".pcapng"), "--udp-dst-port=3010", "--encap="+encap)
			sent := b.record(vm1.Namespace, "eth0", record.Out, "udp dst port 40002")
			copies := b.record(b.net.Sink, "eth0", record.In, "udp dst port 3010")
			require.Contains(t, start("--all", "--encap="+encap), "what the NIC itself drops is only counted")
			want := b.drops(guest, wire)
			guest.udp(vm1.IPv4, vm2.IPv4, 64) // is delivered
			total := 0
			for _, n := range want {
				total += n
			}
			b.waitCopied(total)
			const fromGuest = 6
			b.waitFrames(sent, fromGuest+1)
			b.waitFrames(copies, total)
			b.dpctl("capture", "stop")
			frames := r.stop(syscall.SIGTERM)
			require.Equal(t, want, byName(frames))
			b.stopRecording(copies)
			var originals, dropped []string
			for _, f := range b.stopRecording(sent) {
				originals = append(originals, string(f.Data))
			}
			for _, f := range frames {
				if f.Data[12] == 0x08 { // no tunnel
					dropped = append(dropped, string(f.Data))
				}
			}
			require.ElementsMatch(t, originals[:len(originals)-1], dropped, "as they were sent")
			if encap == "udp" {
				b.checkDissected(copies.File, want)
			}
		})
	}

	t.Run("counted", func(t *testing.T) {
		var stats api.GraphStatsResult
		b.call(api.MethodGraphStats, &stats)
		for reason, packets := range map[string]uint64{"spoofed": 6, "no_route": 4, "ttl": 2, "wrong_peer": 6} {
			require.Contains(t, stats.Drops, api.GraphDrops{Interface: "vm-1", Port: b.interfacePort("vm-1"), Reason: reason,
				Packets: packets})
		}
		require.Regexp(t, `(?m)^vm-1 +\S+ +spoofed +6$`, b.dpctl("graph", "stats"))
	})

	t.Run("live", func(t *testing.T) {
		p := b.live(b.daemons[0].Socket, "--show=plain", "--count=10", "--drops", "--direction=none", "vm-1,pf0", "udp")
		want := b.drops(guest, wire)
		result, err := p.Wait(b.ctx)
		require.NoError(t, err)
		require.NoError(t, result.Err())
		for point, n := range want {
			line := strings.Replace(point, "-drop-", " drop ", 1)
			require.Len(t, regexp.MustCompile(`(?m)^`+line+` .* UDP 40001 > 40002`).FindAllString(result.Stdout, -1), n,
				result.Stdout)
		}
	})

	t.Run("limits", func(t *testing.T) {
		start("--vf=vm-1", "--packets=2", "--name=few")
		b.drops(guest, wire)
		b.eventually(func() error {
			for _, s := range b.status().History {
				if s.Name == "few" && s.EndReason == "packets" {
					return nil
				}
			}
			return fmt.Errorf("it goes on: %+v", b.status())
		})
	})
	require.Equal(t, rules, slices.DeleteFunc(b.rules(), func(r api.Rule) bool { return !slices.Contains(rules, r) }))
	require.Empty(t, b.captureRules())
	b.active(0)
}

// checkDissected has tshark show the copies in a recording by the dissector.
func (b *lab) checkDissected(file string, want map[string]int) {
	b.t.Helper()
	argv := append(record.DissectArgs("../../tools/wireshark/dpservice.lua"), "-n", "-r", file, "-T", "fields",
		"-e", "dpservice.direction", "-e", "dpservice.drop_reason")
	r, err := b.net.Run(b.ctx, "", argv...)
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err())
	seen := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(r.Stdout), "\n") {
		seen[line]++
	}
	byReason := map[string]int{}
	for point, n := range want {
		_, reason, _ := strings.Cut(point, "-drop-")
		byReason["drop\t"+reason] += n
	}
	require.Equal(b.t, byReason, seen)
}

// interfacePort returns the port of an interface of the first daemon.
func (b *lab) interfacePort(id string) string {
	b.t.Helper()
	var list api.InterfaceListResult
	b.call(api.MethodInterfaceList, &list)
	for _, i := range list.Interfaces {
		if i.ID == id {
			return i.Device
		}
	}
	require.Fail(b.t, "no interface "+id)
	return ""
}
