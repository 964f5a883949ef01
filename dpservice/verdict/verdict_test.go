// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"dpservice/wire"
)

// A reason to drop that the graph gains says what it means.
func TestEveryReasonHasWords(t *testing.T) {
	for r := range wire.NumDropReasons {
		assert.NotEmpty(t, reasons["drop_"+r.String()], r)
	}
}

func TestEnd(t *testing.T) {
	assert.Equal(t, "dropped: the port did not take it (drop_tx)", End("drop_tx"))
	assert.True(t, strings.HasPrefix(End("icmp_no_route"), "answered with an ICMP error: there is no route"))
	assert.True(t, strings.HasPrefix(End("punt"), "left to the slow path"))
	assert.Empty(t, End("encap"))
}
