// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// This is the number of rules for typical filters. It includes the last rule, for all other packets.
func TestNumberOfRules(t *testing.T) {
	tests := []struct {
		text  string
		rules int
	}{
		{"", 1},
		{"ip", 2},
		{"tcp", 3},
		{"not arp", 2},
		{"udp port 53", 5},
		{"tcp port 443", 5},
		{"port 53", 9},
		{"tcp port 443 and not host 10.0.0.9", 7},
		{"ip host 10.0.0.9", 3},
		{"net 2001:db8::/32", 3},
		{"icmp or icmp6", 3},
		{"tcp dst portrange 1024-65535", 5},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", 3},
		{"ip and tcp dst portrange 1-65535", 3},
		{"vlan 5 and ip", 2},
		{"ip and tcp and (dst port 80 or dst port 81)", 2},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			p, err := Compile(tt.text, Ethernet, 64)
			require.NoError(t, err)
			assert.Equal(t, tt.rules, len(p.Rules))
			assert.True(t, isAny(p.Rules[len(p.Rules)-1].Pattern))
		})
	}
}

func isAny(p Pattern) bool {
	for _, c := range p {
		if !c.Any() {
			return false
		}
	}
	return true
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		text string
		link Link
		kind Kind
		part string
		why  string
	}{
		{"greater 100", Ethernet, Unsupported, "greater", "length"},
		{"tcp[20] = 5", Ethernet, Unsupported, "tcp[20] = 5", "these bytes"},
		{"ip and arp host 10.0.0.9 or arp host 10.0.0.9", Ethernet, Unsupported, "arp host 10.0.0.9", "ARP"},
		{"sctp port 5", Ethernet, Unsupported, "sctp port 5", "SCTP"},
		{"vlan or ip", Ethernet, Unsupported, "ip", "before the vlan"},
		{"vlan and vlan", Ethernet, Unsupported, "vlan", "one VLAN tag"},
		{"vlan", IP, Unsupported, "vlan", "no Ethernet header"},
		{"ether host 02:00:00:00:00:01", IP, Unsupported, "ether host 02:00:00:00:00:01", "no Ethernet header"},
		{"ip6 proto 0", Ethernet, Unsupported, "ip6 proto 0", "extension headers"},
		{"ip broadcast", Ethernet, Unsupported, "ip broadcast", "netmask"},
		{"ip[12:4] + 1 = 5", Ethernet, Unsupported, "ip[12:4] + 1 = 5", "&"},
		{"5 / tcp[13] = 5", Ethernet, Unsupported, "5 / tcp[13]", "divide"},
		{"tcp[0:2] = tcp[2:2]", Ethernet, Unsupported, "tcp[0:2] = tcp[2:2]", "other bytes"},
		{"ip[ip[0] & 0xf] = 5", Ethernet, Unsupported, "ip[ip[0] & 0xf]", "an offset that is a number"},
		{"tcp and 5 = len", Ethernet, Unsupported, "len", "length"},
		{"tcp or ip6 protochain 6", Ethernet, Unsupported, "ip6 protochain", "a chain"},
		{"ip6[6] = 58", Ethernet, Unsupported, "ip6[6] = 58", "write ip6 proto"},
		{"ether[12:2] = 0x8100", Ethernet, Unsupported, "ether[12:2] = 0x8100", "write vlan"},
		{"ether[12:2] > 1500", Ethernet, Unsupported, "ether[12:2] > 1500", "some numbers only"},
		{"ether[0] = 1", IP, Unsupported, "ether[0] = 1", "no Ethernet header"},
		{"igmp[0] = 1", Ethernet, Unsupported, "igmp[0]", "the bytes of igmp"},
		{"mpls and ip", Ethernet, Unsupported, "ip", "within mpls"},
		{"pppoes or tcp[13] = 2", Ethernet, Unsupported, "tcp[13] = 2", "within pppoes"},
		{"mpls 5", Ethernet, Unsupported, "mpls 5", "the header of mpls"},
		{`ether proto \stp`, Ethernet, Unsupported, `ether proto \stp`, "LLC"},
		{"decnet src 10.15", Ethernet, Unsupported, "decnet src 10.15", "this protocol"},
		{"wlan ra 0:1:2:3:4:5", Ethernet, Unsupported, "wlan ra", "of Ethernet or IP"},
		{"tcp && udp", Ethernet, Unsupported, "", "no packet"},
		{"tcp && udp", IP, Unsupported, "", "no packet"},
		{"arp", IP, -1, "", ""},
		{"icmp6[icmp6type] = icmp6-destinationrunreach", Ethernet, Syntax, "icmp6-destinationrunreach", "not a number"},
		{"ip proto tcp", Ethernet, Syntax, "tcp", `write \tcp`},
		{"net 10.0.0.0/255.0.0.0", Ethernet, Syntax, "net 10.0.0.0/255.0.0.0", "not a prefix's"},
		{"1 << 32 = 0", Ethernet, Syntax, "1 << 32", "32 bits"},
		{"5 / 0 = 1", Ethernet, Syntax, "5 / 0", "division by zero"},
		{"foo[0] = 1", Ethernet, Syntax, "foo[0]", "no protocol foo"},
		{"host example.org", Ethernet, Syntax, "host example.org", "names are not looked up"},
		{"10.0.0.9", Ethernet, Syntax, "10.0.0.9", "want to know what it is"},
		{"tcp and", Ethernet, Syntax, "", "want a primitive"},
		{"(tcp", Ethernet, Syntax, "", "closing bracket"},
		{"tcp)", Ethernet, Syntax, ")", "the end"},
		{"ip port 5", Ethernet, Syntax, "ip port 5", "no ports"},
		{"port 65536", Ethernet, Syntax, "port 65536", "not a port"},
		{"net 10.0.0.5/8", Ethernet, Syntax, "net 10.0.0.5/8", "behind the mask"},
		{strings.Repeat("(", 100), Ethernet, Syntax, "", "brackets"},
		{strings.Repeat("not ", 100) + "tcp", Ethernet, Syntax, "", "brackets"},
		{strings.Repeat("tcp and ", 1000), Ethernet, Syntax, "", "longer than"},
		{"tcp portrange 1-65534 and not udp", Ethernet, -1, "", ""},
		{"src and dst portrange 3-60001", Ethernet, TooMany, "", "rules"},
	}
	for _, tt := range tests {
		t.Run(tt.text[:min(len(tt.text), 60)], func(t *testing.T) {
			_, err := Compile(tt.text, tt.link, 64)
			if tt.kind < 0 {
				require.NoError(t, err)
				return
			}
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.kind, e.Kind, err)
			assert.Contains(t, e.Why, tt.why)
			if tt.part != "" {
				assert.Equal(t, tt.part, e.Part)
			}
			assert.Equal(t, tt.kind == TooMany, e.Rules > 64)
		})
	}
}

// tcpdumpSays returns the program of libpcap for a filter, as text.
func tcpdumpSays(t *testing.T, filter string) (program string, ok bool) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "tcpdump", "-y", "EN10MB", "-d", filter).CombinedOutput()
	return string(out), err == nil
}

// Names have the same meaning as in libpcap.
func TestNamesAreLibpcaps(t *testing.T) {
	for name, value := range constants {
		_, equal := tcpdumpSays(t, fmt.Sprintf("%s = %d", name, value))
		_, next := tcpdumpSays(t, fmt.Sprintf("%s = %d", name, value+1))
		assert.True(t, equal && !next, "%s is not %d", name, value)
	}
	escaped := func(name string) string {
		if isKeyword(name) {
			return `\` + name
		}
		return name
	}
	known := 0
	for name, value := range ipProtocols {
		program, ok := tcpdumpSays(t, "ip proto "+escaped(name))
		if !ok {
			continue // missing in /etc/protocols of this machine
		}
		known++
		want, _ := tcpdumpSays(t, fmt.Sprintf("ip proto %d", value))
		assert.Equal(t, want, program, name)
	}
	assert.Greater(t, known, 5)
	for _, names := range []map[string]uint16{etherTypes, etherProtocols} {
		for name, value := range names {
			program, ok := tcpdumpSays(t, "ether proto "+escaped(name))
			if name == "pppoed" {
				program, ok = tcpdumpSays(t, name)
			}
			want, _ := tcpdumpSays(t, fmt.Sprintf("ether proto %d", value))
			assert.True(t, ok)
			assert.Equal(t, want, program, name)
		}
	}
}

// Notes tell which implied parts of a filter rules cannot express, unless they do not matter.
func TestNotes(t *testing.T) {
	for text, notes := range map[string][]string{
		"host 10.0.0.9":                      {"ARP"},
		"port 53":                            {"SCTP"},
		"ip host 10.0.0.9":                   nil,
		"tcp port 443 and not host 10.0.0.9": nil,
		"ip6 and port 53 and udp":            nil,
	} {
		p, err := Compile(text, Ethernet, 64)
		require.NoError(t, err, text)
		require.Len(t, p.Notes, len(notes), text)
		for i, note := range notes {
			assert.Contains(t, p.Notes[i], note)
		}
	}
}

// Any text is compiled or rejected, without a crash and in time.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"tcp port 443 and not host 10.0.0.9", "vlan 5 and (ip or ip6)", "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0",
		"port (80 or 443)",
		"src or dst portrange 80-90", `ip proto \tcp`, "((((", "net 10 mask 255.0.0.0", "ether[0] & 1 = 1", "not not port 5 or 6",
		"(6) = ip[9] % 17 ^ 3", "5 - -tcp[0:2] << 3 > 7 or 80", "icmp[0:2] >> 8 & 1 = 1", "ip6 protochain 6", "pppoes or mpls",
	} {
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, frames bool) {
		link := IP
		if frames {
			link = Ethernet
		}
		p, err := Compile(text, link, 64)
		if err != nil {
			var e *Error
			require.True(t, errors.As(err, &e))
			require.NotEmpty(t, e.Why)
			return
		}
		require.LessOrEqual(t, len(p.Rules), 64)
		require.True(t, isAny(p.Rules[len(p.Rules)-1].Pattern))
	})
}
