// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := New(slog.New(slog.NewTextHandler(&log, nil)))
		assert.NoError(t, f.Do("a", func() {}))
		assert.Empty(t, f.Panics())
		for range 3 {
			err := f.Do("a", func() { _ = []int{}[len(log.Bytes())+1] })
			assert.ErrorContains(t, err, "a panicked: runtime error: index out of range")
		}
		assert.EqualError(t, f.Do("b", func() { panic("why") }), "b panicked: why")
		assert.Equal(t, map[string]uint64{"a": 3, "b": 1}, f.Panics())
		assert.Equal(t, 2, strings.Count(log.String(), "goes on"), "each part once")
		assert.Contains(t, log.String(), "fence_test.go", "where it was")

		time.Sleep(logPeriod)
		assert.Error(t, f.Do("a", func() { panic(1) }))
		assert.Contains(t, log.String(), "count=4")
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(slog.New(slog.DiscardHandler))
		begun, runs := time.Now(), 0
		f.Run(t.Context(), "a", func(context.Context) {
			if runs++; runs < 3 {
				panic(runs)
			}
		})
		assert.Equal(t, 3, runs)
		assert.Equal(t, 2*pause, time.Since(begun))

		ctx, cancel := context.WithCancel(t.Context())
		f.Run(ctx, "b", func(context.Context) { cancel(); panic("last") })
		assert.Equal(t, map[string]uint64{"a": 2, "b": 1}, f.Panics())
	})
}
