// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"
)

// TestSessionsComeAndGoUnderTraffic starts and stops filtered captures beside each other, again and again, under
// traffic: each gets what its filter accepts while it is on, once; guests lose nothing, and no packet takes the
// software path.
func TestSessionsComeAndGoUnderTraffic(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm3, vm1.IPv6.String())
	d := b.daemons[0]

	noLosses := b.losses()
	c := b.startRecording(b.net.Sink, "eth0")
	sink := b.record(b.net.Sink, "eth0", record.In, "udp dst portrange 4000-4999")
	received := b.record(vm2.Namespace, "eth0", record.In, "udp port 5201")
	const run = 8 * time.Second
	begin := time.Now()
	stop := []func(){b.pingOn(vm2, vm1.IPv4.String()), b.pingOn(vm3, vm1.IPv6.String())}
	udp := b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, run, "5M", "-u", "-l", "1200")
	b.waitOffloaded(d, 1, "udp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(d, 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	b.waitOffloaded(d, 1, "icmp6", vm3.IPv6.String(), vm1.IPv6.String())
	rules, software := b.rules(), b.softwareLookups()

	kinds := []struct {
		target, filter, libpcap string
		originals               *record.Recorder
	}{
		{"--vf=vm-1", "udp port 5201 or icmp6", "udp port 5201 or " + anyICMPv6, c.guests["vm-1"]},
		{"--vf=vm-2", "icmp and src host " + vm2.IPv4.String(), "icmp and src host " + vm2.IPv4.String(), c.guests["vm-2"]},
		{"--pf=0", "ip6", "ip6 proto 41", c.wire},
	}
	type part struct {
		kind, port int
		window     record.Window
	}
	var parts []*part
	rounds := 0
	for ; rounds < 5 && time.Since(begin) < run/2; rounds++ { // a round takes four seconds where counters lag
		on := make([]*part, len(kinds))
		for i, k := range kinds {
			on[i] = &part{kind: i, port: 4000 + len(kinds)*rounds + i}
			on[i].window.Starting = time.Now()
			b.dpctl(b.startOn(fmt.Sprint("kind-", i), on[i].port, k.target, "--filter="+k.filter)...)
			on[i].window.Started = time.Now()
		}
		time.Sleep(200 * time.Millisecond)
		for i := range kinds {
			on[i].window.Stopping = time.Now()
			b.dpctl("capture", "stop", fmt.Sprint("kind-", i))
			on[i].window.Stopped = time.Now()
		}
		parts = append(parts, on...)
	}
	require.Equal(t, software, b.softwareLookups(), "no packet took the software path for the captures' sake")
	require.Equal(t, rules, b.rules())
	for _, f := range stop {
		f()
	}
	udp.wait()
	noLosses()

	c.finish()
	b.stopRecording(sink)
	b.stopRecording(received)
	sentUDP, receivedUDP := payloads(b.accepted(c.guests["vm-1"], "udp dst port 5201")), payloads(b.accepted(received, ""))
	require.Empty(t, record.Missing(sentUDP, receivedUDP), "lost")
	require.Empty(t, record.Missing(receivedUDP, sentUDP), "received twice")
	history := b.status().History
	for i, p := range parts {
		k := kinds[p.kind]
		originals := b.accepted(k.originals, k.libpcap)
		require.NotEmpty(t, record.Between(originals, p.window.Started, p.window.Stopping), k.filter)
		copies := b.copiesOn(sink, p.port)
		require.NoError(t, record.Check(copies, originals, p.window), k.filter)
		checkCounted(t, history[len(parts)-1-i], copies)
	}
}

// payloads returns the payloads of UDP over IPv4, which routers do not change.
func payloads(frames []record.Frame) []record.Frame {
	const headers = 14 + 20 + 8
	for i := range frames {
		frames[i].Data = frames[i].Data[headers:]
	}
	return frames
}

// TestSessionsToDifferentSinks sends what vm-1 sends to one node, and what vm-2 sends to another in VXLAN, at the same
// time.
func TestSessionsToDifferentSinks(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2, h := b.vms[0], b.vms[1], b.net.Hypervisors[0]
	b.reach(vm1, vm2.IPv4.String())
	c := b.startRecording(b.net.Sink, "eth0")
	local := b.record(h.Namespace, "wire0", record.In, "udp dst port 4789")
	c.window.Starting = time.Now()
	b.dpctl(b.startOn("remote", 3010, "--vf=vm-1")...)
	b.dpctl("capture", "start", "--name=local", "--sink-node-ip="+h.UnderlayIP.String(), "--udp-src-port=3000",
		"--encap=vxlan", "--vf=vm-2")
	c.window.Started = time.Now()
	b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
	b.startPing(vm2, vm1.IPv6.String(), time.Second).wait()
	c.window.Stopping = time.Now()
	b.dpctl("capture", "stop")
	c.window.Stopped = time.Now()

	e := c.finish()
	copies := b.stopRecording(local)
	for i := range copies {
		copies[i].Data = copies[i].Data[wire.VXLANCopyHeaderLen:]
	}
	c.check(e, "vm-1")
	require.NoError(t, record.Check(copies, e.guests["vm-2"], c.window))
	require.NotEmpty(t, copies)
	checkCounted(t, b.ended("local"), copies)
	checkCounted(t, b.ended("remote"), e.copies)
}

// TestHistoryIsBounded runs more captures than are remembered: only the last 16 are, each with the reason of its end.
func TestHistoryIsBounded(t *testing.T) {
	const most, captures = 16, 20
	b := newLab(t, topology.DaemonConfig{}, 1)
	for i := range captures {
		b.dpctl(b.startOn(fmt.Sprint("c", i), 3010, "--vf=vm-1")...)
		b.dpctl("capture", "stop", fmt.Sprint("c", i))
	}
	history := b.status().History
	require.Len(t, history, most)
	for i, s := range history {
		require.Equal(t, fmt.Sprint("c", captures-1-i), s.Name)
		require.Equal(t, "stopped", s.EndReason)
	}
}

// TestMTUWarningIsRight sends PF0 frames of the length that the warning names, which is captured, and one byte more,
// which is not.
func TestMTUWarningIsRight(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	router, h := b.net.Router, b.net.Hypervisors[0]
	const mtu, overhead = 1800, wire.CopyHeaderLen - wire.EthernetLen
	var s api.CaptureSession
	require.NoError(t, json.Unmarshal([]byte(b.dpctl(append([]string{"-o", "json"},
		captureStart(b.net.SinkIP.String(), "--pf=0")...)...)), &s))
	const longest = mtu - overhead
	require.Contains(t, s.Warnings,
		fmt.Sprintf("frames of pf0 can have %d bytes, their copies need an uplink MTU of %d, and it is %d: "+
			"frames longer than %d bytes are not captured", mtu+14, mtu+14+overhead, mtu, longest))

	sink := b.record(b.net.Sink, "eth0", record.In, sinkFilter)
	fd, err := router.PacketSocket(h.RouterLink)
	require.NoError(t, err)
	defer unix.Close(fd)
	to, err := h.MAC("wire0")
	require.NoError(t, err)
	tooLong := b.nicCounter("oversize")
	for _, length := range []int{longest + 1, longest} {
		_, err := unix.Write(fd, tunnelFrame(to, length))
		require.NoError(t, err)
	}
	b.eventually(func() error {
		frames, err := sink.Frames()
		if err == nil && len(frames) == 0 {
			err = fmt.Errorf("no copy has come")
		}
		return err
	})
	frames := b.stopRecording(sink)
	require.Len(t, frames, 1)
	require.Len(t, frames[0].Data, wire.CopyHeaderLen+longest)
	require.Equal(t, tooLong+1, b.nicCounter("oversize"))
}

// tunnelFrame returns a frame of this length with IPv4 in IPv6.
func tunnelFrame(to net.HardwareAddr, length int) []byte {
	f := make([]byte, length)
	copy(f, to)
	f[6], f[12], f[13] = 2, 0x86, 0xdd
	f[14], f[20], f[21] = 6<<4, 4, 64
	binary.BigEndian.PutUint16(f[18:], uint16(length-14-40))
	copy(f[22:], net.ParseIP("fc00:2::1"))
	copy(f[38:], net.ParseIP("fc00:1::1"))
	f[54], f[63] = 0x45, 17
	binary.BigEndian.PutUint16(f[56:], uint16(length-14-40))
	return f
}

// TestCapabilitiesOfARefusingNIC uses a NIC that refuses all rules. Its error is shown for each capability.
func TestCapabilitiesOfARefusingNIC(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{Telemetry: true}, 1)
	ask := func() (c api.CaptureCapabilitiesResult) {
		require.NoError(t, json.Unmarshal([]byte(b.dpctl("-o", "json", "capture", "capabilities")), &c))
		return c
	}
	able := ask()
	b.refuse(refusal{call: "create", nth: 1, all: true})
	refusing := ask()
	b.relent()
	for i, p := range able.Ports {
		if p.Mode != "hardware" {
			require.Equal(t, p, refusing.Ports[i], "no rules are asked for")
			continue
		}
		require.False(t, refusing.Ports[i].RX.Supported)
		require.Contains(t, refusing.Ports[i].RX.Reason, b.net.NIC.Refusal)
		now := slices.Concat([]api.Capability{refusing.Ports[i].TX}, refusing.Ports[i].Encaps, refusing.Ports[i].Filter)
		for k, c := range slices.Concat([]api.Capability{p.TX}, p.Encaps, p.Filter) {
			require.False(t, now[k].Supported)
			if c.Supported {
				require.Contains(t, now[k].Reason, b.net.NIC.Refusal, now[k].Name)
			}
		}
	}
	require.Equal(t, able, ask())
}

// TestCaptureBounds has a daemon that is configured for few interfaces and rules: what goes beyond is refused with the
// number, over all sessions together.
func TestCaptureBounds(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{Extra: "capture: {max_interfaces: 2, max_rules: 4}\n"}, 3)
	b.dpctl(b.startOn("one", 3010, "--vf=vm-1,vm-2")...)
	refused := func(words string, args ...string) {
		t.Helper()
		r, err := b.daemons[0].Dpctl(b.ctx, args...)
		require.NoError(t, err)
		require.Equal(t, exitRefused, r.Code)
		require.Contains(t, r.Stderr, "LIMIT_REACHED")
		require.Regexp(t, words, r.Stderr)
	}
	refused("2", b.startOn("two", 3010, "--vf=vm-3")...)
	b.dpctl("capture", "stop", "one")
	refused("5 rules.* 4", b.startOn("two", 3010, "--vf=vm-3", "--filter=udp port 53")...)
	b.dpctl(b.startOn("two", 3010, "--vf=vm-3", "--filter=ip host 10.0.0.9")...)
}

// TestStatusWatch follows a capture's counters as they grow, until Ctrl-C.
func TestStatusWatch(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1")...)
	d := b.daemons[0]
	p, err := b.net.Hypervisors[0].Start(d.DpctlPath(), "--socket", d.Socket, "capture", "status", "--watch",
		"--interval=50ms")
	require.NoError(t, err)
	stop := b.pingOn(vm1, vm2.IPv4.String())
	counts := func() (distinct []string) {
		for _, m := range regexp.MustCompile(`vm-1 .* `+regexp.QuoteMeta(b.net.NIC.VF(0))+` +\d+ +(\d+)`).FindAllStringSubmatch(p.Stdout.String(), -1) {
			if !slices.Contains(distinct, m[1]) {
				distinct = append(distinct, m[1])
			}
		}
		return distinct
	}
	b.eventually(func() error {
		if n := len(counts()); n < 5 {
			return fmt.Errorf("%d different counts", n)
		}
		return nil
	})
	stop()
	result, err := p.Stop(b.ctx, syscall.SIGINT)
	require.NoError(t, err)
	require.NoError(t, result.Err())
	last := 0
	for _, text := range counts() {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, last)
		last = n
	}
}
