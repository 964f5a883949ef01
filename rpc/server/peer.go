// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"dpservice/dpservice/access"
	"dpservice/dpservice/audit"
)

// peer identifies the process at the other end of a socket.
type peer struct {
	uid    uint32
	groups []uint32
	pid    int32
}

// privileged reports whether the peer is root or the daemon's own user.
func (p peer) privileged() bool { return p.uid == 0 || p.uid == uint32(os.Geteuid()) }

// forAccess returns what rules of access ask about a peer. The name of its user is looked up only when it is shown.
func (p peer) forAccess(socket string) access.Peer {
	gid, err := groupOf(socket)
	return access.Peer{
		UID: p.uid, Groups: p.groups, Owner: p.privileged(), Member: err == nil && slices.Contains(p.groups, gid),
	}
}

// forAudit returns what the audit log tells of a peer.
func (p peer) forAudit() audit.Peer {
	return audit.Peer{UID: p.uid, PID: p.pid, Comm: p.read("comm"), From: controlGroup(p.read("cgroup"))}
}

// maxProc is how many bytes of a file in /proc are read.
const maxProc = 4096

// read returns what a file in /proc says about the peer; empty if it has ended.
func (p peer) read(file string) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", p.pid, file))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProc))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// controlGroup returns the control group of version 2 from the text of /proc/PID/cgroup, or else the last one there.
func controlGroup(text string) string {
	lines := strings.Split(text, "\n")
	for _, line := range lines {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return path
		}
	}
	_, path, _ := strings.Cut(lines[len(lines)-1], ":/")
	if path == "" {
		return ""
	}
	return "/" + path
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
		p.uid, p.pid, p.groups = cred.Uid, cred.Pid, []uint32{cred.Gid}
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
