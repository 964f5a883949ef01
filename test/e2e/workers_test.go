// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// twoWorkers are the lcores of a control thread and two workers, on a machine with two CPUs at least.
const twoWorkers = "0@0,1@0,2@1"

// TestTwoWorkers lets two workers share the traffic of ports with two queues. Guests reach each other and their
// gateway, each flow belongs to one worker, and both workers have some flows.
func TestTwoWorkers(t *testing.T) {
	tests := map[string]func(h *topology.Hypervisor) topology.DaemonConfig{
		"offloaded": func(*topology.Hypervisor) topology.DaemonConfig {
			return topology.DaemonConfig{Lcores: twoWorkers}
		},
		"plain ports": func(h *topology.Hypervisor) topology.DaemonConfig {
			p := h.Plain("net_af_packet")
			for i := range p.EAL {
				p.EAL[i] += ",qpairs=2"
			}
			return topology.DaemonConfig{Lcores: twoWorkers, Plain: p}
		},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, n := newNetwork(t, 2, 1)
			b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
			for _, h := range n.Hypervisors {
				b.daemons = append(b.daemons, startDaemon(ctx, t, h, config(h)))
			}
			b.connect()
			var info api.SystemInfoResult
			b.call(api.MethodSystemInfo, &info)
			require.Equal(t, api.Lcores{Main: 0, Workers: []int{1, 2}}, info.Lcores)
			vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
			for _, to := range []*topology.Guest{vm2, vm3} {
				b.reach(vm1, to.IPv4.String())
				b.reach(vm1, to.IPv6.String())
				b.reach(to, "fe80::1%eth0")
			}
			b.reach(vm1, "169.254.0.1")
			noLosses := b.losses()
			udp := b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, time.Second, "2M", "-u", "-l", "1200", "-P", "4")
			tcp := b.startIperf(vm3, vm1, vm1.IPv6.String(), 5202, time.Second, "2M", "-P", "4")
			udp.wait()
			tcp.wait()
			noLosses()
			b.sharesFlows(vm1, vm2)
		})
	}
}

// sharesFlows sends on many flows, and checks which worker has which flow.
func (b *lab) sharesFlows(from, to *topology.Guest) {
	b.t.Helper()
	const flows, workerShift = 64, 56
	sender := b.craft(from)
	got := b.record(to.Namespace, "eth0", record.In, fmt.Sprintf("udp dst port %d", craftedDst))
	for range 3 {
		for i := range layers.UDPPort(flows) {
			sender.port = craftedSrc + i
			sender.udp(from.IPv4, to.IPv4, 64)
		}
	}
	b.waitFrames(got, 3*flows)
	require.Len(b.t, b.stopRecording(got), 3*flows)
	list, err := b.flows(b.daemons[0], "udp", from.IPv4.String(), to.IPv4.String())
	require.NoError(b.t, err)
	of := map[uint64]int{}
	seen := map[uint16]bool{}
	for _, f := range list {
		if f.DstPort != craftedDst {
			continue
		}
		require.False(b.t, seen[f.SrcPort], "two workers have a flow: %+v", f)
		seen[f.SrcPort] = true
		of[f.ID>>workerShift]++
	}
	require.Len(b.t, seen, flows)
	require.Greater(b.t, of[0], flows/8)
	require.Greater(b.t, of[1], flows/8)
}

// TestLcoresWithoutQueues gives dpservice more lcores than a port has queues: it says so, and runs on those it can use.
func TestLcoresWithoutQueues(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	h := n.Hypervisors[0]
	p := h.Plain("net_af_packet")
	p.EAL[0] += ",qpairs=2"
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
	b.daemons = append(b.daemons, startDaemon(ctx, t, h, topology.DaemonConfig{Lcores: twoWorkers, Plain: p}))
	b.connect()
	b.reach(b.vms[0], b.vms[1].IPv4.String())
	var info api.SystemInfoResult
	b.call(api.MethodSystemInfo, &info)
	require.Equal(t, []int{1}, info.Lcores.Workers)
	require.Regexp(t, `lcores stay idle: a port has too few queues for them" lcores=\[2\] port=net_af_packet1 queues=1`,
		b.daemons[0].Stderr.String())
}
