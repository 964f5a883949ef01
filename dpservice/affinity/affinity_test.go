// SPDX-License-Identifier: Apache-2.0

package affinity

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLeave(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &before))
	last := -1
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			last = cpu
		}
	}
	defer func() { require.NoError(t, unix.SchedSetaffinity(0, &before)) }()

	require.NoError(t, Leave([]int{last}))
	require.NoError(t, unix.SchedGetaffinity(0, &after))
	if before.Count() > 1 {
		assert.False(t, after.IsSet(last))
		assert.Equal(t, before.Count()-1, after.Count())
	}

	var only unix.CPUSet
	only.Set(last)
	require.NoError(t, unix.SchedSetaffinity(0, &only))
	require.NoError(t, Leave([]int{last}))
	require.NoError(t, unix.SchedGetaffinity(0, &after))
	assert.Equal(t, only, after, "a thread that has no other CPU stays")
}
