// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"dpservice/wire"
)

// echoReply4 answers a guest's echo request to the gateway; nil if the packet is none.
func (p *parser) echoReply4(from, to wire.MAC) []byte {
	if p.icmp4.TypeCode != layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0) ||
		addr(p.ip4.DstIP) != gatewayIPv4 ||
		p.ip4.Flags&layers.IPv4MoreFragments != 0 || p.ip4.FragOffset != 0 {
		return nil
	}
	return build(
		&layers.Ethernet{SrcMAC: from[:], DstMAC: to[:], EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: p.ip4.DstIP, DstIP: p.ip4.SrcIP},
		&layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: p.icmp4.Id, Seq: p.icmp4.Seq,
		},
		gopacket.Payload(p.icmp4.Payload))
}

// echoReply6 answers an ICMPv6 echo request; nil if the packet is none, or has no sender to answer.
func (p *parser) echoReply6(from, to wire.MAC) []byte {
	requester := addr(p.ip6.SrcIP)
	if p.icmp6.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0) || requester.IsUnspecified() ||
		requester.IsMulticast() {
		return nil
	}
	return icmp6(from, to, addr(p.ip6.DstIP), requester, layers.ICMPv6TypeEchoReply,
		&layers.ICMPv6Echo{Identifier: p.echo6.Identifier, SeqNumber: p.echo6.SeqNumber}, gopacket.Payload(p.echoBody6()))
}

// echoBody6 is what follows identifier and sequence number of an ICMPv6 echo.
func (p *parser) echoBody6() []byte {
	return p.ip6.Payload[min(8, len(p.ip6.Payload)):]
}
