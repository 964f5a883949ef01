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
	// segments is how many copies one system call sends at most: the kernel splits a long datagram into them
	// (UDP_SEGMENT), which takes a fraction of the time of one call for each.
	segments = 64
	// maxDatagram is the longest datagram that the kernel splits.
	maxDatagram = 65000
	// senders is how many captured interfaces are simulated, one by each socket: the kernel gives each its own flow label.
	senders = 4
)

// sender sends copies from a namespace.
type sender struct {
	fds     [senders]int
	next    int // index of the socket that sends next
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

// segmentation returns the control message that makes the kernel split a datagram into datagrams of this size.
func segmentation(size uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(b[8:], unix.SOL_UDP)
	binary.NativeEndian.PutUint32(b[12:], unix.UDP_SEGMENT)
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return b
}

// sending is the result of a send.
type sending struct {
	copies int
	rate   float64       // per second
	cpu    time.Duration // includes the processing in the receiving kernel
}

// send sends at a rate, or as fast as it can if it cannot reach that rate, on the first CPU.
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
			continue // busy loop: a sleep would be too long
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
		_ = unix.Close(fd) // the error does not matter: nothing is lost
	}
}
