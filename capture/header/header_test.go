// SPDX-License-Identifier: Apache-2.0

package header

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/graph"
	"dpservice/rteflow"
)

var testHeader = Header{
	RouterMAC:  rteflow.MAC{0x02, 0, 0, 0, 0, 0xfe},
	UplinkMAC:  rteflow.MAC{0x02, 0, 0, 0, 0, 0x01},
	NodeIP:     netip.MustParseAddr("fc00:1::1"),
	Sink:       netip.MustParseAddr("fc00:2::9"),
	UDPSrcPort: 3000,
	UDPDstPort: 3010,
}

// Byte for byte, the lengths and the checksum left to the NIC.
func TestHeaderBytes(t *testing.T) {
	want := strings.Join([]string{
		"0200000000fe", "020000000001", "86dd",
		"60000000", "0000", "11", "40",
		"fc000001000000000000000000000001",
		"fc000002000000000000000000000009",
		"0bb8", "0bc2", "0000", "0000",
	}, "")
	b := testHeader.Bytes()
	assert.Len(t, b, Len)
	assert.Equal(t, 62, Len)
	assert.Equal(t, want, hex.EncodeToString(b))
}

// The label is where tools look for it, and only there.
func TestLabel(t *testing.T) {
	h := testHeader
	h.Label = 0xabcde
	assert.Equal(t, "600abcde", hex.EncodeToString(h.Bytes()[14:18]))

	h.Encap = spec.EncapVXLAN
	b := h.Bytes()
	assert.Len(t, b, VXLANLen)
	assert.Equal(t, h.Len(), len(b))
	assert.Equal(t, testHeader.Bytes(), b[:Len])
	assert.Equal(t, "08000000"+"0abcde00", hex.EncodeToString(b[Len:]))

	for _, port := range []uint16{0, 1, 65535} {
		assert.EqualValues(t, port, LabelOf(port, graph.TapRX)-1)
		assert.NotZero(t, LabelOf(port, graph.TapRX))
		assert.Less(t, LabelOf(port, graph.TapRX), Label(1<<20))
	}
}

// As gopacket reads it, before a captured frame.
func TestHeaderDecodes(t *testing.T) {
	frame := []byte("a captured frame")
	p := gopacket.NewPacket(append(testHeader.Bytes(), frame...), layers.LayerTypeEthernet, gopacket.Default)

	eth, _ := p.LinkLayer().(*layers.Ethernet)
	require.NotNil(t, eth)
	assert.Equal(t, net.HardwareAddr(testHeader.RouterMAC[:]), eth.DstMAC)
	assert.Equal(t, net.HardwareAddr(testHeader.UplinkMAC[:]), eth.SrcMAC)
	assert.Equal(t, layers.EthernetTypeIPv6, eth.EthernetType)

	ip := new(layers.IPv6)
	// A payload length of 0 means a jumbogram to gopacket, so the NIC's part is played here.
	b := append(testHeader.Bytes(), frame...)[EthLen:]
	b[5] = byte(len(b) - ipv6Len)
	b[ipv6Len+5] = byte(len(b) - ipv6Len)
	require.NoError(t, ip.DecodeFromBytes(b, gopacket.NilDecodeFeedback))
	assert.EqualValues(t, 6, ip.Version)
	assert.Zero(t, ip.TrafficClass)
	assert.Zero(t, ip.FlowLabel)
	assert.Equal(t, layers.IPProtocolUDP, ip.NextHeader)
	assert.EqualValues(t, 64, ip.HopLimit)
	assert.Equal(t, testHeader.NodeIP.String(), ip.SrcIP.String())
	assert.Equal(t, testHeader.Sink.String(), ip.DstIP.String())

	udp := new(layers.UDP)
	require.NoError(t, udp.DecodeFromBytes(ip.Payload, gopacket.NilDecodeFeedback))
	assert.EqualValues(t, 3000, udp.SrcPort)
	assert.EqualValues(t, 3010, udp.DstPort)
	assert.Zero(t, udp.Checksum)
	assert.Equal(t, frame, udp.Payload)
}
