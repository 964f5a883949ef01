// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"dpservice/tools/fleet/test/cluster"
)

// capture returns a PacketCapture whose spec is this YAML, in one line.
func capture(t *testing.T, name, spec string) *unstructured.Unstructured {
	t.Helper()
	var content map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(spec), &content), spec)
	u := &unstructured.Unstructured{Object: map[string]any{"spec": content}}
	u.SetAPIVersion("dpservice.dev/v1alpha1")
	u.SetKind("PacketCapture")
	u.SetName(name)
	return u
}

// valid is a spec that tests change.
const valid = `{targets: {vni: 100}, sink: {address: "fc00:99::1", port: 3010}}`

func TestTheServerTakesOnlyValidCaptures(t *testing.T) {
	c := cluster.Start(t).Client(t)
	for _, spec := range []string{
		valid,
		`{targets: {interfaces: [vm-1, a_b.c]}, sink: {collector: default}}`,
		`{targets: {all: true, pf0: true}, sink: {collector: default}, direction: both, encap: vxlan}`,
		`{targets: {pf0: true}, nodes: {names: [hv1], matchLabels: {rack: r1}}, sink: {collector: default}}`,
		`{targets: {vni: 1, pf0: true}, drops: true, direction: none, sink: {collector: default}}`,
		`{targets: {vni: 16777215}, duration: 1h30m, filter: tcp port 443, sink: {collector: default}}`,
		`{targets: {vni: 1}, startTime: "2026-01-01T00:00:00Z", endTime: "2026-01-01T00:00:01Z", sink: {collector: default}}`,
		`{targets: {vni: 1}, limits: {packets: 1, bytes: 1, packetsPerSecond: 1}, sink: {collector: default}}`,
	} {
		assert.NoError(t, c.Create(t.Context(), capture(t, "valid", spec)), spec)
		require.NoError(t, c.Delete(t.Context(), capture(t, "valid", spec)))
	}

	// Each is refused by the rule that is meant for it, and by that one only.
	for spec, refusal := range map[string]string{
		`{sink: {collector: a}}`:                                                                                        "spec.targets: Required",
		`{targets: {}, sink: {collector: a}}`:                                                                           "nothing is selected",
		`{targets: {all: false}, sink: {collector: a}}`:                                                                 "nothing is selected",
		`{targets: {all: true, vni: 1}, sink: {collector: a}}`:                                                          "all excludes vni",
		`{targets: {vni: 0}, sink: {collector: a}}`:                                                                     "spec.targets.vni: Invalid value: 0",
		`{targets: {vni: 16777216}, sink: {collector: a}}`:                                                              "spec.targets.vni: Invalid value: 16777216",
		`{targets: {interfaces: []}, sink: {collector: a}}`:                                                             "should have at least 1 items",
		`{targets: {interfaces: [a, a]}, sink: {collector: a}}`:                                                         "Duplicate value",
		`{targets: {interfaces: ["a b"]}, sink: {collector: a}}`:                                                        "spec.targets.interfaces[0]",
		`{targets: {pf0: true}, direction: tx, sink: {collector: a}}`:                                                   "what leaves by pf0",
		`{targets: {vni: 1}, direction: up, sink: {collector: a}}`:                                                      `Unsupported value: "up"`,
		`{targets: {vni: 1}, direction: none, sink: {collector: a}}`:                                                    "nothing is captured",
		`{targets: {vni: 1}, drops: false, direction: none, sink: {collector: a}}`:                                      "nothing is captured",
		`{targets: {vni: 1}, encap: gre, sink: {collector: a}}`:                                                         `Unsupported value: "gre"`,
		`{targets: {vni: 1}, nodes: {}, sink: {collector: a}}`:                                                          "no node is selected",
		`{targets: {vni: 1}, duration: 0s, sink: {collector: a}}`:                                                       "duration is zero",
		`{targets: {vni: 1}, duration: 1s, endTime: "2026-01-01T00:00:00Z", sink: {collector: a}}`:                      "exclude each other",
		`{targets: {vni: 1}, startTime: "2026-01-01T00:00:00Z", endTime: "2026-01-01T00:00:00Z", sink: {collector: a}}`: "endTime is not after",
		`{targets: {vni: 1}, limits: {packets: -1}, sink: {collector: a}}`:                                              "spec.limits.packets",
		`{targets: {vni: 1}, sink: {}}`:                                                                                 "want either address",
		`{targets: {vni: 1}, sink: {collector: a, address: "fc00::1", port: 1}}`:                                        "want either address",
		`{targets: {vni: 1}, sink: {collector: a, port: 1}}`:                                                            "port goes with address",
		`{targets: {vni: 1}, sink: {address: "fc00::1"}}`:                                                               "port goes with address",
		`{targets: {vni: 1}, sink: {address: "fc00::1", port: 65536}}`:                                                  "spec.sink.port",
		`{targets: {vni: 1}, sink: {address: "10.0.0.1", port: 1}}`:                                                     "want a unicast IPv6 address",
		`{targets: {vni: 1}, sink: {address: "::1", port: 1}}`:                                                          "want a unicast IPv6 address",
		`{targets: {vni: 1}, sink: {address: "fe80::1", port: 1}}`:                                                      "want a unicast IPv6 address",
		`{targets: {vni: 1}, sink: {address: "ff0e::1", port: 1}}`:                                                      "want a unicast IPv6 address",
		`{targets: {vni: 1}, sink: {address: "sink", port: 1}}`:                                                         "want a unicast IPv6 address",
		`{targets: {vni: 1}, sink: {collector: A_b}}`:                                                                   "spec.sink.collector",
		`{targets: {vni: 1}, filter: "` + strings.Repeat("a", 1025) + `", sink: {collector: a}}`:                        "spec.filter",
	} {
		err := c.Create(t.Context(), capture(t, "invalid", spec))
		if assert.Error(t, err, spec) {
			assert.Contains(t, err.Error(), refusal, spec)
			assert.NotContains(t, err.Error(), ", spec.", "%s is refused by more than one rule: %s", spec, err)
		}
	}
	err := c.Create(t.Context(), capture(t, "invalid", `{targets: {vni: 1}, duration: -1s, sink: {collector: a}}`))
	assert.ErrorContains(t, err, "spec.duration in body should match")
	err = c.Create(t.Context(), capture(t, strings.Repeat("a", 64), valid))
	assert.ErrorContains(t, err, "more than 63 characters")
}

// A person sees at a glance what a capture does.
func TestColumns(t *testing.T) {
	c := cluster.Start(t)
	text, err := yaml.Marshal(capture(t, "tenant-a", valid))
	require.NoError(t, err)
	out, err := c.Kubectl(t, strings.NewReader(string(text)), "apply", "--validate=false", "-f", "-")
	require.NoError(t, err, out)
	out, err = c.Kubectl(t, nil, "get", "packetcaptures")
	require.NoError(t, err, out)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2, out)
	assert.Equal(t, []string{"NAME", "STATE", "NODES", "ACTIVE", "FAILED", "PACKETS", "VNI", "AGE"},
		strings.Fields(lines[0]))
	assert.Contains(t, lines[1], "tenant-a")
	assert.Contains(t, lines[1], " 100 ")
}

// What controller-gen makes of the types is what is committed.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("go", "tool", "controller-gen", "object", "paths=.", "crd:crdVersions=v1",
		"output:object:dir="+dir, "output:crd:dir="+dir).CombinedOutput()
	require.NoError(t, err, string(out))
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, made, 4)
	for _, file := range made {
		committed := filepath.Join("../../../../deploy/fleet/crd", filepath.Base(file))
		if filepath.Ext(file) == ".go" {
			committed = filepath.Base(file)
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		is, err := os.ReadFile(committed)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(is), "%s: go generate ./...", committed)
	}
}

// The manifests of docs/fleet.md are valid.
func TestTheDocumentsManifests(t *testing.T) {
	c := cluster.Start(t)
	text, err := os.ReadFile("../../../../docs/fleet.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	require.Len(t, blocks, 2)
	for _, b := range blocks {
		out, err := c.Kubectl(t, bytes.NewReader(b[1]), "apply", "--validate=false", "-f", "-")
		assert.NoError(t, err, out)
		assert.Contains(t, out, "created")
	}
}
