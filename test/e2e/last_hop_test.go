// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
)

// counterLag is how much a NIC's counter may be delayed, also on a busy machine.
const counterLag = 2500 * time.Millisecond

// TestLastHopOfAnOffloadedFlow sends packets with an expiring TTL on flows that are in the NIC, as a traceroute with
// the ports of a running connection does. The gateway sends an ICMP error, the receiver gets nothing, and the flow
// stays in the NIC.
func TestLastHopOfAnOffloadedFlow(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1 := b.vms[0]
	sender := b.craft(vm1)
	for _, to := range b.vms[1:] {
		for src, dst := range map[netip.Addr]netip.Addr{vm1.IPv4: to.IPv4, vm1.IPv6: to.IPv6} {
			t.Run(dst.String(), func(t *testing.T) {
				b.reach(vm1, dst.String())
				b.offloadDatagrams(sender, src, dst)
				told := b.record(vm1.Namespace, "eth0", record.In, "icmp[0] == 11 or (ip6 proto 58 and ip6[40] == 3)")
				got := b.record(to.Namespace, "eth0", record.In, fmt.Sprintf("udp dst port %d", craftedDst))
				for _, ttl := range []uint8{1, 0} {
					sender.udp(src, dst, ttl)
				}
				b.waitFrames(told, 2)
				time.Sleep(counterLag)
				forwarded := b.ruleHits(src, dst)
				sender.udp(src, dst, 2)
				b.waitFrames(got, 1)
				b.eventually(func() error { // counters of the NIC may be delayed
					if hits := b.ruleHits(src, dst); hits != forwarded+1 {
						return fmt.Errorf("%d hits, want %d: the flow has left the NIC", hits, forwarded+1)
					}
					return nil
				})
				b.waitOffloaded(b.daemons[0], 1, "udp", src.String(), dst.String())
				for _, f := range b.stopRecording(told) {
					checkTimeExceeded(t, f, src, dst)
				}
				require.Len(t, b.stopRecording(got), 1, "what had no hop left has arrived")
			})
		}
	}
}

// offloadDatagrams sends a crafter's datagrams until the NIC has their flow.
func (b *lab) offloadDatagrams(sender *crafter, src, dst netip.Addr) {
	b.t.Helper()
	b.eventually(func() error {
		sender.udp(src, dst, 64)
		flows, err := b.flows(b.daemons[0], "udp", src.String(), dst.String())
		if err == nil && (len(flows) != 1 || !flows[0].Offloaded) {
			err = fmt.Errorf("%w: %+v", errNotOffloaded, flows)
		}
		return err
	})
}

// ruleHits returns how many packets the rule of a crafter's flow has forwarded.
func (b *lab) ruleHits(src, dst netip.Addr) uint64 {
	b.t.Helper()
	var list api.RuleListResult
	b.call(api.MethodRuleList, &list)
	want := fmt.Sprintf("src is %s dst is %s / udp src is %d dst is %d", src, dst, craftedSrc, craftedDst)
	for _, r := range list.Rules {
		if strings.Contains(r.Pattern, want) {
			return *r.Hits
		}
	}
	require.Fail(b.t, "no rule matches "+want)
	return 0
}

// checkTimeExceeded checks an ICMP error of the gateway about a crafter's datagram.
func checkTimeExceeded(t *testing.T, f record.Frame, src, dst netip.Addr) {
	t.Helper()
	packet := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
	gateway, inner, quoted := "169.254.0.1", layers.LayerTypeIPv4, packet.Layer(layers.LayerTypeICMPv4)
	skip := 0
	if dst.Is6() {
		gateway, inner, quoted = gatewayIPv6, layers.LayerTypeIPv6, packet.Layer(layers.LayerTypeICMPv6)
		skip = 4 // which gopacket leaves to the payload
	}
	require.NotNil(t, quoted, f)
	from, to := packet.NetworkLayer().NetworkFlow().Endpoints()
	require.Equal(t, []string{gateway, src.String()}, []string{from.String(), to.String()})
	original := gopacket.NewPacket(quoted.LayerPayload()[skip:], inner, gopacket.Default)
	from, to = original.NetworkLayer().NetworkFlow().Endpoints()
	require.Equal(t, []string{src.String(), dst.String()}, []string{from.String(), to.String()})
	udp, ok := original.TransportLayer().(*layers.UDP)
	require.True(t, ok, original)
	require.EqualValues(t, []layers.UDPPort{craftedSrc, craftedDst}, []layers.UDPPort{udp.SrcPort, udp.DstPort})
}
