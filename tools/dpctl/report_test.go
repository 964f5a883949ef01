// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/rpc/server/servertest"
)

// unpack returns the files of a report.
func unpack(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	gz, err := gzip.NewReader(archive)
	require.NoError(t, err)
	files := map[string]string{}
	for r := tar.NewReader(gz); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		files[filepath.Base(header.Name)] = string(text)
	}
}

func TestReport(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	dir := t.TempDir()
	path := filepath.Join(dir, "report.tar.gz")
	var out, errs bytes.Buffer
	require.Zero(t, run([]string{"--socket", socket, "system", "report", "-o", path}, &out, &errs), errs.String())
	assert.Equal(t, path+"\n", out.String())
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	files := unpack(t, f)
	for _, p := range plain {
		assert.Contains(t, files, p.file)
	}
	assert.Contains(t, files["system.json"], `"version": "1.2.3"`)
	assert.Contains(t, files["graph.dot"], "digraph")
	assert.Contains(t, files["configuration.yaml"], "offload: true")
	assert.Contains(t, files["check.txt"], "failed   hugepages      there are none\n                          do: reserve some\n")
	assert.Contains(t, files["log.txt"], "dpservice is up\n")
	assert.Regexp(t, `vm-1 +guest +tcp +deliver +established +true +1 +1200 +1800000`, files["flows.txt"])
	assert.NotContains(t, files, "errors.txt")

	out.Reset()
	require.Zero(t, run([]string{"--socket", socket, "system", "report", "-o", "-"}, &out, &errs), errs.String())
	assert.Len(t, unpack(t, &out), len(files), "on the standard output")
}

// What the daemon does not tell is named, and the rest is there.
func TestIncompleteReport(t *testing.T) {
	fake := servertest.New()
	fake.Err = fault.New(fault.NotSupported, "", "not today")
	socket := servertest.Start(t, fake.Services())
	path := filepath.Join(t.TempDir(), "report.tar.gz")
	var out, errs bytes.Buffer
	assert.Equal(t, exitRefused, run([]string{"--socket", socket, "system", "report", "-o", path}, &out, &errs))
	assert.Contains(t, errs.String(), "the report is not complete:\n  flows.txt: not today")
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	files := unpack(t, f)
	assert.Contains(t, files["errors.txt"], "flows.txt: not today")
	assert.Contains(t, files, "system.json")
}

// Without a daemon, or where nothing can be written, no file is left.
func TestNoReport(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.tar.gz")
	var out, errs bytes.Buffer
	assert.Equal(t, exitNoDaemon, run([]string{"--socket", filepath.Join(dir, "s"), "system", "report", "-o", path}, &out, &errs))
	require.NoError(t, os.Mkdir(path, 0o700))
	socket := servertest.Start(t, servertest.New().Services())
	assert.Equal(t, exitRefused, run([]string{"--socket", socket, "system", "report", "-o", path}, &out, &errs))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}
