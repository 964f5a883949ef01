// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"
)

// session returns the running capture.
func (b *lab) session() api.CaptureSession {
	b.t.Helper()
	var status api.CaptureStatusResult
	b.call(api.MethodCaptureStatus, &status)
	require.Len(b.t, status.Sessions, 1)
	return status.Sessions[0]
}

// targets returns the names of what a session captures.
func targets(s api.CaptureSession) (names []string) {
	for _, i := range s.Interfaces {
		if i.PF != nil {
			names = append(names, fmt.Sprintf("pf%d", *i.PF))
		} else {
			names = append(names, i.VF)
		}
	}
	return names
}

// pingOn sends a ping every pingInterval until the returned function is called.
func (b *lab) pingOn(from *topology.Guest, to string) (stop func()) {
	b.t.Helper()
	p, err := from.Start("ping", "-n", "-q", "-i", "0.01", to)
	require.NoError(b.t, err)
	return func() {
		b.t.Helper()
		_, err := p.Stop(b.ctx, syscall.SIGINT)
		require.NoError(b.t, err)
	}
}

// moreCopies waits until the sink has n more copies than now.
func (c *capture) moreCopies(n int) {
	c.b.t.Helper()
	frames, err := c.sink.Frames()
	require.NoError(c.b.t, err)
	c.waitCopies(len(frames) + n)
}

func fromMAC(mac []byte) func(record.Frame) bool {
	return func(f record.Frame) bool { return bytes.Equal(mac, f.Data[6:12]) }
}

func not(f func(record.Frame) bool) func(record.Frame) bool {
	return func(frame record.Frame) bool { return !f(frame) }
}

// TestInterfacesComeAndGoWhileCapturing deletes a captured interface and creates it again under traffic. The capture of
// this interface ends, while that of the others continues, also for flows that begin in that time.
func TestInterfacesComeAndGoWhileCapturing(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	d := b.daemons[0]
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm3, vm1.IPv6.String())
	var created api.Interface
	require.NoError(t, d.Call(b.ctx, api.MethodInterfaceGet, map[string]any{"id": "vm-2"}, &created))
	mac, err := vm2.MAC("eth0")
	require.NoError(t, err)

	c := b.startRecording(b.net.Sink, "eth0")
	c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
	warnings := b.session().Warnings
	stop1, stop3 := b.pingOn(vm1, vm2.IPv4.String()), b.pingOn(vm3, vm1.IPv6.String())
	b.waitOffloaded(d, 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	c.moreCopies(200)

	vm2Window := c.window
	vm2Window.Stopping = time.Now()
	b.dpctl("interface", "delete", "vm-2")
	vm2Window.Stopped = time.Now()
	s := b.session()
	require.Equal(t, []string{"vm-1", "pf0"}, targets(s))
	require.Equal(t, append(warnings, "interface vm-2 was deleted: its part of the capture has ended"), s.Warnings)
	require.Equal(t, "active", s.State)
	for _, r := range b.rules() {
		require.False(t, r.Port == created.Device && !strings.HasPrefix(r.Name, "base/"), "%+v", r)
	}
	c.moreCopies(200)

	require.NoError(t, d.Call(b.ctx, api.MethodInterfaceCreate, created, nil))
	b.waitOffloaded(d, 1, "icmp", vm2.IPv4.String(), vm1.IPv4.String())
	stop2 := b.pingOn(vm3, vm2.IPv4.String())
	b.waitOffloaded(d, 1, "icmp", vm3.IPv4.String(), vm2.IPv4.String())
	require.Equal(t, []string{"vm-1", "pf0"}, targets(b.session()))
	c.moreCopies(200)
	c.stop()
	stop1()
	stop2()
	stop3()
	e := c.finish()
	require.NoError(t, record.Check(record.Filter(e.copies, fromMAC(mac)), e.guests["vm-2"], vm2Window))
	e.copies = record.Filter(e.copies, not(fromMAC(mac)))
	c.check(e, "vm-1", "pf0")

	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-2")...)
	b.dpctl("interface", "delete", "vm-2")
	var status api.CaptureStatusResult
	b.call(api.MethodCaptureStatus, &status)
	require.False(t, status.Active, "the last interface takes the session along")
}

// TestCapturesFollowTheRouter gives the router another MAC under traffic. Within a second no copy goes to the old one.
// PF0 sends every packet and every copy once, to the old MAC or to the new one: only those to the old are lost, by the
// router.
func TestCapturesFollowTheRouter(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	link := b.net.Hypervisors[0].RouterLink
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm1, vm3.IPv6.String())
	before, err := b.balance()
	require.NoError(t, err)

	c := b.startRecording(b.net.Sink, "eth0")
	encapsulated := b.record(b.net.Router, link, record.In, "ip6 proto 41")
	stop2, stop3 := b.pingOn(vm1, vm2.IPv4.String()), b.pingOn(vm1, vm3.IPv6.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp6", vm1.IPv6.String(), vm3.IPv6.String())
	c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
	warnings := b.session().Warnings
	c.moreCopies(200)

	const changes = 3
	var changed []time.Time
	for i := range changes {
		at := time.Now()
		require.NoError(t, b.net.Router.IP(fmt.Sprintf("link set %s address 02:00:00:00:be:%02x", link, i)))
		changed = append(changed, at)
		time.Sleep(1200 * time.Millisecond)
	}
	c.moreCopies(200)
	s := b.session()
	require.Equal(t, []string{"vm-1", "vm-2", "pf0"}, targets(s))
	require.Equal(t, warnings, s.Warnings)
	c.stop()
	stop2()
	stop3()

	after, err := b.balance()
	require.NoError(t, err)
	require.Equal(t, []int64{before.Echo4, before.Reply4}, []int64{after.Echo4, after.Reply4},
		"the guests of one hypervisor")
	onWire := b.stopRecording(encapsulated)
	e := c.finish()
	e.copies, err = record.Strip(b.ctx, b.net.Lab, wire.CopyHeaderLen, c.uplink.File, c.uplink.File+".stripped")
	require.NoError(t, err)
	c.check(e, "vm-1", "vm-2", "pf0")
	sent := decapsulated(e.guests["vm-1"], 14, layers.ICMPv6TypeEchoRequest, true)
	require.NotEmpty(t, sent)
	received := decapsulated(onWire, 14+40, layers.ICMPv6TypeEchoRequest, false)
	require.Empty(t, record.Missing(sent, received), "packets that PF0 did not send")
	require.Empty(t, record.Missing(received, sent), "packets that PF0 sent twice")

	copies, err := record.Read(c.uplink.File)
	require.NoError(t, err)
	for i, at := range changed {
		until := at.Add(time.Hour)
		if i+1 < changes {
			until = changed[i+1]
		}
		settled := record.Between(copies, at.Add(time.Second), until)
		require.NotEmpty(t, settled)
		for _, f := range settled {
			require.Equal(t, []byte{2, 0, 0, 0, 0xbe, byte(i)}, f.Data[:6], "%s after the change: %s", f.Time.Sub(at), f)
		}
	}
}

// decapsulated returns the IPv6 packets of one ICMPv6 type that begin at an offset in frames. If forward is set, their
// hop limit is that after dpservice has forwarded them.
func decapsulated(frames []record.Frame, offset int, kind uint8, forward bool) (packets []record.Frame) {
	const nextHeader, hopLimit, headerLen = 6, 7, 40
	for _, f := range frames {
		if len(f.Data) <= offset+headerLen || f.Data[offset]>>4 != 6 || f.Data[offset+nextHeader] != 58 ||
			f.Data[offset+headerLen] != kind {
			continue
		}
		p := slices.Clone(f.Data[offset:])
		if forward {
			p[hopLimit]--
		}
		packets = append(packets, record.Frame{Time: f.Time, Data: p})
	}
	return packets
}

// TestLinksGoDownAndUp takes down the link of the wire and of a guest during traffic and a capture. Traffic that does
// not need the link continues. The rest continues when the link is up again, and is captured as before.
func TestLinksGoDownAndUp(t *testing.T) {
	const down = 2 * time.Second // long enough for the queues towards the link to fill
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	h := b.net.Hypervisors[0]
	b.reach(vm1, vm2.IPv4.String())
	b.reach(vm3, vm1.IPv6.String())
	base := b.rules()
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
	captured, warnings := b.captureRules(), b.session().Warnings

	before, err := b.balance()
	require.NoError(t, err)
	stop := []func(){b.pingOn(vm1, vm2.IPv4.String()), b.pingOn(vm3, vm1.IPv6.String()), b.flood(vm1, vm3)}
	b.waitOffloaded(b.daemons[0], 1, "udp", vm1.IPv6.String(), vm3.IPv6.String())
	c.moreCopies(500)
	require.NoError(t, h.IP("link set wire0 down"))
	time.Sleep(down)
	require.NoError(t, h.IP("link set wire0 up"))
	b.reach(vm3, vm1.IPv6.String())
	c.moreCopies(500)
	for _, f := range stop {
		f()
	}
	b.eventually(func() error {
		after, err := b.balance()
		if err == nil && (after.Echo4 != before.Echo4 || after.Reply4 != before.Reply4) {
			err = fmt.Errorf("the guests of one hypervisor have lost packets: before %+v, after %+v", before, after)
		}
		return err
	})

	stop = []func(){b.pingOn(vm2, vm1.IPv4.String()), b.flood(vm2, vm1)}
	c.moreCopies(500)
	require.NoError(t, h.IP("link set guest0 down"))
	b.startPing(vm3, vm2.IPv6.String(), down).wait()
	require.NoError(t, h.IP("link set guest0 up"))
	b.reach(vm2, vm1.IPv4.String())
	b.reach(vm3, vm1.IPv6.String())
	c.moreCopies(500)
	for _, f := range stop {
		f()
	}
	s := b.session()
	require.Equal(t, "active", s.State)
	require.Equal(t, warnings, s.Warnings)
	require.Equal(t, captured, b.captureRules())
	c.stop()
	require.Equal(t, base[:1], b.rules()[:1])
	require.Empty(t, b.captureRules())

	again := b.startRecording(b.net.Sink, "eth0")
	again.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
	b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
	b.startPing(vm3, vm1.IPv6.String(), time.Second).wait()
	again.stop()
	again.check(again.finish(), "vm-1", "vm-2", "pf0")
	c.finish()
}

// TestTheNICsLinkGoesDownAndUp takes down PF0's link in the NIC. dpservice reports it, the guests of the hypervisor
// still reach each other, and the capture continues when the link is up again.
func TestTheNICsLinkGoesDownAndUp(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{Telemetry: true}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	noLosses := b.losses()
	stop := b.pingOn(vm1, vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
	c.moreCopies(100)
	session, rules := b.session(), b.captureRules()

	b.fault("link_down=pf0")
	b.waitLink("down")
	b.waitForwarded(200)
	b.fault("link_up=pf0")
	b.waitLink("up")
	c.moreCopies(100)
	b.eventually(func() error { // a router that was not found without a link is found again
		if warnings := b.session().Warnings; !slices.Equal(session.Warnings, warnings) {
			return fmt.Errorf("warnings: %q", warnings)
		}
		return nil
	})
	require.Equal(t, "active", b.session().State)
	require.Equal(t, rules, b.captureRules())
	c.stop()
	stop()
	noLosses()
	c.finish()
}

// waitLink waits until PF0 of the first daemon is in this state.
func (b *lab) waitLink(want string) {
	b.t.Helper()
	b.eventually(func() error {
		var list api.PortListResult
		b.call(api.MethodPortList, &list)
		if link := list.Ports[0].Link; link != want {
			return fmt.Errorf("%s is %s", list.Ports[0].Name, link)
		}
		return nil
	})
}

// flood sends small datagrams as fast as it can until the returned function is called.
func (b *lab) flood(from, to *topology.Guest) (stop func()) {
	b.t.Helper()
	p, err := from.Start("bash", "-c",
		"while :; do for i in {1..25}; do echo x; done; sleep 0.01; done > /dev/udp/"+to.IPv6.String()+"/9")
	require.NoError(b.t, err)
	return func() {
		b.t.Helper()
		_, err := p.Stop(b.ctx, syscall.SIGTERM)
		require.NoError(b.t, err)
	}
}

// captureRules returns the rules of captures.
func (b *lab) captureRules() []api.Rule {
	b.t.Helper()
	return slices.DeleteFunc(b.rules(), func(r api.Rule) bool { return !strings.HasPrefix(r.Name, "capture/") })
}

// TestKilledAndStartedAgain kills the daemon with SIGKILL during traffic and a capture, and starts it again with the
// same socket and folder. Nothing is left of the first process.
func TestKilledAndStartedAgain(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	d := b.daemons[0]
	const lives = 3
	for life := range lives {
		b.reach(vm1, vm2.IPv4.String())
		stop := b.pingOn(vm1, vm2.IPv4.String())
		b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
		c := b.startRecording(b.net.Sink, "eth0")
		c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2", "--pf=0")
		c.moreCopies(100)
		require.Len(t, b.captureRules(), 7)

		killed := d.Pid()
		_, err := d.Process.Stop(b.ctx, syscall.SIGKILL)
		require.NoError(t, err)
		require.FileExists(t, d.Socket)
		require.NoError(t, d.Restart(b.ctx), "life %d", life+1)
		require.NotEqual(t, killed, d.Pid())
		b.checkBlank()
		frames, err := c.sink.Frames()
		require.NoError(t, err)
		b.connect()
		b.reach(vm1, vm2.IPv4.String())
		b.waitOffloaded(d, 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
		require.Zero(t, b.nicCounter("sampled"))
		stop()
		c.finish()
		left, err := c.sink.Frames()
		require.NoError(t, err)
		require.Len(t, left, len(frames), "nothing is captured any more")
	}
	require.NoError(t, d.Stop(b.ctx))
	_, err := os.Stat(d.Socket)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// checkBlank requires that the first daemon has only the base rules of its ports.
func (b *lab) checkBlank() {
	b.t.Helper()
	for method, empty := range map[api.AnyMethod]string{
		api.MethodCaptureStatus: `{"active":false,"sessions":[]}`,
		api.MethodInterfaceList: `{"interfaces":[]}`,
		api.MethodRouteList:     `{"routes":[]}`,
		api.MethodFlowList:      `{"flows":[]}`,
	} {
		var result json.RawMessage
		b.call(method, &result)
		require.JSONEq(b.t, empty, string(result), method.Name())
	}
	for _, r := range b.rules() {
		require.True(b.t, strings.HasPrefix(r.Name, "base/"), "%+v", r)
	}
}
