// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// connectOnThread makes the calling thread, and no other, somebody else and connects. It returns -1 on failure.
func connectOnThread(socket string, w who) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	var groups unsafe.Pointer
	if len(w.groups) > 0 {
		groups = unsafe.Pointer(&w.groups[0])
	}
	gid, uid := uintptr(w.gid), uintptr(w.uid)
	_, _, groupsErr := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(w.groups)), uintptr(groups), 0)
	_, _, gidErr := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid)
	_, _, uidErr := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid)
	if groupsErr != 0 || gidErr != 0 || uidErr != 0 || unix.Connect(fd, &unix.SockaddrUnix{Name: socket}) != nil {
		return -1
	}
	return fd
}

func readAll(t *testing.T, r io.Reader) []string {
	t.Helper()
	data, err := io.ReadAll(bufio.NewReader(r))
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}
