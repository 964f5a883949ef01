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

const (
	// segments is how many copies one system call sends at most: the kernel cuts a long datagram into them (UDP_SEGMENT),
	// which takes it a fraction of the time that as many calls do.
	segments = 64
	// maxDatagram is the longest datagram that it cuts.
	maxDatagram = 65000
	// senders is how many interfaces the copies seem to be from: the kernel gives each socket a flow label.
	senders = 4
)

// sender sends copies from a namespace.
type sender struct {
	fds     [senders]int
	next    int // whose turn it is
	data    []byte
	control []byte
	batch   int
}

// newSender opens sockets for copies of frames of this size, towards an address.
func newSender(to netip.AddrPort, frameSize int) (*sender, error) {
	s := &sender{batch: min(segments, maxDatagram/frameSize), control: segmentation(uint16(frameSize))}
	s.data = make([]byte, s.batch*frameSize)
	for i := range s.fds {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socket", err)
		}
		s.fds[i] = fd
		if err := unix.Connect(fd, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}); err != nil {
			return nil, os.NewSyscallError("connect", err)
		}
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

// sending is what a sender has done.
type sending struct {
	copies int
	rate   float64       // per second
	cpu    time.Duration // what it took, the way through the receiver's kernel included
}

// send sends at a rate, or as fast as it can if that is less, on the first CPU.
func (s *sender) send(rate float64, long time.Duration) (done sending, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	back, err := pin(sendCPU)
	if err != nil {
		return sending{}, err
	}
	defer back()
	if err := goFirst(sendPriority); err != nil {
		return sending{}, err
	}
	defer func() { err = errors.Join(err, goFirst(0)) }()
	cpu := threadTime()
	start := time.Now()
	sent := 0
	for time.Since(start) < long {
		if float64(sent) > rate*time.Since(start).Seconds() {
			continue // a sleep would be too long
		}
		s.next = (s.next + 1) % senders
		_, err := unix.SendmsgN(s.fds[s.next], s.data, s.control, nil, 0)
		switch {
		case err == nil:
			sent += s.batch
		case !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNREFUSED):
			return sending{}, os.NewSyscallError("sendmsg", err)
		}
	}
	return sending{copies: sent, rate: float64(sent) / time.Since(start).Seconds(), cpu: threadTime() - cpu}, nil
}

func (s *sender) close() {
	for _, fd := range s.fds {
		_ = unix.Close(fd) // nothing is unsaved in it
	}
}
