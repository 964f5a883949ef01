// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket/layers"

	"dpservice/dpservice/vnet"
	"dpservice/wire"
)

// The periods of router advertisements: a guest that misses some keeps its gateway.
const (
	advertisePeriod = 200 * time.Second
	routerLifetime  = 30 * time.Minute
)

const (
	// flagManaged says that addresses, and all else, come by DHCPv6. No prefix is advertised: the guest has one address
	// and no other, and all its traffic goes to the gateway.
	flagManaged = 0x80
	flagOther   = 0x40

	minIPv6MTU = 1280

	optRecursiveDNS = layers.ICMPv6Opt(25) // RFC 8106
)

// advertiseToGuests tells the guests of their gateway from time to time.
func (s *SlowPath) advertiseToGuests() {
	for _, a := range s.cfg.Guests.Attachments() {
		if s.due(s.advertised, a.Port, advertisePeriod) {
			s.advertise(a)
		}
	}
}

func (s *SlowPath) advertise(a vnet.Attachment) bool {
	return a.IPv6.IsValid() && s.send(a.Port, s.routerAdvertisement(a.GatewayMAC, multicastMAC(allNodes), allNodes))
}

// guestWantsRouter answers a router solicitation.
func (s *SlowPath) guestWantsRouter(a vnet.Attachment, p *parser, src wire.MAC) (answered bool) {
	if p.ip6.HopLimit != hopLimit {
		return false
	}
	switch from := addr(p.ip6.SrcIP); {
	case from.IsUnspecified():
		return s.advertise(a)
	case a.IPv6.IsValid() && (from.IsLinkLocalUnicast() || from == a.IPv6):
		return s.send(a.Port, s.routerAdvertisement(a.GatewayMAC, src, from))
	default:
		return false
	}
}

func (s *SlowPath) routerAdvertisement(mac, to wire.MAC, dst netip.Addr) []byte {
	options := linkLayer(layers.ICMPv6OptSourceAddress, mac)
	if mtu := s.cfg.Network.MTU; mtu >= minIPv6MTU {
		data := binary.BigEndian.AppendUint32(make([]byte, 2), uint32(mtu))
		options = append(options, layers.ICMPv6Option{Type: layers.ICMPv6OptMTU, Data: data})
	}
	if dns := s.cfg.Network.dns(netip.Addr.Is6); len(dns) > 0 {
		data := binary.BigEndian.AppendUint32(make([]byte, 2), uint32(routerLifetime/time.Second))
		for _, ip := range dns {
			data = append(data, ip.AsSlice()...)
		}
		options = append(options, layers.ICMPv6Option{Type: optRecursiveDNS, Data: data})
	}
	return icmp6(mac, to, gatewayIPv6, dst, layers.ICMPv6TypeRouterAdvertisement, &layers.ICMPv6RouterAdvertisement{
		HopLimit: 64, Flags: flagManaged | flagOther, RouterLifetime: uint16(routerLifetime / time.Second), Options: options,
	})
}

// dns are the name servers of one family.
func (n Network) dns(family func(netip.Addr) bool) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(n.DNS), func(ip netip.Addr) bool { return !family(ip) })
}
