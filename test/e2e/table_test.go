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

// TestFullTables sends on more flows than the tables of the software and the NIC hold. All packets arrive, the tables
// keep to their limits, and count the flows that they had no room for. When the flows have ended, new ones get in.
func TestFullTables(t *testing.T) {
	const capacity, rules, flows = 16, 4, 60
	b := newLab(t, topology.DaemonConfig{
		Extra: fmt.Sprintf("flows: {capacity: %d, max_offload: %d, timeout: 2s, timeouts: {udp: 2s, icmp: 1s}}\n", capacity,
			rules),
	}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	got := b.record(vm2.Namespace, "eth0", record.In, fmt.Sprintf("udp dst port %d", craftedDst))
	sender := b.craft(vm1)
	send := func() {
		for i := range layers.UDPPort(flows) {
			sender.port = craftedSrc + i
			sender.udp(vm1.IPv4, vm2.IPv4, 64)
		}
	}
	send()
	b.waitFrames(got, flows)
	b.eventually(func() error {
		send()
		if table := b.flowTable(); table.Known != capacity || table.Rules != rules || table.Limited == 0 {
			return fmt.Errorf("the tables are not full: %+v", table)
		}
		return nil
	})
	table := b.flowTable()
	require.GreaterOrEqual(t, table.Overflow, uint64(flows-capacity))
	require.Equal(t, []int{capacity, rules}, []int{table.Capacity, table.MaxRules})
	seen := map[string]bool{}
	for _, f := range b.stopRecording(got) {
		seen[f.String()[len("15:04:05.000000"):]] = true
	}
	require.Len(t, seen, flows, "packets without a place in a table are lost")

	b.eventually(func() error {
		if table := b.flowTable(); table.Known != 0 || table.Rules != 0 {
			return fmt.Errorf("idle flows have not ended: %+v", table)
		}
		return nil
	})
	sender.port = craftedSrc + flows
	b.offloadDatagrams(sender, vm1.IPv4, vm2.IPv4)
}

// TestANeighbourGetsItsShare makes a guest send on more flows than the tables hold, all the time. Another guest's new
// flows still get into the flow table and the NIC, and the share of each guest is reported.
func TestANeighbourGetsItsShare(t *testing.T) {
	const capacity, rules, flows = 64, 32, 200
	b := newLab(t, topology.DaemonConfig{
		Extra: fmt.Sprintf("flows: {capacity: %d, max_offload: %d, timeout: 60s, timeouts: {udp: 60s}}\n", capacity, rules),
	}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	greedy, modest := b.craft(vm1), b.craft(vm2)
	flood := func() {
		for i := range layers.UDPPort(flows) {
			greedy.port = craftedSrc + i
			greedy.udp(vm1.IPv4, vm2.IPv4, 64)
		}
	}
	b.eventually(func() error {
		flood()
		if table := b.flowTable(); table.Known != capacity || table.Rules != rules {
			return fmt.Errorf("the tables are not full: %+v", table)
		}
		return nil
	})
	guaranteed := b.flowTable().GuaranteedRules
	require.Positive(t, guaranteed)
	b.eventually(func() error {
		flood()
		for i := range layers.UDPPort(guaranteed) {
			modest.port = craftedSrc + i
			modest.udp(vm2.IPv4, vm1.IPv4, 64)
		}
		table := b.flowTable()
		for _, s := range table.Shares {
			if s.Interface == vm2.ID && s.Origin == "guest" && s.Rules >= guaranteed && s.Flows >= guaranteed {
				return nil
			}
		}
		return fmt.Errorf("the other guest does not get its share: %+v", table)
	})
	for _, s := range b.flowTable().Shares {
		if s.Interface == vm1.ID && s.Origin == "guest" {
			require.NotZero(t, s.FlowsEvicted, "their rules have gone with them, or were evicted")
		}
	}
}

// TestEndedConnectionsLeaveTheNIC ends TCP connections that are in the NIC. Their rules are removed long before those
// of an idle connection would be.
func TestEndedConnectionsLeaveTheNIC(t *testing.T) {
	b := newLab(t,
		topology.DaemonConfig{Extra: "flows: {timeout: 60s, timeouts: {tcp_closing: 1s, tcp_established: 60s}}\n"}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	run := b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, 2*time.Second, "5M")
	b.waitOffloaded(b.daemons[0], 2, "tcp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 2, "tcp", vm2.IPv4.String(), vm1.IPv4.String())
	run.wait()
	b.eventually(func() error {
		var list api.FlowListResult
		b.call(api.MethodFlowList, &list)
		for _, f := range list.Flows {
			if f.Proto == "tcp" {
				return fmt.Errorf("%+v", list.Flows)
			}
		}
		return nil
	})
	for _, r := range b.rules() {
		require.NotContains(t, r.Pattern, "tcp")
	}
}

func (b *lab) flowTable() api.FlowTable {
	b.t.Helper()
	var info api.SystemInfoResult
	b.call(api.MethodSystemInfo, &info)
	return info.Flows
}
