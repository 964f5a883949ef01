// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLayDatabase(t *testing.T) {
	source, dir := t.TempDir(), filepath.Join(t.TempDir(), "db")
	for id, text := range map[string]string{
		"GO-1": `{"id":"GO-1","modified":"2026-01-02T03:04:05Z","affected":[{"package":{"name":"b"}},{"package":{"name":"a"}},{"package":{"name":"b"}}]}`,
		"GO-2": `{"id":"GO-2","modified":"0001-01-01T00:00:00Z","affected":[{"package":{"name":"b"}}]}`,
		"GO-3": `{"id":"GO-3","withdrawn":"2026-01-02T03:04:05Z","affected":[{"package":{"name":"b"}}]}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(source, id+".json"), []byte(text), 0o600))
	}
	for range 2 { // the second in place of the first
		_, err := layDatabase(source, dir)
		require.NoError(t, err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index", "modules.json"))
	require.NoError(t, err)
	assert.JSONEq(t, `[{"path":"a","vulns":[{"id":"GO-1","modified":"2026-01-02T03:04:05Z"}]},
		{"path":"b","vulns":[{"id":"GO-1","modified":"2026-01-02T03:04:05Z"},{"id":"GO-2","modified":"0001-01-01T00:00:00Z"}]}]`, string(index))
	assert.FileExists(t, filepath.Join(dir, "ID", "GO-2.json"))
	assert.NoFileExists(t, filepath.Join(dir, "ID", "GO-3.json"))
	assert.FileExists(t, filepath.Join(dir, "index", "db.json"))

	_, err = layDatabase(t.TempDir(), dir)
	assert.ErrorContains(t, err, "no entries")
}

func TestParse(t *testing.T) {
	found, err := parse(strings.NewReader(`{"config":{"protocol_version":"v1.0.0"}}
		{"osv":{"id":"GO-1"}}
		{"finding":{"osv":"GO-1","fixed_version":"v1.2.3","trace":[{"module":"m","version":"v1.0.0"}]}}
		{"finding":{"osv":"GO-1","fixed_version":"v1.2.3","trace":[{"module":"m","version":"v1.0.0","package":"m/p","function":"F"}]}}
		{"finding":{"osv":"GO-1","fixed_version":"v1.2.3","trace":[{"module":"m","version":"v1.0.0","package":"m/p","function":"G"}]}}
		{"finding":{"osv":"GO-2","trace":[{"module":"stdlib","version":"v1.26.0","package":"net","function":"Dial"}]}}`))
	require.NoError(t, err)
	assert.Equal(t, []finding{{"GO-1", "m", "v1.0.0", "v1.2.3"}, {"GO-2", "stdlib", "v1.26.0", ""}}, found)
	_, err = parse(strings.NewReader("{"))
	assert.ErrorContains(t, err, "govulncheck's output")
}
