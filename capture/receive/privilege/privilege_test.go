// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLookup(t *testing.T) {
	byName, err := Lookup("nobody")
	require.NoError(t, err)
	assert.Equal(t, "nobody", byName.Name)
	assert.NotZero(t, byName.UID)
	byNumber, err := Lookup("0")
	require.NoError(t, err)
	assert.Equal(t, User{"root", 0, 0}, byNumber)
	_, err = Lookup("nobody-of-this-name")
	require.Error(t, err)
}

// As gives the rights of another user to one function, only while it runs. Drop is tested with dpctl, since it cannot
// be undone.
func TestAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	assert.True(t, MayBecomeOthers())
	nobody, err := Lookup("nobody")
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "privilege") // t.TempDir is in a directory that only root can enter
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	create := func() error { return os.WriteFile(file, nil, 0o600) }
	require.ErrorIs(t, As(nobody, create), os.ErrPermission)
	require.NoError(t, os.Chmod(dir, 0o777))
	require.NoError(t, As(nobody, create))
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.EqualValues(t, nobody.UID, info.Sys().(*syscall.Stat_t).Uid)
	assert.EqualValues(t, nobody.GID, info.Sys().(*syscall.Stat_t).Gid)

	require.NoError(t, os.Chmod(dir, 0o700))
	for range 100 { // on various threads
		require.NoError(t, create())
		require.ErrorIs(t, As(nobody, create), os.ErrPermission)
	}
}
