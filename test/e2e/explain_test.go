// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

// TestFlowExplain asks what would be done with packets: of a flow that the NIC forwards and a capture copies, of ones
// that were never seen, and of ones that are dropped. To ask changes nothing.
func TestFlowExplain(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, remote := b.vms[0], b.vms[1], b.vms[2]
	explain := func(args ...string) string { return b.dpctl(append([]string{"flow", "explain"}, args...)...) }
	fromVM1 := func(args ...string) string {
		return explain(append([]string{"--interface=vm-1", "--proto=udp", "--src-port=40001", "--dst-port=40002"}, args...)...)
	}
	sender := b.craft(vm1)
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm1, remote.IPv4.String())
	b.dpctl("capture", "start", "--sink-node-ip="+b.net.SinkIP.String(), "--udp-dst-port=3000", "--vf=vm-1",
		"--vf=vm-2", "--direction=both", "--filter=udp dst port 40002 and not ip[8] < 5")

	t.Run("never seen", func(t *testing.T) {
		before := b.rules()
		for range 2 {
			out := fromVM1("--dst=" + remote.IPv4.String())
			require.Contains(t, out, "encapsulated to ")
			require.Regexp(t, `source +`+vm1.IPv4.String()+` is the guest's own address`, out)
			require.Regexp(t, `route +\S+ to \S+ in VNI \d+, the longest prefix that holds `+remote.IPv4.String(), out)
			require.Regexp(t, `uplink +\S+, whose link is up, by the router \S+ \(\w+\)`, out)
			require.Regexp(t, `flow +not seen, or forgotten: the packet would begin it`, out)
			require.Regexp(t, `capture +default at vm-1 rx copies it\n`, out)
			require.Regexp(t, `NIC +has no rule yet: the flow's first packet brings it`, out)
			require.Regexp(t, `capture +default at vm-1 rx leaves it out or not, depending on the time to live\n`, out)
		}
		flows, err := b.flows(b.daemons[0], "udp", vm1.IPv4.String(), remote.IPv4.String())
		require.NoError(t, err)
		require.Empty(t, flows)
		require.Equal(t, before, b.rules())
	})

	t.Run("offloaded", func(t *testing.T) {
		b.offloadDatagrams(sender, vm1.IPv4, vm2.IPv4)
		flows, err := b.flows(b.daemons[0], "udp", vm1.IPv4.String(), vm2.IPv4.String())
		require.NoError(t, err)
		require.Len(t, flows, 1)
		sender.udp(vm1.IPv4, vm2.IPv4, 64)
		b.eventually(func() error { return hits(b.ruleHits(vm1.IPv4, vm2.IPv4)) })
		byID := explain(strconv.FormatUint(flows[0].ID, 10))
		for _, out := range []string{byID, fromVM1("--dst=" + vm2.IPv4.String())} {
			require.Contains(t, out, "delivered to vm-2 by ")
			require.Regexp(t, `route +`+vm2.IPv4.String()+` is the address of vm-2 on this node`, out)
			require.Regexp(t, fmt.Sprintf(`flow +%d, established: `, flows[0].ID), out)
			require.Regexp(t, `NIC +forwards the flow by itself, by rule flow/\w+ in group 2 VNET`, out)
			require.Regexp(t, `pattern .*udp src is 40001 dst is 40002`, out)
			require.Regexp(t, `actions .*jump group`, out)
			require.Regexp(t, `[1-9]\d* packets and [1-9]\d* bytes so far`, out)
			require.Regexp(t, `capture +default at vm-1 rx copies it\n`, out)
			require.Regexp(t, `capture +default at vm-2 tx copies it\n`, out)
		}
	})

	t.Run("dropped", func(t *testing.T) {
		forged := fromVM1("--src=10.100.0.77", "--dst="+vm2.IPv4.String())
		require.Contains(t, forged, "dropped: its source address is not the guest's own (drop_spoofed)")
		require.Regexp(t, `source +10\.100\.0\.77 is not the guest's own address: it may send from `+vm1.IPv4.String(), forged)
		require.Regexp(t, `NIC +has no rule: the software drops the packet`, forged)
		lost := fromVM1("--dst=203.0.113.1")
		require.Contains(t, lost, "answered with an ICMP error: there is no route to its destination")
		require.Regexp(t, `route +VNI \d+ has none to 203.0.113.1`, lost)
		stranger := fromVM1("--origin=wire", "--src="+remote.IPv4.String(), "--peer=fc00:dead::1")
		require.Contains(t, stranger, "dropped: its tunnel's source is not where the route to its source leads")
		require.Contains(t, fromVM1("--origin=wire", "--src="+remote.IPv4.String()), "delivered to vm-1 by ")
		require.Contains(t, explain("--interface=vm-1", "--proto=icmp", "--dst=169.254.0.1"), "left to the slow path")
	})

	t.Run("bad questions", func(t *testing.T) {
		for text, args := range map[string][]string{
			"no flow 4711: it has ended, or never was":   {"4711"},
			`"x" is not the ID of a flow`:                {"x"},
			"--proto does not go with it":                {"4711", "--proto=tcp"},
			"give the ID of a flow":                      {},
			`no interface "vm-9"`:                        {"--interface=vm-9", "--proto=tcp", "--dst=10.0.0.1"},
			"the address of the other side is missing":   {"--interface=vm-1", "--proto=tcp"},
			"only TCP and UDP have ports":                {"--interface=vm-1", "--proto=icmp", "--dst=10.0.0.1", "--dst-port=1"},
			"only what comes from the wire has a peer":   {"--interface=vm-1", "--proto=tcp", "--dst=10.0.0.1", "--peer=::1"},
			`field "dst": "10.0.0" is not an IP address`: {"--interface=vm-1", "--proto=tcp", "--dst=10.0.0"},
		} {
			d := b.daemons[0]
			result, err := b.net.Sink.Run(b.ctx, append([]string{d.DpctlPath(), "--socket", d.Socket, "flow", "explain"}, args...)...)
			require.NoError(t, err)
			require.NotZero(t, result.Code, text)
			require.Contains(t, result.Stderr, text)
		}
	})
}

// hits is an error as long as a rule has forwarded nothing.
func hits(n uint64) error {
	if n == 0 {
		return errors.New("the rule has forwarded no packet yet")
	}
	return nil
}
