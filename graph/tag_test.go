// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/wire"
)

// tagged is a frame's Ethernet header with an 802.1Q tag.
func tagged(src, dst wire.MAC, vlan uint16, priority uint8, t layers.EthernetType) stack {
	return stack{eth(src, dst, layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: vlan, Priority: priority, Type: t}}
}

// To IEEE 802.1Q a frame in VLAN 0 is an untagged one with a priority: it goes where it went without the tag.
func TestPriorityTagged(t *testing.T) {
	g := newGraph(t)
	ip := stack{ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), payload(hello)}
	delivered := frame(t, eth(gatewayMAC, guest1MAC, v4), ip4("10.0.0.1", "10.0.0.2", 63, vUDP), udp(1, 2), payload(hello))
	for _, head := range []stack{tagged(guest0MAC, gatewayMAC, 0, 5, v4), tagged(guest0MAC, gatewayMAC, 0, 0, v4),
		{eth(guest0MAC, gatewayMAC, v4)}} {
		send(t, ports.vf0, frame(t, append(head, ip...)...))
		require.Equal(t, delivered, receive(t, ports.vf1))
	}
	require.Len(t, allFlows(g), 1, "the tag makes no other flow")

	send(t, ports.pf0, frame(t, append(tagged(routerMAC, uplinkMAC, 0, 3, v6),
		ip6(remote.String(), underlay0.String(), 61, inIP4),
		ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello))...))
	require.Equal(t, frame(t, eth(gatewayMAC, guest0MAC, v4), ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1),
		payload(hello)),
		receive(t, ports.vf0))

	broadcast := wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	arp := payload("an ARP packet, which is to be padded by nobody")
	send(t, ports.vf0, frame(t, append(tagged(guest0MAC, broadcast, 0, 3, layers.EthernetTypeARP), arp)...))
	require.Equal(t, graph.Punt{Port: ports.vf0.ID,
		Frame: frame(t, eth(guest0MAC, broadcast, layers.EthernetTypeARP), arp)}, <-g.Punts())
	require.Zero(t, counters(g).sum("drop_"))
}

// Every other tag, and what no node knows, has its counter.
func TestTaggedAndUnknownAreCounted(t *testing.T) {
	g := newGraph(t)
	ip := stack{ip4("10.0.0.1", "10.0.0.2", 64, vUDP), udp(1, 2), payload(hello)}
	service := eth(guest0MAC, gatewayMAC, layers.EthernetTypeQinQ)
	inner := tagged(guest0MAC, gatewayMAC, 5, 0, v4)[1]
	for name, c := range map[string]struct {
		in    *graphtest.Port
		frame []byte
		node  string
	}{
		"a VLAN": {ports.vf0, frame(t, append(tagged(guest0MAC, gatewayMAC, 5, 0, v4), ip...)...), "drop_tagged"},
		"the last VLAN": {ports.vf0, frame(t, append(tagged(guest0MAC, gatewayMAC, 4095, 7, v4), ip...)...),
			"drop_tagged"},
		"a service VLAN": {ports.vf0, frame(t, append(stack{service, tagged(guest0MAC, gatewayMAC, 0, 0, v4)[1]},
			ip...)...), "drop_tagged"},
		"VLAN in VLAN 0": {ports.vf0, frame(t, append(append(tagged(guest0MAC, gatewayMAC, 0, 1, layers.EthernetTypeDot1Q),
			inner), ip...)...), "drop_tagged"},
		"a tag cut short":  {ports.vf0, frame(t, tagged(guest0MAC, gatewayMAC, 0, 1, v4)...)[:16], "drop_tagged"},
		"no more than one": {ports.vf0, frame(t, tagged(guest0MAC, gatewayMAC, 0, 1, v4)...)[:18], "drop_malformed"},
		"a VLAN, on the wire": {ports.pf0, frame(t,
			append(tagged(routerMAC, uplinkMAC, 5, 0, v6), ip6(remote.String(), underlay0.String(), 61, inIP4),
				ip4("10.0.1.5", "10.0.0.1", 63, vUDP), udp(2, 1), payload(hello))...), "drop_tagged"},
		"LLDP": {ports.vf0, frame(t, eth(guest0MAC, wire.MAC{0x01, 0x80, 0xc2, 0, 0, 0x0e},
			layers.EthernetTypeLinkLayerDiscovery), payload(hello)),
			"drop_unsupported"},
	} {
		before := counters(g)[c.node]
		send(t, c.in, c.frame)
		settle(t, g)
		require.Equal(t, before+1, counters(g)[c.node], name)
	}
	require.Zero(t, counters(g)["punt"])
}
