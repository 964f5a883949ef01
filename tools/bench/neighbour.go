// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dpservice/rpc/api"
	"dpservice/test/plugin"
)

// neighbour measures how many new flows of a guest get into the NIC, once beside a guest that begins flows all the time
// and has filled the tables of flows and rules, and once beside a quiet guest.
type neighbour struct {
	Flood  float64 `json:"neighbours_new_flows_per_second"`
	Asked  float64 `json:"new_flows_per_second"`
	Quiet  float64 `json:"rules_per_second_beside_a_quiet_neighbour"`
	Beside float64 `json:"rules_per_second_beside_a_flood"`
	Ratio  float64 `json:"ratio"`
	time   time.Duration
	goal   float64 // the least good ratio
}

// The tables are small, so that they fill soon. The guest stays below its guarantee, which is a quarter.
const (
	neighbourFlows = 8192
	neighbourRules = 4096
	neighbourRate  = 300
	floodRate      = 2500
)

func newNeighbour(long time.Duration, goal float64) *neighbour {
	return &neighbour{Flood: floodRate, Asked: neighbourRate,
		time: min(long, neighbourRules/4/2*time.Second/neighbourRate), goal: goal}
}

func (n *neighbour) measure(ctx context.Context) error {
	return onVeths(ctx, func(d *daemon, wires [nbPorts]*veth) error { return n.compare(ctx, d, wires) })
}

// onVeths runs what measures a dpservice whose NIC's far sides are veths.
func onVeths(ctx context.Context, run func(d *daemon, wires [nbPorts]*veth) error) error {
	return inFolder(func(dir string) (err error) {
		nic, remove, err := plugin.Install()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, remove()) }()
		var wires [nbPorts]*veth
		for port := range wires {
			if wires[port], err = newVeth(port); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, wires[port].close()) }()
		}
		d, err := startWith(ctx, dir, vethConfig(dir, nic, wires))
		if err != nil {
			return err
		}
		return errors.Join(run(d, wires), d.stop())
	})
}

func vethConfig(dir, nic string, wires [nbPorts]*veth) string {
	ports := ""
	for port, w := range wires {
		ports += fmt.Sprintf("%q, ", fmt.Sprintf("--vdev=net_af_packet%d,iface=%s", port, w.near))
	}
	return fmt.Sprintf(`eal: ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--lcores", %q,
      "--file-prefix", "bench", "-d", %q, %s
      "--vdev=net_eswitch0,pf0=net_af_packet0,vf0=net_af_packet1,vf1=net_af_packet2"]
ports: {pf0: net_eswitch0, vfs: "net_eswitch0_representor_vf*"}
underlay: {ip: %q, router_mac: %q}
offload: true
mbufs: 32768
flows: {capacity: %d, max_offload: %d, timeout: 10m, timeouts: {udp: 10m}}
socket: %s
rpc: {idle_timeout: 24h}
`, twoLcores, nic, ports, nodeIP, routerMAC, neighbourFlows, neighbourRules, filepath.Join(dir, "dpservice.sock"))
}

func (n *neighbour) compare(ctx context.Context, d *daemon, wires [nbPorts]*veth) error {
	if err := d.attachWires(ctx, wires[:]); err != nil {
		return err
	}
	var err error
	if n.Quiet, err = n.rulesOf(ctx, d, wires[vf1]); err != nil {
		return err
	}
	ending, end := context.WithCancel(ctx)
	flooded := make(chan error, 1)
	go func() { flooded <- wires[vf0].begin(ending, floodRate) }()
	err = n.waitFull(ctx, d)
	if err == nil {
		n.Beside, err = n.rulesOf(ctx, d, wires[vf1])
	}
	end()
	n.Ratio = n.Beside / n.Quiet
	return errors.Join(err, <-flooded)
}

// attachWires creates interfaces for the guests on the wires, and sets the guests' gateways.
func (d *daemon) attachWires(ctx context.Context, wires []*veth) error {
	if err := d.attach(ctx, eswitchPort); err != nil {
		return err
	}
	return d.gateways(ctx, wires...)
}

// gateways sets the MACs that the guests on the wires send to.
func (d *daemon) gateways(ctx context.Context, wires ...*veth) error {
	var list api.PortListResult
	if err := d.Call(ctx, api.MethodPortList, nil, &list); err != nil {
		return err
	}
	for _, p := range list.Ports {
		for _, w := range wires {
			if p.Role == "vf" && vf0+p.Index == w.port {
				w.gateway = p.MAC
			}
		}
	}
	return nil
}

// waitFull waits until the tables are full.
func (n *neighbour) waitFull(ctx context.Context, d *daemon) error {
	for deadline := time.Now().Add(offloadTimeout); ; time.Sleep(10 * time.Millisecond) {
		var info api.SystemInfoResult
		if err := d.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
			return err
		}
		if info.Flows.Known == neighbourFlows && info.Flows.Rules == neighbourRules {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a flood does not fill the tables: %+v", info.Flows)
		}
	}
}

// rulesOf makes the guest begin flows for a while, and returns how many rules per second it got.
func (n *neighbour) rulesOf(ctx context.Context, d *daemon, w *veth) (float64, error) {
	before, err := rulesHeld(ctx, d, vf1)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	ending, end := context.WithTimeout(ctx, n.time)
	defer end()
	if err := w.begin(ending, neighbourRate); err != nil {
		return 0, err
	}
	after, err := rulesHeld(ctx, d, vf1)
	return float64(after-before) / time.Since(start).Seconds(), err
}

// rulesHeld returns how many of the flows that a guest has begun are in the NIC.
func rulesHeld(ctx context.Context, d *daemon, vf int) (int, error) {
	var info api.SystemInfoResult
	if err := d.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
		return 0, err
	}
	for _, s := range info.Flows.Shares {
		if s.Interface == fmt.Sprintf("vm-%d", vf) && s.Origin == "guest" {
			return s.Rules, nil
		}
	}
	return 0, fmt.Errorf("no share of the guest: %+v", info.Flows)
}

func (n *neighbour) table(w io.Writer) error {
	fmt.Fprintf(w, "A guest's new flows into the NIC, %.0f/s begun, %s each time\n\n", n.Asked, n.time)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BESIDE\tRULES/S\tRATIO\tGOAL")
	fmt.Fprintf(t, "a quiet guest\t%.0f\t\t\n", n.Quiet)
	fmt.Fprintf(t, "a guest that has filled all tables, and begins %.0f/s\t%.0f\t%.2f\t%.2f\n", n.Flood, n.Beside, n.Ratio,
		n.goal)
	return t.Flush()
}

func (n *neighbour) check() error {
	if n.Ratio < n.goal {
		return fmt.Errorf("beside a flood %.2f of a guest's new flows get into the NIC; the goal is %.2f", n.Ratio, n.goal)
	}
	return nil
}

// veth is a pair of kernel interfaces: the NIC uses the near end, and the guest of a port the far end.
type veth struct {
	port    int
	near    string
	link    netlink.Link
	fd      int
	gateway string // MAC that the guest sends to
	begun   int    // number of flows begun
}

func newVeth(port int) (*veth, error) {
	w := &veth{port: port, near: fmt.Sprintf("dpb%dn%d", os.Getpid(), port), fd: -1}
	far := fmt.Sprintf("dpb%df%d", os.Getpid(), port)
	w.link = &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: w.near}, PeerName: far}
	if err := netlink.LinkAdd(w.link); err != nil {
		return nil, fmt.Errorf("add %s: %w", w.near, err)
	}
	if err := w.open(far); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *veth) open(far string) error {
	peer, err := netlink.LinkByName(far)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetUp(w.link), netlink.LinkSetUp(peer)); err != nil {
		return err
	}
	if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	return os.NewSyscallError("bind", unix.Bind(w.fd, &unix.SockaddrLinklayer{Ifindex: peer.Attrs().Index}))
}

func (w *veth) close() error {
	var err error
	if w.fd >= 0 {
		err = unix.Close(w.fd)
	}
	return errors.Join(err, netlink.LinkDel(w.link))
}

// begin makes the guest send the first packets of flows to the other guest, at a rate per second, until ctx is done.
func (w *veth) begin(ctx context.Context, rate int) error {
	start, first := time.Now(), w.begun
	for ctx.Err() == nil {
		for due := first + int(time.Since(start).Seconds()*float64(rate)); w.begun < due; {
			if err := w.beginOne(); err != nil {
				return err
			}
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// beginOne makes the guest send the first packet of a flow to the other guest.
func (w *veth) beginOne() error {
	to, err := net.ParseMAC(w.gateway)
	if err != nil {
		return err
	}
	p := path{src: guestIP[w.port], dst: guestIP[vf0+vf1-w.port],
		outer: []gopacket.SerializableLayer{ethernet(guestMAC(w.port), to, layers.EthernetTypeIPv4)}}
	frame, err := p.frame(w.begun, 64)
	if err != nil {
		return err
	}
	w.begun++
	_, err = unix.Write(w.fd, frame)
	return os.NewSyscallError("write", err)
}

// flowFrames are packets of so many flows to the guest on another node. They can be sent from now on.
func (w *veth) flowFrames(flows int) ([][]byte, error) {
	to, err := net.ParseMAC(w.gateway)
	if err != nil {
		return nil, err
	}
	p := path{src: guestIP[w.port], dst: remoteIP,
		outer: []gopacket.SerializableLayer{ethernet(guestMAC(w.port), to, layers.EthernetTypeIPv4)}}
	frames := make([][]byte, flows)
	for i := range frames {
		if frames[i], err = p.frame(i, 64); err != nil {
			return nil, err
		}
	}
	// The kernel's own network stack drops frames to another MAC at once. The NIC has read the interface's MAC before.
	if err := netlink.LinkSetHardwareAddr(w.link, net.HardwareAddr{2, 0, 0, 0, 2, byte(w.port)}); err != nil {
		return nil, err
	}
	return frames, os.NewSyscallError("setsockopt", unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
}

// send starts to send the frames repeatedly, at a rate per second. The returned function stops it. The sender shares
// the worker's CPU, which has time left; the CPU of the control side also runs the NIC. It goes first, and rests often:
// if the system divided the CPU's time, worker and sender would wait for each other for milliseconds.
func (w *veth) send(ctx context.Context, frames [][]byte, rate int, far *farSide) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its CPU
		_, err := pin(workerCPU)
		if err == nil {
			err = goFirst(sendPriority)
		}
		if err == nil {
			err = w.sendAll(ctx, frames, rate, far)
		}
		ended <- err
	}()
	return func() error { cancel(); return <-ended }
}

// sendAll sends the frames repeatedly, and after each round those again that got lost: whoever begins a flow does not
// wait for the other flows to send again. What it could not send in time it does not make up for, as the worker needs
// the CPU.
func (w *veth) sendAll(ctx context.Context, frames [][]byte, rate int, far *farSide) error {
	const atOnce = 32
	interval := atOnce * time.Second / time.Duration(rate)
	next := time.Now()
	for left := frames; ctx.Err() == nil; {
		n := min(atOnce, len(left))
		for _, frame := range left[:n] {
			if _, err := unix.Write(w.fd, frame); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return os.NewSyscallError("write", err)
			}
		}
		if left = left[n:]; len(left) == 0 {
			if left = far.missed(frames); len(left) == 0 {
				left = frames
			}
		}
		now := time.Now()
		next = next.Add(interval)
		if soonest := now.Add(interval / 4); next.Before(soonest) {
			next = soonest
		}
		rest := unix.NsecToTimespec(int64(next.Sub(now)))
		_ = unix.Nanosleep(&rest, nil) // shorter if it is interrupted
	}
	return nil
}
