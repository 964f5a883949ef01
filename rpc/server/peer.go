// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer identifies the process at the other end of a socket.
type peer struct {
	uid    uint32
	groups []uint32
}

// privileged reports whether the peer is root or the daemon's own user.
func (p peer) privileged() bool { return p.uid == 0 || p.uid == uint32(os.Geteuid()) }

// mayChange reports whether the peer may call methods that change something: root, the daemon's own user and members of
// the socket's group may. Others can connect only if the socket's mode was opened further, and then only read.
func (p peer) mayChange(socket string) bool {
	if p.privileged() {
		return true
	}
	gid, err := groupOf(socket)
	return err == nil && slices.Contains(p.groups, gid)
}

// groupOf returns the group of a file.
func groupOf(path string) (uint32, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Gid, nil
}

// peerOf asks the kernel for the credentials of the peer.
func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var p peer
	var credErr, groupsErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr != nil {
			return
		}
		p.uid, p.groups = cred.Uid, []uint32{cred.Gid}
		var groups []uint32
		groups, groupsErr = peerGroups(fd)
		p.groups = append(p.groups, groups...)
	})
	return p, errors.Join(err, credErr, groupsErr)
}

// peerGroups returns the supplementary groups of the peer, which SO_PEERCRED does not report.
func peerGroups(fd uintptr) ([]uint32, error) {
	const maxGroups = 65536 // NGROUPS_MAX
	for n := 32; n <= maxGroups; n *= 2 {
		groups := make([]uint32, n)
		size := uint32(n * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			return groups[:size/4], nil
		}
		if errno != unix.ERANGE { // else the list is longer
			return nil, errno
		}
	}
	return nil, unix.ERANGE
}
