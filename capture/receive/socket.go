// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dpservice/wire"
)

const (
	// batchLen is how many datagrams one system call reads at most.
	batchLen = 64
	// slotLen is how much of a datagram is kept. It is no multiple of a page, so that not all of a batch falls into the same
	// lines of the CPU's cache.
	slotLen = 16384 + 192
	// accounted is how much more the kernel reckons for what it holds than the datagrams are long: about 1 KiB for a small one.
	accounted = 4
	// gather is how long after a first copy reading begins: so that busy senders do not have to wake the reader for each.
	gather = time.Millisecond

	ipv6FlowInfo = 11 // IPV6_FLOWINFO
	soMemInfo    = 55 // SO_MEMINFO
	memInfoDrops = 8  // SK_MEMINFO_DROPS
	memInfoLen   = 9
	controlLen   = 128
)

// message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

// socket is a UDP socket for copies, with the room for a batch of them.
type socket struct {
	fd       int
	buffer   int // what the kernel has granted
	messages [batchLen]message
	vectors  [batchLen]unix.Iovec
	names    [batchLen]unix.RawSockaddrInet6
	controls [batchLen][controlLen]byte
	room     []byte
	read     int // datagrams of the last call
	taken    int // of them
}

// datagram is what has arrived, until the next read.
type datagram struct {
	at     int64 // when, in nanoseconds since 1970
	sender Sender
	to     netip.Addr // only from a ring, and if it could be read
	data   []byte
	length int // of the datagram; more than data has if that was cut
	// passing is a datagram to another machine, which only passes through this one.
	passing bool
}

// listen opens a socket for datagrams of those who may send.
func listen(at netip.AddrPort, buffer int, from []netip.Prefix) (s *socket, err error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a UDP socket: %w", err)
	}
	s = &socket{fd: fd, room: make([]byte, batchLen*slotLen)}
	if err := s.setUp(at, min(buffer, math.MaxInt32/accounted)*accounted, from); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	for i := range s.messages {
		s.vectors[i].Base = &s.room[i*slotLen]
		s.vectors[i].SetLen(slotLen)
		m := &s.messages[i]
		m.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		m.Iov = &s.vectors[i]
		m.SetIovlen(1)
		m.Control = &s.controls[i][0]
	}
	return s, nil
}

func (s *socket) setUp(at netip.AddrPort, buffer int, from []netip.Prefix) error {
	for _, o := range []struct {
		level, option int
		what          string
	}{
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY"},
		{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX"},
		{unix.IPPROTO_IPV6, ipv6FlowInfo, "IPV6_FLOWINFO"},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, "SO_TIMESTAMPNS"},
	} {
		if err := unix.SetsockoptInt(s.fd, o.level, o.option, 1); err != nil {
			return fmt.Errorf("setting %s of the socket: %w", o.what, err)
		}
	}
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil { // for root only
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return fmt.Errorf("setting SO_RCVBUF of the socket: %w", err)
		}
	}
	var err error
	if s.buffer, err = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
		return fmt.Errorf("reading SO_RCVBUF of the socket: %w", err)
	}
	if len(from) > 0 {
		if err := attach(s.fd, program(nil, from)); err != nil {
			return err
		}
	}
	if err := unix.Bind(s.fd, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}); err != nil {
		return fmt.Errorf("listening on %s: %w", at, err)
	}
	return nil
}

func (s *socket) close() { _ = unix.Close(s.fd) } // nothing is unsaved in a socket that is read

func (s *socket) buffered() int { return s.buffer }

func (s *socket) settle() {} // what has arrived can be read

func (s *socket) wait(timeout time.Duration) error {
	err := poll(s.fd, timeout)
	time.Sleep(gather)
	return err
}

// poll waits until something can be read, or the time is over.
func poll(fd int, timeout time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, int(timeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for copies: %w", err)
	}
	return nil
}

// next gets a datagram. Those that are there are read in batches.
func (s *socket) next(d *datagram) (bool, error) {
	if s.taken == s.read {
		s.taken = 0
		var err error
		if s.read, err = s.receive(); err != nil || s.read == 0 {
			return false, err
		}
	}
	s.get(s.taken, d)
	s.taken++
	return true, nil
}

// receive reads a batch, and returns how many datagrams these are.
func (s *socket) receive() (int, error) {
	for i := range s.messages {
		m := &s.messages[i]
		m.Namelen = unix.SizeofSockaddrInet6
		m.SetControllen(controlLen)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages[0])), batchLen,
		unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
	runtime.KeepAlive(s)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, os.NewSyscallError("recvmmsg", errno)
}

// get gets a datagram of the batch.
func (s *socket) get(i int, d *datagram) {
	m := &s.messages[i]
	d.data, d.length = s.room[i*slotLen:][:min(int(m.length), slotLen)], int(m.length)
	d.sender.Node = netip.AddrFrom16(s.names[i].Addr)
	d.at, d.sender.Label = ancillary(s.controls[i][:min(int(m.Controllen), controlLen)])
	if d.at == 0 {
		d.at = time.Now().UnixNano()
	}
}

// ancillary reads what the kernel says about a datagram: when it arrived, and its flow label.
func ancillary(b []byte) (at int64, flowLabel wire.Label) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		length := int(h.Len)
		if length < unix.SizeofCmsghdr || length > len(b) {
			return at, flowLabel
		}
		data := b[unix.CmsgLen(0):length]
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			at = (*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()
		case h.Level == unix.SOL_IPV6 && h.Type == ipv6FlowInfo && len(data) >= 4:
			flowLabel = wire.Label(binary.BigEndian.Uint32(data) & wire.MaxLabel)
		}
		b = b[min(len(b), unix.CmsgSpace(length-unix.CmsgLen(0))):]
	}
	return at, flowLabel
}

// drops is how many datagrams the kernel has had no room for. It counts modulo 2^32.
func (s *socket) drops() uint32 {
	var info [memInfoLen]uint32
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, soMemInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0
	}
	return info[memInfoDrops]
}
