// SPDX-License-Identifier: Apache-2.0

// Package docs tests what the documents say of the tree.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	inTree = regexp.MustCompile(`^(capture|cgo|deploy|docs|dpservice|graph|rpc|rteflow|test|tools|wire)(/[\w.]+)*/?$`)
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

// The architecture names each folder with code, or one that the folder is in.
func TestArchitectureNamesEveryFolder(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	named := map[string]bool{}
	for _, m := range code.FindAllStringSubmatch(string(text), -1) {
		if folder, ok := strings.CutSuffix(m[1], "/"); ok && inTree.MatchString(m[1]) {
			named[filepath.Join(root, folder)] = true
		}
	}
	for _, group := range []string{"dpservice", "test", "tools"} {
		assert.False(t, named[filepath.Join(root, group)], "%s has parts of many kinds", group)
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch name := e.Name(); {
		case err != nil:
			return err
		case e.IsDir() && (named[path] || name == "build" || strings.HasPrefix(name, ".git")):
			return fs.SkipDir // what is deeper is found from here
		case !e.IsDir() && slices.Contains([]string{".go", ".c"}, filepath.Ext(name)) &&
			path != filepath.Join(root, "dpservice", "main.go"):
			assert.Fail(t, "a folder that docs/architecture.md does not name", filepath.Dir(path))
		}
		return nil
	}))
	assert.Greater(t, len(named), 50, "folders were found")
}
