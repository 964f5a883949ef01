// SPDX-License-Identifier: Apache-2.0

// Package receive is the sink's side of a capture: it takes copies from a UDP port and writes the frames in them to
// pcapng files, with an interface for each sender. It needs neither DPDK nor a daemon.
package receive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultBuffer is how many bytes the kernel may hold: a second and more of what one CPU can take in.
const DefaultBuffer = 128 << 20

const (
	// idle is how long a read waits for a first copy, and so how late an end is noticed at most.
	idle = 100 * time.Millisecond
	// drainTime bounds how long reading goes on at the end, when senders do not stop.
	drainTime = time.Second

	vxlanLen    = 8
	vxlanHasVNI = 0x08
)

// Sender is what the copies of one interface have in common.
type Sender struct {
	Node  netip.Addr // the hypervisor's underlay address
	Label uint32     // the interface's; 0 if the copy has none
}

// Config says what to receive and where to put it.
type Config struct {
	Listen netip.AddrPort
	VXLAN  bool // the copies have a VXLAN header
	Socket bool // do without a ring, which is faster and needs CAP_NET_RAW
	Buffer int  // bytes that the kernel may hold until they are read; 0 is DefaultBuffer
	Output Output
	// Packets and Duration end the reception, unless they are 0.
	Packets  uint64
	Duration time.Duration
	// Describe says what is known of a sender. It is called once for each in every file, and may be nil.
	Describe func(Sender) Description
	// Ready, unless it is nil, is called once copies are taken, with the bytes that the kernel can hold until they are read.
	Ready func(buffer int)
	// Progress, unless it is nil, is called about once a second.
	Progress func(Counters)
}

// Description is what is known of a sender.
type Description struct {
	Name    string // empty if it is not known
	Comment string
}

// Counters count what has been received so far.
type Counters struct {
	Packets   uint64
	Bytes     uint64 // of the frames
	Dropped   uint64 // copies that the kernel had no room for
	Malformed uint64 // datagrams that are no copies
	Senders   int
}

// Run receives until ctx ends, a limit is reached, the output's reader is gone, or something fails. Then what has arrived is
// written, and the files are complete. Only the last of these is an error.
func Run(ctx context.Context, c Config) (Counters, error) {
	s, err := openSource(c)
	if err != nil {
		return Counters{}, err
	}
	defer s.close()
	r := &receiver{config: c, source: s, left: c.Packets}
	if r.files, err = openFiles(c, r.dropped); err != nil {
		return Counters{}, err
	}
	if r.left == 0 {
		r.left = math.MaxUint64
	}
	if c.Duration > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	if c.Ready != nil {
		c.Ready(s.buffered())
	}
	err = r.run(ctx)
	r.count()
	if closeErr := r.files.close(); err == nil {
		err = closeErr
	}
	if errors.Is(err, errReaderGone) {
		err = nil
	}
	return r.counters, err
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

// openSource opens a ring where that is allowed, or else a socket.
func openSource(c Config) (source, error) {
	buffer := c.Buffer
	if buffer == 0 {
		buffer = DefaultBuffer
	}
	s, err := listen(c.Listen, buffer)
	if err != nil || c.Socket {
		return s, err
	}
	r, err := openRing(s, c.Listen, buffer)
	if errors.Is(err, unix.EPERM) {
		return s, nil
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return r, nil
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
			return r.drain(drainTime)
		}
		if err := r.source.wait(idle); err != nil {
			return err
		}
		if err := r.drain(idle); err != nil {
			return err
		}
		if err := r.files.tick(); err != nil {
			return err
		}
	}
	return nil
}

// drain takes the copies that have arrived, for this long at most.
func (r *receiver) drain(most time.Duration) error {
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
			if err := r.take(&d); err != nil {
				return err
			}
		}
	}
	return nil
}

// take writes the frame in a datagram.
func (r *receiver) take(d *datagram) error {
	if r.config.VXLAN && !d.unwrapVXLAN() || len(d.data) == 0 {
		r.counters.Malformed++
		return nil
	}
	r.left--
	r.counters.Packets++
	r.counters.Bytes += uint64(d.length)
	return r.files.write(d)
}

// unwrapVXLAN removes the VXLAN header, whose VNI is the label. It is false for a datagram without one.
func (d *datagram) unwrapVXLAN() bool {
	if len(d.data) < vxlanLen || d.data[0]&vxlanHasVNI == 0 {
		return false
	}
	d.sender.Label = binary.BigEndian.Uint32(d.data[4:]) >> 8
	d.data, d.length = d.data[vxlanLen:], d.length-vxlanLen
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
	return text
}
