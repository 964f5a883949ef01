// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// throughput matches testpmd's report on a port since its previous report.
var throughput = regexp.MustCompile(`(?s)NIC statistics for port (\d+) .*?Tx-pps:\s+(\d+)`)

// macswap returns how many packets per second dpdk-testpmd forwards from its port 0 to its port 1 with their MACs
// swapped.
func macswap(ctx context.Context, args []string, mbufs int, warmUp, time time.Duration) (float64, error) {
	args = append(args, "--", "-i", "--forward-mode=macswap", "--nb-cores=1", "--no-flush-rx",
		fmt.Sprintf("--total-num-mbufs=%d", mbufs), fmt.Sprintf("--burst=%d", burst))
	cmd := exec.CommandContext(ctx, "dpdk-testpmd", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	script(stdin, &out, warmUp, time)
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("dpdk-testpmd: %w: %s", err, out.String())
	}
	var rate float64
	for _, m := range throughput.FindAllStringSubmatch(out.String(), -1) {
		if m[1] == "1" {
			rate, _ = strconv.ParseFloat(m[2], 64) // digits only
		}
	}
	if rate == 0 {
		return 0, fmt.Errorf("dpdk-testpmd has forwarded nothing: %s", out.String())
	}
	return rate, nil
}

// script types the commands, each at testpmd's prompt. If testpmd has ended, the error says why.
func script(stdin io.WriteCloser, out *output, warmUp, measured time.Duration) {
	for i, step := range []struct {
		command string
		wait    time.Duration
	}{{"start", warmUp}, {"show port stats all", measured}, {"show port stats all", 0}, {"quit", 0}} {
		out.waitFor(prompt, i+1)
		fmt.Fprintln(stdin, step.command)
		time.Sleep(step.wait)
	}
	stdin.Close()
}

const (
	prompt        = "testpmd> "
	promptTimeout = 20 * time.Second
)

// output is the text that a program has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String returns everything.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// waitFor waits until the program has written text n times, up to a limit of time.
func (o *output) waitFor(text string, n int) {
	deadline := time.Now().Add(promptTimeout)
	for strings.Count(o.String(), text) < n && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
}
