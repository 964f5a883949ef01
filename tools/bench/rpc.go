// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"dpservice/dpservice/affinity"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

// rpcClients is how many programs call the daemon at the same time.
const rpcClients = 4

// workerCPU is where the daemon's worker runs, as ealArgs says.
const workerCPU = 1

// rpcFlows is how many flows are in the flow table, so that flow.list returns some.
const rpcFlows = 1000

// rpcMethods are the methods that the clients call in turn: those that monitoring needs.
var rpcMethods = []struct {
	method api.AnyMethod
	params any
}{
	{api.MethodSystemInfo, nil}, {api.MethodPortList, nil}, {api.MethodPortStats, nil}, {api.MethodGraphStats, nil},
	{api.MethodInterfaceList, nil}, {api.MethodFlowList, api.FlowListParams{}},
}

// rpc measures how fast the daemon answers while its worker is fully loaded, and how much the calls slow the worker.
type rpc struct {
	Clients     int       `json:"clients"`
	Repetitions int       `json:"repetitions"`
	CallsRate   []float64 `json:"calls_per_second"`
	Idle        []float64 `json:"packets_per_second_without_calls"`
	Loaded      []float64 `json:"packets_per_second_with_calls"`
	Median      float64   `json:"median_calls_per_second"`
	Ratio       float64   `json:"ratio"` // the worker's rate with calls relative to that without, the median of the turns

	// Latency is how many milliseconds a call takes, by method.
	Latency map[string]latency `json:"latency_ms"`
	// Paced is the latency of small calls by one client that makes 100 a second.
	Paced latency `json:"paced_latency_ms"`
	// Echo is how long the same client waits for an echo from cat(1): the part of the latency that is the machine's.
	Echo latency `json:"echo_latency_ms"`

	seconds time.Duration
	took    map[string][]time.Duration
	paced   []time.Duration
	echo    []time.Duration
}

// pacedMethods are methods with short answers.
var pacedMethods = []api.AnyMethod{api.MethodSystemInfo, api.MethodInterfaceList, api.MethodCaptureStatus}

// pacedRate is the number of these calls per second.
const pacedRate = 100

// latency is the latency of the calls of one method.
type latency struct {
	Calls  int     `json:"calls"`
	Median float64 `json:"p50"`
	P99    float64 `json:"p99"`
}

func newRPC(repetitions int, seconds time.Duration) *rpc {
	return &rpc{Clients: rpcClients, Repetitions: repetitions, seconds: seconds, took: map[string][]time.Duration{}}
}

// measure forwards packets from VF to VF, and measures the worker's rate without calls and with calls of clients.
func (r *rpc) measure(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("/run", "dpservice-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := &flow{Size: 64, Flows: rpcFlows, Frames: fewFrames, path: paths[0]}
	frames, empty := filepath.Join(dir, "frames.pcap"), filepath.Join(dir, "empty.pcap")
	if err := errors.Join(c.path.writeFrames(frames, c.Frames, c.Flows, c.Size),
		c.path.writeFrames(empty, 0, 1, c.Size)); err != nil {
		return err
	}
	ports := slices.Repeat([]string{"rx_pcap=" + empty}, nbPorts)
	ports[c.path.in] = "rx_pcap=" + frames + ",infinite_rx=1"
	d, err := startDaemon(ctx, dir, daemonConfig{ports: ports, memory: c.memory(), mbufs: c.mbufs(), capacity: 1 << 18})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.attach(ctx, portName); err != nil {
		return err
	}
	if err := affinity.Leave([]int{workerCPU}); err != nil { // the clients must not run on the worker's CPU
		return err
	}
	time.Sleep(warmUp)
	for range r.Repetitions {
		if err := r.turn(ctx, c, d, filepath.Join(dir, "dpservice.sock")); err != nil {
			return err
		}
	}
	r.summarize()
	return nil
}

// turn measures the worker alone, and then with clients.
func (r *rpc) turn(ctx context.Context, c *flow, d *daemon, socket string) error {
	idle, err := r.rate(ctx, c, d)
	if err != nil {
		return err
	}
	calling, stop := context.WithCancel(ctx)
	defer stop()
	callers := r.callers(calling, socket)
	start := time.Now()
	loaded, err := r.rate(ctx, c, d)
	stop()
	calls, callErr := callers()
	if err := errors.Join(err, callErr); err != nil {
		return err
	}
	if err := r.pace(ctx, socket); err != nil {
		return err
	}
	r.Idle, r.Loaded = append(r.Idle, idle), append(r.Loaded, loaded)
	r.CallsRate = append(r.CallsRate, float64(calls)/time.Since(start).Seconds())
	return nil
}

// pace makes small calls at regular intervals, alternating with echoes of another program.
func (r *rpc) pace(ctx context.Context, socket string) (err error) {
	conn, err := client.Dial(ctx, socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	echo, end, err := startEcho(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	ticker := time.NewTicker(time.Second / pacedRate / 2)
	defer ticker.Stop()
	for i := range max(len(pacedMethods), int(r.seconds.Seconds()*pacedRate)) {
		<-ticker.C
		var result any
		start := time.Now()
		if err := conn.Call(ctx, pacedMethods[i%len(pacedMethods)], nil, &result); err != nil {
			return err
		}
		r.paced = append(r.paced, time.Since(start))
		<-ticker.C
		start = time.Now()
		if err := echo(); err != nil {
			return err
		}
		r.echo = append(r.echo, time.Since(start))
	}
	return nil
}

// startEcho starts cat(1). The first function sends it a text and waits for the echo, the second one ends it.
func startEcho(ctx context.Context) (echo, end func() error, err error) {
	cmd := exec.CommandContext(ctx, "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	said := make([]byte, 256)
	echo = func() error {
		if _, err := in.Write(said); err != nil {
			return err
		}
		_, err := io.ReadFull(out, said)
		return err
	}
	return echo, func() error { return errors.Join(in.Close(), cmd.Wait()) }, nil
}

// rate returns how many packets the worker forwards per second.
func (r *rpc) rate(ctx context.Context, c *flow, d *daemon) (float64, error) {
	before, err := c.look(ctx, d)
	if err != nil {
		return 0, err
	}
	time.Sleep(r.seconds)
	after, err := c.look(ctx, d)
	if err != nil {
		return 0, err
	}
	if after.sent == before.sent {
		return 0, fmt.Errorf("no packet took the path: %v", after.nodes)
	}
	return float64(after.sent-before.sent) / after.at.Sub(before.at).Seconds(), nil
}

// callers starts the clients. The returned function waits for their end and returns the number of their calls.
func (r *rpc) callers(ctx context.Context, socket string) func() (int, error) {
	var wg sync.WaitGroup
	took := make([]map[string][]time.Duration, rpcClients)
	errs := make([]error, rpcClients)
	for i := range rpcClients {
		wg.Go(func() { took[i], errs[i] = callUntil(ctx, socket) })
	}
	return func() (int, error) {
		wg.Wait()
		calls := 0
		for _, one := range took {
			for method, times := range one {
				r.took[method] = append(r.took[method], times...)
				calls += len(times)
			}
		}
		return calls, errors.Join(errs...)
	}
}

// callUntil calls the methods in turn over one connection, each at least once, until ctx is done. It returns how long
// each call took.
func callUntil(ctx context.Context, socket string) (map[string][]time.Duration, error) {
	conn, err := client.Dial(context.WithoutCancel(ctx), socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	took := map[string][]time.Duration{}
	for i := 0; i < len(rpcMethods) || ctx.Err() == nil; i++ {
		m := rpcMethods[i%len(rpcMethods)]
		var result any
		start := time.Now()
		if err := conn.Call(context.WithoutCancel(ctx), m.method, m.params, &result); err != nil {
			return nil, err
		}
		took[m.method.Name()] = append(took[m.method.Name()], time.Since(start))
	}
	return took, nil
}

func (r *rpc) summarize() {
	ratios := make([]float64, len(r.Idle))
	for i := range ratios {
		ratios[i] = r.Loaded[i] / r.Idle[i]
	}
	r.Median, r.Ratio = median(r.CallsRate), median(ratios)
	r.Latency = map[string]latency{}
	var all []time.Duration
	for method, times := range r.took {
		r.Latency[method] = latencyOf(times)
		all = append(all, times...)
	}
	r.Latency["all"] = latencyOf(all)
	r.Paced, r.Echo = latencyOf(r.paced), latencyOf(r.echo)
}

// latencyOf returns the statistics of at least one call.
func latencyOf(times []time.Duration) latency {
	times = slices.Sorted(slices.Values(times))
	at := func(part float64) float64 { return times[int(part*float64(len(times)-1))].Seconds() * 1000 }
	return latency{Calls: len(times), Median: at(0.5), P99: at(0.99)}
}

func (r *rpc) table(w io.Writer) error {
	fmt.Fprintf(w, "JSON-RPC while the worker has more packets than it can take: %d clients, %d turns of %v each\n\n"+
		"%.0f calls/s; the worker forwards %.2f million packets/s, %.2f without the calls: ratio %.2f\n\n",
		r.Clients, r.Repetitions, r.seconds, r.Median, median(r.Loaded)/1e6, median(r.Idle)/1e6, r.Ratio)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "METHOD\tCALLS\tP50 MS\tP99 MS")
	for _, name := range append(rpcNames(), "all") {
		l := r.Latency[name]
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\n", name, l.Calls, l.Median, l.P99)
	}
	fmt.Fprintf(t, "one client, %d small calls a second\t%d\t%.2f\t%.2f\n", pacedRate, r.Paced.Calls, r.Paced.Median,
		r.Paced.P99)
	fmt.Fprintf(t, "that client and cat(1)\t%d\t%.2f\t%.2f\n", r.Echo.Calls, r.Echo.Median, r.Echo.P99)
	return t.Flush()
}

func rpcNames() []string {
	var names []string
	for _, m := range rpcMethods {
		names = append(names, m.method.Name())
	}
	return names
}

// check accepts all figures, since other programs of the machine may use the CPUs.
func (r *rpc) check() error { return nil }
