// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

const (
	files       = "files"
	testTimeout = 2 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(topology.Main(m)) }

// built is the path of a file that `make deb` has made.
func built(t *testing.T, name string) string {
	t.Helper()
	build, err := topology.BuildDir()
	require.NoError(t, err)
	matches, err := filepath.Glob(filepath.Join(build, name))
	require.NoError(t, err)
	require.Len(t, matches, 1, "%s: run make deb", name)
	return matches[0]
}

// run runs a command and returns what it has said.
func run(t *testing.T, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// startDaemon starts a daemon between the wires and guests of a lab.
func startDaemon(
	t *testing.T, config topology.DaemonConfig, guests int,
) (context.Context, *topology.Network, *topology.Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	n, err := topology.NewNetwork(guests)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, n.Close())
		cancel()
	})
	d, err := n.Hypervisors[0].StartDaemon(ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dpservice said:\n%s%s", d.Stdout, d.Stderr)
		}
	})
	return ctx, n, d
}
