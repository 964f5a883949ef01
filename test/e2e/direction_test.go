// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"

	"github.com/stretchr/testify/require"
)

// Copies of what an interface receives have a flow label with this bit, those of what it sends do not.
const (
	sentCopies     = sinkFilter + " and ip6[0:4] & 0x80000 = 0"
	receivedCopies = sinkFilter + " and ip6[0:4] & 0x80000 != 0"
)

// startReceived does the same as startRecording, and also records what a guest receives.
func (b *lab) startReceived(g *topology.Guest) (*capture, *record.Recorder) {
	b.t.Helper()
	return b.startRecording(b.net.Sink, "eth0"), b.record(g.Namespace, "eth0", record.In, "")
}

// checkReceived ends the recording of what a guest has received, and compares it with the copies.
func (c *capture) checkReceived(received *record.Recorder) []record.Frame {
	c.b.t.Helper()
	originals := c.b.stopRecording(received)
	copies := c.stripped(receivedCopies)
	c.b.t.Logf("received: %d frames, %d copies", len(originals), len(copies))
	require.NotEmpty(c.b.t, record.Between(originals, c.window.Started, c.window.Stopping))
	require.NoError(c.b.t, record.Check(copies, originals, c.window))
	return copies
}

// stripped returns the sink's copies that match a libpcap filter, without their outer headers.
func (c *capture) stripped(filter string) []record.Frame {
	c.b.t.Helper()
	copies := c.b.accepted(c.sink, filter)
	for i := range copies {
		copies[i].Data = copies[i].Data[wire.CopyHeaderLen:]
	}
	return copies
}

// interfaceOf returns one direction of an interface of a session.
func interfaceOf(t *testing.T, s api.CaptureSession, vf, direction string) api.CaptureInterface {
	t.Helper()
	for _, i := range s.Interfaces {
		if i.VF == vf && i.Direction == direction {
			return i
		}
	}
	t.Fatalf("session %s has no %s of %s: %+v", s.Name, direction, vf, s.Interfaces)
	return api.CaptureInterface{}
}

// TestCaptureBothDirections captures what a VM sends and what it receives, of flows that were offloaded long before,
// from this hypervisor and from another: byte for byte as the VM has them, nothing is lost, no packet takes the
// software path for the capture's sake, and no flow's rule is touched.
func TestCaptureBothDirections(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []string{vm2.IPv4.String(), vm2.IPv6.String(), vm3.IPv4.String(), vm3.IPv6.String()} {
		b.reach(vm1, to)
	}
	noLosses := b.losses()
	const run = 6 * time.Second
	pings := []*ping{
		b.startPing(vm1, vm2.IPv4.String(), run),
		b.startPing(vm3, vm1.IPv4.String(), run, "-s", "1400"),
		b.startPing(vm1, vm3.IPv6.String(), run, "-s", "1452"),
	}
	udp := b.startIperf(vm3, vm1, vm1.IPv6.String(), 5201, run, "5M", "-u", "-l", "1400")
	tcp := b.startIperf(vm2, vm1, vm1.IPv4.String(), 5202, run, "5M")
	d := b.daemons[0]
	for _, other := range []*topology.Guest{vm2, vm3} {
		b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), other.IPv4.String())
		b.waitOffloaded(d, 1, "icmp", other.IPv4.String(), vm1.IPv4.String())
	}
	b.waitOffloaded(d, 1, "icmp6", vm1.IPv6.String(), vm3.IPv6.String())
	b.waitOffloaded(d, 1, "icmp6", vm3.IPv6.String(), vm1.IPv6.String())
	b.waitOffloaded(d, 1, "udp", vm3.IPv6.String(), vm1.IPv6.String())
	b.waitOffloaded(d, 1, "tcp", vm3.IPv6.String(), vm1.IPv6.String())
	b.waitOffloaded(d, 1, "tcp", vm1.IPv6.String(), vm3.IPv6.String())
	b.waitOffloaded(d, 2, "tcp", vm2.IPv4.String(), vm1.IPv4.String())
	b.waitOffloaded(d, 2, "tcp", vm1.IPv4.String(), vm2.IPv4.String())

	rules, software := b.rules(), b.softwareLookups()
	c, received := b.startReceived(vm1)
	c.start(b.net.SinkIP.String(), "--vf=vm-1", "--direction=both")
	require.Subset(t, b.rules(), rules, "what was there before stays, the flows too")
	c.waitCopies(enoughCopies)
	c.stop()
	require.Equal(t, rules, b.rules(), "the NIC's rules are as before the capture")
	require.Equal(t, software, b.softwareLookups(), "no packet went to the software path for the capture's sake")
	for _, p := range pings {
		p.wait()
	}
	udp.wait()
	tcp.wait()
	noLosses()

	e := c.finish()
	copies := c.checkReceived(received)
	e.copies = c.stripped(sentCopies)
	c.check(e, "vm-1")
	session := b.ended("default")
	require.Equal(t, "both", session.Direction)
	tx := interfaceOf(t, session, "vm-1", "tx")
	require.Equal(t, "hardware", tx.Mode)
	require.EqualValues(t, len(copies), tx.Packets, "what is counted is what arrives")
	require.EqualValues(t, len(e.copies), interfaceOf(t, session, "vm-1", "rx").Packets)
}

// TestCaptureReceivedFirstPackets starts a capture before any flow. Packets that the software path delivers to the VM
// are captured like those that the NIC delivers, and so are dpservice's own packets to the VM.
func TestCaptureReceivedFirstPackets(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	c, received := b.startReceived(vm1)
	c.start(b.net.SinkIP.String(), "--vf=vm-1", "--direction=tx")
	b.reach(vm1, "169.254.0.1")
	b.reach(vm3, vm1.IPv4.String())
	b.reach(vm2, vm1.IPv6.String())
	b.startPing(vm3, vm1.IPv4.String(), 300*time.Millisecond).wait()
	b.startIperf(vm3, vm1, vm1.IPv4.String(), 5201, time.Second, "5M").wait()
	b.startIperf(vm1, vm2, vm2.IPv6.String(), 5202, time.Second, "5M").wait()
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm3.IPv4.String(), vm1.IPv4.String())
	c.stop()
	c.finish()
	copies := c.checkReceived(received)
	require.Empty(t, c.stripped(sentCopies))
	require.EqualValues(t, len(copies), b.ended("default").Packets)
	arp := 0
	for _, f := range copies {
		if f.Data[12] == 0x08 && f.Data[13] == 0x06 {
			arp++
		}
	}
	require.Positive(t, arp, "dpservice asks for the guest's address")
}

// TestCaptureInSoftware captures on ports without rules: what a VM sends, what it receives, and what arrives on PF0,
// with and without a filter. The copies include forwarded packets and dpservice's own.
func TestCaptureInSoftware(t *testing.T) {
	ctx, n := newNetwork(t, 2, 1)
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
	for _, h := range n.Hypervisors {
		b.daemons = append(b.daemons, startDaemon(ctx, t, h, topology.DaemonConfig{Plain: h.Plain("net_af_packet")}))
	}
	b.connect()
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []string{vm2.IPv4.String(), vm3.IPv4.String(), vm3.IPv6.String()} {
		b.reach(vm1, to)
	}
	for filter, libpcap := range map[string]struct{ guest, wire string }{
		"": {"", ""},
		"icmp or tcp port 5202": {"icmp or tcp port 5202",
			"ip6 proto 4 and (ip6[49] = 1 or (ip6[49] = 6 and (ip6[60:2] = 5202 or ip6[62:2] = 5202)))"},
	} {
		t.Run("filter "+filter, func(t *testing.T) {
			b.t = t
			c, received := b.startReceived(vm1)
			c.start(n.SinkIP.String(), "--vf=vm-1", "--pf=0", "--direction=both", "--filter="+filter)
			noLosses := b.losses()
			pings := []*ping{
				b.startPing(vm1, vm2.IPv4.String(), time.Second, "-s", "1400"), b.startPing(vm3, vm1.IPv4.String(), time.Second),
				b.startPing(vm1, vm3.IPv6.String(), time.Second),
			}
			b.startIperf(vm3, vm1, vm1.IPv4.String(), 5202, time.Second, "2M").wait()
			for _, p := range pings {
				p.wait()
			}
			noLosses()
			b.reach(vm1, "169.254.0.1")
			for _, i := range b.status().Sessions[0].Interfaces {
				require.Equal(t, "software", i.Mode)
			}
			c.stop()
			c.finish()
			b.stopRecording(received)

			pf0 := c.stripped(sinkFilter + " and ip6[0:4] & 0xfffff = 1")
			sent := c.stripped(sentCopies + " and ip6[0:4] & 0xfffff != 1")
			got := c.stripped(receivedCopies)
			session := b.ended("default")
			for _, part := range []struct {
				what      string
				copies    []record.Frame
				originals []record.Frame
				counted   uint64
			}{
				{"sent", sent, b.accepted(c.guests["vm-1"], libpcap.guest), interfaceOf(t, session, "vm-1", "rx").Packets},
				{"received", got, b.accepted(received, libpcap.guest), interfaceOf(t, session, "vm-1", "tx").Packets},
				{"wire", pf0, b.accepted(c.wire, libpcap.wire), interfaceOf(t, session, "", "rx").Packets},
			} {
				t.Logf("%s: %d frames, %d copies", part.what, len(part.originals), len(part.copies))
				require.NotEmpty(t, record.Between(part.originals, c.window.Started, c.window.Stopping), part.what)
				require.NoError(t, record.Check(part.copies, part.originals, c.window), part.what)
				require.EqualValues(t, len(part.copies), part.counted, part.what)
			}
			c.checkLeg(c.uplink.File, nil, nil, n.SinkIP.String(), "64")
		})
	}
}

// TestCaptureOnPF1 captures what arrives on the uplink that is not in switchdev mode, while the NIC forwards what
// arrives on the other uplink. The packet graph makes the copies, which leave by PF0.
func TestCaptureOnPF1(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1, 1)
	vm1, vm2, h := b.vms[0], b.vms[1], b.net.Hypervisors[0]
	b.reach(vm2, vm1.IPv4.String())
	var created api.Interface
	require.NoError(t, b.daemons[0].Call(b.ctx, api.MethodInterfaceGet, api.InterfaceID{ID: vm1.ID}, &created))
	pf1, err := h.MAC("wire1")
	require.NoError(t, err)
	require.NoError(t, h.ConnectSecondWire())
	wire := h.SecondRouterLink()
	require.NoError(t, b.net.Router.IP("neigh replace "+created.UnderlayIP+" lladdr "+pf1.String()+" dev "+wire,
		"route replace "+created.UnderlayIP+"/128 dev "+wire))

	c := b.startRecording(b.net.Sink, "eth0")
	onPF1 := b.record(b.net.Router, wire, record.Out, ipInIP)
	c.start(b.net.SinkIP.String(), "--pf=0,1")
	noLosses := b.losses()
	b.startPing(vm2, vm1.IPv4.String(), time.Second, "-s", "1400").wait()
	b.startIperf(vm2, vm1, vm1.IPv6.String(), 5201, time.Second, "5M").wait()
	noLosses()
	c.stop()
	c.finish()
	originals := b.stopRecording(onPF1)
	copies := c.stripped(sinkFilter + " and ip6[0:4] & 0xfffff != 1")
	require.NotEmpty(t, record.Between(originals, c.window.Started, c.window.Stopping))
	require.NoError(t, record.Check(copies, originals, c.window))
	pf := b.ended("default").Interfaces
	require.Equal(t, []string{"hardware", "software"}, []string{pf[0].Mode, pf[1].Mode})
	require.EqualValues(t, len(copies), pf[1].Packets)
}
