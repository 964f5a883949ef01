// SPDX-License-Identifier: Apache-2.0

// Package vnet holds the virtual networks: the guests' interfaces and the routes between them.
package vnet

import (
	"net/netip"

	"dpservice/wire"
)

// Interface is a guest's attachment to a virtual network.
type Interface struct {
	ID         string
	Device     string // ethdev name of the VF's representor
	Port       uint16 // DPDK port id of Device
	VNI        uint32 // 1..0xffffff
	IPv4       netip.Addr
	IPv6       netip.Addr
	UnderlayIP netip.Addr // outer source of what the guest sends, outer destination of what it receives
	Hostname   string     // that the guest gets by DHCP; empty: none
	PXE        PXE
}

// Route sends a prefix of a virtual network to the interface that has NextHopIP as its underlay address.
type Route struct {
	VNI        uint32
	Prefix     netip.Prefix
	NextHopVNI uint32
	NextHopIP  netip.Addr
}

// CreateRequest is what an interface is created from.
type CreateRequest struct {
	ID         string
	Device     string // ethdev name of the VF's representor
	VNI        uint32
	IPv4       netip.Addr
	IPv6       netip.Addr
	UnderlayIP netip.Addr // zero: taken from the node's prefix
	GuestMAC   wire.MAC   // zero: learned from the guest
	Hostname   string     // that the guest gets by DHCP; empty: none
	PXE        PXE
}
