// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/test/record"
	"dpservice/test/topology"
)

// gatewayIPv6 is the routable address of the gateway in the guests' VNI.
const gatewayIPv6 = "fdb4:384f:a8b2::64"

// TestErrorsReachContainers makes a VM forward, as a router, for a container behind it that has the VM's address. ICMP
// errors of the gateway, also of the one on another hypervisor, reach the container: Linux would not forward them from
// a link-local address.
func TestErrorsReachContainers(t *testing.T) {
	ctx, n := newNetwork(t, 1, 1)
	require.NoError(t, n.Hypervisors[1].IP("link set guest0 mtu 1300"))
	require.NoError(t, n.Guests()[1].IP("link set eth0 mtu 1300"))
	b := startLab(ctx, t, n, topology.DaemonConfig{NoOffload: true}) // a NIC drops what is too big without a word
	vm, other := b.vms[0], b.vms[1]
	ns, err := n.Namespace("container")
	require.NoError(t, err)
	require.NoError(t, n.Link(vm.Namespace, "ct0", ns, "eth0", 1500))
	r, err := vm.Run(ctx, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.eth0.proxy_ndp=1")
	require.NoError(t, err)
	require.NoError(t, r.Err())
	own := vm.IPv6.String()
	require.NoError(t, vm.IP("addr flush dev eth0 scope global", "addr add fe80::c/64 dev ct0 nodad",
		"route replace "+own+"/128 dev ct0",
		"neigh add proxy "+own+" dev eth0", "route replace default via fe80::1 dev eth0"))
	require.NoError(t, ns.IP("addr add "+own+"/128 dev eth0 nodad", "route replace default via fe80::c dev eth0"))
	container := &topology.Guest{Namespace: ns}
	b.reach(container, other.IPv6.String())
	b.reach(container, gatewayIPv6)
	b.says(container, "From "+gatewayIPv6+" icmp_seq=1 Time exceeded: Hop limit", "-t", "2", other.IPv6.String())
	b.says(container, "From "+gatewayIPv6+" icmp_seq=1 Packet too big: mtu=1300", "-M", "do", "-s", "1400",
		other.IPv6.String())
	b.says(container, ", 0% packet loss", "-M", "do", "-s", "1252", other.IPv6.String())
}

// tagged sends a datagram with a VLAN tag, which may have a priority only.
func (c *crafter) tagged(vlan uint16, src, dst netip.Addr) {
	c.b.t.Helper()
	udp := &layers.UDP{SrcPort: c.port, DstPort: craftedDst}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	require.NoError(c.b.t, udp.SetNetworkLayerForChecksum(ip))
	c.send(layers.EthernetTypeDot1Q, &layers.Dot1Q{VLANIdentifier: vlan, Priority: 5, Type: layers.EthernetTypeIPv4}, ip,
		udp, gopacket.Payload("crafted"))
}

// TestPriorityTags sends datagrams with a priority tag (VLAN 0) on a flow that is in the NIC, and on one that is not.
// They arrive as if they had no tag. Datagrams in a VLAN do not arrive, and are counted.
func TestPriorityTags(t *testing.T) {
	const each = 5
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{NoOffload: noOffload}, 2)
			from, to := b.vms[0], b.vms[1]
			b.reach(from, to.IPv4.String())
			sender := b.craft(from)
			if !noOffload {
				b.offloadDatagrams(sender, from.IPv4, to.IPv4)
			}
			got := b.record(to.Namespace, "eth0", record.In, "")
			before := b.nodePackets("drop_tagged")
			for range each {
				sender.tagged(0, from.IPv4, to.IPv4)
				sender.tagged(5, from.IPv4, to.IPv4)
			}
			b.dropped("drop_tagged", before+each)
			sender.udp(from.IPv4, to.IPv4, 64)
			b.waitFrames(got, each+1)
			for _, f := range b.stopRecording(got) {
				p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
				require.Nil(t, p.Layer(layers.LayerTypeDot1Q), f)
			}
		})
	}
}

// TestMartians makes a guest with default routes send to addresses that no router forwards to. No packet leaves, all
// are counted, and neither the software nor the NIC has a flow for them.
func TestMartians(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1, 1)
	vm := b.vms[0]
	for _, prefix := range []string{"0.0.0.0/0", "::/0"} {
		b.route("add", prefix, 1)
	}
	sender := b.craft(vm)
	nodes := map[string][]string{
		"drop_loopback": {"127.0.0.1", "::1"}, "drop_unspecified": {"0.0.0.0", "::"}, "drop_broadcast": {"255.255.255.255"},
		"drop_multicast": {"224.0.0.5", "ff02::5", "ff0e::5"}, "drop_reserved": {"240.0.0.1"},
		"drop_link_local": {"169.254.169.254", "fe80::1234"}, "drop_to_gateway": {"169.254.0.1", "fe80::1", gatewayIPv6},
	}
	const each = 3
	out := b.record(b.net.Router, b.net.Hypervisors[0].RouterLink, record.In, "ip6 proto 4 or ip6 proto 41")
	rules := b.rules()
	for node, all := range nodes {
		before := b.nodePackets(node)
		for _, dst := range all {
			for range each {
				to := netip.MustParseAddr(dst)
				own := vm.IPv4
				if to.Is6() {
					own = vm.IPv6
				}
				sender.udp(own, to, 64)
			}
		}
		b.dropped(node, before+uint64(each*len(all)))
	}
	for _, all := range nodes {
		for _, dst := range all {
			flows, err := b.flows(b.daemons[0], "udp", "", dst)
			require.NoError(t, err)
			require.Empty(t, flows, dst)
		}
	}
	require.Equal(t, len(rules), len(b.rules()))
	sender.udp(vm.IPv4, netip.MustParseAddr("8.8.8.8"), 64)
	b.waitFrames(out, 1)
	for _, f := range b.stopRecording(out) {
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
		require.NotNil(t, p.Layer(layers.LayerTypeIPv4), f)
		require.Equal(t, "8.8.8.8", p.Layer(layers.LayerTypeIPv4).(*layers.IPv4).DstIP.String())
	}
}

// TestFloodFromTheWire floods an uplink with pings of the node, and with ICMPv6 that dpservice has no use for.
// Neighbour solicitations are answered in that time.
func TestFloodFromTheWire(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	h := b.net.Hypervisors[0]
	asked := netip.MustParseAddr("fc00:1::1:1") // vm-1's
	if h.HasTwins() {
		asked = h.UnderlayIP // the kernel gets all packets except those of tunnels, and answers for the node
	}
	c := &crafter{b: b}
	var err error
	c.fd, err = b.net.Router.PacketSocket(h.RouterLink)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(c.fd)) })
	c.mac, err = b.net.Router.MAC(h.RouterLink)
	require.NoError(t, err)
	c.gateway, err = h.MAC("wire0")
	require.NoError(t, err)

	asker := netip.MustParseAddr("fe80::77")
	flood := [][]byte{
		c.icmp6(c.gateway, asker, h.UnderlayIP, layers.ICMPv6TypeEchoRequest, make([]byte, 16)),
		c.solicitation(asker, netip.MustParseAddr("fc00:1::9999")),
		c.icmp6(c.gateway, asker, h.UnderlayIP, layers.ICMPv6TypeDestinationUnreachable, make([]byte, 60)),
	}
	fd, err := b.net.Router.PacketSocket(h.RouterLink)
	require.NoError(t, err)
	stop := b.floodBy(fd, flood)
	if !h.HasTwins() {
		b.dropped("drop_punt_rate", 1000)
		b.dropped("drop_not_for_us", 1000)
	}
	const solicitations = 8
	got := b.record(b.net.Router, h.RouterLink, record.In, "icmp6 and ip6[40] == 136 and ip6 dst fe80::77")
	for range solicitations {
		_, err := unix.Write(c.fd, c.solicitation(asker, asked))
		require.NoError(t, err)
		time.Sleep(20 * time.Millisecond)
	}
	b.waitFrames(got, solicitations*3/4) // the ports' own queues may lose some in such a flood
	require.Greater(t, stop(), 10000, "frames sent: no flood")
	b.stopRecording(got)
	if h.HasTwins() {
		return
	}
	b.dropped("slow_path_used", 1)
}

// icmp6 returns a frame to the far end with an ICMPv6 packet.
func (c *crafter) icmp6(to net.HardwareAddr, src, dst netip.Addr, kind uint8, body []byte) []byte {
	c.b.t.Helper()
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: src.AsSlice(),
		DstIP: dst.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	require.NoError(c.b.t, icmp.SetNetworkLayerForChecksum(ip))
	return c.b.serialize(&layers.Ethernet{SrcMAC: c.mac, DstMAC: to, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
		gopacket.Payload(body))
}

// solicitation returns a neighbour solicitation for target.
func (c *crafter) solicitation(src, target netip.Addr) []byte {
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	to := net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}
	body := slices.Concat(binary.BigEndian.AppendUint32(nil, 0), t[:], []byte{1, 1}, c.mac)
	return c.icmp6(to, src, group, layers.ICMPv6TypeNeighborSolicitation, body)
}
