// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestOffloadedFlowsBypassSoftware lets two VMs exchange packets over IPv4 and IPv6, by ping, TCP and UDP. Once the
// flows are in the NIC, the counters of the software path do not change although thousands of packets pass.
func TestOffloadedFlowsBypassSoftware(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	v4, v6 := vm2.IPv4.String(), vm2.IPv6.String()
	b.reach(vm1, v4)
	b.reach(vm1, v6)

	noLosses := b.losses()
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

	software := b.softwareLookups()
	b.waitForwarded(5000)
	require.Equal(t, software, b.softwareLookups(), "packets of offloaded flows on the software path")

	ping4.wait()
	ping6.wait()
	tcp.wait()
	udp.wait()
	noLosses()
	require.Greater(t, b.softwareLookups(), software, "the TCP connections' ends are seen by the software path")
}

// TestBurst sends as much at once as a few TCP streams do, while the NIC gets no CPU. All packets wait in front of the
// NIC, and none is lost.
func TestBurst(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2, d := b.vms[0], b.vms[1], b.daemons[0]
	flow := []string{"-e", "77"} // each ping would have another id, and so another flow
	b.startPing(vm1, vm2.IPv4.String(), 500*time.Millisecond, flow...).wait()
	b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(d, 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	noLosses, software := b.losses(), b.softwareLookups()
	before, err := b.counters(vm1)
	require.NoError(t, err)

	const burst = 1500
	require.NoError(t, d.Signal(syscall.SIGSTOP))
	n := strconv.Itoa(burst)
	p, err := vm1.Start(append([]string{"ping", "-n", "-q", "-c", n, "-l", n, "-W", "2", vm2.IPv4.String()}, flow...)...)
	require.NoError(t, err)
	b.eventually(func() error {
		now, err := b.counters(vm1)
		if sent := now["IcmpMsgOutType8"] - before["IcmpMsgOutType8"]; err == nil && sent < burst {
			err = fmt.Errorf("%d of %d sent", sent, burst)
		}
		return err
	})
	require.NoError(t, d.Signal(syscall.SIGCONT))
	noLosses()
	require.Equal(t, software, b.softwareLookups())
	_, err = p.Wait(b.ctx) // ping itself may lose replies when its socket buffer is full
	require.NoError(t, err)
}

// TestSoftwareForwarding switches offload off: the same network works, and no flow has a rule.
func TestSoftwareForwarding(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{NoOffload: true}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	all := []string{vm2.IPv4.String(), vm2.IPv6.String(), vm3.IPv4.String(), vm3.IPv6.String()}
	for _, to := range all {
		b.reach(vm1, to)
	}
	b.reach(vm2, vm3.IPv4.String())
	noLosses := b.losses()
	for _, to := range all {
		b.startPing(vm1, to, 500*time.Millisecond, "-s", "1200").wait()
	}
	b.startIperf(vm2, vm3, vm3.IPv4.String(), 5201, time.Second, "20M", "-u", "-l", "1400").wait()
	b.startIperf(vm2, vm3, vm3.IPv6.String(), 5202, time.Second, "20M").wait()
	noLosses()

	var list api.FlowListResult
	b.call(api.MethodFlowList, &list)
	require.NotEmpty(t, list.Flows)
	for _, f := range list.Flows {
		require.False(t, f.Offloaded)
	}
}

// TestUnknownDestinationIsDropped sends where no route leads, and to a guest of another network.
func TestUnknownDestinationIsDropped(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	before, err := b.balance()
	require.NoError(t, err)
	r, err := b.vms[0].Run(b.ctx, "ping", "-n", "-c", "2", "-i", "0.05", "-W", "1", "10.100.0.77")
	require.NoError(t, err)
	require.Equal(t, 1, r.Code, r.Stdout)
	after, err := b.balance()
	require.NoError(t, err)
	before.Echo4 += 2
	require.Equal(t, before, after, "what the other tests know losses by")

	var stats api.GraphStatsResult
	b.call(api.MethodGraphStats, &stats)
	dropped := map[string]uint64{}
	for _, n := range stats.Nodes {
		dropped[n.Name] = n.Packets
	}
	require.GreaterOrEqual(t, dropped["icmp_no_route"], uint64(1), "%v", dropped)
}

// TestPathsRewriteAlike compares the headers of a flow's first packets, which the software forwards, with those of its
// later packets, which the NIC forwards, at a guest and on the wire. They do not differ.
func TestPathsRewriteAlike(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	b.reach(vm2, vm1.IPv6.String()) // so that the guests' MACs are known, and no flow of the test is
	b.reach(vm3, vm2.IPv6.String())
	h := b.net.Hypervisors[0]
	mac := func(ns *topology.Namespace, device string) string {
		m, err := ns.MAC(device)
		require.NoError(t, err)
		return m.String()
	}
	underlay := map[string]string{}
	for _, d := range b.daemons {
		var list api.InterfaceListResult
		require.NoError(t, d.Call(b.ctx, api.MethodInterfaceList, nil, &list))
		for _, i := range list.Interfaces {
			underlay[i.ID] = i.UnderlayIP
		}
	}

	local := b.record(vm2.Namespace, "eth0", record.In, "icmp[0] == 8")
	wire := b.record(b.net.Router, h.RouterLink, record.In, "ip6 proto 4")
	remote := b.record(vm3.Namespace, "eth0", record.In, "icmp[0] == 8")
	before := b.softwareLookups()
	const run = time.Second
	b.startPing(vm1, vm2.IPv4.String(), run).wait()
	b.startPing(vm1, vm3.IPv4.String(), run).wait()
	require.Greater(t, b.softwareLookups(), before, "the first packets took the software path")
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm3.IPv4.String())
	require.Less(t, b.softwareLookups(), before+uint64(pingCount(run)), "the later ones did not")

	b.sameHeaders(local, pingCount(run), []string{mac(h.Namespace, "guest1"), mac(vm2.Namespace, "eth0"), "63", "98"},
		"eth.src", "eth.dst", "ip.ttl", "frame.len")
	b.sameHeaders(wire, pingCount(run), []string{mac(h.Namespace, "wire0"), mac(b.net.Router, h.RouterLink),
		underlay["vm-1"], underlay["vm-3"],
		"4", "84", "63", "138"},
		"eth.src", "eth.dst", "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.plen", "ip.ttl", "frame.len")
	b.sameHeaders(remote, pingCount(run), []string{mac(b.net.Hypervisors[1].Namespace, "guest0"),
		mac(vm3.Namespace, "eth0"), "63", "98"},
		"eth.src", "eth.dst", "ip.ttl", "frame.len")
}

// sameHeaders ends a recording and requires that it has n frames with the wanted fields.
func (b *lab) sameHeaders(r *record.Recorder, n int, want []string, fields ...string) {
	b.t.Helper()
	b.stopRecording(r)
	rows, err := record.Fields(b.ctx, b.net.Lab, r.File, "icmp", fields...)
	require.NoError(b.t, err)
	require.Len(b.t, rows, n)
	for i, row := range rows {
		require.Equal(b.t, want, row, "frame %d", i+1)
	}
}

// TestIdleFlowsLeaveTheNIC keeps a flow busy for longer than the timeout: its rules stay installed. When the flow is
// silent, they are removed.
func TestIdleFlowsLeaveTheNIC(t *testing.T) {
	const timeout = 2 * time.Second
	b := newLab(t, topology.DaemonConfig{FlowTimeout: timeout}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	base := b.rules()
	b.reach(vm1, vm2.IPv4.String())

	p := b.startPing(vm1, vm2.IPv4.String(), 2*timeout)
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	software := b.softwareLookups()
	p.wait()
	require.Equal(t, software, b.softwareLookups(), "a busy flow does not age")

	b.eventually(func() error {
		var list api.FlowListResult
		if err := b.daemons[0].Call(b.ctx, api.MethodFlowList, nil, &list); err != nil {
			return err
		}
		if len(list.Flows) > 0 {
			return fmt.Errorf("idle flows: %+v", list.Flows)
		}
		return nil
	})
	require.Equal(t, base, b.rules())
}
