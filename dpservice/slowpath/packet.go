// SPDX-License-Identifier: Apache-2.0

package slowpath

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"dpservice/dpservice/vnet"
	"dpservice/wire"
)

var (
	broadcast  = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// hopLimit is that of all neighbour discovery: a packet with less has passed a router.
const hopLimit = 255

// A parser takes frames apart. It keeps the layers it decodes into, and serves one goroutine.
type parser struct {
	eth   layers.Ethernet
	arp   layers.ARP
	ip4   layers.IPv4
	ip6   layers.IPv6
	icmp4 layers.ICMPv4
	icmp6 layers.ICMPv6
	echo6 layers.ICMPv6Echo
	ns    layers.ICMPv6NeighborSolicitation
	na    layers.ICMPv6NeighborAdvertisement
	rs    layers.ICMPv6RouterSolicitation
	ra    layers.ICMPv6RouterAdvertisement
	udp   layers.UDP
	rest  gopacket.Payload

	layers  *gopacket.DecodingLayerParser
	decoded []gopacket.LayerType
}

func newParser() *parser {
	p := &parser{}
	p.layers = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet,
		&p.eth, &p.arp, &p.ip4, &p.ip6, &p.icmp4, &p.icmp6, &p.echo6, &p.ns, &p.na, &p.rs, &p.ra, &p.udp, &p.rest)
	p.layers.IgnoreUnsupported = true
	return p
}

// parse decodes a frame and returns the innermost layer that is known: one of the parser's, or zero for a frame to be
// left alone.
func (p *parser) parse(frame []byte) gopacket.LayerType {
	if err := p.layers.DecodeLayers(frame, &p.decoded); err != nil {
		return gopacket.LayerTypeZero
	}
	last := gopacket.LayerTypeZero
	for _, l := range p.decoded {
		if l != gopacket.LayerTypePayload {
			last = l
		}
	}
	if p.has(layers.LayerTypeICMPv6) && checksum(p.ip6.SrcIP, p.ip6.DstIP, p.ip6.Payload) != 0 {
		return gopacket.LayerTypeZero
	}
	return last
}

func (p *parser) has(t gopacket.LayerType) bool {
	for _, l := range p.decoded {
		if l == t {
			return true
		}
	}
	return false
}

// source is the frame's source, and whether a station can have it.
func (p *parser) source() (wire.MAC, bool) { return unicast(p.eth.SrcMAC) }

// isFrom reports whether the frame is a packet from the interface's own address.
func (p *parser) isFrom(a vnet.Attachment) bool {
	return p.has(layers.LayerTypeIPv4) && addr(p.ip4.SrcIP) == a.IPv4 ||
		p.has(layers.LayerTypeIPv6) && addr(p.ip6.SrcIP) == a.IPv6
}

func unicast(b []byte) (wire.MAC, bool) {
	if len(b) != 6 || b[0]&1 != 0 {
		return wire.MAC{}, false
	}
	mac := wire.MAC(b)
	return mac, mac != wire.MAC{}
}

func addr(b []byte) netip.Addr {
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// checksum is that of ICMPv6 over payload: 0 if payload has its right one.
func checksum(src, dst, payload []byte) uint16 {
	sum := uint32(layers.IPProtocolICMPv6) + uint32(len(payload))
	for _, b := range [][]byte{src, dst, payload} {
		for len(b) >= 2 {
			sum += uint32(binary.BigEndian.Uint16(b))
			b = b[2:]
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// build makes a frame of layers, with lengths and checksums filled in.
func build(all ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		all...); err != nil {
		return nil // only for addresses of a wrong length, which none of ours has
	}
	return buf.Bytes()
}

func arpRequest(mac wire.MAC, sender, target netip.Addr) []byte {
	return arpFrame(layers.ARPRequest, mac, sender, broadcast, wire.MAC{}, target)
}

func arpReply(mac wire.MAC, sender netip.Addr, to wire.MAC, target netip.Addr) []byte {
	return arpFrame(layers.ARPReply, mac, sender, to, to, target)
}

func arpFrame(op uint16, mac wire.MAC, sender netip.Addr, to, targetMAC wire.MAC, target netip.Addr) []byte {
	return build(
		&layers.Ethernet{SrcMAC: mac[:], DstMAC: to[:], EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation:       op,
			SourceHwAddress: mac[:], SourceProtAddress: sender.AsSlice(), DstHwAddress: targetMAC[:],
			DstProtAddress: target.AsSlice(),
		})
}

// icmp6 makes an ICMPv6 packet in a frame.
func icmp6(src, dst wire.MAC, from, to netip.Addr, kind uint8, body ...gopacket.SerializableLayer) []byte {
	ip := &layers.IPv6{
		Version: 6, HopLimit: hopLimit, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: to.AsSlice(),
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil // not for an IPv6 layer
	}
	eth := &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv6}
	return build(append([]gopacket.SerializableLayer{eth, ip, icmp}, body...)...)
}

func linkLayer(t layers.ICMPv6Opt, mac wire.MAC) layers.ICMPv6Options {
	return layers.ICMPv6Options{{Type: t, Data: mac[:]}}
}

// datagram is a UDP datagram from the guests' gateway in a frame.
func datagram(src, dst wire.MAC, ip gopacket.NetworkLayer, from, to layers.UDPPort, payload []byte) []byte {
	udp := &layers.UDP{SrcPort: from, DstPort: to}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil // not for an IP layer
	}
	eth := &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv6}
	if ip.LayerType() == layers.LayerTypeIPv4 {
		eth.EthernetType = layers.EthernetTypeIPv4
	}
	return build(eth, ip.(gopacket.SerializableLayer), udp, gopacket.Payload(payload))
}

func neighbourSolicitation(mac wire.MAC, from, target netip.Addr) []byte {
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	return icmp6(mac, multicastMAC(group), from, group, layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{
			TargetAddress: target.AsSlice(), Options: linkLayer(layers.ICMPv6OptSourceAddress, mac),
		})
}

// The flags of a neighbour advertisement.
const (
	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20
)

// neighbourAdvertisement says that target is at mac. It answers a solicitation from the MAC to and the address
// requester.
func neighbourAdvertisement(mac wire.MAC, target netip.Addr, to wire.MAC, requester netip.Addr, flags uint8) []byte {
	if requester.IsUnspecified() {
		to, requester = multicastMAC(allNodes), allNodes
	} else {
		flags |= flagSolicited
	}
	return icmp6(mac, to, target, requester, layers.ICMPv6TypeNeighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{
		Flags: flags, TargetAddress: target.AsSlice(), Options: linkLayer(layers.ICMPv6OptTargetAddress, mac),
	})
}

func routerSolicitation(mac wire.MAC, from netip.Addr) []byte {
	return icmp6(mac, multicastMAC(allRouters), from, allRouters, layers.ICMPv6TypeRouterSolicitation,
		&layers.ICMPv6RouterSolicitation{Options: linkLayer(layers.ICMPv6OptSourceAddress, mac)})
}

func multicastMAC(group netip.Addr) wire.MAC {
	g := group.As16()
	return wire.MAC{0x33, 0x33, g[12], g[13], g[14], g[15]}
}
