// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dpservice/rpc/api"
)

const (
	burst     = 64    // the largest burst, in dpservice and in the reference
	fewFrames = 1_000 // frames in a file that fits into the CPU's caches
	intervals = 20    // in a turn
	warmUp    = 700 * time.Millisecond
)

// forwarding measures the software path, and dpdk-testpmd on the same ports for comparison.
type forwarding struct {
	Reference   string  `json:"reference"`
	Repetitions int     `json:"repetitions"`
	Cases       []*flow `json:"cases"`
	seconds     time.Duration
}

// flow is one measurement: a path, a frame size, a number of flows, and the number of frames in the replayed file.
type flow struct {
	Path   string  `json:"path"`
	Size   int     `json:"frame_bytes"`
	Flows  int     `json:"flows"`
	Frames int     `json:"frames_in_file"`
	Goal   float64 `json:"cycles_goal"`

	Rates     []float64          `json:"packets_per_second"`
	Reference []float64          `json:"reference_packets_per_second"`
	Cycles    []float64          `json:"cycles_per_packet"`       // in all nodes but rx and tx: the median of intervals
	Least     []float64          `json:"least_cycles_per_packet"` // the least of intervals: other load adds cycles
	Nodes     map[string]float64 `json:"cycles_per_packet_by_node"`
	Rate      float64            `json:"median_packets_per_second"`
	Ratio     float64            `json:"ratio"` // the median of the turns' ratios to the reference
	Median    float64            `json:"median_cycles_per_packet"`

	path path
}

func newForwarding(repetitions int, seconds time.Duration, frames int, sizes, flows []int) *forwarding {
	f := &forwarding{Reference: "dpdk-testpmd --forward-mode=macswap", Repetitions: repetitions, seconds: seconds}
	for _, p := range paths {
		for _, size := range sizes {
			for _, n := range flows {
				f.Cases = append(f.Cases, &flow{Path: p.name, Size: size, Flows: n, Frames: frames, Goal: p.goal, path: p})
			}
			f.Cases = append(f.Cases, &flow{Path: p.name, Size: size, Flows: fewFrames, Frames: fewFrames, Goal: p.goal,
				path: p})
		}
	}
	return f
}

func (f *forwarding) measure(ctx context.Context) error {
	for _, c := range f.Cases {
		if err := c.measure(ctx, f.Repetitions, f.seconds); err != nil {
			return fmt.Errorf("%s, %d bytes, %d flows: %w", c.Path, c.Size, c.Flows, err)
		}
	}
	return nil
}

// measure runs dpservice and the reference in turns.
func (c *flow) measure(ctx context.Context, repetitions int, seconds time.Duration) (err error) {
	dir, err := os.MkdirTemp("/run", "dpservice-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	frames, empty := filepath.Join(dir, "frames.pcap"), filepath.Join(dir, "empty.pcap")
	if err := errors.Join(c.path.writeFrames(frames, c.Frames, c.Flows, c.Size),
		c.path.writeFrames(empty, 0, 1, c.Size)); err != nil {
		return err
	}
	for range repetitions {
		if err := c.turn(ctx, dir, "rx_pcap="+frames+",infinite_rx=1", "rx_pcap="+empty, seconds); err != nil {
			return err
		}
	}
	c.summarize()
	return nil
}

// mbufs returns a number of packet buffers for the file's frames and those in flight.
func (c *flow) mbufs() int { return c.Frames + 8192 }

// memory returns the memory for the buffers, in MiB.
func (c *flow) memory() int { return 256 + c.mbufs()*2560>>19 }

func (c *flow) turn(ctx context.Context, dir, source, sink string, seconds time.Duration) error {
	ports := slices.Repeat([]string{sink}, nbPorts)
	ports[c.path.in] = source
	d, err := startDaemon(ctx, dir, daemonConfig{ports: ports, memory: c.memory(), mbufs: c.mbufs(), capacity: 1 << 18})
	if err != nil {
		return err
	}
	if err := errors.Join(c.forward(ctx, d, seconds), d.stop()); err != nil {
		return err
	}
	rate, err := macswap(ctx, ealArgs(filepath.Base(dir), twoLcores, c.memory(), []string{source, sink}), c.mbufs(),
		warmUp, seconds)
	c.Reference = append(c.Reference, rate)
	return err
}

// forward measures the daemon while it forwards.
func (c *flow) forward(ctx context.Context, d *daemon, seconds time.Duration) error {
	if err := d.attach(ctx, portName); err != nil {
		return err
	}
	time.Sleep(warmUp)
	before, err := c.look(ctx, d)
	if err != nil {
		return err
	}
	after := before
	var cycles []float64
	for after.at.Sub(before.at) < seconds {
		time.Sleep(seconds / intervals)
		last := after
		if after, err = c.look(ctx, d); err != nil {
			return err
		}
		if after.sent > last.sent { // on a busy machine the worker may not have run
			cycles = append(cycles, total(c.cycles(last, after)))
		}
	}
	packets := after.sent - before.sent
	if packets == 0 || leftPath(before, after) > 0 {
		return fmt.Errorf("not all packets took the path: %v", after.nodes)
	}
	c.Rates = append(c.Rates, float64(packets)/after.at.Sub(before.at).Seconds())
	c.Nodes = c.cycles(before, after)
	c.Cycles, c.Least = append(c.Cycles, median(cycles)), append(c.Least, slices.Min(cycles))
	return nil
}

// leftPath returns how many packets were routed again, passed to the slow path, answered or dropped.
func leftPath(before, after counters) (packets uint64) {
	for name, n := range after.nodes {
		kind, _, _ := strings.Cut(name, "_")
		if kind == "drop" || kind == "icmp" || slices.Contains([]string{"flow_route", "flow_overflow", "oversize", "punt"},
			name) {
			packets += n.Packets - before.nodes[name].Packets
		}
	}
	return packets
}

// cycles returns the cycles of each node per sent packet.
func (c *flow) cycles(before, after counters) map[string]float64 {
	nodes := map[string]float64{}
	for name, n := range after.nodes {
		if n.Packets != before.nodes[name].Packets || name == "inject" {
			nodes[name] = float64(n.Cycles-before.nodes[name].Cycles) / float64(after.sent-before.sent)
		}
	}
	return nodes
}

// total returns the sum over all nodes except rx and tx.
func total(nodes map[string]float64) float64 {
	sum := 0.0
	for name, cycles := range nodes {
		if !strings.HasPrefix(name, "rx-") && !strings.HasPrefix(name, "tx-") {
			sum += cycles
		}
	}
	return sum
}

// counters are the daemon's counters at one time.
type counters struct {
	at    time.Time
	sent  uint64
	nodes map[string]api.NodeStats
}

func (c *flow) look(ctx context.Context, d *daemon) (counters, error) {
	nodes, err := d.nodes(ctx)
	if err != nil {
		return counters{}, err
	}
	return counters{at: time.Now(), sent: nodes["tx-"+portName(c.path.out)].Packets, nodes: nodes}, nil
}

func (c *flow) summarize() {
	ratios := make([]float64, len(c.Rates))
	for i, rate := range c.Rates {
		ratios[i] = rate / c.Reference[i]
	}
	c.Rate, c.Ratio, c.Median = median(c.Rates), median(ratios), median(c.Cycles)
}

func (f *forwarding) table(w io.Writer) error {
	fmt.Fprintf(w,
		"Software path, one worker, %d turns of %v each; millions of packets per second; TSC cycles per packet in all\n"+
			"nodes but rx and tx (median, and least of the intervals). The reference is %s on the same ports.\n\n", f.Repetitions,
		f.seconds, f.Reference)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PATH\tBYTES\tFLOWS\tFRAMES\tRATE\tREFERENCE\tRATIO\tCYCLES\tLEAST\tGOAL\tNODES")
	for _, c := range f.Cases {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%s\n", c.Path, c.Size, c.Flows, c.Frames,
			c.Rate/1e6,
			median(c.Reference)/1e6, c.Ratio, c.Median, slices.Min(c.Least), c.Goal, nodeList(c.Nodes))
	}
	return t.Flush()
}

// bars returns the bar chart of the rates.
func (f *forwarding) bars() bars {
	b := bars{
		Title: "Forwarding in software, one worker", Unit: "Mpps",
		Value: "dpservice", Compared: f.Reference,
	}
	for _, c := range f.Cases {
		b.Rows = append(b.Rows, bar{
			Label:  fmt.Sprintf("%s, %d bytes, %d flows, %d frames", c.Path, c.Size, c.Flows, c.Frames),
			Remark: fmt.Sprintf(", ratio %.2f, %.0f cycles", c.Ratio, c.Median),
			Value:  c.Rate / 1e6, Reference: median(c.Reference) / 1e6,
		})
	}
	return b
}

func nodeList(nodes map[string]float64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		list = append(list, fmt.Sprintf("%s %.0f", name, nodes[name]))
	}
	return strings.Join(list, ", ")
}

// check accepts all figures, since the machine may be busy otherwise: the table shows what was reached.
func (f *forwarding) check() error { return nil }
