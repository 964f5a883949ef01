// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/test/topology"
)

// TestTheNICIsSlow starts a capture while the NIC takes long for each rule. The daemon answers other calls in that
// time, and the guests lose no packets. Then all packets are captured.
func TestTheNICIsSlow(t *testing.T) {
	const rules, delay = 7, 200 * time.Millisecond
	b := newLab(t, topology.DaemonConfig{Telemetry: true}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	noLosses := b.losses()
	silence := b.pingOn(vm1, vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	c := b.startRecording(b.net.Sink, "eth0")

	b.fault("create_delay_us=200000")
	c.window.Starting = time.Now()
	pf0 := 0
	started := make(chan error, 1)
	go func() {
		_, err := client.Call(b.ctx, b.daemons[0].Socket, api.MethodCaptureStart, api.CaptureStartParams{
			SinkNodeIP: b.net.SinkIP.String(), UDPSrcPort: 3000, UDPDstPort: 3010,
			Interfaces: []api.CaptureSelector{{VF: "vm-1"}, {VF: "vm-2"}, {PF: &pf0}},
		})
		started <- err
	}()
	answers := 0
	for ; len(started) == 0; answers++ {
		var list api.InterfaceListResult
		b.call(api.MethodInterfaceList, &list)
		require.Len(t, list.Interfaces, 2)
	}
	require.NoError(t, <-started)
	c.window.Started = time.Now()
	require.GreaterOrEqual(t, c.window.Started.Sub(c.window.Starting), rules*delay)
	require.Greater(t, answers, rules, "answers while the NIC was at it")
	require.Len(t, b.captureRules(), rules)
	c.moreCopies(100)
	c.stop()
	silence()
	noLosses()
	c.check(c.finish(), "vm-1", "vm-2")
}

// TestAGuestsFarSideStops cuts a captured guest off for a while. The other guests lose no packets, and the guest is
// captured again as soon as it is back.
func TestAGuestsFarSideStops(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{Telemetry: true}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm3, vm1.IPv6.String())
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
	session, rules := b.session(), b.captureRules()
	before, err := b.balance()
	require.NoError(t, err)

	b.fault("far_stop=vf1")
	silence := b.pingOn(vm3, vm1.IPv6.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp6", vm1.IPv6.String(), vm3.IPv6.String())
	c.moreCopies(100)
	r, err := vm2.Run(b.ctx, "ping", "-n", "-q", "-c", "2", "-W", "1", vm1.IPv4.String())
	require.NoError(t, err)
	require.Contains(t, r.Stdout, "100% packet loss")
	silence()
	b.eventually(func() error {
		after, err := b.balance()
		if err == nil && (after.Echo6 != before.Echo6 || after.Reply6 != before.Reply6) {
			err = fmt.Errorf("the other guests have lost packets: before %+v, after %+v", before, after)
		}
		return err
	})
	b.fault("far_start=vf1")
	b.reach(vm2, vm1.IPv4.String())
	silence = b.pingOn(vm2, vm1.IPv4.String())
	c.moreCopies(100)
	silence()
	require.Equal(t, session.Warnings, b.session().Warnings)
	require.Equal(t, rules, b.captureRules())
	c.stop()
	c.finish()
}
