// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"

	"dpservice/test/plugin"
)

// nic measures how fast the test NIC forwards with few and with many rules, by its own benchmark in C.
type nic struct {
	Cases []nicCase `json:"cases"`
}

// nicCase is a number of rules of one shape, which encapsulate towards a number of peers. Each packet hits a random
// rule.
type nicCase struct {
	Rules       int     `json:"rules"`
	Peers       int     `json:"peers"`
	Nanoseconds float64 `json:"nanoseconds_per_packet"`
	Millions    float64 `json:"million_packets_per_second"`
}

func (n *nic) measure(ctx context.Context) error {
	program, err := plugin.Built("meson/test/net_eswitch/unit/bench_pipeline")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, stderr.String())
	}
	n.Cases, err = parseNIC(string(out))
	return err
}

var nicLine = regexp.MustCompile(`(\d+) rules, +(\d+) peers: .* ([\d.]+) ns a packet, +([\d.]+) million packets/s`)

func parseNIC(text string) ([]nicCase, error) {
	var all []nicCase
	for _, m := range nicLine.FindAllStringSubmatch(text, -1) {
		var c nicCase
		var err error
		if c.Rules, err = strconv.Atoi(m[1]); err != nil {
			return nil, err
		}
		if c.Peers, err = strconv.Atoi(m[2]); err != nil {
			return nil, err
		}
		if c.Nanoseconds, err = strconv.ParseFloat(m[3], 64); err != nil {
			return nil, err
		}
		if c.Millions, err = strconv.ParseFloat(m[4], 64); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the pipeline's benchmark says nothing: %s", text)
	}
	return all, nil
}

func (n *nic) table(w io.Writer) error {
	fmt.Fprint(w, "The test NIC, its rules of one shape\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULES\tPEERS\tNANOSECONDS A PACKET\tMILLION PACKETS/S")
	for _, c := range n.Cases {
		fmt.Fprintf(table, "%d\t%d\t%.1f\t%.2f\n", c.Rules, c.Peers, c.Nanoseconds, c.Millions)
	}
	return table.Flush()
}

// check accepts all figures: the cost of many rules depends on the machine's caches.
func (n *nic) check() error { return nil }
