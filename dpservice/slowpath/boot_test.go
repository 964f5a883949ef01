// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/vnet"
)

var (
	testNetwork = Network{
		DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")}, MTU: 1460, LeaseTime: time.Hour,
	}
	guestLinkLocal = netip.MustParseAddr("fe80::a1")
)

func routerSolicit(from netip.Addr) []byte { return routerSolicitation(guestMAC, from) }

func TestRouterSolicitationsAreAnswered(t *testing.T) {
	for from, to := range map[netip.Addr]netip.Addr{
		guestLinkLocal: guestLinkLocal, guestIPv6: guestIPv6, netip.IPv6Unspecified(): allNodes,
		peerIPv6: {},
	} {
		s, w := newWorld()
		s.Handle(guestPort, routerSolicit(from))
		if !to.IsValid() {
			assert.Empty(t, w.sent)
			continue
		}
		p := w.reply(t, guestPort)
		assert.Equal(t, to, addr(p.ip6.DstIP))
		assert.Equal(t, gatewayIPv6, addr(p.ip6.SrcIP))
		assert.Equal(t, uint8(hopLimit), p.ip6.HopLimit)
		assert.Equal(t, gatewayMAC[:], []byte(p.eth.SrcMAC))
		assert.Equal(t, uint8(flagManaged|flagOther), p.ra.Flags)
		assert.Equal(t, uint16(1800), p.ra.RouterLifetime)
		options := map[layers.ICMPv6Opt][]byte{}
		for _, o := range p.ra.Options {
			options[o.Type] = o.Data
		}
		assert.Equal(t, map[layers.ICMPv6Opt][]byte{
			layers.ICMPv6OptSourceAddress: gatewayMAC[:],
			layers.ICMPv6OptMTU:           {0, 0, 0, 0, 0x05, 0xb4},
			optRecursiveDNS:               append([]byte{0, 0, 0, 0, 0x07, 0x08}, testNetwork.DNS[1].AsSlice()...),
		}, options)
	}
}

func TestAdvertisementsUnasked(t *testing.T) {
	s, w := newWorld()
	advertisements := func() (n int) {
		for _, f := range w.sent {
			if decode(t, f.frame).has(layers.LayerTypeICMPv6RouterAdvertisement) {
				n++
			}
		}
		return n
	}
	s.Greet(guestPort)
	assert.Len(t, w.sent, 3, "asked for its MAC by ARP and by neighbour discovery, and told of its router")
	assert.Equal(t, 1, advertisements())
	s.Greet(uplinkPort)
	s.advertiseToGuests()
	s.advertiseToGuests()
	assert.Equal(t, 2, advertisements())
	w.now = w.now.Add(advertisePeriod)
	s.advertiseToGuests()
	assert.Equal(t, 3, advertisements())

	w.guest.IPv6, w.now = netip.Addr{}, w.now.Add(advertisePeriod)
	s.advertiseToGuests()
	s.Handle(guestPort, routerSolicit(guestLinkLocal))
	assert.Equal(t, 3, advertisements(), "a guest without an IPv6 address needs no router")
}

// bootDatagram is a UDP datagram from the guest.
func bootDatagram(from, to netip.Addr, port layers.UDPPort, payload []byte) []byte {
	if from.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
		return datagram(guestMAC, broadcast, ip, port+1, port, payload)
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolUDP, SrcIP: from.AsSlice(),
		DstIP: to.AsSlice()}
	return datagram(guestMAC, multicastMAC(to), ip, port-1, port, payload)
}

func discover() []byte {
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, ClientHWAddr: guestMAC[:], Xid: 77,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType,
			[]byte{byte(layers.DHCPMsgTypeDiscover)})},
	}
	return build(m)
}

func informationRequest() []byte {
	return build(&layers.DHCPv6{MsgType: layers.DHCPv6MsgTypeInformationRequest, TransactionID: []byte{1, 2, 3}})
}

func TestDHCP4(t *testing.T) {
	none, everybody := netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255")
	for name, tt := range map[string]struct {
		to       netip.Addr
		port     layers.UDPPort
		answered bool
	}{
		"broadcast":      {everybody, 67, true},
		"gateway":        {gatewayIPv4, 67, true},
		"another server": {peerIPv4, 67, false},
		"another port":   {everybody, 69, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := newWorld()
			w.guest.PXE, w.guest.Hostname = vnet.PXE{Server: "10.0.0.9", Filename: "pxelinux.0"}, "web"
			s.Handle(guestPort, bootDatagram(none, tt.to, tt.port, discover()))
			if !tt.answered {
				assert.Empty(t, w.sent)
				return
			}
			p := w.reply(t, guestPort)
			assert.Equal(t, guestMAC[:], []byte(p.eth.DstMAC))
			assert.Equal(t, gatewayIPv4, addr(p.ip4.SrcIP))
			assert.Equal(t, guestIPv4, addr(p.ip4.DstIP))
			assert.Equal(t, layers.UDPPort(68), p.udp.DstPort)
			var m layers.DHCPv4
			require.NoError(t, m.DecodeFromBytes(p.udp.Payload, gopacket.NilDecodeFeedback))
			assert.Equal(t, "10.0.0.1", m.YourClientIP.String())
			assert.Equal(t, "10.0.0.9", m.NextServerIP.String())
			assert.Contains(t, m.Options.String(), "Option(Hostname:web)")
			assert.Contains(t, m.Options.String(), "Option(DNS:[10 0 0 53])", "only name servers of the family")
		})
	}
	s, w := newWorld()
	w.guest.IPv4 = netip.Addr{}
	s.Handle(guestPort, bootDatagram(none, everybody, 67, discover()))
	assert.Empty(t, w.sent, "there is no address to give")
}

func TestDHCP6(t *testing.T) {
	servers := netip.MustParseAddr("ff02::1:2")
	for name, tt := range map[string]struct {
		from, to netip.Addr
		answered bool
	}{
		"group":               {guestLinkLocal, servers, true},
		"gateway":             {guestLinkLocal, gatewayIPv6, true},
		"another server":      {guestLinkLocal, peerIPv6, false},
		"not from link-local": {guestIPv6, servers, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := newWorld()
			w.guest.PXE = vnet.PXE{Server: "fd00::9", Filename: "boot.efi"}
			s.Handle(guestPort, bootDatagram(tt.from, tt.to, 547, informationRequest()))
			if !tt.answered {
				assert.Empty(t, w.sent)
				return
			}
			p := w.reply(t, guestPort)
			assert.Equal(t, guestMAC[:], []byte(p.eth.DstMAC))
			assert.Equal(t, gatewayIPv6, addr(p.ip6.SrcIP))
			assert.Equal(t, guestLinkLocal, addr(p.ip6.DstIP))
			assert.Equal(t, layers.UDPPort(546), p.udp.DstPort)
			var m layers.DHCPv6
			require.NoError(t, m.DecodeFromBytes(p.udp.Payload, gopacket.NilDecodeFeedback))
			assert.Contains(t, string(p.udp.Payload), "tftp://[fd00::9]/boot.efi")
			assert.Contains(t, string(p.udp.Payload), string(testNetwork.DNS[1].AsSlice()))
		})
	}
}
