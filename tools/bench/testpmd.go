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
	"syscall"
	"time"
)

// throughput is what testpmd says about a port, since it was asked the last time.
var throughput = regexp.MustCompile(`(?s)NIC statistics for port (\d+) .*?Tx-pps:\s+(\d+)`)

// macswap is how many packets per second dpdk-testpmd takes from its port 0, and sends out of its port 1 with their MACs
// swapped.
func macswap(ctx context.Context, args []string, mbufs int, warmUp, time time.Duration) (float64, error) {
	args = append(args, "--", "-i", "--forward-mode=macswap", "--nb-cores=1", "--no-flush-rx",
		fmt.Sprintf("--total-num-mbufs=%d", mbufs), fmt.Sprintf("--burst=%d", burst))
	cmd := exec.CommandContext(ctx, "dpdk-testpmd", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	script(stdin, warmUp, time)
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("dpdk-testpmd: %w: %s", err, out.Bytes())
	}
	var rate float64
	for _, m := range throughput.FindAllStringSubmatch(out.String(), -1) {
		if m[1] == "1" {
			rate, _ = strconv.ParseFloat(m[2], 64) // digits only
		}
	}
	if rate == 0 {
		return 0, fmt.Errorf("dpdk-testpmd has forwarded nothing: %s", out.Bytes())
	}
	return rate, nil
}

// script types the commands. Should testpmd have ended, it says why.
func script(stdin io.WriteCloser, warmUp, measured time.Duration) {
	for _, step := range []struct {
		command string
		wait    time.Duration
	}{{"start", warmUp}, {"show port stats all", measured}, {"show port stats all", 0}, {"quit", 0}} {
		fmt.Fprintln(stdin, step.command)
		time.Sleep(step.wait)
	}
	stdin.Close()
}
