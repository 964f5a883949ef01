// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	mostWorkers = 2
	scalingGoal = 1.8 // relative to the rate with one worker
	workerFlows = 1000
	workerBytes = 64
)

// scaling measures how much more two workers forward than one, on ports with two queues.
type scaling struct {
	CPUs        int           `json:"cpus"`
	Goal        float64       `json:"goal"`
	Repetitions int           `json:"repetitions"`
	Cases       []*workerCase `json:"cases"`
	seconds     time.Duration
}

// workerCase is one path.
type workerCase struct {
	Path  string                 `json:"path"`
	Rates [mostWorkers][]float64 `json:"packets_per_second"` // by one worker, and by two
	Ratio float64                `json:"ratio"`              // the median over the turns

	flow *flow
}

func newScaling(repetitions int, seconds time.Duration) *scaling {
	s := &scaling{CPUs: runtime.NumCPU(), Goal: scalingGoal, Repetitions: repetitions, seconds: seconds}
	for _, p := range paths {
		s.Cases = append(s.Cases, &workerCase{Path: p.name, flow: &flow{Frames: fewFrames, path: p}})
	}
	return s
}

// lcores returns the lcores of control and of the workers, each on its own CPU if there are enough. Otherwise control
// shares a CPU with a worker.
func (s *scaling) lcores(workers int) string {
	if s.CPUs > workers {
		return fmt.Sprintf("0-%d", workers)
	}
	all := []string{"0@0"}
	for i := range workers {
		all = append(all, fmt.Sprintf("%d@%d", i+1, i%s.CPUs))
	}
	return strings.Join(all, ",")
}

func (s *scaling) measure(ctx context.Context) error {
	for _, c := range s.Cases {
		if err := s.measureCase(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
	}
	return nil
}

func (s *scaling) measureCase(ctx context.Context, c *workerCase) (err error) {
	dir, err := os.MkdirTemp("/run", "dpservice-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	frames, empty := filepath.Join(dir, "frames.pcap"), filepath.Join(dir, "empty.pcap")
	if err := errors.Join(c.flow.path.writeFrames(frames, fewFrames, workerFlows, workerBytes),
		c.flow.path.writeFrames(empty, 0, 1, workerBytes)); err != nil {
		return err
	}
	ports := slices.Repeat([]string{queues("rx_pcap=" + empty)}, nbPorts)
	ports[c.flow.path.in] = queues("rx_pcap="+frames) + ",infinite_rx=1"
	for range s.Repetitions {
		for n := range mostWorkers {
			rate, err := s.turn(ctx, c.flow, dir, ports, n+1)
			if err != nil {
				return err
			}
			c.Rates[n] = append(c.Rates[n], rate)
		}
	}
	var ratios []float64
	for i, one := range c.Rates[0] {
		ratios = append(ratios, c.Rates[1][i]/one)
	}
	c.Ratio = median(ratios)
	return nil
}

// queues returns the devargs of a port with one queue for each worker.
func queues(one string) string { return strings.Join(slices.Repeat([]string{one}, mostWorkers), ",") }

// turn measures one number of workers.
func (s *scaling) turn(ctx context.Context, f *flow, dir string, ports []string, workers int) (float64, error) {
	d, err := startDaemon(ctx, dir, daemonConfig{
		lcores: s.lcores(workers), ports: ports, memory: f.memory(), mbufs: mostWorkers * f.mbufs(), capacity: 1 << 16,
	})
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.forward(ctx, d, s.seconds), d.stop()); err != nil {
		return 0, err
	}
	return f.Rates[len(f.Rates)-1], nil
}

func (s *scaling) table(w io.Writer) error {
	fmt.Fprintf(w,
		"Workers, on net_pcap ports with %d queues: %d-byte frames of %d flows for each, %d turns of %v; millions of packets per second.\n",
		mostWorkers, workerBytes, workerFlows, s.Repetitions, s.seconds)
	if s.CPUs <= mostWorkers {
		fmt.Fprintf(w,
			"This machine has %d CPUs, too few for the goal: %d workers and the control need %d. Here they share.\n", s.CPUs,
			mostWorkers,
			mostWorkers+1)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPATH\tONE\tTWO\tRATIO\tGOAL")
	for _, c := range s.Cases {
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.1f\n", c.Path, median(c.Rates[0])/1e6, median(c.Rates[1])/1e6, c.Ratio,
			s.Goal)
	}
	return t.Flush()
}

// check accepts all figures, since the machine may have too few CPUs or be busy: the table shows what was reached.
func (s *scaling) check() error { return nil }
