// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"dpservice/graph"
	"dpservice/wire"
)

func TestLabelOf(t *testing.T) {
	for _, port := range []uint16{0, 1, 65535} {
		assert.EqualValues(t, port, LabelOf(port, graph.TapRX)-1)
		assert.Equal(t, LabelOf(port, graph.TapRX)|wire.LabelTX, LabelOf(port, graph.TapTX))
		assert.LessOrEqual(t, LabelOf(port, graph.TapTX), wire.Label(wire.MaxLabel))
	}
}
