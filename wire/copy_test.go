// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
)

var testHeader = wire.CopyHeader{
	RouterMAC:  wire.MAC{0x02, 0, 0, 0, 0, 0xfe},
	UplinkMAC:  wire.MAC{0x02, 0, 0, 0, 0, 0x01},
	NodeIP:     netip.MustParseAddr("fc00:1::1"),
	Sink:       netip.MustParseAddr("fc00:2::9"),
	UDPSrcPort: 3000,
	UDPDstPort: 3010,
}

// Byte for byte, the lengths and the checksum left to the NIC.
func TestAppend(t *testing.T) {
	want := strings.Join([]string{
		"0200000000fe", "020000000001", "86dd",
		"60000000", "0000", "11", "40",
		"fc000001000000000000000000000001",
		"fc000002000000000000000000000009",
		"0bb8", "0bc2", "0000", "0000",
	}, "")
	assert.Equal(t, want, hex.EncodeToString(testHeader.Append(nil)))
	assert.Equal(t, 62, wire.CopyHeaderLen)
	assert.Equal(t, 70, wire.VXLANCopyHeaderLen)
}

// The label is where tools look for it, and only there.
func TestAppendLabel(t *testing.T) {
	h := testHeader
	h.Label = 0xabcde
	assert.Equal(t, "600abcde", hex.EncodeToString(h.Append(nil)[14:18]))

	h.Encap = wire.EncapVXLAN
	b := h.Append(nil)
	assert.Len(t, b, wire.VXLANCopyHeaderLen)
	assert.Equal(t, h.Len(), len(b))
	assert.Equal(t, testHeader.Append(nil), b[:wire.CopyHeaderLen])
	assert.Equal(t, "08000000"+"0abcde00", hex.EncodeToString(b[wire.CopyHeaderLen:]))
}

// copyOf returns a frame in a copy, with the lengths that a NIC fills in.
func copyOf(h wire.CopyHeader, frame string) []byte {
	b := append(h.Append(nil), frame...)
	payload := uint16(len(b) - wire.EthernetLen - wire.IPv6Len)
	binary.BigEndian.PutUint16(b[wire.EthernetLen+4:], payload)
	binary.BigEndian.PutUint16(b[wire.EthernetLen+wire.IPv6Len+4:], payload)
	return b
}

// As gopacket reads it, before a captured frame.
func TestAppendDecodes(t *testing.T) {
	p := gopacket.NewPacket(copyOf(testHeader, "a captured frame"), layers.LayerTypeEthernet, gopacket.Default)

	eth, _ := p.LinkLayer().(*layers.Ethernet)
	require.NotNil(t, eth)
	assert.Equal(t, net.HardwareAddr(testHeader.RouterMAC[:]), eth.DstMAC)
	assert.Equal(t, net.HardwareAddr(testHeader.UplinkMAC[:]), eth.SrcMAC)
	assert.Equal(t, layers.EthernetTypeIPv6, eth.EthernetType)

	ip, _ := p.NetworkLayer().(*layers.IPv6)
	require.NotNil(t, ip)
	assert.EqualValues(t, 6, ip.Version)
	assert.Zero(t, ip.TrafficClass)
	assert.Zero(t, ip.FlowLabel)
	assert.Equal(t, layers.IPProtocolUDP, ip.NextHeader)
	assert.EqualValues(t, 64, ip.HopLimit)
	assert.Equal(t, testHeader.NodeIP.String(), ip.SrcIP.String())
	assert.Equal(t, testHeader.Sink.String(), ip.DstIP.String())

	udp, _ := p.TransportLayer().(*layers.UDP)
	require.NotNil(t, udp)
	assert.EqualValues(t, 3000, udp.SrcPort)
	assert.EqualValues(t, 3010, udp.DstPort)
	assert.Zero(t, udp.Checksum)
	assert.Equal(t, "a captured frame", string(udp.Payload))
}

// What is appended is parsed, and a copy that is cut anywhere in its header is not a copy.
func TestParseCopy(t *testing.T) {
	for _, e := range []wire.Encap{wire.EncapUDP, wire.EncapVXLAN} {
		h := testHeader
		h.Encap, h.Label = e, wire.LabelTX|7
		b := copyOf(h, "frame")

		got, frame, err := wire.ParseCopy(b, e)
		require.NoError(t, err)
		assert.Equal(t, h, got)
		assert.Equal(t, "frame", string(frame))

		got, frame, err = wire.ParseCopy(append(b, "padding"...), e)
		require.NoError(t, err)
		assert.Equal(t, h, got)
		assert.Equal(t, "frame", string(frame))

		for n := range b {
			_, frame, err := wire.ParseCopy(b[:n], e)
			require.ErrorIs(t, err, wire.ErrNotCopy, n)
			assert.Empty(t, frame)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const ip, udp = wire.EthernetLen, wire.EthernetLen + wire.IPv6Len
	for name, damage := range map[string]func(b []byte){
		"IPv4":                      func(b []byte) { binary.BigEndian.PutUint16(b[12:], wire.EtherTypeIPv4) },
		"TCP":                       func(b []byte) { b[ip+6] = wire.ProtoTCP },
		"UDP shorter than a header": func(b []byte) { binary.BigEndian.PutUint16(b[udp+4:], wire.UDPLen-1) },
		"UDP longer than IPv6":      func(b []byte) { b[ip+5]-- },
		"no VNI":                    func(b []byte) { b[wire.CopyHeaderLen] = 0 },
	} {
		h := testHeader
		h.Encap = wire.EncapVXLAN
		b := copyOf(h, "frame")
		damage(b)
		_, frame, err := wire.ParseCopy(b, h.Encap)
		require.ErrorIs(t, err, wire.ErrNotCopy, name)
		assert.Empty(t, frame, name)
	}
}

// The addresses of a datagram are known even when its lengths are wrong: who may send is asked first.
func TestParseKeepsAddresses(t *testing.T) {
	b := copyOf(testHeader, "frame")[wire.EthernetLen:]
	h, _, err := wire.ParseIPv6Copy(b[:wire.IPv6Len+wire.UDPLen], wire.EncapUDP)
	require.ErrorIs(t, err, wire.ErrNotCopy)
	assert.Equal(t, testHeader.NodeIP, h.NodeIP)
	assert.Equal(t, testHeader.Sink, h.Sink)
}

func TestParseMAC(t *testing.T) {
	mac, err := wire.ParseMAC("02-00-00-00-00-0A")
	require.NoError(t, err)
	assert.Equal(t, "02:00:00:00:00:0a", mac.String())
	for _, text := range []string{"", "02:00", "02:00:00:00:00:00:00:01"} {
		_, err := wire.ParseMAC(text)
		assert.ErrorContains(t, err, "is not a MAC address")
	}
}
