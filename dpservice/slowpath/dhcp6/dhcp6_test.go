// SPDX-License-Identifier: Apache-2.0

package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	clientID = []byte{0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 1}
	other    = netip.MustParseAddr("fd00::2")
	lease    = Lease{
		Address: netip.MustParseAddr("fd00::1"), ServerMAC: [6]byte{2, 0, 0, 0, 0, 0xa0},
		DNS: []netip.Addr{netip.MustParseAddr("fd00::53")}, Time: time.Hour, BootURL: "tftp://[fd00::9]/boot.efi",
	}
)

func ask(kind layers.DHCPv6MsgType, options ...layers.DHCPv6Option) []byte {
	m := layers.DHCPv6{MsgType: kind, TransactionID: []byte{1, 2, 3}, Options: options}
	buf := gopacket.NewSerializeBuffer()
	if err := m.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

var (
	client = layers.NewDHCPv6Option(layers.DHCPv6OptClientID, clientID)
	server = layers.NewDHCPv6Option(layers.DHCPv6OptServerID, lease.duid())
	alien  = layers.NewDHCPv6Option(layers.DHCPv6OptServerID, []byte{0, 3, 0, 1, 2, 9, 9, 9, 9, 9})
	rapid  = layers.NewDHCPv6Option(layers.DHCPv6OptRapidCommit, nil)
)

// want is an association for these addresses.
func want(ips ...netip.Addr) layers.DHCPv6Option {
	a := association{kind: layers.DHCPv6OptIANA, id: 7}
	var options []layers.DHCPv6Option
	for _, ip := range ips {
		options = append(options, address(ip, 0))
	}
	return a.answer(0, options...)
}

// decode takes an answer apart; its options by their codes.
func decode(t testing.TB, message []byte) (*layers.DHCPv6, map[layers.DHCPv6Opt][]byte) {
	t.Helper()
	m := &layers.DHCPv6{}
	require.NoError(t, m.DecodeFromBytes(message, gopacket.NilDecodeFeedback))
	options := map[layers.DHCPv6Opt][]byte{}
	for _, o := range m.Options {
		options[o.Code] = o.Data
	}
	return m, options
}

// leased are the addresses of an association with their lifetimes in seconds, and its status; success if it has none.
func leased(t testing.TB, data []byte) (map[netip.Addr]uint32, layers.DHCPv6StatusCode) {
	t.Helper()
	ips, code := map[netip.Addr]uint32{}, layers.DHCPv6StatusCodeSuccess
	for rest := data[associationLen:]; len(rest) > 0; {
		size := int(binary.BigEndian.Uint16(rest[2:]))
		body := rest[4 : 4+size]
		switch layers.DHCPv6Opt(binary.BigEndian.Uint16(rest)) {
		case layers.DHCPv6OptIAAddr:
			ips[netip.AddrFrom16([16]byte(body))] = binary.BigEndian.Uint32(body[20:])
		case layers.DHCPv6OptStatusCode:
			code = layers.DHCPv6StatusCode(binary.BigEndian.Uint16(body))
		}
		rest = rest[4+size:]
	}
	return ips, code
}

// TestHTTPBoot has firmware that says its vendor class: it takes a URL only from who says it, too.
func TestHTTPBoot(t *testing.T) {
	http := lease
	http.BootURL, http.HTTPBoot = "http://[fd00::9]/boot.efi", true
	class := func(strings ...string) []byte {
		data := []byte{0, 0, 1, 0x57}
		for _, s := range strings {
			data = append(binary.BigEndian.AppendUint16(data, uint16(len(s))), s...)
		}
		return data
	}
	for name, tt := range map[string]struct {
		lease Lease
		class []byte
		want  []byte
	}{
		"HTTP":             {http, class("HTTPClient:Arch:00016:UNDI:003001"), class("HTTPClient")},
		"second string":    {http, class("x", "HTTPClient"), class("HTTPClient")},
		"PXE":              {http, class("PXEClient:Arch:00007:UNDI:003016"), nil},
		"HTTP without URL": {lease, class("HTTPClient"), nil},
		"cut short":        {http, class("HTTPClient")[:8], nil},
		"too short":        {http, []byte{0, 0, 1}, nil},
		"empty":            {http, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			answer, ok := tt.lease.Answer(ask(layers.DHCPv6MsgTypeSolicit, client, want(),
				layers.NewDHCPv6Option(layers.DHCPv6OptVendorClass, tt.class)))
			require.True(t, ok)
			_, options := decode(t, answer)
			assert.Equal(t, tt.want, options[layers.DHCPv6OptVendorClass])
			assert.Equal(t, tt.lease.BootURL, string(options[optBootURL]))
		})
	}
}

func TestAnswers(t *testing.T) {
	const none = layers.DHCPv6MsgTypeUnspecified
	const reply, advertise = layers.DHCPv6MsgTypeReply, layers.DHCPv6MsgTypeAdverstise
	const solicit, request, renew = layers.DHCPv6MsgTypeSolicit, layers.DHCPv6MsgTypeRequest, layers.DHCPv6MsgTypeRenew
	const rebind, confirm, release = layers.DHCPv6MsgTypeRebind, layers.DHCPv6MsgTypeConfirm, layers.DHCPv6MsgTypeRelease
	const inform = layers.DHCPv6MsgTypeInformationRequest
	ours := map[netip.Addr]uint32{lease.Address: 3600}
	ok, notOnLink := layers.DHCPv6StatusCodeSuccess, layers.DHCPv6StatusCodeNotOnLink
	nothing := map[netip.Addr]uint32{}
	tests := map[string]struct {
		message []byte
		kind    layers.DHCPv6MsgType
		ips     map[netip.Addr]uint32 // nil: no association in the answer
		status  layers.DHCPv6StatusCode
	}{
		"solicit":                   {ask(solicit, client, want()), advertise, ours, ok},
		"solicit of another":        {ask(solicit, client, want(other)), advertise, ours, ok},
		"solicit, rapid":            {ask(solicit, client, rapid, want()), reply, ours, ok},
		"solicit without client":    {ask(solicit, want()), none, nil, ok},
		"solicit to a server":       {ask(solicit, client, server, want()), none, nil, ok},
		"request":                   {ask(request, client, server, want(lease.Address)), reply, ours, ok},
		"request of any":            {ask(request, client, server, want()), reply, ours, ok},
		"request of another":        {ask(request, client, server, want(other)), reply, nothing, notOnLink},
		"request to another server": {ask(request, client, alien, want(lease.Address)), none, nil, ok},
		"request to no server":      {ask(request, client, want(lease.Address)), none, nil, ok},
		"renew":                     {ask(renew, client, server, want(lease.Address)), reply, ours, ok},
		"renew of another too": {ask(renew, client, server, want(other, lease.Address)), reply,
			map[netip.Addr]uint32{lease.Address: 3600, other: 0}, ok},
		"rebind":                  {ask(rebind, client, want(lease.Address)), reply, ours, ok},
		"rebind to a server":      {ask(rebind, client, server, want(lease.Address)), none, nil, ok},
		"confirm":                 {ask(confirm, client, want(lease.Address)), reply, nil, ok},
		"confirm of another":      {ask(confirm, client, want(lease.Address, other)), reply, nil, notOnLink},
		"confirm of nothing":      {ask(confirm, client, want()), none, nil, ok},
		"release":                 {ask(release, client, server, want(lease.Address)), reply, nil, ok},
		"inform":                  {ask(inform), reply, nil, ok},
		"inform with association": {ask(inform, client, want()), none, nil, ok},
		"inform another server":   {ask(inform, alien), none, nil, ok},
		"a server's":              {ask(reply, client, server), none, nil, ok},
		"relayed": {append([]byte{byte(layers.DHCPv6MsgTypeRelayForward)}, make([]byte, 40)...), none, nil,
			ok},
		"short association": {ask(solicit, client, layers.NewDHCPv6Option(layers.DHCPv6OptIANA, make([]byte, 11))),
			none, nil, ok},
		"empty client": {ask(solicit, layers.NewDHCPv6Option(layers.DHCPv6OptClientID, nil)), none, nil, ok},
		"long client": {ask(solicit, layers.NewDHCPv6Option(layers.DHCPv6OptClientID, make([]byte, 131))), none,
			nil, ok},
		"nothing": {nil, none, nil, ok},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			message, answered := lease.Answer(tt.message)
			require.Equal(t, tt.kind != none, answered)
			if !answered {
				return
			}
			m, options := decode(t, message)
			assert.Equal(t, tt.kind, m.MsgType)
			assert.Equal(t, []byte{1, 2, 3}, m.TransactionID)
			assert.Equal(t, lease.duid(), options[layers.DHCPv6OptServerID])
			if code, ok := options[layers.DHCPv6OptStatusCode]; ok {
				assert.Equal(t, tt.status, layers.DHCPv6StatusCode(binary.BigEndian.Uint16(code)))
			}
			association, ok := options[layers.DHCPv6OptIANA]
			require.Equal(t, tt.ips != nil, ok)
			if ok {
				ips, code := leased(t, association)
				assert.Equal(t, tt.ips, ips)
				assert.Equal(t, tt.status, code)
				assert.Equal(t, []byte{0, 0, 0, 7}, association[:4])
			}
		})
	}
}

func TestParameters(t *testing.T) {
	message, ok := lease.Answer(ask(layers.DHCPv6MsgTypeSolicit, client, rapid, want()))
	require.True(t, ok)
	_, options := decode(t, message)
	assert.Equal(t, lease.DNS[0].AsSlice(), options[layers.DHCPv6OptDNSServers])
	assert.Equal(t, lease.BootURL, string(options[optBootURL]))
	assert.Equal(t, clientID, options[layers.DHCPv6OptClientID])
	assert.Contains(t, options, layers.DHCPv6OptRapidCommit)
	assert.Equal(t, []byte{0, 0, 0x07, 0x08, 0, 0, 0x0b, 0x40}, options[layers.DHCPv6OptIANA][4:12], "T1 and T2")
}

// TestOneAddress asks for more than there is: a second association gets nothing, and prefixes are not delegated.
func TestOneAddress(t *testing.T) {
	prefix := association{kind: layers.DHCPv6OptIAPD, id: 1}
	message, ok := lease.Answer(ask(layers.DHCPv6MsgTypeSolicit, client, prefix.answer(0), want(), want()))
	require.True(t, ok)
	m, _ := decode(t, message)
	var codes []layers.DHCPv6StatusCode
	for _, o := range m.Options {
		if o.Code == layers.DHCPv6OptIANA || o.Code == layers.DHCPv6OptIAPD {
			_, code := leased(t, o.Data)
			codes = append(codes, code)
		}
	}
	assert.Equal(t, []layers.DHCPv6StatusCode{statusNoPrefixAvail, layers.DHCPv6StatusCodeSuccess,
		layers.DHCPv6StatusCodeNoAddrsAvail}, codes)
}

// FuzzAnswer feeds any bytes; whatever is answered is sound, of bounded size, and grants no address but the guest's.
func FuzzAnswer(f *testing.F) {
	f.Add(ask(layers.DHCPv6MsgTypeSolicit, client, rapid, want(other)))
	f.Add(ask(layers.DHCPv6MsgTypeRenew, client, server, want(other, lease.Address)))
	f.Add(ask(layers.DHCPv6MsgTypeConfirm, client, want(other)))
	f.Add(ask(layers.DHCPv6MsgTypeInformationRequest))
	f.Fuzz(func(t *testing.T, message []byte) {
		reply, ok := lease.Answer(message)
		if !ok {
			return
		}
		require.Less(t, len(reply), 4096)
		m, _ := decode(t, reply)
		for _, o := range m.Options {
			if o.Code != layers.DHCPv6OptIANA {
				continue
			}
			ips, _ := leased(t, o.Data)
			for ip, seconds := range ips {
				require.True(t, ip == lease.Address || seconds == 0, ip)
			}
		}
		require.True(t, slices.ContainsFunc(m.Options,
			func(o layers.DHCPv6Option) bool { return o.Code == layers.DHCPv6OptServerID }))
	})
}
