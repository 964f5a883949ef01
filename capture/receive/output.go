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
	// askReader is how often is looked whether a FIFO has a reader.
	askReader = 20 * time.Millisecond
	// readerTime and diskTime are how long after the end of a reception a write may still take: to a reader, who may have
	// stopped to read, and to a file.
	readerTime = drainTime + 500*time.Millisecond
	diskTime   = 10 * time.Second
)

var (
	// errReaderGone is a pipe that nobody reads any more.
	errReaderGone = errors.New("nobody reads the output")
	// errNoReader is a reception that ended before anybody read its output.
	errNoReader = fmt.Errorf("%w yet", errReaderGone)
	// errStuck is a write that has not ended in time.
	errStuck = errors.New("the output was not read to its end, which is lost")
)

// Output says where frames go: to a File, or to a series of them.
type Output struct {
	// File is already open, for example a pipe; Path is created, for its owner alone, or is a FIFO. One of them is set.
	File *os.File
	Path string
	// RotateSize and RotateInterval begin a new file once one has that many bytes or is that old, unless they are 0. Then
	// every file has its number and time in its name.
	RotateSize     int64
	RotateInterval time.Duration
	// Files is how many files of the series are kept: the newest. 0 keeps all.
	Files int
	// Comment is written into every file.
	Comment string
}

func (o Output) rotates() bool { return o.RotateSize > 0 || o.RotateInterval > 0 }

// name returns the name of a file of the series.
func (o Output) name(number int, now time.Time) string {
	if !o.rotates() {
		return o.Path
	}
	ext := filepath.Ext(o.Path)
	return fmt.Sprintf("%s_%05d_%s%s", strings.TrimSuffix(o.Path, ext), number, now.Format("20060102150405"), ext)
}

// create opens a file for a user, who alone may read it, and empties it. Of a FIFO it waits for the reader until ctx
// ends. A symbolic link is not followed, and what others own, or have another name for, is not written to: who prepares
// a name in a folder that others can write to must not get what is captured, nor have root overwrite a file.
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
		case <-time.After(askReader):
		}
	}
}

// claim makes sure that an open file is the user's alone, and empties it. A device is nobody's: only root makes them.
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

// ending is when the writes of a reception have to end: some time after its context has.
type ending struct {
	reader, disk context.Context
	stop         []func()
}

// endingOf begins to look at ctx. Its own end is close.
func endingOf(ctx context.Context) *ending {
	e := &ending{}
	e.reader = e.after(ctx, readerTime)
	e.disk = e.after(ctx, diskTime)
	return e
}

func (e *ending) after(ctx context.Context, late time.Duration) context.Context {
	over, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(late):
			cancel()
		case <-over.Done():
		}
	})
	e.stop = append(e.stop, cancel, func() { stop() })
	return over
}

func (e *ending) close() {
	for _, f := range e.stop {
		f()
	}
}

// patientWriter writes to a file, but no longer than until a time is over: a write to a pipe that is not read does not
// end.
type patientWriter struct {
	file  *os.File
	over  context.Context
	stuck bool // a write still goes on
}

// newWriter returns a writer to a file, which need not be a regular one.
func (e *ending) newWriter(file *os.File) *patientWriter {
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		return &patientWriter{file: file, over: e.disk}
	}
	return &patientWriter{file: file, over: e.reader}
}

// Write writes p, which must not change after an error: the write may still go on.
func (w *patientWriter) Write(p []byte) (int, error) {
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
	case <-w.over.Done():
		w.stuck = true
		return 0, errStuck
	}
}

// Close closes the file, unless it is in use by a write that does not end: then the process's end does.
func (w *patientWriter) Close() error {
	if w.stuck {
		return nil
	}
	return w.file.Close()
}
