// SPDX-License-Identifier: Apache-2.0

package nicgroup

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestName(t *testing.T) {
	for group, want := range map[Group]string{
		Default: "DEFAULT", Capture: "CAPTURE", VNET: "VNET", Software: "SOFTWARE", Decapsulated: "DECAPSULATED",
		5: "", 15: "", Delivery(0): "DELIVERY to port 0", Delivery(7): "DELIVERY to port 7",
	} {
		assert.Equal(t, want, group.Name())
	}
}

func TestString(t *testing.T) {
	for group, want := range map[Group]string{
		Default: "0 DEFAULT", VNET: "2 VNET", 5: "5", Delivery(2): "18 DELIVERY to port 2",
	} {
		assert.Equal(t, want, group.String())
	}
}
