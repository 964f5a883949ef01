// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"dpservice/dpservice/fence"
	"dpservice/graph"
)

// A frame that makes the slow path panic does not keep the others from being handled.
func TestAFrameThatPanics(t *testing.T) {
	punts := make(chan graph.Punt, 3)
	for _, frame := range []string{"a", "bad", "b"} {
		punts <- graph.Punt{Port: 7, Frame: []byte(frame)}
	}
	close(punts)
	f := fence.New(slog.New(slog.DiscardHandler))
	var handled []string
	handlePunts(t.Context(), punts, f, func(port uint16, frame []byte) {
		assert.Equal(t, uint16(7), port)
		_ = frame[:2-len(frame)] // fails for the long one
		handled = append(handled, string(frame))
	})
	assert.Equal(t, []string{"a", "b"}, handled)
	assert.Equal(t, map[string]uint64{"slow_path_frames": 1}, f.Panics())
}
