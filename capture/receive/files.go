// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/capture/pcapng"
	"dpservice/capture/receive/privilege"
)

// MaxSenders is how many senders get an interface of their own in a file. Further ones share one, which also has the
// copies without a label: anybody can send to the port. So that nobody takes all places with labels of his choosing,
// only maxUnnamed are for senders of which nothing is known, and maxLikely for those whose label has a name whatever
// the node.
const (
	MaxSenders = 256
	maxUnnamed = 128
	maxLikely  = 64
)

// flushInterval is how old what has not been written may become.
const flushInterval = 50 * time.Millisecond

// describeInterval is how often it is asked again who the senders without a name are.
const describeInterval = 3 * time.Second

// recentLen is how many interfaces are found again without a look into a map: a power of 2.
const recentLen = 64

// files writes frames to the files of an output.
type files struct {
	config  Config
	port    uint16
	drops   func() uint64 // how many copies the kernel has had no room for
	end     *ending
	number  int      // of the current file
	names   []string // of those that are there, the oldest first
	seen    map[Sender]struct{}
	dropped uint64 // when the current file began

	file       *patientWriter
	writer     *pcapng.Writer
	began      time.Time
	flushed    time.Time
	described  time.Time
	all        []*traffic // by number; the first is that of all who have none of their own
	interfaces map[Sender]*traffic
	places     map[certainty]int
	recent     [recentLen]recent // by the label's last bits
}

// recent is a sender, and the interface that it has in the current file, which is nil if it is not known.
type recent struct {
	sender  Sender
	traffic *traffic
}

// traffic is what has been received of an interface in the current file.
type traffic struct {
	number   int
	named    bool
	received uint64
}

// certainty is how much is known of a sender.
type certainty int

const (
	unnamed certainty = iota
	likely            // a name that is any node's
	certain
)

// openFiles begins the first file. Who the process becomes after that is in the config: it is nobody else if that user
// could not write a series, unless that is a must.
func openFiles(ctx context.Context, c *Config, port uint16, drops func() uint64, end *ending) (*files, error) {
	f := &files{port: port, drops: drops, end: end, seen: make(map[Sender]struct{})}
	p := c.Privileges
	if p == nil || p.User == nil || !c.Output.rotates() {
		f.config = *c
		return f, f.open(ctx)
	}
	// All files of a series are that user's: he has to open the later ones, and remove them.
	f.config = *c
	err := privilege.As(*p.User, func() error { return f.openAs(ctx, p.User.UID) })
	if errors.Is(err, fs.ErrPermission) && !p.Must {
		c.Privileges = &Privileges{}
		f.number, f.config = 0, *c
		err = f.open(ctx)
	}
	return f, err
}

// open begins the next file.
func (f *files) open(ctx context.Context) error { return f.openAs(ctx, os.Geteuid()) }

func (f *files) openAs(ctx context.Context, uid int) error {
	o := f.config.Output
	f.number++
	f.began = time.Now()
	file := o.File
	if file == nil {
		name := o.name(f.number, f.began)
		var err error
		if file, err = create(ctx, name, uid); err != nil {
			return err
		}
		f.names = append(f.names, name)
	}
	f.file = f.end.newWriter(file)
	f.writer = pcapng.NewWriter(f.file, pcapng.Section{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "dpctl capture receive", Comment: o.Comment,
	})
	f.all, f.interfaces, f.recent = nil, make(map[Sender]*traffic), [recentLen]recent{}
	f.places = make(map[certainty]int)
	f.add(pcapng.Interface{
		Name:        fmt.Sprintf("port-%d", f.port),
		Description: fmt.Sprintf("copies on UDP port %d that name no interface", f.port),
		Comment:     "its drops are those of all interfaces: the kernel had no room for these copies",
	})
	f.described = f.began
	return f.flush()
}

// add adds an interface to the current file.
func (f *files) add(i pcapng.Interface) *traffic {
	t := &traffic{number: f.writer.AddInterface(i)}
	f.all = append(f.all, t)
	return t
}

// write writes a frame, into a new file if it is time for one.
func (f *files) write(ctx context.Context, d *datagram) error {
	if f.full() {
		if err := f.next(ctx); err != nil {
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
func (f *files) next(ctx context.Context) error {
	if err := f.close(); err != nil {
		return err
	}
	if err := f.removeOldest(); err != nil {
		return err
	}
	return f.open(ctx)
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
	if t := f.interfaces[s]; t != nil {
		return t
	}
	if s.Label == 0 {
		return f.all[0]
	}
	return f.describe(s, f.all[0])
}

// describe gives a sender an interface by what is known of it, or leaves it the one that it has.
func (f *files) describe(s Sender, now *traffic) *traffic {
	i := pcapng.Interface{
		Name:        fmt.Sprintf("label-%d", s.Label),
		Description: fmt.Sprintf("label %d of node %s", s.Label, s.Node),
	}
	known := unnamed
	if f.config.Describe != nil {
		d := f.config.Describe(s)
		i.Comment = d.Comment
		switch {
		case d.Name == "":
		case d.AnyNode:
			i.Name, known = d.Name, likely
		default:
			i.Name, known = d.Name, certain
		}
	}
	if known == unnamed && now.number != 0 || !f.room(known) {
		return now
	}
	t := f.add(i)
	t.named = known != unnamed
	f.places[known]++
	f.interfaces[s] = t
	if len(f.seen) < MaxSenders {
		f.seen[s] = struct{}{}
	}
	return t
}

// room reports whether there is a place for one more interface in the current file.
func (f *files) room(c certainty) bool {
	most := map[certainty]int{unnamed: maxUnnamed, likely: maxLikely, certain: MaxSenders}
	return f.places[c] < most[c] && len(f.all) <= MaxSenders
}

// describeAgain gives those senders an interface with their name whose names have become known.
func (f *files) describeAgain() {
	if f.config.Describe == nil || time.Since(f.described) < describeInterval {
		return
	}
	f.described = time.Now()
	for s, t := range f.interfaces {
		if !t.named {
			f.describe(s, t)
		}
	}
	f.recent = [recentLen]recent{}
}

// senders is how many senders there were in all files, up to MaxSenders.
func (f *files) senders() int { return len(f.seen) }

// tick begins a new file if it is time for one, writes what has waited long enough, and notices a reader that is gone.
func (f *files) tick(ctx context.Context) error {
	if f.full() {
		return f.next(ctx)
	}
	if time.Since(f.flushed) < flushInterval {
		return nil
	}
	f.describeAgain()
	return f.flush()
}

func (f *files) flush() error {
	f.flushed = time.Now()
	if err := f.checked(f.writer.Flush()); err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(f.file.file.Fd())}}
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
	return fmt.Errorf("writing %s: %w", f.file.file.Name(), err)
}

// close completes the current file. The drops are those of all files so far.
func (f *files) close() error {
	end, dropped := time.Now(), f.drops()
	for i, t := range f.all {
		s := pcapng.Statistics{Start: f.began, End: end, Received: t.received}
		if i == 0 {
			s.Dropped = dropped - f.dropped
		}
		f.writer.Statistics(t.number, s)
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
