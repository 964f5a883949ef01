// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"dpservice/wire"
)

const (
	// batchLen is the largest number of datagrams that one system call reads.
	batchLen = 64
	// slotLen is how many bytes of a datagram are kept. It is not a multiple of the page size, so that the datagrams of
	// a batch use different cache lines.
	slotLen = 16384 + 192
	// accounted is the ratio of the memory that the kernel accounts for a datagram to the length of the datagram. For a
	// small datagram the kernel accounts about 1 KiB.
	accounted = 4
	// gather is how long the reader waits for more copies after the first one, so that busy senders do not wake it for
	// each copy.
	gather = time.Millisecond

	ipv6FlowInfo = 11 // IPV6_FLOWINFO
	memInfoLen   = 9
	controlLen   = 128
)

// socket is a UDP socket that receives copies in batches.
type socket struct {
	conn     *net.UDPConn
	packets  *ipv6.PacketConn // the same socket as conn
	fd       int              // file descriptor of conn, for calls that package net does not have
	buffer   int              // the size that the kernel granted
	messages [batchLen]ipv6.Message
	read     int // datagrams in messages
	taken    int // datagrams in messages that next has returned
}

// datagram is a received datagram. It is valid until the next read.
type datagram struct {
	at     int64 // arrival time in nanoseconds since 1970
	sender Sender
	to     netip.Addr // set by a ring only, if the packet was valid
	data   []byte
	length int // original length; larger than len(data) if the datagram was truncated
	// forwarded means that the datagram is for another machine: this one only forwards it.
	forwarded bool
}

// listen opens a socket for datagrams from the given networks.
func listen(at netip.AddrPort, buffer int, from []netip.Prefix) (*socket, error) {
	s := &socket{}
	c := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		ctrlErr := conn.Control(func(fd uintptr) {
			s.fd = int(fd)
			err = s.setUp(min(buffer, math.MaxInt32/accounted)*accounted, from)
		})
		return errors.Join(err, ctrlErr)
	}}
	conn, err := c.ListenPacket(context.Background(), "udp6", at.String())
	if err != nil {
		return nil, fmt.Errorf("opening a UDP socket: %w", err)
	}
	s.conn = conn.(*net.UDPConn)
	s.packets = ipv6.NewPacketConn(conn)
	for i := range s.messages {
		m := &s.messages[i]
		m.Buffers, m.OOB = [][]byte{make([]byte, slotLen)}, make([]byte, controlLen)
	}
	return s, nil
}

// setUp sets the options of the socket before it is bound.
func (s *socket) setUp(buffer int, from []netip.Prefix) error {
	for _, o := range []struct {
		level, option int
		what          string
	}{
		{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX"},
		{unix.IPPROTO_IPV6, ipv6FlowInfo, "IPV6_FLOWINFO"},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, "SO_TIMESTAMPNS"},
	} {
		if err := unix.SetsockoptInt(s.fd, o.level, o.option, 1); err != nil {
			return fmt.Errorf("setting %s of the socket: %w", o.what, err)
		}
	}
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil { // root only
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return fmt.Errorf("setting SO_RCVBUF of the socket: %w", err)
		}
	}
	var err error
	if s.buffer, err = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
		return fmt.Errorf("reading SO_RCVBUF of the socket: %w", err)
	}
	if len(from) == 0 {
		return nil
	}
	return attach(s.fd, program(nil, from))
}

func (s *socket) close() { _ = s.conn.Close() } // an error loses no data: the socket is only read

func (s *socket) buffered() int { return s.buffer }

func (s *socket) settle() {} // datagrams can be read as soon as they arrive

func (s *socket) wait(timeout time.Duration) error {
	err := poll(s.fd, timeout)
	time.Sleep(gather)
	return err
}

// poll waits until the descriptor is readable or the timeout is over.
func poll(fd int, timeout time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, int(timeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for copies: %w", err)
	}
	return nil
}

// next returns the next datagram. It reads a new batch when the last one is used up.
func (s *socket) next(d *datagram) (bool, error) {
	if s.taken == s.read {
		s.taken = 0
		var err error
		if s.read, err = s.receive(); err != nil || s.read == 0 {
			return false, err
		}
	}
	s.get(&s.messages[s.taken], d)
	s.taken++
	return true, nil
}

// receive reads a batch without waiting, and returns the number of datagrams.
func (s *socket) receive() (int, error) {
	n, err := s.packets.ReadBatch(s.messages[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading copies: %w", err)
	}
	return n, nil
}

// get converts a message of a batch to a datagram.
func (s *socket) get(m *ipv6.Message, d *datagram) {
	d.data, d.length = m.Buffers[0][:min(m.N, slotLen)], m.N
	if from, ok := m.Addr.(*net.UDPAddr); ok {
		d.sender.Node, _ = netip.AddrFromSlice(from.IP)
	}
	d.at, d.sender.Label = ancillary(m.OOB[:m.NN])
	if d.at == 0 {
		d.at = time.Now().UnixNano()
	}
}

// ancillary parses the control messages of a datagram: its arrival time and its flow label.
func ancillary(b []byte) (at int64, label wire.Label) {
	for len(b) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return at, label
		}
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			at = (*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()
		case h.Level == unix.SOL_IPV6 && h.Type == ipv6FlowInfo && len(data) >= 4:
			label = wire.Label(binary.BigEndian.Uint32(data) & wire.MaxLabel)
		}
		b = rest
	}
	return at, label
}

// drops returns how many datagrams the kernel dropped because the buffer was full, modulo 2^32.
func (s *socket) drops() uint32 {
	var info [memInfoLen]uint32
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0
	}
	return info[unix.SK_MEMINFO_DROPS]
}
