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

	"dpservice/capture/pcapng"
	"dpservice/capture/receive/privilege"
	"dpservice/wire"
)

// MaxSenders is how many senders get an interface of their own in a file. Further senders share one interface with the
// copies that have no label. Since anybody can send to the port, a single host could otherwise use up all interfaces
// with made-up labels. Therefore at most maxUnnamed interfaces are for unknown senders, and at most maxLikely for
// senders whose label has a name that is valid for any node.
const (
	MaxSenders = 256
	maxUnnamed = 128
	maxLikely  = 64
)

// flushInterval is how long written data may stay in the buffer.
const flushInterval = 50 * time.Millisecond

// describeInterval is how often Config.Describe is called again for senders without a name.
const describeInterval = 3 * time.Second

// recentLen is the size of the cache of interfaces in front of the map. It is a power of 2.
const recentLen = 64

// files writes frames to the files of an output.
type files struct {
	config    Config
	port      uint16
	drops     func() uint64 // copies that the kernel has dropped so far
	deadlines *writeDeadlines
	number    int      // number of the current file
	names     []string // existing files of the series, the oldest first
	seen      map[Sender]struct{}
	dropped   uint64 // value of drops when the current file began

	file       destination
	writer     *pcapng.Writer
	began      time.Time
	flushed    time.Time
	described  time.Time
	all        []*traffic // by number; the first is shared by all senders without an interface of their own
	interfaces map[Sender]*traffic
	counts     map[certainty]int
	recent     [recentLen]recent // indexed by the last bits of the label
}

// destination is where the bytes of files go.
type destination interface {
	Write(p []byte) (int, error) // whole blocks
	Close() error
	name() string
	// unread reports whether nobody can read any more what is written.
	unread() bool
}

// recent is a cache entry: a sender and its interface in the current file. A nil interface means that the entry is
// empty.
type recent struct {
	sender  Sender
	traffic *traffic
}

// traffic counts the packets of one interface in the current file.
type traffic struct {
	number   int
	named    bool
	received uint64
}

// certainty is how much is known of a sender.
type certainty int

const (
	unnamed certainty = iota
	likely            // the name belongs to the label, whatever the node
	certain
)

// openFiles opens the first file. If the user in c.Privileges cannot write a series of files and Must is not set,
// openFiles clears the user in c: the process then stays who it is.
func openFiles(ctx context.Context, c *Config, port uint16, drops func() uint64, deadlines *writeDeadlines) (*files,
	error) {
	f := &files{port: port, drops: drops, deadlines: deadlines, seen: make(map[Sender]struct{})}
	p := c.Privileges
	if p == nil || p.User == nil || !c.Output.rotates() {
		f.config = *c
		return f, f.open(ctx)
	}
	// The user owns all files of the series, since the process must create and remove later ones as that user.
	f.config = *c
	err := privilege.As(*p.User, func() error { return f.openAs(ctx, p.User.UID) })
	if errors.Is(err, fs.ErrPermission) && !p.Must {
		c.Privileges = &Privileges{}
		f.number, f.config = 0, *c
		err = f.open(ctx)
	}
	return f, err
}

// open opens the next file.
func (f *files) open(ctx context.Context) error { return f.openAs(ctx, os.Geteuid()) }

func (f *files) openAs(ctx context.Context, uid int) error {
	o := f.config.Output
	file := o.File
	if file == nil {
		f.number++
		name := o.name(f.number, time.Now())
		var err error
		if file, err = create(ctx, name, uid); err != nil {
			return err
		}
		f.names = append(f.names, name)
	}
	return f.begin(f.deadlines.newWriter(file))
}

// begin begins a section at a destination.
func (f *files) begin(to destination) error {
	o := f.config.Output
	f.file, f.began = to, time.Now()
	f.writer = pcapng.NewWriter(f.file, pcapng.Section{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "dpctl capture receive", Comment: o.Comment,
	})
	f.all, f.interfaces, f.recent = nil, make(map[Sender]*traffic), [recentLen]recent{}
	f.counts = make(map[certainty]int)
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

// write writes a frame. It begins a new file first if the current one is full.
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

// next closes the current file and begins the next one of the series.
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

// removeOldest removes the oldest files, so that one more can be created.
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

// DropInfix is between what people call an interface and the reason, in the names of those that copies of dropped
// packets come from.
const DropInfix = "-drop-"

// unknownName returns the name of a sender of which nothing but its label is known.
func unknownName(l wire.Label) string {
	if received, reason, is := l.Dropped(); is {
		return fmt.Sprintf("label-%d%s%s", received, DropInfix, reason)
	}
	return fmt.Sprintf("label-%d", l)
}

// describe adds an interface for a sender if its name is known, or if it has no interface of its own yet. Otherwise,
// and if there is no room for one more interface, the sender keeps its current one.
func (f *files) describe(s Sender, now *traffic) *traffic {
	i := pcapng.Interface{
		Name:        unknownName(s.Label),
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
	if known == unnamed && now.number != 0 || !f.hasRoom(known) {
		return now
	}
	t := f.add(i)
	t.named = known != unnamed
	f.counts[known]++
	f.interfaces[s] = t
	if len(f.seen) < MaxSenders {
		f.seen[s] = struct{}{}
	}
	return t
}

// hasRoom reports whether the current file may get one more interface of this certainty.
func (f *files) hasRoom(c certainty) bool {
	most := map[certainty]int{unnamed: maxUnnamed, likely: maxLikely, certain: MaxSenders}
	return f.counts[c] < most[c] && len(f.all) <= MaxSenders
}

// describeAgain adds a named interface for each sender whose name has become known.
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

// senders returns how many senders there were in all files, up to MaxSenders.
func (f *files) senders() int { return len(f.seen) }

// tick begins a new file if the current one is full, flushes data that have waited long enough, and detects that the
// reader of the output is gone.
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
	if f.file.unread() {
		return errReaderGone
	}
	return nil
}

// checked converts an error of a write: EPIPE becomes errReaderGone.
func (f *files) checked(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE):
		return errReaderGone
	}
	return fmt.Errorf("writing %s: %w", f.file.name(), err)
}

// close writes the statistics and closes the current file. The drops are those since the file began.
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
