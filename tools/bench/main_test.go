// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3}} {
		assert.InDelta(t, tt.want, median(tt.values), 0)
	}
}

func TestTheGoal(t *testing.T) {
	s := &shape{Name: "jump", Ways: []*rates{
		{Way: flowPerf, Rates: []float64{1000, 900, 1100}}, {Way: create, Rates: []float64{950, 10, 2000}},
		{Way: batch, Rates: []float64{700, 800, 900}}, {Way: createNew, Rates: []float64{1, 1, 1}},
	}}
	s.summarize()
	b := bench{Shapes: []*shape{s}}
	require.NoError(t, b.check(0.8))
	require.EqualError(t, b.check(0.9), "jump, rteflow.CreateBatch: at 0.80 of dpdk-test-flow-perf; the goal is 0.90")

	path := filepath.Join(t.TempDir(), "bench.json")
	var table bytes.Buffer
	require.NoError(t, b.report(&table, path))
	assert.Regexp(t, `jump +rteflow.Create +1 +0 +2 +0.95\n`, table.String())
}

// A small run of the program, so that it works when it is wanted.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	program, figures := filepath.Join(dir, "bench"), filepath.Join(dir, "bench.json")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.CommandContext(t.Context(), program, "-rules", "1000", "-repetitions", "1", "-goal", "0", "-o", figures).CombinedOutput()
	require.NoError(t, err, string(out))
	text, err := os.ReadFile(figures)
	require.NoError(t, err)
	var b bench
	require.NoError(t, json.Unmarshal(text, &b))
	require.Len(t, b.Shapes, len(forms))
	for _, s := range b.Shapes {
		require.Len(t, s.Ways, 4)
		for _, w := range s.Ways {
			assert.Len(t, w.Rates, 1)
			assert.Positive(t, w.Median, w.Way)
		}
	}
}
