// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
)

// sample is the file that packages install.
const sample = "../../tools/package/files/dpservice.yaml"

// deployed is the one that the manifests for Kubernetes bring; each node's address comes from outside.
const deployed = "../../deploy/kustomize/dpservice.yaml"

func TestDeployedConfiguration(t *testing.T) {
	text, err := os.ReadFile(deployed)
	require.NoError(t, err)
	cfg, err := run(t, string(text), nil, map[string]string{"DPSERVICE_UNDERLAY_IP": "fc00:7::1"})
	require.NoError(t, err)
	assert.Equal(t, "fc00:7::1", cfg.Underlay.IP.String())
}

// keys returns the dotted keys of a section, such as flows.timeouts.udp.
func keys(section reflect.Type, prefix string) []string {
	var all []string
	for i := range section.NumField() {
		field := section.Field(i)
		key := prefix + field.Tag.Get("yaml")
		if isSection(field.Type) {
			all = append(all, keys(field.Type, key+".")...)
		} else {
			all = append(all, key)
		}
	}
	return all
}

func keysOf(tree map[string]any, prefix string) []string {
	var all []string
	for key, value := range tree {
		if section, ok := value.(map[string]any); ok {
			all = append(all, keysOf(section, prefix+key+".")...)
		} else {
			all = append(all, prefix+key)
		}
	}
	return all
}

// TestSampleHasEveryKey takes the number signs away before the keys of the sample: then it has each of them, with its
// default.
func TestSampleHasEveryKey(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	whole := regexp.MustCompile(`(?m)^( *)#(\w+:)`).ReplaceAllString(string(text), "$1$2")

	var tree map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(whole), &tree))
	assert.ElementsMatch(t, keys(reflect.TypeFor[Config](), ""), keysOf(tree, ""))

	var cfg Config
	require.NoError(t, parse([]byte(whole), &cfg))
	require.NoError(t, cfg.validate())
	want := Default()
	want.EAL, want.Ports, want.Underlay.IP, want.Metrics = cfg.EAL, cfg.Ports, cfg.Underlay.IP, cfg.Metrics // examples
	want.State, want.Access, want.Audit = cfg.State, cfg.Access, cfg.Audit
	want.Socket = api.DefaultSocket // which the program fills in
	for _, empty := range []any{cfg.Underlay.UncheckedVNIs, cfg.Guests.DNS} {
		assert.Empty(t, empty)
	}
	cfg.Underlay.UncheckedVNIs, cfg.Guests.DNS = nil, nil
	assert.Equal(t, want, cfg)
}

// The text of a configuration, read again, is the same configuration.
func TestText(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	whole := regexp.MustCompile(`(?m)^( *)#(\w+:)`).ReplaceAllString(string(text), "$1$2")
	cfg := Default()
	require.NoError(t, parse([]byte(whole), &cfg))
	written, err := cfg.Text()
	require.NoError(t, err)
	var again Config
	require.NoError(t, parse([]byte(written), &again), written)
	assert.Empty(t, Changed(cfg, again), written)

	written, err = Default().Text()
	require.NoError(t, err)
	assert.Contains(t, written, "access: null\n")
}

// Each key of the sample has a comment above it, or above the keys that it is one of.
func TestSampleIsCommented(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	commented := false
	for i, line := range strings.Split(string(text), "\n") {
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(trimmed, "# "):
			commented = true
		case trimmed == "":
			commented = false
		default:
			assert.True(t, commented, "line %d: %s", i+1, line)
		}
	}
}

// As it is installed the sample says nothing, so that what is missing is named.
func TestSampleAsInstalled(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	_, err = run(t, string(text), nil, nil)
	require.ErrorContains(t, err, "ports.pf0 is missing")
	assert.ErrorContains(t, err, "underlay.ip")
}
