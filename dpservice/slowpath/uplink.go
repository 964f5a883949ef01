// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"bytes"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"dpservice/wire"
)

// Uplink is a physical port, behind which a router of the underlay is.
type Uplink struct {
	Port uint16
	MAC  wire.MAC
}

// uplink is one with its router.
type uplink struct {
	Uplink
	linkLocal netip.Addr
	router    router // guarded by the SlowPath's mutex
}

// router is what is known of the router behind an uplink.
type router struct {
	addr netip.Addr // link-local
	mac  wire.MAC
	// heard says that it has answered since it was last asked; other is another one that has.
	heard  bool
	other  station
	claim  station // takes its place if it is silent to probes; no address: nobody wants to
	probes int     // that were sent since
	rounds uint16  // how often it was asked
}

// station is a router that is not the one in use, or is at another MAC.
type station struct {
	addr netip.Addr
	mac  wire.MAC
}

// probes are how often the known router is asked for a sign of life before another station takes its place.
const probes = 3

func newUplinks(all []Uplink) map[uint16]*uplink {
	uplinks := map[uint16]*uplink{}
	for _, u := range all {
		uplinks[u.Port] = &uplink{Uplink: u, linkLocal: eui64(u.MAC)}
	}
	return uplinks
}

func (s *SlowPath) fromWire(u *uplink, frame []byte) Outcome {
	p := newParser()
	kind := p.parse(frame)
	src, ok := p.source()
	if !ok || src == u.MAC || kind == gopacket.LayerTypeZero {
		return Malformed
	}
	switch kind {
	case layers.LayerTypeICMPv6NeighborSolicitation:
		return used(s.wireSolicits(u, p, src))
	case layers.LayerTypeICMPv6NeighborAdvertisement:
		return used(s.wireAdvertises(u, p, src))
	case layers.LayerTypeICMPv6RouterAdvertisement:
		return used(p.ip6.HopLimit == hopLimit && p.ra.RouterLifetime > 0 && s.heardRouter(u, addr(p.ip6.SrcIP), src))
	case layers.LayerTypeICMPv6Echo:
		return used(s.wireEcho(u, p, src))
	default:
		return Ignored
	}
}

// wireSolicits answers for the node's addresses, those of the interfaces, and the uplink's own.
func (s *SlowPath) wireSolicits(u *uplink, p *parser, src wire.MAC) (used bool) {
	if p.ip6.HopLimit != hopLimit {
		return false
	}
	from, target := addr(p.ip6.SrcIP), addr(p.ns.TargetAddress)
	s.mu.Lock()
	fromRouter := from == u.router.addr
	s.mu.Unlock()
	heard := fromRouter && s.heardRouter(u, from, src)
	if target == u.linkLocal || target == s.cfg.NodeIP || s.cfg.Guests.HasUnderlay(target) {
		return s.send(u.Port, neighbourAdvertisement(u.MAC, target, src, from, flagOverride))
	}
	return heard
}

// wireEcho answers pings of the node, and takes answers to our own.
func (s *SlowPath) wireEcho(u *uplink, p *parser, src wire.MAC) (used bool) {
	to := addr(p.ip6.DstIP)
	if to != u.linkLocal && to != s.cfg.NodeIP {
		return false
	}
	if s.send(u.Port, p.echoReply6(u.MAC, src)) {
		return true
	}
	return p.icmp6.TypeCode == layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0) &&
		bytes.Equal(p.echoBody6(), s.nonce[:]) &&
		s.heardRouter(u, addr(p.ip6.SrcIP), src)
}

// askForRouters asks on all uplinks where it is for the SlowPath to know.
func (s *SlowPath) askForRouters() {
	for _, u := range s.uplinks {
		s.askForRouter(u)
	}
}

// askForRouter ends a round of soliciting an uplink's router and starts the next.
func (s *SlowPath) askForRouter(u *uplink) {
	if !s.cfg.FindsRouter(u.Port) {
		return
	}
	round := s.nextRound(u)
	s.send(u.Port, icmp6(u.MAC, multicastMAC(allRouters), u.linkLocal, allRouters, layers.ICMPv6TypeEchoRequest,
		&layers.ICMPv6Echo{SeqNumber: round}, gopacket.Payload(s.nonce[:])))
	if round%2 == 1 { // for routers that do not answer pings
		s.send(u.Port, routerSolicitation(u.MAC, u.linkLocal))
	}
}

func (s *SlowPath) nextRound(u *uplink) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &u.router
	if !r.heard && r.other.addr.IsValid() {
		r.suspect(r.other)
	}
	r.heard, r.other = false, station{}
	r.rounds++
	return r.rounds
}

// heardRouter takes a router's sign of life, and reports whether it is one. Anybody can send one, and whom it is about
// gets all that leaves by the uplink: so neither another MAC of the router in use nor another router is believed unless
// the one that is known is silent to probes.
func (s *SlowPath) heardRouter(u *uplink, ip netip.Addr, mac wire.MAC) bool {
	if !s.cfg.FindsRouter(u.Port) || !ip.IsLinkLocalUnicast() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &u.router
	switch {
	case !r.addr.IsValid() || r.addr == ip && r.mac == mac:
		s.setRouter(u, ip, mac)
		r.heard = true
	case r.addr == ip:
		r.suspect(station{ip, mac})
	default:
		r.other = station{ip, mac}
	}
	return true
}

// suspect starts to probe the router, unless it is being probed. Only the first claim counts: later ones do not restart
// the probes.
func (r *router) suspect(claim station) {
	if !r.claim.addr.IsValid() {
		r.claim, r.probes = claim, 0
	}
}

// probeRouters continues the probes of routers that another station claims to be. If the router stays silent, the claim
// is accepted.
func (s *SlowPath) probeRouters() {
	for _, u := range s.uplinks {
		if probe := s.nextProbe(u); probe != nil {
			s.send(u.Port, probe)
		}
	}
}

// nextProbe is the frame that asks an uplink's router itself for a sign of life; nil: none is due.
func (s *SlowPath) nextProbe(u *uplink) []byte {
	finds := s.cfg.FindsRouter(u.Port) // calls another package, so before the lock
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &u.router
	if !finds {
		r.claim = station{}
	}
	if !r.claim.addr.IsValid() {
		return nil
	}
	if r.probes == probes {
		s.cfg.Log.Warn("an uplink's router is silent: another MAC is followed", "port", u.Port, "address", r.addr, "mac",
			r.mac,
			"new_address", r.claim.addr, "new_mac", r.claim.mac)
		s.setRouter(u, r.claim.addr, r.claim.mac)
		r.claim, r.heard = station{}, true
		return nil
	}
	r.probes++
	return icmp6(u.MAC, r.mac, u.linkLocal, r.addr, layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{
			TargetAddress: r.addr.AsSlice(), Options: linkLayer(layers.ICMPv6OptSourceAddress, u.MAC),
		})
}

// wireAdvertises takes the known router's answer to a probe: it is where it was.
func (s *SlowPath) wireAdvertises(u *uplink, p *parser, src wire.MAC) (used bool) {
	if p.ip6.HopLimit != hopLimit || addr(p.ip6.DstIP) != u.linkLocal {
		return false
	}
	claim, ok := s.dismissClaim(u, addr(p.na.TargetAddress), src)
	if ok && s.due(s.warned, u.Port, warnPeriod) {
		s.cfg.Log.Warn("a station claims to be an uplink's router, which is alive where it was", "port", u.Port, "address",
			claim.addr,
			"mac", claim.mac, "router_mac", src)
	}
	return ok
}

// dismissClaim ends probing an uplink's router, if it is the one with this address and MAC, and was probed.
func (s *SlowPath) dismissClaim(u *uplink, ip netip.Addr, mac wire.MAC) (dismissed station, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &u.router
	if r.probes == 0 || !r.claim.addr.IsValid() || r.addr != ip || r.mac != mac {
		return station{}, false
	}
	dismissed, r.claim, r.probes = r.claim, station{}, 0
	r.heard = true
	return dismissed, true
}

// setRouter reports the router if its MAC has changed. It is called with the lock held, so that reports come in order.
func (s *SlowPath) setRouter(u *uplink, ip netip.Addr, mac wire.MAC) {
	changed := u.router.mac != mac
	u.router.addr, u.router.mac = ip, mac
	if !changed {
		return
	}
	if ip.IsValid() {
		s.cfg.Log.Info("found an uplink's router", "port", u.Port, "address", ip, "mac", mac)
	}
	s.cfg.OnRouter(u.Port, mac)
}

// LinkChanged takes note of an uplink's link. Without it the router is forgotten; a new link may lead to another, or to
// one that is not ready yet, so it is asked for at once.
func (s *SlowPath) LinkChanged(port uint16, up bool) {
	u := s.uplinks[port]
	if up {
		s.askForRouter(u)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setRouter(u, netip.Addr{}, wire.MAC{})
	u.router = router{rounds: u.router.rounds}
}
