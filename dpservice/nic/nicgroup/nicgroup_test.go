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
		CaptureTX(0): "CAPTURE TX at port 0", CaptureTX(65535): "CAPTURE TX at port 65535",
	} {
		assert.Equal(t, want, group.Name())
		assert.Equal(t, group >= Delivery(0), group.OfAllPorts())
	}
}

func TestString(t *testing.T) {
	for group, want := range map[Group]string{
		Default: "0 DEFAULT", VNET: "2 VNET", 5: "5", Delivery(2): "20 DELIVERY to port 2",
	} {
		assert.Equal(t, want, group.String())
	}
}
