// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/report"
)

func TestLinesAreAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	t.Setenv("DPSERVICE_TEST_REPORT", path)
	report.Printf(t, "first: %d tried", 3)
	report.Printf(t, "second")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "first: 3 tried\nsecond\n", string(text))
}

func TestWithoutAFileItOnlyPrints(t *testing.T) {
	t.Setenv("DPSERVICE_TEST_REPORT", "")
	report.Printf(t, "printed only")
}
