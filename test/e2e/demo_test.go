// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// startDemo starts the program behind `make demo`.
func startDemo(t *testing.T) (*exec.Cmd, *topology.Output) {
	t.Helper()
	build, err := topology.BuildDir()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(build, "demo"))
	out := &topology.Output{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	require.NoError(t, cmd.Start())
	return cmd, out
}

func requireNothingLeft(t *testing.T, pid int) {
	t.Helper()
	left, err := topology.Left(pid)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestDemo runs the demo to its end: it shows a status and decoded packets, and leaves nothing behind.
func TestDemo(t *testing.T) {
	cmd, out := startDemo(t)
	require.NoError(t, cmd.Wait(), "%s", out)
	requireNothingLeft(t, cmd.Process.Pid)
	text := []byte(out.String())
	for _, shown := range []string{
		"dpctl --socket", "capture status", "State:    active", "Echo (ping) request", "10.100.0.1 → 10.100.0.2",
		"0% packet loss",
		"100 copies received from 2 interface(s)", "vm-1\t", "--filter=icmp6 and host ", "Filter:   icmp6 and host ",
		"Encap:    vxlan",
		"Name = vm-1", "Name = vm-2",
	} {
		require.True(t, bytes.Contains(text, []byte(shown)), "the demo does not show %q:\n%s", shown, text)
	}
}

// TestDemoInterrupted interrupts the demo by Ctrl-C: it cleans up.
func TestDemoInterrupted(t *testing.T) {
	cmd, out := startDemo(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, topology.Until(ctx, func() error {
		if bytes.Contains([]byte(out.String()), []byte("capture start")) {
			return nil
		}
		return errNotOffloaded
	}), "%s", out)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, 130, exit.ExitCode(), "%s", out)
	requireNothingLeft(t, cmd.Process.Pid)
}
