// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
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
		{Way: flowPerf, Rates: []float64{1000, 500, 800}}, {Way: create, Rates: []float64{950, 10, 880}},
		{Way: batch, Rates: []float64{700, 800, 100}}, {Way: createNew, Rates: []float64{1, 1, 1}},
	}}
	s.summarize()
	b := rules{Shapes: []*shape{s}, goal: 0.8}
	require.NoError(t, b.check())
	b.goal = 0.9
	require.EqualError(t, b.check(), "jump, rteflow.CreateBatch: at 0.80 of dpdk-test-flow-perf; the goal is 0.90")

	var table bytes.Buffer
	require.NoError(t, b.table(&table))
	assert.Regexp(t, `jump +rteflow.Create +0 +1 +1 +0.95 +0.02-1.10, median 0.95\n`, table.String())
}
