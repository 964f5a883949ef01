// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

func TestMain(m *testing.M) { os.Exit(topology.Main(m)) }

const (
	guestMAC  = "02:00:00:00:00:0a"
	peerMAC   = "02:00:00:00:00:0b"
	nicMAC    = "02:00:00:00:00:01"
	routerMAC = "02:00:00:00:00:02"
)

// setHeader is testpmd's way to say which 62 bytes go before a captured frame.
const setHeader = "set raw_encap 0 eth src is " + nicMAC + " dst is " + routerMAC +
	" / ipv6 src is fc00:1::1 dst is fc00:99::1 hop is 64 / udp src is 3000 dst is 3010 / end_set"

func mac(t *testing.T, text string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(text)
	require.NoError(t, err)
	return m
}

func serialize(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, parts...))
	return buffer.Bytes()
}

func ethernet(t *testing.T, kind layers.EthernetType) *layers.Ethernet {
	t.Helper()
	return &layers.Ethernet{SrcMAC: mac(t, guestMAC), DstMAC: mac(t, peerMAC), EthernetType: kind}
}

func ipv4Frame(t *testing.T, size int) []byte {
	t.Helper()
	return serialize(t, ethernet(t, layers.EthernetTypeIPv4),
		&layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP,
			SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)},
		&layers.UDP{SrcPort: 1000, DstPort: 2000},
		gopacket.Payload(strings.Repeat("x", size)))
}

func ipv6Frame(t *testing.T) []byte {
	t.Helper()
	return serialize(t, ethernet(t, layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")},
		&layers.TCP{SrcPort: 1000, DstPort: 80, SYN: true})
}

func unknownFrame(t *testing.T) []byte {
	t.Helper()
	return serialize(t, ethernet(t, 0x88b5), gopacket.Payload(strings.Repeat("y", 46)))
}

// encapsulated is what the copy of a frame has to be, given the UDP source port that the NIC chose.
func encapsulated(t *testing.T, original, copied []byte) []byte {
	t.Helper()
	require.Greater(t, len(copied), 62)
	source := binary.BigEndian.Uint16(copied[54:])
	assert.GreaterOrEqual(t, source, uint16(49152), "the source port is the NIC's entropy")
	return serialize(t,
		&layers.Ethernet{SrcMAC: mac(t, nicMAC), DstMAC: mac(t, routerMAC), EthernetType: layers.EthernetTypeIPv6},
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP,
			SrcIP: net.ParseIP("fc00:1::1"), DstIP: net.ParseIP("fc00:99::1")},
		&layers.UDP{SrcPort: layers.UDPPort(source), DstPort: 3010},
		gopacket.Payload(original))
}

func TestMirrorsInFrontOfAJump(t *testing.T) {
	c := newClient(t)
	c.tell(setHeader, fmt.Sprintf("set sample_actions 0 raw_encap index 0 / port_id id %d / end", pf0))
	c.do(fmt.Sprintf("flow create %d group 2 priority 0 transfer pattern eth / end actions represented_port ethdev_port_id %d / end",
		vf0, vf1), `Flow rule #0 created`)
	c.do(fmt.Sprintf("flow create %d group 1 priority 0 transfer pattern eth / end actions count / sample ratio 1 index 0 / jump group 2 / end",
		vf0), `Flow rule #1 created`)
	c.do(fmt.Sprintf("flow create %d group 0 priority 0 transfer pattern represented_port ethdev_port_id is %d / eth / end actions jump group 1 / end",
		vf0, vf0), `Flow rule #2 created`)

	originals := [][]byte{ipv4Frame(t, 100), ipv6Frame(t), unknownFrame(t), ipv4Frame(t, 1400)}
	c.send(originals...)
	assert.Equal(t, originals, c.left("vf1", len(originals)))
	copies := c.left("pf0", len(originals))
	require.Len(t, copies, len(originals))
	for i := range copies {
		assert.Equal(t, encapsulated(t, originals[i], copies[i]), copies[i], "frame %d", i)
	}
	assert.Equal(t, "4", c.do(fmt.Sprintf("flow query %d 1 count", vf0), ` hits: (\d+)`))
	xstats := c.do(fmt.Sprintf("show port xstats %d", vf0), `(?s)NIC extended statistics.*rx_too_long: \d+`)
	for _, want := range []string{"\nhits: 4\n", "\nmisses: 0\n", "\nsampled: 4\n", "\nencapsulated: 4\n"} {
		assert.Contains(t, xstats, want)
	}
}

func TestMissReachesTheApplication(t *testing.T) {
	c := newClient(t)
	c.do(fmt.Sprintf("flow create %d transfer pattern eth / ipv4 / end actions port_id id %d / end", vf0, vf1),
		`Flow rule #0 created`)
	// Forwarding in pairs, testpmd sends what VF 0 receives out of VF 1. Left to itself it says that it forwards, and then
	// throws away what it has received so far.
	c.tell(fmt.Sprintf("set portlist %d,%d", vf0, vf1), "set flush_rx off")
	c.do("start", `io packet forwarding.*`)
	hit, miss := ipv4Frame(t, 100), ipv6Frame(t)
	c.send(hit, miss)
	assert.ElementsMatch(t, [][]byte{hit, miss}, c.left("vf1", 2))
	assert.Equal(t, "1", c.do(fmt.Sprintf("show port stats %d", vf0), `RX-packets: ([1-9]\d*)`))
	c.do("stop", `Done\.`)
}

func TestRefusalsReachTheOperator(t *testing.T) {
	c := newClient(t)
	c.tell(setHeader,
		fmt.Sprintf("set sample_actions 0 raw_encap index 0 / port_id id %d / end", pf0),
		fmt.Sprintf("set sample_actions 1 raw_encap index 0 / port_id id %d / end", vf1),
		fmt.Sprintf("set sample_actions 2 port_id id %d / end", pf0))
	for _, test := range []struct {
		port                int
		attributes, pattern string
		actions             string
		want                string
	}{
		{vf0, "transfer", "eth / ipv4 / gre", "drop", `specific pattern item.*item GRE: is not supported: Operation not supported`},
		{vf0, "group 1 transfer", "eth", "jump group 1", `specific action.*action JUMP: from group 1 to group 1.*Invalid argument`},
		{vf0, "transfer", "eth", "queue index 0", `specific action.*action QUEUE: is not supported in transfer rules`},
		{vf0, "transfer", "eth", "count", `no fate action`},
		{vf0, "egress transfer", "eth", "drop", `transfer.*Invalid argument`},
		{pf1, "transfer", "eth", "drop", `transfer field.*PF1 is not in switchdev mode: Operation not supported`},
		{vf0, "transfer", "eth", fmt.Sprintf("represented_port ethdev_port_id %d", pf1), `port 5 is not in this switch domain`},
		{vf0, "transfer", "eth", "sample ratio 2 index 0 / drop", `action SAMPLE: with a ratio above 1`},
		{vf0, "transfer", "eth", "sample ratio 1 index 1 / jump group 1", `action SAMPLE: an encapsulated copy can go to the uplink only`},
		{vf0, "transfer", "eth", "sample ratio 1 index 2 / jump group 1", `action SAMPLE: a copy to the uplink before a jump needs an encapsulation`},
		{vf0, "transfer", "eth", "jump group 1 / sample ratio 1 index 0", `action SAMPLE: cannot follow a jump`},
		{pf0, "ingress", "eth", "sample ratio 1 index 0 / queue index 0", `is not supported in a sample of ingress traffic`},
	} {
		rule := fmt.Sprintf("%d %s pattern %s / end actions %s / end", test.port, test.attributes, test.pattern, test.actions)
		c.do("flow validate "+rule, test.want)
		c.do("flow create "+rule, test.want)
	}
	c.do(fmt.Sprintf("flow validate %d transfer pattern eth / end actions sample ratio 1 index 0 / jump group 1 / end", vf0),
		`Flow rule validated`)
}
