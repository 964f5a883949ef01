// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"dpservice/graph"
	"dpservice/rpc/api"
)

// control measures the control side: the start, memory, many flows, and a capture with many flows.
type control struct {
	Startup float64 `json:"startup_seconds"`      // until system.info is answered, with 16 VFs
	Idle    int     `json:"resident_bytes_idle"`  // with 16 VFs, no flows and the configuration's defaults
	Flows   int     `json:"flows"`                // number of flows for the figures that follow
	NewRate float64 `json:"new_flows_per_second"` // in software
	NewCost float64 `json:"cycles_per_new_flow"`  // in flow_route
	PerFlow float64 `json:"resident_bytes_per_flow"`

	Page        answerTime `json:"flow_list_page_of_1000"`
	Filtered    answerTime `json:"flow_list_filtered_answer"` // a filter that one flow matches
	Walk        float64    `json:"flow_list_filtered_walk_seconds"`
	Undisturbed float64    `json:"packet_rate_while_listing"` // relative to the rate without listing

	Capture captureTX `json:"capture_tx"`
}

// answerTime is how long calls took, in milliseconds.
type answerTime struct {
	Median  float64 `json:"p50_ms"`
	Highest float64 `json:"p99_ms"`
}

func (c *control) measure(ctx context.Context) error {
	for _, do := range []func(context.Context, string) error{c.start, c.manyFlows, c.Capture.measure} {
		if err := inFolder(func(dir string) error { return do(ctx, dir) }); err != nil {
			return err
		}
	}
	return nil
}

// start measures an idle daemon with 16 VFs.
func (c *control) start(ctx context.Context, dir string) error {
	empty := filepath.Join(dir, "empty.pcap")
	if err := paths[0].writeFrames(empty, 0, 1, 64); err != nil {
		return err
	}
	d, err := startDaemon(ctx, dir, daemonConfig{
		ports: slices.Repeat([]string{"rx_pcap=" + empty}, 17), memory: 256, mbufs: 16384, capacity: graph.DefaultFlowCapacity,
	})
	if err != nil {
		return err
	}
	c.Startup = d.Startup.Seconds()
	time.Sleep(2 * time.Second) // the flow table is swept twice in this time
	c.Idle, err = d.resident()
	return errors.Join(err, d.stop())
}

// resident returns the daemon's resident memory in bytes.
func (d *daemon) resident() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after + " ?")[0])
	return kib << 10, err
}

// manyFlows measures the daemon while its flow table fills, and when it is full, while packets of all flows arrive.
func (c *control) manyFlows(ctx context.Context, dir string) error {
	frames, empty := filepath.Join(dir, "frames.pcap"), filepath.Join(dir, "empty.pcap")
	p := paths[0]
	if err := errors.Join(p.writeFrames(frames, c.Flows, c.Flows, 64), p.writeFrames(empty, 0, 1, 64)); err != nil {
		return err
	}
	mbufs := c.Flows + 8192
	d, err := startDaemon(ctx, dir, daemonConfig{
		ports:  []string{"rx_pcap=" + empty, "rx_pcap=" + frames + ",infinite_rx=1", "rx_pcap=" + empty},
		memory: 256 + mbufs*2560>>19, mbufs: mbufs, capacity: c.Flows + c.Flows/16,
	})
	if err != nil {
		return err
	}
	return errors.Join(c.fill(ctx, d), c.list(ctx, d), d.stop())
}

// fill makes all flows begin at once.
func (c *control) fill(ctx context.Context, d *daemon) error {
	before, err := d.resident()
	if err != nil {
		return err
	}
	start := time.Now() // flows begin as soon as the first guest is attached
	if err := d.attach(ctx, portName); err != nil {
		return err
	}
	for known := 0; known < c.Flows; time.Sleep(time.Millisecond) {
		var info api.SystemInfoResult
		if err := d.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
			return err
		}
		if info.Flows.Overflow > 0 {
			return fmt.Errorf("no room for %d flows: %+v", c.Flows, info.Flows)
		}
		known = info.Flows.Known
	}
	c.NewRate = float64(c.Flows) / time.Since(start).Seconds()
	nodes, err := d.nodes(ctx)
	if err != nil {
		return err
	}
	c.NewCost = float64(nodes["flow_route"].Cycles) / float64(nodes["flow_route"].Packets)
	after, err := d.resident()
	c.PerFlow = float64(after-before) / float64(c.Flows)
	return err
}

// list lists flows while the worker is busy.
func (c *control) list(ctx context.Context, d *daemon) error {
	alone, err := d.forwarded(ctx, func() error { time.Sleep(time.Second); return nil })
	if err != nil {
		return err
	}
	listing, err := d.forwarded(ctx, func() error {
		if c.Page, _, err = walk(ctx, d, api.FlowFilter{}, 200); err != nil {
			return err
		}
		port := uint16(1024)
		var took time.Duration
		c.Filtered, took, err = walk(ctx, d, api.FlowFilter{SrcPort: &port, DstPort: &port}, 1<<20)
		c.Walk = took.Seconds()
		return err
	})
	c.Undisturbed = listing / alone
	return err
}

// walk lists flows, 1000 in each answer, up to a number of answers.
func walk(ctx context.Context, d *daemon, filter api.FlowFilter, answers int) (answerTime, time.Duration, error) {
	var times []float64
	limit, cursor := api.MaxFlows, ""
	start := time.Now()
	for len(times) < answers && (cursor != "" || len(times) == 0) {
		var page api.FlowListResult
		before := time.Now()
		if err := d.Call(ctx, api.MethodFlowList, api.FlowListParams{Filter: filter, Limit: &limit, Cursor: cursor},
			&page); err != nil {
			return answerTime{}, 0, err
		}
		times = append(times, time.Since(before).Seconds()*1000)
		cursor = page.NextCursor
	}
	slices.Sort(times)
	return answerTime{median(times), times[len(times)*99/100]}, time.Since(start), nil
}

// forwarded returns how many packets per second were delivered in that time.
func (d *daemon) forwarded(ctx context.Context, meanwhile func() error) (float64, error) {
	before, err := d.nodes(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := meanwhile(); err != nil {
		return 0, err
	}
	after, err := d.nodes(ctx)
	return float64(after["deliver"].Packets-before["deliver"].Packets) / time.Since(start).Seconds(), err
}

// eswitchConfig returns the configuration of a daemon on the test NIC, with room for this number of flows, and with
// these far sides of PF0 and two VFs.
func eswitchConfig(dir, nic string, flows int, pf0, vf0, vf1 string) string {
	name := func(vdev string) string { before, _, _ := strings.Cut(vdev, ","); return before }
	return fmt.Sprintf(`eal: ["--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "-l", "0,1", "--file-prefix", "bench", "-d", %q,
      "--vdev=%s", "--vdev=%s", "--vdev=%s", "--vdev=net_eswitch0,pf0=%s,vf0=%s,vf1=%s"]
ports: {pf0: net_eswitch0, vfs: "net_eswitch0_representor_vf*"}
underlay: {ip: %q, router_mac: %q}
offload: true
mbufs: 65536
flows: {capacity: %d, max_offload: %d}
socket: %s
`, nic, pf0, vf0, vf1, name(pf0), name(vf0), name(vf1), nodeIP, routerMAC, 2*flows, 2*flows, filepath.Join(dir, "dpservice.sock"))
}

// eswitchPort returns the test NIC's name for the port of a VF.
func eswitchPort(vf int) string { return fmt.Sprintf("net_eswitch0_representor_vf%d", vf-vf0) }

// offloadTimeout is long enough for any NIC.
const offloadTimeout = 20 * time.Second

func (c *control) table(w io.Writer) error {
	fmt.Fprintf(w, "Start, memory and many flows\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEASURED\tGOAL")
	fmt.Fprintf(t, "start until the socket answers, 16 VFs\t%.2f s\t1 s\n", c.Startup)
	fmt.Fprintf(t, "resident memory, 16 VFs, no flows, no hugepages\t%d MB\t400 MB\n", c.Idle>>20)
	fmt.Fprintf(t, "new flows in software, until there are %d\t%.0f /s, %.0f cycles each in flow_route\t\n", c.Flows,
		c.NewRate, c.NewCost)
	fmt.Fprintf(t, "resident memory of a flow, of %d\t%.0f bytes\t\n", c.Flows, c.PerFlow)
	fmt.Fprintf(t, "flow.list with %d flows, an answer of %d\tp50 %.1f ms, p99 %.1f ms\t\n", c.Flows, api.MaxFlows,
		c.Page.Median, c.Page.Highest)
	fmt.Fprintf(t,
		"flow.list of one flow of all, an answer\tp50 %.1f ms, p99 %.1f ms; %.2f s until found and all looked at\t\n",
		c.Filtered.Median, c.Filtered.Highest, c.Walk)
	fmt.Fprintf(t, "the worker's packet rate meanwhile\t%.2f of that without\t\n", c.Undisturbed)
	fmt.Fprintf(t, "capture of TX with %d flows in the NIC\tstart %.0f ms, stop %.0f ms\t\n", c.Capture.Flows,
		c.Capture.Start, c.Capture.Stop)
	fmt.Fprintf(t, "capture.status meanwhile\tp50 %.1f ms, p99 %.1f ms of %d calls\tp99 20 ms\n", c.Capture.Status.Median,
		c.Capture.Status.P99,
		c.Capture.Status.Calls)
	return t.Flush()
}

// check accepts all figures: the table shows the goals.
func (c *control) check() error { return nil }
