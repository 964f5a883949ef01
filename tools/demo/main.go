// SPDX-License-Identifier: Apache-2.0

// Command demo shows the product on one machine, with network namespaces as machines and a NIC in software. Two VMs
// talk, and the NIC forwards their packets past the host. Then a capture is started, and tcpdump at the sink shows the
// packets. The demo needs root and the binaries of `make build`, and removes everything that it creates.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"
)

const (
	runTimeout  = 2 * time.Minute
	waitTimeout = 15 * time.Second
	shownFrames = 16
	// trafficTime is how many seconds the VMs talk. The demo takes most of that time.
	trafficTime = "15"
)

const picture = `
    [vm-1] eth0 ---- guest0 +------------+ wire0 ---- hv1 +--------+ sink0 ---- eth0 [sink]
                            | hypervisor |                | router |                 tcpdump
    [vm-2] eth0 ---- guest1 | dpservice  | wire1          +--------+
                            +------------+
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	defer topology.CloseOnSignal()()
	if err := topology.Sweep(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()

	heading("A hypervisor with two VMs, an underlay router and a sink, each in a network namespace")
	n, err := topology.NewNetwork(2)
	if err != nil {
		return err
	}
	defer func() {
		heading("Clean up")
		if err = errors.Join(err, n.Close()); err == nil {
			fmt.Println("namespaces, processes and files are gone")
		}
	}()
	fmt.Print(picture)
	d := &demo{ctx: ctx, net: n, vm1: n.Guests()[0], vm2: n.Guests()[1]}
	for _, step := range []func() error{
		d.startDaemon, d.createInterfaces, d.startTraffic, d.waitOffloaded,
		d.startCapture, d.showStatus, d.stopCapture, d.receiveVXLAN, d.endTraffic, d.showCopies, d.stopDaemon,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// demo is the state that the steps share.
type demo struct {
	ctx      context.Context
	net      *topology.Network
	vm1, vm2 *topology.Guest
	daemon   *topology.Daemon
	traffic  []*topology.Process
	sink     *record.Recorder
}

func (d *demo) startDaemon() error {
	heading("Start dpservice on the hypervisor, on the driver %s", d.net.NIC.Driver)
	var err error
	if d.daemon, err = d.net.Hypervisors[0].StartDaemon(d.ctx, topology.DaemonConfig{}); err != nil {
		return err
	}
	config, err := os.ReadFile(d.daemon.ConfigFile)
	if err != nil {
		return err
	}
	command("%s", d.daemon.CommandLine())
	command("cat %s", d.daemon.ConfigFile)
	indent(string(config))
	return d.dpctl("port", "list")
}

func (d *demo) createInterfaces() error {
	heading("Attach the two VMs to one virtual network")
	for _, vm := range d.net.Guests() {
		if err := d.dpctl("interface", "create", vm.ID, "--device="+vm.Device, fmt.Sprintf("--vni=%d", topology.VNI),
			"--ipv4="+vm.IPv4.String(), "--ipv6="+vm.IPv6.String()); err != nil {
			return err
		}
	}
	return d.until(func() error {
		r, err := d.vm1.Run(d.ctx, "ping", "-c", "1", "-W", "1", d.vm2.IPv4.String())
		if err != nil {
			return err
		}
		return r.Err()
	})
}

func (d *demo) startTraffic() error {
	heading("Let them talk: pings and an iperf3 stream, in the background")
	if err := d.background(d.vm2, "iperf3", "-s", "-1", "--forceflush"); err != nil {
		return err
	}
	if err := d.traffic[0].WaitOutput(d.ctx, d.traffic[0].Stdout, "Server listening"); err != nil {
		return err
	}
	if err := d.background(d.vm1, "iperf3", "-c", d.vm2.IPv4.String(), "-b", "1M", "-l", "1200", "-t",
		trafficTime); err != nil {
		return err
	}
	return d.background(d.vm1, "ping", "-q", "-i", "0.01", "-w", trafficTime, d.vm2.IPv6.String())
}

func (d *demo) waitOffloaded() error {
	heading("Wait until the NIC forwards them by itself")
	// Two flows each of the first ping, of the ping in the background, and of the two connections of iperf3.
	const want = 8
	if err := d.until(func() error {
		var list api.FlowListResult
		if err := d.daemon.Call(d.ctx, api.MethodFlowList, map[string]any{"filter": map[string]any{"offloaded": true}},
			&list); err != nil {
			return err
		}
		if len(list.Flows) < want {
			return fmt.Errorf("%d of %d flows are in the NIC", len(list.Flows), want)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := d.dpctl("flow", "list", "--offloaded"); err != nil {
		return err
	}
	before, err := d.lookups()
	if err != nil {
		return err
	}
	if err := d.pingOnce(); err != nil {
		return err
	}
	after, err := d.lookups()
	if err != nil {
		return err
	}
	fmt.Printf("\nPackets on the software path (node flow_lookup of `dpctl graph stats`): %d before 20 more pings, %d after.\n"+
		"The host does not see this traffic any more.\n", before, after)
	return nil
}

// pingOnce sends pings of a flow that the NIC already forwards.
func (d *demo) pingOnce() error {
	argv := []string{"ping", "-q", "-c", "20", "-i", "0.02", d.vm2.IPv6.String()}
	command("%s", d.vm1.CommandLine(argv...))
	r, err := d.vm1.Run(d.ctx, argv...)
	if err != nil {
		return err
	}
	indent(r.Stdout)
	return r.Err()
}

func (d *demo) startCapture() error {
	heading("Capture what the VMs send, with tcpdump at the sink")
	var err error
	file := d.net.Path("test.pcap")
	command("%s &", d.net.Sink.CommandLine(quoted(record.Args("eth0", file, record.In, "udp dst port 3010"))...))
	if d.sink, err = record.Start(d.ctx, d.net.Sink, "eth0", file, record.In, "udp dst port 3010"); err != nil {
		return err
	}
	if err := d.dpctl("capture", "start", "--sink-node-ip="+d.net.SinkIP.String(), "--udp-src-port=3000",
		"--udp-dst-port=3010",
		"--vf="+d.vm1.ID+","+d.vm2.ID, "--pf=0"); err != nil {
		return err
	}
	return d.until(func() error {
		frames, err := d.sink.Frames()
		if err == nil && len(frames) < 500 {
			err = fmt.Errorf("the sink has received only %d copies", len(frames))
		}
		return err
	})
}

func (d *demo) showStatus() error {
	heading("Look at the capture while it runs, and at the NIC's rules that make it")
	if err := d.dpctl("capture", "status"); err != nil {
		return err
	}
	return d.dpctl("rule", "list", "--group=1")
}

func (d *demo) stopCapture() error {
	heading("Stop it")
	if err := d.dpctl("capture", "stop"); err != nil {
		return err
	}
	if err := d.dpctl("rule", "list", "--group=1"); err != nil {
		return err
	}
	frames, err := d.sink.Stop(d.ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nThe sink has recorded %d copies.\n", len(frames))
	return nil
}

// endTraffic waits for the programs of the VMs to end, which shows that the capture has not disturbed them.
func (d *demo) endTraffic() error {
	heading("The VMs have not noticed")
	for _, p := range d.traffic[1:] {
		r, err := p.Wait(d.ctx)
		if err != nil {
			return err
		}
		if err := r.Err(); err != nil {
			return err
		}
		indent(tail(r.Stdout, 5))
	}
	return nil
}

func (d *demo) showCopies() error {
	heading("What the sink has received: Ethernet, IPv6 and UDP around each frame")
	file := d.sink.File
	count := fmt.Sprint(shownFrames)
	argv := []string{"tshark", "-n", "-r", file, "-c", "4", "-T", "fields", "-E", "header=y", "-E", "occurrence=f"}
	for _, field := range []string{"frame.len", "eth.dst", "ipv6.src", "ipv6.dst", "ipv6.hlim", "udp.srcport",
		"udp.dstport", "udp.length"} {
		argv = append(argv, "-e", field)
	}
	if err := d.show(argv...); err != nil {
		return err
	}
	heading("And without these %d bytes: the VMs' own frames", wire.CopyHeaderLen)
	stripped := d.net.Path("test_no_udp.pcap")
	if err := d.show(record.StripArgs(wire.CopyHeaderLen, file, stripped)...); err != nil {
		return err
	}
	if err := d.show("tshark", "-n", "-r", stripped, "-c", count); err != nil {
		return err
	}
	malformed, err := record.Malformed(d.ctx, d.net.Lab, stripped)
	if err != nil {
		return err
	}
	if malformed != "" {
		return fmt.Errorf("tshark finds malformed frames:\n%s", malformed)
	}
	return nil
}

func (d *demo) stopDaemon() error {
	heading("End dpservice by SIGTERM")
	command("kill %d", d.daemon.Pid())
	return d.daemon.Stop(d.ctx)
}

// dpctl runs dpctl and shows what it prints.
func (d *demo) dpctl(args ...string) error {
	command("dpctl --socket %s %s", d.daemon.Socket, strings.Join(quoted(args), " "))
	r, err := d.daemon.Dpctl(d.ctx, args...)
	if err != nil {
		return err
	}
	indent(r.Stdout)
	if err := r.Err(); err != nil {
		return fmt.Errorf("dpctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// show runs a command on the host and shows what it prints.
func (d *demo) show(argv ...string) error {
	command("%s", strings.Join(argv, " "))
	r, err := d.net.Run(d.ctx, "", argv...)
	if err != nil {
		return err
	}
	indent(r.Stdout)
	return r.Err()
}

func (d *demo) background(vm *topology.Guest, argv ...string) error {
	command("%s &", vm.CommandLine(argv...))
	p, err := vm.Start(argv...)
	if err != nil {
		return err
	}
	d.traffic = append(d.traffic, p)
	return nil
}

// lookups returns how many packets the software path has looked up in its flow table.
func (d *demo) lookups() (uint64, error) {
	var stats api.GraphStatsResult
	if err := d.daemon.Call(d.ctx, api.MethodGraphStats, nil, &stats); err != nil {
		return 0, err
	}
	for _, n := range stats.Nodes {
		if n.Name == "flow_lookup" {
			return n.Packets, nil
		}
	}
	return 0, errors.New("graph.stats has no node flow_lookup")
}

func (d *demo) until(cond func() error) error {
	ctx, cancel := context.WithTimeout(d.ctx, waitTimeout)
	defer cancel()
	return topology.Until(ctx, cond)
}

func heading(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Printf("\n%s\n%s\n", text, strings.Repeat("=", len(text)))
}

func command(format string, args ...any) { fmt.Printf("\n$ "+format+"\n", args...) }

func indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("  " + line)
	}
}

// quoted quotes arguments with spaces, so that a command line can be pasted into a shell.
func quoted(argv []string) []string {
	line := make([]string, len(argv))
	for i, a := range argv {
		if line[i] = a; strings.Contains(a, " ") {
			line[i] = "'" + a + "'"
		}
	}
	return line
}

func tail(text string, n int) string {
	lines := strings.SplitAfter(strings.TrimRight(text, "\n")+"\n", "\n")
	return strings.Join(lines[max(0, len(lines)-1-n):], "")
}
