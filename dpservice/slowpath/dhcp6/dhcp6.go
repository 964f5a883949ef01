// SPDX-License-Identifier: Apache-2.0

// Package dhcp6 answers a guest's DHCPv6 messages (RFC 8415). There is one guest and one address, both known before the
// guest asks: a lease is never taken from anybody, and nothing is remembered. What it reads may be anything.
package dhcp6

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// The UDP ports of the protocol.
const (
	ServerPort = 547
	ClientPort = 546
)

// Servers is the group that guests ask: all relay agents and servers on the link.
var Servers = netip.MustParseAddr("ff02::1:2")

// Lease is everything that a guest gets.
type Lease struct {
	Address   netip.Addr
	ServerMAC [6]byte      // what the server is known by
	DNS       []netip.Addr // IPv6
	Time      time.Duration
	BootURL   string // what a PXE client loads; empty: none
	HTTPBoot  bool   // BootURL is an HTTP one
}

// Answer returns the answer to a guest's message, the payload of a UDP datagram. There is none to a message that is
// malformed, relayed, or meant for another server.
func (l Lease) Answer(message []byte) ([]byte, bool) {
	r, ok := parse(message)
	if !ok || !r.addressed(l.duid()) {
		return nil, false
	}
	switch r.kind {
	case layers.DHCPv6MsgTypeSolicit:
		if r.rapidCommit {
			return l.reply(r, layers.DHCPv6MsgTypeReply, slices.Concat(l.leases(r), rapidCommit, l.parameters(r))), true
		}
		return l.reply(r, layers.DHCPv6MsgTypeAdverstise, slices.Concat(l.leases(r), l.parameters(r))), true
	case layers.DHCPv6MsgTypeRequest, layers.DHCPv6MsgTypeRenew, layers.DHCPv6MsgTypeRebind:
		return l.reply(r, layers.DHCPv6MsgTypeReply, slices.Concat(l.leases(r), l.parameters(r))), true
	case layers.DHCPv6MsgTypeConfirm:
		return l.confirm(r)
	case layers.DHCPv6MsgTypeRelease, layers.DHCPv6MsgTypeDecline: // nobody else can get the address
		return l.reply(r, layers.DHCPv6MsgTypeReply, layers.DHCPv6Options{status(layers.DHCPv6StatusCodeSuccess)}), true
	case layers.DHCPv6MsgTypeInformationRequest:
		return l.reply(r, layers.DHCPv6MsgTypeReply, l.parameters(r)), true
	default:
		return nil, false
	}
}

var rapidCommit = layers.DHCPv6Options{layers.NewDHCPv6Option(layers.DHCPv6OptRapidCommit, nil)}

// confirm says whether the guest's addresses are right where it is now; nothing if it names none.
func (l Lease) confirm(r request) ([]byte, bool) {
	named, code := false, layers.DHCPv6StatusCodeSuccess
	for _, a := range r.associations {
		for _, ip := range a.addresses {
			named = true
			if ip != l.Address {
				code = layers.DHCPv6StatusCodeNotOnLink
			}
		}
	}
	return l.reply(r, layers.DHCPv6MsgTypeReply, layers.DHCPv6Options{status(code)}), named
}

// leases answers the guest's wishes: the first association for addresses gets the address, any other nothing.
func (l Lease) leases(r request) layers.DHCPv6Options {
	var all layers.DHCPv6Options
	given := false
	for _, a := range r.associations {
		switch {
		case a.kind == layers.DHCPv6OptIAPD:
			all = append(all, a.answer(0, status(statusNoPrefixAvail)))
		case given:
			all = append(all, a.answer(0, status(layers.DHCPv6StatusCodeNoAddrsAvail)))
		default:
			given = true
			all = append(all, l.lease(r.kind, a))
		}
	}
	return all
}

// lease gives an association the address. A guest that requests another one gets the status NotOnLink; addresses that
// it has from before get lifetimes of zero.
func (l Lease) lease(kind layers.DHCPv6MsgType, a association) layers.DHCPv6Option {
	if kind == layers.DHCPv6MsgTypeRequest && len(a.addresses) > 0 && !slices.Contains(a.addresses, l.Address) {
		return a.answer(0, status(layers.DHCPv6StatusCodeNotOnLink))
	}
	options := layers.DHCPv6Options{address(l.Address, l.Time)}
	if kind == layers.DHCPv6MsgTypeRenew || kind == layers.DHCPv6MsgTypeRebind {
		for _, ip := range a.addresses {
			if ip != l.Address {
				options = append(options, address(ip, 0))
			}
		}
	}
	return a.answer(l.Time, options...)
}

// parameters are the options that describe the guest's network.
func (l Lease) parameters(r request) layers.DHCPv6Options {
	var options layers.DHCPv6Options
	var dns []byte
	for _, ip := range l.DNS {
		dns = append(dns, ip.AsSlice()...)
	}
	if dns != nil {
		options = append(options, layers.NewDHCPv6Option(layers.DHCPv6OptDNSServers, dns))
	}
	if l.BootURL != "" {
		options = append(options, layers.NewDHCPv6Option(optBootURL, []byte(l.BootURL)))
	}
	if r.vendorClass != nil && l.HTTPBoot {
		options = append(options, layers.NewDHCPv6Option(layers.DHCPv6OptVendorClass, r.vendorClass))
	}
	return options
}

// duid identifies the server: by its MAC.
func (l Lease) duid() []byte {
	id := layers.DHCPv6DUID{Type: layers.DHCPv6DUIDTypeLL, HardwareType: []byte{0, 1}, LinkLayerAddress: l.ServerMAC[:]}
	return id.Encode()
}

func (l Lease) reply(r request, kind layers.DHCPv6MsgType, options layers.DHCPv6Options) []byte {
	m := layers.DHCPv6{MsgType: kind, TransactionID: r.transaction}
	m.Options = append(m.Options, layers.NewDHCPv6Option(layers.DHCPv6OptServerID, l.duid()))
	if r.client != nil {
		m.Options = append(m.Options, layers.NewDHCPv6Option(layers.DHCPv6OptClientID, r.client))
	}
	m.Options = append(m.Options, options...)
	buf := gopacket.NewSerializeBuffer()
	if err := m.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		return nil // only for want of room, which grows
	}
	return buf.Bytes()
}

// addressed reports whether the message is for the server with this DUID, and names those that it has to.
func (r *request) addressed(duid []byte) bool {
	switch r.kind {
	case layers.DHCPv6MsgTypeSolicit, layers.DHCPv6MsgTypeConfirm, layers.DHCPv6MsgTypeRebind:
		return r.client != nil && r.server == nil
	case layers.DHCPv6MsgTypeInformationRequest:
		return len(r.associations) == 0 && (r.server == nil || bytes.Equal(r.server, duid))
	default:
		return r.client != nil && bytes.Equal(r.server, duid)
	}
}
