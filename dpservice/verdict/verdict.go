// SPDX-License-Identifier: Apache-2.0

// Package verdict says in words what the packet graph does with packets.
package verdict

import (
	"fmt"
	"net/netip"
	"strings"

	"dpservice/dpservice/vnet"
	"dpservice/graph"
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

// Networks are the interfaces and routes of a moment.
type Networks struct {
	Interfaces []vnet.Attachment
	Routes     []vnet.Route
}

// Way says where a flow's packets go, out of a port with this ethdev name.
func (n Networks) Way(f graph.Flow, outPort string) string {
	if f.Verdict.Kind == graph.Deliver {
		if a, ok := n.On(f.Verdict.TxPort); ok {
			return fmt.Sprintf("delivered to %s by %s", a.ID, outPort)
		}
		return "delivered by " + outPort
	}
	hop := NextHop(f.Verdict.Header)
	by := ""
	if r, ok := n.longest(f.VNI, f.Key.Dst, func(r vnet.Route) bool { return r.NextHopIP == hop }); ok {
		by = fmt.Sprintf(" by route %s", r.Prefix)
	}
	return fmt.Sprintf("encapsulated to %s%s, out of %s", hop, by, outPort)
}

// On is the interface on a port.
func (n Networks) On(port uint16) (vnet.Attachment, bool) {
	return n.find(func(a *vnet.Attachment) bool { return a.Port == port })
}

// ByID is the interface with an id.
func (n Networks) ByID(id string) (vnet.Attachment, bool) {
	return n.find(func(a *vnet.Attachment) bool { return a.ID == id })
}

// ByIndex is the interface with an index in the packet graph.
func (n Networks) ByIndex(index uint16) (vnet.Attachment, bool) {
	return n.find(func(a *vnet.Attachment) bool { return a.Index == index })
}

// WithAddress is the interface of a virtual network with an address.
func (n Networks) WithAddress(vni uint32, addr netip.Addr) (vnet.Attachment, bool) {
	return n.find(func(a *vnet.Attachment) bool { return a.VNI == vni && (a.IPv4 == addr || a.IPv6 == addr) })
}

func (n Networks) find(is func(a *vnet.Attachment) bool) (vnet.Attachment, bool) {
	for i := range n.Interfaces {
		if is(&n.Interfaces[i]) {
			return n.Interfaces[i], true
		}
	}
	return vnet.Attachment{}, false
}

// Route is the one with the longest prefix that holds an address.
func (n Networks) Route(vni uint32, dst netip.Addr) (vnet.Route, bool) {
	return n.longest(vni, dst, func(vnet.Route) bool { return true })
}

// longest is the route with the longest prefix that holds an address, of those that fit.
func (n Networks) longest(vni uint32, dst netip.Addr, fits func(vnet.Route) bool) (best vnet.Route, found bool) {
	for _, r := range n.Routes {
		if r.VNI == vni && r.Prefix.Contains(dst) && fits(r) && (!found || r.Prefix.Bits() > best.Prefix.Bits()) {
			best, found = r, true
		}
	}
	return best, found
}

// NextHop is the destination in an outer header: Ethernet and IPv6.
func NextHop(header []byte) netip.Addr {
	const destination = 14 + 24
	if len(header) < destination+16 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte(header[destination : destination+16]))
}
