// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"bytes"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// router is what is known of the underlay's router.
type router struct {
	addr netip.Addr // link-local
	mac  MAC
	// heard says that it has answered since it was last asked; other is another one that has.
	heard     bool
	otherAddr netip.Addr
	otherMAC  MAC
	rounds    uint16 // how often it was asked
}

func (s *SlowPath) fromWire(frame []byte) {
	p := newParser()
	kind := p.parse(frame)
	src, ok := p.source()
	if !ok || src == s.cfg.UplinkMAC {
		return
	}
	switch kind {
	case layers.LayerTypeICMPv6NeighborSolicitation:
		s.wireSolicits(p, src)
	case layers.LayerTypeICMPv6RouterAdvertisement:
		if p.ip6.HopLimit == hopLimit && p.ra.RouterLifetime > 0 {
			s.heardRouter(addr(p.ip6.SrcIP), src)
		}
	case layers.LayerTypeICMPv6Echo:
		s.wireEcho(p, src)
	}
}

// wireSolicits answers for PF0's own addresses and those of the interfaces.
func (s *SlowPath) wireSolicits(p *parser, src MAC) {
	if p.ip6.HopLimit != hopLimit {
		return
	}
	from, target := addr(p.ip6.SrcIP), addr(p.ns.TargetAddress)
	s.mu.Lock()
	fromRouter := from == s.router.addr
	s.mu.Unlock()
	if fromRouter {
		s.heardRouter(from, src)
	}
	if s.owns(target) {
		s.send(s.cfg.Uplink, neighbourAdvertisement(s.cfg.UplinkMAC, target, src, from, flagOverride))
	}
}

func (s *SlowPath) owns(ip netip.Addr) bool {
	return ip == s.linkLocal || ip == s.cfg.NodeIP || s.cfg.Guests.HasUnderlay(ip)
}

// wireEcho answers pings of the node, and takes answers to our own.
func (s *SlowPath) wireEcho(p *parser, src MAC) {
	to := addr(p.ip6.DstIP)
	if to != s.linkLocal && to != s.cfg.NodeIP {
		return
	}
	if reply := p.echoReply6(s.cfg.UplinkMAC, src); reply != nil {
		s.send(s.cfg.Uplink, reply)
		return
	}
	if p.icmp6.TypeCode == layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0) && bytes.Equal(p.echoBody6(), s.nonce[:]) {
		s.heardRouter(addr(p.ip6.SrcIP), src)
	}
}

// askForRouter ends a round of asking for the router and begins the next.
func (s *SlowPath) askForRouter() {
	if s.cfg.RouterMAC != (MAC{}) {
		return
	}
	s.mu.Lock()
	r := &s.router
	if !r.heard && r.otherAddr.IsValid() {
		s.setRouter(r.otherAddr, r.otherMAC)
	}
	r.heard, r.otherAddr = false, netip.Addr{}
	r.rounds++
	round := r.rounds
	s.mu.Unlock()

	s.send(s.cfg.Uplink, icmp6(s.cfg.UplinkMAC, multicastMAC(allRouters), s.linkLocal, allRouters, layers.ICMPv6TypeEchoRequest,
		&layers.ICMPv6Echo{SeqNumber: round}, gopacket.Payload(s.nonce[:])))
	if round%2 == 1 { // for routers that do not answer pings
		s.send(s.cfg.Uplink, routerSolicitation(s.cfg.UplinkMAC, s.linkLocal))
	}
}

// heardRouter takes a router's sign of life. The router in use is followed at once; another one replaces it when it
// does not answer.
func (s *SlowPath) heardRouter(ip netip.Addr, mac MAC) {
	if s.cfg.RouterMAC != (MAC{}) || !ip.IsLinkLocalUnicast() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := &s.router; !r.addr.IsValid() || r.addr == ip {
		s.setRouter(ip, mac)
		r.heard = true
	} else {
		r.otherAddr, r.otherMAC = ip, mac
	}
}

// setRouter tells of the router if its MAC is news. The lock is held, so that news come in order.
func (s *SlowPath) setRouter(ip netip.Addr, mac MAC) {
	news := s.router.mac != mac
	s.router.addr, s.router.mac = ip, mac
	if news {
		s.cfg.Log.Info("found the underlay's router", "address", ip, "mac", mac)
		s.cfg.OnRouter(mac)
	}
}

// RouterMAC is the MAC of the underlay's router; zero if it is not known.
func (s *SlowPath) RouterMAC() MAC {
	if s.cfg.RouterMAC != (MAC{}) {
		return s.cfg.RouterMAC
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.router.mac
}
