// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"net"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const (
	guestMAC  = "02:00:00:00:00:0a"
	peerMAC   = "02:00:00:00:00:0b"
	nicMAC    = "02:00:00:00:00:01"
	routerMAC = "02:00:00:00:00:02"
)

func mac(text string) net.HardwareAddr {
	m, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return m
}

// frame is the layers from Ethernet up as bytes, with each of them named by the one below, the lengths filled, and the
// checksums computed. Without a payload it gets one, which makes it long enough not to be padded.
func frame(parts ...gopacket.SerializableLayer) []byte {
	if parts[len(parts)-1].LayerType() != gopacket.LayerTypePayload {
		parts = append(parts, text(20))
	}
	var network gopacket.NetworkLayer
	for i, part := range parts {
		if i+1 < len(parts) {
			announce(part, parts[i+1].LayerType())
		}
		switch l := part.(type) {
		case *layers.IPv4:
			network = l
		case *layers.IPv6:
			network = l
		case interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}:
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				panic(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		parts...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var etherTypes = map[gopacket.LayerType]layers.EthernetType{
	layers.LayerTypeIPv4: layers.EthernetTypeIPv4, layers.LayerTypeIPv6: layers.EthernetTypeIPv6,
	layers.LayerTypeDot1Q: layers.EthernetTypeDot1Q,
}

var protocols = map[gopacket.LayerType]layers.IPProtocol{
	layers.LayerTypeIPv4: layers.IPProtocolIPv4, layers.LayerTypeIPv6: layers.IPProtocolIPv6,
	layers.LayerTypeTCP: layers.IPProtocolTCP,
	layers.LayerTypeUDP: layers.IPProtocolUDP, layers.LayerTypeICMPv4: layers.IPProtocolICMPv4,
	layers.LayerTypeICMPv6: layers.IPProtocolICMPv6,
}

// announce says in a layer which one follows, unless it says something already.
func announce(part gopacket.SerializableLayer, next gopacket.LayerType) {
	switch l := part.(type) {
	case *layers.Ethernet:
		if l.EthernetType == 0 {
			l.EthernetType = etherTypes[next]
		}
	case *layers.Dot1Q:
		if l.Type == 0 {
			l.Type = etherTypes[next]
		}
	case *layers.IPv4:
		if l.Protocol == 0 {
			l.Protocol = protocols[next]
		}
	case *layers.IPv6:
		if l.NextHeader == 0 {
			l.NextHeader = protocols[next]
		}
	}
}

// changed applies the changes to a layer.
func changed[T any](layer T, changes []func(T)) T {
	for _, change := range changes {
		change(layer)
	}
	return layer
}

func eth(changes ...func(*layers.Ethernet)) *layers.Ethernet {
	return changed(&layers.Ethernet{SrcMAC: mac(guestMAC), DstMAC: mac(peerMAC)}, changes)
}

// between is the Ethernet header of frames from one to the other.
func between(src, dst string) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: mac(src), DstMAC: mac(dst)}
}

func tag(vid uint16, changes ...func(*layers.Dot1Q)) *layers.Dot1Q {
	return changed(&layers.Dot1Q{VLANIdentifier: vid}, changes)
}

func ip4(changes ...func(*layers.IPv4)) *layers.IPv4 {
	return changed(&layers.IPv4{Version: 4, IHL: 5, TTL: 64, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)},
		changes)
}

func ip6(changes ...func(*layers.IPv6)) *layers.IPv6 {
	return changed(&layers.IPv6{Version: 6, HopLimit: 64, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")},
		changes)
}

func tcp(changes ...func(*layers.TCP)) *layers.TCP {
	return changed(&layers.TCP{SrcPort: 1000, DstPort: 80, ACK: true, Window: 1024}, changes)
}

func udp(changes ...func(*layers.UDP)) *layers.UDP {
	return changed(&layers.UDP{SrcPort: 1000, DstPort: 53}, changes)
}

func icmp(kind, code uint8, ident uint16) *layers.ICMPv4 {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Id: ident, Seq: 1}
}

func icmp6(kind, code uint8) *layers.ICMPv6 {
	return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
}

func text(n int) gopacket.Payload { return gopacket.Payload(strings.Repeat("x", n)) }

// vxlan is the headers of a VXLAN packet up to the frame within.
func vxlan(vni uint32, within ...gopacket.SerializableLayer) []byte {
	header := gopacket.Payload{8, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}
	return frame(eth(), ip4(), udp(func(h *layers.UDP) { h.DstPort = 4789 }), header, gopacket.Payload(frame(within...)))
}
