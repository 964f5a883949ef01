// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/port"
)

// docs/configuration.md has a line for every setting.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	for _, s := range settings {
		assert.Contains(t, string(text), "| `--"+s.flag+"` |")
	}
}

// The file in docs/connectx.md loads, names the ports as net_mlx5 does, has buffers for all of their queues, and every
// argument of its devices is explained.
func TestConnectXFile(t *testing.T) {
	doc, err := os.ReadFile("../../docs/connectx.md")
	require.NoError(t, err)
	file := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(doc)
	require.NotNil(t, file, "docs/connectx.md has no configuration file")
	cfg, err := run(t, string(file[1]), nil, nil)
	require.NoError(t, err)

	devices := map[string][]string{} // arguments by PCI address
	for i, arg := range cfg.EAL[:len(cfg.EAL)-1] {
		if arg == "-a" {
			address, args, _ := strings.Cut(cfg.EAL[i+1], ",")
			devices[address] = strings.Split(args, ",")
		}
	}
	require.Len(t, devices, 2)
	for _, args := range devices {
		for _, arg := range args {
			assert.Contains(t, string(doc), "| `"+arg+"` |")
		}
	}

	assert.Contains(t, devices, cfg.Ports.PF0)
	assert.Contains(t, devices, cfg.Ports.PF1)
	require.Len(t, cfg.Ports.VFs, 1)
	match, err := path.Match(cfg.Ports.VFs[0], cfg.Ports.PF0+"_representor_vf15")
	require.NoError(t, err)
	assert.True(t, match)

	assert.True(t, cfg.Offload)
	assert.Contains(t, devices[cfg.Ports.PF0], "representor=vf[0-15]")
	lcores := cfg.EAL[slices.Index(cfg.EAL, "-l")+1]
	const ports = 2 + 16
	workers := strings.Count(lcores, ",") // the first lcore is for control
	assert.Greater(t, cfg.Mbufs, ports*workers*2*port.Descriptors)
}
