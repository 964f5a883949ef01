// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// TestRecordBothEnds sends pings over a veth pair. The frames that leave one end are, byte for byte, those that arrive
// at the other, and tshark and editcap can read the recording.
func TestRecordBothEnds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("building network namespaces needs root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	lab, err := topology.New()
	require.NoError(t, err)
	defer func() { require.NoError(t, lab.Close()) }()
	a, err := lab.Namespace("a")
	require.NoError(t, err)
	b, err := lab.Namespace("b")
	require.NoError(t, err)
	require.NoError(t, lab.Link(a, "eth0", b, "eth0", 1500))
	require.NoError(t, a.IP("addr add fd00::1/64 dev eth0 nodad"))
	require.NoError(t, b.IP("addr add fd00::2/64 dev eth0 nodad"))

	starting := time.Now()
	sent, err := record.Start(ctx, a, "eth0", lab.Path("sent.pcap"), record.Out, "")
	require.NoError(t, err)
	received, err := record.Start(ctx, b, "eth0", lab.Path("received.pcap"), record.In, "")
	require.NoError(t, err)
	started := time.Now()
	r, err := a.Run(ctx, "ping", "-c", "20", "-i", "0.01", "-s", "1452", "fd00::2")
	require.NoError(t, err)
	require.NoError(t, r.Err())
	window := record.Window{Starting: starting, Started: started, Stopping: time.Now()}

	receivedFrames, err := received.Stop(ctx)
	require.NoError(t, err)
	sentFrames, err := sent.Stop(ctx)
	window.Stopped = time.Now()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(sentFrames), 20)
	require.NoError(t, record.Check(receivedFrames, sentFrames, window))

	rows, err := record.Fields(ctx, lab, received.File, "icmpv6.type == 128", "ipv6.dst", "ipv6.plen",
		"icmpv6.echo.sequence_number")
	require.NoError(t, err)
	require.Len(t, rows, 20)
	require.Equal(t, []string{"fd00::2", "1460", "1"}, rows[0])
	malformed, err := record.Malformed(ctx, lab, received.File)
	require.NoError(t, err)
	require.Empty(t, malformed)

	stripped, err := record.Strip(ctx, lab, 14, received.File, lab.Path("stripped.pcap"))
	require.NoError(t, err)
	require.Len(t, stripped, len(receivedFrames))
	require.Equal(t, receivedFrames[0].Data[14:], stripped[0].Data)
	_, err = record.Start(ctx, a, "eth9", lab.Path("none.pcap"), record.In, "")
	require.ErrorContains(t, err, "eth9")
}

// TestMalformed gives tshark a datagram from a port of DNS that is none of DNS, and one that ends in its header.
func TestMalformed(t *testing.T) {
	lab, err := topology.New()
	if err != nil {
		t.Skip(err)
	}
	defer func() { require.NoError(t, lab.Close()) }()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, HopLimit: 64, SrcIP: net.IPv6loopback,
		DstIP: net.IPv6loopback}
	udp := &layers.UDP{SrcPort: 53, DstPort: 53}
	require.NoError(t, udp.SetNetworkLayerForChecksum(ip))
	buf := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6),
			EthernetType: layers.EthernetTypeIPv6},
		ip, udp, gopacket.Payload("12345")))
	f, err := os.Create(lab.Path("bad.pcap"))
	require.NoError(t, err)
	w := pcapgo.NewWriter(f)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	whole := buf.Bytes()
	for _, frame := range [][]byte{whole, whole[:len(whole)-len("12345")-1]} {
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(frame), Length: len(frame)}, frame))
	}
	require.NoError(t, f.Close())

	malformed, err := record.Malformed(context.Background(), lab, f.Name())
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(malformed, "\n"), malformed)
	require.Contains(t, malformed, "UDP")
	require.Contains(t, malformed, "Malformed")
}
