// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/capture/pcapng"
)

const (
	// maxReaders is how many may read along at once.
	maxReaders = 8
	// readerQueue is how many chunks, of some 64 KiB at most, may wait for a reader. It misses what comes when it is full.
	readerQueue = 256
	// audienceGrace is how long readers may take to read the end.
	audienceGrace = 2 * time.Second
)

// Audience are those who read along at a unix socket while a reception goes on. Each gets a complete pcapng stream of
// its own, from its connection on, and none can disturb the reception: who is slow misses packets.
type Audience struct {
	listener *net.UnixListener
	path     string
	serving  sync.WaitGroup
	missed   atomic.Uint64 // packets, over all readers

	mu      sync.Mutex
	prelude []byte // the section's header and its interfaces so far
	readers []*reader
	closed  bool
}

// reader is one that reads along.
type reader struct {
	conn  net.Conn
	queue chan chunk
}

// chunk are some blocks of the stream, of which so many are packets.
type chunk struct {
	data    []byte
	packets uint64
}

// Listen opens a socket for an audience.
func Listen(path string) (*Audience, error) {
	l, err := ListenUnix(path)
	if err != nil {
		return nil, err
	}
	return &Audience{listener: l, path: path}, nil
}

// ListenUnix opens a unix socket to which only this user and root can connect. It replaces the socket of a process that
// is gone.
func ListenUnix(path string) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is there and no socket: remove it or take another name", path)
		}
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close() // it was only to see whether somebody listens
			return nil, fmt.Errorf("another process listens at %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The mask is the whole process's: nothing else creates files yet.
	mask := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(mask)
	return l, err
}

// Missed is how many packets readers have missed that were too slow.
func (a *Audience) Missed() uint64 { return a.missed.Load() }

// accept lets readers in until the socket is closed.
func (a *Audience) accept() {
	for {
		conn, err := a.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, say
			time.Sleep(idle)
			continue
		}
		if !a.admit(conn) {
			_ = conn.Close() // nothing was written
		}
	}
}

// admit begins to serve a reader, unless there are too many.
func (a *Audience) admit(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.readers) >= maxReaders {
		return false
	}
	r := &reader{conn: conn, queue: make(chan chunk, readerQueue)}
	r.queue <- chunk{data: slices.Clone(a.prelude)}
	a.readers = append(a.readers, r)
	a.serving.Go(func() { a.serve(r) })
	return true
}

// serve writes to a reader until the stream ends or the reader is gone. What a reader has not read in time when the
// stream ends it has missed.
func (a *Audience) serve(r *reader) {
	defer r.conn.Close()
	for c := range r.queue {
		_, err := r.conn.Write(c.data)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			a.missed.Add(c.packets)
			continue // the next ones time out at once
		}
		if err != nil {
			a.dismiss(r)
			return
		}
	}
}

func (a *Audience) dismiss(r *reader) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readers = slices.DeleteFunc(a.readers, func(other *reader) bool { return other == r })
}

// isEmpty reports whether nobody reads.
func (a *Audience) isEmpty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.readers) == 0
}

// Write implements destination: it gives whole blocks to all readers.
func (a *Audience) Write(p []byte) (int, error) {
	described, packets := pcapng.Description(p)
	c := chunk{data: slices.Clone(p), packets: uint64(packets)} // the caller uses its buffer again
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prelude = append(a.prelude, described...)
	for _, r := range a.readers {
		if len(r.queue) < cap(r.queue)-1 { // the last place is for interfaces, without which the rest cannot be read
			r.queue <- c
			continue
		}
		a.missed.Add(c.packets)
		if len(described) > 0 {
			a.describeTo(r, described)
		}
	}
	return len(p), nil
}

// describeTo gives a reader the interfaces of a chunk that it misses, and hangs up if there is no room even for these.
func (a *Audience) describeTo(r *reader, described []byte) {
	select {
	case r.queue <- chunk{data: described}:
	default:
		_ = r.conn.Close() // serve notices
	}
}

// Close implements destination: readers get what waits for them, if they read it soon. It may be called again.
func (a *Audience) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	_ = a.listener.Close() // it may not remove the socket's file any more, which the next one then does
	for _, r := range a.readers {
		close(r.queue)
		_ = r.conn.SetWriteDeadline(time.Now().Add(audienceGrace)) // else serve waits for ever
	}
	a.mu.Unlock()
	a.serving.Wait()
	return nil
}

func (a *Audience) name() string { return a.path }

func (a *Audience) unread() bool { return false }

// served is a recorder with an audience.
type served struct {
	recorder
	audience *Audience
	stream   *files
}

// newServed begins to serve the audience of the configuration.
func newServed(r recorder, c *Config, port uint16, drops func() uint64) (*served, error) {
	config := *c
	config.Output = Output{Comment: c.Output.Comment}
	s := &served{recorder: r, audience: c.Serve, stream: &files{
		config: config, port: port, drops: drops, seen: make(map[Sender]struct{}),
	}}
	if err := s.stream.begin(s.audience); err != nil {
		return nil, err
	}
	go s.audience.accept()
	return s, nil
}

func (s *served) write(ctx context.Context, d *datagram) error {
	if !s.audience.isEmpty() {
		if err := s.stream.write(ctx, d); err != nil {
			return err
		}
	}
	return s.recorder.write(ctx, d)
}

func (s *served) tick(ctx context.Context) error {
	return errors.Join(s.stream.tick(ctx), s.recorder.tick(ctx))
}

func (s *served) close() error {
	return errors.Join(s.recorder.close(), s.stream.close())
}
