// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"

	"github.com/stretchr/testify/require"
)

const (
	sinkFilter = "udp dst port 3010"
	// ipInIP is how guests' packets travel between hypervisors.
	ipInIP = "ip6 proto 4 or ip6 proto 41"
	// enoughCopies is how many copies a capture under traffic collects before it is stopped.
	enoughCopies = 1500
)

// captureStart returns dpctl's arguments that start a capture towards sink.
func captureStart(sink string, targets ...string) []string {
	return append([]string{"capture", "start", "--sink-node-ip=" + sink, "--udp-src-port=3000", "--udp-dst-port=3010"},
		targets...)
}

// capture is a capture in progress on the first hypervisor, and the recordings to compare its copies with.
type capture struct {
	b      *lab
	window record.Window
	sink   *record.Recorder
	guests map[string]*record.Recorder // by the guest's interface id: what it sends
	wire   *record.Recorder            // what the router sends to PF0 for guests
	uplink *record.Recorder            // the copies as they leave PF0
}

// startRecording starts the recordings of the first hypervisor's guests, its wire, and the sink.
func (b *lab) startRecording(sink *topology.Namespace, device string) *capture {
	b.t.Helper()
	h := b.net.Hypervisors[0]
	c := &capture{
		b:      b,
		sink:   b.record(sink, device, record.In, sinkFilter),
		wire:   b.record(b.net.Router, h.RouterLink, record.Out, ipInIP),
		uplink: b.record(b.net.Router, h.RouterLink, record.In, sinkFilter),
		guests: make(map[string]*record.Recorder),
	}
	for _, g := range h.Guests {
		c.guests[g.ID] = b.record(g.Namespace, "eth0", record.Out, "")
	}
	return c
}

func (c *capture) start(sink string, targets ...string) {
	c.b.t.Helper()
	c.window.Starting = time.Now()
	c.b.dpctl(captureStart(sink, targets...)...)
	c.window.Started = time.Now()
}

func (c *capture) stop() {
	c.b.t.Helper()
	c.window.Stopping = time.Now()
	c.b.dpctl("capture", "stop")
	c.window.Stopped = time.Now()
}

// waitCopies waits until the sink has this number of copies.
func (c *capture) waitCopies(want int) {
	c.b.t.Helper()
	c.b.eventually(func() error {
		frames, err := c.sink.Frames()
		if err != nil {
			return err
		}
		if len(frames) < want {
			return fmt.Errorf("the sink has %d of %d copies", len(frames), want)
		}
		return nil
	})
}

// evidence is the frames in the recordings of a capture.
type evidence struct {
	guests map[string][]record.Frame
	wire   []record.Frame
	copies []record.Frame // without their outer headers, which editcap has removed
}

// finish ends the recordings: the sink's last, so that no copy is missed.
func (c *capture) finish() evidence {
	c.b.t.Helper()
	ids := slices.Collect(maps.Keys(c.guests))
	originals := []*record.Recorder{c.wire}
	for _, id := range ids {
		originals = append(originals, c.guests[id])
	}
	recorded := c.b.stopRecordings(originals...)
	e := evidence{wire: recorded[0], guests: make(map[string][]record.Frame)}
	for i, id := range ids {
		e.guests[id] = recorded[1+i]
	}
	c.b.stopRecordings(c.uplink, c.sink)
	var err error
	e.copies, err = record.Strip(c.b.ctx, c.b.net.Lab, wire.CopyHeaderLen, c.sink.File, c.sink.File+".stripped")
	require.NoError(c.b.t, err)
	return e
}

// check compares the copies with what the named guests ("vm-1") and the wire ("pf0") have sent, byte for byte and in
// number. No copy may be malformed, and every source must have sent something.
func (c *capture) check(e evidence, sources ...string) {
	c.b.t.Helper()
	var originals []record.Frame
	for _, s := range sources {
		from := e.wire
		if s != "pf0" {
			from = e.guests[s]
		}
		inside := record.Between(from, c.window.Started, c.window.Stopping)
		require.NotEmpty(c.b.t, inside, "%s sent nothing during the capture", s)
		c.b.t.Logf("%s: %d frames during the capture", s, len(inside))
		originals = append(originals, from...)
	}
	c.b.t.Logf("sink: %d copies", len(e.copies))
	require.NoError(c.b.t, record.Check(e.copies, originals, c.window))
	malformed, err := record.Malformed(c.b.ctx, c.b.net.Lab, c.sink.File+".stripped")
	require.NoError(c.b.t, err)
	require.Empty(c.b.t, malformed)
}

// checkHeaders checks the encapsulation of the copies with tshark, as they leave PF0 and as they arrive at the sink.
func (c *capture) checkHeaders(sink string) {
	c.b.t.Helper()
	h := c.b.net.Hypervisors[0]
	pf0, err := h.MAC("wire0")
	require.NoError(c.b.t, err)
	router, err := c.b.net.Router.MAC(h.RouterLink)
	require.NoError(c.b.t, err)

	c.checkLeg(c.uplink.File, router, pf0, sink, "64")
	c.checkLeg(c.sink.File, nil, nil, sink, "63")
}

// checkLeg checks the headers of the copies on one link. It does not check MACs that are nil.
func (c *capture) checkLeg(file string, dst, src net.HardwareAddr, sink, hopLimit string) {
	c.b.t.Helper()
	rows, err := record.Fields(c.b.ctx, c.b.net.Lab, file, "udp.dstport == 3010", "frame.len",
		"eth.dst", "eth.src", "eth.type", "ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.nxt", "ipv6.plen", "udp.length",
		"udp.checksum")
	require.NoError(c.b.t, err)
	frames, err := record.Read(file)
	require.NoError(c.b.t, err)
	require.Len(c.b.t, rows, len(frames), "every copy is what the filter says")
	for _, row := range rows {
		length, err := strconv.Atoi(row[0])
		require.NoError(c.b.t, err)
		if dst != nil {
			require.Equal(c.b.t, []string{dst.String(), src.String()}, row[1:3], "Ethernet addresses")
		}
		payload := strconv.Itoa(length - 14 - 40)
		require.Equal(c.b.t, []string{"0x86dd", c.b.net.Hypervisors[0].UnderlayIP.String(), sink, hopLimit, "17",
			payload, payload, "0x0000"}, row[3:])
	}
}

// TestCaptureOffloadedTraffic tests the main purpose of dpservice: it captures flows, offloaded long before, from both
// VMs and from PF0. The copies are exact, no packet is lost, and none returns to the software path. Afterwards the
// NIC's rules are as before.
func TestCaptureOffloadedTraffic(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []string{vm2.IPv4.String(), vm2.IPv6.String(), vm3.IPv4.String(), vm3.IPv6.String()} {
		b.reach(vm1, to)
	}
	b.reach(vm2, vm3.IPv6.String())

	noLosses := b.losses()
	const run = 8 * time.Second
	pings := []*ping{
		b.startPing(vm1, vm2.IPv4.String(), run),
		b.startPing(vm2, vm1.IPv6.String(), run, "-s", "1452"),
		b.startPing(vm3, vm1.IPv4.String(), run),
		b.startPing(vm1, vm3.IPv6.String(), run, "-s", "1452"),
	}
	tcp := b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, run, "10M")
	udp := b.startIperf(vm3, vm2, vm2.IPv6.String(), 5202, run, "10M", "-u", "-l", "1400")
	d := b.daemons[0]
	b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(d, 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	b.waitOffloaded(d, 1, "icmp6", vm2.IPv6.String(), vm1.IPv6.String())
	b.waitOffloaded(d, 1, "icmp6", vm1.IPv6.String(), vm2.IPv6.String())
	b.waitOffloaded(d, 1, "icmp", vm3.IPv4.String(), vm1.IPv4.String())
	b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), vm3.IPv4.String())
	b.waitOffloaded(d, 1, "icmp6", vm1.IPv6.String(), vm3.IPv6.String())
	b.waitOffloaded(d, 1, "icmp6", vm3.IPv6.String(), vm1.IPv6.String())
	b.waitOffloaded(d, 2, "tcp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(d, 2, "tcp", vm2.IPv4.String(), vm1.IPv4.String())
	b.waitOffloaded(d, 1, "udp", vm3.IPv6.String(), vm2.IPv6.String())
	b.waitOffloaded(d, 1, "tcp", vm3.IPv6.String(), vm2.IPv6.String())
	b.waitOffloaded(d, 1, "tcp", vm2.IPv6.String(), vm3.IPv6.String())

	rules, software := b.rules(), b.softwareLookups()
	sink := b.net.SinkIP.String()
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(sink, "--vf=vm-1,vm-2", "--pf=0")
	c.waitCopies(enoughCopies)
	b.checkStatus(sink, 3)
	c.stop()
	require.Equal(t, rules, b.rules(), "the NIC's rules are as before the capture")
	require.Equal(t, software, b.softwareLookups(), "no packet went to the software path for the capture's sake")
	sampled := b.nicCounter("sampled")
	b.waitForwarded(200)
	require.Equal(t, sampled, b.nicCounter("sampled"), "the NIC samples no more")

	for _, p := range pings {
		p.wait()
	}
	udp.wait()
	tcp.wait()
	noLosses()
	require.Zero(t, b.nicCounter("oversize"))
	require.Zero(t, b.nicCounter("sample_failed"))

	e := c.finish()
	c.check(e, "vm-1", "vm-2", "pf0")
	c.checkHeaders(sink)
}

// checkStatus checks dpctl's status of the running capture.
func (b *lab) checkStatus(sink string, interfaces int) {
	b.t.Helper()
	var status api.CaptureStatusResult
	require.NoError(b.t, json.Unmarshal([]byte(b.dpctl("-o", "json", "capture", "status")), &status))
	require.True(b.t, status.Active)
	require.Len(b.t, status.Sessions, 1)
	s := status.Sessions[0]
	require.Equal(b.t, "default", s.Name)
	require.Equal(b.t, "active", s.State)
	require.Equal(b.t, sink, s.SinkNodeIP)
	require.EqualValues(b.t, 3000, s.UDPSrcPort)
	require.EqualValues(b.t, 3010, s.UDPDstPort)
	require.Len(b.t, s.Interfaces, interfaces)
	b.eventually(func() error { // counters of the NIC may be delayed
		for _, i := range b.session().Interfaces {
			if i.Packets == 0 || i.Bytes == 0 {
				return fmt.Errorf("nothing is counted: %+v", i)
			}
		}
		return nil
	})
	require.Contains(b.t, b.dpctl("capture", "status"), sink)
}

// TestCaptureFirstPackets starts a capture before the first packet of any flow. Packets that the software path forwards
// are captured like those that the NIC forwards, including ARP and TCP handshakes, on a VF and on PF0.
func TestCaptureFirstPackets(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(b.net.SinkIP.String(), "--vf=vm-1", "--pf=0")

	b.reach(vm3, vm1.IPv4.String())
	b.reach(vm3, vm2.IPv6.String())
	b.reach(vm2, vm1.IPv4.String())
	b.startPing(vm3, vm1.IPv4.String(), 300*time.Millisecond).wait()
	b.startPing(vm3, vm2.IPv6.String(), 300*time.Millisecond).wait()
	b.startIperf(vm3, vm1, vm1.IPv4.String(), 5201, time.Second, "5M").wait()
	b.startIperf(vm1, vm3, vm3.IPv6.String(), 5202, time.Second, "5M").wait()
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm3.IPv4.String(), vm1.IPv4.String())
	c.stop()

	c.check(c.finish(), "vm-1", "pf0")
}

// TestCaptureToLocalSink sends the copies to the hypervisor's own underlay address: they leave PF0, the router sends
// them back, and tcpdump on the hypervisor's uplink sees them.
func TestCaptureToLocalSink(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	h := b.net.Hypervisors[0]

	noLosses := b.losses()
	const run = 3 * time.Second
	p := b.startPing(vm1, vm2.IPv4.String(), run, "-s", "1472")
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	rules := b.rules()
	c := b.startRecording(h.Namespace, "wire0")
	sink := h.UnderlayIP.String()
	c.start(sink, "--vf=vm-1,vm-2", "--pf=0")
	c.waitCopies(200)
	c.stop()
	require.Equal(t, rules, b.rules())
	p.wait()
	noLosses()

	c.check(c.finish(), "vm-1", "vm-2")
	c.checkHeaders(sink)
}

// TestCaptureOfOneVM captures one of two VMs that exchange packets. There are no copies of the other VM's packets, and
// a second capture can follow the first.
func TestCaptureOfOneVM(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv6.String())
	mac, err := vm1.MAC("eth0")
	require.NoError(t, err)
	noLosses := b.losses()
	p := b.startPing(vm1, vm2.IPv6.String(), 6*time.Second)
	for range 2 {
		c := b.startRecording(b.net.Sink, "eth0")
		c.start(b.net.SinkIP.String(), "--vf=vm-1")
		c.waitCopies(50)
		c.stop()
		e := c.finish()
		c.check(e, "vm-1")
		for _, f := range e.copies {
			require.True(t, bytes.Equal(mac, f.Data[6:12]), "not of vm-1: %s", f)
		}
	}
	p.wait()
	noLosses()
}

// TestToggleLosesNothing starts and stops captures of every direction many times under traffic. Guests receive every
// packet once, and no packet takes the software path.
func TestToggleLosesNothing(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm1, vm3.IPv6.String())

	noLosses := b.losses()
	const run = 8 * time.Second
	begin := time.Now()
	pings := []*ping{b.startPing(vm2, vm1.IPv4.String(), run), b.startPing(vm3, vm1.IPv6.String(), run)}
	local := b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, run, "30M", "-u", "-l", "1400")
	remote := b.startIperf(vm3, vm2, vm2.IPv6.String(), 5202, run, "20M", "-u", "-l", "1400")
	d := b.daemons[0]
	b.waitOffloaded(d, 1, "udp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(d, 1, "udp", vm3.IPv6.String(), vm2.IPv6.String())
	b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(d, 1, "icmp6", vm1.IPv6.String(), vm3.IPv6.String())
	b.waitOffloaded(d, 1, "icmp6", vm3.IPv6.String(), vm1.IPv6.String())

	rules, software := b.rules(), b.softwareLookups()
	toggles := 0
	for ; toggles < 20 && time.Since(begin) < run-2*time.Second; toggles++ { // to stop takes a second where counters lag
		direction := []string{"rx", "tx", "both"}[toggles%3]
		targets := []string{"--vf=vm-1,vm-2", "--direction=" + direction}
		if direction != "tx" {
			targets = append(targets, "--pf=0")
		}
		b.dpctl(captureStart(b.net.SinkIP.String(), targets...)...)
		b.dpctl("capture", "stop")
	}
	require.GreaterOrEqual(t, toggles, 3, "each direction")
	require.Equal(t, software, b.softwareLookups())
	require.Equal(t, rules, b.rules())
	for _, p := range pings {
		p.wait()
	}
	local.wait()
	remote.wait()
	noLosses()
}

// TestCaptureSixteenInterfaces captures the maximum of sixteen interfaces, fifteen VFs and PF0. One more is refused.
func TestCaptureSixteenInterfaces(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{NoPF1: true}, 15)
	var ids []string
	for _, vm := range b.vms {
		ids = append(ids, vm.ID)
	}
	sink, all := b.net.SinkIP.String(), "--vf="+strings.Join(ids, ",")
	r, err := b.daemons[0].Dpctl(b.ctx, captureStart(sink, all+",vm-16", "--pf=0")...)
	require.NoError(t, err)
	require.Equal(t, exitRefused, r.Code)
	require.Contains(t, r.Stderr, "LIMIT_REACHED")

	b.reach(b.vms[0], b.vms[14].IPv4.String())
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(sink, all, "--pf=0")
	for _, vm := range b.vms[1:] {
		b.startPing(vm, b.vms[0].IPv4.String(), 50*time.Millisecond).wait()
	}
	c.stop()
	c.check(c.finish(), ids...)
}
