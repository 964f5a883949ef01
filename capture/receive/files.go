// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/capture/pcapng"
)

// MaxSenders is how many senders get an interface of their own in a file. Further ones share one, which also has the copies
// without a label: anybody can send to the port.
const MaxSenders = 256

// flushInterval is how old what has not been written may become.
const flushInterval = 50 * time.Millisecond

// errReaderGone is a pipe that nobody reads any more.
var errReaderGone = errors.New("nobody reads the output")

// Output says where frames go: to a File, or to a series of them.
type Output struct {
	// File is already open, for example a pipe; Path is created. One of them is set.
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

// recentLen is how many interfaces are found again without a look into a map: a power of 2.
const recentLen = 64

// files writes frames to the files of an output.
type files struct {
	config  Config
	drops   func() uint64 // how many copies the kernel has had no room for
	number  int           // of the current file
	names   []string      // of those that are there, the oldest first
	seen    map[Sender]struct{}
	dropped uint64 // when the current file began

	file       *os.File
	writer     *pcapng.Writer
	began      time.Time
	flushed    time.Time
	interfaces map[Sender]*traffic
	recent     [recentLen]recent // by the label's last bits
	others     *traffic
}

// recent is a sender, and the interface that it has in the current file, which is nil if it is not known.
type recent struct {
	sender  Sender
	traffic *traffic
}

// traffic is what has been received of an interface in the current file.
type traffic struct {
	number   int
	received uint64
}

func openFiles(c Config, drops func() uint64) (*files, error) {
	f := &files{config: c, drops: drops, seen: make(map[Sender]struct{})}
	return f, f.open()
}

// open begins the next file.
func (f *files) open() error {
	o := f.config.Output
	f.number++
	f.began = time.Now()
	f.file = o.File
	if f.file == nil {
		name := o.name(f.number, f.began)
		var err error
		if f.file, err = os.Create(name); err != nil {
			return fmt.Errorf("creating a capture file: %w", err)
		}
		f.names = append(f.names, name)
	}
	f.writer = pcapng.NewWriter(f.file, pcapng.Section{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "dpctl capture receive", Comment: o.Comment,
	})
	port := f.config.Listen.Port()
	f.others = &traffic{number: f.writer.AddInterface(pcapng.Interface{
		Name:        fmt.Sprintf("port-%d", port),
		Description: fmt.Sprintf("copies on UDP port %d that name no interface", port),
		Comment:     "its drops are those of all interfaces: the kernel had no room for these copies",
	})}
	f.interfaces, f.recent = make(map[Sender]*traffic), [recentLen]recent{}
	return f.flush()
}

// write writes a frame, into a new file if it is time for one.
func (f *files) write(d *datagram) error {
	if f.full() {
		if err := f.next(); err != nil {
			return err
		}
	}
	r := &f.recent[d.sender.Label%recentLen]
	if r.traffic == nil || r.sender != d.sender {
		*r = recent{d.sender, f.traffic(d.sender)}
	}
	r.traffic.received++
	return f.checked(f.writer.Packet(r.traffic.number, d.at, d.data, d.length))
}

// next begins the next file of a series.
func (f *files) next() error {
	if err := f.close(); err != nil {
		return err
	}
	if err := f.removeOldest(); err != nil {
		return err
	}
	return f.open()
}

func (f *files) full() bool {
	o := &f.config.Output
	return o.RotateSize > 0 && f.writer.Size() >= o.RotateSize ||
		o.RotateInterval > 0 && time.Since(f.began) >= o.RotateInterval
}

// removeOldest makes room for one more file.
func (f *files) removeOldest() error {
	keep := f.config.Output.Files
	for keep > 0 && len(f.names) >= keep {
		if err := os.Remove(f.names[0]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the oldest capture file: %w", err)
		}
		f.names = f.names[1:]
	}
	return nil
}

// traffic returns the interface of a sender in the current file.
func (f *files) traffic(s Sender) *traffic {
	t := f.interfaces[s]
	switch {
	case t != nil:
		return t
	case s.Label == 0 || len(f.interfaces) >= MaxSenders:
		return f.others
	}
	i := pcapng.Interface{
		Name:        fmt.Sprintf("label-%d", s.Label),
		Description: fmt.Sprintf("label %d of node %s", s.Label, s.Node),
	}
	if f.config.Describe != nil {
		d := f.config.Describe(s)
		i.Comment = d.Comment
		if d.Name != "" {
			i.Name = d.Name
		}
	}
	t = &traffic{number: f.writer.AddInterface(i)}
	f.interfaces[s] = t
	if len(f.seen) < MaxSenders {
		f.seen[s] = struct{}{}
	}
	return t
}

// senders is how many senders there were in all files, up to MaxSenders.
func (f *files) senders() int { return len(f.seen) }

// tick writes what has waited long enough, and notices a reader that is gone.
func (f *files) tick() error {
	if time.Since(f.flushed) < flushInterval {
		return nil
	}
	return f.flush()
}

func (f *files) flush() error {
	f.flushed = time.Now()
	if err := f.checked(f.writer.Flush()); err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(f.file.Fd())}}
	if _, err := unix.Poll(fds, 0); err == nil && fds[0].Revents&unix.POLLERR != 0 {
		return errReaderGone
	}
	return nil
}

// checked says what an error of writing means.
func (f *files) checked(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE):
		return errReaderGone
	}
	return fmt.Errorf("writing %s: %w", f.file.Name(), err)
}

// close completes the current file. The drops are those of all files so far.
func (f *files) close() error {
	end, dropped := time.Now(), f.drops()
	f.statistics(f.others, end, dropped-f.dropped)
	for _, t := range f.interfaces {
		f.statistics(t, end, 0)
	}
	f.dropped = dropped
	err := f.checked(f.writer.Flush())
	if f.config.Output.File == nil {
		if closeErr := f.file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("closing a capture file: %w", closeErr)
		}
	}
	return err
}

func (f *files) statistics(t *traffic, end time.Time, dropped uint64) {
	f.writer.Statistics(t.number, pcapng.Statistics{Start: f.began, End: end, Received: t.received, Dropped: dropped})
}
