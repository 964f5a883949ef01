// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"net/netip"

	"github.com/google/gopacket/layers"

	"dpservice/dpservice/slowpath/dhcp4"
	"dpservice/dpservice/slowpath/dhcp6"
	"dpservice/dpservice/vnet"
	"dpservice/wire"
)

// guestDHCP answers DHCP over IPv4 and IPv6, where it is the gateway that is asked.
func (s *SlowPath) guestDHCP(a vnet.Attachment, p *parser, src wire.MAC) (answered bool) {
	switch {
	case p.udp.DstPort == dhcp4.ServerPort && p.has(layers.LayerTypeIPv4):
		to := addr(p.ip4.DstIP)
		return a.IPv4.IsValid() && (to == dhcp4.Broadcast || to == gatewayIPv4) && s.answerDHCP4(a, p.udp.Payload)
	case p.udp.DstPort == dhcp6.ServerPort && p.has(layers.LayerTypeIPv6):
		from, to := addr(p.ip6.SrcIP), addr(p.ip6.DstIP)
		return a.IPv6.IsValid() && from.IsLinkLocalUnicast() && (to == dhcp6.Servers || to == gatewayIPv6) &&
			s.answerDHCP6(a, p.udp.Payload, src, from)
	default:
		return false
	}
}

func (s *SlowPath) answerDHCP4(a vnet.Attachment, message []byte) bool {
	lease := dhcp4.Lease{
		Address: a.IPv4, Gateway: gatewayIPv4, DNS: s.cfg.Network.dns(netip.Addr.Is4), MTU: s.cfg.Network.MTU,
		Time: s.cfg.Network.LeaseTime, Hostname: a.Hostname, HTTPBoot: a.PXE.IsHTTP(),
	}
	lease.BootServer, lease.BootFile = a.PXE.ForIPv4()
	reply, ok := lease.Answer(message)
	if !ok {
		return false
	}
	to := wire.MAC(reply.MAC)
	if reply.To == dhcp4.Broadcast {
		to = broadcast
	}
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: gatewayIPv4.AsSlice(), DstIP: reply.To.AsSlice(),
	}
	return s.send(a.Port, datagram(a.GatewayMAC, to, ip, dhcp4.ServerPort, dhcp4.ClientPort, reply.Message))
}

func (s *SlowPath) answerDHCP6(a vnet.Attachment, message []byte, src wire.MAC, from netip.Addr) bool {
	lease := dhcp6.Lease{
		Address: a.IPv6, ServerMAC: a.GatewayMAC, DNS: s.cfg.Network.dns(netip.Addr.Is6), Time: s.cfg.Network.LeaseTime,
		BootURL: a.PXE.URL(), HTTPBoot: a.PXE.IsHTTP(),
	}
	reply, ok := lease.Answer(message)
	if !ok {
		return false
	}
	ip := &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: gatewayIPv6.AsSlice(), DstIP: from.AsSlice(),
	}
	return s.send(a.Port, datagram(a.GatewayMAC, src, ip, dhcp6.ServerPort, dhcp6.ClientPort, reply))
}
