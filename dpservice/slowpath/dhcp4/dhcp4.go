// SPDX-License-Identifier: Apache-2.0

// Package dhcp4 answers a guest's DHCPv4 messages (RFC 2131). There is one guest and one address, both known before the
// guest asks: a lease is never taken from anybody, and nothing is remembered. What it reads may be anything.
package dhcp4

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket/layers"
)

// The UDP ports of the protocol.
const (
	ServerPort = 67
	ClientPort = 68
)

// Broadcast is where an answer goes whose guest cannot receive unicasts yet.
var Broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Lease is everything that a guest gets.
type Lease struct {
	Address    netip.Addr
	Gateway    netip.Addr   // router and DHCP server; outside of the guest's subnet, which is its address alone
	DNS        []netip.Addr // IPv4
	MTU        uint16       // bytes
	Time       time.Duration
	Hostname   string // empty: none
	BootServer string // TFTP server, a name or an IPv4 address; empty: none
	BootFile   string
	HTTPBoot   bool // BootFile is an HTTP URL
}

// Reply is an answer on its way.
type Reply struct {
	Message []byte     // the UDP datagram's payload
	To      netip.Addr // Broadcast, or the guest's own
	MAC     [6]byte    // the Ethernet destination if To is not Broadcast
}

// Answer returns the answer to a guest's message, the payload of a UDP datagram. There is none to a message that is
// malformed, relayed, or meant for another server, or that wants none.
func (l Lease) Answer(message []byte) (Reply, bool) {
	r, ok := parse(message)
	if !ok || r.server.IsValid() && r.server != l.Gateway {
		return Reply{}, false
	}
	switch r.kind {
	case layers.DHCPMsgTypeDiscover:
		return l.grant(r, layers.DHCPMsgTypeOffer)
	case layers.DHCPMsgTypeRequest:
		return l.request(r)
	case layers.DHCPMsgTypeInform:
		return l.inform(r)
	default: // release and decline free an address that nobody else can get
		return Reply{}, false
	}
}

// request answers one that selects an offer, or renews a lease or asks whether it is still valid.
func (l Lease) request(r request) (Reply, bool) {
	switch r.wanted() {
	case l.Address:
		return l.grant(r, layers.DHCPMsgTypeAck)
	case netip.IPv4Unspecified():
		return Reply{}, false
	default:
		return l.refuse(r)
	}
}

func (l Lease) grant(r request, kind layers.DHCPMsgType) (Reply, bool) {
	options := slices.Concat([]layers.DHCPOption{
		option(layers.DHCPOptLeaseTime, seconds(l.Time)),
		option(layers.DHCPOptT1, seconds(l.Time/2)),
		option(layers.DHCPOptT2, seconds(l.Time/8*7)),
	}, l.parameters(r))
	m := l.message(r, kind, options)
	m.YourClientIP = l.Address.AsSlice()
	reply := Reply{Message: encode(m), To: l.Address, MAC: r.mac}
	if r.broadcast && r.client != l.Address {
		reply.To = Broadcast
	}
	return reply, true
}

// inform answers a guest that has an address from elsewhere.
func (l Lease) inform(r request) (Reply, bool) {
	if r.client != l.Address {
		return Reply{}, false
	}
	m := l.message(r, layers.DHCPMsgTypeAck, l.parameters(r))
	return Reply{Message: encode(m), To: r.client, MAC: r.mac}, true
}

func (l Lease) refuse(r request) (Reply, bool) {
	why := "not this guest's address"
	m := l.message(r, layers.DHCPMsgTypeNak, []layers.DHCPOption{option(layers.DHCPOptMessage, []byte(why))})
	m.ClientIP, m.NextServerIP, m.File = nil, nil, nil
	return Reply{Message: encode(m), To: Broadcast}, true
}

// message is an answer to r with what all answers have, and these options.
func (l Lease) message(r request, kind layers.DHCPMsgType, options []layers.DHCPOption) *layers.DHCPv4 {
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: r.xid, Flags: r.flags, ClientHWAddr: r.mac[:], File: []byte(l.BootFile),
		Options: append([]layers.DHCPOption{
			option(layers.DHCPOptMessageType, []byte{byte(kind)}),
			option(layers.DHCPOptServerID, l.Gateway.AsSlice()),
		}, options...),
	}
	if kind != layers.DHCPMsgTypeOffer {
		m.ClientIP = r.client.AsSlice()
	}
	if ip, err := netip.ParseAddr(l.BootServer); err == nil && ip.Is4() {
		m.NextServerIP = ip.AsSlice()
	}
	if r.clientID != nil { // RFC 6842
		m.Options = append(m.Options, option(layers.DHCPOptClientID, r.clientID))
	}
	return m
}

// Options that gopacket has no names for.
const (
	optBootServer = layers.DHCPOpt(66)
	optBootFile   = layers.DHCPOpt(67)
)

// parameters are the options that describe the guest's network. What only some guests need, and may be long, is for
// those that ask.
func (l Lease) parameters(r request) []layers.DHCPOption {
	gateway := l.Gateway.As4()
	options := []layers.DHCPOption{
		option(layers.DHCPOptSubnetMask, []byte{255, 255, 255, 255}),
		option(layers.DHCPOptRouter, gateway[:]),
		option(layers.DHCPOptClasslessStaticRoute, routes(gateway)),
		option(layers.DHCPOptInterfaceMTU, binary.BigEndian.AppendUint16(nil, l.MTU)),
	}
	var dns []byte
	for _, ip := range l.DNS {
		dns = append(dns, ip.AsSlice()...)
	}
	if dns != nil {
		options = append(options, option(layers.DHCPOptDNS, dns))
	}
	if r.httpBoot && l.HTTPBoot {
		options = append(options, option(layers.DHCPOptClassID, httpClient))
	}
	for _, o := range []layers.DHCPOption{
		option(layers.DHCPOptHostname, []byte(l.Hostname)),
		option(optBootServer, []byte(l.BootServer)),
		option(optBootFile, []byte(l.BootFile)),
	} {
		if o.Length > 0 && r.asksFor(o.Type) {
			options = append(options, o)
		}
	}
	return options
}

// routes lead to the gateway, which is on the link, and by it everywhere (RFC 3442).
func routes(gateway [4]byte) []byte {
	return slices.Concat([]byte{32}, gateway[:], []byte{0, 0, 0, 0}, []byte{0}, gateway[:])
}

func option(t layers.DHCPOpt, data []byte) layers.DHCPOption { return layers.NewDHCPOption(t, data) }

func seconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))
}
