// SPDX-License-Identifier: Apache-2.0

// Package privilege has a process give up what root may do and it needs no more: see capabilities(7) and
// credentials(7).
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

// User is whom a process can become.
type User struct {
	Name     string
	UID, GID int
}

// Lookup finds a user by name, or by number.
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

// capabilities are those that this thread may use, and those that programs may inherit from it.
func capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("reading capabilities: %w", err)
	}
	low, high := data[0].Permitted|data[0].Inheritable, data[1].Permitted|data[1].Inheritable
	return uint64(high)<<32 | uint64(low), nil
}

// As calls f, which opens files, with the rights of a user. The rest of the process meanwhile has its own. It takes
// what MayBecomeOthers asks for.
func As(u User, f func() error) (err error) {
	runtime.LockOSThread()
	defer func() {
		if err == nil || !errors.Is(err, errNotRestored) {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
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

// thread is what of a thread's credentials decides about files.
type thread struct {
	groups   []uint32
	uid, gid int
}

// become makes this thread, and no other, that of a user. The capabilities that override files' rights go with root's
// fsuid, and come back with it.
func (t *thread) become() error {
	var first unsafe.Pointer
	if len(t.groups) > 0 {
		first = unsafe.Pointer(&t.groups[0])
	}
	// Not unix.Setgroups, which is for all threads.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(t.groups)), uintptr(first), 0); errno != 0 {
		return fmt.Errorf("setting the groups of a thread: %w", errno)
	}
	// These two return what was set before, and no error.
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

// Drop makes all threads of this process a user's, unless u is nil, and takes all capabilities from them. No program
// that they start can have more. It cannot be undone. In a program that is linked with C libraries it fails: the
// runtime cannot reach all threads of such a program. Without capabilities and with u nil there is nothing to do.
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
