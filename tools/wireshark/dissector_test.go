// SPDX-License-Identifier: Apache-2.0

// Package wireshark tests the dissector dpservice.lua with tshark.
package wireshark

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/record"
	"dpservice/wire"
)

// guestFrame is an echo request of a guest.
func guestFrame(t *testing.T) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	from, to := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	src, dst := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: src, DstIP: dst},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)},
	))
	return b.Bytes()
}

// copyOf is a copy as it arrives: the NIC has filled in the lengths.
func copyOf(h wire.CopyHeader, frame []byte) []byte {
	h.NodeIP, h.Sink = netip.MustParseAddr("fc00:1::1"), netip.MustParseAddr("fc00:99::1")
	h.UDPSrcPort = cmp.Or(h.UDPSrcPort, wire.DefaultCopySrcPort)
	b := append(h.Append(nil), frame...)
	length := uint16(len(b) - wire.EthernetLen - wire.IPv6Len)
	binary.BigEndian.PutUint16(b[wire.EthernetLen+4:], length)
	binary.BigEndian.PutUint16(b[wire.EthernetLen+wire.IPv6Len+4:], length)
	return b
}

// dissect returns the fields that tshark finds in packets, a line each, with semicolons between the fields.
func dissect(t *testing.T, packets [][]byte, fields []string, env []string, options ...string) []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "copies.pcap")
	file, err := os.Create(name)
	require.NoError(t, err)
	w := pcapgo.NewWriter(file)
	require.NoError(t, w.WriteFileHeader(1<<16, layers.LinkTypeEthernet))
	for _, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(p), Length: len(p)}
		require.NoError(t, w.WritePacket(info, p))
	}
	require.NoError(t, file.Close())
	argv := append(record.DissectArgs("dpservice.lua"), "-n", "-r", name, "-T", "fields", "-E", "separator=;")
	argv = append(argv, options...)
	for _, f := range fields {
		argv = append(argv, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	require.NotContains(t, stderr.String(), "Lua")
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// noDaemon has dpctl nowhere.
func noDaemon(t *testing.T) []string { return []string{"PATH=/usr/bin:/bin:" + t.TempDir()} }

func TestCopies(t *testing.T) {
	frame := guestFrame(t)
	longFlow := wire.Label(70000) // no label of ours
	packets := [][]byte{
		copyOf(wire.CopyHeader{Label: 7, UDPDstPort: 3010}, frame),
		copyOf(wire.CopyHeader{Label: wire.LabelTX + 7, UDPDstPort: 3011}, frame),
		copyOf(wire.CopyHeader{Label: 7, UDPSrcPort: 51234, UDPDstPort: 40000}, frame), // by its headers
		copyOf(wire.CopyHeader{Label: wire.DropLabel(7, wire.DropSpoofed), UDPDstPort: 3010}, frame),
		copyOf(wire.CopyHeader{Label: 0, UDPDstPort: 40000}, frame),
		copyOf(wire.CopyHeader{Label: longFlow, UDPDstPort: 3010}, frame),
		copyOf(wire.CopyHeader{Label: 7, UDPSrcPort: 51234, UDPDstPort: 40000},
			[]byte("not a frame, but long enough for one")),
		copyOf(wire.CopyHeader{Label: 7, UDPDstPort: 3010}, frame[:10]),
	}
	fields := []string{"dpservice.interface", "dpservice.direction", "dpservice.label", "dpservice.node",
		"ip.src", "icmp.type"}
	assert.Equal(t, []string{
		"label-7;rx;7;fc00:1::1;10.0.0.1;8",
		"label-7;tx;524295;fc00:1::1;10.0.0.1;8",
		"label-7;rx;7;fc00:1::1;10.0.0.1;8",
		"label-7;drop;315399;fc00:1::1;10.0.0.1;8",
		";;;;;", ";;;;;", ";;;;;", ";;;;;",
	}, dissect(t, packets, fields, noDaemon(t)))
	info := dissect(t, packets[:1], []string{"_ws.col.Info"}, noDaemon(t))
	assert.Contains(t, info[0], "[label-7 rx] Echo (ping) request")

	protocol := dissect(t, packets[4:5], []string{"_ws.col.Protocol"}, noDaemon(t))
	assert.Equal(t, []string{"DIS"}, protocol, "what is no copy is for the dissector that has port 3000 otherwise")

	moved := dissect(t, packets[:2], fields[:1], noDaemon(t), "-o", "dpservice.ports:5000",
		"--disable-heuristic", "dpservice_udp")
	assert.Equal(t, []string{"", ""}, moved, "ports can be chosen")
}

// Every reason has its name, as wire has it, also those that are not known yet.
func TestDropReasons(t *testing.T) {
	var packets [][]byte
	var want []string
	for reason := range wire.NumDropReasons + 2 {
		packets = append(packets, copyOf(wire.CopyHeader{Label: wire.DropLabel(7, reason), UDPDstPort: 3010}, guestFrame(t)))
		want = append(want, "label-7;"+reason.String())
	}
	assert.Equal(t, want, dissect(t, packets, []string{"dpservice.interface", "dpservice.drop_reason"}, noDaemon(t)))
	info := dissect(t, packets[:1], []string{"_ws.col.Info"}, noDaemon(t))
	assert.Contains(t, info[0], "[label-7 drop malformed] Echo (ping) request")
}

// A packet that a guest sends may look like anything, also like a copy: that is shown within the copy.
func TestCopyOfACopy(t *testing.T) {
	inner := copyOf(wire.CopyHeader{Label: 9, UDPDstPort: 3010}, guestFrame(t))
	outer := copyOf(wire.CopyHeader{Label: 7, UDPDstPort: 3010}, inner)
	assert.Equal(t, []string{"label-7,label-9;10.0.0.1"},
		dissect(t, [][]byte{outer}, []string{"dpservice.interface", "ip.src"}, noDaemon(t)))
}

func TestNames(t *testing.T) {
	frame := guestFrame(t)
	packets := [][]byte{
		copyOf(wire.CopyHeader{Label: 7, UDPDstPort: 3010}, frame),
		copyOf(wire.CopyHeader{Label: wire.LabelTX + 8, UDPDstPort: 3010}, frame),
		copyOf(wire.CopyHeader{Label: 9, UDPDstPort: 3010}, frame),
	}
	fields := []string{"dpservice.interface", "dpservice.node"}
	file := filepath.Join(t.TempDir(), "names")
	named := "# names\nfc00:1::1/7=vm-1\n8=db\nfc00:2::2/9=elsewhere\nfc00:1::1=hv1\n"
	require.NoError(t, os.WriteFile(file, []byte(named), 0o600))
	assert.Equal(t, []string{"vm-1;hv1", "db;hv1", "label-9;hv1"},
		dissect(t, packets, fields, noDaemon(t), "-o", "dpservice.names:"+file))

	bin := t.TempDir() // has a dpctl that knows names
	script := "#!/bin/sh\n[ \"$*\" = '--timeout=1s capture names' ] && echo fc00:1::1/7=vm-1 && echo fc00:1::1/8=vm-2\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "dpctl"), []byte(script), 0o700))
	asking := []string{"PATH=" + bin + ":/usr/bin:/bin"}
	assert.Equal(t, []string{"vm-1;fc00:1::1", "vm-2;fc00:1::1", "label-9;fc00:1::1"}, dissect(t, packets, fields, asking))
	assert.Equal(t, []string{"label-7;fc00:1::1", "label-8;fc00:1::1", "label-9;fc00:1::1"},
		dissect(t, packets, fields, asking, "-o", "dpservice.ask:FALSE"))
}
