// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseNIC(t *testing.T) {
	got, err := parseNIC("    10 rules,     10 peers: 425351 creates/s, 165.6 ns a packet,  6.04 million packets/s\n" +
		"100000 rules,    256 peers:  90000 creates/s, 1305.1 ns a packet, 0.77 million packets/s\n")
	require.NoError(t, err)
	assert.Equal(t, []nicCase{{10, 10, 165.6, 6.04}, {100_000, 256, 1305.1, 0.77}}, got)
	_, err = parseNIC("EAL: no memory")
	require.Error(t, err)
}

func TestLcores(t *testing.T) {
	assert.Equal(t, "0-2", (&scaling{CPUs: 3}).lcores(2), "a CPU for each")
	assert.Equal(t, "0@0,1@0,2@1", (&scaling{CPUs: 2}).lcores(2), "the control shares one")
	assert.Equal(t, "0-1", (&scaling{CPUs: 2}).lcores(1))
}

func TestLatency(t *testing.T) {
	var times []time.Duration
	for ms := range 101 {
		times = append(times, time.Duration(100-ms)*time.Millisecond)
	}
	assert.Equal(t, latency{Calls: 101, Median: 50, P99: 99}, latencyOf(times))
	assert.Equal(t, latency{Calls: 1, Median: 2, P99: 2}, latencyOf([]time.Duration{2 * time.Millisecond}))
}

// If the control side keeps up, the NIC forwards nearly all packets of large flows. Otherwise the software does.
func TestSimulation(t *testing.T) {
	at := func(c controlSpeed, rate int) *simulatedMix {
		m := &simulatedMix{Rate: rate, MaxRules: c.maxRules, sizes: mixes[0].sizes, control: c, seconds: 2}
		m.play(rand.New(rand.NewPCG(1, 2)))
		return m
	}
	slow, fast, small := controls[1], controls[3], controls[2]
	assert.Greater(t, at(fast, 50_000).InNIC, 0.99)
	assert.Less(t, at(slow, 50_000).InNIC, 0.2)
	assert.Greater(t, at(slow, 50_000).Waiting, 80_000)
	assert.InDelta(t, 1, at(slow, 50_000).CPU, 0.01)
	full := at(small, 50_000)
	assert.Equal(t, small.maxRules, full.Rules)
	assert.InDelta(t, 1-float64(small.maxRules)/100_000, full.Refused, 0.05)
	assert.Equal(t, at(fast, 1000), at(fast, 1000), "the same flows each time")
}

// A short run of the program, so that it does not break unnoticed.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	figuresFile := filepath.Join(dir, "bench.json")
	for _, program := range []string{"tools/bench", "tools/dpctl", "dpservice"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "dpservice/"+program)
		if program == "tools/dpctl" {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does: with cgo it cannot drop privileges
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), "-rules", "1000", "-turns", "1",
		"-repetitions", "1", "-goal", "0",
		"-sizes", "64", "-flows", "10", "-frames", "1000", "-time", "100ms", "-many", "5000", "-offloads", "500", "-captured",
		"500", "-simulated", "1s",
		"-sink-time", "50ms", "-sink-share", "0.5", "-o", figuresFile).CombinedOutput()
	require.NoError(t, err, string(out))
	text, err := os.ReadFile(figuresFile)
	require.NoError(t, err)
	var f figures
	require.NoError(t, json.Unmarshal(text, &f))
	require.Len(t, f.Rules.Shapes, len(forms))
	for _, s := range f.Rules.Shapes {
		require.Len(t, s.Ways, 4)
		for _, w := range s.Ways {
			assert.Len(t, w.Rates, 1)
			assert.Positive(t, w.Ratio, w.Way)
		}
	}
	require.Len(t, f.NIC.Cases, 6)
	require.Len(t, f.Workers.Cases, len(paths))
	for _, c := range f.Workers.Cases {
		assert.Positive(t, c.Ratio, c.Path)
	}
	for i, rules := range []int{10, 1000, 100_000, 10, 1000, 100_000} {
		assert.Equal(t, rules, f.NIC.Cases[i].Rules)
		assert.Positive(t, f.NIC.Cases[i].Nanoseconds)
		assert.Positive(t, f.NIC.Cases[i].Millions)
	}
	require.Len(t, f.Forwarding.Cases, 2*len(paths))
	for _, c := range f.Forwarding.Cases {
		assert.Positive(t, c.Ratio, "%+v", c)
		assert.Positive(t, c.Nodes["flow_lookup"], "%+v", c)
		assert.InDelta(t, c.Median, c.Cycles[0], 0)
	}
	require.Len(t, f.Receive.Cases, 1)
	for _, c := range f.Receive.Cases {
		assert.Equal(t, 60, c.FrameSize)
		require.Len(t, c.Receivers, 3)
		for _, r := range c.Receivers {
			assert.Positive(t, r.Median, r.Name)
			assert.Positive(t, r.MedianCPU, r.Name)
		}
		assert.Positive(t, c.Ratio)
		assert.Positive(t, c.CPURatio)
	}
	require.Len(t, f.RPC.Latency, len(rpcMethods)+1)
	for method, l := range f.RPC.Latency {
		assert.Positive(t, l.Median, method)
		assert.GreaterOrEqual(t, l.P99, l.Median, method)
	}
	assert.Positive(t, f.RPC.Median)
	assert.Positive(t, f.RPC.Paced.Median)
	assert.Positive(t, f.RPC.Ratio)
	for name, figure := range map[string]float64{
		"start": f.Control.Startup, "idle": float64(f.Control.Idle), "new flows": f.Control.NewRate,
		"page":     f.Control.Page.Median,
		"filtered": f.Control.Filtered.Median, "offloads": f.Offload.Rate, "one offload": f.Offload.Latency.Median,
		"capture": f.Control.Capture.Start, "status": f.Control.Capture.Status.P99,
		"beside a quiet neighbour": f.Neighbour.Quiet, "beside a flood": f.Neighbour.Beside,
	} {
		assert.Positive(t, figure, name)
	}
	require.Len(t, f.Offload.Changes, len(changes))
	for _, c := range f.Offload.Changes {
		assert.Positive(t, c.Best, c.What)
		assert.Len(t, c.Meanwhile, len(meanwhileMethods), c.What)
	}
	for _, c := range f.Simulation.Cases {
		assert.Positive(t, c.InNIC, "%+v", c)
		assert.Positive(t, c.CPU, "%+v", c)
	}
	picture, err := os.ReadFile(filepath.Join(dir, "bench.svg"))
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(picture, new(struct {
		Rows []struct{} `xml:"g"`
	})))
	assert.Contains(t, string(picture), "PF0 to VF, 64 bytes, 10 flows")
}
