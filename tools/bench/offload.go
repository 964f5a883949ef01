// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dpservice/dpservice/affinity"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/test/flowperf"
	"dpservice/test/plugin"
)

// offload is how fast flows get into the test NIC and out of it, beside dpdk-test-flow-perf's rules of the same kind on
// the same NIC, and how long changes take that concern all of these flows.
type offload struct {
	Flows     int            `json:"flows"`
	Reference []float64      `json:"flow_perf_rules_per_second"` // each is the best of some turns
	Removal   []float64      `json:"flow_perf_deletions_per_second"`
	Rates     []float64      `json:"flows_per_second"` // from the first flow's packet to the last flow's rule
	Rate      float64        `json:"best_flows_per_second"`
	Ratio     float64        `json:"ratio"`
	CPU       []float64      `json:"control_cpu_us_per_flow"` // the least, of the daemon's control side
	Latency   latency        `json:"first_packet_to_rule_ms"` // of one flow at a time
	Resident  float64        `json:"resident_bytes_per_flow"` // of the daemon and the NIC together
	Busy      float64        `json:"control_cpu_share_busy"`  // with all flows in the NIC, and packets of them
	Idle      float64        `json:"control_cpu_share_idle"`  // and without packets
	Changes   []*flowsChange `json:"changes"`
	turns     int
	goal      float64
	far       *farSide // of the uplink that all flows leave by
}

// flowsChange is a change of all flows.
type flowsChange struct {
	What      string             `json:"what"`
	Took      []float64          `json:"took_ms"`                     // until the NIC does the right thing to all flows
	Gone      []float64          `json:"last_rule_gone_ms,omitempty"` // where that comes later
	Best      float64            `json:"best_ms"`
	Goal      float64            `json:"goal_ms"`
	Lost      []int64            `json:"packets_lost,omitempty"` // of Sent; where it is known
	Sent      []int64            `json:"packets_sent,omitempty"` // by the guest meanwhile
	Meanwhile map[string]latency `json:"calls_meanwhile_ms"`
}

// The changes that are measured.
const (
	changeRoute    = "another next hop, until the last packet to the old one"
	changeFailover = "uplink lost, the other one usable"
	changeCapture  = "capture of both directions, start"
	changeEnd      = "capture of both directions, stop"
	changeDelete   = "interface.delete"
	changeGoal     = 200
)

var changes = []string{changeRoute, changeFailover, changeCapture, changeEnd, changeDelete}

// offloadGoal is the least ratio to dpdk-test-flow-perf that is good.
const offloadGoal = 0.15

func newOffload(flows, turns int, goal float64) *offload {
	o := &offload{Flows: flows, turns: turns}
	if goal > 0 {
		o.goal = offloadGoal
	}
	for _, what := range changes {
		o.Changes = append(o.Changes, &flowsChange{What: what, Goal: changeGoal})
	}
	return o
}

func (o *offload) measure(ctx context.Context) error {
	if err := o.latency(ctx); err != nil {
		return err
	}
	installed, err := flowperf.Install(ctx)
	if err != nil {
		return err
	}
	for range o.turns {
		if err := o.turn(ctx, installed); err != nil {
			return errors.Join(err, installed.Remove())
		}
	}
	o.summarize()
	return installed.Remove()
}

// turn measures dpdk-test-flow-perf and then a daemon.
func (o *offload) turn(ctx context.Context, installed *flowperf.Installed) error {
	form := forms[slices.IndexFunc(forms, func(f form) bool { return f.name == "rewrite" })]
	result, err := installed.Measure(ctx, flowperf.Run{Rules: o.Flows, Rule: form.options, Delete: true})
	if err != nil {
		return err
	}
	o.Reference = append(o.Reference, float64(o.Flows)/result.Insertion.Seconds())
	o.Removal = append(o.Removal, float64(o.Flows)/result.Deletion.Seconds())
	return inFolder(func(dir string) error { return o.daemon(ctx, dir) })
}

// inFolder does something with a folder for a daemon's files.
func inFolder(do func(dir string) error) error {
	dir, err := os.MkdirTemp("/run", "dpservice-bench-")
	if err != nil {
		return err
	}
	return errors.Join(do(dir), os.RemoveAll(dir))
}

// daemon has a guest begin all flows at once, to another node, and then changes what concerns all of them.
func (o *offload) daemon(ctx context.Context, dir string) (err error) {
	nic, remove, err := plugin.Install()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	guest, err := newVeth(vf0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guest.close()) }()
	far, err := newFarSide(filepath.Join(dir, "pf0.pcap"), o.Flows, remoteHop)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, far.close()) }()
	d, err := startWith(ctx, dir, o.config(dir, nic, guest.near, far.name))
	if err != nil {
		return err
	}
	o.far = far
	return errors.Join(o.with(ctx, d, guest), d.stop())
}

// config returns the configuration of a daemon on a test NIC with two uplinks, the second of which has no link. Nothing
// comes from the wire.
func (o *offload) config(dir, nic, guest, far string) string {
	return fmt.Sprintf(`eal: ["--no-huge", "-m", "512", "--no-pci", "-l", "0,1", "--file-prefix", "bench", "-d", %[1]q,
      "--vdev=net_pcap0,tx_pcap=%[2]s", "--vdev=net_af_packet0,iface=%[3]s,framecnt=2048",
      "--vdev=net_pcap2,tx_pcap=/dev/null", "--vdev=net_pcap3,tx_pcap=/dev/null",
      "--vdev=net_eswitch0,pf0=net_pcap0,pf1=net_pcap3,vf0=net_af_packet0,vf1=net_pcap2,link_down=pf1"]
ports: {pf0: net_eswitch0, pf1: net_eswitch0_pf1, vfs: "net_eswitch0_representor_vf*"}
underlay: {ip: %[4]q, router_mac: %[5]q}
offload: true
mbufs: 65536
flows: {capacity: %[6]d, max_offload: %[6]d, timeout: 10m}
rpc: {idle_timeout: 24h}
socket: %[7]s
`, nic, far, guest, nodeIP, routerMAC, 2*o.Flows, filepath.Join(dir, "dpservice.sock"))
}

// offeredRate is how many packets per second the guest sends at most, each of the next flow.
const offeredRate = 180_000

func (o *offload) with(ctx context.Context, d *daemon, guest *veth) error {
	before, err := d.resident()
	if err != nil {
		return err
	}
	if err := affinity.Leave([]int{workerCPU}); err != nil { // calls during the measurement must not slow the worker
		return err
	}
	if err := d.nicFirst(); err != nil {
		return err
	}
	if err := d.attach(ctx, eswitchPort); err != nil {
		return err
	}
	if err := d.gateways(ctx, guest); err != nil {
		return err
	}
	frames, err := guest.flowFrames(o.Flows)
	if err != nil {
		return err
	}
	end := guest.send(ctx, frames, offeredRate, o.far)
	err = o.insert(ctx, d, before)
	if err == nil {
		o.Busy, err = d.controlShare()
	}
	if err := errors.Join(err, end()); err != nil {
		return err
	}
	if o.Idle, err = d.controlShare(); err != nil {
		return err
	}
	end = guest.send(ctx, frames, offeredRate, o.far)
	return errors.Join(o.change(ctx, d), end())
}

// controlShare returns the share of a CPU that the control side uses while no client calls it.
func (d *daemon) controlShare() (float64, error) {
	const long = 3 * time.Second // the control side asks the NIC for aged rules each second
	before, err := d.controlTime()
	if err != nil {
		return 0, err
	}
	time.Sleep(long)
	after, err := d.controlTime()
	return (after - before).Seconds() / long.Seconds(), err
}

// insert waits until all flows are in the NIC.
func (o *offload) insert(ctx context.Context, d *daemon, before int) error {
	cpu, err := d.controlTime()
	if err != nil {
		return err
	}
	took, err := d.untilFlows(ctx, func(f api.FlowTable) bool { return f.Rules >= o.Flows })
	if err != nil {
		return err
	}
	busy, err := d.controlTime()
	if err != nil {
		return err
	}
	o.Rates = append(o.Rates, float64(o.Flows)/took.Seconds())
	o.CPU = append(o.CPU, (busy-cpu).Seconds()*1e6/float64(o.Flows))
	after, err := d.resident()
	if err != nil {
		return err
	}
	o.Resident = float64(after-before) / float64(o.Flows)
	return nil
}

// change changes all flows in several ways.
func (o *offload) change(ctx context.Context, d *daemon) error {
	steps := map[string]func(context.Context, *daemon, *flowsChange) (time.Duration, error){
		changeRoute: o.changeRoute, changeFailover: o.failover, changeCapture: o.startCapture, changeEnd: o.stopCapture,
		changeDelete: o.deleteInterface,
	}
	for _, c := range o.Changes {
		err := c.measure(ctx, filepath.Join(d.dir, "dpservice.sock"), func(ctx context.Context) (time.Duration, error) {
			return steps[c.What](ctx, d, c)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.What, err)
		}
	}
	return nil
}

// flowsTimeout is long enough for 1,000,000 flows on a busy machine.
const flowsTimeout = 5 * time.Minute

// untilFlows returns how long it takes until the daemon reports the expected flows.
func (d *daemon) untilFlows(ctx context.Context, done func(api.FlowTable) bool) (time.Duration, error) {
	start := time.Now()
	for {
		var info api.SystemInfoResult
		if err := d.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
			return 0, err
		}
		took := time.Since(start)
		if done(info.Flows) {
			return took, nil
		}
		if took > flowsTimeout {
			nodes, err := d.nodes(ctx)
			return 0, errors.Join(fmt.Errorf("flows do not get into the NIC, or out of it: %+v; %v", info.Flows, nodes), err)
		}
		time.Sleep(5 * time.Millisecond) // each query delays the work that is measured
	}
}

// changeRoute replaces the route of all flows. It tells when the last packet has left for the old next hop. The flows'
// rules are removed later.
func (o *offload) changeRoute(ctx context.Context, d *daemon, c *flowsChange) (time.Duration, error) {
	var info api.SystemInfoResult
	if err := d.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
		return 0, err
	}
	route := api.Route{VNI: vni, Prefix: "10.0.1.1/32", NextHopVNI: vni, NextHopIP: "fc00:3::1:1"}
	start := time.Now()
	if err := d.Call(ctx, api.MethodRouteAdd, route, nil); err != nil {
		return 0, err
	}
	removed := func(f api.FlowTable) int { return int(f.Created) - f.Rules }
	all := removed(info.Flows) + o.Flows
	if _, err := d.untilFlows(ctx, func(f api.FlowTable) bool { return removed(f) >= all }); err != nil {
		return 0, err
	}
	c.Gone = append(c.Gone, milliseconds(time.Since(start)))
	_, err := d.untilFlows(ctx, func(f api.FlowTable) bool { return f.Rules >= o.Flows })
	return o.far.lastTo(start), err
}

// failover takes down the link of the uplink that all flows leave by, after the other uplink's link is up. Flows on
// that other uplink are not offloaded. It counts the packets that the guest loses.
func (o *offload) failover(ctx context.Context, d *daemon, c *flowsChange) (time.Duration, error) {
	if err := d.fault("link_up=pf1"); err != nil {
		return 0, err
	}
	before, err := d.passed(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := d.fault("link_down=pf0"); err != nil {
		return 0, err
	}
	if _, err := d.untilFlows(ctx, func(f api.FlowTable) bool { return f.Rules == 0 }); err != nil {
		return 0, err
	}
	took := time.Since(start)
	after, err := d.passed(ctx)
	if err != nil {
		return 0, err
	}
	sent := after.sent - before.sent
	c.Sent, c.Lost = append(c.Sent, sent), append(c.Lost, sent-(after.left-before.left))
	if err := d.fault("link_up=pf0,link_down=pf1"); err != nil {
		return 0, err
	}
	_, err = d.untilFlows(ctx, func(f api.FlowTable) bool { return f.Rules >= o.Flows })
	return took, err
}

// passage is how many packets have come from the guest, and how many have left by the uplinks. Some dozens are on
// their way between the two.
type passage struct{ sent, left int64 }

func (d *daemon) passed(ctx context.Context) (p passage, err error) {
	var stats api.PortStatsResult
	if err := d.Call(ctx, api.MethodPortStats, api.PortStatsParams{}, &stats); err != nil {
		return p, err
	}
	for _, s := range stats.Ports {
		if strings.Contains(s.Name, "representor") {
			p.sent += int64(s.Xstats["far_rx_packets"])
		} else {
			p.left += int64(s.Xstats["far_tx_packets"])
		}
	}
	return p, nil
}

// startCapture captures all that the guest with the flows sends and receives.
func (o *offload) startCapture(ctx context.Context, d *daemon, _ *flowsChange) (time.Duration, error) {
	start := time.Now()
	err := d.Call(ctx, api.MethodCaptureStart, api.CaptureStartParams{
		SinkNodeIP: "fc00:2::9", UDPSrcPort: 3000, UDPDstPort: 3010, Direction: "both",
		Interfaces: []api.CaptureSelector{{VF: fmt.Sprintf("vm-%d", vf0)}},
	}, nil)
	return time.Since(start), err
}

func (o *offload) stopCapture(ctx context.Context, d *daemon, _ *flowsChange) (time.Duration, error) {
	start := time.Now()
	err := d.Call(ctx, api.MethodCaptureStop, api.CaptureStopParams{}, nil)
	return time.Since(start), err
}

// deleteInterface deletes the guest's interface, and so all flows.
func (o *offload) deleteInterface(ctx context.Context, d *daemon, _ *flowsChange) (time.Duration, error) {
	start := time.Now()
	err := d.Call(ctx, api.MethodInterfaceDelete, api.InterfaceID{ID: fmt.Sprintf("vm-%d", vf0)}, nil)
	return time.Since(start), err
}

// fault injects a fault into the test NIC through DPDK's telemetry.
func (d *daemon) fault(args string) error {
	conn, err := net.Dial("unixpacket", filepath.Join(d.dir, "dpdk", "bench", "dpdk_telemetry.v2"))
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 64<<10)
	if _, err := conn.Read(answer); err != nil { // a greeting
		return err
	}
	if _, err := conn.Write([]byte("/net_eswitch/fault,net_eswitch0," + args)); err != nil {
		return err
	}
	n, err := conn.Read(answer)
	if err == nil && strings.Contains(string(answer[:n]), `"error"`) {
		err = fmt.Errorf("the test NIC does not know %s: %s", args, answer[:n])
	}
	return err
}

// meanwhileMethods are called while all flows change.
var meanwhileMethods = []api.AnyMethod{api.MethodCaptureStatus, api.MethodInterfaceList}

// measure makes the change, and calls the daemon at the same time.
func (c *flowsChange) measure(
	ctx context.Context, socket string, do func(context.Context) (time.Duration, error),
) error {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	answers := make(chan map[api.AnyMethod]answerTimes, 1)
	go func() { answers <- ask(asking, socket, meanwhileMethods) }()
	took, err := do(ctx)
	stop()
	c.Meanwhile = map[string]latency{}
	for method, a := range <-answers {
		if err = errors.Join(err, a.err); err == nil {
			c.Meanwhile[method.Name()] = latencyOf(a.took)
		}
	}
	c.Took = append(c.Took, milliseconds(took))
	return err
}

// answerTimes is how long the calls of a method took.
type answerTimes struct {
	took []time.Duration
	err  error
}

// ask calls each method at least once, and repeatedly until ctx is done.
func ask(ctx context.Context, socket string, methods []api.AnyMethod) map[api.AnyMethod]answerTimes {
	calling := context.WithoutCancel(ctx)
	answers := map[api.AnyMethod]answerTimes{}
	conn, err := client.Dial(calling, socket)
	if err != nil {
		answers[methods[0]] = answerTimes{err: err}
		return answers
	}
	defer conn.Close()
	for first := true; first || ctx.Err() == nil; first = false {
		for _, method := range methods {
			a := answers[method]
			begun := time.Now()
			var result any
			if a.err = conn.Call(calling, method, nil, &result); a.err != nil {
				answers[method] = a
				return answers
			}
			a.took = append(a.took, time.Since(begun))
			answers[method] = a
		}
		time.Sleep(time.Millisecond)
	}
	return answers
}

// latencyFlows is how many flows are begun one after the other, to measure how long each takes to be offloaded.
const latencyFlows = 100

// latency begins a flow, waits for its rule, and begins the next.
func (o *offload) latency(ctx context.Context) error {
	return onVeths(ctx, func(d *daemon, wires [nbPorts]*veth) error { return o.oneByOne(ctx, d, wires[:]) })
}

func (o *offload) oneByOne(ctx context.Context, d *daemon, wires []*veth) error {
	if err := d.attachWires(ctx, wires); err != nil {
		return err
	}
	var times []time.Duration
	for len(times) < latencyFlows {
		start := time.Now()
		if err := wires[vf0].beginOne(); err != nil {
			return err
		}
		for {
			held, err := rulesHeld(ctx, d, vf0)
			if err != nil {
				return err
			}
			if held > len(times) {
				break
			}
			if time.Since(start) > offloadTimeout {
				return fmt.Errorf("flow %d does not get into the NIC", len(times))
			}
		}
		times = append(times, time.Since(start))
		time.Sleep(time.Millisecond)
	}
	o.Latency = latencyOf(times)
	return nil
}

func (o *offload) summarize() {
	o.Rate = slices.Max(o.Rates)
	o.Ratio = o.Rate / slices.Max(o.Reference)
	for _, c := range o.Changes {
		c.Best = slices.Min(c.Took)
	}
}

func (o *offload) table(w io.Writer) error {
	fmt.Fprintf(w, "%d flows of a guest into the NIC, all begun at once; %d turns, the best counts\n\n", o.Flows, o.turns)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEASURED\tGOAL")
	fmt.Fprintf(t, "dpdk-test-flow-perf, rules of this kind\t%.0f/s in, %.0f/s out\t\n", slices.Max(o.Reference),
		slices.Max(o.Removal))
	fmt.Fprintf(t, "flows, first packet to rule\t%.0f/s, ratio %.3f\t100000/s, ratio %.2f\n", o.Rate, o.Ratio, offloadGoal)
	fmt.Fprintf(t, "CPU time of the control side for a flow\t%.1f us\t\n", slices.Min(o.CPU))
	fmt.Fprintf(t, "one flow at a time, first packet to rule\tp50 %.1f ms, p99 %.1f ms\t10 ms\n", o.Latency.Median,
		o.Latency.P99)
	fmt.Fprintf(t, "resident memory of a flow, daemon and NIC\t%.0f bytes\t\n", o.Resident)
	fmt.Fprintf(t, "the control side's share of a CPU with all flows in the NIC\t%.3f busy, %.3f idle\t0.1\n", o.Busy,
		o.Idle)
	for _, c := range o.Changes {
		fmt.Fprintf(t, "%s\t%.0f ms\t%.0f ms\n", c.What, c.Best, c.Goal)
		if len(c.Gone) > 0 {
			fmt.Fprintf(t, "  until the last old rule is gone\t%.0f ms\t\n", slices.Min(c.Gone))
		}
		if len(c.Lost) > 0 {
			best := slices.Index(c.Lost, slices.Min(c.Lost))
			fmt.Fprintf(t, "  packets of the guest lost meanwhile\t%d of %d\t\n", c.Lost[best], c.Sent[best])
		}
		for _, method := range meanwhileMethods {
			l := c.Meanwhile[method.Name()]
			fmt.Fprintf(t, "  %s meanwhile, last turn\tp50 %.1f ms, p99 %.1f ms of %d calls\tp99 20 ms\n", method.Name(),
				l.Median, l.P99, l.Calls)
		}
	}
	return t.Flush()
}

func (o *offload) check() error {
	if cmp.Less(o.Ratio, o.goal) {
		return fmt.Errorf("flows get into the NIC at %.3f of dpdk-test-flow-perf's rate; the goal is %.2f", o.Ratio, o.goal)
	}
	return nil
}
