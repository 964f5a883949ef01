// SPDX-License-Identifier: Apache-2.0

package vnet

import "net/netip"

// Networks are copies of all interfaces and routes, to look them up. They do not follow later changes.
type Networks struct {
	Interfaces []Attachment
	Routes     []Route
}

// Networks returns the interfaces and routes. A change may come between the reading of the two.
func (m *Manager) Networks() Networks { return Networks{m.Attachments(), m.Routes()} }

// OnPort is the interface on a port.
func (n Networks) OnPort(id uint16) (Attachment, bool) {
	return n.find(func(a *Attachment) bool { return a.Port == id })
}

// ByID is the interface with an id.
func (n Networks) ByID(id string) (Attachment, bool) {
	return n.find(func(a *Attachment) bool { return a.ID == id })
}

// ByIndex is the interface with an index in the packet graph.
func (n Networks) ByIndex(index uint16) (Attachment, bool) {
	return n.find(func(a *Attachment) bool { return a.Index == index })
}

// WithAddress is the interface of a virtual network with an address.
func (n Networks) WithAddress(vni uint32, addr netip.Addr) (Attachment, bool) {
	return n.find(func(a *Attachment) bool { return a.VNI == vni && (a.IPv4 == addr || a.IPv6 == addr) })
}

func (n Networks) find(is func(a *Attachment) bool) (Attachment, bool) {
	for i := range n.Interfaces {
		if is(&n.Interfaces[i]) {
			return n.Interfaces[i], true
		}
	}
	return Attachment{}, false
}

// Route is the route with the longest prefix that holds an address.
func (n Networks) Route(vni uint32, dst netip.Addr) (Route, bool) {
	return n.longest(vni, dst, func(Route) bool { return true })
}

// RouteTo is Route among the routes to a next hop.
func (n Networks) RouteTo(hop netip.Addr, vni uint32, dst netip.Addr) (Route, bool) {
	return n.longest(vni, dst, func(r Route) bool { return r.NextHopIP == hop })
}

// longest is the route with the longest prefix that holds an address, of those that fit.
func (n Networks) longest(vni uint32, dst netip.Addr, fits func(Route) bool) (best Route, found bool) {
	for _, r := range n.Routes {
		if r.VNI == vni && r.Prefix.Contains(dst) && fits(r) && (!found || r.Prefix.Bits() > best.Prefix.Bits()) {
			best, found = r, true
		}
	}
	return best, found
}
