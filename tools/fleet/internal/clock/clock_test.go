// SPDX-License-Identifier: Apache-2.0

package clock

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNow(t *testing.T) {
	c := Now()
	require.NotNil(t, c, "every process may ask")
	assert.GreaterOrEqual(t, c.MaxErrorMicroseconds, int64(0))
}
