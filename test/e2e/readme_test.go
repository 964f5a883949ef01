// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The script makes namespaces, devices and files with fixed names, so it runs in namespaces of its own, which end with
// it.
const ownMachine = `mount -t tmpfs -o mode=755 none /run && ip link set lo up && exec bash -e "$0"`

// The commands of the README's first five minutes work as written there.
func TestReadmeFirstFiveMinutes(t *testing.T) {
	const root = "../.." // the folder in which the README's commands are run
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	_, chapter, found := strings.Cut(string(readme), "## The first five minutes")
	require.True(t, found)
	chapter, _, found = strings.Cut(chapter, "\n## ")
	require.True(t, found)
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(chapter, -1) {
		script.WriteString(block[1])
	}
	file := filepath.Join(t.TempDir(), "readme.sh")
	require.NoError(t, os.WriteFile(file, []byte(script.String()), 0o600))

	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
		"--mount-proc",
		"--propagation", "private", "bash", "-ec", ownMachine, file)
	cmd.Dir = root
	cmd.Env = slices.DeleteFunc(os.Environ(),
		func(v string) bool { return strings.HasPrefix(v, "DPSERVICE_") }) // no settings
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, line := range []string{
		`3 packets transmitted, 3 received, 0% packet loss`,
		`vm-1 .* icmp/8 +10\.0\.0\.1 +10\.0\.0\.2 .* yes `,
		`represented_port .* / icmp type is 8 `,
		`vm-1 +net_eswitch0_representor_vf0 +[0-9]+ +[1-9]`,
		`stopped capturing on 3 interface`,
		`10\.0\.0\.1 → 10\.0\.0\.2 +ICMP .* request`,
		`10\.0\.0\.2 → 10\.0\.0\.1 +ICMP .* reply`,
	} {
		require.Regexp(t, line, string(out))
	}
}
