// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestOffloadedFlowsBypassSoftware lets two VMs talk over IPv4 and IPv6, by ping, TCP and UDP: once the flows are in
// the NIC, the software path's counters stand still although thousands of packets pass.
func TestOffloadedFlowsBypassSoftware(t *testing.T) {
	b := newBench(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	v4, v6 := vm2.IPv4.String(), vm2.IPv6.String()
	b.reach(vm1, v4)
	b.reach(vm1, v6)

	const run = 5 * time.Second
	ping4 := b.startPing(vm1, v4, run)
	ping6 := b.startPing(vm1, v6, run)
	tcp := b.startIperf(vm1, vm2, v4, 5201, run, "20M")
	udp := b.startIperf(vm2, vm1, vm1.IPv6.String(), 5202, run, "20M", "-u", "-l", "1400")
	d := b.daemons[0]
	b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), v4)
	b.waitOffloaded(d, 1, "icmp", v4, vm1.IPv4.String())
	b.waitOffloaded(d, 1, "icmp6", vm1.IPv6.String(), v6)
	b.waitOffloaded(d, 1, "icmp6", v6, vm1.IPv6.String())
	b.waitOffloaded(d, 2, "tcp", vm1.IPv4.String(), v4) // iperf3's control connection, and the data's
	b.waitOffloaded(d, 2, "tcp", v4, vm1.IPv4.String())
	b.waitOffloaded(d, 1, "udp", v6, vm1.IPv6.String())
	b.waitOffloaded(d, 1, "tcp", v6, vm1.IPv6.String())
	b.waitOffloaded(d, 1, "tcp", vm1.IPv6.String(), v6)

	software, hits := b.softwareLookups(), b.xstat("hits")
	const enough = 5000
	b.within(run, func() error {
		if got := b.xstat("hits") - hits; got < enough {
			return errNotOffloaded
		}
		return nil
	})
	require.Equal(t, software, b.softwareLookups(), "packets of offloaded flows on the software path")

	ping4.lossless()
	ping6.lossless()
	require.Positive(t, tcp.report().End.SumReceived.Bytes)
	udp.lossless()
	require.Greater(t, b.softwareLookups(), software, "the TCP connections' ends are seen by the software path")
}

// TestSoftwareForwarding switches offload off: the same network works, and no flow has a rule.
func TestSoftwareForwarding(t *testing.T) {
	b := newBench(t, topology.DaemonConfig{NoOffload: true}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []string{vm2.IPv4.String(), vm2.IPv6.String(), vm3.IPv4.String(), vm3.IPv6.String()} {
		b.reach(vm1, to)
		b.startPing(vm1, to, 500*time.Millisecond, "-s", "1200").lossless()
	}
	b.reach(vm2, vm3.IPv4.String())
	b.startIperf(vm2, vm3, vm3.IPv4.String(), 5201, time.Second, "20M", "-u", "-l", "1400").lossless()
	require.Positive(t, b.startIperf(vm2, vm3, vm3.IPv6.String(), 5202, time.Second, "20M").report().End.SumReceived.Bytes)

	var list api.FlowListResult
	b.call(api.MethodFlowList, &list)
	require.NotEmpty(t, list.Flows)
	for _, f := range list.Flows {
		require.False(t, f.Offloaded)
	}

	r, err := b.daemons[0].Dpctl(b.ctx, captureStart(b.net.SinkIP.String(), "--vf=vm-1")...)
	require.NoError(t, err)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "NOT_ACTIVE")
	require.Contains(t, r.Stderr, "offload")
}

// TestUnknownDestinationIsDropped sends where no route leads, and to a guest of another network.
func TestUnknownDestinationIsDropped(t *testing.T) {
	b := newBench(t, topology.DaemonConfig{}, 1)
	r, err := b.vms[0].Run(b.ctx, "ping", "-n", "-c", "2", "-i", "0.05", "-W", "1", "10.100.0.77")
	require.NoError(t, err)
	require.Equal(t, 1, r.Code, r.Stdout)

	var stats api.GraphStatsResult
	b.call(api.MethodGraphStats, &stats)
	dropped := map[string]uint64{}
	for _, n := range stats.Nodes {
		dropped[n.Name] = n.Packets
	}
	require.GreaterOrEqual(t, dropped["drop_no_route"], uint64(1), "%v", dropped)
}
