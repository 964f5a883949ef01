// SPDX-License-Identifier: Apache-2.0

package dhcp4

import (
	"bytes"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const (
	headerLen     = 240 // with the magic cookie
	minLen        = 300 // of a message, as BOOTP clients expect
	broadcastFlag = 0x8000
	maxHardware   = 16 // bytes of the field for a client's hardware address
)

// httpClient begins the vendor class of firmware that boots from an HTTP URL, and is the answer's (UEFI 2.10, 24.7).
var httpClient = []byte("HTTPClient")

// request is what matters of a guest's message.
type request struct {
	kind      layers.DHCPMsgType
	xid       uint32
	flags     uint16
	broadcast bool
	client    netip.Addr // the address that the guest has; 0.0.0.0 if none
	requested netip.Addr // the address that it asks for; invalid if none
	server    netip.Addr // the server that it speaks to; invalid if none
	mac       [6]byte
	clientID  []byte // nil if none
	httpBoot  bool   // the guest's firmware boots from an HTTP URL
	asks      []byte // the options that it wants; nil: it does not say
}

// parse reads a message; not ok if it is malformed, relayed or not a client's.
func parse(message []byte) (r request, ok bool) {
	// gopacket slices by the hardware address's length without looking at it
	if len(message) < headerLen || message[2] > maxHardware {
		return r, false
	}
	var m layers.DHCPv4
	if err := m.DecodeFromBytes(message, gopacket.NilDecodeFeedback); err != nil {
		return r, false
	}
	if m.Operation != layers.DHCPOpRequest || m.HardwareType != layers.LinkTypeEthernet || len(m.ClientHWAddr) != 6 ||
		m.ClientHWAddr[0]&1 != 0 || !m.RelayAgentIP.IsUnspecified() {
		return r, false
	}
	r = request{
		xid: m.Xid, flags: m.Flags & broadcastFlag, broadcast: m.Flags&broadcastFlag != 0,
		client: netip.AddrFrom4([4]byte(m.ClientIP)), mac: [6]byte(m.ClientHWAddr),
	}
	for _, o := range m.Options {
		if !r.take(o) {
			return r, false
		}
	}
	return r, r.kind != layers.DHCPMsgTypeUnspecified
}

// take notes an option; false if its length is wrong.
func (r *request) take(o layers.DHCPOption) bool {
	switch o.Type {
	case layers.DHCPOptMessageType:
		if len(o.Data) != 1 {
			return false
		}
		r.kind = layers.DHCPMsgType(o.Data[0])
	case layers.DHCPOptRequestIP:
		return takeAddr(&r.requested, o.Data)
	case layers.DHCPOptServerID:
		return takeAddr(&r.server, o.Data)
	case layers.DHCPOptClientID:
		if len(o.Data) > 0 { // RFC 2132 wants two bytes, but there are clients with one, or none
			r.clientID = o.Data
		}
	case layers.DHCPOptClassID:
		r.httpBoot = bytes.HasPrefix(o.Data, httpClient)
	case layers.DHCPOptParamsRequest:
		r.asks = o.Data
	}
	return true
}

func takeAddr(to *netip.Addr, data []byte) bool {
	if len(data) != 4 {
		return false
	}
	*to = netip.AddrFrom4([4]byte(data))
	return true
}

// wanted is the address that a request is about; 0.0.0.0 if it names none.
func (r *request) wanted() netip.Addr {
	if r.requested.IsValid() {
		return r.requested
	}
	return r.client
}

// asksFor reports whether the guest wants an option; one that does not say wants all.
func (r *request) asksFor(t layers.DHCPOpt) bool {
	return r.asks == nil || bytes.IndexByte(r.asks, byte(t)) >= 0
}

func encode(m *layers.DHCPv4) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := m.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		return nil // only for want of room, which grows
	}
	return append(buf.Bytes(), make([]byte, max(0, minLen-len(buf.Bytes())))...)
}
