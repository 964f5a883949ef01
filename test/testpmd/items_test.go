// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// item is a pattern in testpmd's words, what the NIC has to understand by it, a packet that matches and one that does
// not.
type item struct {
	pattern, dump string
	hit, miss     []byte
}

var (
	tcp4, tcp6 = frame(eth(), ip4(), tcp()), frame(eth(), ip6(), tcp())
	udp4, udp6 = frame(eth(), ip4(), udp(), text(9)), frame(eth(), ip6(), udp(), text(9))
	ping4      = frame(eth(), ip4(), icmp(8, 0, 7))
	ping6      = frame(eth(), ip6(), icmp6(128, 0), text(4))
	unknown    = frame(eth(func(h *layers.Ethernet) { h.EthernetType = 0x88b5 }), text(46))
	tagged     = frame(eth(), tag(5, func(h *layers.Dot1Q) { h.Priority = 3 }), ip4(), tcp())
	other      = frame(eth(), tag(6), ip6(), tcp())
	service    = frame(eth(func(h *layers.Ethernet) { h.EthernetType = 0x88a8 }), tag(5), ip4(), tcp())
	twice      = frame(eth(), tag(5, func(h *layers.Dot1Q) { h.DropEligible = true }), tag(7), ip4(), tcp())
	// What comes from the wire: guests' packets in IPv6.
	tunnel4, tunnel6 = frame(eth(), ip6(), ip4(), tcp()), frame(eth(), ip6(), ip6(), tcp())
	overlay          = vxlan(70000, eth(), ip4(), tcp())
	overlay6         = vxlan(70001, between(peerMAC, guestMAC), ip6(), udp(), text(9))
)

// fragment4 is a piece of an IPv4 packet, the first one.
var fragment4 = frame(eth(), ip4(func(h *layers.IPv4) { h.Flags = layers.IPv4MoreFragments }), tcp())

// fragment6 is the same of IPv6: its fragment header says that more is to come.
var fragment6 = frame(eth(), ip6(func(h *layers.IPv6) { h.NextHeader = layers.IPProtocolIPv6Fragment }),
	gopacket.Payload{17, 0, 0, 1, 0, 0, 0, 9}, text(16))

func tcp4With(change func(*layers.IPv4)) []byte   { return frame(eth(), ip4(change), tcp()) }
func tcp6With(change func(*layers.IPv6)) []byte   { return frame(eth(), ip6(change), tcp()) }
func segment(change func(*layers.TCP)) []byte     { return frame(eth(), ip4(), tcp(change)) }
func datagram(change func(*layers.UDP)) []byte    { return frame(eth(), ip6(), udp(change), text(9)) }
func linked(change func(*layers.Ethernet)) []byte { return frame(eth(change), ip4(), tcp()) }

// anyPort is the pattern of rules for the packets of all ports of the switch.
const anyPort = "represented_port / eth"

// items are all that the NIC knows, each with every field, with a mask of its own, with the item's default, and
// without.
var items = []item{
	{"eth", "", unknown, nil},
	{"void / eth", "", tcp6, nil},
	{"eth dst is " + peerMAC, "eth.dst=02:00:00:00:00:0B", tcp4,
		linked(func(h *layers.Ethernet) { h.DstMAC = mac(nicMAC) })},
	{"eth src is " + guestMAC, "eth.src=02:00:00:00:00:0A", tcp4,
		linked(func(h *layers.Ethernet) { h.SrcMAC = mac(nicMAC) })},
	{"eth src spec 02:00:00:00:00:ff src mask ff:ff:00:00:00:00", "eth.src=02:00:00:00:00:00/FF:FF:00:00:00:00",
		tcp4, linked(func(h *layers.Ethernet) { h.SrcMAC = mac("02:01:00:00:00:0a") })},
	// Without a mask net_mlx5 looks at all of Ethernet and IP.
	{"eth dst spec " + peerMAC + " src spec " + guestMAC + " type spec 0x88b5",
		"eth.dst=02:00:00:00:00:0B eth.src=02:00:00:00:00:0A eth.type=0x88b5 vlan=0", unknown, tcp4},
	{"eth type is 0x88b5", "eth.type=0x88b5 vlan=0", unknown, tcp4},
	{"eth type spec 0x0800 type mask 0xff00", "eth.type=0x800/0xff00", tagged, tcp6},
	{"eth type is 0x0800", "vlan=0 ip=4", tcp4, tagged},
	{"eth type is 0x88a8", "vlan=0 svlan=1", service, tagged},
	{"eth has_vlan is 1", "vlan=1", tagged, tcp4},
	{"eth has_vlan is 0", "vlan=0", tcp4, tagged},

	{"eth / vlan", "vlan=1", tagged, tcp4},
	{"eth / vlan vid is 5", "vlan=1 vlan.tci=0x5/0xfff", tagged, other},
	{"eth / vlan pcp is 3", "vlan=1 vlan.tci=0x6000/0xe000", tagged, other},
	{"eth / vlan dei is 1", "vlan=1 vlan.tci=0x1000/0x1000", twice, tagged},
	{"eth / vlan tci is 0x6005", "vlan=1 vlan.tci=0x6005", tagged, twice},
	{"eth / vlan tci spec 0x0005", "vlan=1 vlan.tci=0x5/0xfff", tagged, other},
	{"eth / vlan inner_type is 0x0800", "vlan=1 ip=4", tagged, other},
	{"eth / vlan has_more_vlan is 1", "vlan=0 svlan=1", service, twice},
	{"eth / vlan has_more_vlan is 0", "vlan=1 svlan=0", twice, service},
	{"eth has_vlan is 0 / vlan", "vlan=1", tagged, tcp4},
	{"eth type is 0x8100 / vlan vid is 6 / ipv6", "vlan=1 vlan.tci=0x6/0xfff ip=6", other, tagged},

	{"eth / ipv4", "ip=4", tcp4, tcp6},
	{"ipv4", "ip=4", tagged, tcp6},
	{"eth / ipv4 src is 10.0.0.1", "ip=4 ip.src=10.0.0.1", tcp4,
		tcp4With(func(h *layers.IPv4) { h.SrcIP = net.IPv4(10, 0, 0, 3) })},
	{"eth / ipv4 dst is 10.0.0.2", "ip=4 ip.dst=10.0.0.2", tcp4,
		tcp4With(func(h *layers.IPv4) { h.DstIP = net.IPv4(10, 0, 0, 3) })},
	{"eth / ipv4 dst spec 10.0.0.200 dst prefix 24", "ip=4 ip.dst=10.0.0.0/255.255.255.0",
		tcp4, tcp4With(func(h *layers.IPv4) { h.DstIP = net.IPv4(10, 0, 1, 2) })},
	{"eth / ipv4 src spec 10.0.0.1 dst spec 10.0.0.2 proto spec 6 ttl spec 64",
		"ip=4 ip.src=10.0.0.1 ip.dst=10.0.0.2 ip.proto=6 ip.ttl=64 ip.tos=0x0", tcp4, tcp4With(func(h *layers.IPv4) { h.DstIP = net.IPv4(10, 0, 0, 1) })},
	{"eth / ipv4 tos is 0xb8", "ip=4 ip.tos=0xb8", tcp4With(func(h *layers.IPv4) { h.TOS = 0xb8 }), tcp4},
	{"eth / ipv4 ttl is 64", "ip=4 ip.ttl=64", tcp4, tcp4With(func(h *layers.IPv4) { h.TTL = 63 })},
	{"eth / ipv4 proto is 6", "ip=4 ip.proto=6", tcp4, udp4},
	{"eth / ipv4 fragment_offset spec 0 fragment_offset mask 0x3fff", "ip=4 ip.fragment=0", tcp4, fragment4},
	{"eth / ipv4 fragment_offset spec 0 fragment_offset mask 0x1fff", "ip=4 ip.fragment=0", tcp4, fragment4},
	{"eth / ipv4 fragment_offset spec 0 fragment_offset mask 0xffff", "ip=4 ip.fragment=0", tcp4, fragment4},
	{"eth / ipv4 version_ihl is 0x45", "ip=4 ip.ihl=5/0xf", tcp4,
		tcp4With(func(h *layers.IPv4) { h.Options = []layers.IPv4Option{{OptionType: 1}} })},
	{"eth / ipv4 fragment_offset spec 1 fragment_offset last 0x3fff fragment_offset mask 0x3fff", "ip=4 ip.fragment=1",
		fragment4, tcp4},

	{"eth / ipv6", "ip=6", tcp6, tcp4},
	{"eth / ipv6 src is fd00::1", "ip=6 ip.src=fd00::1", tcp6,
		tcp6With(func(h *layers.IPv6) { h.SrcIP = net.ParseIP("fd00:0:0:1::1") })},
	{"eth / ipv6 dst is fd00::2", "ip=6 ip.dst=fd00::2", tcp6,
		tcp6With(func(h *layers.IPv6) { h.DstIP = net.ParseIP("fd00::3") })},
	{"eth / ipv6 dst spec fd00::ffff dst prefix 64", "ip=6 ip.dst=fd00::/ffff:ffff:ffff:ffff::",
		tcp6, tcp6With(func(h *layers.IPv6) { h.DstIP = net.ParseIP("fd00:0:0:1::2") })},
	{"eth / ipv6 src spec fd00::1 dst spec fd00::2 proto spec 6 hop spec 64",
		"ip=6 ip.src=fd00::1 ip.dst=fd00::2 ip.proto=6 ip.ttl=64 ip.tos=0x0 ip.flow=0x0/0xfffff", tcp6, tcp6With(func(h *layers.IPv6) { h.SrcIP = net.ParseIP("fd00::2") })},
	{"eth / ipv6 tc is 0xb8", "ip=6 ip.tos=0xb8", tcp6With(func(h *layers.IPv6) { h.TrafficClass = 0xb8 }), tcp6},
	{"eth / ipv6 flow is 5", "ip=6 ip.flow=0x5/0xfffff", tcp6With(func(h *layers.IPv6) { h.FlowLabel = 5 }), tcp6},
	{"eth / ipv6 proto spec 16 proto mask 0xf0", "ip=6 ip.proto=16/0xf0", udp6, tcp6},
	{"eth / ipv6 proto is 17", "ip=6 ip.proto=17", udp6, tcp6},
	{"eth / ipv6 hop is 64", "ip=6 ip.ttl=64", tcp6, tcp6With(func(h *layers.IPv6) { h.HopLimit = 1 })},
	{"eth / ipv6 has_frag_ext is 1", "ip=6 ip.fragment=1", fragment6, tcp6},
	{"eth / ipv6 has_frag_ext is 0", "ip=6 ip.fragment=0", tcp6, fragment6},

	{"eth / ipv4 / tcp", "ip=4 l4=6", tcp4, udp4},
	{"eth / ipv6 / tcp", "ip=6 l4=6", tcp6, udp6},
	{"eth / ipv4 / tcp src is 1000", "ip=4 l4=6 l4.src=1000", tcp4, segment(func(h *layers.TCP) { h.SrcPort = 1001 })},
	{"eth / ipv4 / tcp dst is 80", "ip=4 l4=6 l4.dst=80", tcp4, segment(func(h *layers.TCP) { h.DstPort = 81 })},
	{"eth / ipv4 / tcp src spec 1000 dst spec 80", "ip=4 l4=6 l4.src=1000 l4.dst=80", tcp4,
		segment(func(h *layers.TCP) { h.SrcPort = 80 })},
	{"eth / ipv4 / tcp dst spec 81 dst mask 0xfff0", "ip=4 l4=6 l4.dst=80/0xfff0", tcp4,
		segment(func(h *layers.TCP) { h.DstPort = 96 })},
	{"eth / ipv4 / tcp flags is 0x10", "ip=4 l4=6 tcp.flags=0x10", tcp4, segment(func(h *layers.TCP) { h.PSH = true })},
	{"eth / ipv4 / tcp flags spec 0 flags mask 0x07", "ip=4 l4=6 tcp.flags=0x0/0x7", tcp4,
		segment(func(h *layers.TCP) { h.FIN = true })},

	{"eth / ipv4 / udp", "ip=4 l4=17", udp4, tcp4},
	{"eth / ipv6 / udp src is 1000", "ip=6 l4=17 l4.src=1000", udp6, datagram(func(h *layers.UDP) { h.SrcPort = 53 })},
	{"eth / ipv6 / udp dst is 53", "ip=6 l4=17 l4.dst=53", udp6, datagram(func(h *layers.UDP) { h.DstPort = 54 })},
	{"eth / ipv6 / udp src spec 1000 dst spec 53", "ip=6 l4=17 l4.src=1000 l4.dst=53", udp6,
		datagram(func(h *layers.UDP) { h.SrcPort = 999 })},

	{"eth / ipv4 / icmp", "ip=4 l4=1", ping4, tcp4},
	{"eth / ipv4 / icmp type is 8", "ip=4 l4=1 icmp.type=8", ping4, frame(eth(), ip4(), icmp(0, 0, 7))},
	{"eth / ipv4 / icmp code is 0", "ip=4 l4=1 icmp.code=0", ping4, frame(eth(), ip4(), icmp(3, 1, 7))},
	{"eth / ipv4 / icmp ident is 7", "ip=4 l4=1 icmp.ident=7", ping4, frame(eth(), ip4(), icmp(8, 0, 8))},
	{"eth / ipv4 / icmp seq is 1", "ip=4 l4=1 icmp.seq=1", ping4,
		frame(eth(), ip4(), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 2})},
	{"eth / ipv4 / icmp type spec 8 code spec 0", "ip=4 l4=1 icmp.type=8 icmp.code=0", ping4,
		frame(eth(), ip4(), icmp(0, 0, 7))},

	{"eth / ipv6 / icmp6", "ip=6 l4=58", ping6, tcp6},
	{"eth / ipv6 / icmp6 type is 128", "ip=6 l4=58 icmp.type=128", ping6, frame(eth(), ip6(), icmp6(129, 0), text(4))},
	{"eth / ipv6 / icmp6 code is 0", "ip=6 l4=58 icmp.code=0", ping6, frame(eth(), ip6(), icmp6(1, 4), text(4))},

	// The outer headers of tunnels, as net_mlx5 takes them.
	{"eth / ipv6 proto spec 0 proto mask 0xfb", "ip=6 ip.proto=0/0xfb", tunnel4, tunnel6},
	{"eth / ipv6 proto is 41", "ip=6 ip.proto=41", tunnel6, tunnel4},
	{"eth / ipv6 proto spec 41 proto mask 0xfb", "ip=6 ip.proto=41/0xfb", tunnel6, tunnel4},

	{"eth / ipv4 / udp / vxlan", "ip=4 l4=17 l4.dst=4789", overlay, udp4},
	{"eth / ipv4 / udp / vxlan vni is 70000", "vni=70000 ip=4 l4=17 l4.dst=4789", overlay, overlay6},
	{"eth / ipv4 / udp dst is 4789 / vxlan vni spec 70001 / eth", "vni=70001 ip=4 l4=17 l4.dst=4789", overlay6, overlay},
	{"eth / ipv4 / udp / vxlan / eth dst is " + guestMAC, "inner.eth.dst=02:00:00:00:00:0A ip=4 l4=17 l4.dst=4789",
		overlay6, overlay},
	{"eth / ipv4 / udp / vxlan / eth src is " + guestMAC, "inner.eth.src=02:00:00:00:00:0A ip=4 l4=17 l4.dst=4789",
		overlay, overlay6},
	{"eth / ipv4 / udp / vxlan / eth type is 0x86dd", "inner.vlan=0 ip=4 l4=17 l4.dst=4789 inner.ip=6", overlay6, overlay},
	{"eth / ipv4 / udp / vxlan / eth / ipv4 dst is 10.0.0.2 / tcp dst is 80",
		"ip=4 l4=17 l4.dst=4789 inner.ip=4 inner.ip.dst=10.0.0.2 inner.l4=6 inner.l4.dst=80", overlay, overlay6},
	{"eth / ipv4 / udp / vxlan / eth / ipv6 src is fd00::1 / udp src is 1000",
		"ip=4 l4=17 l4.dst=4789 inner.ip=6 inner.ip.src=fd00::1 inner.l4=17 inner.l4.src=1000", overlay6, overlay},

	{anyPort, "", unknown, nil},
	{"represented_port ethdev_port_id is 8 / eth / ipv4", "ip=4", tcp4, tcp6},
	{"port_id id is 8 / eth / ipv6", "ip=6", tcp6, tcp4},
	{"port_id id is 9 / represented_port ethdev_port_id is 8 / eth / ipv6", "ip=6", tcp6, tcp4},
}
