// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/vnet"
	"dpservice/wire"
)

const (
	uplinkPort  = 0
	uplink1Port = 1
	guestPort   = 5
)

var (
	uplinkMAC  = wire.MAC{2, 0, 0, 0, 0, 0xf0}
	uplink1MAC = wire.MAC{2, 0, 0, 0, 0, 0xf1}
	gatewayMAC = wire.MAC{2, 0, 0, 0, 0, 0xa0}
	guestMAC   = wire.MAC{2, 0, 0, 0, 0, 0xa1}
	routerMAC  = wire.MAC{2, 0, 0, 0, 0, 0xee}
	gatewayULA = netip.MustParseAddr("fd99::64")
	nodeIP     = netip.MustParseAddr("fc00:1::1")
	guestIPv4  = netip.MustParseAddr("10.0.0.1")
	guestIPv6  = netip.MustParseAddr("fd00::1")
	underlay   = netip.MustParseAddr("fc00:1::1:1")
	routerIP   = netip.MustParseAddr("fe80::ee")
	peerIPv4   = netip.MustParseAddr("10.0.0.2")
	peerIPv6   = netip.MustParseAddr("fd00::2")
)

// world is everything around a SlowPath: one guest, a clock that the test moves, and what was sent and reported.
type world struct {
	guest   vnet.Attachment
	sent    []sent
	routers []wire.MAC // PF0's
	on1     []wire.MAC // PF1's
	known   bool       // the routers, by somebody else
	now     time.Time
}

type sent struct {
	port  uint16
	frame []byte
}

func (w *world) OnPort(id uint16) (vnet.Attachment, bool) { return w.guest, id == guestPort }
func (w *world) Attachments() []vnet.Attachment           { return []vnet.Attachment{w.guest} }
func (w *world) HasUnderlay(ip netip.Addr) bool           { return ip == underlay }
func (w *world) LearnMAC(_ uint16, mac wire.MAC) error {
	w.guest.GuestMAC = mac
	return nil
}

func newWorld() (*SlowPath, *world) {
	w := &world{now: time.Unix(1e9, 0), guest: vnet.Attachment{
		Interface:  vnet.Interface{ID: "vm-1", Port: guestPort, IPv4: guestIPv4, IPv6: guestIPv6, UnderlayIP: underlay},
		GatewayMAC: gatewayMAC, GatewayIPv6: gatewayULA,
	}}
	return New(Config{
		Guests: w, Network: testNetwork, Uplinks: []Uplink{{uplinkPort, uplinkMAC}, {uplink1Port, uplink1MAC}},
		NodeIP: nodeIP,
		Send: func(port uint16, frame []byte) error {
			w.sent = append(w.sent, sent{port, frame})
			return nil
		},
		FindsRouter: func(uint16) bool { return !w.known },
		OnRouter: func(port uint16, mac wire.MAC) {
			if port == uplinkPort {
				w.routers = append(w.routers, mac)
			} else {
				w.on1 = append(w.on1, mac)
			}
		},
		Now: func() time.Time { return w.now },
		Log: slog.New(slog.DiscardHandler),
	}), w
}

// reply returns the only frame that was sent, taken apart.
func (w *world) reply(t *testing.T, port uint16) *parser {
	t.Helper()
	require.Len(t, w.sent, 1)
	assert.Equal(t, port, w.sent[0].port)
	return decode(t, w.sent[0].frame)
}

func decode(t *testing.T, frame []byte) *parser {
	t.Helper()
	p := newParser()
	require.NotEqual(t, gopacket.LayerTypeZero, p.parse(frame))
	return p
}

func solicit(mac wire.MAC, from, target netip.Addr) []byte {
	return neighbourSolicitation(mac, from, target)
}

func TestARP(t *testing.T) {
	none := netip.IPv4Unspecified()
	tests := map[string]struct {
		sender, target netip.Addr
		answered       bool
	}{
		"gateway":            {guestIPv4, gatewayIPv4, true},
		"neighbour by proxy": {guestIPv4, peerIPv4, true},
		"own address":        {guestIPv4, guestIPv4, false},
		"probe of own":       {none, guestIPv4, false},
		"probe of another's": {none, peerIPv4, false},
		"probe of gateway's": {none, gatewayIPv4, true},
		"probe, link-local":  {none, netip.MustParseAddr("169.254.77.5"), false},
		"link-local":         {guestIPv4, netip.MustParseAddr("169.254.77.5"), false},
		"loopback":           {guestIPv4, netip.MustParseAddr("127.0.0.1"), false},
		"reserved":           {guestIPv4, netip.MustParseAddr("240.0.0.1"), false},
		"this network":       {guestIPv4, netip.MustParseAddr("0.0.0.5"), false},
		"broadcast":          {guestIPv4, netip.MustParseAddr("255.255.255.255"), false},
		"unspecified":        {guestIPv4, none, false},
		"announcement":       {peerIPv4, peerIPv4, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, w := newWorld()
			s.Handle(guestPort, arpRequest(guestMAC, tt.sender, tt.target))
			if !tt.answered {
				assert.Empty(t, w.sent)
				return
			}
			p := w.reply(t, guestPort)
			assert.Equal(t, uint16(layers.ARPReply), p.arp.Operation)
			assert.Equal(t, gatewayMAC[:], []byte(p.eth.SrcMAC))
			assert.Equal(t, guestMAC[:], []byte(p.eth.DstMAC))
			assert.Equal(t, gatewayMAC[:], p.arp.SourceHwAddress)
			assert.Equal(t, tt.target.AsSlice(), p.arp.SourceProtAddress)
			assert.Equal(t, guestMAC[:], p.arp.DstHwAddress)
			assert.Equal(t, tt.sender.AsSlice(), p.arp.DstProtAddress)
		})
	}
}

func TestGuestSolicitations(t *testing.T) {
	none := netip.IPv6Unspecified()
	linkLocal := netip.MustParseAddr("fe80::a1")
	tests := map[string]struct {
		from, target netip.Addr
		flags        uint8 // of the answer; 0: there is none
		to           netip.Addr
	}{
		"gateway":                  {linkLocal, gatewayIPv6, flagRouter | flagSolicited | flagOverride, linkLocal},
		"gateway's other address":  {linkLocal, gatewayULA, flagRouter | flagSolicited | flagOverride, linkLocal},
		"is that free":             {none, gatewayULA, flagRouter | flagOverride, allNodes},
		"neighbour by proxy":       {guestIPv6, peerIPv6, flagRouter | flagSolicited, guestIPv6},
		"own address":              {linkLocal, guestIPv6, 0, none},
		"is own free":              {none, guestIPv6, 0, none},
		"is link-local free":       {none, linkLocal, 0, none},
		"is the gateway's free":    {none, gatewayIPv6, flagRouter | flagOverride, allNodes},
		"another's link-local":     {linkLocal, netip.MustParseAddr("fe80::77"), 0, none},
		"is another global's free": {none, peerIPv6, 0, none},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, w := newWorld()
			s.Handle(guestPort, solicit(guestMAC, tt.from, tt.target))
			if tt.flags == 0 {
				assert.Empty(t, w.sent)
				return
			}
			p := w.reply(t, guestPort)
			assert.Equal(t, tt.flags, p.na.Flags)
			assert.Equal(t, tt.target.AsSlice(), []byte(p.na.TargetAddress))
			assert.Equal(t, tt.target, addr(p.ip6.SrcIP))
			assert.Equal(t, tt.to, addr(p.ip6.DstIP))
			assert.Equal(t, uint8(hopLimit), p.ip6.HopLimit)
			assert.Equal(t, gatewayMAC[:], p.na.Options[0].Data)
			assert.Equal(t, layers.ICMPv6OptTargetAddress, p.na.Options[0].Type)
		})
	}
}

func TestGatewayAnswersPings(t *testing.T) {
	echo4 := func(dst netip.Addr, flags layers.IPv4Flag) []byte {
		return build(
			&layers.Ethernet{SrcMAC: guestMAC[:], DstMAC: gatewayMAC[:], EthernetType: layers.EthernetTypeIPv4},
			&layers.IPv4{
				Version: 4, TTL: 64, Flags: flags, Protocol: layers.IPProtocolICMPv4, SrcIP: guestIPv4.AsSlice(),
				DstIP: dst.AsSlice(),
			},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7, Seq: 9},
			gopacket.Payload("abc"))
	}
	s, w := newWorld()
	s.Handle(guestPort, echo4(gatewayIPv4, 0))
	p := w.reply(t, guestPort)
	assert.Equal(t, uint8(layers.ICMPv4TypeEchoReply), p.icmp4.TypeCode.Type())
	assert.Equal(t, []uint16{7, 9}, []uint16{p.icmp4.Id, p.icmp4.Seq})
	assert.Equal(t, "abc", string(p.icmp4.Payload))
	assert.Equal(t, guestIPv4, addr(p.ip4.DstIP))
	assert.Equal(t, guestMAC, w.guest.GuestMAC, "learned from any frame while unknown")

	s, w = newWorld()
	s.Handle(guestPort, echo4(peerIPv4, 0))
	s.Handle(guestPort, echo4(gatewayIPv4, layers.IPv4MoreFragments))
	assert.Empty(t, w.sent)

	ping6 := func(dst netip.Addr) []byte {
		return icmp6(guestMAC, gatewayMAC, guestIPv6, dst, layers.ICMPv6TypeEchoRequest,
			&layers.ICMPv6Echo{Identifier: 1, SeqNumber: 2}, gopacket.Payload("xy"))
	}
	s.Handle(guestPort, ping6(peerIPv6))
	assert.Empty(t, w.sent)
	for _, gateway := range []netip.Addr{gatewayIPv6, gatewayULA} {
		w.sent = nil
		s.Handle(guestPort, ping6(gateway))
		p = w.reply(t, guestPort)
		assert.Equal(t, uint8(layers.ICMPv6TypeEchoReply), p.icmp6.TypeCode.Type())
		assert.Equal(t, gateway, addr(p.ip6.SrcIP))
		assert.Equal(t, "xy", string(p.echoBody6()))
	}
}

func TestLearning(t *testing.T) {
	moved := wire.MAC{2, 0, 0, 0, 0, 0xa2}
	s, w := newWorld()
	s.Handle(guestPort, arpRequest(guestMAC, guestIPv4, gatewayIPv4))
	assert.Equal(t, guestMAC, w.guest.GuestMAC)

	s.Handle(guestPort, solicit(moved, guestIPv6, gatewayIPv6))
	assert.Equal(t, guestMAC, w.guest.GuestMAC, "not twice within a second")
	w.now = w.now.Add(movePeriod)
	s.Handle(guestPort, solicit(moved, netip.MustParseAddr("fe80::9"), gatewayIPv6))
	assert.Equal(t, guestMAC, w.guest.GuestMAC, "only by the guest's own address once it is known")
	s.Handle(guestPort, solicit(moved, guestIPv6, gatewayIPv6))
	assert.Equal(t, moved, w.guest.GuestMAC)

	w.now = w.now.Add(movePeriod)
	s.Handle(guestPort, neighbourAdvertisement(guestMAC, guestIPv6, gatewayMAC, gatewayIPv6, 0))
	assert.Equal(t, guestMAC, w.guest.GuestMAC)
}

func TestNothingIsLearnedFromImpossibleSources(t *testing.T) {
	for _, mac := range []wire.MAC{{}, broadcast, {0x33, 0x33}, gatewayMAC} {
		s, w := newWorld()
		s.Handle(guestPort, arpRequest(mac, guestIPv4, gatewayIPv4))
		s.Handle(guestPort, solicit(mac, guestIPv6, gatewayIPv6))
		assert.Zero(t, w.guest.GuestMAC)
		assert.Empty(t, w.sent)
	}
}

func TestSolicitGuestsUntilKnown(t *testing.T) {
	s, w := newWorld()
	s.SolicitGuests()
	require.Len(t, w.sent, 2)
	arp, ns := decode(t, w.sent[0].frame), decode(t, w.sent[1].frame)
	assert.Equal(t, gatewayIPv4.AsSlice(), arp.arp.SourceProtAddress)
	assert.Equal(t, guestIPv4.AsSlice(), arp.arp.DstProtAddress)
	assert.Equal(t, gatewayIPv6, addr(ns.ip6.SrcIP))
	assert.Equal(t, "ff02::1:ff00:1", addr(ns.ip6.DstIP).String())
	assert.Equal(t, []byte{0x33, 0x33, 0xff, 0, 0, 1}, []byte(ns.eth.DstMAC))

	w.sent = nil
	w.guest.GuestMAC = guestMAC
	s.SolicitGuests()
	assert.Len(t, w.sent, 2)
	s.SolicitGuests()
	assert.Len(t, w.sent, 2, "a known guest is asked now and then only")
	w.now = w.now.Add(refreshPeriod)
	s.SolicitGuests()
	assert.Len(t, w.sent, 4)
}

func TestAGuestWithAnotherMACIsAsked(t *testing.T) {
	s, w := newWorld()
	w.guest.GuestMAC = guestMAC
	moved := wire.MAC{2, 0, 0, 0, 0, 0xa2}
	hello := icmp6(moved, multicastMAC(allRouters), netip.MustParseAddr("fe80::a2"), allRouters,
		layers.ICMPv6TypeEchoRequest,
		&layers.ICMPv6Echo{})
	s.Handle(guestPort, hello)
	s.Handle(guestPort, hello)
	assert.Len(t, w.sent, 2, "once by ARP and by neighbour discovery, not for each frame")
	assert.Equal(t, guestMAC, w.guest.GuestMAC)
	s.Handle(guestPort, arpReply(moved, guestIPv4, gatewayMAC, gatewayIPv4))
	assert.Equal(t, moved, w.guest.GuestMAC)
}

// A guest whose MAC has changed in place is believed by any packet of its own.
func TestAGuestMovesByAnyPacket(t *testing.T) {
	for name, from := range map[string]netip.Addr{"IPv4": guestIPv4, "IPv6": guestIPv6, "not its own": peerIPv6} {
		t.Run(name, func(t *testing.T) {
			s, w := newWorld()
			w.guest.GuestMAC = guestMAC
			moved, again := wire.MAC{2, 0, 0, 0, 0, 0xa2}, wire.MAC{2, 0, 0, 0, 0, 0xa3}
			s.Handle(guestPort, guestDatagram(moved, from))
			if from == peerIPv6 {
				assert.Equal(t, guestMAC, w.guest.GuestMAC)
				return
			}
			assert.Equal(t, moved, w.guest.GuestMAC)
			s.Handle(guestPort, guestDatagram(again, from))
			assert.Equal(t, moved, w.guest.GuestMAC, "not twice within a second")
			w.now = w.now.Add(movePeriod)
			s.Handle(guestPort, guestDatagram(again, from))
			assert.Equal(t, again, w.guest.GuestMAC)
			assert.Empty(t, w.sent, "nobody had to be asked")

			s.Handle(guestPort, guestDatagram(moved, from))
			s.SolicitGuests()
			assert.Len(t, w.sent, 2, "asked soon, as it may be silent now")
		})
	}
}

// guestDatagram is one to another guest.
func guestDatagram(mac wire.MAC, from netip.Addr) []byte {
	if from.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(),
			DstIP: peerIPv4.AsSlice()}
		return datagram(mac, gatewayMAC, ip, 1, 2, nil)
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.AsSlice(),
		DstIP: peerIPv6.AsSlice()}
	return datagram(mac, gatewayMAC, ip, 1, 2, nil)
}

func TestUplinkAnswersForItsAddresses(t *testing.T) {
	linkLocal := netip.MustParseAddr("fe80::ff:fe00:f0")
	for target, answered := range map[netip.Addr]bool{
		nodeIP: true, underlay: true, linkLocal: true,
		netip.MustParseAddr("fc00:1::99"): false, gatewayIPv6: false, guestIPv6: false,
	} {
		s, w := newWorld()
		s.Handle(uplinkPort, solicit(routerMAC, routerIP, target))
		if !answered {
			assert.Empty(t, w.sent, target)
			continue
		}
		p := w.reply(t, uplinkPort)
		assert.Equal(t, target.AsSlice(), []byte(p.na.TargetAddress))
		assert.Equal(t, uplinkMAC[:], p.na.Options[0].Data)
		assert.Equal(t, uint8(flagSolicited|flagOverride), p.na.Flags)
		assert.Equal(t, routerMAC[:], []byte(p.eth.DstMAC))
	}
}

func TestNodeAnswersPings(t *testing.T) {
	s, w := newWorld()
	s.Handle(uplinkPort, icmp6(routerMAC, uplinkMAC, routerIP, nodeIP, layers.ICMPv6TypeEchoRequest,
		&layers.ICMPv6Echo{Identifier: 1, SeqNumber: 2}))
	assert.Equal(t, nodeIP, addr(w.reply(t, uplinkPort).ip6.SrcIP))
}

// router is the MAC that was reported last for PF0's router.
func (w *world) router() wire.MAC { return w.routers[len(w.routers)-1] }

// answer takes an echo request that the SlowPath has sent on PF0, and answers it as a router.
func (w *world) answer(t *testing.T, s *SlowPath, ip netip.Addr, mac wire.MAC) {
	t.Helper()
	w.answerOn(t, s, Uplink{uplinkPort, uplinkMAC}, ip, mac)
}

func (w *world) answerOn(t *testing.T, s *SlowPath, u Uplink, ip netip.Addr, mac wire.MAC) {
	t.Helper()
	for _, f := range w.sent {
		p := decode(t, f.frame)
		if f.port != u.Port || p.icmp6.TypeCode.Type() != layers.ICMPv6TypeEchoRequest {
			continue
		}
		assert.Equal(t, "ff02::2", addr(p.ip6.DstIP).String())
		assert.Equal(t, u.MAC[:], []byte(p.eth.SrcMAC))
		s.Handle(u.Port, icmp6(mac, u.MAC, ip, addr(p.ip6.SrcIP), layers.ICMPv6TypeEchoReply,
			&layers.ICMPv6Echo{SeqNumber: p.echo6.SeqNumber}, gopacket.Payload(p.echoBody6())))
		return
	}
	t.Fatal("no echo request was sent")
}

func advertisement(mac wire.MAC, ip netip.Addr, lifetime uint16) []byte {
	return icmp6(mac, multicastMAC(allNodes), ip, allNodes, layers.ICMPv6TypeRouterAdvertisement,
		&layers.ICMPv6RouterAdvertisement{RouterLifetime: lifetime})
}

// probed takes the neighbour solicitations that the SlowPath has sent to a router itself.
func (w *world) probed(t *testing.T, ip netip.Addr, mac wire.MAC) (n int) {
	t.Helper()
	for _, f := range w.sent {
		p := decode(t, f.frame)
		if p.icmp6.TypeCode.Type() != layers.ICMPv6TypeNeighborSolicitation {
			continue
		}
		n++
		assert.EqualValues(t, uplinkPort, f.port)
		assert.Equal(t, mac[:], []byte(p.eth.DstMAC))
		assert.Equal(t, ip, addr(p.ip6.DstIP))
		assert.Equal(t, ip, addr(p.ns.TargetAddress))
		assert.Equal(t, eui64(uplinkMAC), addr(p.ip6.SrcIP))
	}
	w.sent = nil
	return n
}

var newMAC = wire.MAC{2, 0, 0, 0, 0, 0xef}

// alive is the router's answer to a probe.
func alive(mac wire.MAC, ip netip.Addr) []byte {
	return neighbourAdvertisement(mac, ip, uplinkMAC, eui64(uplinkMAC), flagRouter)
}

func TestRouterIsFoundAndFollowed(t *testing.T) {
	s, w := newWorld()
	s.askForRouters()
	w.answer(t, s, routerIP, routerMAC)
	assert.Equal(t, []wire.MAC{routerMAC}, w.routers)
	assert.Equal(t, routerMAC, w.router())
	s.askForRouters()
	w.answer(t, s, routerIP, routerMAC)
	assert.Len(t, w.routers, 1, "nothing is reported")
	s.probeRouters()
	assert.Zero(t, w.probed(t, routerIP, routerMAC), "nobody claims anything")

	s.askForRouters()
	w.answer(t, s, routerIP, newMAC)
	for range probes {
		s.probeRouters()
		assert.Equal(t, 1, w.probed(t, routerIP, routerMAC))
		assert.Equal(t, routerMAC, w.router(), "it may yet answer")
	}
	s.probeRouters()
	assert.Equal(t, []wire.MAC{routerMAC, newMAC}, w.routers)
	s.probeRouters()
	s.Handle(uplinkPort, alive(routerMAC, routerIP))
	assert.Equal(t, newMAC, w.router(), "too late")
	assert.Zero(t, w.probed(t, routerIP, routerMAC))
}

// One that is alive keeps its place, whoever claims it, by whatever, and however often.
func TestAClaimIsNotFollowedWhileTheRouterAnswers(t *testing.T) {
	claims := map[string]func(s *SlowPath, w *world){
		"router advertisement":   func(s *SlowPath, _ *world) { s.Handle(uplinkPort, advertisement(newMAC, routerIP, 1800)) },
		"neighbour solicitation": func(s *SlowPath, _ *world) { s.Handle(uplinkPort, solicit(newMAC, routerIP, nodeIP)) },
		"answer to a ping":       func(s *SlowPath, w *world) { s.askForRouters(); w.answer(t, s, routerIP, newMAC) },
	}
	for name, claim := range claims {
		t.Run(name, func(t *testing.T) {
			s, w := newWorld()
			var log bytes.Buffer
			w.now = time.Unix(1000, 0)
			s.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			s.askForRouters()
			w.answer(t, s, routerIP, routerMAC)
			for range 5 {
				claim(s, w)
				s.probeRouters()
				for _, lie := range [][]byte{alive(newMAC, routerIP), alive(routerMAC, nodeIP),
					neighbourAdvertisement(routerMAC, routerIP, uplinkMAC, nodeIP, 0)} {
					s.Handle(uplinkPort, lie)
				}
				claim(s, w)
				s.probeRouters()
				s.Handle(uplinkPort, alive(routerMAC, routerIP))
				for range 2 * probes {
					s.probeRouters()
				}
				assert.Equal(t, 2, w.probed(t, routerIP, routerMAC))
			}
			assert.Equal(t, []wire.MAC{routerMAC}, w.routers)
			assert.Equal(t, 1, strings.Count(log.String(), "claims to be"), "said once in a while")
		})
	}
}

// An answer that no probe has asked for says nothing about the next claim, and somebody else's knowledge ends probing.
func TestProbingAnew(t *testing.T) {
	s, w := newWorld()
	s.askForRouters()
	w.answer(t, s, routerIP, routerMAC)
	s.Handle(uplinkPort, advertisement(newMAC, routerIP, 1800))
	s.Handle(uplinkPort, alive(routerMAC, routerIP))
	w.sent = nil
	s.probeRouters()
	assert.Equal(t, 1, w.probed(t, routerIP, routerMAC))
	w.known = true
	s.probeRouters()
	w.known = false
	for range 2 * probes {
		s.probeRouters()
	}
	assert.Zero(t, w.probed(t, routerIP, routerMAC))
	assert.Equal(t, []wire.MAC{routerMAC}, w.routers)
}

func TestAnotherRouterTakesOverWhenTheFirstIsSilent(t *testing.T) {
	s, w := newWorld()
	otherIP, otherMAC := netip.MustParseAddr("fe80::ef"), wire.MAC{2, 0, 0, 0, 0, 0xef}
	s.askForRouters()
	w.answer(t, s, routerIP, routerMAC)
	for range 3 {
		s.askForRouters()
		w.answer(t, s, otherIP, otherMAC)
		w.answer(t, s, routerIP, routerMAC)
		s.probeRouters()
		assert.Equal(t, routerMAC, w.router())
	}
	s.askForRouters()
	w.answer(t, s, otherIP, otherMAC)
	s.askForRouters()
	w.sent = nil
	for range probes {
		s.probeRouters()
	}
	assert.Equal(t, probes, w.probed(t, routerIP, routerMAC))
	assert.Equal(t, []wire.MAC{routerMAC}, w.routers)
	s.probeRouters()
	assert.Equal(t, []wire.MAC{routerMAC, otherMAC}, w.routers)
}

func TestRouterByAdvertisement(t *testing.T) {
	s, w := newWorld()
	s.Handle(uplinkPort, advertisement(routerMAC, routerIP, 0))
	assert.Empty(t, w.routers, "a router that is none")
	s.Handle(uplinkPort, advertisement(routerMAC, nodeIP, 1800))
	assert.Empty(t, w.routers, "not from a link-local address")
	s.Handle(uplinkPort, advertisement(routerMAC, routerIP, 1800))
	assert.Equal(t, []wire.MAC{routerMAC}, w.routers)
}

func TestRepliesToOthersAreNotBelieved(t *testing.T) {
	s, w := newWorld()
	s.askForRouters()
	s.Handle(uplinkPort, icmp6(routerMAC, uplinkMAC, routerIP, eui64(uplinkMAC), layers.ICMPv6TypeEchoReply,
		&layers.ICMPv6Echo{SeqNumber: 1}, gopacket.Payload("12345678")))
	assert.Empty(t, w.routers)
}

func TestNDFromAfarIsNotBelieved(t *testing.T) {
	far := func(frame []byte) []byte {
		frame[14+7] = hopLimit - 1
		return frame
	}
	s, w := newWorld()
	s.Handle(uplinkPort, far(advertisement(routerMAC, routerIP, 1800)))
	s.Handle(uplinkPort, far(solicit(routerMAC, routerIP, nodeIP)))
	s.Handle(guestPort, far(solicit(guestMAC, guestIPv6, gatewayIPv6)))
	assert.Empty(t, w.routers)
	assert.Empty(t, w.sent)
}

// Every frame that comes in is counted, once.
func TestEveryFrameIsCounted(t *testing.T) {
	broken := solicit(guestMAC, guestIPv6, gatewayIPv6)
	broken[len(broken)-1] ^= 1
	lifeless := arpRequest(guestMAC, guestIPv4, gatewayIPv4)[:20]
	fromAfar := solicit(routerMAC, routerIP, nodeIP)
	fromAfar[21] = 64
	for name, c := range map[string]struct {
		port  uint16
		frame []byte
		want  Outcome
	}{
		"answered":            {guestPort, arpRequest(guestMAC, guestIPv4, gatewayIPv4), Used},
		"a probe, left alone": {guestPort, arpRequest(guestMAC, netip.IPv4Unspecified(), peerIPv4), Ignored},
		"a reply":             {guestPort, arpReply(guestMAC, guestIPv4, gatewayMAC, gatewayIPv4), Ignored},
		"another MAC": {guestPort, arpReply(wire.MAC{2, 0, 0, 0, 0, 0xa2}, guestIPv4, gatewayMAC, gatewayIPv4),
			Used},
		"a broken checksum":      {guestPort, broken, Malformed},
		"cut short":              {guestPort, lifeless, Malformed},
		"nothing":                {guestPort, nil, Malformed},
		"from the gateway's MAC": {guestPort, arpRequest(gatewayMAC, guestIPv4, gatewayIPv4), Malformed},
		"no interface":           {guestPort + 1, arpRequest(guestMAC, guestIPv4, gatewayIPv4), Ignored},
		"wire: answered":         {uplinkPort, solicit(routerMAC, routerIP, nodeIP), Used},
		"wire: not for us":       {uplinkPort, solicit(routerMAC, routerIP, guestIPv6), Ignored},
		"wire: from afar":        {uplinkPort, fromAfar, Ignored},
		"wire: a router": {uplinkPort, icmp6(routerMAC, uplinkMAC, routerIP, allNodes,
			layers.ICMPv6TypeRouterAdvertisement, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 9}), Used},
		"wire: a router that ends": {uplinkPort, icmp6(routerMAC, uplinkMAC, routerIP, allNodes,
			layers.ICMPv6TypeRouterAdvertisement, &layers.ICMPv6RouterAdvertisement{}), Ignored},
		"wire: a router unasked": {uplinkPort, alive(routerMAC, routerIP), Ignored},
		"wire: ARP":              {uplinkPort, arpRequest(routerMAC, peerIPv4, guestIPv4), Ignored},
	} {
		s, w := newWorld()
		w.guest.GuestMAC = guestMAC
		s.Handle(c.port, c.frame)
		want := [numOutcomes]uint64{}
		want[c.want] = 1
		assert.Equal(t, want, s.Counts(), name)
	}

	s, w := newWorld()
	s.Handle(uplinkPort, advertisement(routerMAC, routerIP, 1800))
	s.Handle(uplinkPort, advertisement(newMAC, routerIP, 1800))
	s.probeRouters()
	require.Equal(t, 1, w.probed(t, routerIP, routerMAC))
	s.Handle(uplinkPort, alive(routerMAC, routerIP))
	assert.Equal(t, [numOutcomes]uint64{Used: 3}, s.Counts(), "an answer to a probe")

	s, _ = newWorld()
	s.cfg.Send = func(uint16, []byte) error { return errors.New("no room") }
	s.Handle(guestPort, arpRequest(guestMAC, guestIPv4, gatewayIPv4))
	assert.Equal(t, [numOutcomes]uint64{Used: 1, Unsent: 1}, s.Counts())
}

func TestABrokenChecksumIsNotAnswered(t *testing.T) {
	s, w := newWorld()
	frame := solicit(routerMAC, routerIP, nodeIP)
	frame[len(frame)-1] ^= 1
	s.Handle(uplinkPort, frame)
	assert.Empty(t, w.sent)
}

// Where somebody else knows the routers, nobody is asked and nobody is believed.
func TestRoutersKnownOtherwise(t *testing.T) {
	s, w := newWorld()
	w.known = true
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Run(ctx)
	s.Handle(uplinkPort, advertisement(wire.MAC{2, 9}, routerIP, 1800))
	s.LinkChanged(uplinkPort, true)
	assert.Empty(t, w.routers)
	assert.Empty(t, w.sent, "nobody is asked")
	s.Handle(uplinkPort, solicit(routerMAC, routerIP, nodeIP))
	assert.Len(t, w.sent, 1, "but the neighbours are answered")
}

// Each uplink has its router, even if these have the same address, as link-local ones may.
func TestEachUplinkHasItsRouter(t *testing.T) {
	s, w := newWorld()
	router1MAC := wire.MAC{2, 0, 0, 0, 1, 0xee}
	s.askForRouters()
	w.answerOn(t, s, Uplink{uplink1Port, uplink1MAC}, routerIP, router1MAC)
	assert.Empty(t, w.routers)
	assert.Equal(t, []wire.MAC{router1MAC}, w.on1)
	w.answer(t, s, routerIP, routerMAC)
	assert.Equal(t, []wire.MAC{routerMAC}, w.routers)
	assert.Equal(t, []wire.MAC{router1MAC}, w.on1)

	w.sent = nil
	s.Handle(uplink1Port, solicit(router1MAC, routerIP, underlay))
	p := w.reply(t, uplink1Port)
	assert.Equal(t, uplink1MAC[:], p.na.Options[0].Data)
	assert.Equal(t, uplink1MAC[:], []byte(p.eth.SrcMAC))
	w.sent = nil
	s.Handle(uplink1Port, solicit(router1MAC, routerIP, eui64(uplinkMAC)))
	assert.Empty(t, w.sent, "the other uplink's own")
	s.Handle(uplink1Port, icmp6(router1MAC, uplink1MAC, routerIP, nodeIP, layers.ICMPv6TypeEchoRequest,
		&layers.ICMPv6Echo{Identifier: 1}))
	assert.Equal(t, nodeIP, addr(w.reply(t, uplink1Port).ip6.SrcIP))
}

// A router is forgotten with its link; behind the new one it is found at once, or another one.
func TestRouterIsForgottenWithItsLink(t *testing.T) {
	s, w := newWorld()
	s.askForRouters()
	w.answer(t, s, routerIP, routerMAC)
	s.LinkChanged(uplinkPort, false)
	assert.Equal(t, []wire.MAC{routerMAC, {}}, w.routers)
	assert.Empty(t, w.on1)
	s.LinkChanged(uplinkPort, false)
	assert.Len(t, w.routers, 2, "nothing is reported")
	w.sent = nil
	s.LinkChanged(uplinkPort, true)
	otherIP, otherMAC := netip.MustParseAddr("fe80::ef"), wire.MAC{2, 0, 0, 0, 0, 0xef}
	w.answer(t, s, otherIP, otherMAC)
	assert.Equal(t, []wire.MAC{routerMAC, {}, otherMAC}, w.routers)
}

// FuzzHandle feeds any bytes from both sides; whatever is answered must be sound frames, and few.
func FuzzHandle(f *testing.F) {
	f.Add(true, arpRequest(guestMAC, guestIPv4, gatewayIPv4))
	f.Add(true, solicit(guestMAC, guestIPv6, gatewayIPv6))
	f.Add(true, routerSolicit(guestLinkLocal))
	f.Add(true, bootDatagram(netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255"), 67, discover()))
	f.Add(true, bootDatagram(guestLinkLocal, netip.MustParseAddr("ff02::1:2"), 547, informationRequest()))
	f.Add(false, solicit(routerMAC, routerIP, nodeIP))
	f.Add(false, advertisement(routerMAC, routerIP, 1800))
	f.Add(false, icmp6(routerMAC, uplinkMAC, routerIP, nodeIP, layers.ICMPv6TypeEchoRequest, &layers.ICMPv6Echo{}))
	f.Fuzz(func(t *testing.T, guest bool, frame []byte) {
		s, w := newWorld()
		port := uint16(uplinkPort)
		if guest {
			port = guestPort
		}
		s.Handle(port, frame)
		if len(w.sent) > 3 { // two to ask a guest that seems to have moved
			t.Fatalf("%d answers to one frame", len(w.sent))
		}
		if mac := w.guest.GuestMAC; mac != (wire.MAC{}) && mac[0]&1 != 0 {
			t.Fatalf("learned the multicast MAC %s", mac)
		}
		for _, answer := range w.sent {
			if newParser().parse(answer.frame) == gopacket.LayerTypeZero {
				t.Fatalf("unsound answer %x", answer.frame)
			}
		}
	})
}
