// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"dpservice/graph"
	"dpservice/wire"
)

// LabelOf returns the label of the packets on one side of a port. Two ports of a node never share a label, a port
// always has the same two, and none is 0.
func LabelOf(port uint16, side graph.TapSide) wire.Label {
	if side == graph.TapTX {
		return wire.LabelTX | (wire.Label(port) + 1)
	}
	return wire.Label(port) + 1
}
