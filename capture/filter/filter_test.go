// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How many rules typical filters take, the last one, for all other packets, included.
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
		{"tcp[0:2] + 1 = 5", Ethernet, Unsupported, "tcp[0:2] + 1", "&"},
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
		{"tcp portrange 1-65534 and udp", Ethernet, -1, "", ""},
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

// What a filter implies beyond what rules can tell is said, unless it cannot matter.
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

// Whatever the text, it ends well, and in time.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"tcp port 443 and not host 10.0.0.9", "vlan 5 and (ip or ip6)", "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "port (80 or 443)",
		"src or dst portrange 80-90", `ip proto \tcp`, "((((", "net 10 mask 255.0.0.0", "ether[0] & 1 = 1", "not not port 5 or 6",
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
