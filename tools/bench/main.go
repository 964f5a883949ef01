// SPDX-License-Identifier: Apache-2.0

// Command bench measures the performance of dpservice, and of DPDK's own programs for comparison: the two take turns on
// the same ports. It prints tables, and writes the figures and a chart of them to files.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	only := flag.String("only", "", "measure just these `parts`, separated by commas: "+strings.Join(partNames, ", "))
	number := flag.Int("rules", 100_000, "rules to insert")
	turns := flag.Int("turns", 9, "how often each takes its turn to insert rules")
	repetitions := flag.Int("repetitions", 3, "how often each takes its turn to do anything else")
	goal := flag.Float64("goal", 0.9,
		"the least ratio that is good, of rteflow's best turn to dpdk-test-flow-perf's, and of new flows into the NIC beside a flood to those without; 0 takes any")
	seconds := flag.Duration("time", time.Second, "how long forwarding is measured in each turn")
	sizes := numbers{64, 1400}
	flag.Var(&sizes, "sizes", "frame sizes, in bytes with FCS")
	flows := numbers{1, 1000, 100_000}
	flag.Var(&flows, "flows", "numbers of flows")
	frames := flag.Int("frames", 100_000, "frames in the file that is played, of however few flows")
	sinkTime := flag.Duration("sink-time", 500*time.Millisecond, "how long copies are sent to the sink in each try")
	sinkShare := flag.Float64("sink-share", 0.05,
		"the share of a CPU that the sink's programs have when their highest rate is searched")
	sinkBuffer := flag.Int("sink-buffer", 4, "the size of their buffers, in MiB")
	sinkDir := flag.String("sink-dir", "",
		"the `folder` on whose file system they write; default the one for temporary files")
	many := flag.Int("many", 1_000_000, "flows in the table, where there are many")
	offloads := flag.Int("offloads", 100_000, "flows to put into the NIC at once")
	simulated := flag.Duration("simulated", 20*time.Second, "how long the simulated guests begin flows, in their own time")
	captured := flag.Int("captured", 100_000, "flows in the NIC to a guest that is captured")
	output := flag.String("o", "build/bench.json", "where to write the figures; the picture goes beside them")
	child := flag.String("child", "",
		"insert rules of this shape, say how long it took, and end (what the program starts itself for)")
	way := flag.String("way", create, "the child's way to insert rules")
	flag.Parse()
	if *child != "" {
		return insert(*child, *way, *number, flag.Args())
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("RUNTIME_DIRECTORY", dir); err != nil { // where EAL puts its files, in all that is started here
		return err
	}
	f := figures{
		Rules:      &rules{Rules: *number, Turns: *turns, goal: *goal},
		NIC:        &nic{},
		Forwarding: newForwarding(*repetitions, *seconds, *frames, sizes, flows),
		Workers:    newScaling(*repetitions, *seconds),
		Receive:    newReceiving(*sinkDir, *repetitions, *sinkTime, *sinkShare, *sinkBuffer, sizes),
		RPC:        newRPC(*repetitions, *seconds),
		Control:    &control{Flows: *many, Capture: captureTX{Flows: *captured}},
		Neighbour:  newNeighbour(*seconds, *goal),
		Offload:    newOffload(*offloads, *repetitions, *goal),
		Simulation: newSimulation(*simulated),
	}
	return f.run(ctx, strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }), os.Stdout, *output)
}

// numbers is a flag with several numbers.
type numbers []int

func (n *numbers) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*n), " ", ","), "[]")
}

func (n *numbers) Set(text string) error {
	*n = nil
	for _, field := range strings.Split(text, ",") {
		number, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		*n = append(*n, number)
	}
	return nil
}

// part is one group of measurements.
type part interface {
	measure(ctx context.Context) error
	table(w io.Writer) error
	check() error // returns an error if a required goal was missed
}

var partNames = []string{"rules", "nic", "forwarding", "workers", "receive", "rpc", "control", "neighbour", "offload",
	"simulation"}

// figures are all that is measured, as they are written to the file.
type figures struct {
	Rules      *rules      `json:"rules,omitempty"`
	NIC        *nic        `json:"nic,omitempty"`
	Forwarding *forwarding `json:"forwarding,omitempty"`
	Workers    *scaling    `json:"workers,omitempty"`
	Receive    *receiving  `json:"receive,omitempty"`
	RPC        *rpc        `json:"rpc,omitempty"`
	Control    *control    `json:"control,omitempty"`
	Neighbour  *neighbour  `json:"neighbour,omitempty"`
	Offload    *offload    `json:"offload,omitempty"`
	Simulation *simulation `json:"simulation,omitempty"`
}

func (f *figures) part(name string) part {
	return map[string]part{
		"rules": f.Rules, "nic": f.NIC, "forwarding": f.Forwarding, "workers": f.Workers, "receive": f.Receive, "rpc": f.RPC,
		"control":   f.Control,
		"neighbour": f.Neighbour, "offload": f.Offload, "simulation": f.Simulation,
	}[name]
}

// run measures the parts with these names, or all, and prints the results of each as soon as it is done.
func (f *figures) run(ctx context.Context, only []string, w io.Writer, output string) error {
	for _, name := range only {
		if !slices.Contains(partNames, name) {
			return fmt.Errorf("no part %q; there are: %s", name, strings.Join(partNames, ", "))
		}
	}
	var missed []error
	for _, name := range partNames {
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		p := f.part(name)
		if err := p.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := p.table(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
		missed = append(missed, p.check())
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(output, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return errors.Join(append(missed, f.plot(strings.TrimSuffix(output, filepath.Ext(output))+".svg"))...)
}

// plot draws the chart of the forwarding rates, if they were measured.
func (f *figures) plot(name string) error {
	if f.Forwarding.Cases[0].Rates == nil {
		return nil
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Forwarding.bars().write(file), file.Close())
}
