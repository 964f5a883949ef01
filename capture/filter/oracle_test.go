// SPDX-License-Identifier: Apache-2.0

package filter_test

import (
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/capture/filter/filtertest"
	"dpservice/test/report"
)

// For any filter and packet, rules decide as libpcap does, except for the differences that are documented.
func TestFiltersDecideLikeLibpcap(t *testing.T) {
	const filters, packets, maxRules = 100, 900, 256
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	compared, refused, accepted, rules := 0, 0, 0, 0
	for range filters {
		link := []filter.Link{filter.Ethernet, filter.Ethernet, filter.IP}[r.IntN(3)]
		text := filtertest.RandomFilter(r, link, 2)
		reference, err := filtertest.NewOracle(t, text, link)
		program, failed := filter.Compile(text, link, maxRules)
		if err != nil {
			// libpcap rejects some expressions that can never be true.
			require.ErrorContains(t, err, "expression rejects all packets", text)
			continue
		}
		if failed != nil {
			var e *filter.Error
			require.ErrorAs(t, failed, &e)
			require.NotEqual(t, filter.Syntax, e.Kind, "%s: %v", text, failed)
			refused++
			continue
		}
		rules += len(program.Rules)
		for range packets {
			p := filtertest.RandomPacket(r, link)
			if p.Unlike || len(program.Notes) > 0 && p.Hidden() {
				continue
			}
			want := reference.Accepts(t, p.Data)
			require.Equal(t, want, p.Decide(program), "%s\nseed %d\npacket %x\n%v", text, seed, p.Data, program.Rules)
			compared++
			if want {
				accepted++
			}
		}
	}
	require.Less(t, refused, filters/3)
	require.Greater(t, accepted, compared/20)
	require.Less(t, accepted, compared*19/20)
	report.Printf(t, "filters beside libpcap: %d, %d refused, %d packets compared, %d accepted, %d rules", filters,
		refused, compared, accepted, rules)
}

// Each term of the grammar of pcap-filter(7) is tested. If libpcap accepts it, it is compiled and decides as libpcap
// does, or it is rejected since rules cannot express it. If libpcap rejects it, it is rejected.
func TestGrammarIsLibpcaps(t *testing.T) {
	taken := []string{
		// Addresses
		"ip host 10.0.0.9", "ip host 010.0.0.9", "ip host 10.0.0.009", "ip host 10.0", "ip host 167772169",
		"host ::ffff:10.0.0.9",
		"ip src 10.0.0.9", "ip src or dst 10.0.0.9", "ip dst and src host 10.0.0.9", "ip host (10.0.0.9 or 10.0.0.8)",
		"ip host not 10.0.0.9", "ip host 10.0.0.9 or 10.0.0.8", "ip net 10", "ip net 0", "ip net 256", "ip net 10.0",
		"ip net 10.0/16",
		"ip net 10.0 mask 255.255.0.0", "ip net (10 or 224)", "ip net 0.0.0.0/0", "net ::/0", "ip6 net 2001:db8::/32",
		"ether host 2:0:0:0:0:1", "ether host 2-0-0-0-0-1", "ether host 2.0.0.0.0.1", "ether host 0200.0000.0001",
		"ether src 020000000001", "ether dst (2:0:0:0:0:1 or 1:0:5e:0:0:fb)", "link host 2:0:0:0:0:1",
		"fddi src 2:0:0:0:0:1",
		"wlan dst 2:0:0:0:0:1", "tr host 2:0:0:0:0:1", "link multicast", "broadcast", "ip multicast", "ip6 multicast",
		// Protocols
		"ip proto gre", "ip proto GRE", "ip proto ospf", `ip proto \tcp`, "ip proto (6 or 17)", `proto (6 or \udp)`,
		"proto gre",
		"ip6 proto ipv6-icmp", "igrp", "carp", "vrrp", "pim", "ah", "esp", "igmp", `ether proto \ip`,
		"ether proto 0x88cc",
		"link proto 0x800",
		`ether proto \lat`, "lat", "moprc", "mopdl", "sca", "decnet", "ether proto loopback", "pppoed", "mpls", "pppoes",
		"not mpls",
		"tcp or pppoes",
		// Ports
		"tcp port http", "port ssh", "udp port domain", "portrange ssh-http", "tcp portrange 80-79", "tcp port 0x50",
		"tcp port 0120",
		"tcp port (80 or 443)", "tcp port not 80", "tcp dst port 80 or 443 or 81",
		// Relations
		"6 = ip[9]", "(6) = ip[9]", "(2+4) = ip[9]", "not 6 = ip[9]", "80 < tcp[2:2]", "80 >= tcp[2:2]",
		"tcp port 80 or 6 = ip[9]", "tcp port 80 or (443) and tcp", "0 != tcp[13] & tcp-syn",
		"tcp[13] % 2 = 1", "tcp[13] ^ 2 = 0", "tcp[13] | 2 = 18", "tcp[13] & 2 | 16 = 18", "tcp[13] + 1 = 3",
		"tcp[13] - 3 > 200",
		"-tcp[13] = -2", "tcp[13] * 2 = 36", "tcp[13] / 2 = 9", "tcp[13] >> 1 = 9", "tcp[13] << 1 = 36",
		"tcp[13] & tcp[13] = 18", "tcp[13] = tcp[13]", "tcp[13] & 2 > 0", "tcp[13] & 0x12 >= 3", "tcp[13] & 6 < 4",
		"tcp[13] & 0xf0 <= 0x0f", "tcp[13] != -1", "tcp[13] < -1", "tcp[13] & -1 = 18", "ip[1] & 0xfc > 0x10",
		"ip[1] >> 2 = 46",
		"ip[1] & 0xfc >> 2 = 46", "(ip[1] & 0xfc) >> 2 = 46", "tcp[0:2] % 256 = 80", "tcp[0:2] & 0xff > 80",
		"tcp[0:4] = 0x005001bb",
		"udp[0:4] & 0xffff = 53", "icmp[0:2] = 0x0300", "icmp[0:2] != 0x0800", "icmp[0:2] > 0x0300",
		"ip[8:2] = 0x4006", "ip[2+6] = 64",
		"ip[12:4] & 0xffff00ff > 0x0a000008", "ip[14:2] % 4 = 1", "ip6[24] & 0xf0 = 0xf0", "ip6[38:2] > 8",
		"ip[6:2] & 0x3fff > 0", "ip[6:2] & 0x3fff < 1", "0 = ip[6:2] & 0x3fff", "ip[6:2] << 18 = 0",
		"ether[0] & 1 != 0", "ether[0] = 2", "ether[5:2] & 0xff = 2", "ether[6:4] = 0x02000000", "link[11] = 1",
		"ether[12:2] = 0x800",
		"ether[12:2] != 0x806", "ether[12:2] & 0xfffe = 0x0806", "vlan and ether[12:2] != 0x800",
		"icmp6[icmp6code] = 0", "tcp[icmptype] = 0", "1 = 1", "5 > 4 and tcp", "0 = 1 or tcp",
		"tcp-syn = 2 and udp", "7 % 4 ^ 1 = 2",
		"1 | 2 & 4 = 1", "2 + 3 * 4 = 14", "5 - 6 = -1",
	}
	unsupported := []string{
		"less 100", "greater 0x10", "len > 5 + 5", "5 = len", "geneve", "geneve 5", "mpls 5", "pppoes 5",
		"mpls or ip", "pppoes and tcp", "iso", "clnp", "esis", "isis", "l1", "stp", "netbeui", "ipx", "atalk",
		"aarp", "llc",
		"llc i",
		`ether proto \stp`, "ether proto 5", "decnet host 10.15", "protochain 6", `ip protochain \tcp`,
		"ip6 protochain 6",
		"sctp port 80",
		"arp host 10.0.0.9", "rarp net 10", "vlan 10 or vlan 20", "vlan or ip", "ip6 proto ipv6-frag",
		"ether[14] = 5", "ip[0] & 0xf != 5",
		"arp[6:2] = 1", "igmp[0] = 5", "sctp[0:2] = 80", "tcp[4:4] = 1", "tcp[0:2] = tcp[2:2]", "ip[ip[0]] = 5",
		"5 / ip[9] = 1",
		"ip[12:4] % 2 = 1", "ip[6] & 0x40 != 0", "ip6[6] = 6", "ip6[40] = 135",
	}
	refused := []string{
		"ip proto tcp", "ether proto ip", "ip6 proto icmp6", `ip6 proto \icmp6`, "ip proto igrp", "ip proto nonsense",
		"net 10/8",
		"net 10.0.0.0/255.0.0.0", "net 10 mask 255.0.0.0", "net 10.0.0.0 mask 8", "net 10.0.0.1/8", "net 10.300",
		"host 10.0.0.256",
		"ether host 2:0:0:0:0", "ether host 02:00-00:00:00:01", "ether host 0200.0000.1", "ether net 2:0:0:0:0:1",
		"host 2:0:0:0:0:1",
		"icmp6[0] = icmp6-destinationrunreach", "icmp6[0] = icmp6-multicastroutertermination",
		"tcp[13] & tcp-ae != 0", "udp port ssh",
		"port 080", "port 65536", "port 80,443", "tcp[13]", "tcp[13] & 2", "5", "5 and tcp", "tcp[9:3] = 1",
		"tcp[4-2:2] = 80",
		"1 << 32 = 0", "6 / 0 = 1", "6 % 0 = 1", "tcp && udp", "4 > 5", "not 1 = 1", "ip6 and vrrp", "TCP port 80",
		"eigrp",
		"foo[0] = 1", "vpi 5", "type mgt", "radio", "fisu", "srnr 5", "rset foo", "tcp host 10.0.0.9", "ip port 80",
		"ip6 broadcast",
	}
	for _, text := range []string{
		"0x02 & tcp[tcpflags] != 0", "(tcp-syn|tcp-ack) & tcp[13] = tcp-syn", "255 - tcp[13] < 238",
		"1 << tcp[13] = 4", "2 & tcp[13] > 0",
	} {
		// If the header is on the right of an operator, libpcap does not check its protocol.
		taken = append(taken, "tcp and ip[6:2] & 0x3fff = 0 and "+text)
		alone, err := filter.Compile(text, filter.Ethernet, 256)
		require.NoError(t, err)
		asked, err := filter.Compile(taken[len(taken)-1], filter.Ethernet, 256)
		require.NoError(t, err)
		require.Len(t, asked.Rules, len(alone.Rules))
	}
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for _, text := range taken {
		reference, err := filtertest.NewOracle(t, text, filter.Ethernet)
		require.NoError(t, err, text)
		program, err := filter.Compile(text, filter.Ethernet, 256)
		require.NoError(t, err, text)
		for range 1000 {
			p := filtertest.RandomPacket(r, filter.Ethernet)
			if p.Unlike || len(program.Notes) > 0 && p.Hidden() {
				continue
			}
			require.Equal(t, reference.Accepts(t, p.Data), p.Decide(program), "%s\npacket %x\n%v", text, p.Data, program.Rules)
		}
	}
	for _, text := range unsupported {
		require.NoError(t, exec.CommandContext(t.Context(), "tcpdump", "-y", "EN10MB", "-d", text).Run(), text)
		_, err := filter.Compile(text, filter.Ethernet, 256)
		var e *filter.Error
		require.ErrorAs(t, err, &e, text)
		require.Equal(t, filter.Unsupported, e.Kind, "%s: %v", text, err)
	}
	for _, text := range refused {
		require.Error(t, exec.CommandContext(t.Context(), "tcpdump", "-y", "EN10MB", "-d", text).Run(), text)
		_, err := filter.Compile(text, filter.Ethernet, 256)
		require.Error(t, err, text)
	}
	// libpcap 1.11 takes the first three of live captures only, and earlier versions do not know the last.
	for _, text := range []string{"inbound", "outbound", "ifindex 5", "vxlan"} {
		_, err := filter.Compile(text, filter.Ethernet, 256)
		require.Error(t, err, text)
	}
	report.Printf(t, "terms of pcap-filter(7): %d taken, %d beyond rules, %d refused", len(taken), len(unsupported),
		len(refused))
}
