// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// TestPlainPorts runs dpservice without a NIC that takes rules, on ports of two of DPDK's own drivers: VMs of one and
// of two hypervisors reach each other, and everything that needs rules is refused with a reason.
func TestPlainPorts(t *testing.T) {
	ctx, n := newNetwork(t, 2, 1)
	for _, driver := range []string{"net_af_packet", "net_pcap"} {
		t.Run(driver, func(t *testing.T) {
			b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
			for _, h := range n.Hypervisors {
				b.daemons = append(b.daemons, startDaemon(ctx, t, h, topology.DaemonConfig{Plain: h.Plain(driver)}))
			}
			b.connect()
			b.checkSoftwareForwarding(driver != "net_pcap") // whose buffer overflows when the machine is busy
			b.checkPlainPorts(driver)
			for _, d := range b.daemons {
				require.NoError(t, d.Stop(ctx))
			}
		})
	}
}

// checkSoftwareForwarding makes the VMs talk, also over the wire, where their packets are encapsulated in IPv6.
func (b *lab) checkSoftwareForwarding(losesNone bool) {
	b.t.Helper()
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	all := []string{vm2.IPv4.String(), vm2.IPv6.String(), vm3.IPv4.String(), vm3.IPv6.String()}
	for _, to := range all {
		b.reach(vm1, to)
	}
	b.reach(vm2, vm3.IPv4.String())
	noLosses := b.losses()
	wire := b.record(b.net.Router, b.net.Hypervisors[0].RouterLink, record.In, "ip6 proto 4 or ip6 proto 41")
	for _, to := range all {
		b.startPing(vm1, to, 300*time.Millisecond, "-s", "1200").wait()
	}
	b.startIperf(vm2, vm3, vm3.IPv4.String(), 5201, time.Second, "10M", "-u", "-l", "1400").wait()
	b.startIperf(vm2, vm3, vm3.IPv6.String(), 5202, time.Second, "10M").wait()
	if losesNone {
		noLosses()
	}
	require.Greater(b.t, len(b.stopRecording(wire)), 50, "the requests to vm-3, encapsulated")
}

// checkPlainPorts checks what dpservice reports about ports without rules.
func (b *lab) checkPlainPorts(driver string) {
	b.t.Helper()
	t := b.t
	var info api.SystemInfoResult
	b.call(api.MethodSystemInfo, &info)
	require.False(t, info.Offload)
	require.Equal(t, driver, info.NIC.Driver)
	require.Empty(t, info.NIC.PortNaming)
	var ports api.PortListResult
	b.call(api.MethodPortList, &ports)
	require.Len(t, ports.Ports, 4)
	for i, role := range []string{"pf", "pf", "vf", "vf"} {
		require.Equal(t, role, ports.Ports[i].Role)
		require.Nil(t, ports.Ports[i].SwitchDomain)
	}
	require.Empty(t, b.rules())
	var flows api.FlowListResult
	b.call(api.MethodFlowList, &flows)
	require.NotEmpty(t, flows.Flows)
	for _, f := range flows.Flows {
		require.False(t, f.Offloaded)
		require.Positive(t, f.Packets)
	}
	for _, p := range b.capabilities() {
		require.Equal(t, "software", p.Mode)
		require.True(t, p.RX.Supported)
		require.Equal(t, p.Role == "vf", p.TX.Supported)
	}
	b.refusedDpctl([]string{"interface", "create", "x", "--device=" + driver + "0", "--vni=1", "--ipv4=10.0.0.1"},
		"is a physical port; a guest's device is one of: "+driver+"2, "+driver+"3")
}

// refusedDpctl runs dpctl, which must fail with an error.
func (b *lab) refusedDpctl(args []string, texts ...string) {
	b.t.Helper()
	r, err := b.daemons[0].Dpctl(b.ctx, args...)
	require.NoError(b.t, err)
	require.Equal(b.t, 1, r.Code)
	for _, text := range texts {
		require.Contains(b.t, r.Stderr, text)
	}
}

// TestPlainPortsWithoutAWire runs dpservice on ports without a kernel interface, and on a port that always has packets.
func TestPlainPortsWithoutAWire(t *testing.T) {
	ctx, n := newNetwork(t, 0)
	h := n.Hypervisors[0]
	file := n.Path("one.pcap")
	writeFrame(t, file)
	tests := map[string]struct {
		vdevs []string
		busy  string // the port that always has packets
	}{
		"net_null": {[]string{"net_null0,no-rx=1", "net_null1"}, "net_null1"},
		"net_ring": {[]string{"net_ring0", "net_ring1"}, ""},
		"net_pcap": {[]string{"net_pcap0,tx_pcap=" + n.Path("out.pcap"), "net_pcap1,infinite_rx=1,rx_pcap=" + file},
			"net_pcap1"},
	}
	for driver, tt := range tests {
		t.Run(driver, func(t *testing.T) {
			ports := &topology.PlainPorts{Names: fmt.Sprintf("pf0: %s0, vfs: %s1", driver, driver)}
			for _, v := range tt.vdevs {
				ports.EAL = append(ports.EAL, "--vdev="+v)
			}
			b := &lab{t: t, ctx: ctx, net: n, daemons: []*topology.Daemon{startDaemon(ctx, t, h,
				topology.DaemonConfig{Plain: ports})}}
			var list api.PortListResult
			b.call(api.MethodPortList, &list)
			require.Len(t, list.Ports, 2)
			require.NotEqual(t, "00:00:00:00:00:00", list.Ports[1].MAC)
			b.dpctl("interface", "create", "vm-1", "--device="+driver+"1", "--vni=1", "--ipv4=10.0.0.1")
			if tt.busy != "" {
				b.waitPackets("rx-"+tt.busy, 100_000)
			}
			require.NoError(t, b.daemons[0].Stop(ctx))
		})
	}
}

// waitPackets waits until a node of the first daemon's graph has processed this number of packets.
func (b *lab) waitPackets(node string, want uint64) {
	b.t.Helper()
	b.eventually(func() error {
		var stats api.GraphStatsResult
		if err := b.daemons[0].Call(b.ctx, api.MethodGraphStats, nil, &stats); err != nil {
			return err
		}
		for _, n := range stats.Nodes {
			if n.Name == node && n.Packets >= want {
				return nil
			}
		}
		return fmt.Errorf("%s has not seen %d packets: %+v", node, want, stats.Nodes)
	})
}

// writeFrame writes a recording of one UDP packet.
func writeFrame(t *testing.T, name string) {
	t.Helper()
	ip := layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 1},
		DstIP: net.IP{10, 0, 0, 2}}
	udp := layers.UDP{SrcPort: 1, DstPort: 2}
	require.NoError(t, udp.SetNetworkLayerForChecksum(&ip))
	eth := layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		EthernetType: layers.EthernetTypeIPv4}
	frame := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(frame, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&eth, &ip, &udp, gopacket.Payload("hello")))
	f, err := os.Create(name)
	require.NoError(t, err)
	w := pcapgo.NewWriter(f)
	require.NoError(t, w.WriteFileHeader(65536, layers.LinkTypeEthernet))
	length := len(frame.Bytes())
	require.NoError(t, w.WritePacket(gopacket.CaptureInfo{CaptureLength: length, Length: length}, frame.Bytes()))
	require.NoError(t, f.Close())
}

// TestVirtioPort puts a VM behind a virtio device, whose other side is vhost-user's in a process of its own.
func TestVirtioPort(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	h := n.Hypervisors[0]
	socket := n.Path("vhost.sock")
	vhost, err := h.Start("dpdk-testpmd", "--no-huge", "-m", "128", "--no-pci", "--no-telemetry", "-l", "0,1",
		"--file-prefix", filepath.Base(n.Dir()),
		"--vdev=net_vhost0,iface="+socket, "--vdev=net_af_packet0,iface=guest0",
		"--", "--auto-start", "--stats-period=5", "--total-num-mbufs=4096", "--no-mlockall")
	require.NoError(t, err)
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
	b.eventually(func() error { _, err := os.Stat(socket); return err })
	d := startDaemon(ctx, t, h, topology.DaemonConfig{Plain: &topology.PlainPorts{
		EAL: []string{"--vdev=net_af_packet0,iface=wire0", "--vdev=net_virtio_user0,path=" + socket,
			"--vdev=net_af_packet1,iface=guest1"},
		Names:  `pf0: net_af_packet0, vfs: [net_virtio_user0, net_af_packet1]`,
		Device: func(vf int) string { return []string{"net_virtio_user0", "net_af_packet1"}[vf] },
	}})
	b.daemons = append(b.daemons, d)
	b.connect()
	b.reach(b.vms[0], b.vms[1].IPv4.String())
	b.reach(b.vms[1], b.vms[0].IPv6.String())
	noLosses := b.losses()
	const run = 300 * time.Millisecond
	b.startPing(b.vms[0], b.vms[1].IPv4.String(), run, "-s", "1200").wait()
	noLosses()
	var stats api.PortStatsResult
	b.call(api.MethodPortStats, &stats)
	require.Greater(t, stats.Ports[1].RxPackets, uint64(pingCount(run)), "%+v", stats.Ports[1])
	require.NoError(t, d.Stop(ctx))
	_, err = vhost.Stop(ctx, syscall.SIGINT)
	require.NoError(t, err)
}
