// SPDX-License-Identifier: Apache-2.0

package eal_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
)

// EAL starts once per process, so everything about its life is one test.
func TestLife(t *testing.T) {
	require.NoError(t, eal.Cleanup(), "before Init there is nothing to do")

	args := []string{"--no-huge", "-m", "64", "--no-pci", "--file-prefix", fmt.Sprintf("eal-test-%d", os.Getpid()), "-l",
		"0,1"}
	given := append([]string(nil), args...)
	require.NoError(t, eal.Init(args))
	assert.Equal(t, given, args, "EAL permutes its arguments, not the caller's")
	assert.ErrorIs(t, eal.Init(args), eal.ErrStarted)

	assert.True(t, strings.HasPrefix(eal.Version(), "DPDK 2"), eal.Version())
	main, workers := eal.Lcores()
	assert.Equal(t, 0, main)
	assert.Equal(t, []int{1}, workers)

	for thread, blocked := range blockedSignals(t) {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGURG, syscall.SIGCHLD} {
			assert.NotZero(t, blocked&(1<<(signal-1)), "thread %s takes %v, which is Go's", thread, signal)
		}
	}
	// glibc blocks all signals in a thread for the moment in which it begins.
	assert.Eventually(t, func() bool {
		for _, blocked := range blockedSignals(t) {
			if blocked&(1<<(syscall.SIGSEGV-1)) != 0 {
				return false
			}
		}
		return true
	}, 5*time.Second, time.Millisecond, "a thread hides a crash")

	require.NoError(t, eal.Cleanup())
	require.NoError(t, eal.Cleanup())
	assert.ErrorIs(t, eal.Init(args), eal.ErrStarted)
}

// blockedSignals returns the signal masks of the threads that EAL has created. Go's own threads bear the
// process's name.
func blockedSignals(t *testing.T) map[string]uint64 {
	masks := map[string]uint64{}
	self, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	tasks, err := filepath.Glob("/proc/self/task/*")
	require.NoError(t, err)
	for _, task := range tasks {
		name, err := os.ReadFile(filepath.Join(task, "comm"))
		if err != nil || string(name) == string(self) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(task, "status"))
		require.NoError(t, err)
		_, after, _ := strings.Cut(string(status), "SigBlk:")
		mask, err := strconv.ParseUint(strings.Fields(after)[0], 16, 64)
		require.NoError(t, err)
		masks[strings.TrimSpace(string(name))] = mask
	}
	require.NotEmpty(t, masks)
	return masks
}

// failInit is set in the process that TestInitThatFails starts, in which Init is to fail.
const failInit = "EAL_TEST_FAIL_INIT"

func TestInitThatFails(t *testing.T) {
	if os.Getenv(failInit) != "" {
		err := eal.Init([]string{"--no-huge", "--no-pci", "--file-prefix", fmt.Sprintf("eal-test-%d", os.Getpid()),
			"--no-such-option"})
		fmt.Printf("init: %v\ncleanup: %v\n", err, eal.Cleanup())
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInitThatFails$")
	cmd.Env = append(os.Environ(), failInit+"=1")
	out, err := cmd.Output()
	if eal.Version() >= "DPDK 25.11" {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Contains(t, string(exit.Stderr), "no-such-option")
		return
	}
	require.NoError(t, err)
	assert.Contains(t, string(out), "init: eal: init with [")
	assert.Contains(t, string(out), syscall.EINVAL.Error())
	assert.Contains(t, string(out), "cleanup: <nil>")
}
