// SPDX-License-Identifier: Apache-2.0

// Package receive is the sink's side of a capture: it takes copies from a UDP port and writes the frames in them to
// pcapng files, with an interface for each sender. It needs neither DPDK nor a daemon.
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

// DefaultBuffer is how many bytes the kernel may hold: a second and more of what one CPU can take in.
const DefaultBuffer = 128 << 20

const (
	// idle is how long a read waits for a first copy, and so how late an end is noticed at most.
	idle = 100 * time.Millisecond
	// drainTime bounds how long reading goes on at the end, when senders do not stop.
	drainTime = time.Second
)

// Sender is what the copies of one interface have in common.
type Sender struct {
	Node  netip.Addr // the hypervisor's underlay address
	Label wire.Label // names the interface; 0 if the copy has none
}

// Config says what to receive and where to put it.
type Config struct {
	Listen netip.AddrPort
	Ports  int            // how many ports are tried, from Listen's on, until one is free; 0 is one
	From   []netip.Prefix // who may send; none is anybody, and at most MaxFrom
	Encap  wire.Encap     // of the copies; empty is wire.EncapUDP
	Socket bool           // do without a ring, which is faster and needs CAP_NET_RAW
	Buffer int            // bytes that the kernel may hold; 0 is DefaultBuffer, or less if memory is short
	Output Output
	// Privileges, unless it is nil, says what becomes of the privileges of the whole process.
	Privileges *Privileges
	// Packets and Duration end the reception, unless they are 0.
	Packets  uint64
	Duration time.Duration
	// Describe says what is known of a sender. It is called for each in every file, for those without a name again every
	// few seconds, and may be nil. Meanwhile no copy is read.
	Describe func(Sender) Description
	// Ready, unless it is nil, is called once copies are taken.
	Ready func(Readiness)
	// Progress, unless it is nil, is called about once a second, and must return at once.
	Progress func(Counters)
}

// Privileges are given up when sockets and the first file are open: all capabilities, and the user.
type Privileges struct {
	User *privilege.User // whom the process becomes; nil: it stays who it is
	Must bool            // even if that user cannot write the files of a series: then it is an error
}

// Readiness is what a reception has got.
type Readiness struct {
	At     netip.AddrPort
	Buffer int             // bytes that the kernel can hold until they are read
	User   *privilege.User // whom the process has become; nil if it is who it was
}

// Description is what is known of a sender.
type Description struct {
	Name    string // empty if it is not known
	AnyNode bool   // the name is that of the label, whatever the node
	Comment string
}

// Counters count what has been received so far.
type Counters struct {
	Packets   uint64
	Bytes     uint64 // of the frames
	Dropped   uint64 // copies that the kernel had no room for
	Malformed uint64 // datagrams that are no copies
	Refused   uint64 // copies of a sender that may not send; without a ring they are among the dropped
	Senders   int
}

// Run receives until ctx ends, a limit is reached, the output's reader is gone, or something fails. Then what has
// arrived is written, and the files are complete. Only the last of these is an error, and an output whose reader has
// stopped to read: none of these ends waits for a write that does not end.
func Run(ctx context.Context, c Config) (Counters, error) {
	if c.Duration > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	end := endingOf(ctx)
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
	if r.files, err = openFiles(ctx, &c, at.Port(), r.dropped, end); err != nil {
		return Counters{}, unlessGone(err)
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
	if closeErr := r.files.close(); err == nil {
		err = closeErr
	}
	return r.counters, unlessGone(err)
}

func unlessGone(err error) error {
	if errors.Is(err, errReaderGone) {
		return nil
	}
	return err
}

// source is where datagrams come from.
type source interface {
	// wait waits until something can be read, and then for more, or until the time is over.
	wait(timeout time.Duration) error
	// next gets a datagram, which stays until the next call. It is false if none is there.
	next(d *datagram) (bool, error)
	// settle waits until all that has arrived can be read.
	settle()
	// drops is how many datagrams were lost for want of room, modulo 2^32.
	drops() uint32
	// buffered is how many bytes of them there is room for.
	buffered() int
	close()
}

// openSource opens a ring where that is allowed, or else a socket, at the first port that is free.
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
	files    *files
	counters Counters
	left     uint64 // copies until the limit
	drops    uint32 // the source's count when it was last read
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
		if err := r.files.tick(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drain takes the copies that have arrived, for this long at most.
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

// take writes the frame in a datagram that is for this machine.
func (r *receiver) take(ctx context.Context, d *datagram) error {
	switch {
	case d.passing:
		return nil
	case !r.mayCome(d.sender.Node):
		r.counters.Refused++
		return nil
	case r.config.Encap == wire.EncapVXLAN && !d.unwrapVXLAN(), len(d.data) == 0:
		r.counters.Malformed++
		return nil
	}
	r.left--
	r.counters.Packets++
	r.counters.Bytes += uint64(d.length)
	return r.files.write(ctx, d)
}

// mayCome reports whether a node is one of those that may send. The kernel's filter lets no other one through; this is
// so that no mistake in it matters.
func (r *receiver) mayCome(node netip.Addr) bool {
	return len(r.config.From) == 0 || slices.ContainsFunc(r.config.From,
		func(p netip.Prefix) bool { return p.Contains(node) })
}

// unwrapVXLAN removes the VXLAN header, whose VNI is the label. It is false for a datagram without one.
func (d *datagram) unwrapVXLAN() bool {
	label, frame, err := wire.ParseVXLAN(d.data)
	if err != nil {
		return false
	}
	d.sender.Label, d.data, d.length = label, frame, d.length-wire.VXLANLen
	return true
}

// dropped counts the copies that the kernel had no room for.
func (r *receiver) dropped() uint64 {
	now := r.source.drops()
	r.counters.Dropped += uint64(now - r.drops)
	r.drops = now
	return r.counters.Dropped
}

func (r *receiver) count() {
	r.counters.Senders = r.files.senders()
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

// String is how people read the counters.
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
