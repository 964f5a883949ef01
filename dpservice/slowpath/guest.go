// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"dpservice/dpservice/vnet"
	"dpservice/wire"
)

// movePeriod is how often the MAC of a guest may change: each change costs the dataplane work.
const movePeriod = time.Second

func (s *SlowPath) fromGuest(a vnet.Attachment, frame []byte) Outcome {
	p := newParser()
	kind := p.parse(frame)
	src, ok := p.source()
	if !ok || src == a.GatewayMAC {
		return Malformed
	}
	moved := a.GuestMAC != src && s.guestMoved(&a, p, src)
	if kind == gopacket.LayerTypeZero && !moved {
		return Malformed
	}
	return used(s.answerGuest(a, p, kind, src) || moved)
}

// guestMoved follows a guest to another MAC, and reports whether the frame was useful for that.
func (s *SlowPath) guestMoved(a *vnet.Attachment, p *parser, src wire.MAC) bool {
	switch {
	case a.GuestMAC == wire.MAC{}:
		learned := s.learn(*a, src)
		a.GuestMAC = src
		return learned
	case p.isFrom(*a):
		return s.learn(*a, src)
	case s.mayAsk(a.Port, solicitPeriod):
		s.solicit(*a) // has it moved? Only its answer tells
		return true
	default:
		return false
	}
}

// answerGuest does what a frame of this kind asks for, and reports whether that was anything.
func (s *SlowPath) answerGuest(a vnet.Attachment, p *parser, kind gopacket.LayerType, src wire.MAC) bool {
	switch kind {
	case layers.LayerTypeARP:
		return s.guestARP(a, p)
	case layers.LayerTypeICMPv6NeighborSolicitation:
		return s.guestSolicits(a, p, src)
	case layers.LayerTypeICMPv6NeighborAdvertisement:
		return p.ip6.HopLimit == hopLimit && addr(p.na.TargetAddress) == a.IPv6 && s.learn(a, src)
	case layers.LayerTypeICMPv6RouterSolicitation:
		return s.guestWantsRouter(a, p, src)
	case layers.LayerTypeUDP:
		return s.guestDHCP(a, p, src)
	case layers.LayerTypeICMPv4:
		return s.send(a.Port, p.echoReply4(a.GatewayMAC, src))
	case layers.LayerTypeICMPv6Echo:
		return isGateway(a, addr(p.ip6.DstIP)) && s.send(a.Port, p.echoReply6(a.GatewayMAC, src))
	default:
		return false
	}
}

// learn records the guest's MAC, unless it changes too often, and reports whether it has changed.
func (s *SlowPath) learn(a vnet.Attachment, mac wire.MAC) bool {
	if a.GuestMAC == mac {
		return false
	}
	now := s.cfg.Now()
	s.mu.Lock()
	last, known := s.moved[a.Port]
	if a.GuestMAC != (wire.MAC{}) && known && now.Sub(last) < movePeriod {
		delete(s.solicited, a.Port) // if it stays silent now, it is asked with the next round
		s.mu.Unlock()
		return false
	}
	s.moved[a.Port] = now
	s.mu.Unlock()
	s.cfg.Log.Info("learned a guest's MAC", "interface", a.ID, "mac", mac)
	if err := s.cfg.Guests.LearnMAC(a.Port, mac); err != nil {
		s.cfg.Log.Error("cannot set a guest's MAC", "interface", a.ID, "mac", mac, "err", err)
	}
	return true
}

// guestARP answers requests for the gateway and, as a proxy, for every other address that is routed but the guest's
// own. A guest that looks whether an address is free, before it takes it, finds only the gateway's taken.
func (s *SlowPath) guestARP(a vnet.Attachment, p *parser) (used bool) {
	arp := &p.arp
	if arp.AddrType != layers.LinkTypeEthernet || arp.Protocol != layers.EthernetTypeIPv4 ||
		len(arp.SourceProtAddress) != 4 || len(arp.DstProtAddress) != 4 {
		return false
	}
	sender, ok := unicast(arp.SourceHwAddress)
	if !ok || sender == a.GatewayMAC {
		return false
	}
	from, target := addr(arp.SourceProtAddress), addr(arp.DstProtAddress)
	learned := from == a.IPv4 && s.learn(a, sender)
	if arp.Operation == layers.ARPRequest && answersFor(target, from) && target != a.IPv4 && target != from {
		return s.send(a.Port, arpReply(a.GatewayMAC, target, sender, from))
	}
	return learned
}

// answersFor reports whether the gateway answers an ARP request for target. A sender without an address (RFC 5227's
// probe) looks whether target is free.
func answersFor(target, sender netip.Addr) bool {
	return target == gatewayIPv4 || vnet.Routable(target) && !sender.IsUnspecified()
}

// guestSolicits answers solicitations for the gateway and, as a proxy, for every other global address but the guest's
// own. A guest that looks whether an address is free, before it takes it, finds only the gateway's taken.
func (s *SlowPath) guestSolicits(a vnet.Attachment, p *parser, src wire.MAC) (used bool) {
	if p.ip6.HopLimit != hopLimit {
		return false
	}
	from, target := addr(p.ip6.SrcIP), addr(p.ns.TargetAddress)
	learned := from == a.IPv6 && s.learn(a, src)
	switch {
	case isGateway(a, target):
		return s.send(a.Port, neighbourAdvertisement(a.GatewayMAC, target, src, from, flagRouter|flagOverride))
	case vnet.Routable(target) && target != a.IPv6 && !from.IsUnspecified():
		return s.send(a.Port, neighbourAdvertisement(a.GatewayMAC, target, src, from, flagRouter))
	default:
		return learned
	}
}

// isGateway reports whether the gateway of an interface has this IPv6 address.
func isGateway(a vnet.Attachment, ip netip.Addr) bool {
	return ip == gatewayIPv6 || ip == a.GatewayIPv6
}
