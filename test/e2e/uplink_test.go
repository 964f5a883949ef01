// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
)

// failoverTime is how long packets may be lost after a link goes down.
const failoverTime = time.Second

const pf0, pf1 = 0, 1

// uplinkLab is two hypervisors with two uplinks each, and a VM on each.
type uplinkLab struct {
	*lab
	h     *topology.Hypervisor
	ports []string // the first hypervisor's PFs
}

func newUplinkLab(t *testing.T, prepare func(h *topology.Hypervisor) topology.DaemonConfig) *uplinkLab {
	t.Helper()
	ctx, n := newNetwork(t, 1, 1)
	b := &uplinkLab{lab: &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}, h: n.Hypervisors[0]}
	for _, h := range n.Hypervisors {
		require.NoError(t, h.ConnectSecondWire())
		b.daemons = append(b.daemons, startDaemon(ctx, t, h, prepare(h)))
	}
	b.connect()
	for _, u := range b.uplinks() {
		b.ports = append(b.ports, u.Port)
	}
	b.waitUsable(true, true)
	b.reach(b.vms[0], b.vms[1].IPv4.String())
	b.reach(b.vms[1], b.vms[0].IPv6.String())
	return b
}

func (b *uplinkLab) uplinks() []api.Uplink {
	b.t.Helper()
	var info api.SystemInfoResult
	b.call(api.MethodSystemInfo, &info)
	return info.Underlay.Uplinks
}

// waitUsable waits until the first hypervisor's uplinks are usable, or not.
func (b *uplinkLab) waitUsable(want ...bool) {
	b.t.Helper()
	b.eventually(func() error {
		var got []bool
		uplinks := b.uplinks()
		for _, u := range uplinks {
			got = append(got, u.Usable)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("uplinks %+v", uplinks)
		}
		return nil
	})
}

// routerLink returns the router's device towards an uplink of the first hypervisor.
func (b *uplinkLab) routerLink(pf int) string {
	return []string{b.h.RouterLink, b.h.SecondRouterLink()}[pf]
}

// lose and bringBack take an uplink's far end down and up.
func (b *uplinkLab) lose(pf int) {
	b.t.Helper()
	require.NoError(b.t, b.net.Router.IP("link set "+b.routerLink(pf)+" down"))
}

func (b *uplinkLab) bringBack(pf int) {
	b.t.Helper()
	require.NoError(b.t, b.net.Router.IP("link set "+b.routerLink(pf)+" up"))
	require.NoError(b.t, b.h.UseBothWires())
}

// received returns how many packets the router has received on its device towards an uplink.
func (b *uplinkLab) received(pf int) int {
	b.t.Helper()
	r, err := b.net.Router.Run(b.ctx, "cat", "/sys/class/net/"+b.routerLink(pf)+"/statistics/rx_packets")
	require.NoError(b.t, err)
	n, err := strconv.Atoi(strings.TrimSpace(r.Stdout))
	require.NoError(b.t, err)
	return n
}

// flowsOn returns the source ports of the stream's flows, by the port that they leave by.
func (b *uplinkLab) flowsOn(s *stream) (byPort map[string][]int, offloaded map[string]int) {
	b.t.Helper()
	flows, err := b.flows(b.daemons[0], "udp", b.vms[0].IPv4.String(), b.vms[1].IPv4.String())
	require.NoError(b.t, err)
	byPort, offloaded = map[string][]int{}, map[string]int{}
	for _, f := range flows {
		if int(f.DstPort) != s.port {
			continue
		}
		byPort[f.OutPort] = append(byPort[f.OutPort], int(f.SrcPort))
		if f.Offloaded {
			offloaded[f.OutPort]++
		}
	}
	for _, ports := range byPort {
		slices.Sort(ports)
	}
	return byPort, offloaded
}

// waitFlows waits until the stream's flows leave as they should.
func (b *uplinkLab) waitFlows(s *stream, want map[string][]int) {
	b.t.Helper()
	b.eventually(func() error {
		if got, _ := b.flowsOn(s); !maps.EqualFunc(got, want, slices.Equal) {
			return fmt.Errorf("flows on %v, not on %v", got, want)
		}
		return nil
	})
}

// stream is many UDP flows from vm-1 to vm-2 of the other hypervisor, each packet with a number.
type stream struct {
	b        *uplinkLab
	port     int
	stop     chan struct{}
	done     chan struct{}
	receiver net.PacketConn
	sent     []time.Time // by number
	received chan map[int]time.Time
}

const (
	streamFlows  = 40
	streamPeriod = time.Millisecond // between packets, of one flow after the other
	// tooLate is the delay of packets that waited at a link that was down. Some of them arrive when the link is up again.
	tooLate = failoverTime
	// onItsWay is how long before a link goes down a packet may have been sent that the link loses.
	onItsWay = 50 * time.Millisecond
)

func (b *uplinkLab) startStream() *stream {
	b.t.Helper()
	vm1, vm2 := b.vms[0], b.vms[1]
	receiver, err := vm2.ListenUDP(net.JoinHostPort(vm2.IPv4.String(), "0"))
	require.NoError(b.t, err)
	s := &stream{
		b: b, port: receiver.LocalAddr().(*net.UDPAddr).Port, receiver: receiver,
		stop: make(chan struct{}), done: make(chan struct{}), received: make(chan map[int]time.Time, 1),
	}
	var senders []net.PacketConn
	for range streamFlows {
		c, err := vm1.ListenUDP(net.JoinHostPort(vm1.IPv4.String(), "0"))
		require.NoError(b.t, err)
		senders = append(senders, c)
	}
	go s.receive()
	go s.send(senders)
	b.t.Cleanup(func() { s.end() })
	return s
}

func (s *stream) send(senders []net.PacketConn) {
	defer close(s.done)
	tick := time.NewTicker(streamPeriod)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			for _, c := range senders {
				_ = c.Close() // the error does not matter
			}
			return
		case now := <-tick.C:
			number := len(s.sent)
			s.sent = append(s.sent, now)
			_, _ = senders[number%len(senders)].WriteTo([]byte(strconv.Itoa(number)), s.receiver.LocalAddr()) // a loss is seen
		}
	}
}

func (s *stream) receive() {
	got := map[int]time.Time{}
	buf := make([]byte, 64)
	for {
		n, _, err := s.receiver.ReadFrom(buf)
		if err != nil {
			s.received <- got
			return
		}
		if number, err := strconv.Atoi(string(buf[:n])); err == nil {
			got[number] = time.Now()
		}
	}
}

// end stops the stream, after waiting a moment for packets in flight. It can be called twice.
func (s *stream) end() {
	select {
	case <-s.stop:
		return
	default:
	}
	close(s.stop)
	<-s.done
	time.Sleep(200 * time.Millisecond)
	_ = s.receiver.Close() // wakes the reader
}

// onlyLostAfter ends the stream and requires that, from its beginning on, packets were lost only within the failover
// time after some moments, or were on their way then. It returns how long after the last of these losses were seen, at
// most.
func (s *stream) onlyLostAfter(begin time.Time, moments ...time.Time) {
	s.b.t.Helper()
	s.end()
	got := <-s.received
	lost, longest := 0, time.Duration(0)
	var wrong []string
	for number, at := range s.sent {
		arrived, ok := got[number]
		if ok && arrived.Sub(at) < tooLate || at.Before(begin) {
			continue
		}
		lost++
		after := time.Duration(-1)
		for _, m := range moments {
			if !at.Before(m.Add(-onItsWay)) {
				after = max(0, at.Sub(m))
			}
		}
		if after < 0 || after > failoverTime {
			wrong = append(wrong, fmt.Sprintf("packet %d, %v after a link, arrived: %t, after %v", number, after, ok,
				arrived.Sub(at)))
		}
		longest = max(longest, after)
	}
	require.Empty(s.b.t, wrong)
	s.b.t.Logf("%d packets of %d flows, %d lost, the last one %v after its link", len(s.sent), streamFlows, lost, longest)
}

// checkFailover sends many flows while each uplink in turn goes down and comes back. The flows are spread over both
// uplinks. Only the flows of the lost uplink move to the other one, within a second, and they return to it afterwards.
// check makes further checks with the remaining uplink.
func (b *uplinkLab) checkFailover(check func(s *stream, left int)) {
	b.t.Helper()
	s := b.startStream()
	var spread map[string][]int
	b.eventually(func() error {
		spread, _ = b.flowsOn(s)
		if n := len(spread[b.ports[pf0]]) + len(spread[b.ports[pf1]]); n != streamFlows {
			return fmt.Errorf("%d flows", n)
		}
		return nil
	})
	for pf, port := range b.ports {
		require.Greater(b.t, len(spread[port]), streamFlows/5, "flows on %s: %v", port, spread)
		before := b.received(pf)
		b.eventually(func() error {
			if n := b.received(pf) - before; n < 100 {
				return fmt.Errorf("%d packets by %s", n, port)
			}
			return nil
		})
	}
	check(s, -1)

	begin := time.Now()
	var losses []time.Time
	for _, lost := range []int{pf0, pf1} {
		left := 1 - lost
		losses = append(losses, time.Now())
		b.lose(lost)
		time.Sleep(failoverTime)
		b.waitUsable(lost != pf0, lost != pf1)
		got, _ := b.flowsOn(s)
		require.Len(b.t, got[b.ports[left]], streamFlows, "all flows are on what is left: %v", got)
		check(s, left)
		b.reach(b.vms[1], b.vms[0].IPv4.String())
		b.reach(b.vms[0], b.vms[1].IPv6.String())
		b.bringBack(lost)
		b.waitUsable(true, true)
		b.waitFlows(s, spread)
		check(s, -1)
	}
	s.onlyLostAfter(begin, losses...)
}

// TestUplinkFailover spreads the flows of a VM over both uplinks of a NIC and takes down each uplink's link. Only flows
// by PF0 are in the NIC. A capture reports when its copies are lost.
func TestUplinkFailover(t *testing.T) {
	b := newUplinkLab(t,
		func(*topology.Hypervisor) topology.DaemonConfig { return topology.DaemonConfig{Telemetry: true} })
	from := "neighbour_discovery"
	if b.h.HasTwins() {
		from = "kernel"
	}
	for i, u := range b.uplinks() {
		mac, err := b.net.Router.MAC(b.routerLink(i))
		require.NoError(t, err)
		require.Equal(t, api.Uplink{PF: i, Port: b.ports[i], Link: "up", RouterMAC: mac.String(), RouterFrom: from,
			Usable: true}, u)
	}
	require.Contains(t, b.dpctl("system", "info"), "usable: "+b.ports[pf1]+", link up, router ")
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1", "--pf=0")...)
	require.NotContains(t, strings.Join(b.session().Warnings, "\n"), "the link of PF0")

	b.checkFailover(func(s *stream, left int) {
		b.t.Helper()
		b.waitOffloadedOn(s)
		warnings := strings.Join(b.session().Warnings, "\n")
		require.Equal(t, left == pf1, strings.Contains(warnings, "the link of PF0 is down"), warnings)
	})
	b.dpctl("capture", "stop")

	// The link state that the NIC reports decides, whatever the far end sees.
	s := b.startStream()
	begin := time.Now()
	b.eventually(func() error { return b.allFlowsOn(s, pf0, pf1) })
	lost := time.Now()
	b.fault("link_down=pf0")
	time.Sleep(failoverTime)
	require.NoError(t, b.allFlowsOn(s, pf1))
	b.fault("link_up=pf0")
	b.waitUsable(true, true)
	b.eventually(func() error { return b.allFlowsOn(s, pf0, pf1) })
	b.waitOffloadedOn(s)
	s.onlyLostAfter(begin, lost)

	// A port that is gone is not used again.
	b.fault("remove=pf0")
	b.waitUsable(false, true)
	b.fault("link_up=pf0")
	time.Sleep(failoverTime)
	b.waitUsable(false, true)
	require.Regexp(t, `(?m)^\d+ +`+b.ports[pf0]+` +pf0 +removed`, b.dpctl("port", "list"))
	log := b.daemons[0].Stderr.String()
	require.Contains(t, log, "a port was removed, or has reported a fatal error: it is not used any more")
	require.NotContains(t, log, "the NIC does not hand a guest's packets to the software")
}

// TestDeletedFarSide deletes the kernel device behind an uplink. Its link goes down, flows use the other uplink, and
// the log says so once.
func TestDeletedFarSide(t *testing.T) {
	b := newUplinkLab(t, func(*topology.Hypervisor) topology.DaemonConfig { return topology.DaemonConfig{} })
	said := len(b.daemons[0].Stderr.String())
	require.NoError(t, b.net.Router.IP("link del "+b.routerLink(pf0)))
	b.waitUsable(false, true)
	for _, u := range b.uplinks() {
		require.Equal(t, api.LinkState(u.PF == pf1), u.Link)
	}
	b.reach(b.vms[0], b.vms[1].IPv4.String())
	b.reach(b.vms[1], b.vms[0].IPv6.String())
	time.Sleep(2 * time.Second)
	news := b.daemons[0].Stderr.String()[said:]
	require.Equal(t, 1, strings.Count(news, "an uplink has changed"), news)
	require.LessOrEqual(t, strings.Count(news, "\n"), 5, news)
	require.NoError(t, b.daemons[0].Stop(b.ctx))
}

// waitOffloadedOn waits until all flows of the stream by PF0 are in the NIC, and no rule leads elsewhere.
func (b *uplinkLab) waitOffloadedOn(s *stream) {
	b.t.Helper()
	b.eventually(func() error {
		flows, offloaded := b.flowsOn(s)
		if offloaded[b.ports[pf0]] != len(flows[b.ports[pf0]]) || offloaded[b.ports[pf1]] != 0 {
			return fmt.Errorf("%w: %v of %v", errNotOffloaded, offloaded, flows)
		}
		rules := 0
		for _, r := range b.rules() {
			if strings.HasPrefix(r.Name, "detour/") {
				return fmt.Errorf("the software still gets all packets of port %s", r.Port)
			}
			if strings.HasPrefix(r.Name, "flow/") && strings.Contains(r.Pattern, fmt.Sprintf("dst is %d", s.port)) {
				rules++
			}
		}
		if rules != offloaded[b.ports[pf0]] {
			return fmt.Errorf("%d rules for %d flows in the NIC", rules, offloaded[b.ports[pf0]])
		}
		return nil
	})
}

// allFlowsOn checks that all flows of the stream leave by these uplinks, and some by each.
func (b *uplinkLab) allFlowsOn(s *stream, pfs ...int) error {
	b.t.Helper()
	flows, _ := b.flowsOn(s)
	n := 0
	for _, pf := range pfs {
		on := len(flows[b.ports[pf]])
		n += on
		if on == 0 {
			n = -streamFlows
		}
	}
	if n != streamFlows {
		return fmt.Errorf("flows on %v", flows)
	}
	return nil
}

// TestUplinkFailoverInSoftware does the same on ports without rules. The ports share their wires with the kernel, which
// resolves the routers' MACs. dpservice follows a change of these within a second.
func TestUplinkFailoverInSoftware(t *testing.T) {
	const newMAC = "02:00:00:00:be:ef"
	b := newUplinkLab(t, func(h *topology.Hypervisor) topology.DaemonConfig {
		require.NoError(t, h.UseKernelRoutes())
		return topology.DaemonConfig{Plain: h.Plain("net_af_packet")}
	})
	var routers []string
	for i := range b.ports {
		mac, err := b.net.Router.MAC(b.routerLink(i))
		require.NoError(t, err)
		routers = append(routers, mac.String())
		want := api.Uplink{PF: i, Port: b.ports[i], Link: "up", RouterMAC: mac.String(), RouterFrom: "kernel", Usable: true}
		b.eventually(func() error { // the kernel's word counts once it knows
			if u := b.uplinks()[i]; u != want {
				return fmt.Errorf("%+v", u)
			}
			return nil
		})
	}
	b.checkFailover(func(s *stream, _ int) {
		_, offloaded := b.flowsOn(s)
		require.Empty(t, offloaded)
	})

	s := b.startStream()
	b.eventually(func() error { return b.allFlowsOn(s, pf0, pf1) })
	mac, err := b.net.Router.MAC(b.routerLink(pf1))
	require.NoError(t, err)
	setRouter := func(mac, state string) {
		require.NoError(t, b.h.IP(fmt.Sprintf("neigh replace %s lladdr %s dev wire1 nud %s",
			topology.LinkLocal(parseMAC(t, routers[pf1])), mac, state)))
	}
	seen := b.record(b.net.Router, b.routerLink(pf1), record.In, "ip6 proto 4")
	setRouter(newMAC, "permanent")
	time.Sleep(time.Second)
	changed := time.Now()
	require.Equal(t, newMAC, b.uplinks()[pf1].RouterMAC)
	require.Equal(t, routers[pf0], b.uplinks()[pf0].RouterMAC)
	time.Sleep(200 * time.Millisecond)
	until := time.Now()
	setRouter(mac.String(), "reachable")
	s.end()
	settled := record.Between(b.stopRecording(seen), changed, until)
	require.NotEmpty(t, settled)
	for _, f := range settled {
		require.Equal(t, newMAC, net.HardwareAddr(f.Data[:6]).String())
	}
	b.eventually(func() error {
		if got := b.uplinks()[pf1].RouterMAC; got != mac.String() {
			return fmt.Errorf("the router is %s", got)
		}
		return nil
	})

	// Without the kernel's route, dpservice discovers the router itself.
	r, err := b.h.Run(b.ctx, "ip", "-6", "route", "flush", "default")
	require.NoError(t, err)
	require.NoError(t, r.Err())
	b.waitUsable(true, true)
	b.eventually(func() error {
		for i, u := range b.uplinks() {
			if u.RouterFrom != "neighbour_discovery" || u.RouterMAC != routers[i] {
				return fmt.Errorf("%+v", u)
			}
		}
		return nil
	})
	b.reach(b.vms[0], b.vms[1].IPv4.String())
}

func parseMAC(t *testing.T, text string) net.HardwareAddr {
	t.Helper()
	mac, err := net.ParseMAC(text)
	require.NoError(t, err)
	return mac
}
