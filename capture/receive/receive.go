// SPDX-License-Identifier: Apache-2.0

// Package receive is the sink's side of a capture: it receives copies at a UDP port and writes the frames in them to
// pcapng files, with one interface per sender. It needs neither DPDK nor a daemon.
package receive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/capture/receive/privilege"
	"dpservice/wire"
)

// DefaultBuffer is how many bytes the kernel may hold: more than one second of what one CPU can receive.
const DefaultBuffer = 128 << 20

const (
	// idle is how long a read waits for the first copy, and therefore the longest time until the end of the context is
	// noticed.
	idle = 100 * time.Millisecond
	// drainTime limits how long reading goes on at the end if senders do not stop.
	drainTime = time.Second
)

// Sender identifies the interface that a copy comes from.
type Sender struct {
	Node  netip.Addr // the hypervisor's underlay address
	Label wire.Label // identifies the interface; 0 if the copy has no label
}

// Config says what to receive and where to put it.
type Config struct {
	Listen netip.AddrPort
	Ports  int            // how many ports to try, from the port of Listen on, until one is free; 0 means one
	From   []netip.Prefix // networks that may send, at most MaxFrom; empty allows everybody
	Encap  wire.Encap     // encapsulation of the copies; empty means wire.EncapUDP
	Socket bool           // use no ring, which would be faster but needs CAP_NET_RAW
	Buffer int            // bytes that the kernel may hold; 0 means DefaultBuffer, or less if memory is short
	Output Output
	// Memory is a flight recorder: unless it is the zero value, copies stay in memory, and go to files of the Output when
	// Dumps says so. The reception answers each dump, unless it ends.
	Memory Memory
	Dumps  <-chan Dump
	// Serve lets others read along: each gets the copies from its connection on. The reception closes it, if it begins.
	Serve *Audience
	// Privileges says which privileges the whole process gives up. If it is nil, the process keeps them.
	Privileges *Privileges
	// Packets and Duration limit the reception. Zero means no limit.
	Packets  uint64
	Duration time.Duration
	// Describe returns what is known about a sender; it may be nil. It is called for each sender in every file, and
	// again every few seconds for a sender without a name. No copy is read during a call.
	Describe func(Sender) Description
	// Ready is called when the reception can receive copies, unless it is nil.
	Ready func(Readiness)
	// Progress is called about once a second, unless it is nil. It must return immediately.
	Progress func(Counters)
}

// Privileges says what the process gives up after the sockets and the first file are open: all of its capabilities, and
// optionally its user.
type Privileges struct {
	User *privilege.User // the user that the process becomes; nil keeps the current one
	Must bool            // fail if that user cannot write the files of a series; otherwise the process keeps its user
}

// Readiness describes a reception that has started.
type Readiness struct {
	At     netip.AddrPort
	Buffer int             // bytes that the kernel can hold
	User   *privilege.User // the user that the process has become; nil if it kept its user
}

// Description is what is known of a sender.
type Description struct {
	Name    string // empty if unknown
	AnyNode bool   // the name belongs to the label, whatever the node
	Comment string
}

// Counters count what has been received so far.
type Counters struct {
	Packets   uint64
	Bytes     uint64 // bytes of the frames
	Dropped   uint64 // copies that the kernel dropped because its buffer was full
	Malformed uint64 // datagrams that are not copies
	Refused   uint64 // copies from senders that may not send; a socket counts them as dropped instead
	Senders   int
}

// Run receives until ctx ends, a limit is reached, the reader of the output is gone, or something fails. Before it
// returns, it writes the copies that have already arrived and completes the files. It returns an error only if
// something failed. A reader that has stopped reading is such a failure: Run gives up a blocked write after some time,
// whatever the reason for the end is.
func Run(ctx context.Context, c Config) (Counters, error) {
	if c.Duration > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	end := newWriteDeadlines(ctx)
	defer end.close()
	s, at, err := openSource(c)
	if err != nil {
		return Counters{}, err
	}
	defer s.close()
	r := &receiver{source: s, left: c.Packets}
	if r.left == 0 {
		r.left = math.MaxUint64
	}
	if r.recorder, err = openRecorder(ctx, &c, at.Port(), r.dropped, end); err != nil {
		return Counters{}, ignoreReaderGone(err)
	}
	r.config = c
	ready := Readiness{At: at, Buffer: s.buffered()}
	if p := c.Privileges; p != nil {
		if err := privilege.Drop(p.User); err != nil {
			return Counters{}, err
		}
		ready.User = p.User
	}
	if c.Ready != nil {
		c.Ready(ready)
	}
	err = r.run(ctx)
	stop()
	r.count()
	if closeErr := r.recorder.close(); err == nil {
		err = closeErr
	}
	return r.counters, ignoreReaderGone(err)
}

func ignoreReaderGone(err error) error {
	if errors.Is(err, errReaderGone) {
		return nil
	}
	return err
}

// recorder takes the copies.
type recorder interface {
	write(ctx context.Context, d *datagram) error
	// tick is called many times a second: it flushes what has waited long enough, and does what is due.
	tick(ctx context.Context) error
	close() error
	// senders returns how many senders there were, up to MaxSenders.
	senders() int
}

// openRecorder opens what the configuration asks for: files, or memory for them, and an audience beside it. It may
// clear the user in c.Privileges, as openFiles does.
func openRecorder(ctx context.Context, c *Config, port uint16, drops func() uint64, end *writeDeadlines) (recorder,
	error) {
	var r recorder
	var err error
	if c.Memory == (Memory{}) {
		r, err = openFiles(ctx, c, port, drops, end)
	} else {
		r, err = openMemory(c, port, drops, end)
	}
	if err != nil || c.Serve == nil {
		return r, err
	}
	return newServed(r, c, port, drops)
}

// source delivers datagrams.
type source interface {
	// wait waits until a datagram can be read or the timeout is over. Then it waits a little longer, so that more
	// datagrams can be read at once.
	wait(timeout time.Duration) error
	// next reads a datagram, whose data are valid until the next call. It returns false if there is none.
	next(d *datagram) (bool, error)
	// settle waits until all datagrams that have arrived can be read.
	settle()
	// drops returns how many datagrams were dropped because the buffer was full, modulo 2^32.
	drops() uint32
	// buffered returns the size of the buffer in bytes.
	buffered() int
	close()
}

// openSource opens a ring, or a socket if the process may not open a ring. It uses the first free port.
func openSource(c Config) (source, netip.AddrPort, error) {
	at := c.Listen
	buffer, err := bufferFor(c.Buffer)
	if err != nil {
		return nil, at, err
	}
	if len(c.From) > MaxFrom {
		return nil, at, fmt.Errorf("at most %d networks can be those that may send, not %d", MaxFrom, len(c.From))
	}
	s, err := listen(at, buffer, c.From)
	for tried := 1; errors.Is(err, unix.EADDRINUSE) && tried < c.Ports && at.Port() < math.MaxUint16; tried++ {
		at = netip.AddrPortFrom(at.Addr(), at.Port()+1)
		s, err = listen(at, buffer, c.From)
	}
	if err != nil || c.Socket {
		return s, at, err
	}
	r, err := openRing(s, at, buffer, c.From)
	if errors.Is(err, unix.EPERM) {
		return s, at, nil
	}
	if err != nil {
		s.close()
		return nil, at, err
	}
	return r, at, nil
}

// receiver is a reception in progress.
type receiver struct {
	config   Config
	source   source
	recorder recorder
	counters Counters
	left     uint64 // copies until the limit
	drops    uint32 // the last value of source.drops
	progress time.Time
}

func (r *receiver) run(ctx context.Context) error {
	for r.left > 0 {
		if ctx.Err() != nil {
			r.source.settle()
			return r.drain(ctx, drainTime)
		}
		if err := r.source.wait(idle); err != nil {
			return err
		}
		if err := r.drain(ctx, idle); err != nil {
			return err
		}
		if err := r.recorder.tick(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drain reads copies that have arrived, for at most the given time.
func (r *receiver) drain(ctx context.Context, most time.Duration) error {
	var d datagram
	for start := time.Now(); time.Since(start) < most; {
		r.report()
		for range batchLen {
			if r.left == 0 {
				return nil
			}
			if some, err := r.source.next(&d); err != nil || !some {
				return err
			}
			if err := r.take(ctx, &d); err != nil {
				return err
			}
		}
	}
	return nil
}

// take checks a datagram, updates the counters and writes its frame.
func (r *receiver) take(ctx context.Context, d *datagram) error {
	switch {
	case d.forwarded:
		return nil
	case !r.isAllowed(d.sender.Node):
		r.counters.Refused++
		return nil
	case r.config.Encap == wire.EncapVXLAN && !d.unwrapVXLAN(), len(d.data) == 0:
		r.counters.Malformed++
		return nil
	}
	r.left--
	r.counters.Packets++
	r.counters.Bytes += uint64(d.length)
	return r.recorder.write(ctx, d)
}

// isAllowed reports whether a node may send copies. The filter in the kernel already rejects others; this check guards
// against mistakes in that filter.
func (r *receiver) isAllowed(node netip.Addr) bool {
	return len(r.config.From) == 0 || slices.ContainsFunc(r.config.From,
		func(p netip.Prefix) bool { return p.Contains(node) })
}

// unwrapVXLAN removes the VXLAN header and takes the label from its VNI. It returns false if there is no valid header.
func (d *datagram) unwrapVXLAN() bool {
	label, frame, err := wire.ParseVXLAN(d.data)
	if err != nil {
		return false
	}
	d.sender.Label, d.data, d.length = label, frame, d.length-wire.VXLANLen
	return true
}

// dropped updates and returns the number of copies that the kernel dropped.
func (r *receiver) dropped() uint64 {
	now := r.source.drops()
	r.counters.Dropped += uint64(now - r.drops)
	r.drops = now
	return r.counters.Dropped
}

func (r *receiver) count() {
	r.counters.Senders = r.recorder.senders()
	r.dropped()
}

func (r *receiver) report() {
	if r.config.Progress == nil || time.Since(r.progress) < time.Second {
		return
	}
	r.progress = time.Now()
	r.count()
	r.config.Progress(r.counters)
}

// String formats the counters for people.
func (c Counters) String() string {
	text := fmt.Sprintf("%d copies received from %d interface(s), %d bytes; %d dropped by the kernel",
		c.Packets, c.Senders, c.Bytes, c.Dropped)
	if c.Malformed > 0 {
		text += fmt.Sprintf("; %d datagrams that are no copies", c.Malformed)
	}
	if c.Refused > 0 {
		text += fmt.Sprintf("; %d of others than may send", c.Refused)
	}
	return text
}
