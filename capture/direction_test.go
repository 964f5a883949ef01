// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/wire"
)

// begin starts a capture in some direction.
func begin(t *testing.T, n *node, d spec.Direction, text string, targets ...spec.Target) spec.Session {
	t.Helper()
	r := validRequest()
	r.Targets, r.Direction, r.Filter = targets, d, text
	s, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	return s
}

// txCopy is the header of the one copy of what vm-1 receives.
func txCopy() [][]byte {
	h := testHeader
	h.Label = plan.LabelOf(2, plan.SideOf(spec.TX))
	return [][]byte{h.Append(nil)}
}

// What the NIC delivers to a guest is copied once, whichever port it came from and whether its flow was offloaded
// before, and so is what the graph sends it. What the guest sends is not.
func TestCaptureOfWhatAGuestReceives(t *testing.T) {
	n := newNode(3)
	before := n.nic.dump()
	copied := n.observe(t.Errorf)
	begin(t, n, spec.TX, "", spec.Target{VF: "vm-1"})

	fromWire, fromGuest := packet{port: 0, proto: 4, to: 2, udp: true}, packet{port: 3, to: 2, udp: true}
	for _, p := range []packet{fromWire, fromGuest} {
		f := n.nic.send(p)
		assert.Equal(t, txCopy(), f.copies)
		assert.EqualValues(t, 2, f.delivered)
	}
	assert.Empty(t, n.nic.send(packet{port: 2, to: 3, udp: true}).copies)
	assert.Equal(t, []tapKey{{2, graph.TapTX}}, n.taps.set())
	assert.Equal(t, txCopy(), n.taps.send(2, graph.TapTX, 0))

	require.Len(t, n.status(), 1)
	all := copied[point2{2, spec.TX}] + 3
	assert.Equal(t, []spec.SessionInterface{{Target: spec.Target{VF: "vm-1"}, Direction: spec.TX, Mode: spec.Hardware,
		Port: "net_eswitch0_representor_vf0", Label: labelTX | 3, Packets: all, Bytes: all * frameLen}},
		n.status()[0].Interfaces)
	assert.Empty(t, copied[point2{2, spec.RX}])

	require.NoError(t, stopError(n, ""))
	assert.Equal(t, before, n.nic.dump())
	assert.Empty(t, n.taps.set())
	assert.Empty(t, n.nic.send(fromWire).copies)
	_, ended := n.manager.Status()
	assert.Equal(t, copied[point2{2, spec.TX}]+3, ended[0].Packets, "to the last packet")
}

func TestBothDirections(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	copied := n.observe(t.Errorf)
	s := begin(t, n, spec.Both, "ip", spec.Target{VF: "vm-1"}, spec.Target{PF: 0}, spec.Target{VF: "vm-2"})
	var points []point2
	for _, i := range s.Interfaces {
		p, _ := n.port(i.Target)
		points = append(points, point2{p.ID, i.Direction})
		assert.Len(t, i.Rules, 2, "those of all sources are one")
	}
	assert.Equal(t, []point2{{2, spec.RX}, {2, spec.TX}, {0, spec.RX}, {3, spec.RX}, {3, spec.TX}}, points)
	assert.Equal(t, spec.Both, s.Direction)

	f := n.nic.send(packet{port: 2, to: 3, udp: true})
	require.Len(t, f.copies, 2)
	assert.Equal(t, point2{2, spec.RX}, n.pointOf(f.copies[0]))
	assert.Equal(t, point2{3, spec.TX}, n.pointOf(f.copies[1]))
	copied[point2{2, spec.RX}]++
	copied[point2{3, spec.TX}]++
	assert.Empty(t, n.nic.send(packet{port: 2, to: 3, ip6: true}).copies, "not IPv4")

	for i := range 2*bands + 1 {
		uplink := testUplink
		uplink.RouterMAC[1] = byte(i + 1)
		require.NoError(t, n.manager.UplinkChanged(uplink))
	}
	stopped, err := n.manager.Stop("")
	require.NoError(t, err)
	assert.Equal(t, 3, stopped)
	assert.Equal(t, before, n.nic.dump())
	_, ended := n.manager.Status()
	for _, i := range ended[0].Interfaces {
		p, _ := n.port(i.Target)
		at := copied[point2{p.ID, i.Direction}]
		// Only where the new rule has to wait behind the old one, what it copies in between is not seen.
		assert.LessOrEqual(t, i.Packets, at)
		assert.InEpsilon(t, at, i.Packets, 0.05)
	}
}

func TestDirectionOfAnUplink(t *testing.T) {
	n := newNode(1)
	r := validRequest()
	r.Targets, r.Direction = []spec.Target{{VF: "vm-1"}, {PF: 0}}, spec.TX
	_, err := n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.NotSupported, "what leaves by pf0 cannot be captured")
	r.Direction = "sideways"
	_, err = n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.InvalidParams, `direction "sideways": want rx, tx, both or none`)
	assert.Empty(t, n.taps.set())
}

// Where no rules can be, the graph copies: PF1, and everything without offload.
func TestSoftware(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	begin(t, n, spec.RX, "", spec.Target{PF: 1}, spec.Target{VF: "vm-1"})
	assert.Equal(t, []tapKey{{1, graph.TapRX}}, n.taps.set(), "the NIC copies what the guest sends")
	tap := n.taps.taps[tapKey{1, graph.TapRX}]
	assert.True(t, tap.Inner)
	assert.Zero(t, tap.Out)
	assert.Equal(t, copiesOf(1, testHeader), n.taps.send(1, graph.TapRX, 0))
	pf1 := n.status()[0].Interfaces[0]
	assert.Equal(t, spec.SessionInterface{Target: spec.Target{PF: 1}, Direction: spec.RX, Mode: spec.Software,
		Port:    "net_eswitch0_pf1",
		Label:   2,
		Packets: 1, Bytes: frameLen}, pf1)
	require.NoError(t, stopError(n, ""))
	assert.Equal(t, before, n.nic.dump())

	n.withoutOffload()
	s := begin(t, n, spec.Both, "tcp port 443", spec.Target{PF: 0}, spec.Target{VF: "vm-1"})
	assert.Equal(t, before, n.nic.dump(), "no rules")
	assert.Equal(t, []tapKey{{0, graph.TapRX}, {2, graph.TapRX}, {2, graph.TapTX}}, n.taps.set())
	for _, i := range s.Interfaces {
		assert.Equal(t, spec.Software, i.Mode)
	}
	require.NoError(t, stopError(n, ""))
	assert.Empty(t, n.taps.set())
}

// The tap matches what the filter asks for.
func TestTapRules(t *testing.T) {
	n := newNode(1)
	n.withoutOffload()
	s := begin(t, n, spec.TX, "ip src host 10.0.0.1 and tcp dst port 443", spec.Target{VF: "vm-1"})
	tap := n.taps.taps[tapKey{2, graph.TapTX}]
	require.Len(t, tap.Tap.Rules, 2)
	assert.False(t, tap.Inner)
	asked := map[wire.Field]filter.Condition{}
	for _, c := range tap.Tap.Rules[0].Conditions {
		asked[c.Field] = filter.Condition{Value: c.Value, Mask: c.Mask}
	}
	assert.Equal(t, filter.Condition{Value: [16]byte{10, 0, 0, 1}, Mask: [16]byte{0xff, 0xff, 0xff, 0xff}},
		asked[wire.FieldSrc])
	assert.Equal(t, filter.Condition{Value: [16]byte{1, 0xbb}, Mask: [16]byte{0xff, 0xff}}, asked[wire.FieldDstPort])
	assert.True(t, tap.Tap.Rules[0].Sample)
	assert.Equal(t, graph.TapRule{}, tap.Tap.Rules[1], "the rest passes")

	n.taps.send(2, graph.TapTX, 0)
	n.taps.send(2, graph.TapTX, 1)
	n.taps.send(2, graph.TapTX, 1)
	i := n.status()[0].Interfaces[0]
	assert.Equal(t, s.Interfaces[0].Rules[0].Pattern, i.Rules[0].Pattern)
	assert.EqualValues(t, 1, i.Rules[0].Packets)
	assert.EqualValues(t, 2, i.Rules[1].Packets)
	assert.EqualValues(t, 1, i.Packets)
}

// A tap's copies follow the router, and none of them is forgotten.
func TestTapFollowsTheUplink(t *testing.T) {
	n := newNode(1)
	begin(t, n, spec.RX, "", spec.Target{PF: 1})
	for i := range 5 {
		uplink := testUplink
		uplink.RouterMAC[1] = byte(i + 1)
		require.NoError(t, n.manager.UplinkChanged(uplink))
		assert.Equal(t, copiesOf(1, uplink.header(validRequest())), n.taps.send(1, graph.TapRX, 0))
		n.taps.taps[tapKey{1, graph.TapRX}].Oversize++
	}
	s := n.status()[0]
	assert.EqualValues(t, 5, s.Packets)
	assert.Contains(t, s.Warnings, "5 packets of pf1 were not copied: too long for the uplink")
	require.NoError(t, stopError(n, ""))
	_, ended := n.manager.Status()
	assert.EqualValues(t, 5, ended[0].Packets)
}

// The graph refuses a tap: all is as before.
func TestTapRefused(t *testing.T) {
	for _, nth := range []int{1, 2} {
		for refusal, reason := range map[error]fault.Reason{graph.ErrFull: fault.LimitReached, graph.ErrTimeout: ""} {
			n := newNode(1)
			before := n.nic.dump()
			sets := 0
			n.taps.fail = func(call string) error {
				if sets++; call == "set" && sets == nth {
					return refusal
				}
				return nil
			}
			r := validRequest()
			r.Targets, r.Direction = []spec.Target{{PF: 1}, {VF: "vm-1"}}, spec.Both
			_, err := n.manager.Start(context.Background(), r)
			assert.ErrorIs(t, err, refusal)
			assert.ErrorContains(t, err, "cannot start the capture")
			if reason != "" {
				assert.True(t, fault.Is(err, reason))
			}
			assert.Equal(t, before, n.nic.dump())
			assert.Empty(t, n.taps.set())
			assert.Empty(t, n.status())
		}
	}
}

// A new header that the graph does not take for one tap is taken for none, and tried again.
func TestTapHeaderRefused(t *testing.T) {
	n := newNode(1)
	begin(t, n, spec.Both, "", spec.Target{PF: 1}, spec.Target{VF: "vm-1"})
	uplink := testUplink
	uplink.RouterMAC[5]++
	sets := 0
	n.taps.fail = func(call string) error {
		if call == "set" {
			sets++
		}
		if sets == 2 {
			return graph.ErrTimeout
		}
		return nil
	}
	require.ErrorIs(t, n.manager.UplinkChanged(uplink), graph.ErrTimeout)
	assert.Equal(t, copiesOf(1, testHeader), n.taps.send(1, graph.TapRX, 0))
	assert.Equal(t, txCopy(), n.taps.send(2, graph.TapTX, 0))
	assert.Equal(t, txCopy(), n.nic.send(packet{port: 0, proto: 4, to: 2}).copies)
	n.taps.fail = nil
	warnings := n.status()[0].Warnings
	assert.Contains(t, warnings[len(warnings)-1], "copies do not follow the change of the uplink yet")
	require.NoError(t, n.manager.UplinkChanged(uplink))
	assert.Equal(t, copiesOf(1, uplink.header(validRequest())), n.taps.send(1, graph.TapRX, 0))
}

// A tap that stays is said to, and goes when the capture is stopped again.
func TestTapThatStays(t *testing.T) {
	n := newNode(1)
	before := n.nic.dump()
	begin(t, n, spec.TX, "", spec.Target{VF: "vm-1"})
	n.taps.fail = func(call string) error {
		if call == "remove" {
			return graph.ErrTimeout
		}
		return nil
	}
	err := stopError(n, "")
	requireFault(t, err, fault.RollbackFailed, "the packet graph goes on to copy at port net_eswitch0_representor_vf0")
	assert.True(t, errors.Is(err, graph.ErrTimeout))
	assert.Equal(t, spec.Broken, n.status()[0].State)
	n.taps.fail = nil
	require.NoError(t, stopError(n, ""))
	assert.Equal(t, before, n.nic.dump())
	assert.Empty(t, n.taps.set())
}

// A dry run tells the rules for what the NIC delivers, asks the NIC about them, and changes nothing.
func TestDryRunOfDelivery(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	r := validRequest()
	r.DryRun, r.Targets, r.Direction = true, []spec.Target{{VF: "vm-1"}}, spec.TX
	s, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	assert.Contains(t, strings.Join(s.Plan, "\n"),
		"flow create 0 group 21 priority 3840 transfer pattern represented_port / eth / end "+
			"actions count / sample ratio 1 index 0 / represented_port ethdev_port_id 2 / end")

	n.nic.refuse = func(r rteflow.Rule) bool { return r.Group == uint32(nicgroup.Delivery(2)) }
	_, err = n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.RuleRejected, "the NIC did not add rule capture/default/delivery/2/redirect/0 of vm-1")
	assert.Equal(t, before, n.nic.dump())
	assert.Empty(t, n.taps.set())
}
