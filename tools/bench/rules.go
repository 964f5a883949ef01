// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"dpservice/rteflow"
	"dpservice/test/flowperf"
)

// The methods to insert rules into the NIC.
const (
	flowPerf  = "dpdk-test-flow-perf"
	create    = "rteflow.Create"
	createNew = "rteflow.Create, new rules"
	batch     = "rteflow.CreateBatch"
)

// rules measures how many rules per second rteflow inserts into the test NIC, compared with dpdk-test-flow-perf and the
// same rules. The two take many short turns, each in a new process with a new NIC. The time of both starts when the
// first rule is made, and ends when the last call returns.
type rules struct {
	Rules  int      `json:"rules"`
	Turns  int      `json:"turns"`
	Shapes []*shape `json:"shapes"`
	goal   float64  // the least good ratio
}

// shape is one form of rule, and how fast rules of this form are inserted.
type shape struct {
	Name string   `json:"name"`
	Rule string   `json:"rule"`
	Ways []*rates `json:"ways"`
}

// rates are the rules per second in each turn. Other programs can only make a turn slower, so the best turns are
// compared. The ratio of each turn to the turn of dpdk-test-flow-perf right before shows how much the figures vary.
type rates struct {
	Way    string    `json:"way"`
	Rates  []float64 `json:"rules_per_second"`
	Best   float64   `json:"best"`
	Ratio  float64   `json:"ratio"` // of the best turn to dpdk-test-flow-perf's best
	Ratios []float64 `json:"ratios"`
}

func (b *rules) measure(ctx context.Context) error {
	installed, err := flowperf.Install(ctx)
	if err != nil {
		return err
	}
	for _, f := range forms {
		s := &shape{Name: f.name, Rule: f.rule(rteflow.Is(address(0))).String(),
			Ways: []*rates{{Way: flowPerf}, {Way: create}, {Way: batch}, {Way: createNew}}}
		b.Shapes = append(b.Shapes, s)
		for range b.Turns {
			if err := s.turn(ctx, installed, f, b.Rules); err != nil {
				return errors.Join(err, installed.Remove())
			}
		}
		s.summarize()
	}
	return installed.Remove()
}

// turn inserts the rules once by each method.
func (s *shape) turn(ctx context.Context, installed *flowperf.Installed, f form, rules int) error {
	for _, w := range s.Ways {
		took, err := w.once(ctx, installed, f, rules)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", s.Name, w.Way, err)
		}
		w.Rates = append(w.Rates, float64(rules)/took.Seconds())
	}
	return nil
}

func (w *rates) once(ctx context.Context, installed *flowperf.Installed, f form, rules int) (time.Duration, error) {
	if w.Way == flowPerf {
		result, err := installed.Measure(ctx, flowperf.Run{Rules: rules, Rule: f.options})
		return result.Insertion, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	prefix := fmt.Sprintf("bench-%d", os.Getpid())
	args := append([]string{"-child", f.name, "-way", w.Way, "-rules", fmt.Sprint(rules), "--"}, installed.EAL(prefix)...)
	cmd := exec.CommandContext(ctx, self, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return time.ParseDuration(string(out))
}

func (s *shape) summarize() {
	base := s.Ways[0]
	for _, w := range s.Ways {
		w.Best = slices.Max(w.Rates)
		w.Ratio = w.Best / slices.Max(base.Rates)
		for i, rate := range w.Rates {
			w.Ratios = append(w.Ratios, rate/base.Rates[i])
		}
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

func (b *rules) table(w io.Writer) error {
	fmt.Fprintf(w, "Rules put into the NIC: %d rules, %d turns each; thousands of rules per second\n\n", b.Rules, b.Turns)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SHAPE\tWAY\tLEAST\tMEDIAN\tBEST\tRATIO\tBY TURN")
	for _, s := range b.Shapes {
		for _, r := range s.Ways {
			fmt.Fprintf(table, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f-%.2f, median %.2f\n", s.Name, r.Way,
				slices.Min(r.Rates)/1000,
				median(r.Rates)/1000, r.Best/1000, r.Ratio, slices.Min(r.Ratios), slices.Max(r.Ratios), median(r.Ratios))
		}
	}
	return table.Flush()
}

// check compares rteflow with the goal, for the methods that reuse rule values as dpdk-test-flow-perf does.
func (b *rules) check() error {
	var errs []error
	for _, s := range b.Shapes {
		for _, w := range s.Ways {
			if w.Way != createNew && w.Ratio < b.goal {
				errs = append(errs, fmt.Errorf("%s, %s: at %.2f of %s; the goal is %.2f", s.Name, w.Way, w.Ratio, flowPerf, b.goal))
			}
		}
	}
	return errors.Join(errs...)
}
