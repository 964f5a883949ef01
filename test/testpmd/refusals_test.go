// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
)

// complaint is how testpmd shows what the NIC has said: the type of the error, the NIC's words, the errno's.
var complaint = regexp.MustCompile(`Caught PMD error type \d+ \((flow rule \(handle\)|[^)]*)\): (?:cause: 0x[0-9a-f]+, )?(.*: .*)\n`)

// refused asks for what the NIC has to refuse with these words.
func (w *walk) refused(t *testing.T, command, want string) {
	t.Helper()
	w.counts.refusals++
	w.complains(t, command, want)
}

func (w *walk) complains(t *testing.T, command, want string) {
	t.Helper()
	answer := w.Ask(t, command)
	found := complaint.FindStringSubmatch(answer)
	if assert.NotNil(t, found, "%s: %s", command, answer) {
		assert.Equal(t, want, found[1]+": "+found[2], command)
	}
}

func (w *walk) refusals(t *testing.T) {
	w.tell(t, refusalSetup...)
	for _, r := range refusals {
		t.Run(r.rule, func(t *testing.T) {
			if r.setup != "" {
				w.tell(t, r.setup)
			}
			w.refused(t, fmt.Sprintf("flow validate %d %s", r.port, r.rule), r.want)
			w.complains(t, fmt.Sprintf("flow create %d %s", r.port, r.rule), r.want)
		})
	}
	for _, r := range refusedByCard {
		t.Run(r.rule, func(t *testing.T) {
			assert.Equal(t, "Flow rule validated\n", w.Ask(t, fmt.Sprintf("flow validate %d %s", r.port, r.rule)))
			w.refused(t, fmt.Sprintf("flow create %d %s", r.port, r.rule), r.want)
		})
	}
	// Of these validate does not even ask the NIC.
	for _, domain := range []string{"ingress", "egress"} {
		rule := fmt.Sprintf("8 %s transfer pattern eth / end actions port_id id 6 / end", domain)
		w.refused(t, "flow validate "+rule,
			"attributes structure: cannot use attr ingress/egress with attr transfer: Invalid argument")
		w.complains(t, "flow create "+rule,
			"attributes structure: exactly one of ingress, egress and transfer has to be given: Invalid argument")
	}
	assert.Equal(t, "Flow dump finished\n", w.Ask(t, "flow dump 8 all"), "what is refused leaves nothing")
}

// refusalSetup is what the refused rules refer to.
var refusalSetup = []string{
	"set raw_encap 5 eth / ipv6 / udp / vxlan / eth / ipv6 / udp / vxlan / end_set",
	"set sample_actions 1 raw_encap index 0 / end",
	fmt.Sprintf("set sample_actions 4 raw_encap index 0 / port_id id %d / end", vf1),
	fmt.Sprintf("set sample_actions 5 port_id id %d / end", pf0),
	fmt.Sprintf("set sample_actions 6 port_id id %d / end", pf1),
	fmt.Sprintf("set sample_actions 7 count / port_id id %d / end", pf0),
}

// refusal is a rule on a port that the NIC refuses; want is the type of the error, the NIC's words and the errno's.
type refusal struct {
	port  int
	rule  string
	want  string
	setup string // a command, if it needs one of its own
}

var refusals = []refusal{
	{
		vf0, "pattern eth / end actions port_id id 6 / end",
		"attributes structure: exactly one of ingress, egress and transfer has to be given: Invalid argument", "",
	},
	{
		vf0, "egress pattern eth / end actions drop / end",
		"specific pattern item: egress rules are not supported on a representor: Invalid argument", "",
	},
	{
		pf1, "transfer pattern eth / end actions drop / end",
		"transfer field: transfer rules are not supported: PF1 is not in switchdev mode: Operation not supported", "",
	},
	{
		vf0, "group 4294967295 transfer pattern eth / end actions port_id id 6 / end",
		"group field: there is no group 4294967295: Invalid argument", "",
	},
	{
		vf0, "priority 21844 transfer pattern eth / end actions port_id id 6 / end",
		"priority field: priority 21844 is out of range, the lowest one is 21843: Operation not supported", "",
	},
	{
		vf0, "priority 4 ingress pattern eth / end actions queue index 0 / end",
		"priority field: priority 4 is out of range, the lowest one is 3: Operation not supported", "",
	},
	{
		vf0, "transfer pattern gre / end actions port_id id 6 / end",
		"specific pattern item: item GRE: is not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / eth / end actions port_id id 6 / end",
		"specific pattern item: item ETH: multiple L2 layers are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern ipv4 / eth / end actions port_id id 6 / end",
		"specific pattern item: item ETH: L2 cannot follow L3: Invalid argument", "",
	},
	{
		vf0, "transfer pattern vlan / eth / end actions port_id id 6 / end",
		"specific pattern item: item ETH: cannot follow a VLAN: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / vlan / vlan / end actions port_id id 6 / end",
		"specific pattern item: item VLAN: multiple VLAN layers are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern ipv4 / vlan / end actions port_id id 6 / end",
		"specific pattern item: item VLAN: cannot follow L3 or L4: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / udp / end actions port_id id 6 / end",
		"specific pattern item: item UDP: L3 is mandatory before L4: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 / icmp / end actions port_id id 6 / end",
		"specific pattern item: item ICMP: IPv4 is mandatory before it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / icmp6 / end actions port_id id 6 / end",
		"specific pattern item: item ICMP6: IPv6 is mandatory before it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / tcp / end actions port_id id 6 / end",
		"specific pattern item: item TCP: multiple L4 layers are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / ipv4 / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: multiple L3 layers are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 / ipv6 / ipv4 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: multiple L3 layers are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth type is 0x86dd / ipv4 / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: the EtherType before it says something else: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / vlan inner_type is 0x0800 / ipv6 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: the EtherType before it says something else: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 4 / ipv6 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: is taken for a tunnel's inner header that has a tunnel in it: Invalid argument",
		"",
	},
	{
		vf0, "transfer pattern eth / ipv4 proto is 6 / udp / end actions port_id id 6 / end",
		"specific pattern item: item UDP: the protocol of the IP header says something else: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 0 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: the next header is not to be an extension header: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 43 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: the next header is not to be an extension header: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 44 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: the next header is not to be an extension header: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 60 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: the next header is not to be an extension header: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 proto mask 0xff / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: mask or last without a spec: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 proto spec 4 proto mask 4 / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: is taken for a tunnel's inner header that has a tunnel in it: Invalid argument",
		"",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto spec 4 proto mask 4 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: IPv6 is taken for the inner header of a tunnel that carries IPv4: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp dst spec 1 dst last 2 / end actions port_id id 6 / end",
		"specific pattern item: item UDP: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth src spec 02:00:00:00:00:01 src last 02:00:00:00:00:02 / end actions port_id id 6 / end",
		"specific pattern item: item ETH: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 41 / udp / end actions port_id id 6 / end",
		"specific pattern item: item UDP: the protocol of the IP header says something else: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 hop spec 1 hop last 2 hop mask 0xff / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / tcp dst spec 1 dst last 2 / end actions port_id id 6 / end",
		"specific pattern item: item TCP: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / vlan vid spec 1 vid last 2 / end actions port_id id 6 / end",
		"specific pattern item: item VLAN: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / icmp type spec 1 type last 2 / end actions port_id id 6 / end",
		"specific pattern item: item ICMP: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 / icmp6 type spec 1 type last 2 / end actions port_id id 6 / end",
		"specific pattern item: item ICMP6: ranges (last) are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 packet_id is 1 / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: the mask looks at a field that is not supported (byte 4): Operation not supported",
		"",
	},
	{
		vf0, "transfer pattern eth / ipv4 version_ihl spec 0x40 version_ihl mask 0xf0 / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: the mask looks at a field that is not supported (byte 0): Operation not supported",
		"",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 50 / end actions port_id id 6 / end",
		"specific pattern item: item IPV6: the next header is not to be an extension header: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / vxlan last_rsvd is 1 / end actions port_id id 6 / end",
		"specific pattern item: item VXLAN: the mask looks at a field that is not supported (byte 7): Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 fragment_offset spec 1 fragment_offset mask 1 / end actions port_id id 6 / end",
		"item specification mask: item IPV4: fragment_offset takes the full mask 0x3fff only: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 fragment_offset spec 1 fragment_offset mask 0x3fff / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: of fragment_offset only 0 and the range from 1 to 0x3fff are supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern represented_port ethdev_port_id is 31 / end actions port_id id 6 / end",
		"item specification: item REPRESENTED_PORT: there is no port 31: No such device", "",
	},
	{
		vf0, "transfer pattern represented_port ethdev_port_id is 7 / end actions port_id id 6 / end",
		"item specification: item REPRESENTED_PORT: port 7 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern port_id id is 2 / end actions port_id id 6 / end",
		"item specification: item PORT_ID: port 2 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern port_id id is 31 / end actions port_id id 6 / end",
		"item specification: item PORT_ID: there is no port 31: No such device", "",
	},
	{
		vf0, "transfer pattern port_id id spec 8 id mask 1 / end actions port_id id 6 / end",
		"item specification mask: item PORT_ID: partial masks are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern port_id id is 8 / port_id / end actions port_id id 6 / end",
		"specific pattern item: item PORT_ID: the pattern names a source port already: Operation not supported", "",
	},
	{
		vf0, "transfer pattern represented_port ethdev_port_id is 10 / end actions port_id id 6 / end",
		"item specification: item REPRESENTED_PORT: port 10 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / vxlan / end actions port_id id 6 / end",
		"specific pattern item: item VXLAN: UDP is mandatory before it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / tcp / vxlan / end actions port_id id 6 / end",
		"specific pattern item: item VXLAN: UDP is mandatory before it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 proto is 41 / vxlan / end actions port_id id 6 / end",
		"specific pattern item: item VXLAN: multiple tunnel layers are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / vxlan / vxlan / end actions port_id id 6 / end",
		"specific pattern item: item VXLAN: multiple tunnel layers are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / vxlan / eth / eth / end actions port_id id 6 / end",
		"specific pattern item: item ETH: multiple L2 layers are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / vxlan / ipv4 / eth / end actions port_id id 6 / end",
		"specific pattern item: item ETH: L2 cannot follow L3: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / udp / vxlan / eth type is 0x86dd / ipv4 / end actions port_id id 6 / end",
		"specific pattern item: item IPV4: the EtherType before it says something else: Invalid argument", "",
	},
	{
		vf0, "transfer pattern mark id is 1 / eth / end actions port_id id 6 / end",
		"specific pattern item: item MARK: needs extended metadata (dv_xmeta_en=1): Operation not supported", "",
	},
	{
		vf0, "transfer pattern meta data is 1 / eth / end actions port_id id 6 / end",
		"specific pattern item: item META: needs extended metadata (dv_xmeta_en=1): Operation not supported", "",
	},
	{
		vf0, "transfer pattern tag / eth / end actions port_id id 6 / end",
		"item specification: item TAG: needs a spec: Invalid argument", "",
	},
	{
		vf0, "transfer pattern tag data is 1 index is 3 / eth / end actions port_id id 6 / end",
		"specific pattern item: item TAG: there is no tag 3: Operation not supported", "",
	},
	{
		vf0, "transfer pattern tag index is 1 / eth / end actions port_id id 6 / end",
		"item specification: item TAG: the mask is 0: Invalid argument", "",
	},
	{
		vf0, "transfer pattern tag data is 1 index is 1 / tag data is 1 index is 1 / end actions port_id id 6 / end",
		"item specification: item TAG: index 1 is given twice: Invalid argument", "",
	},
	{
		xvf0, "transfer pattern mark / eth / end actions drop / end",
		"item specification: item MARK: needs a spec: Invalid argument", "",
	},
	{
		xvf0, "transfer pattern meta / eth / end actions drop / end",
		"item specification: item META: needs a spec: Invalid argument", "",
	},
	{
		xvf0, "transfer pattern mark id is 1 / end actions drop / end",
		"specific pattern item: item MARK: the mask looks at a field that is not supported (byte 3): Operation not supported",
		"",
	},
	{
		xvf0, "transfer pattern mark id spec 1 / mark id spec 2 / end actions drop / end",
		"specific pattern item: item MARK: is given twice: Invalid argument", "",
	},
	{
		xvf0, "transfer pattern mark id spec 1 id mask 0 / end actions drop / end",
		"item specification: item MARK: the mask is 0: Invalid argument", "",
	},
	{
		vf0, "ingress pattern port_id id is 8 / end actions queue index 0 / end",
		"specific pattern item: item PORT_ID: is valid in transfer rules only: Invalid argument", "",
	},
	{
		vf0, "ingress pattern represented_port ethdev_port_id is 8 / end actions queue index 0 / end",
		"specific pattern item: item REPRESENTED_PORT: is valid in transfer rules only: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions set_ipv4_src ipv4_addr 10.0.0.1 / port_id id 6 / end",
		"specific action: action SET_IPV4_SRC: no such IPv4 item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv6 / end actions set_ipv4_dst ipv4_addr 10.0.0.1 / port_id id 6 / end",
		"specific action: action SET_IPV4_DST: no such IPv4 item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions set_ipv6_src ipv6_addr fd00::1 / port_id id 6 / end",
		"specific action: action SET_IPV6_SRC: no such IPv6 item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions set_ipv6_dst ipv6_addr fd00::1 / port_id id 6 / end",
		"specific action: action SET_IPV6_DST: no such IPv6 item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions set_tp_src port 1 / port_id id 6 / end",
		"specific action: action SET_TP_SRC: no such TCP or UDP item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / icmp / end actions set_tp_dst port 1 / port_id id 6 / end",
		"specific action: action SET_TP_DST: no such TCP or UDP item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 0 / set_ipv4_src ipv4_addr 10.0.0.1 / port_id id 6 / end",
		"specific action: action SET_IPV4_SRC: cannot follow an encapsulation: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 0 / set_mac_src mac_addr 02:00:00:00:00:01 / port_id id 6 / end",
		"specific action: action SET_MAC_SRC: cannot follow an encapsulation: Invalid argument", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_decap index 0 / raw_encap index 3 / set_ipv6_src ipv6_addr fd00::1 / port_id id 8 / end",
		"specific action: action SET_IPV6_SRC: no such IPv6 item in the pattern: Invalid argument", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions set_ipv6_src ipv6_addr fd00::1 / raw_decap index 0 / raw_encap index 3 / port_id id 8 / end",
		"specific action: action RAW_DECAP: cannot follow an action that modifies the packet: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions of_pop_vlan / port_id id 6 / end",
		"cause unspecified: action OF_POP_VLAN: no such VLAN item in the pattern: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / vlan / end actions of_pop_vlan / of_pop_vlan / port_id id 6 / end",
		"specific action: action OF_POP_VLAN: multiple VLAN actions are not supported: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / vlan / end actions port_id id 6 / of_pop_vlan / end",
		"specific action: action OF_POP_VLAN: the port comes after it: Invalid argument", "",
	},
	{
		vf0, "ingress pattern eth / vlan / end actions of_pop_vlan / queue index 0 / end",
		"cause unspecified: action OF_POP_VLAN: is not supported outside of the switch on a representor: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions of_push_vlan ethertype 0x9100 / port_id id 6 / end",
		"specific action: action OF_PUSH_VLAN: 0x9100 is no EtherType of a VLAN tag: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 6 / of_push_vlan ethertype 0x8100 / end",
		"specific action: action OF_PUSH_VLAN: the port comes after it: Invalid argument", "",
	},
	{
		pf0, "ingress pattern eth / end actions of_push_vlan ethertype 0x8100 / queue index 0 / end",
		"ingress field: action OF_PUSH_VLAN: is not supported for ingress traffic: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / vlan tci spec 0 tci mask 0x00ff / end actions of_push_vlan ethertype 0x8100 / port_id id 6 / end",
		"specific action: action OF_PUSH_VLAN: the pattern's mask of PCP or VID is not full: which is the new tag to have?: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions set_tag data 1 index 3 mask 1 / port_id id 6 / end",
		"specific pattern item: action SET_TAG: there is no tag 3: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions set_tag data 1 index 1 mask 0 / port_id id 6 / end",
		"specific action: action SET_TAG: the mask is 0: Invalid argument", "",
	},
	{
		pf0, "ingress pattern eth / end actions queue index 0 / set_tag data 1 index 1 mask 1 / end",
		"specific action: action SET_TAG: has no effect behind the fate of an ingress rule: Invalid argument", "",
	},
	{
		pf0, "ingress pattern eth / end actions mark id 0xfffff0 / queue index 0 / end",
		"action configuration: action MARK: 16777200 is above 16777199: Invalid argument", "",
	},
	{
		pf0, "ingress pattern eth / end actions mark id 1 / mark id 1 / queue index 0 / end",
		"specific action: action MARK: the packet has a mark already: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions set_meta data 1 mask 1 / port_id id 6 / end",
		"specific action: action SET_META: is not supported in transfer rules without extended metadata (dv_xmeta_en=1): Operation not supported", "",
	},
	{
		xvf0, "group 1 transfer pattern eth / end actions set_meta data 1 mask 0 / jump group 2 / end",
		"specific action: action SET_META: the mask is 0: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions end",
		"specific action: no fate action: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions count / end",
		"specific action: no fate action: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions vxlan_decap / port_id id 6 / end",
		"specific action: action VXLAN_DECAP: is not supported: Operation not supported", "",
	},
	{
		vf0, "ingress pattern eth / end actions rss queues 2 end / end",
		"action configuration: action RSS: the port has no queue 2: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 6 / port_id id 9 / end",
		"specific action: action PORT_ID: there can be only one fate action: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 6 / drop / end",
		"specific action: action DROP: only COUNT, AGE and SAMPLE may stand beside it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 7 / end",
		"specific action: action PORT_ID: port 7 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions represented_port ethdev_port_id 7 / end",
		"specific action: action REPRESENTED_PORT: port 7 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 10 / end",
		"specific action: action PORT_ID: port 10 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 31 / end",
		"action configuration: action PORT_ID: there is no port 31: No such device", "",
	},
	{
		vf0, "transfer pattern eth / end actions represented_port ethdev_port_id 31 / end",
		"action configuration: action REPRESENTED_PORT: there is no port 31: No such device", "",
	},
	{
		vf0, "transfer pattern eth / end actions queue index 0 / end",
		"specific action: actions QUEUE and RSS: are not supported in transfer rules: Operation not supported", "",
	},
	{
		vf0, "ingress pattern eth / end actions port_id id 6 / end",
		"cause unspecified: action PORT_ID: is valid in transfer rules only: Operation not supported", "",
	},
	{
		vf0, "ingress pattern eth / end actions represented_port ethdev_port_id 6 / end",
		"cause unspecified: action REPRESENTED_PORT: is valid in transfer rules only: Operation not supported", "",
	},
	{
		vf0, "ingress pattern eth / end actions queue index 2 / end",
		"action configuration: action QUEUE: the port has no queue 2: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions jump group 4294967295 / end",
		"group field: action JUMP: there is no group 4294967295: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions count / count / port_id id 6 / end",
		"specific action: action COUNT: is given twice: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions age timeout 0 / port_id id 6 / end",
		"specific action: action AGE: the timeout is 0: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions age timeout 1 / age timeout 2 / port_id id 6 / end",
		"specific action: action AGE: is given twice: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions dec_ttl / drop / end",
		"specific action: action DROP: only COUNT, AGE and SAMPLE may stand beside it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 0 / drop / end",
		"specific action: action DROP: only COUNT, AGE and SAMPLE may stand beside it: Invalid argument", "",
	},
	{
		vf0, "transfer pattern ipv4 / end actions set_mac_src mac_addr 02:00:00:00:00:01 / port_id id 6 / end",
		"specific action: action SET_MAC_SRC: no L2 item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions dec_ttl / port_id id 6 / end",
		"specific action: action DEC_TTL: no such IP item in the pattern: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 3 / port_id id 6 / end",
		"specific action: action RAW_ENCAP: 14 bytes are too small a header, but right after a raw_decap: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 0 / raw_encap index 0 / port_id id 6 / end",
		"specific action: action RAW_ENCAP: there can be only one encapsulation: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 0 / dec_ttl / port_id id 6 / end",
		"specific action: action DEC_TTL: cannot follow an encapsulation: Invalid argument", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_decap index 0 / raw_encap index 0 / port_id id 6 / end",
		"specific action: encapsulation and decapsulation cannot be combined: Operation not supported", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_decap index 1 / raw_encap index 3 / port_id id 6 / end",
		"specific action: action RAW_DECAP: 14 bytes cannot be combined with a raw_encap of 14: Operation not supported", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_decap index 0 / raw_decap index 0 / port_id id 8 / end",
		"specific action: action RAW_DECAP: there can be only one decapsulation: Operation not supported", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_decap index 0 / count / raw_encap index 0 / port_id id 6 / end",
		"specific action: encapsulation and decapsulation cannot be combined: Operation not supported", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions dec_ttl / raw_decap index 0 / raw_encap index 3 / port_id id 8 / end",
		"specific action: action RAW_DECAP: cannot follow an action that modifies the packet: Invalid argument", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_encap index 0 / raw_decap index 0 / port_id id 6 / end",
		"specific action: action RAW_DECAP: cannot follow an encapsulation: Operation not supported", "",
	},
	{
		pf0, "transfer pattern eth / ipv6 / end actions raw_decap index 0 / raw_encap index 3 / dec_ttl / port_id id 8 / end",
		"specific action: action DEC_TTL: no such IP item in the pattern: Invalid argument", "",
	},
	{
		pf0, "ingress pattern eth / ipv4 / end actions raw_encap index 0 / queue index 0 / end",
		"specific action: action RAW_ENCAP: is not supported for ingress traffic: Operation not supported", "",
	},
	{
		vf0, "ingress pattern eth / ipv6 / end actions raw_decap index 0 / raw_encap index 3 / queue index 0 / end",
		"cause unspecified: action RAW_DECAP: is not supported outside of the switch on a representor: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 5 / port_id id 6 / end",
		"specific action: action RAW_ENCAP: 140 bytes are more than 132: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_encap index 4 / port_id id 6 / end",
		"specific action: action RAW_ENCAP: the data is empty: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 0 index 2 / port_id id 6 / end",
		"specific action: action SAMPLE: the ratio starts from 1: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 2 index 2 / port_id id 6 / end",
		"specific action: action SAMPLE: with a ratio above 1 a transfer rule takes no actions in the sample: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 2 index 0 / port_id id 6 / end",
		"specific action: action SAMPLE: with a ratio above 1 a transfer rule takes no actions in the sample: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / port_id id 6 / end",
		"specific action: action SAMPLE: needs a destination port: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 0 / sample ratio 1 index 0 / port_id id 6 / end",
		"specific action: action SAMPLE: multiple samples are not supported: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions jump group 1 / sample ratio 1 index 0 / end",
		"specific action: action SAMPLE: cannot follow a jump: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 0 / age timeout 1 / port_id id 6 / end",
		"specific action: action SAMPLE: an age that the card keeps cannot follow: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 4 / jump group 1 / end",
		"specific action: action SAMPLE: an encapsulated copy can go to the uplink only: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 5 / jump group 1 / end",
		"specific action: action SAMPLE: a copy to the uplink before a jump needs an encapsulation: Operation not supported",
		"",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions sample ratio 1 index 2 / raw_encap index 0 / port_id id 9 / end",
		"specific action: action SAMPLE: the packet cannot be encapsulated towards a representor: Operation not supported",
		"",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 6 / port_id id 6 / end",
		"specific action: action in a sample, PORT_ID: port 7 is not in this switch domain: Invalid argument", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 3 / port_id id 6 / end",
		"specific action: action SAMPLE: a queue is not supported in a transfer rule: Operation not supported", "",
	},
	{
		vf0, "ingress pattern eth / end actions sample ratio 1 / queue index 0 / end",
		"specific action: action SAMPLE: of ingress traffic needs a queue: Invalid argument", "",
	},
	{
		vf0, "ingress pattern eth / end actions sample ratio 1 index 2 / queue index 0 / end",
		"cause unspecified: action in a sample, PORT_ID: is valid in transfer rules only: Operation not supported", "",
	},
	{
		pf0, "ingress pattern eth / end actions sample ratio 1 index 0 / queue index 0 / end",
		"cause unspecified: action in a sample, PORT_ID: is valid in transfer rules only: Operation not supported", "",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / drop / end",
		"specific action: action in a sample, PORT_ID: there can be only one fate action: Invalid argument",
		"set sample_actions 1 port_id id 6 / port_id id 9 / end",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / jump group 1 / end",
		"specific action: action in a sample, RAW_ENCAP: there can be only one encapsulation: Invalid argument",
		"set sample_actions 1 raw_encap index 0 / raw_encap index 0 / port_id id 6 / end",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / jump group 2 / end",
		"specific action: action in a sample, MARK: is not supported in a sample of a transfer rule: Operation not supported",
		"set sample_actions 1 mark id 1 / port_id id 6 / end",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / jump group 3 / end",
		"specific action: action in a sample, RAW_ENCAP: 140 bytes are more than 132: Invalid argument",
		"set sample_actions 1 raw_encap index 5 / port_id id 6 / end",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / jump group 4 / end",
		"specific action: action in a sample, RAW_ENCAP: 14 bytes are too small a header, but right after a raw_decap: Operation not supported", "set sample_actions 1 raw_encap index 3 / port_id id 6 / end",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 1 / jump group 5 / end",
		"action configuration: action in a sample, PORT_ID: there is no port 31: No such device",
		"set sample_actions 1 port_id id 31 / end",
	},
}

// refusedByCard are rules that are valid, and that the NIC refuses to create as a card does.
var refusedByCard = []struct {
	port       int
	rule, want string
}{
	{
		vf0, "transfer pattern eth / end actions mark id 1 / port_id id 6 / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
	{
		vf0, "transfer pattern eth / end actions flag / port_id id 6 / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
	{
		vf0, "group 2 transfer pattern eth / end actions jump group 2 / end",
		"cause unspecified: the card refuses the rule: the group is not above its own: Invalid argument",
	},
	{
		vf0, "group 2 transfer pattern eth / end actions jump group 1 / end",
		"cause unspecified: the card refuses the rule: the group is not above its own: Invalid argument",
	},
	{
		vf0, "transfer pattern eth / end actions jump group 0 / end",
		"cause unspecified: the card refuses the rule: the group is not above its own: Invalid argument",
	},
	{
		vf0, "group 1 ingress pattern eth / end actions jump group 1 / end",
		"cause unspecified: the card refuses the rule: the group is not above its own: Invalid argument",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions raw_decap index 1 / port_id id 6 / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 7 / port_id id 6 / end",
		"specific action: action SAMPLE: cannot be made: Invalid argument",
	},
	{
		vf0, "transfer pattern eth / ipv6 / end actions raw_decap index 0 / raw_encap index 3 / port_id id 9 / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
	{
		vf0, "transfer pattern eth / end actions sample ratio 1 index 0 / drop / end",
		"specific action: action SAMPLE: cannot be made: Invalid argument",
	},
	{
		vf0, "transfer pattern eth / end actions port_id id 9 / age timeout 5 / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
	{
		vf0, "transfer pattern eth / ipv4 / end actions port_id id 9 / dec_ttl / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
	{
		vf0, "transfer pattern eth / end actions of_push_vlan ethertype 0x8100 / set_mac_src mac_addr 02:00:00:00:00:01 / port_id id 6 / end",
		"cause unspecified: the card refuses the rule: the order of the actions: Operation not supported",
	},
}
