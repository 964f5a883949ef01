// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"

	"dpservice/test/topology"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// crafter sends crafted frames from a guest, past the guest's kernel.
type crafter struct {
	b       *lab
	fd      int
	mac     net.HardwareAddr
	gateway net.HardwareAddr
	port    layers.UDPPort // that its datagrams come from
}

// craft opens a guest's device for crafted frames, until the test ends.
func (b *lab) craft(vm *topology.Guest) *crafter {
	b.t.Helper()
	fd, err := vm.PacketSocket("eth0")
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, unix.Close(fd)) })
	mac, err := vm.MAC("eth0")
	require.NoError(b.t, err)
	return &crafter{b, fd, mac, b.gatewayMAC(vm), craftedSrc}
}

// gatewayMAC returns the MAC of the host's end of a guest's link.
func (b *lab) gatewayMAC(vm *topology.Guest) net.HardwareAddr {
	b.t.Helper()
	for _, h := range b.net.Hypervisors {
		for vf, g := range h.Guests {
			if g == vm {
				mac, err := h.MAC(fmt.Sprintf("guest%d", vf))
				require.NoError(b.t, err)
				return mac
			}
		}
	}
	require.Fail(b.t, "no such guest", vm.ID)
	return nil
}

// send sends these layers to the gateway, behind an Ethernet header.
func (c *crafter) send(kind layers.EthernetType, all ...gopacket.SerializableLayer) {
	c.b.t.Helper()
	eth := &layers.Ethernet{SrcMAC: c.mac, DstMAC: c.gateway, EthernetType: kind}
	_, err := unix.Write(c.fd, c.b.serialize(append([]gopacket.SerializableLayer{eth}, all...)...))
	require.NoError(c.b.t, err)
}

// The ports of a crafter's datagrams, unless its source port is set.
const craftedSrc, craftedDst = 40001, 40002

// udp sends a datagram with a TTL or hop limit.
func (c *crafter) udp(src, dst netip.Addr, ttl uint8) {
	c.b.t.Helper()
	udp := &layers.UDP{SrcPort: c.port, DstPort: craftedDst}
	payload := gopacket.Payload("crafted")
	if dst.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		require.NoError(c.b.t, udp.SetNetworkLayerForChecksum(ip))
		c.send(layers.EthernetTypeIPv4, ip, udp, payload)
		return
	}
	ip := &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(),
		DstIP: dst.AsSlice()}
	require.NoError(c.b.t, udp.SetNetworkLayerForChecksum(ip))
	c.send(layers.EthernetTypeIPv6, ip, udp, payload)
}
