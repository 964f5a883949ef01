// SPDX-License-Identifier: Apache-2.0

package ethdev

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRepresentorID(t *testing.T) {
	for name, want := range map[string]int{
		"net_eswitch0_representor_vf3":          3,
		"0000:03:00.0_representor_vf17":         17,
		"0000:03:00.0_representor_c0pf1vf12":    12,
		"0000:03:00.0_representor_2":            2,
		"0000:03:00.0":                          -1,
		"net_eswitch0":                          -1,
		"x_representor_vf99999999999999999999":  -1,
		"net_eswitch0_representor_vf3_and_more": -1,
	} {
		assert.Equal(t, want, representorID(name), name)
	}
}
