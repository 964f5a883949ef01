// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readerPoll is how often a FIFO without a reader is opened again.
	readerPoll = 20 * time.Millisecond
	// readerGrace and diskGrace are how long a write may go on after the end of a reception: to a pipe, whose reader
	// may have stopped reading, and to a regular file.
	readerGrace = drainTime + 500*time.Millisecond
	diskGrace   = 10 * time.Second
)

var (
	// errReaderGone means that the reading end of the pipe was closed.
	errReaderGone = errors.New("nobody reads the output")
	// errNoReader means that the reception ended before a reader opened the FIFO.
	errNoReader = fmt.Errorf("%w yet", errReaderGone)
	// errStuck means that a write did not complete in time.
	errStuck = errors.New("the output was not read to its end, which is lost")
)

// Output says where frames are written: to a File, or to one or more files at Path.
type Output struct {
	// Exactly one of File and Path is set. File is already open, for example a pipe. Path is a FIFO, or a file that is
	// created and that only its owner can read.
	File *os.File
	Path string
	// A new file begins when the current one has RotateSize bytes or is RotateInterval old. Zero means no limit. If
	// either is set, the name of every file contains its number and time.
	RotateSize     int64
	RotateInterval time.Duration
	// Series makes a series of the files also without these limits: each dump of a ring is one.
	Series bool
	// Files is how many files of the series are kept; the oldest are removed. Zero keeps all.
	Files int
	// Comment is written into every file.
	Comment string
}

func (o Output) rotates() bool { return o.RotateSize > 0 || o.RotateInterval > 0 || o.Series }

// name returns the name of a file of the series.
func (o Output) name(number int, now time.Time) string {
	if !o.rotates() {
		return o.Path
	}
	ext := filepath.Ext(o.Path)
	return fmt.Sprintf("%s_%05d_%s%s", strings.TrimSuffix(o.Path, ext), number, now.Format("20060102150405"), ext)
}

// create opens a file that only the given user can read, and truncates it. If the file is a FIFO, create waits for a
// reader until ctx ends. It does not follow symbolic links, and does not write to a file that belongs to another user
// or has a second hard link. Otherwise somebody who can write to the directory could prepare the name, and read what is
// captured or make root overwrite a file.
func create(ctx context.Context, name string, uid int) (*os.File, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	for {
		fd, err := unix.Open(name, flags, 0o600)
		switch {
		case err == nil:
			if err := claim(fd, uid); err != nil {
				_ = unix.Close(fd) // nothing was written
				return nil, fmt.Errorf("capture file %s: %w", name, err)
			}
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.ENXIO): // a FIFO without a reader
		case errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("capture file %s is a symbolic link, which is not followed: %w", name, err)
		case !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("creating a capture file: %w", &os.PathError{Op: "open", Path: name, Err: err})
		}
		select {
		case <-ctx.Done():
			return nil, errNoReader
		case <-time.After(readerPoll):
		}
	}
}

// claim checks that an open file belongs to the user alone, and truncates it. The owner of a character device is not
// checked, since only root can create one.
func claim(fd, uid int) error {
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return err
	}
	kind := info.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFCHR:
		return unix.SetNonblock(fd, false)
	case kind != unix.S_IFREG && kind != unix.S_IFIFO:
		return errors.New("it is neither a file nor a FIFO")
	case int(info.Uid) != uid:
		return fmt.Errorf("it is there and belongs to user %d, not to %d: remove it or take another name", info.Uid, uid)
	case kind == unix.S_IFIFO:
		return unix.SetNonblock(fd, false)
	case info.Nlink > 1:
		return errors.New("it is there and has another name as well, a hard link: remove it or take another name")
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return err
	}
	return unix.Ftruncate(fd, 0)
}

// writeDeadlines holds the deadlines of the writes of a reception. They are some time after the end of its context.
type writeDeadlines struct {
	reader, disk context.Context
	stop         []func()
}

// newWriteDeadlines derives the deadlines from ctx. The caller calls close.
func newWriteDeadlines(ctx context.Context) *writeDeadlines {
	e := &writeDeadlines{}
	e.reader = e.after(ctx, readerGrace)
	e.disk = e.after(ctx, diskGrace)
	return e
}

// after returns a context that ends the given grace period after ctx.
func (e *writeDeadlines) after(ctx context.Context, grace time.Duration) context.Context {
	over, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-over.Done():
		}
	})
	e.stop = append(e.stop, cancel, func() { stop() })
	return over
}

func (e *writeDeadlines) close() {
	for _, f := range e.stop {
		f()
	}
}

// deadlineWriter writes to a file until its deadline. Without one, a write to a pipe that nobody reads would block
// forever.
type deadlineWriter struct {
	file     *os.File
	deadline context.Context // ends at the deadline
	stuck    bool            // a write is still in progress
}

// newWriter returns a writer to a file, with the deadline for its type.
func (e *writeDeadlines) newWriter(file *os.File) *deadlineWriter {
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		return &deadlineWriter{file: file, deadline: e.disk}
	}
	return &deadlineWriter{file: file, deadline: e.reader}
}

// Write writes p. The caller must not change p after an error: the write may still be in progress.
func (w *deadlineWriter) Write(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := w.file.Write(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-w.deadline.Done():
		w.stuck = true
		return 0, errStuck
	}
}

func (w *deadlineWriter) name() string { return w.file.Name() }

func (w *deadlineWriter) unread() bool {
	fds := []unix.PollFd{{Fd: int32(w.file.Fd())}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLERR != 0
}

// Close closes the file, unless a write is still in progress. Then the file is closed when the process exits.
func (w *deadlineWriter) Close() error {
	if w.stuck {
		return nil
	}
	return w.file.Close()
}
