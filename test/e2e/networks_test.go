// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestNetworksWithTheSameAddresses uses the same addresses in two virtual networks, on one hypervisor and across two.
// Packets of one network are answered there, and never seen in the other.
func TestNetworksWithTheSameAddresses(t *testing.T) {
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			ctx, n := newNetwork(t, 4, 2)
			all := n.Guests()
			red, blue := []*topology.Guest{all[0], all[1], all[4]}, []*topology.Guest{all[2], all[3], all[5]}
			for i, vm := range blue {
				require.NoError(t, vm.Join(topology.VNI+1, red[i].IPv4, red[i].IPv6))
			}
			b := startLab(ctx, t, n, topology.DaemonConfig{NoOffload: noOffload})
			b.talkApart(red, blue, !noOffload)
			b.talkApart(blue, red, !noOffload)
		})
	}
}

// talkApart makes the first of a network's guests ping the others. No guest of another network may receive any of these
// packets, including the first packets of the flows.
func (b *lab) talkApart(talkers, others []*topology.Guest, offloaded bool) {
	b.t.Helper()
	var heard []*record.Recorder
	for _, vm := range others {
		heard = append(heard, b.record(vm.Namespace, "eth0", record.In,
			"icmp[0] == 8 or icmp[0] == 0 or (ip6 proto 58 and (ip6[40] == 128 or ip6[40] == 129))"))
	}
	first := talkers[0]
	for _, to := range talkers[1:] {
		b.reach(first, to.IPv4.String())
		b.reach(first, to.IPv6.String())
		noLosses := b.losses()
		ping4, ping6 := b.startPing(first, to.IPv4.String(), time.Second), b.startPing(first, to.IPv6.String(), time.Second)
		if offloaded {
			b.waitOffloadedIn(first.VNI, first.IPv4.String(), to.IPv4.String())
			b.waitOffloadedIn(first.VNI, first.IPv6.String(), to.IPv6.String())
		}
		ping4.wait()
		ping6.wait()
		noLosses()
	}
	for _, frames := range b.stopRecordings(heard...) {
		require.Empty(b.t, frames, "packets of another network")
	}
}

// waitOffloadedIn waits until the first daemon's NIC has a virtual network's flow from src to dst.
func (b *lab) waitOffloadedIn(vni uint32, src, dst string) {
	b.t.Helper()
	b.eventually(func() error {
		var list api.FlowListResult
		b.call(api.MethodFlowList, &list)
		for _, f := range list.Flows {
			if f.VNI == vni && f.Src == src && f.Dst == dst && f.Offloaded {
				return nil
			}
		}
		return fmt.Errorf("%s to %s in VNI %d: %w: %+v", src, dst, vni, errNotOffloaded, list.Flows)
	})
}
