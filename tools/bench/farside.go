// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// farSide is behind an uplink. It takes the packets that leave from a pipe, which net_pcap writes as it would a file.
type farSide struct {
	name  string
	pipe  *os.File
	hop   [16]byte
	last  atomic.Int64  // when the last packet to hop has come, in ns since 1970
	seen  []atomic.Bool // by the flow's number: a packet of it has come
	ended chan error
}

// farBuffer is how many bytes may wait in the pipe: the NIC stands still while it is full.
const farBuffer = 1 << 20

// newFarSide makes the pipe, and looks out for packets of so many flows, and for those to a next hop.
func newFarSide(name string, flows int, hop netip.Addr) (*farSide, error) {
	if err := unix.Mkfifo(name, 0o600); err != nil {
		return nil, os.NewSyscallError("mkfifo", err)
	}
	// Whoever opens it only to read waits for a writer.
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	f := &farSide{name: name, pipe: os.NewFile(uintptr(fd), name), hop: hop.As16(), seen: make([]atomic.Bool, flows),
		ended: make(chan error, 1)}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, farBuffer); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), f.pipe.Close())
	}
	go func() { f.ended <- f.run() }()
	return f, nil
}

// The format of the file, as pcap-savefile(5) has it, and where a packet's outer destination and inner ports are.
const (
	pcapHeader = 24
	pcapRecord = 16
	pcapLength = 8 // of the packet's bytes, in a record's header
	outerDst   = 14 + 24
	innerPorts = 14 + 40 + 20
	headers    = innerPorts + 4
)

// run takes packets until the pipe is closed.
func (f *farSide) run() error {
	r := bufio.NewReaderSize(f.pipe, 64<<10)
	if _, err := r.Discard(pcapHeader); err != nil {
		return f.endOf(err)
	}
	for {
		record, err := r.Peek(pcapRecord + headers)
		if err != nil {
			return f.endOf(err)
		}
		f.take(record[pcapRecord:])
		if _, err := r.Discard(pcapRecord + int(binary.NativeEndian.Uint32(record[pcapLength:]))); err != nil {
			return f.endOf(err)
		}
	}
}

func (f *farSide) take(packet []byte) {
	if bytes.Equal(packet[outerDst:][:16], f.hop[:]) {
		f.last.Store(time.Now().UnixNano())
	}
	ports := packet[innerPorts:]
	n := flowOf(binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:]))
	if n >= 0 && n < len(f.seen) && !f.seen[n].Load() {
		f.seen[n].Store(true)
	}
}

// missed returns those of the frames, one of each flow, of whose flows no packet has come.
func (f *farSide) missed(frames [][]byte) (missed [][]byte) {
	for n, frame := range frames {
		if !f.seen[n].Load() {
			missed = append(missed, frame)
		}
	}
	return missed
}

func (f *farSide) endOf(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return fmt.Errorf("what has left by an uplink: %w", err)
}

// lastTo is how long after start the last packet to the next hop has come; 0 if none has.
func (f *farSide) lastTo(start time.Time) time.Duration {
	return max(0, time.Unix(0, f.last.Load()).Sub(start))
}

func (f *farSide) close() error { return errors.Join(f.pipe.Close(), <-f.ended) }
