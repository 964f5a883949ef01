// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/test/topology"
	"dpservice/wire"
)

const (
	receiveGoal = 1.5
	sinkPort    = 3010
	// sendCPU runs the sender and the receiving kernel; receiveCPU runs the receiving program.
	sendCPU, receiveCPU = 0, 1
	// The search for the highest rate begins at leastRate, and ends when the ratio of two rates is below precision.
	leastRate = 20_000
	precision = 1.12
	// enough is the least acceptable share of a rate that the sender must reach.
	enough = 0.9
	// receiveTries is how often a rate is tried, because other load on the machine can cause a loss.
	receiveTries = 2
	// costRate is the rate at which the programs' CPU times per copy are compared.
	costRate = 200_000
)

// receiving measures how many copies per second the receiving programs take without a loss, on a veth pair between two
// namespaces.
type receiving struct {
	Share  float64     `json:"cpu_share"`
	Buffer int         `json:"buffer_mib"`
	Cases  []*sinkCase `json:"cases"`

	dir         string // where files are written
	repetitions int
	sendTime    time.Duration // how long a program must sustain a rate
}

// sinkCase is one size of frames.
type sinkCase struct {
	FrameSize int          `json:"frame_size"` // of the guest's, without FCS
	SendRate  float64      `json:"send_packets_per_second"`
	Receivers []*sinkRates `json:"receivers"`
	Ratio     float64      `json:"ratio"`     // dpctl's loss-free rate divided by the best rate of the others
	CPURatio  float64      `json:"cpu_ratio"` // the least CPU time of the others divided by dpctl's
}

// sinkRates are the figures of one program.
type sinkRates struct {
	Name string `json:"name"`
	// LossFree is the highest rate without a loss in each round, with a share of a CPU, and Median of these.
	LossFree []float64 `json:"loss_free_packets_per_second"`
	Median   float64   `json:"median"`
	// Limit is true if the sender could not send faster.
	Limit bool `json:"limited_by_sender"`
	// CPU is the program's own CPU time per copy in each round, in nanoseconds, and MedianCPU is their median. The program
	// uses its default buffer for this measurement.
	CPU       []float64 `json:"nanoseconds_per_packet"`
	MedianCPU float64   `json:"median_nanoseconds"`
	// Lost is the share of copies that the program loses with a whole CPU, when the sender sends as fast as it can.
	Lost float64 `json:"lost_of_all_that_can_be_sent"`

	argv     []string
	buffer   []string       // the flags for the size of its buffer
	ready    string         // the text on stderr when it is ready to receive
	received *regexp.Regexp // matches the number of packets in its last output
	late     time.Duration  // how long it may buffer packets before it counts them
	own      bool           // it opens the UDP port itself
}

func newReceiving(dir string, repetitions int, sendTime time.Duration, share float64, buffer int,
	sizes []int) *receiving {
	r := &receiving{Share: share, Buffer: buffer, dir: dir, repetitions: repetitions, sendTime: sendTime}
	for _, size := range sizes {
		const fcs = 4
		r.Cases = append(r.Cases, &sinkCase{FrameSize: size - fcs, Receivers: sinkPrograms(buffer)})
	}
	return r
}

func sinkPrograms(buffer int) []*sinkRates {
	const filter = "udp dst port 3010"
	mib, kib := strconv.Itoa(buffer), strconv.Itoa(buffer<<10)
	return []*sinkRates{
		{Name: "dpctl", argv: []string{"DPCTL", "capture", "receive", "--udp-dst-port=3010", "-w", "FILE"},
			buffer: []string{"--buffer=" + mib + "M"},
			ready:  "receiving on", received: regexp.MustCompile(`(\d+) copies received`), late: 100 * time.Millisecond,
			own: true},
		{Name: "tcpdump", argv: []string{"tcpdump", filter, "-ni", "eth0", "-Z", "root", "-w", "FILE"},
			buffer: []string{"-B", kib},
			ready:  "listening on", received: regexp.MustCompile(`(\d+) packets captured`), late: 1100 * time.Millisecond},
		{Name: "dumpcap", argv: []string{"dumpcap", "-q", "-i", "eth0", "-w", "FILE", "-f", filter},
			buffer: []string{"-B", mib},
			ready:  "File:", received: regexp.MustCompile(`Packets captured: (\d+)`), late: 400 * time.Millisecond},
	}
}

// sinkBench is the two namespaces, with the sender in one of them.
type sinkBench struct {
	lab    *topology.Lab
	from   *topology.Namespace
	sink   *topology.Namespace
	dir    string // of the received files
	sender *sender
}

func (r *receiving) measure(ctx context.Context) (err error) {
	if runtime.NumCPU() <= receiveCPU {
		return errors.New("it takes two CPUs: one for the sender, one for the programs")
	}
	lab, err := topology.New()
	if err != nil {
		return err
	}
	b := &sinkBench{lab: lab}
	defer func() { err = errors.Join(err, lab.Close()) }()
	if err := b.build(r.dir); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for _, c := range r.Cases {
		if err := r.compare(ctx, b, c); err != nil {
			return fmt.Errorf("frames of %d bytes: %w", c.FrameSize, err)
		}
	}
	return nil
}

// build makes the namespaces, and a folder below dir.
func (b *sinkBench) build(dir string) (err error) {
	if b.dir, err = os.MkdirTemp(dir, "dpservice-bench"); err != nil {
		return err
	}
	if b.from, err = b.lab.Namespace("from"); err != nil {
		return err
	}
	if b.sink, err = b.lab.Namespace("sink"); err != nil {
		return err
	}
	if err := b.lab.Link(b.from, "eth0", b.sink, "eth0", 1800); err != nil {
		return err
	}
	if err := b.sink.IP("addr add fc00:99::1/64 dev eth0 nodad"); err != nil {
		return err
	}
	return b.from.IP("addr add fc00:99::2/64 dev eth0 nodad")
}

// compare runs the programs in turns with frames of one size.
func (r *receiving) compare(ctx context.Context, b *sinkBench, c *sinkCase) error {
	err := b.from.Inside(func() (err error) {
		b.sender, err = newSender(netip.AddrPortFrom(netip.MustParseAddr("fc00:99::1"), sinkPort), c.FrameSize)
		return err
	})
	if err != nil {
		return err
	}
	defer b.sender.close()
	for _, s := range c.Receivers {
		t, err := s.try(ctx, b, math.Inf(1), r.sendTime, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		s.Lost = 1 - float64(t.received)/float64(t.copies)
		c.SendRate = max(c.SendRate, t.rate)
	}
	for range r.repetitions {
		for _, s := range c.Receivers {
			if err := r.round(ctx, b, c, s); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
		}
	}
	c.rate()
	return nil
}

// round measures a program once.
func (r *receiving) round(ctx context.Context, b *sinkBench, c *sinkCase, s *sinkRates) error {
	t, err := s.try(ctx, b, costRate, r.sendTime, nil)
	if err != nil {
		return err
	}
	s.CPU = append(s.CPU, float64(t.program.Nanoseconds())/float64(max(t.received, 1)))
	best, err := r.search(ctx, b, s, c.SendRate)
	s.LossFree = append(s.LossFree, best)
	return err
}

// search finds the highest loss-free rate of a program with a share of a CPU.
func (r *receiving) search(ctx context.Context, b *sinkBench, s *sinkRates, most float64) (best float64, err error) {
	thief, err := steal(receiveCPU, r.Share)
	if err != nil {
		return 0, err
	}
	defer thief.end()
	s.Limit = false
	defer func() { s.Limit = s.Limit || best*precision >= most }()
	low, high := float64(leastRate), most
	if len(s.LossFree) > 0 { // begin near the previous result
		const near = 1.3
		last := max(leastRate, s.LossFree[len(s.LossFree)-1])
		low, high = last/near, min(most, last*near)
	}
	if best, err = r.between(ctx, b, s, low, high); best > 0 || err != nil || low <= leastRate {
		return best, err
	}
	return r.between(ctx, b, s, leastRate, low)
}

// between finds the highest loss-free rate of a program between two rates by bisection. It returns 0 if there is none.
func (r *receiving) between(ctx context.Context, b *sinkBench, s *sinkRates, low, high float64) (best float64,
	err error) {
	for high/low > precision {
		rate := math.Sqrt(low * high)
		reached, err := r.keeps(ctx, b, s, rate)
		if err != nil {
			return 0, err
		}
		if reached == 0 {
			high = rate
			continue
		}
		best, low = max(best, reached), rate
		if s.Limit = reached < rate*enough; s.Limit {
			break
		}
	}
	return best, nil
}

// keeps tries a rate. It returns the rate that the sender reached, or 0 if the program lost copies in every try.
func (r *receiving) keeps(ctx context.Context, b *sinkBench, s *sinkRates, rate float64) (float64, error) {
	for range receiveTries {
		t, err := s.try(ctx, b, rate, r.sendTime, s.buffer)
		if err != nil {
			return 0, err
		}
		if t.received == t.copies {
			return t.rate, nil
		}
	}
	return 0, nil
}

// trial is the result of sending to a program.
type trial struct {
	sending
	received int
	program  time.Duration // the program's CPU time
}

// try starts the program with further flags, and sends to it at a rate.
func (s *sinkRates) try(ctx context.Context, b *sinkBench, rate float64, long time.Duration, flags []string) (t trial,
	err error) {
	if !s.own {
		port, err := holdPort(b.sink)
		if err != nil {
			return t, err
		}
		defer unix.Close(port)
	}
	p, err := b.sink.Start(s.command(filepath.Join(b.dir, "received"), flags)...)
	if err != nil {
		return t, err
	}
	start, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.WaitOutput(start, p.Stderr, s.ready); err != nil {
		return t, err
	}
	before := processTime(p.Pid())
	if t.sending, err = b.sender.send(rate, long); err != nil {
		return t, err
	}
	time.Sleep(s.late)
	t.program = processTime(p.Pid()) - before
	result, err := p.Stop(ctx, syscall.SIGINT)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return t, err
	}
	m := s.received.FindStringSubmatch(result.Stderr + result.Stdout)
	if m == nil {
		return t, fmt.Errorf("it does not say what it received: %s", result.Stderr)
	}
	t.received, err = strconv.Atoi(m[1])
	return t, err
}

// holdPort opens the UDP port for a program that does not, with a socket that discards all packets, as dpctl does.
// Otherwise the kernel would answer each copy with an ICMPv6 error.
func holdPort(ns *topology.Namespace) (fd int, err error) {
	err = ns.Inside(func() error {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
		none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		program := unix.SockFprog{Len: uint16(len(none)), Filter: &none[0]}
		return errors.Join(
			os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)),
			os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet6{Port: sinkPort})))
	})
	return fd, err
}

// command starts the program on its CPU.
func (s *sinkRates) command(file string, flags []string) []string {
	argv := []string{"chrt", "-f", strconv.Itoa(receivePriority), "taskset", "-c", strconv.Itoa(receiveCPU)}
	self, _ := os.Executable() // the other built programs are in the same folder
	for _, arg := range slices.Concat(s.argv, flags) {
		arg = strings.Replace(arg, "FILE", file, 1)
		argv = append(argv, strings.Replace(arg, "DPCTL", filepath.Join(filepath.Dir(self), "dpctl"), 1))
	}
	return argv
}

// rate computes the ratios of the measured figures.
func (c *sinkCase) rate() {
	rate, cost := 0.0, math.Inf(1)
	for i, s := range c.Receivers {
		s.Median, s.MedianCPU = median(s.LossFree), median(s.CPU)
		if i > 0 {
			rate, cost = max(rate, s.Median), min(cost, s.MedianCPU)
		}
	}
	dpctl := c.Receivers[0]
	if rate > 0 {
		c.Ratio = dpctl.Median / rate
	}
	if dpctl.MedianCPU > 0 {
		c.CPURatio = cost / dpctl.MedianCPU
	}
}

func (r *receiving) table(w io.Writer) error {
	fmt.Fprintf(w,
		"copies at the sink: the most per second without a loss, by programs that have %.0f%% of a CPU and buffers of %d MiB;\n"+
			"the CPU time of the program for each at %d thousand; and what is lost when all is sent that can be: both with buffers as they\n"+
			"are by default (dpctl 128 MiB, the others 2 MiB) and a whole CPU\n", 100*r.Share, r.Buffer, costRate/1000)
	for _, c := range r.Cases {
		fmt.Fprintf(w, "\nframes of %d bytes, copies of %d; %.0f thousand per second can be sent\n\n", c.FrameSize,
			c.FrameSize+wire.CopyHeaderLen, c.SendRate/1000)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "PROGRAM\tTHOUSANDS/S\tLIMITED BY\tNS A COPY\tLOST")
		for _, s := range c.Receivers {
			limit := "loss"
			if s.Limit {
				limit = "sender"
			}
			fmt.Fprintf(table, "%s\t%.0f\t%s\t%.0f\t%.1f%%\n", s.Name, s.Median/1000, limit, s.MedianCPU, 100*s.Lost)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "\ndpctl: %.2f of the better one's rate, which takes %.2f of its CPU time; the goal is %.1f\n",
			c.Ratio, c.CPURatio,
			receiveGoal)
	}
	return nil
}

// check accepts all figures: other load on the machine affects the ratios.
func (r *receiving) check() error { return nil }
