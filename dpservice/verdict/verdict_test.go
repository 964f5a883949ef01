// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
)

// Each node at which packets end says what that means: those of the reasons, and those of the drawing, which a test
// compares with the graph.
func TestEveryEndHasWords(t *testing.T) {
	for r := range wire.NumDropReasons {
		assert.NotEmpty(t, reasons["drop_"+r.String()], r)
	}
	drawing, err := os.ReadFile("../../docs/graph.svg")
	require.NoError(t, err)
	nodes := regexp.MustCompile(`\b(drop|icmp)_\w+`).FindAllString(string(drawing), -1)
	assert.NotEmpty(t, nodes)
	for _, node := range nodes {
		assert.NotEmpty(t, reasons[node], node)
	}
}

func TestEnd(t *testing.T) {
	assert.Equal(t, "dropped: the port did not take it (drop_tx)", End("drop_tx"))
	assert.True(t, strings.HasPrefix(End("icmp_no_route"), "answered with an ICMP error: there is no route"))
	assert.True(t, strings.HasPrefix(End("punt"), "left to the slow path"))
	assert.Empty(t, End("encap"))
}
