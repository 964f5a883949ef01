// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// segments is how many copies one system call sends: the kernel cuts a long datagram into them (UDP_SEGMENT), which takes
// it a fraction of the time that as many calls do.
const segments = 64

// sender sends copies from a namespace.
type sender struct {
	fd      int
	data    []byte
	control []byte
}

// newSender opens a UDP socket in a namespace, towards an address. It stays there, wherever it is used.
func newSender(namespace string, to netip.AddrPort) (*sender, error) {
	runtime.LockOSThread() // and never unlocked if the way back fails: the thread then ends with its goroutine
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(home)
	there, err := unix.Open("/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	s, err := openSender(to)
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return s, err
}

func openSender(to netip.AddrPort) (*sender, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &sender{fd: fd, data: make([]byte, segments*guestFrameLen), control: segmentation(guestFrameLen)}
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}); err != nil {
		s.close()
		return nil, os.NewSyscallError("connect", err)
	}
	return s, nil
}

// segmentation is the control message that has a datagram cut into some of this size.
func segmentation(size uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(b[8:], unix.SOL_UDP)
	binary.NativeEndian.PutUint32(b[12:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return b
}

// send sends at a rate, or as fast as it can if that is less. It returns how many copies it sent, and the rate it reached.
func (s *sender) send(rate float64, long time.Duration) (sent int, reached float64, err error) {
	start := time.Now()
	for time.Since(start) < long {
		if float64(sent) > rate*time.Since(start).Seconds() {
			continue // a sleep would be too long
		}
		_, err := unix.SendmsgN(s.fd, s.data, s.control, nil, 0)
		switch {
		case err == nil:
			sent += segments
		case !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNREFUSED):
			return sent, 0, os.NewSyscallError("sendmsg", err)
		}
	}
	return sent, float64(sent) / time.Since(start).Seconds(), nil
}

func (s *sender) close() { _ = unix.Close(s.fd) } // nothing is unsaved in it
