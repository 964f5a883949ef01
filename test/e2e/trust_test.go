// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stranger is an address on the underlay that no route leads to.
const stranger = "fc00:77::1"

// onTheWire is a station on the first hypervisor's wire that sends crafted frames.
func (b *lab) onTheWire() *crafter {
	b.t.Helper()
	h := b.net.Hypervisors[0]
	fd, err := b.net.Router.PacketSocket(h.RouterLink)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, unix.Close(fd)) })
	mac, err := b.net.Router.MAC(h.RouterLink)
	require.NoError(b.t, err)
	to, err := h.MAC("wire0")
	require.NoError(b.t, err)
	return &crafter{b, fd, mac, to, craftedSrc}
}

// tunnelled sends a datagram like a crafter's in an outer header.
func (c *crafter) tunnelled(outerSrc, outerDst string, src, dst netip.Addr) {
	c.b.t.Helper()
	outer := &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: net.ParseIP(outerSrc), DstIP: net.ParseIP(outerDst)}
	udp := &layers.UDP{SrcPort: c.port, DstPort: craftedDst}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	if src.Is4() {
		outer.NextHeader = layers.IPProtocolIPv4
		ip = &layers.IPv4{Version: 4, TTL: 63, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	} else {
		outer.NextHeader = layers.IPProtocolIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 63, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(),
			DstIP: dst.AsSlice()}
	}
	require.NoError(c.b.t, udp.SetNetworkLayerForChecksum(ip))
	c.send(layers.EthernetTypeIPv6, outer, ip, udp, gopacket.Payload("forged"))
}

// underlays returns the underlay addresses of all interfaces, by id.
func (b *lab) underlays() map[string]string {
	b.t.Helper()
	all := map[string]string{}
	for _, d := range b.daemons {
		var list api.InterfaceListResult
		require.NoError(b.t, d.Call(b.ctx, api.MethodInterfaceList, nil, &list))
		for _, i := range list.Interfaces {
			all[i.ID] = i.UnderlayIP
		}
	}
	return all
}

// tunnelRules returns how many of the first daemon's rules decapsulate.
func (b *lab) tunnelRules() (n int) {
	b.t.Helper()
	for _, r := range b.rules() {
		if strings.HasPrefix(r.Name, "tunnel/") {
			n++
		}
	}
	return n
}

// TestForgedTunnels sends tunnelled packets from the wire, with a wrong outer source or with the inner source of a
// local VM. None reaches the guest, whether or not the flow, or one of the forger, is in the NIC, and all are counted.
// When the route is deleted, the right source becomes wrong, too.
func TestForgedTunnels(t *testing.T) {
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{NoOffload: noOffload}, 2, 2)
			vm1, vm2, vm3, vm4 := b.vms[0], b.vms[1], b.vms[2], b.vms[3]
			at, forger := b.underlays(), b.onTheWire()
			outers := []string{stranger, at[vm1.ID], at[vm2.ID], at[vm4.ID]}
			const each = 3
			forge := func() {
				t.Helper()
				wrong, local := b.nodePackets("drop_wrong_peer"), b.nodePackets("drop_local_source")
				for range each {
					for _, outer := range outers {
						forger.tunnelled(outer, at[vm1.ID], vm3.IPv4, vm1.IPv4)
						forger.tunnelled(outer, at[vm1.ID], vm3.IPv6, vm1.IPv6)
					}
					for _, outer := range append(outers, at[vm3.ID]) {
						forger.tunnelled(outer, at[vm1.ID], vm2.IPv4, vm1.IPv4)
						forger.tunnelled(outer, at[vm1.ID], vm1.IPv6, vm1.IPv6)
					}
				}
				b.dropped("drop_wrong_peer", wrong+uint64(2*each*len(outers)))
				b.dropped("drop_local_source", local+uint64(2*each*(len(outers)+1)))
			}
			got := b.record(vm1.Namespace, "eth0", record.In, "udp")
			forge()
			flows, err := b.flows(b.daemons[0], "udp", vm3.IPv4.String(), vm1.IPv4.String())
			require.NoError(t, err)
			require.Empty(t, flows, "a forged packet makes no flow")
			require.Empty(t, b.stopRecording(got))

			sender, other := b.craft(vm3), b.craft(vm4)
			if !noOffload {
				b.offloadDatagrams(sender, vm3.IPv4, vm1.IPv4)
				b.offloadDatagrams(sender, vm3.IPv6, vm1.IPv6)
				b.offloadDatagrams(other, vm4.IPv4, vm1.IPv4)
				b.offloadDatagrams(other, vm4.IPv6, vm1.IPv6)
				require.GreaterOrEqual(t, b.tunnelRules(), 4, "of each peer and version of IP")
			}
			got = b.record(vm1.Namespace, "eth0", record.In, "udp")
			forge()
			sender.udp(vm3.IPv4, vm1.IPv4, 64)
			sender.udp(vm3.IPv6, vm1.IPv6, 64)
			b.waitFrames(got, 2)
			require.Len(t, b.stopRecording(got), 2, "what the right peer has sent")

			got = b.record(vm1.Namespace, "eth0", record.In, "udp")
			b.dpctl("route", "delete", vm3.IPv4.String()+"/32", fmt.Sprintf("--vni=%d", topology.VNI))
			if !noOffload {
				b.eventually(func() error {
					if flows, err := b.flows(b.daemons[0], "udp", vm3.IPv4.String(), vm1.IPv4.String()); err != nil || len(flows) > 0 {
						return fmt.Errorf("there are still flows: %+v, %w", flows, err)
					}
					return nil
				})
			}
			wrong := b.nodePackets("drop_wrong_peer")
			sender.udp(vm3.IPv4, vm1.IPv4, 64)
			b.dropped("drop_wrong_peer", wrong+1)
			other.udp(vm4.IPv4, vm1.IPv4, 64)
			b.waitFrames(got, 1)
			require.Len(t, b.stopRecording(got), 1, "of the peer whose route stands")
		})
	}
}

// TestUncheckedNetwork sends from the wire to a network whose sources are not checked. Packets of any sender arrive, in
// software and by the NIC, except those that claim to be from a local VM.
func TestUncheckedNetwork(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{Underlay: fmt.Sprintf("unchecked_vnis: [%d]", topology.VNI)}, 2, 1)
	vm1, vm2 := b.vms[0], b.vms[1]
	at, forger := b.underlays(), b.onTheWire()
	require.Equal(t, 4, b.tunnelRules(), "of each interface and version of IP")
	src := netip.MustParseAddr("198.51.100.7")
	b.eventually(func() error {
		forger.tunnelled(stranger, at[vm1.ID], src, vm1.IPv4)
		flows, err := b.flows(b.daemons[0], "udp", src.String(), vm1.IPv4.String())
		if err == nil && (len(flows) != 1 || !flows[0].Offloaded) {
			err = fmt.Errorf("%w: %+v", errNotOffloaded, flows)
		}
		return err
	})
	require.Equal(t, 4, b.tunnelRules())
	got := b.record(vm1.Namespace, "eth0", record.In, "udp")
	local := b.nodePackets("drop_local_source")
	forger.tunnelled(stranger, at[vm1.ID], vm2.IPv4, vm1.IPv4)
	b.dropped("drop_local_source", local+1)
	forger.tunnelled("fc00:88::1", at[vm1.ID], src, vm1.IPv4)
	b.waitFrames(got, 1)
	require.Len(t, b.stopRecording(got), 1)
}

// TestForgedRouter makes a station on the link advertise the router's address with its own MAC repeatedly. The tunnels
// still go to the router, which is alive, and the log names the station.
func TestForgedRouter(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1, 1)
	vm1, vm2 := b.vms[0], b.vms[1]
	station := b.onTheWire()
	router := station.mac
	station.mac = net.HardwareAddr{0x02, 0, 0, 0, 0xba, 0xd0}
	own := net.IP{0xfe, 0x80, 0, 0, 0, 0, 0, 0, router[0] ^ 2, router[1], router[2], 0xff, 0xfe, router[3], router[4],
		router[5]}
	allNodes := net.ParseIP("ff02::1")
	advertise := func() {
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: own, DstIP: allNodes}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
		require.NoError(t, icmp.SetNetworkLayerForChecksum(ip))
		station.send(layers.EthernetTypeIPv6, ip, icmp, &layers.ICMPv6RouterAdvertisement{
			RouterLifetime: 1800, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: station.mac}},
		})
	}
	for range 20 {
		advertise()
		time.Sleep(50 * time.Millisecond)
	}
	b.eventually(func() error {
		if log := b.daemons[0].Stderr.String(); !strings.Contains(log, "claims to be an uplink's router") ||
			!strings.Contains(log, station.mac.String()) {
			return fmt.Errorf("the log does not name the station")
		}
		return nil
	})
	var info api.SystemInfoResult
	b.call(api.MethodSystemInfo, &info)
	require.Equal(t, router.String(), info.Underlay.RouterMAC)
	require.NotContains(t, b.daemons[0].Stderr.String(), "is silent")
	require.Zero(t, b.rulesTo(station.mac.String()))
	b.reach(vm1, vm2.IPv4.String())
}
