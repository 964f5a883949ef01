// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/test/topology"
)

const unitName = "dpservice.service"

// unit writes the unit with the built program in the installed one's place, so that systemd finds it.
func unit(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(files, unitName))
	require.NoError(t, err)
	require.Contains(t, string(text), "ExecStart=/usr/sbin/dpservice ")
	path := filepath.Join(t.TempDir(), unitName)
	program := built(t, "dpservice")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/sbin/dpservice", program)), 0o600))
	return path
}

func TestUnitIsValid(t *testing.T) {
	out, err := run(t, "systemd-analyze", "verify", "--man=no", unit(t))
	require.NoError(t, err, "%s", out)
	assert.Empty(t, out)
}

// systemd rates what a service could do if it were taken over, from 0 to 10: 3.0 at most.
func TestUnitExposesLittle(t *testing.T) {
	out, err := run(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=30", unit(t))
	assert.NoError(t, err, "%s", out)
}

// confined runs a program as the unit does: with its capabilities, and under its filters of system calls.
func confined(t *testing.T) []string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "confine")
	out, err := run(t, "go", "build", "-o", program, "dpservice/test/confine")
	require.NoError(t, err, "%s", out)
	return []string{program, filepath.Join(files, unitName)}
}

// TestConfinedDaemon has a daemon do all that it does under the unit's capabilities and filters, on both NICs:
// start, forward, offload, capture, show metrics, end.
func TestConfinedDaemon(t *testing.T) {
	for _, nic := range []string{"net_eswitch", "net_mlx5"} {
		t.Run(nic, func(t *testing.T) {
			t.Setenv("DPLAB_NIC", nic)
			prefix := confined(t)
			prefix[1], _ = filepath.Abs(prefix[1])
			ctx, n, d := startDaemon(t, topology.DaemonConfig{Prefix: prefix, Extra: "metrics: 127.0.0.1:9464\n"}, 2)
			_, err := d.CreateInterfaces(ctx)
			require.NoError(t, err)
			vms := n.Guests()
			require.NoError(t, topology.Until(ctx, func() error {
				r, err := vms[0].Run(ctx, "ping", "-n", "-c", "3", "-i", "0.1", "-W", "1", vms[1].IPv4.String())
				if err != nil {
					return err
				}
				return r.Err()
			}))
			require.NoError(t, topology.Until(ctx, func() error {
				r, err := d.Dpctl(ctx, "flow", "list", "--offloaded", "-o", "name")
				if err == nil && r.Stdout == "" {
					err = fmt.Errorf("no flow is offloaded: %s", r.Stderr)
				}
				return err
			}))
			r, err := d.Dpctl(ctx, "capture", "start", "--sink-node-ip="+n.SinkIP.String(), "--udp-src-port=3000",
				"--udp-dst-port=3010", "--vf="+vms[0].ID, "--pf=0")
			require.NoError(t, err)
			require.NoError(t, r.Err())
			require.NoError(t, d.Stop(ctx))
			status := d.Stdout.String() + d.Stderr.String()
			assert.NotContains(t, status, "permitted", "what it may not do")
			assert.NotContains(t, status, "Permission denied")
		})
	}
}

// manager is systemd's end of the socket that a service tells its state at.
func manager(t *testing.T) (path string, receive func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	path = filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return path, func() string {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(testTimeout)))
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		require.NoError(t, err)
		return string(buf[:n])
	}
}

// TestNotifies has a daemon tell systemd when it is ready, that it lives, and that it ends.
func TestNotifies(t *testing.T) {
	path, receive := manager(t)
	ctx, _, d := startDaemon(t, topology.DaemonConfig{
		Prefix: []string{"env", "NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=600000"},
	}, 1)
	assert.Equal(t, "STATUS=starting", receive())
	assert.Equal(t, "READY=1\nSTATUS=running", receive())
	for range 3 {
		assert.Equal(t, "WATCHDOG=1", receive())
	}
	require.NoError(t, d.Stop(ctx))
	state := receive()
	for state == "WATCHDOG=1" {
		state = receive()
	}
	assert.Equal(t, "STOPPING=1", state)
}

// TestReload has a daemon take another configuration by SIGHUP: it names what it has changed, and what needs a restart.
// From one
// that is wrong it takes nothing.
func TestReload(t *testing.T) {
	path, receive := manager(t)
	ctx, _, d := startDaemon(t, topology.DaemonConfig{Prefix: []string{"env", "NOTIFY_SOCKET=" + path}}, 1)
	assert.Equal(t, "STATUS=starting", receive())
	assert.Equal(t, "READY=1\nSTATUS=running", receive())
	configuration, err := os.ReadFile(d.ConfigFile)
	require.NoError(t, err)
	reload := func(extra, logged string) {
		require.NoError(
			t,
			os.WriteFile(d.ConfigFile, append(configuration[:len(configuration):len(configuration)], extra...), 0o600),
		)
		require.NoError(t, syscall.Kill(d.Pid(), syscall.SIGHUP))
		assert.Regexp(t, "^RELOADING=1\nMONOTONIC_USEC=", receive())
		assert.Equal(t, "READY=1", receive())
		require.NoError(t, topology.Until(ctx, func() error {
			if !strings.Contains(d.Stderr.String(), logged) {
				return fmt.Errorf("not logged yet: %s", logged)
			}
			return nil
		}))
	}
	reload(
		"flows: {timeout: 20s, capacity: 1024, timeouts: {udp: 5s}}\nrpc: {idle_timeout: 2s}\nlog_level: debug\nmbufs: 20000\n",
		`changed="[flows.timeouts.udp rpc.idle_timeout log_level]"`,
	)
	assert.Contains(t, d.Stderr.String(), `need a restart of dpservice" keys="[flows.capacity flows.timeout mbufs]"`)
	reload("mbuf: 20000\n", "is not reloaded: it is wrong")
	reload("", `changed="[flows.timeouts.udp rpc.idle_timeout log_level]"`)
	require.NoError(t, d.Call(ctx, api.MethodSystemInfo, nil, nil))
	require.NoError(t, d.Stop(ctx))
}

// A daemon that fails to start does not say that it is ready.
func TestNotReady(t *testing.T) {
	path, _ := manager(t)
	n, err := topology.NewNetwork(1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	d, err := n.Hypervisors[0].LaunchDaemon(topology.DaemonConfig{
		Prefix: []string{"env", "NOTIFY_SOCKET=" + path}, Extra: "log_level: loud\n",
	})
	require.NoError(t, err)
	r, err := d.Wait(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, r.Code)
}
