// SPDX-License-Identifier: Apache-2.0

package nicgroup

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestName(t *testing.T) {
	for group, want := range map[uint32]string{
		Default: "DEFAULT", Capture: "CAPTURE", VNET: "VNET", Software: "SOFTWARE", Decapsulated: "DECAPSULATED",
		5: "", 15: "", Delivery(0): "DELIVERY to port 0", Delivery(7): "DELIVERY to port 7",
	} {
		assert.Equal(t, want, Name(group))
	}
}
