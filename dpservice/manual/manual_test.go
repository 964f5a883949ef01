// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func program() *cobra.Command {
	root := &cobra.Command{Use: "program", Short: "Do things", Long: "Do things well."}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		&cobra.Command{Use: "part", Short: "Do one thing", Example: "  program part", Run: func(*cobra.Command, []string) {}},
		Command("8"),
	)
	return root
}

func TestPageForEachCommand(t *testing.T) {
	dir := t.TempDir()
	root := program()
	root.SetArgs([]string{"man", dir})
	require.NoError(t, root.Execute())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	assert.Equal(t, []string{"program-part.8", "program.8"}, names, "none for hidden commands")
	page, err := os.ReadFile(filepath.Join(dir, "program-part.8"))
	require.NoError(t, err)
	assert.Contains(t, string(page), "program part")
	assert.Contains(t, string(page), "Do one thing")
}

func TestNoFolder(t *testing.T) {
	root := program()
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetArgs([]string{"man", filepath.Join(t.TempDir(), "missing")})
	assert.ErrorIs(t, root.Execute(), os.ErrNotExist)
}
