// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/pcapng"
)

// frameOf serializes a frame.
func frameOf(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(b, options, all...))
	return b.Bytes()
}

var (
	here  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	there = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func ethernet(of layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: here, DstMAC: there, EthernetType: of}
}

func ipv4(of layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: of, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
}

func TestEssence(t *testing.T) {
	tcp := &layers.TCP{SrcPort: 443, DstPort: 50000, SYN: true, ACK: true}
	require.NoError(t, tcp.SetNetworkLayerForChecksum(ipv4(layers.IPProtocolTCP)))
	inner := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolIPv4, SrcIP: net.ParseIP("fc00:1::1"),
		DstIP: net.ParseIP("fc00:2::2")}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)}
	tests := map[string]struct {
		frame []byte
		want  string
	}{
		"TCP": {frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolTCP), tcp),
			"IP 10.0.0.1 > 10.0.0.2, TCP 443 > 50000 [S.], 60 bytes"},
		"echo in IPv6": {frameOf(t, ethernet(layers.EthernetTypeIPv6), inner, ipv4(layers.IPProtocolICMPv4), echo),
			"IP6 fc00:1::1 > fc00:2::2, IP 10.0.0.1 > 10.0.0.2, ICMP EchoRequest, 82 bytes"},
		"ARP": {frameOf(t, ethernet(layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: here, SourceProtAddress: []byte{10, 0, 0, 1},
			DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 0, 0, 254},
		}), "02:00:00:00:00:01 > 02:00:00:00:00:02, ARP who has 10.0.0.254, tell 10.0.0.1, 60 bytes"},
		"unknown": {append(frameOf(t, ethernet(0x88b5)), 1, 2, 3),
			"02:00:00:00:00:01 > 02:00:00:00:00:02, 63 bytes"},
		"cut short": {[]byte{1, 2, 3}, "3 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, essence(tt.frame, len(tt.frame))) })
	}
}

// Any frame has one line, which ends with its length.
func FuzzEssence(f *testing.F) {
	f.Add(frameOf(f, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolUDP), gopacket.Payload("12345678")))
	f.Fuzz(func(t *testing.T, frame []byte) {
		line := essence(frame, len(frame))
		assert.True(t, strings.HasSuffix(line, fmt.Sprintf("%d bytes", len(frame))), line)
		assert.NotContains(t, line, "\n")
	})
}

// viewed returns what a viewer prints of frames, which are on interfaces in turns.
func viewed(t *testing.T, decoder string, interfaces []string, frames [][]byte) string {
	t.Helper()
	var out output
	ctx, end := context.WithCancelCause(t.Context())
	v, err := newViewer(decoder, &out, func(name string) string { return "<" + name + ">" }, end)
	require.NoError(t, err)
	v.start()
	w := pcapng.NewWriter(v.in, pcapng.Section{})
	for _, name := range interfaces {
		w.AddInterface(pcapng.Interface{Name: name})
	}
	for i, frame := range frames {
		require.NoError(t, w.Packet(i%len(interfaces), time.Now().UnixNano(), frame, len(frame)))
	}
	require.NoError(t, w.Flush())
	require.NoError(t, v.close())
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), context.Canceled)
	return out.String()
}

// Each decoder's lines begin with the interface that their packet came from, whatever other packets are like.
func TestViewerNamesTheInterface(t *testing.T) {
	const rounds = 200
	interfaces := []string{"vm-1", "vm-1-tx", "a-longer-name"}
	random := rand.New(rand.NewPCG(1, 2))
	var frames [][]byte
	for i := range rounds * len(interfaces) {
		if i%7 == 6 { // garbage, of any protocol
			frame := frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocol(random.IntN(256))))
			for range random.IntN(60) {
				frame = append(frame, byte(random.Uint32()))
			}
			frames = append(frames, frame)
			continue
		}
		udp := &layers.UDP{SrcPort: 4000, DstPort: layers.UDPPort(10000 + i)}
		require.NoError(t, udp.SetNetworkLayerForChecksum(ipv4(layers.IPProtocolUDP)))
		frames = append(frames, frameOf(t, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolUDP), udp))
	}
	for _, decoder := range decoders[1:] {
		t.Run(decoder, func(t *testing.T) {
			shown := viewed(t, decoder, interfaces, frames)
			for i := range frames {
				if i%7 == 6 {
					continue
				}
				port := 10000 + i
				lines := regexp.MustCompile(fmt.Sprintf(`(?m)^.*[. ]%d[:, ].*$`, port)).FindAllString(shown, -1)
				require.Len(t, lines, 1, "lines of the packet to port %d", port)
				assert.True(t, strings.HasPrefix(lines[0], "<"+interfaces[i%len(interfaces)]+"> "), lines[0])
			}
		})
	}
}

// Whoever reads the lines may stop to, as head(1) does: then the capture ends, and that is no failure.
func TestViewerIsNotReadAnyMore(t *testing.T) {
	frame := append(frameOf(t, ethernet(0x88b5)), make([]byte, 50)...)
	for _, decoder := range decoders[1:] {
		t.Run(decoder, func(t *testing.T) {
			reader, writer, err := os.Pipe()
			require.NoError(t, err)
			require.NoError(t, reader.Close())
			defer writer.Close()
			ctx, end := context.WithCancelCause(t.Context())
			v, err := newViewer(decoder, writer, func(name string) string { return name }, end)
			require.NoError(t, err)
			v.start()
			w := pcapng.NewWriter(v.in, pcapng.Section{})
			w.AddInterface(pcapng.Interface{Name: "vm-1"})
			require.Eventually(t, func() bool {
				_ = w.Packet(0, time.Now().UnixNano(), frame, len(frame))
				_ = w.Flush() // fails when the viewer has ended
				return ctx.Err() != nil
			}, 10*time.Second, 10*time.Millisecond)
			require.NoError(t, v.close())
			require.ErrorIs(t, context.Cause(ctx), context.Canceled)
		})
	}
}

// A decoder that ends by itself fails the capture, with what it said.
func TestViewerLosesItsDecoder(t *testing.T) {
	commands["broken"] = []string{"sh", "-c", "echo no such thing >&2; exit 1"}
	defer delete(commands, "broken")
	ctx, end := context.WithCancelCause(t.Context())
	var out output
	v, err := newViewer("broken", &out, func(name string) string { return name }, end)
	require.NoError(t, err)
	v.start()
	w := pcapng.NewWriter(v.in, pcapng.Section{})
	w.AddInterface(pcapng.Interface{Name: "vm-1"})
	require.Eventually(t, func() bool {
		_ = w.Packet(0, time.Now().UnixNano(), make([]byte, 60), 60)
		_ = w.Flush()
		return ctx.Err() != nil
	}, 10*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, v.close(), "no such thing")
}

func TestViewerWithoutItsDecoder(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newViewer("tshark", &output{}, nil, nil)
	require.ErrorContains(t, err, "--show=tshark")
	v, err := newViewer("auto", &output{}, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "plain", v.decoder)
	require.NoError(t, v.close())
}
