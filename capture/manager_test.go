// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/test/report"
	"dpservice/wire"
)

func start(t *testing.T, n *node, targets ...spec.Target) spec.Session {
	t.Helper()
	r := validRequest()
	r.Targets = targets
	s, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	return s
}

// copiesOf are the headers of one packet's one copy.
func copiesOf(port uint16, h wire.CopyHeader) [][]byte {
	h.Label = plan.LabelOf(port, plan.SideOf(spec.RX))
	return [][]byte{h.Append(nil)}
}

// status are the sessions that have not ended.
func (n *node) status() []spec.Session {
	sessions, _ := n.manager.Status()
	return sessions
}

func faultOf(t *testing.T, err error) *fault.Error {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	return f
}

func requireFault(t *testing.T, err error, reason fault.Reason, message string) {
	t.Helper()
	assert.Equal(t, reason, faultOf(t, err).Reason, err)
	assert.ErrorContains(t, err, message)
}

func TestStartStop(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	copied := n.observe(t.Errorf)

	s := start(t, n, spec.Target{VF: "vm-1"}, spec.Target{PF: 0})
	assert.Equal(t, spec.DefaultName, s.Name)
	assert.Equal(t, spec.Active, s.State)
	assert.WithinDuration(t, time.Now(), s.StartedAt, time.Minute)
	assert.Equal(t, "fc00:2::9", s.Sink.String())
	assert.EqualValues(t, 3000, s.UDPSrcPort)
	assert.EqualValues(t, 3010, s.UDPDstPort)
	assert.Empty(t, s.Plan)

	assert.Equal(t, copiesOf(2, testHeader), n.nic.send(packet{port: 2}).copies)
	assert.Equal(t, copiesOf(0, testHeader), n.nic.send(packet{port: 0, proto: 41}).copies)
	assert.Empty(t, n.nic.send(packet{port: 3}).copies, "not a target")
	assert.Empty(t, n.nic.send(packet{port: 0, proto: 58}).copies, "not of the overlay")

	status := n.status()
	require.Len(t, status, 1)
	vm, pf := copied[point2{2, spec.RX}]+1, copied[point2{0, spec.RX}]+1
	assert.Equal(t, []spec.SessionInterface{
		{Target: spec.Target{VF: "vm-1"}, Direction: spec.RX, Mode: spec.Hardware, Port: "net_eswitch0_representor_vf0",
			Label:   3,
			Packets: vm, Bytes: vm * frameLen},
		{Target: spec.Target{PF: 0}, Direction: spec.RX, Mode: spec.Hardware, Port: "net_eswitch0", Label: 1, Packets: pf,
			Bytes: pf * frameLen},
	}, status[0].Interfaces)

	stopped, err := n.manager.Stop("")
	require.NoError(t, err)
	assert.Equal(t, 2, stopped)
	assert.Empty(t, n.status())
	assert.Equal(t, before, n.nic.dump())
	assert.Equal(t, before, dumpSet(n.rules))
}

func TestStartRefuses(t *testing.T) {
	tests := map[string]struct {
		prepare func(*node)
		targets []spec.Target
		reason  fault.Reason
		culprit string
		message string
	}{
		"unknown interface": {nil, []spec.Target{{VF: "vm-1"}, {VF: "vm-9"}}, fault.NotFound, "vm-9",
			"there is no interface vm-9"},
		"device without interface": {func(n *node) { n.devices["vf9"] = *n.ports[spec.Target{VF: "vm-1"}] },
			[]spec.Target{{VF: "vf9"}}, fault.NotFound, "vf9", "vf9 is a device, not an interface"},
		"interface on a stopped port": {func(n *node) { n.ports[spec.Target{VF: "vm-1"}].Started = false },
			[]spec.Target{{VF: "vm-1"}}, fault.NotFound, "vm-1", "interface vm-1 is not started"},
		"no PF1": {func(n *node) { delete(n.ports, spec.Target{PF: 1}) }, []spec.Target{{PF: 1}}, fault.NotFound, "pf1",
			"there is no PF1"},
		"PF2":         {nil, []spec.Target{{PF: 2}}, fault.NotFound, "pf2", "there is no PF2"},
		"negative PF": {nil, []spec.Target{{PF: -1}}, fault.NotFound, "pf-1", "there is no PF-1"},
		"stopped PF0": {func(n *node) { n.ports[spec.Target{PF: 0}].Started = false }, []spec.Target{{PF: 0}}, fault.NotFound,
			"pf0",
			"PF0 is not started"},
		"no PF0": {func(n *node) { delete(n.ports, spec.Target{PF: 0}) }, []spec.Target{{VF: "vm-1"}}, fault.NotFound, "pf0",
			"there is no PF0"},
		"router unknown": {func(n *node) { n.manager.uplink.RouterMAC = wire.MAC{} }, []spec.Target{{VF: "vm-1"}},
			fault.NotFound, "net_eswitch0", "router is not resolved yet"},
		"invalid": {nil, nil, fault.InvalidParams, "", "no interface to capture"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(1)
			if tt.prepare != nil {
				tt.prepare(n)
			}
			before, calls := n.nic.dump(), n.nic.calls
			r := validRequest()
			r.Targets = tt.targets
			_, err := n.manager.Start(context.Background(), r)
			requireFault(t, err, tt.reason, tt.message)
			assert.Equal(t, tt.culprit, faultOf(t, err).Interface)
			assert.Equal(t, before, n.nic.dump())
			assert.Equal(t, calls, n.nic.calls, "the NIC is not asked")
			assert.Empty(t, n.status())
		})
	}
}

func TestStartLimit(t *testing.T) {
	n := newNode(spec.DefaultMaxInterfaces)
	start(t, n, append(vfs(spec.DefaultMaxInterfaces-1), spec.Target{PF: 0})...)
	stopped, err := n.manager.Stop("")
	require.NoError(t, err)
	assert.Equal(t, spec.DefaultMaxInterfaces, stopped)
}

func startNamed(n *node, name string, targets ...spec.Target) error {
	r := validRequest()
	r.Name, r.Targets = name, targets
	_, err := n.manager.Start(context.Background(), r)
	return err
}

func TestSessionsBesideEachOther(t *testing.T) {
	n := newNode(4)
	n.manager.deps.MaxInterfaces = 3
	before := n.nic.dump()
	copied := n.observe(t.Errorf)
	start(t, n, spec.Target{VF: "vm-1"})
	installed := n.nic.dump()
	requireFault(t, startNamed(n, spec.DefaultName, spec.Target{VF: "vm-2"}), fault.AlreadyActive,
		"capture default is active: stop it first, or")
	requireFault(t, startNamed(n, "other", spec.Target{VF: "vm-2"}, spec.Target{VF: "vm-1"}), fault.AlreadyActive,
		"vm-1 is captured by session default: stop that first")
	requireFault(t, startNamed(n, "other", spec.Target{VF: "vm-2"}, spec.Target{VF: "vm-3"}, spec.Target{PF: 0}),
		fault.LimitReached,
		"4 interfaces to capture, at most 3 are possible at once")
	assert.Equal(t, installed, n.nic.dump())

	sink := validRequest()
	sink.Name, sink.Sink, sink.Targets = "other", testHeader.NodeIP.Next(), []spec.Target{{VF: "vm-2"}, {PF: 0}}
	_, err := n.manager.Start(context.Background(), sink)
	require.NoError(t, err)
	assert.NotEqual(t, n.nic.send(packet{port: 2}).copies, n.nic.send(packet{port: 3}).copies)
	sessions := n.status()
	require.Len(t, sessions, 2)
	assert.Equal(t, []string{"default", "other"}, []string{sessions[0].Name, sessions[1].Name})
	assert.Equal(t, copied[point2{2, spec.RX}]+1, sessions[0].Packets)
	assert.Equal(t, copied[point2{3, spec.RX}]+1+copied[point2{0, spec.RX}], sessions[1].Packets)

	uplink := testUplink
	uplink.RouterMAC[5]++
	require.NoError(t, n.manager.UplinkChanged(uplink))
	requireFault(t, stopError(n, "third"), fault.NotFound, "no session third: there is default, other")
	require.NoError(t, stopError(n, "default"))
	ofDefault := copied[point2{2, spec.RX}] + 1
	assert.Empty(t, n.nic.send(packet{port: 2}).copies)
	assert.Len(t, n.nic.send(packet{port: 3}).copies, 1)
	require.NoError(t, startNamed(n, "third", spec.Target{VF: "vm-1"}))
	stopped, err := n.manager.Stop("")
	require.NoError(t, err)
	assert.Equal(t, 3, stopped)
	assert.Equal(t, before, n.nic.dump())

	_, ended := n.manager.Status()
	require.Len(t, ended, 3)
	assert.Equal(t, "default", ended[2].Name)
	assert.Equal(t, spec.Ended, ended[2].State)
	assert.Equal(t, spec.Stopped, ended[2].EndReason)
	assert.WithinDuration(t, time.Now(), ended[2].EndedAt, time.Minute)
	assert.Equal(t, ofDefault, ended[2].Packets, "to the last packet")
}

func stopError(n *node, name string) error {
	_, err := n.manager.Stop(name)
	return err
}

// A session that cannot be stopped keeps no other from being stopped.
func TestStopAllGoesOn(t *testing.T) {
	n := newNode(2)
	require.NoError(t, startNamed(n, "a", spec.Target{VF: "vm-1"}))
	require.NoError(t, startNamed(n, "b", spec.Target{VF: "vm-2"}))
	first := n.nic.calls + 1
	n.nic.fail = func(call int) bool { return call == first }
	stopped, err := n.manager.Stop("")
	requireFault(t, err, fault.RuleRejected, "cannot stop the capture")
	assert.Equal(t, 1, stopped)
	require.Len(t, n.status(), 1)
	assert.Equal(t, "a", n.status()[0].Name)
}

func TestHistoryIsBounded(t *testing.T) {
	n := newNode(1)
	for i := range maxHistory + 2 {
		require.NoError(t, startNamed(n, fmt.Sprint(i), spec.Target{VF: "vm-1"}))
		require.NoError(t, stopError(n, ""))
	}
	_, ended := n.manager.Status()
	require.Len(t, ended, maxHistory)
	assert.Equal(t, fmt.Sprint(maxHistory+1), ended[0].Name)
}

func TestFilter(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	r := validRequest()
	r.Filter = "udp"
	_, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	for range 3 {
		assert.Len(t, n.nic.send(packet{port: 2, udp: true}).copies, 1)
	}
	assert.Equal(t, fate{atFlows: true}, n.nic.send(packet{port: 2}))
	s := n.status()[0]
	assert.Equal(t, "udp", s.Filter)
	assert.EqualValues(t, 3, s.Packets)
	assert.EqualValues(t, 3*frameLen, s.Bytes)
	assert.Equal(t, []spec.SessionRule{
		{Pattern: "eth has_vlan is 0 / ipv4 proto is 17", Sample: true, Packets: 3, Bytes: 3 * frameLen},
		{Pattern: "eth has_vlan is 0 / ipv6 proto is 17", Sample: true},
		{Pattern: "eth", Packets: 1, Bytes: frameLen},
	}, s.Interfaces[0].Rules)
	require.NoError(t, stopError(n, ""))
	assert.Equal(t, before, n.nic.dump())
}

// The outer header tells the version of IP.
func TestFilterOfTheTunnel(t *testing.T) {
	for text, tt := range map[string]struct {
		pattern string
		proto   uint8 // of the outer header of what is copied
		other   uint8
	}{
		"ip":     {"eth / ipv6 proto spec 0 proto mask 251", 4, 41},
		"ip6":    {"eth / ipv6 proto is 41", 41, 4},
		"not ip": {"eth / ipv6 proto spec 0 proto mask 251", 41, 4},
	} {
		n := newNode(1)
		r := validRequest()
		r.Filter, r.Targets = text, []spec.Target{{PF: 0}}
		_, err := n.manager.Start(context.Background(), r)
		require.NoError(t, err)
		assert.Len(t, n.nic.send(packet{port: 0, proto: tt.proto}).copies, 1, text)
		assert.Equal(t, fate{atFlows: true}, n.nic.send(packet{port: 0, proto: tt.other}), text)
		assert.Equal(t, tt.pattern, n.status()[0].Interfaces[0].Rules[0].Pattern)
	}
}

// A NIC may take no pattern that looks into a tunnel: its words come out, and nothing of the session stays.
func TestFilterIntoTheTunnelIsRefused(t *testing.T) {
	for _, text := range []string{"udp", "ip host 10.0.0.1", "ip6 net 2001:db8::/32", "tcp port 443", "ip[8] < 5",
		"ip[6:2] & 0x3fff != 0", "not icmp"} {
		n := newNode(1)
		before := n.nic.dump()
		r := validRequest()
		r.Filter, r.Targets = text, []spec.Target{{VF: "vm-1"}, {PF: 0}}
		for _, r.DryRun = range []bool{true, false} {
			_, err := n.manager.Start(context.Background(), r)
			requireFault(t, err, fault.RuleRejected, tunnelRefused)
			assert.Equal(t, "pf0", faultOf(t, err).Interface)
			assert.Equal(t, "item: "+tunnelRefused, faultOf(t, err).RTEFlowError)
			assert.Equal(t, before, n.nic.dump())
			assert.Empty(t, n.status())
		}
	}
}

func TestFilterRefused(t *testing.T) {
	n := newNode(1)
	for text, reason := range map[string]fault.Reason{
		"tcp and":                          fault.InvalidParams,
		"len > 5":                          fault.NotSupported,
		"src and dst portrange 3-60001":    fault.LimitReached,
		"tcp port 80 and greater 100":      fault.NotSupported,
		"ether host 02:00:00:00:00:01 and": fault.InvalidParams,
	} {
		r := validRequest()
		r.Filter = text
		_, err := n.manager.Start(context.Background(), r)
		requireFault(t, err, reason, "filter: ")
	}
	r := validRequest()
	r.Filter, r.Targets = "vlan", []spec.Target{{VF: "vm-1"}, {PF: 0}}
	_, err := n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.NotSupported, "packets in the tunnel have no Ethernet header")
	assert.Equal(t, "pf0", faultOf(t, err).Interface)
	r.Filter, r.Targets = "port 53", []spec.Target{{VF: "vm-1"}}
	s, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	require.NotEmpty(t, s.Warnings)
	assert.Contains(t, s.Warnings[0], "SCTP")
}

func TestLimits(t *testing.T) {
	tests := map[string]struct {
		limits  spec.Limits
		packets int
		after   time.Duration
		reason  spec.EndReason
	}{
		"duration":           {spec.Limits{Duration: time.Minute}, 1, time.Minute, spec.DurationReached},
		"duration, not yet":  {spec.Limits{Duration: time.Minute}, 100, time.Minute - time.Second, ""},
		"packets":            {spec.Limits{Packets: 10}, 10, 0, spec.PacketsReached},
		"packets, not yet":   {spec.Limits{Packets: 10}, 9, time.Hour, ""},
		"bytes":              {spec.Limits{Bytes: 10*frameLen - 1}, 10, 0, spec.BytesReached},
		"bytes, not yet":     {spec.Limits{Bytes: 10*frameLen + 1}, 10, 0, ""},
		"rate":               {spec.Limits{PacketsPerSecond: 10}, 11, time.Second, spec.TooFast},
		"rate, not yet":      {spec.Limits{PacketsPerSecond: 10}, 10, time.Second, ""},
		"rate, too early":    {spec.Limits{PacketsPerSecond: 10}, 100, ratePeriod - time.Millisecond, ""},
		"rate over longer":   {spec.Limits{PacketsPerSecond: 10}, 100, 10 * time.Second, ""},
		"none":               {spec.Limits{}, 100, time.Hour, ""},
		"whichever is first": {spec.Limits{Duration: time.Hour, Packets: 100, Bytes: frameLen}, 1, 0, spec.BytesReached},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(1)
			before := n.nic.dump()
			r := validRequest()
			r.Limits = tt.limits
			var reported []spec.Session
			n.manager.deps.Ended = func(s spec.Session) { reported = append(reported, s) }
			s, err := n.manager.Start(context.Background(), r)
			require.NoError(t, err)
			for range tt.packets {
				n.nic.send(packet{port: 2})
			}
			n.manager.enforceLimits(s.StartedAt.Add(tt.after))
			sessions, ended := n.manager.Status()
			if tt.reason == "" {
				require.Len(t, sessions, 1)
				return
			}
			assert.Empty(t, sessions)
			require.Len(t, ended, 1)
			assert.Equal(t, tt.reason, ended[0].EndReason)
			assert.EqualValues(t, tt.packets, ended[0].Packets)
			assert.Equal(t, tt.limits, ended[0].Limits)
			assert.Equal(t, ended, reported)
			assert.Equal(t, before, n.nic.dump())
		})
	}
}

// A session that cannot be ended at its limit says so, and ends later.
func TestLimitIsTriedAgain(t *testing.T) {
	n := newNode(1)
	r := validRequest()
	r.Limits.Packets = 1
	_, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	n.nic.send(packet{port: 2})
	n.nic.fail = func(int) bool { return true }
	now := time.Now()
	n.manager.enforceLimits(now)
	require.Len(t, n.status(), 1)
	assert.Contains(t, n.status()[0].Warnings[0], "its limit is reached (packets), but it goes on")
	n.nic.fail = func(int) bool { return false }
	n.manager.enforceLimits(now.Add(retryPeriod / 2))
	require.Len(t, n.status(), 1)
	n.manager.enforceLimits(now.Add(retryPeriod))
	require.Empty(t, n.status())
}

func TestRunEndsSessions(t *testing.T) {
	n := newNode(1)
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { n.manager.Run(ctx) })
	r := validRequest()
	r.Limits.Duration = time.Millisecond
	_, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	assert.Eventually(t, func() bool { return len(n.status()) == 0 }, 10*time.Second, time.Millisecond)
	cancel()
	run.Wait()
}

func TestHeldSessionEndsWithItsClient(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	client, hangUp := context.WithCancel(context.Background())
	r := validRequest()
	r.Held = true
	s, err := n.manager.Start(client, r)
	require.NoError(t, err)
	assert.True(t, s.Held)
	n.nic.send(packet{port: 2})
	n.manager.enforceLimits(s.StartedAt.Add(time.Hour))
	require.Len(t, n.status(), 1, "its client is still there")

	hangUp()
	n.manager.enforceLimits(s.StartedAt)
	sessions, ended := n.manager.Status()
	assert.Empty(t, sessions)
	require.Len(t, ended, 1)
	assert.Equal(t, spec.ClientGone, ended[0].EndReason)
	assert.EqualValues(t, 1, ended[0].Packets)
	assert.Equal(t, before, n.nic.dump())
}

func TestSessionOutlivesAClientThatDoesNotHoldIt(t *testing.T) {
	n := newNode(1)
	client, hangUp := context.WithCancel(context.Background())
	s, err := n.manager.Start(client, validRequest())
	require.NoError(t, err)
	hangUp()
	n.manager.enforceLimits(s.StartedAt)
	assert.Len(t, n.status(), 1)
}

func TestStopRefuses(t *testing.T) {
	n := newNode(1)
	_, err := n.manager.Stop("")
	requireFault(t, err, fault.NotActive, "no capture is active")

	start(t, n, spec.Target{VF: "vm-1"})
	_, err = n.manager.Stop("other")
	requireFault(t, err, fault.NotFound, "no session other: there is default")
	assert.Equal(t, "other", faultOf(t, err).Interface)

	stopped, err := n.manager.Stop(spec.DefaultName)
	require.NoError(t, err)
	assert.Equal(t, 1, stopped)
}

func TestStartOfGoneCaller(t *testing.T) {
	n := newNode(1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := n.manager.Start(ctx, validRequest())
	assert.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, n.status())
}

// The copy of a frame is one byte too long for the uplink, or just fits.
func TestMTUWarning(t *testing.T) {
	for mtu, warns := range map[uint16]bool{testUplinkMTU - 62: false, testUplinkMTU - 61: true} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			n := newNode(1)
			n.ports[spec.Target{VF: "vm-1"}].MTU = mtu
			s := start(t, n, spec.Target{VF: "vm-1"})
			if !warns {
				assert.Empty(t, s.Warnings)
				return
			}
			assert.Equal(t, []string{"frames of vm-1 can have 1453 bytes, their copies need an uplink MTU of 1501, and it is " +
				"1500: frames longer than 1452 bytes are not captured"}, s.Warnings)
			assert.Equal(t, s.Warnings, n.status()[0].Warnings)
		})
	}
}

func TestDryRun(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	r := validRequest()
	r.DryRun, r.Targets = true, []spec.Target{{VF: "vm-1"}}
	s, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	assert.Equal(t, spec.DryRun, s.State)
	assert.NotEmpty(t, s.Plan)
	assert.Zero(t, s.StartedAt)
	assert.Len(t, s.Interfaces, 1)
	assert.Equal(t, before, n.nic.dump())
	assert.Empty(t, n.status())

	n.nic.refuse = isSample
	_, err = n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.RuleRejected, "no, thanks")
}

func isSample(r rteflow.Rule) bool { return r.Group == uint32(nicgroup.Capture) }

func TestRuleRejected(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	n.nic.refuse = func(r rteflow.Rule) bool {
		return isSample(r) && r.Pattern[0] == rteflow.Item(rteflow.RepresentedPort{Port: 3})
	}
	r := validRequest()
	r.Targets = vfs(2)
	_, err := n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.RuleRejected, "cannot start the capture: the NIC did not add rule "+
		"capture/default/rule/15/0 of vm-2 (port net_eswitch0_representor_vf1)")
	f := faultOf(t, err)
	assert.Equal(t, "vm-2", f.Interface)
	assert.Contains(t, f.Rule, "group 1 priority 3840 transfer")
	assert.Contains(t, f.RTEFlowError, "action: no, thanks")
	assert.Equal(t, syscall.ENOTSUP, f.Errno)
	assert.ErrorIs(t, err, syscall.ENOTSUP)
	assert.Equal(t, before, n.nic.dump())
	assert.Empty(t, n.status())
}

// Copies follow the router, and none is lost, doubled or not counted, however often it changes.
func TestUplinkChanged(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	copied := n.observe(t.Errorf)
	start(t, n, spec.Target{VF: "vm-1"}, spec.Target{PF: 0})
	uplink := testUplink
	for i := range 2*bands + 1 {
		uplink.RouterMAC[0] = byte(2 * i)
		uplink.RouterMAC[1] = byte(i)
		require.NoError(t, n.manager.UplinkChanged(uplink))
		want := uplink.header(validRequest())
		assert.Equal(t, copiesOf(2, want), n.nic.send(packet{port: 2}).copies)
		assert.Equal(t, copiesOf(0, want), n.nic.send(packet{port: 0, proto: 4}).copies)
		copied[point2{2, spec.RX}]++
		copied[point2{0, spec.RX}]++
		calls := n.nic.calls
		require.NoError(t, n.manager.UplinkChanged(uplink))
		assert.Equal(t, calls, n.nic.calls, "nothing has changed")
	}
	for _, i := range n.status()[0].Interfaces {
		p, _ := n.port(i.Target)
		// Only where the new rule has to wait behind the old one, what it copies in between is not seen.
		assert.LessOrEqual(t, i.Packets, copied[point2{p.ID, spec.RX}])
		assert.GreaterOrEqual(t, i.Packets, copied[point2{p.ID, spec.RX}]-2*4)
	}
	require.NoError(t, n.manager.UplinkChanged(Uplink{}), "the router is unknown: copies go to the last one")
	assert.Len(t, n.nic.send(packet{port: 2}).copies, 1)

	_, err := n.manager.Stop("")
	require.NoError(t, err)
	assert.Equal(t, before, n.nic.dump())
}

// Copies leave by PF0 alone, whatever other uplink there is: a status says when they are lost there.
func TestUplinkIsLost(t *testing.T) {
	n := newNode(1)
	start(t, n, spec.Target{VF: "vm-1"})
	lost := testUplink
	lost.LinkDown = true
	require.NoError(t, n.manager.UplinkChanged(lost))
	assert.Equal(t, []string{"the link of PF0 is down: copies leave by it alone, and are lost"}, n.status()[0].Warnings)
	lost.RouterMAC = wire.MAC{}
	require.NoError(t, n.manager.UplinkChanged(lost))
	assert.Len(t, n.status()[0].Warnings, 2)
	assert.Contains(t, n.status()[0].Warnings[1], "the router behind PF0 is not known any more")
	assert.Equal(t, spec.Active, n.status()[0].State)
	require.NoError(t, n.manager.UplinkChanged(testUplink))
	assert.Empty(t, n.status()[0].Warnings)
	require.NoError(t, n.manager.UplinkChanged(lost))
	_, err := n.manager.Stop("")
	require.NoError(t, err)
	_, ended := n.manager.Status()
	assert.Empty(t, ended[0].Warnings, "history knows of no uplink")
}

// A failure is in the warnings until a later event sets it right.
func TestUplinkChangeFails(t *testing.T) {
	n := newNode(1)
	start(t, n, spec.Target{VF: "vm-1"})
	uplink := testUplink
	uplink.RouterMAC[5]++
	n.nic.refuse = isSample
	requireFault(t, n.manager.UplinkChanged(uplink), fault.RuleRejected, "cannot change the header of the copies")
	s := n.status()[0]
	assert.Equal(t, spec.Active, s.State)
	require.Len(t, s.Warnings, 1)
	assert.Contains(t, s.Warnings[0], "copies do not follow the change of the uplink yet")
	assert.Equal(t, copiesOf(2, testHeader), n.nic.send(packet{port: 2}).copies)

	n.nic.refuse = func(rteflow.Rule) bool { return false }
	require.NoError(t, n.manager.UplinkChanged(uplink))
	assert.Empty(t, n.status()[0].Warnings)
	assert.Equal(t, copiesOf(2, uplink.header(validRequest())), n.nic.send(packet{port: 2}).copies)
}

// delete has an interface deleted by nobody.
func (n *node) delete(id string) error {
	d := n.manager.BeginDeletion(id)
	defer d.Close()
	return d.EndCapture()
}

func TestDeleteInterface(t *testing.T) {
	n := newNode(3)
	before := n.nic.dump()
	require.NoError(t, n.delete("vm-1"), "no capture")
	start(t, n, vfs(2)...)
	require.NoError(t, n.delete("vm-3"), "not captured")
	require.NoError(t, n.delete("vm-1"))
	s := n.status()[0]
	require.Len(t, s.Interfaces, 1)
	assert.Equal(t, "vm-2", s.Interfaces[0].VF)
	assert.Equal(t, []string{"interface vm-1 was deleted: its part of the capture has ended"}, s.Warnings)
	assert.Empty(t, n.nic.send(packet{port: 2}).copies)
	assert.Len(t, n.nic.send(packet{port: 3}).copies, 1)

	require.NoError(t, n.delete("vm-2"))
	sessions, ended := n.manager.Status()
	assert.Empty(t, sessions, "the last interface ends the session")
	require.Len(t, ended, 1)
	assert.Equal(t, spec.InterfaceDeleted, ended[0].EndReason)
	assert.Equal(t, "vm-2", ended[0].Interfaces[0].VF)
	assert.EqualValues(t, 1, ended[0].Interfaces[0].Packets)
	assert.Equal(t, before, n.nic.dump())
}

// A capture that cannot be ended keeps its interface.
func TestDeleteInterfaceIsTheLastStep(t *testing.T) {
	n := newNode(1)
	start(t, n, spec.Target{VF: "vm-1"})
	n.nic.fail = func(int) bool { return true }
	requireFault(t, n.delete("vm-1"), fault.RuleRejected, "cannot end the capture of vm-1")
	n.nic.fail = func(int) bool { return false }
	n.manager.BeginDeletion("vm-1").Close()
	assert.Len(t, n.status(), 1, "it was not asked to end")
}

// While an interface is being deleted, no capture of it can begin; others can.
func TestStartWaitsForADeletion(t *testing.T) {
	n := newNode(2)
	d := n.manager.BeginDeletion("vm-1")
	begun := make(chan error)
	go func() { begun <- startNamed(n, "first", spec.Target{VF: "vm-1"}) }()
	require.NoError(t, startNamed(n, "second", spec.Target{VF: "vm-2"}))
	select {
	case err := <-begun:
		require.Fail(t, "it began", "%v", err)
	case <-time.After(10 * time.Millisecond):
	}
	require.NoError(t, d.EndCapture())
	delete(n.ports, spec.Target{VF: "vm-1"})
	d.Close()
	requireFault(t, <-begun, fault.NotFound, "there is no interface vm-1")
}

func TestCountersUnread(t *testing.T) {
	n := newNode(1)
	start(t, n, spec.Target{VF: "vm-1"})
	n.nic.send(packet{port: 2})
	require.EqualValues(t, 1, n.status()[0].Interfaces[0].Packets)
	n.nic.deaf = true
	s := n.status()[0]
	assert.EqualValues(t, 1, s.Interfaces[0].Packets, "the last reading")
	require.Len(t, s.Warnings, 1)
	assert.Contains(t, s.Warnings[0], "counters of vm-1 are not up to date")
}

// changes are all that changes rules, and what each starts from.
var changes = map[string]struct {
	prepare string // the change that comes first
	do      func(*node) error
}{
	"start": {"", func(n *node) error {
		r := validRequest()
		r.Filter, r.Targets = "ip", []spec.Target{{VF: "vm-1"}, {VF: "vm-2"}, {PF: 0}}
		_, err := n.manager.Start(context.Background(), r)
		return err
	}},
	"stop":   {"start", stopAll},
	"uplink": {"start", moveRouter},
	"delete": {"start", func(n *node) error { return n.delete("vm-2") }},

	"start, both directions":  {"", startBoth},
	"stop, both directions":   {"start, both directions", stopAll},
	"uplink, both directions": {"start, both directions", moveRouter},
}

func startBoth(n *node) error {
	r := validRequest()
	r.Filter, r.Targets, r.Direction = "ip", []spec.Target{{VF: "vm-1"}, {PF: 0}}, spec.Both
	_, err := n.manager.Start(context.Background(), r)
	return err
}

func stopAll(n *node) error {
	_, err := n.manager.Stop("")
	return err
}

func moveRouter(n *node) error {
	uplink := testUplink
	uplink.RouterMAC[5]++
	return n.manager.UplinkChanged(uplink)
}

// withoutOffload leaves all packets to the graph.
func (n *node) withoutOffload() { n.manager.deps.NIC = nil }

// outcome runs a change on a NIC that refuses calls, and returns the node's state and the error.
func outcome(t *testing.T, name string, fail func(call int) bool) (*node, error) {
	n := newNode(2)
	c := changes[name]
	if c.prepare != "" {
		require.NoError(t, changes[c.prepare].do(n))
	}
	n.extra = []packet{{port: 2, ip6: true, unwanted: true}, {port: 0, proto: 41, unwanted: true}}
	n.observe(t.Errorf)
	base := n.nic.calls
	n.nic.fail = func(call int) bool { return fail(call - base) }
	err := c.do(n)
	n.nic.fail = func(int) bool { return false }
	return n, err
}

// Whichever calls the NIC refuses, also of the undo: the state is the old or the new one, or the session is broken,
// says which rules are installed, and a stop repairs it.
func TestEveryCallFails(t *testing.T) {
	never := func(int) bool { return false }
	total := 0
	defer func() { report.Printf(t, "faults in captures: points tried: %d", total) }()
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			done, err := outcome(t, name, never)
			require.NoError(t, err)
			newState := done.nic.dump()
			old := newNode(2)
			idle := old.nic.dump()
			if c.prepare != "" {
				require.NoError(t, changes[c.prepare].do(old))
			}
			oldState := old.nic.dump()

			refusals := 0
			check := func(fail func(int) bool) (failed bool) {
				n, err := outcome(t, name, fail)
				if err == nil {
					assert.Equal(t, done.taps.set(), n.taps.set())
					assert.Equal(t, newState, n.nic.dump())
					assert.Equal(t, newState, dumpSet(n.rules))
					return false
				}
				refusals++
				assert.Equal(t, n.nic.dump(), dumpSet(n.rules), "the set of rules knows what is installed")
				f := faultOf(t, err)
				assert.NotEmpty(t, f.Interface)
				assert.NotEmpty(t, f.Rule)
				assert.NotEmpty(t, f.RTEFlowError)
				assert.Equal(t, syscall.ENOTSUP, f.Errno)
				assert.ErrorContains(t, err, "port net_eswitch0")
				if f.Reason == fault.RollbackFailed {
					checkBroken(t, n, err, idle)
					return true
				}
				assert.Equal(t, fault.RuleRejected, f.Reason)
				assert.Equal(t, oldState, n.nic.dump())
				assert.Equal(t, c.prepare != "", len(n.status()) == 1)
				assert.Equal(t, old.taps.set(), n.taps.set())
				return true
			}
			first := 1
			for ; check(func(call int) bool { return call == first }); first++ {
				for second := first + 1; second < first+12; second++ {
					check(func(call int) bool { return call == first || call == second })
				}
				check(func(call int) bool { return call >= first })
			}
			t.Logf("%d calls of the NIC, fault points tried: %d", first-1, refusals)
			total += refusals
		})
	}
}

// checkBroken finds the session broken, and has it repaired.
func checkBroken(t *testing.T, n *node, err error, idle []string) {
	t.Helper()
	assert.ErrorContains(t, err, "could not be undone")
	s := n.status()
	require.Len(t, s, 1)
	assert.Equal(t, spec.Broken, s[0].State)
	assert.Contains(t, s[0].Warnings, err.Error())
	_, again := n.manager.Start(context.Background(), validRequest())
	requireFault(t, again, fault.AlreadyActive, "capture default is broken: stop it first")
	left := n.nic.dump()
	uplink := testUplink
	uplink.RouterMAC[4]++
	assert.NoError(t, n.manager.UplinkChanged(uplink), "left alone until it is stopped")
	assert.Equal(t, left, n.nic.dump())

	_, stopErr := n.manager.Stop("")
	require.NoError(t, stopErr)
	assert.Equal(t, idle, n.nic.dump())
	assert.Empty(t, n.status())
	assert.Empty(t, n.taps.set())
}

// A rule that an undo puts back counts from zero again; the session does not.
func TestCountersSurviveUndo(t *testing.T) {
	n := newNode(1)
	start(t, n, spec.Target{VF: "vm-1"}, spec.Target{PF: 0})
	for range 10 {
		n.nic.send(packet{port: 2})
	}
	require.EqualValues(t, 10, n.status()[0].Interfaces[0].Packets)
	const rules = 5 // three redirects, and one rule of each
	last := n.nic.calls + rules
	n.nic.fail = func(call int) bool { return call == last }
	_, err := n.manager.Stop("")
	requireFault(t, err, fault.RuleRejected, "cannot stop the capture")
	n.nic.send(packet{port: 2})
	assert.EqualValues(t, 11, n.status()[0].Interfaces[0].Packets)
}

func TestConcurrentUse(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 50 {
				uplink := testUplink
				uplink.RouterMAC[4], uplink.RouterMAC[5] = byte(worker), byte(i)
				r := validRequest()
				r.Targets = vfs(2)
				_, startErr := n.manager.Start(context.Background(), r)
				n.status()
				assert.NoError(t, n.manager.UplinkChanged(uplink))
				assert.NoError(t, n.delete("vm-1"))
				_, stopErr := n.manager.Stop("")
				for _, err := range []error{startErr, stopErr} {
					var f *fault.Error
					if errors.As(err, &f) {
						assert.Contains(t, []fault.Reason{fault.AlreadyActive, fault.NotActive}, f.Reason)
					}
				}
			}
		})
	}
	wg.Wait()
	_, _ = n.manager.Stop("")
	assert.Equal(t, before, n.nic.dump())
}

func TestCapabilities(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	n.nic.refuse = func(r rteflow.Rule) bool {
		for _, i := range r.Pattern {
			if _, ok := i.(rteflow.VLAN); ok {
				return true
			}
		}
		return r.Group == uint32(nicgroup.CaptureTX(2))
	}
	all := n.manager.Capabilities()
	assert.Equal(t, before, n.nic.dump())
	require.Len(t, all, 3)
	pf0, pf1, vf0 := all[0], all[1], all[2]
	assert.Equal(t, []spec.Mode{spec.Hardware, spec.Software, spec.Hardware}, []spec.Mode{pf0.Mode, pf1.Mode, vf0.Mode})
	assert.Equal(t, spec.Capability{Name: "rx", Supported: true}, pf0.RX)
	assert.Contains(t, pf0.TX.Reason, "what leaves by pf0 cannot be captured")
	assert.Equal(t, spec.Capability{Name: "rx", Supported: true}, pf1.RX)
	assert.Equal(t, []spec.Capability{{Name: "udp", Supported: true}, {Name: "vxlan", Supported: true}}, vf0.Encaps)
	assert.Equal(t, spec.Capability{Name: "tx", Reason: "action: no, thanks: operation not supported"}, vf0.TX)
	for i, c := range vf0.Filter {
		assert.Equal(t, c.Name != "vlan", c.Supported, c)
		onPF := pf0.Filter[i]
		switch c.Name {
		case "ip", "ip6", "arp":
			assert.True(t, onPF.Supported, onPF)
		case "ether", "vlan":
			assert.Contains(t, onPF.Reason, "packets in the tunnel have no Ethernet header")
		default:
			assert.Equal(t, spec.Capability{Name: c.Name, Reason: "item: " + tunnelRefused + ": operation not supported"}, onPF)
		}
	}
	n.nic.refuse = func(rteflow.Rule) bool { return false }
	assert.Equal(t, spec.Capability{Name: "tx", Supported: true}, n.manager.Capabilities()[2].TX)

	n.withoutOffload()
	for _, c := range n.manager.Capabilities() {
		assert.Equal(t, spec.Software, c.Mode)
		assert.True(t, c.RX.Supported)
		assert.Equal(t, c.Port.Role == port.VF, c.TX.Supported)
	}
}

// blocked has the NIC stop at its next change until release is called. entered reports that it has come there.
func blocked(n *node) (entered <-chan struct{}, release func()) {
	at, free := make(chan struct{}, 1), make(chan struct{})
	var once sync.Once
	n.nic.fail = func(int) bool {
		once.Do(func() { at <- struct{}{}; <-free })
		return false
	}
	return at, func() { close(free) }
}

// promptly is a status that does not wait for the NIC.
func promptly(t *testing.T, n *node) []spec.Session {
	t.Helper()
	var sessions []spec.Session
	took := time.Hour
	for range 5 { // the machine may be busy, too
		begun := time.Now()
		sessions = n.status()
		took = min(took, time.Since(begun))
	}
	assert.Less(t, took, 20*time.Millisecond)
	return sessions
}

// While the NIC is at a change, status reports at once what was before it, and afterwards what came of it.
func TestStatusDoesNotWait(t *testing.T) {
	n := newNode(2)
	start(t, n, spec.Target{VF: "vm-1"})
	changes := []struct {
		name  string
		do    func() error
		after int // sessions
	}{
		{"start", func() error {
			r := validRequest()
			r.Name, r.Targets = "second", []spec.Target{{VF: "vm-2"}}
			_, err := n.manager.Start(context.Background(), r)
			return err
		}, 2},
		{"uplink", func() error {
			u := testUplink
			u.RouterMAC[5]++
			return n.manager.UplinkChanged(u)
		}, 2},
		{"deletion", func() error {
			return n.delete("vm-2")
		}, 1},
		{"stop", func() error { _, err := n.manager.Stop(""); return err }, 0},
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			n.nic.send(packet{port: 2}) // nobody has asked since
			before := n.status()
			n.nic.send(packet{port: 2})
			entered, release := blocked(n)
			done := make(chan error)
			go func() { done <- c.do() }()
			<-entered
			sessions := promptly(t, n)
			require.Len(t, sessions, len(before))
			assert.Equal(t, before[0].Packets+1, sessions[0].Packets, "counters are those of the beginning")
			release()
			require.NoError(t, <-done)
			sessions = promptly(t, n)
			assert.Len(t, sessions, c.after)
		})
	}
	_, ended := n.manager.Status()
	assert.Len(t, ended, 2)
}

// While a session waits for its last counters others begin and end; another change of that one waits.
func TestOtherSessionsDoNotWaitForCounters(t *testing.T) {
	const lag = 500 * time.Millisecond
	n := newNode(3)
	begin := func(name, vf string) {
		r := validRequest()
		r.Name, r.Targets = name, []spec.Target{{VF: vf}}
		_, err := n.manager.Start(context.Background(), r)
		require.NoError(t, err)
	}
	n.manager.deps.CounterLag = lag
	begin("first", "vm-1")
	stopped := make(chan int, 2)
	begun := time.Now()
	stop := func() {
		interfaces, err := n.manager.Stop("first")
		assert.NoError(t, err)
		stopped <- interfaces
	}
	go stop()
	require.Eventually(t, func() bool {
		n.manager.mu.Lock()
		defer n.manager.mu.Unlock()
		return len(n.manager.sessions) > 0 && n.manager.sessions[0].changing
	}, lag, time.Millisecond)

	begin("second", "vm-2")
	assert.Less(t, time.Since(begun), lag)
	r := validRequest()
	r.Name, r.Targets = "third", []spec.Target{{VF: "vm-1"}}
	_, err := n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.AlreadyActive, "vm-1 is captured by session first")
	go stop()
	require.NoError(t, n.delete("vm-1"))
	assert.GreaterOrEqual(t, time.Since(begun), lag)
	assert.Equal(t, 1, <-stopped+<-stopped, "one of them has ended it")
	sessions, ended := n.manager.Status()
	require.Len(t, sessions, 1)
	assert.Equal(t, "second", sessions[0].Name)
	require.Len(t, ended, 1)
	assert.Equal(t, spec.Stopped, ended[0].EndReason)
}
