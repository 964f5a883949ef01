// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"net/netip"
	"time"

	"github.com/google/gopacket/layers"

	"dpservice/dpservice/vnet"
)

// movePeriod is how often the MAC of a guest may change: each change costs the dataplane work.
const movePeriod = time.Second

func (s *SlowPath) fromGuest(a vnet.Attachment, frame []byte) {
	p := newParser()
	kind := p.parse(frame)
	src, ok := p.source()
	if !ok || src == a.GatewayMAC {
		return
	}
	switch {
	case a.GuestMAC == MAC{}:
		s.learn(a, src)
		a.GuestMAC = src
	case a.GuestMAC == src:
	case p.isFrom(a):
		s.learn(a, src)
	case s.mayAsk(a.Port, solicitPeriod):
		s.solicit(a) // has it moved? Only its answer tells
	}
	switch kind {
	case layers.LayerTypeARP:
		s.guestARP(a, p)
	case layers.LayerTypeICMPv6NeighborSolicitation:
		s.guestSolicits(a, p, src)
	case layers.LayerTypeICMPv6NeighborAdvertisement:
		if p.ip6.HopLimit == hopLimit && addr(p.na.TargetAddress) == a.IPv6 {
			s.learn(a, src)
		}
	case layers.LayerTypeICMPv6RouterSolicitation:
		s.guestWantsRouter(a, p, src)
	case layers.LayerTypeUDP:
		s.guestDHCP(a, p, src)
	case layers.LayerTypeICMPv4:
		s.send(a.Port, p.echoReply4(a.GatewayMAC, src))
	case layers.LayerTypeICMPv6Echo:
		if addr(p.ip6.DstIP) == gatewayIPv6 {
			s.send(a.Port, p.echoReply6(a.GatewayMAC, src))
		}
	}
}

// learn tells where the guest is, unless that changes too often.
func (s *SlowPath) learn(a vnet.Attachment, mac MAC) {
	if a.GuestMAC == mac {
		return
	}
	now := s.cfg.Now()
	s.mu.Lock()
	last, known := s.moved[a.Port]
	if a.GuestMAC != (MAC{}) && known && now.Sub(last) < movePeriod {
		delete(s.asked, a.Port) // if it stays silent now, it is asked with the next round
		s.mu.Unlock()
		return
	}
	s.moved[a.Port] = now
	s.mu.Unlock()
	s.cfg.Log.Info("learned a guest's MAC", "interface", a.ID, "mac", mac)
	if err := s.cfg.Guests.LearnMAC(a.Port, mac); err != nil {
		s.cfg.Log.Error("cannot set a guest's MAC", "interface", a.ID, "mac", mac, "err", err)
	}
}

// guestARP answers requests for the gateway and, as a proxy, for every other address that is routed but the guest's own.
// A guest that looks whether an address is free, before it takes it, finds only the gateway's taken.
func (s *SlowPath) guestARP(a vnet.Attachment, p *parser) {
	arp := &p.arp
	if arp.AddrType != layers.LinkTypeEthernet || arp.Protocol != layers.EthernetTypeIPv4 ||
		len(arp.SourceProtAddress) != 4 || len(arp.DstProtAddress) != 4 {
		return
	}
	sender, ok := unicast(arp.SourceHwAddress)
	if !ok || sender == a.GatewayMAC {
		return
	}
	from, target := addr(arp.SourceProtAddress), addr(arp.DstProtAddress)
	if from == a.IPv4 {
		s.learn(a, sender)
	}
	if arp.Operation == layers.ARPRequest && answersFor(target, from) && target != a.IPv4 && target != from {
		s.send(a.Port, arpReply(a.GatewayMAC, target, sender, from))
	}
}

// answersFor reports whether the gateway answers an ARP request for target. A sender without an address (RFC 5227's probe)
// looks whether target is free.
func answersFor(target, sender netip.Addr) bool {
	return target == gatewayIPv4 || target.IsGlobalUnicast() && !sender.IsUnspecified()
}

// guestSolicits answers solicitations for the gateway and, as a proxy, for every other global address but the guest's
// own. A guest that looks whether an address is free, before it takes it, finds only the gateway's taken.
func (s *SlowPath) guestSolicits(a vnet.Attachment, p *parser, src MAC) {
	if p.ip6.HopLimit != hopLimit {
		return
	}
	from, target := addr(p.ip6.SrcIP), addr(p.ns.TargetAddress)
	if from == a.IPv6 {
		s.learn(a, src)
	}
	switch {
	case target == gatewayIPv6:
		s.send(a.Port, neighbourAdvertisement(a.GatewayMAC, target, src, from, flagRouter|flagOverride))
	case target.IsGlobalUnicast() && target != a.IPv6 && !from.IsUnspecified():
		s.send(a.Port, neighbourAdvertisement(a.GatewayMAC, target, src, from, flagRouter))
	}
}
