// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"testing"

	"dpservice/rpc/api"
	"dpservice/test/topology"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestFloodOfOneGuest makes one guest send ARP requests and DHCP messages as fast as it can. The slow path serves it at
// its limited rate only, and another guest boots and reaches its gateway at the same time.
func TestFloodOfOneGuest(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	flooder, other := b.vms[0], b.vms[1]
	b.blank(other)
	stop := b.floodSlowPath(flooder)
	b.dropped("drop_punt_rate", 1000)

	_, file := b.startUDHCPC(other)
	b.waitLine(file, "bound 10.100.0.2 from 169.254.0.1")
	require.NoError(t, other.IP("neigh flush dev eth0"))
	r, err := other.Run(b.ctx, "ping", "-n", "-c", "50", "-i", "0.02", "-W", "5", "169.254.0.1")
	require.NoError(t, err)
	require.NoError(t, r.Err(), "pings of the gateway were not answered")
	require.Contains(t, r.Stdout, " 0% packet loss")
	require.Greater(t, stop(), 10000, "frames sent: no flood")
	b.reach(other, "fe80::1%eth0")
	b.reach(flooder, "169.254.0.1") // when it is quiet it is answered again
}

// floodSlowPath sends from a guest without a pause until the returned function is called, which returns the number of
// frames.
func (b *lab) floodSlowPath(vm *topology.Guest) (stop func() int) {
	b.t.Helper()
	fd, err := vm.PacketSocket("eth0")
	require.NoError(b.t, err)
	return b.floodBy(fd, b.costlyFrames(vm))
}

// floodBy sends frames by a packet socket without a pause until the returned function is called, which returns the
// number of frames. floodBy closes the socket.
func (b *lab) floodBy(fd int, frames [][]byte) (stop func() int) {
	b.t.Helper()
	end, sent := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-end:
				sent <- n
				return
			default:
				_, _ = unix.Write(fd, frames[n%len(frames)]) // a full queue is part of a flood
			}
		}
	}()
	stopped := -1
	stop = func() int {
		if stopped < 0 {
			close(end)
			stopped = <-sent
			require.NoError(b.t, unix.Close(fd))
		}
		return stopped
	}
	b.t.Cleanup(func() { stop() })
	return stop
}

// costlyFrames returns frames that the slow path has to answer.
func (b *lab) costlyFrames(vm *topology.Guest) [][]byte {
	b.t.Helper()
	mac, err := vm.MAC("eth0")
	require.NoError(b.t, err)
	eth := layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP}
	arp := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: vm.IPv4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: []byte{169, 254, 0, 1},
	}
	eth4 := eth
	eth4.EthernetType = layers.EthernetTypeIPv4
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	require.NoError(b.t, udp.SetNetworkLayerForChecksum(ip))
	dhcp := &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, ClientHWAddr: mac,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType,
			[]byte{byte(layers.DHCPMsgTypeDiscover)})},
	}
	return [][]byte{b.serialize(&eth, arp), b.serialize(&eth4, ip, udp, dhcp)}
}

func (b *lab) serialize(all ...gopacket.SerializableLayer) []byte {
	b.t.Helper()
	buf := gopacket.NewSerializeBuffer()
	require.NoError(b.t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		all...))
	return buf.Bytes()
}

// dropped waits until a node of the packet graph has dropped this number of packets.
func (b *lab) dropped(node string, want uint64) {
	b.t.Helper()
	b.eventually(func() error {
		if got := b.nodePackets(node); got < want {
			return fmt.Errorf("%s has had %d of %d packets", node, got, want)
		}
		return nil
	})
}

// nodePackets returns how many packets a node of the first daemon's graph has processed.
func (b *lab) nodePackets(name string) uint64 {
	b.t.Helper()
	var stats api.GraphStatsResult
	b.call(api.MethodGraphStats, &stats)
	for _, n := range stats.Nodes {
		if n.Name == name {
			return n.Packets
		}
	}
	require.Fail(b.t, "graph.stats has no node "+name)
	return 0
}
