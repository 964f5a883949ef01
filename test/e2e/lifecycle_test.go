// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"dpservice/rpc/api"
	"dpservice/test/plugin"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestSocketLife checks that a daemon replaces the socket file of a killed daemon, refuses to replace that of a running
// one, and removes its own after SIGTERM.
func TestSocketLife(t *testing.T) {
	ctx, n := newNetwork(t, 1)
	h := n.Hypervisors[0]

	killed := startDaemon(ctx, t, h, topology.DaemonConfig{})
	_, err := killed.Process.Stop(ctx, syscall.SIGKILL)
	require.NoError(t, err)
	require.FileExists(t, killed.Socket, "a stale socket file")

	d := startDaemon(ctx, t, h, topology.DaemonConfig{})
	info, err := os.Stat(d.Socket)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o660, info.Mode())
	var system api.SystemInfoResult
	require.NoError(t, d.Call(ctx, api.MethodSystemInfo, nil, &system))
	require.Equal(t, d.Pid(), system.PID)
	require.True(t, system.Offload)
	require.Equal(t, n.NIC.Driver, system.NIC.Driver)

	second, err := h.LaunchDaemon(topology.DaemonConfig{})
	require.NoError(t, err)
	r, err := second.Wait(ctx)
	require.NoError(t, err)
	require.NotZero(t, r.Code)
	require.Contains(t, r.Stdout+r.Stderr, d.Socket)
	require.NoError(t, d.Call(ctx, api.MethodSystemInfo, nil, nil), "the living one is not disturbed")

	require.NoError(t, d.Stop(ctx))
	_, err = os.Stat(d.Socket)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = net.Dial("unix", d.Socket)
	require.Error(t, err)
}

// TestTermDuringCapture ends the daemon by SIGTERM while it captures and forwards, and starts it again. Nothing is left
// of the first process.
func TestTermDuringCapture(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	traffic, err := vm1.Start("ping", "-q", "-i", "0.01", vm2.IPv4.String())
	require.NoError(t, err)
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")...)

	require.NoError(t, b.daemons[0].Stop(b.ctx))
	_, err = os.Stat(b.daemons[0].Socket)
	require.ErrorIs(t, err, os.ErrNotExist)

	b.daemons[0] = startDaemon(b.ctx, t, b.net.Hypervisors[0], topology.DaemonConfig{})
	var status api.CaptureStatusResult
	b.call(api.MethodCaptureStatus, &status)
	require.False(t, status.Active)
	b.connect()
	b.reach(vm1, vm2.IPv4.String())
	_, err = traffic.Stop(b.ctx, syscall.SIGINT)
	require.NoError(t, err)
}

// TestPorts shows the NIC's ports as the operator sees them.
func TestPorts(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	var list api.PortListResult
	b.call(api.MethodPortList, &list)
	roles, domains := map[string]string{}, map[uint16][]string{}
	for _, p := range list.Ports {
		roles[p.Name] = p.Role
		if p.SwitchDomain != nil { // a driver may give PF1 one of its own
			domains[*p.SwitchDomain] = append(domains[*p.SwitchDomain], p.Name)
		}
		require.Equal(t, "up", p.Link, "%+v", p)
		require.True(t, p.Started, "%+v", p)
	}
	require.Equal(t, map[string]string{
		b.net.NIC.PFs[0]: "pf", b.net.NIC.PFs[1]: "pf", b.net.NIC.VF(0): "vf",
	}, roles)
	require.Contains(t, slices.Collect(maps.Values(domains)), []string{b.net.NIC.PFs[0], b.net.NIC.VF(0)}, "the E-Switch")

	var dot api.GraphDOTResult
	b.call(api.MethodGraphDOT, &dot)
	require.Contains(t, dot.DOT, "flow_lookup")
}

// TestAStartThatFailsEndsWell configures a port that does not exist beside a NIC. The daemon reports it, and closes the
// NIC before the NIC's far sides.
func TestAStartThatFailsEndsWell(t *testing.T) {
	ctx, n := newNetwork(t, 1)
	path, remove, err := plugin.Install()
	require.NoError(t, err)
	defer func() { require.NoError(t, remove()) }()
	for range 5 { // repeated, because a wrong order is a race that does not always fail
		d, err := n.Hypervisors[0].LaunchDaemon(topology.DaemonConfig{Plain: &topology.PlainPorts{
			EAL: []string{"-d", path, "--vdev=net_af_packet0,iface=wire0", "--vdev=net_af_packet1,iface=guest0",
				"--vdev=net_eswitch0,pf0=net_af_packet0,vf0=net_af_packet1"},
			Names:  "pf0: nosuch, vfs: net_eswitch0_representor_vf0",
			Device: func(int) string { return "net_eswitch0_representor_vf0" },
		}})
		require.NoError(t, err)
		r, err := d.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, `cannot find the ports: pf0: no port "nosuch"`)
	}
}
