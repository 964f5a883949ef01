// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"dpservice/capture/receive/privilege"
	"dpservice/wire"
)

// DefaultMemory is how many bytes a flight recorder keeps unless another bound is set.
const DefaultMemory = 256 << 20

// Memory bounds what a flight recorder keeps: the newest copies. Zero means no bound, but DefaultMemory bounds Bytes if
// that is zero.
type Memory struct {
	Duration time.Duration
	Bytes    int64
}

// Dump asks for a file with what is in memory, which is empty then. It is called with the result.
type Dump func(Dumped)

// Dumped is the result of a dump.
type Dumped struct {
	File    string // empty if there was an error
	Packets uint64
	Err     error
}

// segmentLen is the size of the pieces of memory in which copies are kept. The oldest are forgotten piece by piece.
const segmentLen = 1 << 20

// segment is a piece of memory full of records: each a head of recordHead bytes, and the frame.
type segment struct {
	used   []byte
	newest int64 // the time of the last record
}

// recordHead are the time, the lengths of the frame and of what there is of it, the label and the node.
const recordHead = 8 + 4 + 4 + 4 + 16

// flightRecorder keeps copies in memory until they are dumped into a file.
type flightRecorder struct {
	memory   Memory
	files    *files // of the dumps
	dumps    <-chan Dump
	segments []*segment // the oldest first
	free     []*segment
	seen     map[Sender]struct{}
}

// openMemory makes a flight recorder, and sees whether its files can be created. If the user in c.Privileges cannot
// create them and Must is not set, it clears the user in c.
func openMemory(c *Config, port uint16, drops func() uint64, end *writeDeadlines) (*flightRecorder, error) {
	if c.Output.File != nil {
		return nil, errors.New("a flight recorder writes files, not to a stream")
	}
	c.Output.Series = true
	m := c.Memory
	if m.Bytes == 0 {
		m.Bytes = DefaultMemory
	}
	if _, err := bufferFor(int(m.Bytes)); err != nil {
		return nil, fmt.Errorf("memory for copies: %w", err)
	}
	if err := tryFiles(c); err != nil {
		return nil, err
	}
	f := &files{config: *c, port: port, drops: drops, deadlines: end, seen: make(map[Sender]struct{})}
	return &flightRecorder{memory: m, files: f, dumps: c.Dumps, seen: make(map[Sender]struct{})}, nil
}

// tryFiles creates a file of the series, as the user who will, and removes it.
func tryFiles(c *Config) error {
	p := c.Privileges
	if p == nil || p.User == nil {
		return tryFile(c.Output, os.Geteuid())
	}
	err := privilege.As(*p.User, func() error { return tryFile(c.Output, p.User.UID) })
	if errors.Is(err, fs.ErrPermission) && !p.Must {
		c.Privileges = &Privileges{}
		return tryFile(c.Output, os.Geteuid())
	}
	return err
}

func tryFile(o Output, uid int) error {
	file, err := create(context.Background(), o.name(0, time.Now()), uid)
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

func (r *flightRecorder) write(_ context.Context, d *datagram) error {
	if len(r.seen) < MaxSenders {
		r.seen[d.sender] = struct{}{}
	}
	s := r.room(recordHead + len(d.data))
	var head [recordHead]byte
	binary.LittleEndian.PutUint64(head[:], uint64(d.at))
	binary.LittleEndian.PutUint32(head[8:], uint32(d.length))
	binary.LittleEndian.PutUint32(head[12:], uint32(len(d.data)))
	binary.LittleEndian.PutUint32(head[16:], uint32(d.sender.Label))
	node := d.sender.Node.As16()
	copy(head[20:], node[:])
	s.used = append(append(s.used, head[:]...), d.data...)
	s.newest = d.at
	return nil
}

// room returns a segment that has room for length bytes, at the cost of the oldest one if there are as many as may be.
func (r *flightRecorder) room(length int) *segment {
	if n := len(r.segments); n > 0 {
		if s := r.segments[n-1]; len(s.used)+length <= cap(s.used) {
			return s
		}
	}
	if int64(len(r.segments)+1)*segmentLen > max(r.memory.Bytes, 2*segmentLen) {
		r.forgetOldest()
	}
	var s *segment
	if n := len(r.free); n > 0 {
		s, r.free = r.free[n-1], r.free[:n-1]
	} else {
		s = &segment{used: make([]byte, 0, segmentLen)}
	}
	r.segments = append(r.segments, s)
	return s
}

func (r *flightRecorder) forgetOldest() {
	s := r.segments[0]
	s.used = s.used[:0]
	r.free = append(r.free, s)
	r.segments = r.segments[1:]
}

// oldest is the time before which copies are too old to be kept.
func (r *flightRecorder) oldest() int64 {
	if r.memory.Duration == 0 {
		return 0
	}
	return time.Now().Add(-r.memory.Duration).UnixNano()
}

// tick forgets what is too old, and dumps if that is wanted.
func (r *flightRecorder) tick(ctx context.Context) error {
	oldest := r.oldest()
	for len(r.segments) > 0 && r.segments[0].newest < oldest {
		r.forgetOldest()
	}
	select {
	case answer := <-r.dumps:
		answer(r.dump(ctx, oldest))
	default:
	}
	return nil
}

// dump writes what is in memory into a file, and empties the memory. After an error it keeps it.
func (r *flightRecorder) dump(ctx context.Context, oldest int64) Dumped {
	packets, err := r.writeFile(ctx, oldest)
	if err != nil {
		return Dumped{Err: fmt.Errorf("writing what is in memory: %w", err)}
	}
	for len(r.segments) > 0 {
		r.forgetOldest()
	}
	return Dumped{File: r.files.names[len(r.files.names)-1], Packets: packets}
}

func (r *flightRecorder) writeFile(ctx context.Context, oldest int64) (packets uint64, err error) {
	if err := r.files.removeOldest(); err != nil {
		return 0, err
	}
	if err := r.files.open(ctx); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.files.close()) }()
	for _, s := range r.segments {
		for rest := s.used; len(rest) > 0; {
			var d datagram
			d, rest = nextRecord(rest)
			if d.at < oldest {
				continue
			}
			packets++
			if err := r.files.write(ctx, &d); err != nil {
				return packets, err
			}
		}
	}
	return packets, nil
}

// nextRecord takes the first record off.
func nextRecord(b []byte) (d datagram, rest []byte) {
	d.at = int64(binary.LittleEndian.Uint64(b))
	d.length = int(binary.LittleEndian.Uint32(b[8:]))
	end := recordHead + int(binary.LittleEndian.Uint32(b[12:]))
	d.sender = Sender{Node: netip.AddrFrom16([16]byte(b[20:])), Label: wire.Label(binary.LittleEndian.Uint32(b[16:]))}
	d.data = b[recordHead:end]
	return d, b[end:]
}

func (r *flightRecorder) senders() int { return len(r.seen) }

// close forgets what was not dumped.
func (r *flightRecorder) close() error { return nil }
