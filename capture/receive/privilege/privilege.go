// SPDX-License-Identifier: Apache-2.0

// Package privilege drops privileges that a process no longer needs: see capabilities(7) and credentials(7).
package privilege

import (
	"errors"
	"fmt"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is a user that the process can become.
type User struct {
	Name     string
	UID, GID int
}

// Lookup finds a user by its name or its number.
func Lookup(name string) (User, error) {
	found, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		found, err = user.LookupId(name)
	}
	if err != nil {
		return User{}, err
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return User{}, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return User{}, fmt.Errorf("user %s: %w", name, err)
	}
	return User{found.Username, uid, gid}, nil
}

// MayBecomeOthers reports whether this process can become another user.
func MayBecomeOthers() bool {
	own, err := capabilities()
	const needed = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return err == nil && own&needed == needed
}

// capabilities returns the permitted and the inheritable capabilities of this thread.
func capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("reading capabilities: %w", err)
	}
	low, high := data[0].Permitted|data[0].Inheritable, data[1].Permitted|data[1].Inheritable
	return uint64(high)<<32 | uint64(low), nil
}

// As calls f, which opens files, with the credentials of a user. The other threads of the process keep their
// credentials. The process needs the capabilities that MayBecomeOthers checks.
func As(u User, f func() error) (err error) {
	runtime.LockOSThread()
	defer func() {
		if err == nil || !errors.Is(err, errNotRestored) {
			runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
	}()
	groups, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("reading the groups: %w", err)
	}
	own := thread{groups: make([]uint32, len(groups)), uid: unix.Geteuid(), gid: unix.Getegid()}
	for i, g := range groups {
		own.groups[i] = uint32(g)
	}
	other := thread{groups: []uint32{uint32(u.GID)}, uid: u.UID, gid: u.GID}
	if err = other.become(); err == nil {
		err = f()
	}
	if restored := own.become(); restored != nil {
		return errors.Join(err, errNotRestored, restored)
	}
	return err
}

var errNotRestored = errors.New("a thread remains another user's")

// thread holds those credentials of a thread that decide about access to files.
type thread struct {
	groups   []uint32
	uid, gid int
}

// become gives this thread, and no other, the credentials t. When the fsuid changes from root, the kernel also removes
// the capabilities that override file permissions. They return with root's fsuid.
func (t *thread) become() error {
	var first unsafe.Pointer
	if len(t.groups) > 0 {
		first = unsafe.Pointer(&t.groups[0])
	}
	// A raw system call, since unix.Setgroups changes all threads.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(t.groups)), uintptr(first), 0); errno != 0 {
		return fmt.Errorf("setting the groups of a thread: %w", errno)
	}
	// These two calls return the previous value and no error, so the result is read back below.
	if err := unix.Setfsgid(t.gid); err != nil {
		return fmt.Errorf("setting the group of a thread: %w", err)
	}
	if err := unix.Setfsuid(t.uid); err != nil {
		return fmt.Errorf("setting the user of a thread: %w", err)
	}
	uid, errUID := unix.SetfsuidRetUid(-1)
	gid, errGID := unix.SetfsgidRetGid(-1)
	if errUID != nil || errGID != nil || uid != t.uid || gid != t.gid {
		return fmt.Errorf("becoming user %d for a thread: %w", t.uid, unix.EPERM)
	}
	return nil
}

// Drop changes the user of all threads of this process, unless u is nil, and removes all of their capabilities.
// Programs that they start cannot gain any. This cannot be undone. It does nothing if u is nil and the process has no
// capabilities. It fails in a program that is linked with C libraries, since the Go runtime cannot reach all threads of
// such a program.
func Drop(u *User) error {
	if u != nil {
		if err := syscall.Setgroups([]int{u.GID}); err != nil {
			return fmt.Errorf("setting the groups to those of %s: %w", u.Name, err)
		}
		if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
			return fmt.Errorf("setting the group to that of %s: %w", u.Name, err)
		}
		if err := syscall.Setresuid(u.UID, u.UID, u.UID); err != nil {
			return fmt.Errorf("becoming %s: %w", u.Name, err)
		}
	}
	if left, err := capabilities(); err != nil || left == 0 && u == nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := everywhere(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none))); err != nil {
		return fmt.Errorf("giving up capabilities: %w", err)
	}
	if err := everywhere(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("forbidding new privileges: %w", err)
	}
	return nil
}

func everywhere(call, a, b uintptr) error {
	switch _, _, errno := syscall.AllThreadsSyscall6(call, a, b, 0, 0, 0, 0); errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return errors.New("this program was built with cgo, build it with CGO_ENABLED=0")
	default:
		return errno
	}
}
