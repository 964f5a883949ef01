// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/plugin"
	"dpservice/test/report"
)

var cards = []string{"cx5", "cx6dx", "cx7"}

// The lengths around what the driver inlines, packs together, or sends by pointer, up to the MTU.
var sizes = []int{60, 61, 64, 72, 128, 129, 200, 255, 256, 257, 300, 511, 512, 513, 1000, 1513, 1514}

var (
	guest  = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	peer   = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
	tagged = []byte{0x81, 0x00, 0x20, 0x64}
)

// udp is a UDP datagram in a frame of that length.
func udp(size int, source uint16) []byte {
	payload := make([]byte, size-14-20-8)
	for i := range payload {
		payload[i] = byte(i*7 + size)
	}
	return serialize(&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 1},
		DstIP: net.IP{10, 0, 0, 2}},
		&layers.UDP{SrcPort: layers.UDPPort(source), DstPort: 7}, payload)
}

type transport interface {
	gopacket.SerializableLayer
	SetNetworkLayerForChecksum(l gopacket.NetworkLayer) error
}

func serialize(network interface {
	gopacket.NetworkLayer
	gopacket.SerializableLayer
}, l4 transport, payload []byte) []byte {
	ether := &layers.Ethernet{SrcMAC: guest, DstMAC: peer, EthernetType: layers.EthernetTypeIPv4}
	if network.LayerType() == layers.LayerTypeIPv6 {
		ether.EthernetType = layers.EthernetTypeIPv6
	}
	if err := l4.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, options, ether, network, l4, gopacket.Payload(payload)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func insertTag(frame, tag []byte) []byte {
	return append(append(append([]byte{}, frame[:12]...), tag...), frame[12:]...)
}

// allFrames are frames of all sizes, with a tag and without.
func allFrames() [][]byte {
	var frames [][]byte
	for _, size := range sizes {
		frames = append(frames, udp(size, 1), insertTag(udp(size, 1), tagged))
	}
	return frames
}

func swapped(frames [][]byte) [][]byte {
	var out [][]byte
	for _, f := range frames {
		out = append(out, append(append(append([]byte{}, f[6:12]...), f[:6]...), f[12:]...))
	}
	return out
}

// Frames pass unchanged between the ports, in both directions, in the switch and on the legacy PF, on all cards.
func TestForwarding(t *testing.T) {
	for _, card := range cards {
		t.Run(card, func(t *testing.T) {
			c := newClient(t, card)
			c.tell(t, "set fwd io", "start")
			frames := allFrames()
			for i := range 200 {
				frames = append(frames, udp(60+i*7, uint16(i)))
			}
			for _, pair := range [][2]int{{pf0, vf0}, {vf0, pf0}, {vf1, pf1}, {pf1, vf1}} {
				c.forwards(t, pair[0], frames, pair[1], frames)
			}
			c.tell(t, "stop", "set fwd macswap", "start")
			c.forwards(t, vf0, frames, pf0, swapped(frames))
			report.Printf(t, "%d frames forwarded byte for byte by testpmd with net_mlx5 over a virtual %s", 5*len(frames), card)
		})
	}
}

// The forms of entries in the send queue: by pointer, inline, several frames in one, one of several segments.
func TestSendQueueForms(t *testing.T) {
	for _, form := range []struct{ name, devargs string }{
		{"one by one", "txq_mpw_en=0"},
		{"one by one, inline", "txq_mpw_en=0,txqs_min_inline=0,txq_inline_max=260"},
		{"one by one, header inline", "txq_mpw_en=0,txqs_min_inline=0,txq_inline_min=18"},
		{"several, inline", "txqs_min_inline=0,txq_inline_mpw=260"},
	} {
		t.Run(form.name, func(t *testing.T) {
			c := newClientWith(t, "cx6dx", form.devargs)
			c.tell(t, "set fwd io", "start")
			frames := allFrames()
			for range 8 { // around the ring
				c.forwards(t, vf0, frames, pf0, frames)
			}
		})
	}
}

// Small buffers: a frame is received into several, and sent from several.
func TestSegments(t *testing.T) {
	c := newClient(t, "cx6dx", "--mbuf-size=384", "--rx-offloads=0x2000", "--tx-offloads=0x8000")
	c.tell(t, "set fwd io", "start")
	frames := allFrames()
	for range 4 {
		c.forwards(t, vf0, frames, pf0, frames)
		c.forwards(t, pf1, frames, vf1, frames)
	}
}

// A flow stays on the queue that the hash of its addresses and ports names, and many flows use both queues.
func TestRSS(t *testing.T) {
	c := newClient(t, "cx6dx", "--rxq=2", "--txq=2", "--rss-udp")
	c.tell(t, "set fwd rxonly", "start")
	const flows = 64
	queues := func() (n [2]int) {
		stats := c.Ask(t, "show port xstats 0")
		for q := range n {
			m := regexp.MustCompile(fmt.Sprintf(`rx_q%d_packets: (\d+)`, q)).FindStringSubmatch(stats)
			require.NotNil(t, m, stats)
			n[q], _ = strconv.Atoi(m[1])
		}
		return n
	}
	for i := range flows {
		c.send(t, pf0, udp(100, uint16(1000+i)))
	}
	eventually(t, "all flows have come", func() bool { n := queues(); return n[0]+n[1] == flows })
	first := queues()
	assert.Greater(t, first[0], flows/5)
	assert.Greater(t, first[1], flows/5)
	for range flows {
		c.send(t, pf0, udp(100, 1000))
	}
	eventually(t, "all of one flow have come", func() bool { n := queues(); return n[0]+n[1] == 2*flows })
	second := queues()
	assert.True(t, second[0] == first[0] || second[1] == first[1], "one flow is on two queues: %v, then %v", first, second)
}

// An isolated port leaves everything to the kernel, whose packets leave through the wire.
func TestKernelTwin(t *testing.T) {
	c := newClient(t, "cx6dx", "--flow-isolate-all")
	c.tell(t, "set fwd rxonly", "start")
	require.NoError(t, c.host.IP("address add 192.0.2.1/24 dev cxpf0"))
	require.NoError(t, c.far.IP("address add 192.0.2.2/24 dev far-wire0"))
	for _, from := range []string{"far", "host"} {
		ns, to := c.far, "192.0.2.1"
		if from == "host" {
			ns, to = c.host, "192.0.2.2"
		}
		ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
		r, err := ns.Run(ctx, "ping", "-n", "-c", "3", "-i", "0.2", "-w", "10", to)
		cancel()
		require.NoError(t, err)
		require.NoError(t, r.Err())
		assert.Contains(t, r.Stdout, "3 received")
		assert.NotContains(t, r.Stdout, "DUP", "the kernel answers at the far side, too")
	}
	assert.Contains(t, c.Ask(t, "show port stats 0"), "RX-packets: 0 ")
	c.tell(t, "flow create 0 ingress pattern eth / ipv4 / udp / end actions queue index 0 / end")
	c.send(t, pf0, udp(100, 1))
	eventually(t, "a rule takes what it matches",
		func() bool { return strings.Contains(c.Ask(t, "show port stats 0"), "RX-packets: 1 ") })
}

// Ports and queues stop and start again.
func TestStopAndStart(t *testing.T) {
	c := newClient(t, "cx6dx")
	c.tell(t, "set fwd io", "start")
	frames := allFrames()
	for range 3 {
		c.forwards(t, vf0, frames, pf0, frames)
		c.tell(t, "stop", "port stop all")
		c.send(t, vf0, frames...)
		c.quiet(t, pf0)
		c.tell(t, "port start all", "start")
	}
	c.forwards(t, vf0, frames, pf0, frames)
	c.tell(t, "stop", "port 1 rxq 0 stop", "port 0 txq 0 stop", "port 0 txq 0 start", "port 1 rxq 0 start", "start")
	c.forwards(t, vf0, frames, pf0, frames)
}

// The card computes the checksums that the application leaves to it, cuts TCP into segments, and tells of good and bad
// ones.
func TestChecksums(t *testing.T) {
	c := newClient(t, "cx6dx", "--rx-offloads=0xe", "--tx-offloads=0x802e")
	c.tell(t, "set fwd csum", "port stop all")
	for port := range farSides {
		for _, layer := range []string{"ip", "udp", "tcp"} {
			c.Ask(t, fmt.Sprintf("csum set %s hw %d", layer, port))
		}
	}
	c.tell(t, "port start all", "start")
	ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd00::1"),
		DstIP: net.ParseIP("fd00::2")}
	ip4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 0, 0, 1},
		DstIP: net.IP{10, 0, 0, 2}}
	for _, f := range [][]byte{udp(100, 1), udp(101, 1),
		serialize(ip4, &layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}, []byte("odd")),
		serialize(ip6, &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, []byte("even"))} {
		broken := append([]byte{}, f...)
		at := 14 + 20 + 6
		if f[12] == 0x86 {
			at = 14 + 40 + 16
		} else if f[23] == 6 {
			at = 14 + 20 + 16
		}
		broken[at] ^= 0x55 // the L4 checksum
		c.send(t, vf0, broken)
		got := c.receive(t, pf0, 1, frameTimeout)
		require.Len(t, got, 1)
		// testpmd writes addresses of its own.
		assert.Equal(t, f[12:], got[0][12:])
	}
	t.Run("TSO", func(t *testing.T) { c.cuts(t) })
	t.Run("received", func(t *testing.T) { c.tellsGood(t) })
}

// tellsGood looks at what the driver says of the checksums of a frame.
func (c *client) tellsGood(t *testing.T) {
	c.tell(t, "stop", "set fwd rxonly", "set verbose 1", "start")
	for _, broken := range []struct {
		at   int
		want string
	}{
		{-1, "RTE_MBUF_F_RX_L4_CKSUM_GOOD RTE_MBUF_F_RX_IP_CKSUM_GOOD"},
		{14 + 20 + 6, "RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN RTE_MBUF_F_RX_IP_CKSUM_GOOD"},
		{14 + 10, "RTE_MBUF_F_RX_L4_CKSUM_GOOD RTE_MBUF_F_RX_IP_CKSUM_UNKNOWN"},
	} {
		f := udp(100, 1)
		if broken.at >= 0 {
			f[broken.at] ^= 0x55
		}
		mark := c.Mark()
		c.send(t, vf0, f)
		c.Says(t, mark, "hw ptype: L2_ETHER L3_IPV4_EXT_UNKNOWN L4_UDP")
		for _, flag := range strings.Fields(broken.want) { // newer testpmds name others between them
			c.Says(t, mark, flag)
		}
	}
}

// cuts sends a large TCP segment and wants small ones that say the same.
func (c *client) cuts(t *testing.T) {
	c.tell(t, "stop", "port stop all", "tso set 500 0", "port start all", "start")
	payload := bytes.Repeat([]byte("0123456789abcdef"), 85)
	in := serialize(&layers.IPv4{Version: 4, Id: 7, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 0, 0, 1},
		DstIP: net.IP{10, 0, 0, 2}},
		&layers.TCP{SrcPort: 1, DstPort: 2, Seq: 1000, ACK: true, PSH: true, Window: 100}, payload)
	c.send(t, vf0, in)
	got := c.receive(t, pf0, 3, frameTimeout)
	require.Len(t, got, 3)
	var joined []byte
	for i, f := range got {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		tcp := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		assert.Equal(t, uint32(1000+len(joined)), tcp.Seq)
		assert.Equal(t, i == 2, tcp.PSH)
		assert.Equal(t, uint16(7+i), ip.Id)
		assert.Equal(t, serialize(ip, tcp, tcp.Payload)[14:], f[14:], "lengths and checksums")
		joined = append(joined, tcp.Payload...)
	}
	assert.Equal(t, payload, joined)
}

// Tags are taken off what is received and put on what is sent.
func TestVLAN(t *testing.T) {
	c := newClient(t, "cx6dx", "--rx-offloads=0x1", "--tx-offloads=0x1")
	c.tell(t, "set fwd macswap", "port stop all", "tx_vlan set 0 100", "port start all", "start")
	for _, size := range sizes[:len(sizes)-2] {
		f := udp(size, 1)
		plain := swapped([][]byte{f})
		c.forwards(t, vf0, [][]byte{f}, pf0, [][]byte{insertTag(plain[0], []byte{0x81, 0, 0, 100})})
		c.forwards(t, vf0, [][]byte{insertTag(f, tagged)}, pf0, [][]byte{insertTag(plain[0], []byte{0x81, 0, 0, 100})})
		// The offload is on for all ports, and the tag of those that were given none is 0.
		c.forwards(t, pf0, [][]byte{insertTag(f, tagged)}, vf0, [][]byte{insertTag(plain[0], []byte{0x81, 0, 0, 0})})
	}
}

// Frames above the MTU are dropped and counted; the MTU is what the driver sets.
func TestMTU(t *testing.T) {
	c := newClient(t, "cx6dx")
	c.tell(t, "set fwd io", "start")
	fits, too := udp(1414, 1), udp(1415, 1)
	c.forwards(t, vf0, [][]byte{too}, pf0, [][]byte{too})
	c.tell(t, "stop", "port stop all", "port config mtu 1 1400", "port start all", "start")
	eventually(t, "the MTU has come to the card", func() bool {
		before := c.counter(t, "vf0", "oversize")
		c.send(t, vf0, too)
		time.Sleep(quietTime)
		return c.counter(t, "vf0", "oversize") > before
	})
	c.receive(t, pf0, 100, quietTime)
	c.forwards(t, vf0, [][]byte{fits}, pf0, [][]byte{fits})
}

// What a test breaks is broken, and the driver learns of it.
func TestFaults(t *testing.T) {
	c := newClient(t, "cx6dx")
	c.tell(t, "set fwd io", "start")
	f := [][]byte{udp(100, 1)}
	set := func(t *testing.T, fault string) (state map[string]any) {
		c.telemetry(t, "/connectx/fault,"+fault, &state)
		return state
	}
	t.Run("link", func(t *testing.T) {
		mark := c.Mark()
		assert.Equal(t, "pf0", set(t, "link_down=pf0")["link_down"])
		c.Says(t, mark, "Port 0: link state change event")
		assert.Regexp(t, `(?m)^0 .* down `, c.Ask(t, "show port summary 0"))
		c.send(t, vf0, f...)
		c.quiet(t, pf0)
		assert.Equal(t, 1, c.counter(t, "pf0", "fault_dropped"))
		mark = c.Mark()
		set(t, "link_up=pf0")
		c.Says(t, mark, "Port 0: link state change event")
		c.forwards(t, vf0, f, pf0, f)
	})
	t.Run("carrier", func(t *testing.T) {
		mark := c.Mark()
		require.NoError(t, c.far.IP("link set far-guest1 down"))
		c.Says(t, mark, "Port 2: link state change event")
		mark = c.Mark()
		require.NoError(t, c.far.IP("link set far-guest1 up"))
		c.Says(t, mark, "Port 2: link state change event")
	})
	t.Run("far side", func(t *testing.T) {
		set(t, "far_stop=vf0")
		before := c.counter(t, "vf0", "fault_dropped")
		c.send(t, vf0, f...)
		c.quiet(t, pf0)
		assert.Equal(t, before+1, c.counter(t, "vf0", "fault_dropped"))
		set(t, "far_start=vf0")
		c.forwards(t, vf0, f, pf0, f)
	})
	t.Run("create", func(t *testing.T) {
		const rule = "flow create 0 transfer pattern eth / ipv6 / end actions drop / end"
		set(t, "fail_create=1,fail_errno=12")
		assert.Contains(t, c.Ask(t, rule), "Cannot allocate memory")
		assert.Contains(t, c.Ask(t, rule), "created")
		set(t, "fail_object=1,create_delay_us=100000")
		begin := time.Now()
		assert.Contains(t, c.Ask(t, "flow create 0 transfer pattern eth / ipv4 src is 9.9.9.9 / end actions drop / end"),
			"created")
		assert.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond)
		assert.EqualValues(t, 0, set(t, "clear")["create_delay_us"])
	})
	t.Run("removal", func(t *testing.T) {
		mark := c.Mark()
		set(t, "remove=pf1")
		c.Says(t, mark, "Port 3: device removal event")
		c.Says(t, mark, "io packet forwarding - ports=3") // without it
		eventually(t, "the others go on", func() bool {   // when testpmd has emptied their queues
			c.send(t, vf0, f...)
			return len(c.receive(t, pf0, 1, quietTime)) == 1
		})
	})
}

// Counters and ages of rules are the card's; ages by ASO objects where the card has these.
func TestCountersAndAges(t *testing.T) {
	for _, card := range []string{"cx5", "cx6dx"} {
		t.Run(card, func(t *testing.T) {
			c := newClient(t, card)
			c.tell(t, "set fwd io", "start")
			mark := c.Mark()
			answer := c.Ask(t,
				"flow create 0 transfer pattern represented_port ethdev_port_id is 1 / eth / ipv4 / udp / end actions age "+
					"timeout 3 / count / represented_port ethdev_port_id 0 / end")
			require.Contains(t, answer, "Flow rule #0 created")
			f := [][]byte{udp(100, 1), udp(100, 2), udp(200, 3)}
			c.forwards(t, vf0, f, pf0, f)
			eventually(t, "the rule has counted", func() bool {
				q := c.Ask(t, "flow query 0 0 count")
				return strings.Contains(q, "hits: 3") && strings.Contains(q, "bytes: 400")
			})
			assert.NotContains(t, c.Ask(t, "flow aged 0"), "transfer", "it has just been hit")
			c.Says(t, mark, "Port 0: flow aged event")
		})
	}
}

// A configuration that makes no sense is refused by name.
func TestConfiguration(t *testing.T) {
	library, err := plugin.Built("libconnectx.so")
	require.NoError(t, err)
	for text, want := range map[string]string{
		"card=cx4,pf0=lo":       "card=cx4",
		"vf0=lo":                "pf0=NETDEV is not there",
		"pf0=lo,vf15=lo":        "vf15: VFs are numbered from 0 to 14",
		"pf0=lo,vf0=lo":         "lo is behind two ports",
		"pf0=a,pf0=b":           "pf0 is there twice",
		"pf0":                   "pf0: wanted KEY=VALUE",
		"pf0=12345678901234567": "no netdev has a name that long",
	} {
		cmd := exec.Command("/bin/true")
		cmd.Env = []string{"LD_PRELOAD=" + library, "CONNECTX=" + text, "RUNTIME_DIRECTORY=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		assert.Error(t, err, text)
		assert.Contains(t, string(out), want, text)
	}
}
