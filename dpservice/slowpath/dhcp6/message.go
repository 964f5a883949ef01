// SPDX-License-Identifier: Apache-2.0

package dhcp6

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// What gopacket has no names for.
const (
	optBootURL          = layers.DHCPv6Opt(59)
	statusNoPrefixAvail = layers.DHCPv6StatusCode(6)
)

// Bounds of a message.
const (
	maxDUID         = 130 // bytes, as RFC 8415 has it
	maxAssociations = 8   // more are not answered
	maxAddresses    = 8   // of an association
)

// request is what matters of a guest's message.
type request struct {
	kind         layers.DHCPv6MsgType
	transaction  []byte
	client       []byte // DUID; nil if none
	server       []byte // DUID; nil if none
	rapidCommit  bool
	vendorClass  []byte // of firmware that boots from an HTTP URL, as it is answered; nil for all others
	associations []association
}

// association is a guest's IA_NA, or an IA_PD without what it holds.
type association struct {
	kind      layers.DHCPv6Opt
	id        uint32
	addresses []netip.Addr
}

// parse reads a message; not ok if it is malformed or relayed.
func parse(message []byte) (r request, ok bool) {
	var m layers.DHCPv6
	if err := m.DecodeFromBytes(message, gopacket.NilDecodeFeedback); err != nil {
		return r, false
	}
	if m.MsgType == layers.DHCPv6MsgTypeRelayForward || m.MsgType == layers.DHCPv6MsgTypeRelayReply {
		return r, false
	}
	r = request{kind: m.MsgType, transaction: m.TransactionID}
	for _, o := range m.Options {
		if !r.take(o) {
			return r, false
		}
	}
	return r, true
}

// take notes an option; false if it is malformed.
func (r *request) take(o layers.DHCPv6Option) bool {
	switch o.Code {
	case layers.DHCPv6OptClientID:
		return takeDUID(&r.client, o.Data)
	case layers.DHCPv6OptServerID:
		return takeDUID(&r.server, o.Data)
	case layers.DHCPv6OptVendorClass:
		r.takeVendorClass(o.Data)
	case layers.DHCPv6OptRapidCommit:
		r.rapidCommit = true
	case layers.DHCPv6OptIANA, layers.DHCPv6OptIAPD:
		a, ok := parseAssociation(o)
		if ok && len(r.associations) < maxAssociations {
			r.associations = append(r.associations, a)
		}
		return ok
	}
	return true
}

// httpClient begins the vendor class of firmware that boots from an HTTP URL, and is the answer's (UEFI 2.10, 24.7).
const httpClient = "HTTPClient"

// takeVendorClass looks for firmware that boots from an HTTP URL: an enterprise number, and strings with their lengths
// before them. The answer has the same number. What is malformed is left alone.
func (r *request) takeVendorClass(data []byte) {
	const numberLen = 4
	if len(data) < numberLen {
		return
	}
	for rest := data[numberLen:]; len(rest) >= 2; {
		size := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; size > len(rest) {
			return
		}
		if bytes.HasPrefix(rest[:size], []byte(httpClient)) {
			r.vendorClass = binary.BigEndian.AppendUint16(bytes.Clone(data[:numberLen]), uint16(len(httpClient)))
			r.vendorClass = append(r.vendorClass, httpClient...)
			return
		}
		rest = rest[size:]
	}
}

func takeDUID(to *[]byte, data []byte) bool {
	if len(data) < 3 || len(data) > maxDUID {
		return false
	}
	*to = data
	return true
}

// associationLen is that of identity, T1 and T2.
const associationLen = 12

func parseAssociation(o layers.DHCPv6Option) (a association, ok bool) {
	if len(o.Data) < associationLen {
		return a, false
	}
	a = association{kind: o.Code, id: binary.BigEndian.Uint32(o.Data)}
	for rest := o.Data[associationLen:]; len(rest) > 0; {
		if len(rest) < 4 {
			return a, false
		}
		code, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if rest = rest[4:]; size > len(rest) {
			return a, false
		}
		if layers.DHCPv6Opt(code) == layers.DHCPv6OptIAAddr && len(a.addresses) < maxAddresses {
			if size < addressLen {
				return a, false
			}
			a.addresses = append(a.addresses, netip.AddrFrom16([16]byte(rest)))
		}
		rest = rest[size:]
	}
	return a, true
}

// answer is the association with these options. The guest renews after half of the time.
func (a association) answer(t time.Duration, options ...layers.DHCPv6Option) layers.DHCPv6Option {
	data := binary.BigEndian.AppendUint32(nil, a.id)
	data = appendSeconds(data, t/2)
	data = appendSeconds(data, t/5*4)
	for _, o := range options {
		data = binary.BigEndian.AppendUint16(data, uint16(o.Code))
		data = binary.BigEndian.AppendUint16(data, uint16(len(o.Data)))
		data = append(data, o.Data...)
	}
	return layers.NewDHCPv6Option(a.kind, data)
}

// addressLen is that of an address with its two lifetimes.
const addressLen = 24

func address(ip netip.Addr, t time.Duration) layers.DHCPv6Option {
	data := appendSeconds(ip.AsSlice(), t) // preferred
	return layers.NewDHCPv6Option(layers.DHCPv6OptIAAddr, appendSeconds(data, t))
}

func appendSeconds(b []byte, t time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(t/time.Second))
}

func status(code layers.DHCPv6StatusCode) layers.DHCPv6Option {
	return layers.NewDHCPv6Option(layers.DHCPv6OptStatusCode, binary.BigEndian.AppendUint16(nil, uint16(code)))
}
