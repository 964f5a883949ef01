// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestSpoofedPackets makes a guest send from addresses that are not its own, on the ports of its own flow in the NIC.
// No packet arrives, and all are counted.
func TestSpoofedPackets(t *testing.T) {
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{NoOffload: noOffload}, 2, 1)
			vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
			sender := b.craft(vm1)
			b.spoof(sender, !noOffload, vm1.IPv4, vm2.IPv4, "10.100.0.77", "0.0.0.1", "169.254.0.1", vm3.IPv4.String())
			b.spoof(sender, !noOffload, vm1.IPv4, vm3.IPv4, "10.100.0.77", "0.0.0.1", "169.254.0.1", vm2.IPv4.String())
			b.spoof(sender, !noOffload, vm1.IPv6, vm2.IPv6, "fd00:100::77", "fe80::1", "fe80::99", "::", vm3.IPv6.String())
			b.spoof(sender, !noOffload, vm1.IPv6, vm3.IPv6, "fd00:100::77", "fe80::1", "fe80::99", "::", vm2.IPv6.String())
		})
	}
}

// spoof sends some datagrams from each of the false addresses, and one from the true one.
func (b *lab) spoof(sender *crafter, offloaded bool, own, dst netip.Addr, forged ...string) {
	b.t.Helper()
	const each = 3
	b.reach(b.vms[0], dst.String())
	if offloaded {
		b.offloadDatagrams(sender, own, dst)
	}
	var to *topology.Guest
	for _, vm := range b.vms {
		if vm.IPv4 == dst || vm.IPv6 == dst {
			to = vm
		}
	}
	got := b.record(to.Namespace, "eth0", record.In, "udp")
	before := b.nodePackets("drop_spoofed")
	for _, src := range forged {
		for range each {
			sender.udp(netip.MustParseAddr(src), dst, 64)
		}
	}
	b.dropped("drop_spoofed", before+uint64(each*len(forged)))
	sender.udp(own, dst, 64)
	b.waitFrames(got, 1)
	require.Equal(b.t, before+uint64(each*len(forged)), b.nodePackets("drop_spoofed"))
	require.Len(b.t, b.stopRecording(got), 1, "only what came from the sender's own address")
}

// TestForgedMarks sends frames from the wire that look like those that the NIC has decapsulated for an interface, also
// of a flow that is in the NIC. None arrives, and the guard rule counts them. From a guest's port, such a source MAC
// has no meaning.
func TestForgedMarks(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3, h := b.vms[0], b.vms[1], b.vms[2], b.net.Hypervisors[0]
	b.reach(vm3, vm1.IPv4.String())
	b.offloadDatagrams(b.craft(vm3), vm3.IPv4, vm1.IPv4)

	fd, err := b.net.Router.PacketSocket(h.RouterLink)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	to, err := h.MAC("wire0")
	require.NoError(t, err)
	forger := &crafter{b, fd, nil, to, craftedSrc}
	got := b.record(vm1.Namespace, "eth0", record.In, "udp")
	// Neighbours' and routers' own messages go elsewhere, at any time.
	taken := func() uint64 { return b.nodePackets("flow_lookup") + b.nodePackets("drop_unknown_mark") }
	before, takenBefore := b.hits("base/guard"), taken()
	const marks = 4
	for index := range byte(marks) {
		forger.mac = net.HardwareAddr{0x02, 'd', 'p', 's', 0, index}
		forger.udp(vm3.IPv4, vm1.IPv4, 64)
		forger.udp(vm3.IPv6, vm1.IPv6, 64)
	}
	b.eventually(func() error {
		if n := b.hits("base/guard") - before; n != 2*marks {
			return fmt.Errorf("the guard has dropped %d of %d frames", n, 2*marks)
		}
		return nil
	})
	require.Equal(t, takenBefore, taken())
	require.Empty(t, b.stopRecording(got))

	guest := b.craft(vm1)
	guest.mac = forger.mac
	b.spoof(guest, false, vm1.IPv4, vm2.IPv4, vm3.IPv4.String(), "10.100.0.77")
}

// hits returns how many packets have hit the first daemon's rule of this name.
func (b *lab) hits(name string) uint64 {
	b.t.Helper()
	var list api.RuleListResult
	b.call(api.MethodRuleList, &list)
	for _, r := range list.Rules {
		if r.Name == name && r.Hits != nil {
			return *r.Hits
		}
	}
	require.Fail(b.t, "no rule counts under this name", name)
	return 0
}

// TestSpoofedNeighbours makes a guest claim another guest's addresses by ARP and neighbour discovery. Packets to these
// addresses still reach the other guest.
func TestSpoofedNeighbours(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []*topology.Guest{vm1, vm2} {
		b.reach(vm3, to.IPv4.String())
		b.reach(vm3, to.IPv6.String())
	}
	learned := func() int { return strings.Count(b.daemons[0].Stderr.String(), "learned a guest's MAC") }
	before := learned()
	stolen := b.record(vm1.Namespace, "eth0", record.In, "src host "+vm3.IPv4.String()+" or src host "+vm3.IPv6.String())
	punted := b.nodePackets("punt")

	liar := b.craft(vm1)
	claims := liar.claims(vm2.IPv4, vm2.IPv6)
	require.NotEmpty(t, claims)
	for _, claim := range claims {
		claim()
	}
	b.dropped("punt", punted+uint64(len(claims)))
	for _, address := range []string{vm2.IPv4.String(), vm2.IPv6.String()} {
		b.reach(vm3, address)
		b.reach(vm3, address)
	}
	require.Equal(t, before, learned())
	require.Empty(t, b.stopRecording(stolen), "packets to another guest")
}

// claims returns the frames by which a guest can claim an address: ARP requests and replies, neighbour solicitations
// and advertisements.
func (c *crafter) claims(ipv4, ipv6 netip.Addr) (all []func()) {
	for _, operation := range []uint16{layers.ARPRequest, layers.ARPReply} {
		all = append(all, func() {
			c.b.t.Helper()
			c.send(layers.EthernetTypeARP, &layers.ARP{
				AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: operation, SourceHwAddress: c.mac, SourceProtAddress: ipv4.AsSlice(), DstHwAddress: c.mac,
				DstProtAddress: ipv4.AsSlice(),
			})
		})
	}
	gateway := netip.MustParseAddr("fe80::1").AsSlice()
	neighbour := func(icmpType uint8, message gopacket.SerializableLayer) func() {
		return func() {
			c.b.t.Helper()
			ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: ipv6.AsSlice(),
				DstIP: gateway}
			icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(icmpType, 0)}
			require.NoError(c.b.t, icmp.SetNetworkLayerForChecksum(ip))
			c.send(layers.EthernetTypeIPv6, ip, icmp, message)
		}
	}
	option := func(kind layers.ICMPv6Opt) layers.ICMPv6Options {
		return layers.ICMPv6Options{{Type: kind, Data: c.mac}}
	}
	return append(all,
		neighbour(layers.ICMPv6TypeNeighborSolicitation, &layers.ICMPv6NeighborSolicitation{
			TargetAddress: gateway, Options: option(layers.ICMPv6OptSourceAddress),
		}),
		neighbour(layers.ICMPv6TypeNeighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{
			Flags: 0x20, TargetAddress: ipv6.AsSlice(), Options: option(layers.ICMPv6OptTargetAddress),
		}))
}
