// SPDX-License-Identifier: Apache-2.0

// Package docs tests what the documents say of the tree.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

var (
	link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	code = regexp.MustCompile("`([^`\n]+)`")
	// inTree is a path from the root of the tree on: capture/, docs/capture.md.
	inTree = regexp.MustCompile(`^(capture|cgo|docs|dpservice|graph|rpc|rteflow|test|tools|wire)(/[\w.]+)*/?$`)
)

// Each file that a document links to is there, and each path that it names between backticks.
func TestPaths(t *testing.T) {
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"} {
		documents = append(documents, filepath.Join(root, name))
	}
	links, paths := 0, 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
				assert.FileExists(t, filepath.Join(filepath.Dir(document), m[1]), "a link of %s", document)
				links++
			}
		}
		for _, m := range code.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "/") && inTree.MatchString(m[1]) {
				_, err := os.Stat(filepath.Join(root, m[1]))
				assert.NoError(t, err, "%s names it", document)
				paths++
			}
		}
	}
	assert.Greater(t, links, 20, "links were found")
	assert.Greater(t, paths, 20, "paths were found")
}
