// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/graph/nodes"
	"dpservice/wire"
)

// control is an ICMPv6 packet.
func control(t *testing.T, head *layers.Ethernet, from, to string, hops, kind uint8, body []byte) []byte {
	t.Helper()
	return frame(t, head, ip6(from, to, hops, vICMP6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)},
		gopacket.Payload(body))
}

// Of the ICMPv6 on the wire only what is for this node gets to the slow path.
func TestPuntsFromTheWire(t *testing.T) {
	g := newGraph(t)
	const router, group = "fe80::9", "ff02::1:ff00:1"
	solicit, advertise, routers, ping, pong := uint8(135), uint8(136), uint8(134), uint8(128), uint8(129)
	head := func() *layers.Ethernet { return eth(routerMAC, uplinkMAC, v6) }
	echo := make([]byte, 12)
	for name, c := range map[string]struct {
		frame []byte
		node  string
	}{
		"solicits the node":   {control(t, head(), router, group, 255, solicit, target(nodeIP.String())), "punt"},
		"solicits the uplink": {control(t, head(), router, group, 255, solicit, target(uplinkIP.String())), "punt"},
		"solicits an interface": {control(t, head(), router, underlay1.String(), 255, solicit,
			target(underlay1.String())), "punt"},
		"solicits another": {control(t, head(), router, group, 255, solicit, target("fc00:1::9")),
			"drop_not_for_us"},
		"solicits a guest's address": {control(t, head(), router, group, 255, solicit, target("fd00::1")),
			"drop_not_for_us"},
		"solicits the other uplink": {control(t, head(), router, group, 255, solicit, target("fe80::ff:fe00:201")),
			"drop_not_for_us"},
		"solicits from afar": {control(t, head(), router, group, 254, solicit, target(nodeIP.String())),
			"drop_malformed"},
		"solicits nothing": {control(t, head(), router, group, 255, solicit, target(nodeIP.String())[:16]),
			"drop_malformed"},
		"a router": {control(t, head(), router, "ff02::1", 255, routers, make([]byte, 12)), "punt"},
		"a router from afar": {control(t, head(), router, "ff02::1", 64, routers, make([]byte, 12)),
			"drop_malformed"},
		"pings the node":   {control(t, head(), "fc00:2::1", nodeIP.String(), 61, ping, echo), "punt"},
		"pings the uplink": {control(t, head(), router, uplinkIP.String(), 64, ping, echo), "punt"},
		"pings an interface": {control(t, head(), "fc00:2::1", underlay0.String(), 61, ping, echo),
			"drop_not_for_us"},
		"pings all nodes":    {control(t, head(), router, "ff02::1", 64, ping, echo), "drop_not_for_us"},
		"answers the uplink": {control(t, head(), router, uplinkIP.String(), 64, pong, echo), "punt"},
		"answers another":    {control(t, head(), router, "fe80::7", 64, pong, echo), "drop_not_for_us"},
		"advertises a neighbour": {control(t, head(), router, "ff02::1", 255, advertise, target(router)),
			"drop_not_for_us"},
		"advertises itself to us": {control(t, head(), router, uplinkIP.String(), 255, advertise, target(router)),
			"punt"},
		"advertises itself to a node": {control(t, head(), router, nodeIP.String(), 255, advertise, target(router)),
			"drop_not_for_us"},
		"advertises itself from afar": {control(t, head(), router, uplinkIP.String(), 254, advertise, target(router)),
			"drop_malformed"},
		"advertises nothing": {control(t, head(), router, uplinkIP.String(), 255, advertise, target(router)[:16]),
			"drop_malformed"},
		"solicits routers": {control(t, head(), router, "ff02::2", 255, 133, echo), "drop_unsupported"},
		"redirects": {control(t, head(), router, uplinkIP.String(), 255, 137, target(router)),
			"drop_unsupported"},
		"an error":                    {control(t, head(), router, uplinkIP.String(), 64, 1, echo), "drop_unsupported"},
		"a type without a message":    {control(t, head(), router, uplinkIP.String(), 64, 200, nil), "drop_malformed"},
		"the largest type that is it": {control(t, head(), router, uplinkIP.String(), 64, 255, echo), "drop_unsupported"},
	} {
		before := counters(g)[c.node]
		send(t, ports.pf0, c.frame)
		settle(t, g)
		require.Equal(t, before+1, counters(g)[c.node], name)
		if c.node == "punt" {
			require.Equal(t, graph.Punt{Port: ports.pf0.ID, Frame: c.frame}, <-g.Punts(), name)
		}
	}
}

// A flood of one kind of control packets takes nothing from the other kinds of its port.
func TestKindsOfPuntsHaveTheirOwnBudget(t *testing.T) {
	const burst, flood = 4, 100
	fromWire := func() *layers.Ethernet { return eth(wire.MAC{0x02, 0, 0, 0, 3, 0x99}, uplinkMAC, v6) }
	fromRouter := func() *layers.Ethernet { return eth(routerMAC, uplinkMAC, v6) }
	fromGuest := func() *layers.Ethernet { return eth(guest0MAC, gatewayMAC, v6) }
	echo := make([]byte, 12)
	for side, c := range map[string]struct {
		in    *graphtest.Port
		kinds map[string][]byte
	}{
		"wire": {ports.pf0, map[string][]byte{
			"neighbours": control(t, fromWire(), "fe80::9", "ff02::1:ff00:1", 255, 135, target(nodeIP.String())),
			"routers":    control(t, fromWire(), "fe80::9", uplinkIP.String(), 64, 129, echo),
			"echo":       control(t, fromWire(), "fe80::9", uplinkIP.String(), 64, 128, echo),
			"the router": control(t, fromRouter(), "fe80::9", uplinkIP.String(), 255, 136, target("fe80::9")),
		}},
		"guest": {ports.vf0, map[string][]byte{
			"neighbours": frame(t, eth(guest0MAC, gatewayMAC, layers.EthernetTypeARP), payload("an ARP request")),
			"routers":    control(t, fromGuest(), "fe80::a", "ff02::2", 255, 133, echo),
			"echo":       control(t, fromGuest(), "fd00::1", "fe80::1", 64, 128, echo),
			"the rest":   frame(t, eth(guest0MAC, gatewayMAC, v4), ip4("0.0.0.0", "255.255.255.255", 64, vUDP), udp(68, 67)),
		}},
	} {
		for flooding := range c.kinds {
			t.Run(side+", "+flooding, func(t *testing.T) {
				g := newGraph(t, func(cfg *nodes.Config) { cfg.PuntRate, cfg.PuntBurst = 1, burst })
				for range flood {
					send(t, c.in, c.kinds[flooding])
				}
				settle(t, g)
				dropped := counters(g)["drop_punt_rate"]
				require.InDelta(t, flood-burst, dropped, burst)
				for range flood - dropped {
					require.Equal(t, graph.Punt{Port: c.in.ID, Frame: c.kinds[flooding]}, <-g.Punts())
				}
				for kind, f := range c.kinds {
					if kind == flooding {
						continue
					}
					for range burst {
						send(t, c.in, f)
						require.Equal(t, graph.Punt{Port: c.in.ID, Frame: f}, <-g.Punts(), kind)
					}
				}
			})
		}
	}
}
