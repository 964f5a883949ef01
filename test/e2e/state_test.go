// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"dpservice/test/report"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestStateSurvivesKill kills a daemon that stores its state by SIGKILL, during traffic. After a restart it has the
// same interfaces, routes and capture, and forwards, without any call. It keeps a guest whose port is missing at the
// start for later.
func TestStateSurvivesKill(t *testing.T) {
	ctx, n := newNetwork(t, 2, 1)
	dir := n.Path("state")
	require.NoError(t, os.Mkdir(dir, 0o700))
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
	for i, h := range n.Hypervisors {
		cfg := topology.DaemonConfig{}
		if i == 0 {
			cfg.Extra = "state: " + dir + "\n"
		}
		b.daemons = append(b.daemons, startDaemon(ctx, t, h, cfg))
	}
	b.connect()
	d, vm1, vm2, vm3 := b.daemons[0], b.vms[0], b.vms[1], b.vms[2]
	created := func() (r [2]string) {
		for i, what := range []string{"interface", "route"} {
			result, err := d.Dpctl(ctx, "-o", "json", what, "list")
			require.NoError(t, err)
			require.NoError(t, result.Err())
			r[i] = result.Stdout
		}
		return r
	}
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm1, vm3.IPv4.String())
	b.dpctl(captureStart(n.SinkIP.String(), "--vf="+vm1.ID)...)
	before := created()
	require.Contains(t, before[0], vm2.ID)
	require.Contains(t, before[1], vm3.IPv4.String())

	for life := range 3 {
		_, err := d.Process.Stop(ctx, syscall.SIGKILL)
		require.NoError(t, err)
		killed := time.Now()
		require.NoError(t, d.Restart(ctx))
		ready := time.Since(killed)
		b.reach(vm1, vm2.IPv4.String())
		gap := time.Since(killed)
		b.reach(vm1, vm3.IPv4.String())
		b.reach(vm3, vm1.IPv6.String())
		require.Equal(t, before, created())
		b.captureGoesOn(life+1, 0)
		warnings := b.status().Sessions[0].Warnings
		_, captureGap, _ := strings.Cut(warnings[len(warnings)-1], ", for ")
		report.Printf(t, "a killed daemon: answers after %v, forwards after %v, captures after at most %s",
			ready.Round(time.Millisecond), gap.Round(time.Millisecond), captureGap)
	}

	b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
	b.captureGoesOn(3, 1)
	counted := b.status().Sessions[0].Packets
	require.NoError(t, d.Stop(ctx))
	require.NoError(t, d.Restart(ctx))
	b.captureGoesOn(4, counted)
	b.dpctl("capture", "stop")
	require.NoError(t, d.Stop(ctx))
	configuration, err := os.ReadFile(d.ConfigFile)
	require.NoError(t, err)
	device := vm2.Device[:len(vm2.Device)-1]
	without := strings.ReplaceAll(string(configuration), device+"*", vm1.Device)
	require.NotEqual(t, string(configuration), without, "the pattern of VFs is %s*", device)
	require.NoError(t, os.WriteFile(d.ConfigFile, []byte(without), 0o600))
	require.NoError(t, d.Restart(ctx))
	require.NotContains(t, created()[0], vm2.ID)
	require.Contains(t, d.Stderr.String(), "kept for the next start\" interface="+vm2.ID)
	require.NoError(t, d.Stop(ctx))
	require.NoError(t, os.WriteFile(d.ConfigFile, configuration, 0o600))
	require.NoError(t, d.Restart(ctx))
	require.Equal(t, before, created(), "it is there again")
	b.reach(vm2, vm1.IPv4.String())

	require.NoError(t, d.Stop(ctx))
	require.NoError(t, os.WriteFile(dir+"/state.db", []byte("damaged"), 0o600))
	require.ErrorContains(t, d.Restart(ctx), "move it away to start without what it holds")
}

// captureGoesOn waits until the capture runs after this number of restarts, and has copied at least this number of
// packets in total.
func (b *lab) captureGoesOn(restarts int, packets uint64) {
	b.t.Helper()
	b.eventually(func() error {
		s := b.status().Sessions
		if len(s) != 1 || s[0].State != "active" || s[0].Packets < packets {
			return fmt.Errorf("no capture with %d packets is on: %+v", packets, s)
		}
		if n := strings.Count(strings.Join(s[0].Warnings, "\n"), "dpservice was restarted"); n != restarts {
			return fmt.Errorf("it tells of %d restarts, not %d: %v", n, restarts, s[0].Warnings)
		}
		return nil
	})
}
