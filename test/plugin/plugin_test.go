// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInstallCopiesIntoAPrivateFolder(t *testing.T) {
	source := filepath.Join(t.TempDir(), "some.so")
	require.NoError(t, os.WriteFile(source, []byte("driver"), 0o600))
	t.Setenv("DPSERVICE_PLUGIN", source)

	path, remove, err := Install()
	require.NoError(t, err)
	copied, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "driver", string(copied))
	info, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	require.NoError(t, remove())
	assert.NoDirExists(t, filepath.Dir(path))
}

func TestInstallLeavesNothingBehindOnError(t *testing.T) {
	before, err := filepath.Glob("/run/dpservice-plugin-*")
	require.NoError(t, err)
	t.Setenv("DPSERVICE_PLUGIN", "/does/not/exist.so")
	_, _, err = Install()
	require.ErrorIs(t, err, os.ErrNotExist)
	after, err := filepath.Glob("/run/dpservice-plugin-*")
	require.NoError(t, err)
	assert.Subset(t, before, after)
}

func TestSourceNamesWhatToDo(t *testing.T) {
	t.Setenv("DPSERVICE_PLUGIN", "")
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), nil, 0o600))
	inner := filepath.Join(root, "a", "b")
	require.NoError(t, os.MkdirAll(inner, 0o700))
	t.Chdir(inner)
	_, err := Source()
	require.ErrorContains(t, err, "run `make build`, or set DPSERVICE_PLUGIN")

	require.NoError(t, os.Mkdir(filepath.Join(root, "build"), 0o700))
	want := filepath.Join(root, "build", name)
	require.NoError(t, os.WriteFile(want, nil, 0o600))
	path, err := Source()
	require.NoError(t, err)
	assert.Equal(t, want, path)
}
