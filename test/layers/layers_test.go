// SPDX-License-Identifier: Apache-2.0

// Package layers proves that the linter refuses the imports that the design forbids, and no others.
package layers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// edges are imports, each as the importing directory and the imported package.
type edges [][2]string

var allowed = edges{
	{"cgo/x", "cgo/eal"}, {"graph/x", "cgo/eal"}, {"graph", "graph/nodes"}, {"rteflow/x", "cgo/eal"},
	{"rteflow/ruleset", "rteflow"},
	{"dpservice/x", "graph"}, {"dpservice/x", "rteflow"}, {"dpservice/x", "cgo/eal"}, {"dpservice/port/dpdk", "cgo/eal"},
	{"dpservice/port/dpdk", "dpservice/port"}, {"dpservice/daemon", "rpc/server"}, {"dpservice/daemon", "graph"},
	{"capture/x", "graph"}, {"capture/x", "rteflow"}, {"capture/x", "dpservice/port"}, {"capture/spec", "dpservice/port"},
	{"rpc/x", "rpc/api"}, {"rpc/x", "capture/spec"}, {"rpc/x", "dpservice/port"}, {"rpc/x", "dpservice/status"},
	{"tools/dpctl", "rpc/client"}, {"tools/dpctl", "capture/receive"}, {"tools/bench", "cgo/eal"},
	{"capture/spec", "capture/filter"}, {"dpservice/verdict", "graph"}, {"dpservice/trace", "capture/plan"},
	{"tools/fleet/x", "rpc/client"}, {"tools/fleet/x", "capture/spec"}, {"tools/fleet/x", "tools/fleet/y"},
}

var forbidden = edges{
	{"cgo/x", "graph"}, {"cgo/x", "rteflow"}, {"cgo/x", "dpservice/port"}, {"cgo/x", "rpc/api"},
	{"graph/x", "dpservice/port"}, {"graph/x", "capture"}, {"graph/x", "rpc/api"},
	{"rteflow/x", "dpservice/port"}, {"rteflow/x", "capture"}, {"rteflow/x", "rpc/api"},
	{"dpservice/x", "rpc/api"}, {"dpservice/x", "rpc/server"}, {"dpservice/x", "tools/y"},
	{"dpservice/daemon", "rpc/api"}, {"dpservice/daemon", "rpc/client"}, {"dpservice/daemon", "tools/y"},
	{"capture", "rpc/api"}, {"capture/x", "rpc/server"}, {"capture/x", "tools/y"}, {"capture/spec", "graph"},
	{"capture/filter", "rteflow"},
	{"dpservice/port", "cgo/eal"}, {"dpservice/port", "dpservice/flow"}, {"dpservice/status", "graph"},
	{"dpservice/vnet", "rteflow"},
	{"rpc/x", "cgo/eal"}, {"rpc/x", "graph"}, {"rpc/x", "rteflow"}, {"rpc/x", "capture"}, {"rpc/x", "dpservice/flow"},
	{"rpc/x", "dpservice/daemon"}, {"rpc/x", "dpservice/port/dpdk"}, {"rpc/x", "tools/y"},
	{"tools/dpctl", "rpc/server"}, {"tools/dpctl", "dpservice/port"}, {"tools/dpctl", "capture"}, {"tools/dpctl", "graph"},
	{"dpservice/explain", "rpc/api"}, {"dpservice/manual", "graph"}, {"capture/receive", "graph"},
	{"tools/fleet/x", "rpc/server"}, {"tools/fleet/x", "graph"}, {"tools/fleet/x", "capture"},
	{"tools/fleet/x", "dpservice/port"}, {"tools/fleet/x", "tools/dpctl"},
}

func TestLinterKnowsTheLayers(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	// The linter must not take folders above the module for layers.
	module := filepath.Join(t.TempDir(), "dpservice/rpc/capture/cgo/graph/main")
	write(t, filepath.Join(module, "go.mod"), "module dpservice\n\ngo 1.24\n")
	config, err := os.ReadFile(filepath.Join(root, ".golangci.yaml"))
	require.NoError(t, err)
	write(t, filepath.Join(module, ".golangci.yaml"), string(config))

	var want []string
	for i, edge := range slices.Concat(forbidden, allowed) {
		// No edge may close a circle: the linter would look no further.
		file := filepath.Join(edge[0], fmt.Sprintf("edge%d.go", i))
		write(t, filepath.Join(module, file), fmt.Sprintf("//go:build edges\n\npackage p\n\nimport _ \"dpservice/%s\"\n",
			edge[1]))
		write(t, filepath.Join(module, edge[1], "p.go"), "package p\n")
		if i < len(forbidden) {
			want = append(want, file)
		}
	}
	assert.ElementsMatch(t, want, lint(t, root, module))
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
}

// lint returns the files of a module whose imports the linter refuses.
func lint(t *testing.T, root, module string) []string {
	t.Helper()
	cmd := exec.Command(filepath.Join(root, "build/bin/golangci-lint"), "run", "--enable-only=depguard",
		"--allow-parallel-runners",
		"--build-tags=edges", "--max-same-issues=0", "--max-issues-per-linter=0", "--output.json.path=stdout")
	cmd.Dir = module
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output() // an error says that there are issues, too
	var report struct {
		Issues []struct {
			Text string
			Pos  struct{ Filename string }
		}
	}
	require.NoError(t, json.NewDecoder(bytes.NewReader(out)).Decode(&report), "%v: %s", err, &stderr)
	var files []string
	for _, issue := range report.Issues {
		assert.Contains(t, issue.Text, "is not allowed from list", issue.Pos.Filename)
		files = append(files, issue.Pos.Filename)
	}
	return files
}
