// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLintian has Debian's own checks look at the packages. Go puts its strings one behind the other, where they look
// like words.
func TestLintian(t *testing.T) {
	out, err := run(t, "lintian", "--allow-root", "--display-info", "--fail-on", "error,warning,info", "--suppress-tags",
		"spelling-error-in-binary",
		built(t, "package/dpservice_*.deb"), built(t, "package/dpctl_*.deb"), built(t, "package/dpservice-net-eswitch_*.deb"))
	require.NoError(t, err, "%s", out)
	assert.Empty(t, out)
}

// unpack unpacks a package into a folder.
func unpack(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	out, err := run(t, "dpkg-deb", "-x", built(t, "package/"+name+"_*.deb"), dir)
	require.NoError(t, err, "%s", out)
	return dir
}

func TestContents(t *testing.T) {
	tests := map[string][]string{
		"dpservice": {
			"usr/sbin/dpservice", "etc/dpservice/dpservice.yaml", "lib/systemd/system/dpservice.service",
			"usr/lib/sysusers.d/dpservice.conf", "usr/share/dpservice/alerts.yaml", "usr/share/dpservice/dashboard.json",
			"usr/share/man/man8/dpservice.8.gz", "usr/share/man/man8/dpservice-check.8.gz",
			"usr/share/doc/dpservice/configuration.md", "usr/share/bash-completion/completions/dpservice",
			"usr/share/zsh/vendor-completions/_dpservice", "usr/share/fish/vendor_completions.d/dpservice.fish",
		},
		"dpctl": {
			"usr/bin/dpctl", "usr/share/man/man1/dpctl.1.gz", "usr/share/man/man1/dpctl-capture-receive.1.gz",
			"usr/lib/*/wireshark/extcap/dpservice", "usr/lib/*/wireshark/plugins/dpservice.lua",
			"usr/share/bash-completion/completions/dpctl",
			"usr/share/zsh/vendor-completions/_dpctl", "usr/share/fish/vendor_completions.d/dpctl.fish",
		},
		"dpservice-net-eswitch": {"usr/lib/dpservice/librte_net_eswitch.so"},
	}
	for name, paths := range tests {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, name)
			for _, path := range paths {
				matches, err := filepath.Glob(filepath.Join(dir, path))
				require.NoError(t, err)
				assert.Len(t, matches, 1, path)
			}
		})
	}
}

// dpctl runs where there is no DPDK: its package depends on nothing.
func TestDpctlNeedsNothing(t *testing.T) {
	out, err := run(t, "dpkg-deb", "-f", built(t, "package/dpctl_*.deb"), "Depends")
	require.NoError(t, err)
	assert.Empty(t, out)
}

// The manual has no page that man finds fault with, and every page has a name that whatis finds.
func TestManual(t *testing.T) {
	for _, name := range []string{"dpservice", "dpctl"} {
		pages, err := filepath.Glob(filepath.Join(unpack(t, name), "usr/share/man/man*/*.gz"))
		require.NoError(t, err)
		require.NotEmpty(t, pages)
		for _, page := range pages {
			out, err := run(t, "lexgrog", page)
			require.NoError(t, err, "%s", out)
			out, err = run(t, "sh", "-c", `man --warnings -l "$0" 2>&1 >/dev/null`, page)
			require.NoError(t, err)
			assert.Empty(t, out, page)
		}
	}
}

// Completions are scripts that their shells take.
func TestCompletions(t *testing.T) {
	for _, name := range []string{"dpservice", "dpctl"} {
		script := filepath.Join(unpack(t, name), "usr/share/bash-completion/completions", name)
		out, err := run(t, "bash", "-n", script)
		require.NoError(t, err, "%s", out)
		text, err := os.ReadFile(script)
		require.NoError(t, err)
		assert.True(t, strings.Contains(string(text), "complete "), name)
	}
}
