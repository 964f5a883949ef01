// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/graph"
	"dpservice/wire"
)

// dropsRequest asks for what is dropped of vm-1 and PF0, and perhaps for more.
func dropsRequest(d spec.Direction) spec.Request {
	r := validRequest()
	r.Targets, r.Direction, r.Drops = []spec.Target{{VF: "vm-1"}, {PF: 0}}, d, true
	return r
}

// Drops are copied by the graph alone, beside the other directions, and count towards the session.
func TestDrops(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	s, err := n.manager.Start(context.Background(), dropsRequest(spec.None))
	require.NoError(t, err)
	assert.Equal(t, before, n.nic.dump(), "no rule sees what the software drops")
	assert.Equal(t, []tapKey{{0, graph.TapDrops}, {2, graph.TapDrops}}, n.taps.set())
	assert.True(t, n.taps.taps[tapKey{0, graph.TapDrops}].Inner)
	assert.Contains(t, s.Warnings, dropsWarning)

	h := testHeader
	h.Label = wire.DropLabel(3, 0)
	assert.Equal(t, [][]byte{h.Append(nil)}, n.taps.send(2, graph.TapDrops, 0))
	got := n.status()[0]
	assert.EqualValues(t, 1, got.Packets)
	assert.True(t, got.Drops)
	assert.Equal(t, spec.SessionInterface{Target: spec.Target{VF: "vm-1"}, Direction: spec.Drops, Mode: spec.Software,
		Port: "net_eswitch0_representor_vf0", Label: h.Label, Packets: 1, Bytes: frameLen}, got.Interfaces[0])
	stopped, err := n.manager.Stop("")
	require.NoError(t, err)
	assert.Equal(t, 2, stopped)
	assert.Empty(t, n.taps.set())

	s, err = n.manager.Start(context.Background(), dropsRequest(spec.Both))
	require.NoError(t, err)
	var directions []spec.Direction
	for _, i := range s.Interfaces {
		directions = append(directions, i.Direction)
	}
	assert.Equal(t, []spec.Direction{spec.RX, spec.TX, spec.Drops, spec.RX, spec.Drops}, directions)
	uplink := testUplink
	uplink.RouterMAC = wire.MAC{9}
	require.NoError(t, n.manager.UplinkChanged(uplink))
	assert.Equal(t, byte(9), n.taps.send(2, graph.TapDrops, 0)[0][0], "copies follow the router")
	require.NoError(t, stopError(n, ""))
	assert.Equal(t, before, n.nic.dump())
	assert.Empty(t, n.taps.set())
}

// If a tap of drops cannot be set, nothing stays of the session; a limit ends it as any other.
func TestDropsFailAndEnd(t *testing.T) {
	n := newNode(2)
	before := n.nic.dump()
	for failing := range 3 {
		calls := 0
		n.taps.fail = func(call string) error {
			if call != "set" {
				return nil
			}
			if calls++; calls == failing+1 {
				return errors.New("no room")
			}
			return nil
		}
		_, err := n.manager.Start(context.Background(), dropsRequest(spec.Both))
		require.ErrorContains(t, err, "no room")
		assert.Empty(t, n.taps.set())
		assert.Equal(t, before, n.nic.dump())
	}
	n.taps.fail = nil

	r := dropsRequest(spec.None)
	r.Limits.Packets = 1
	s, err := n.manager.Start(context.Background(), r)
	require.NoError(t, err)
	n.taps.send(2, graph.TapDrops, 0)
	n.manager.enforceLimits(s.StartedAt)
	assert.Empty(t, n.taps.set())
	_, ended := n.manager.Status()
	assert.Equal(t, spec.PacketsReached, ended[0].EndReason)

	r = dropsRequest(spec.None)
	r.Drops = false
	_, err = n.manager.Start(context.Background(), r)
	requireFault(t, err, fault.InvalidParams, "ask for drops")
}
