// SPDX-License-Identifier: Apache-2.0

// Package verdict says in words what the packet graph does with packets.
package verdict

import (
	"fmt"
	"net/netip"
	"strings"

	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/wire"
)

// reasons say what the nodes mean at which packets end.
var reasons = map[string]string{
	"drop_malformed":        "a header is cut short or contradicts itself",
	"drop_no_interface":     "it came from a port without an interface",
	"drop_not_for_us":       "it is for another Ethernet address, or ICMPv6 about another's",
	"drop_multicast":        "it is for a group, which is not forwarded",
	"drop_martian_source":   "no router forwards from its source, or that is the gateway's",
	"drop_unspecified":      "no router forwards to the unspecified address",
	"drop_loopback":         "no router forwards to loopback addresses",
	"drop_link_local":       "no router forwards to link-local addresses",
	"drop_broadcast":        "no router forwards to the broadcast address",
	"drop_reserved":         "no router forwards to reserved addresses",
	"drop_to_gateway":       "it is for the guests' gateway, which answers no such packet",
	"drop_tagged":           "it is in a VLAN, and guests have none",
	"drop_unsupported":      "it is neither IP nor ARP, or on the wire no tunnel's",
	"drop_spoofed":          "its source address is not the guest's own",
	"drop_wrong_peer":       "its tunnel's source is not where the route to its source leads",
	"drop_local_source":     "it came from the wire with the source of an interface of this node",
	"drop_no_route":         "there is no route to its destination, or it does not lead to this interface",
	"drop_no_neighbour":     "the MAC of the guest or of the router is not known, or no uplink is usable",
	"drop_unknown_underlay": "no interface has the underlay address that it is for",
	"drop_unknown_mark":     "the NIC has decapsulated it for a tunnel that is no longer there",
	"drop_ttl":              "its time to live is used up",
	"drop_too_big":          "it does not fit the MTU where it is to go",
	"drop_no_headroom":      "its buffer has no room for the outer header",
	"drop_tx":               "the port did not take it",
	"drop_punt_full":        "it is for the slow path, which does not keep up",
	"drop_punt_rate":        "it is for the slow path, beyond the rate of its port and kind",
	"drop_copy_too_big":     "a copy of it does not fit the uplink",

	"icmp_time_exceeded": "its time to live is used up",
	"icmp_too_big":       "it does not fit the MTU where it is to go",
	"icmp_no_route":      "there is no route to its destination",
}

// End says what becomes of a packet that ends at a node, drop_ or icmp_ or punt; empty for any other node.
func End(node string) string {
	switch {
	case strings.HasPrefix(node, "drop_"):
		return "dropped: " + reasons[node] + " (" + node + ")"
	case strings.HasPrefix(node, "icmp_"):
		return "answered with an ICMP error: " + reasons[node]
	case node == "punt":
		return "left to the slow path, which answers ARP, neighbour discovery, DHCP and pings of the gateway"
	default:
		return ""
	}
}

// Forwarded says what is done with a flow's packets, which leave by a port with the ethdev name outPort.
func Forwarded(n vnet.Networks, f graph.Flow, outPort string) string {
	if f.Verdict.Kind == graph.Deliver {
		if a, ok := n.OnPort(f.Verdict.TxPort); ok {
			return fmt.Sprintf("delivered to %s by %s", a.ID, outPort)
		}
		return "delivered by " + outPort
	}
	hop := nextHop(f.Verdict.Header)
	by := ""
	if r, ok := n.RouteTo(hop, f.VNI, f.Key.Dst); ok {
		by = fmt.Sprintf(" by route %s", r.Prefix)
	}
	return fmt.Sprintf("encapsulated to %s%s, out of %s", hop, by, outPort)
}

// nextHop is the destination in an outer header: Ethernet and IPv6. It is invalid if the header is none.
func nextHop(header []byte) netip.Addr {
	const at = wire.EthernetLen + wire.IPv6Len - 16
	if len(header) < at+16 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte(header[at : at+16]))
}
