// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"slices"
	"strings"

	"dpservice/wire"
)

// constants are the named numbers.
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20,
	"tcp-ece": 0x40, "tcp-cwr": 0x80,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17,
	"icmp-maskreply": 18,
	"icmp6type":      0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143,
	"icmp6-homeagentdiscoveryrequest": 144, "icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146,
	"icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,
}

// ipProtocols are the protocols above IP, with their names from IANA and /etc/protocols.
var ipProtocols = map[string]byte{
	"ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "ip-encap": 4, "st": 5, "tcp": 6, "egp": 8,
	"igp": 9,
	"pup": 12, "udp": 17, "hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37,
	"idpr-cmtp": 38,
	"ipv6":      41, "ipv6-route": 43, "ipv6-frag": 44, "idrp": 45, "rsvp": 46, "gre": 47, "esp": 50, "ipsec-esp": 50,
	"ah":       51,
	"ipsec-ah": 51, "skip": 57, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88,
	"ospf":    89,
	"ospfigp": 89, "ax.25": 93, "ipip": 94, "etherip": 97, "encap": 98, "pim": 103, "ipcomp": 108, "vrrp": 112,
	"l2tp": 115,
	"isis": 124, "sctp": 132, "fc": 133, "mobility-header": 135, "udplite": 136, "mpls-in-ip": 137, "manet": 138,
	"hip":   139,
	"shim6": 140, "wesp": 141, "rohc": 142, "ethernet": 143,
}

// carried are the protocols whose name is a filter by itself, and the versions of IP in which libpcap looks for them.
var carried = map[string]struct {
	number byte
	v4, v6 bool
}{
	"tcp": {wire.ProtoTCP, true, true}, "udp": {wire.ProtoUDP, true, true}, "sctp": {wire.ProtoSCTP, true, true},
	"icmp": {wire.ProtoICMP, true, false}, "icmp6": {wire.ProtoICMPv6, false, true}, "igmp": {2, true, false},
	"igrp": {9, true, false},
	"pim":  {103, true, true}, "vrrp": {112, true, false}, "carp": {112, true, false}, "esp": {50, true, true},
	"ah": {51, true, true},
}

// etherTypes are the Ethernet types whose name is a filter by itself.
var etherTypes = map[string]uint16{
	"ip": wire.EtherTypeIPv4, "ip6": wire.EtherTypeIPv6, "arp": wire.EtherTypeARP, "rarp": wire.EtherTypeRARP,
	"mopdl": 0x6001, "moprc": 0x6002, "decnet": 0x6003, "lat": 0x6004, "sca": 0x6007, "pppoed": 0x8863,
}

// etherProtocols are further names that are valid after ether proto.
var etherProtocols = map[string]uint16{"loopback": 0x9000}

// wrapping are protocols whose name is a filter by itself, and changes what follows: libpcap looks for the rest of the
// filter inside of the protocol.
var wrapping = map[string]uint16{"mpls": 0x8847, "pppoes": 0x8864}

// links are the names that libpcap treats as Ethernet.
var links = map[string]bool{"ether": true, "link": true, "fddi": true, "tr": true, "wlan": true}

// unsupportedWords are the words of the language that rules cannot express, with the reason.
var unsupportedWords = words(map[string]string{
	"less greater len": noLength,
	"protochain":       "a rule sees one protocol behind an IP header, not a chain of them",
	"gateway":          "a rule cannot look a name up",
	"geneve llc atalk aarp ipx netbeui iso stp clnp esis isis l1 l2 iih lsp snp csnp psnp":      noHeader,
	"inbound outbound ifname on ifindex rnr rulenum srnr subrulenum reason action rset ruleset": noDirection,
	"ra ta addr1 addr2 addr3 addr4 type subtype dir radio ppp slip vpi vci lane oam oamf4 oamf4s oamf4sc oamf4e oamf4ec metac " +
		"bcc sc ilmic connectmsg metaconnect fisu lssu msu hfisu hlssu hmsu sio opc dpc sls": noLink,
})

const (
	noLength    = "rules cannot look at a packet's length"
	noHeader    = "rules cannot look at this protocol"
	noDirection = "rules see what a packet holds, not how the sink gets it"
	noLink      = "packets here are of Ethernet or IP"
)

// words returns a map from each word in a key to the value of that key.
func words(of map[string]string) map[string]string {
	all := make(map[string]string)
	for key, value := range of {
		for _, word := range strings.Fields(key) {
			all[word] = value
		}
	}
	return all
}

// isKeyword reports whether a word is a keyword. To use a keyword as a name, the filter must put a backslash before it.
func isKeyword(word string) bool {
	_, isUnsupportedWord := unsupportedWords[word]
	_, wraps := wrapping[word]
	return isUnsupportedWord || wraps || links[word] || slices.Contains(protocols, word) || slices.Contains(kinds, word) ||
		slices.Contains(casts, word) || slices.Contains(directions, word) ||
		slices.Contains([]string{"and", "or", "not", "mask", "vlan"}, word)
}
