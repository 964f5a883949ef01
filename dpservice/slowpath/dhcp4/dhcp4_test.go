// SPDX-License-Identifier: Apache-2.0

package dhcp4

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	mac   = [6]byte{2, 0, 0, 0, 0, 0xa1}
	other = netip.MustParseAddr("10.0.0.2")
	lease = Lease{
		Address: netip.MustParseAddr("10.0.0.1"), Gateway: netip.MustParseAddr("169.254.0.1"),
		DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("10.0.0.54")}, MTU: 1460, Time: time.Hour,
		Hostname: "web", BootServer: "10.0.0.9", BootFile: "pxelinux.0",
	}
)

// change is what a test's message has besides what all have.
type change func(*layers.DHCPv4)

func ask(kind layers.DHCPMsgType, changes ...change) []byte {
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, ClientHWAddr: mac[:],
		Xid:     0x1234,
		Options: layers.DHCPOptions{option(layers.DHCPOptMessageType, []byte{byte(kind)})},
	}
	for _, c := range changes {
		c(m)
	}
	return encode(m)
}

func with(t layers.DHCPOpt, data ...byte) change {
	return func(m *layers.DHCPv4) { m.Options = append(m.Options, option(t, data)) }
}

func withAddr(t layers.DHCPOpt, ip netip.Addr) change { return with(t, ip.AsSlice()...) }

func has(ip netip.Addr) change { return func(m *layers.DHCPv4) { m.ClientIP = ip.AsSlice() } }

// decode takes an answer apart, and gives its options by their types.
func decode(t testing.TB, message []byte) (*layers.DHCPv4, map[layers.DHCPOpt][]byte) {
	t.Helper()
	require.GreaterOrEqual(t, len(message), minLen)
	m := &layers.DHCPv4{}
	require.NoError(t, m.DecodeFromBytes(message, gopacket.NilDecodeFeedback))
	options := map[layers.DHCPOpt][]byte{}
	for _, o := range m.Options {
		options[o.Type] = o.Data
	}
	return m, options
}

func TestAnswers(t *testing.T) {
	const (
		none  = layers.DHCPMsgTypeUnspecified
		offer = layers.DHCPMsgTypeOffer
		ack   = layers.DHCPMsgTypeAck
		nak   = layers.DHCPMsgTypeNak
	)
	request, wants := layers.DHCPMsgTypeRequest, layers.DHCPOptRequestIP
	broadcast := func(m *layers.DHCPv4) { m.Flags = broadcastFlag }
	tests := map[string]struct {
		message []byte
		kind    layers.DHCPMsgType
		to      netip.Addr
	}{
		"discover":            {ask(layers.DHCPMsgTypeDiscover), offer, lease.Address},
		"discover, broadcast": {ask(layers.DHCPMsgTypeDiscover, broadcast), offer, Broadcast},
		"discover of another": {ask(layers.DHCPMsgTypeDiscover, withAddr(wants, other)), offer, lease.Address},
		"select": {ask(request, withAddr(layers.DHCPOptServerID, lease.Gateway),
			withAddr(wants, lease.Address)), ack, lease.Address},
		"select another server": {ask(request, withAddr(layers.DHCPOptServerID, other), withAddr(wants, lease.Address)), none,
			other},
		"select another": {ask(request, withAddr(layers.DHCPOptServerID, lease.Gateway), withAddr(wants, other)), nak,
			Broadcast},
		"reboot":             {ask(request, withAddr(wants, lease.Address), broadcast), ack, Broadcast},
		"reboot elsewhere":   {ask(request, withAddr(wants, other)), nak, Broadcast},
		"renew":              {ask(request, has(lease.Address)), ack, lease.Address},
		"renew, broadcast":   {ask(request, has(lease.Address), broadcast), ack, lease.Address},
		"renew another":      {ask(request, has(other)), nak, Broadcast},
		"request of nothing": {ask(request), none, other},
		"inform":             {ask(layers.DHCPMsgTypeInform, has(lease.Address)), ack, lease.Address},
		"inform of another":  {ask(layers.DHCPMsgTypeInform, has(other)), none, other},
		"release":            {ask(layers.DHCPMsgTypeRelease, has(lease.Address)), none, other},
		"decline":            {ask(layers.DHCPMsgTypeDecline, withAddr(wants, lease.Address)), none, other},
		"an offer":           {ask(offer), none, other},
		"relayed": {ask(layers.DHCPMsgTypeDiscover,
			func(m *layers.DHCPv4) { m.RelayAgentIP = other.AsSlice() }), none, other},
		"a server's": {ask(layers.DHCPMsgTypeDiscover,
			func(m *layers.DHCPv4) { m.Operation = layers.DHCPOpReply }), none, other},
		"multicast hardware": {ask(layers.DHCPMsgTypeDiscover,
			func(m *layers.DHCPv4) { m.ClientHWAddr = []byte{1, 0, 0, 0, 0, 1} }), none, other},
		"long hardware": {ask(layers.DHCPMsgTypeDiscover,
			func(m *layers.DHCPv4) { m.ClientHWAddr = make([]byte, 240) }), none, other},
		"BOOTP":           {ask(none, func(m *layers.DHCPv4) { m.Options = nil }), none, other},
		"short address":   {ask(request, with(wants, 10, 0, 0)), none, other},
		"long type":       {ask(none, with(layers.DHCPOptMessageType, 1, 1)), none, other},
		"short client id": {ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptClientID, 1)), offer, lease.Address},
		"empty client id": {ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptClientID)), offer, lease.Address},
		"empty host name": {ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptHostname)), offer, lease.Address},
		"cut short":       {ask(layers.DHCPMsgTypeDiscover)[:headerLen-1], none, other},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reply, ok := lease.Answer(tt.message)
			require.Equal(t, tt.kind != none, ok)
			if !ok {
				return
			}
			m, options := decode(t, reply.Message)
			assert.Equal(t, []byte{byte(tt.kind)}, options[layers.DHCPOptMessageType])
			assert.Equal(t, tt.to, reply.To)
			assert.Equal(t, uint32(0x1234), m.Xid)
			assert.Equal(t, mac[:], []byte(m.ClientHWAddr))
			assert.Equal(t, lease.Gateway.AsSlice(), options[layers.DHCPOptServerID])
		})
	}
}

func TestOffer(t *testing.T) {
	reply, ok := lease.Answer(ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptClientID, 1, 2, 3)))
	require.True(t, ok)
	m, options := decode(t, reply.Message)
	assert.Equal(t, mac, reply.MAC)
	assert.Equal(t, lease.Address.AsSlice(), []byte(m.YourClientIP))
	assert.Equal(t, []byte{10, 0, 0, 9}, []byte(m.NextServerIP))
	assert.Equal(t, "pxelinux.0", string(m.File[:10]))
	assert.Equal(t, map[layers.DHCPOpt][]byte{
		layers.DHCPOptMessageType:          {byte(layers.DHCPMsgTypeOffer)},
		layers.DHCPOptServerID:             {169, 254, 0, 1},
		layers.DHCPOptClientID:             {1, 2, 3},
		layers.DHCPOptLeaseTime:            {0, 0, 0x0e, 0x10},
		layers.DHCPOptT1:                   {0, 0, 0x07, 0x08},
		layers.DHCPOptT2:                   {0, 0, 0x0c, 0x4e},
		layers.DHCPOptSubnetMask:           {255, 255, 255, 255},
		layers.DHCPOptRouter:               {169, 254, 0, 1},
		layers.DHCPOptClasslessStaticRoute: {32, 169, 254, 0, 1, 0, 0, 0, 0, 0, 169, 254, 0, 1},
		layers.DHCPOptInterfaceMTU:         {0x05, 0xb4},
		layers.DHCPOptDNS:                  {10, 0, 0, 53, 10, 0, 0, 54},
		layers.DHCPOptHostname:             []byte("web"),
		optBootServer:                      []byte("10.0.0.9"),
		optBootFile:                        []byte("pxelinux.0"),
	}, options)
}

func TestOnlyWhatIsAskedFor(t *testing.T) {
	reply, ok := lease.Answer(ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptParamsRequest, byte(optBootFile))))
	require.True(t, ok)
	_, options := decode(t, reply.Message)
	assert.Contains(t, options, optBootFile)
	assert.NotContains(t, options, optBootServer)
	assert.NotContains(t, options, layers.DHCPOptHostname)
	assert.Contains(t, options, layers.DHCPOptRouter, "what every guest needs")
}

// TestHTTPBoot has firmware that says its vendor class: it takes a URL only from who says it, too.
func TestHTTPBoot(t *testing.T) {
	http := lease
	http.BootFile, http.HTTPBoot = "http://10.0.0.9/boot.efi", true
	for name, tt := range map[string]struct {
		lease Lease
		class string
		want  string
	}{
		"HTTP":              {http, "HTTPClient:Arch:00016:UNDI:003001", "HTTPClient"},
		"PXE":               {http, "PXEClient:Arch:00007:UNDI:003016", ""},
		"HTTP without URL":  {lease, "HTTPClient:Arch:00016:UNDI:003001", ""},
		"neither, with URL": {http, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			reply, ok := tt.lease.Answer(ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptClassID, []byte(tt.class)...),
				with(layers.DHCPOptParamsRequest, byte(optBootFile))))
			require.True(t, ok)
			_, options := decode(t, reply.Message)
			assert.Equal(t, tt.want, string(options[layers.DHCPOptClassID]))
			assert.Equal(t, tt.lease.BootFile, string(options[optBootFile]))
		})
	}
}

func TestShortClientIDComesBack(t *testing.T) {
	reply, ok := lease.Answer(ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptClientID, 7)))
	require.True(t, ok)
	_, options := decode(t, reply.Message)
	assert.Equal(t, []byte{7}, options[layers.DHCPOptClientID], "RFC 6842")
}

// FuzzAnswer feeds any bytes; whatever is answered is sound, and grants no address but the guest's.
func FuzzAnswer(f *testing.F) {
	f.Add(ask(layers.DHCPMsgTypeDiscover, with(layers.DHCPOptClientID, 1, 2, 3)))
	f.Add(ask(layers.DHCPMsgTypeRequest, withAddr(layers.DHCPOptRequestIP, lease.Address)))
	f.Add(ask(layers.DHCPMsgTypeRequest, has(other)))
	f.Add(ask(layers.DHCPMsgTypeInform, has(lease.Address)))
	f.Fuzz(func(t *testing.T, message []byte) {
		reply, ok := lease.Answer(message)
		if !ok {
			return
		}
		m, options := decode(t, reply.Message)
		require.Equal(t, layers.DHCPOpReply, m.Operation)
		require.True(t, reply.To == Broadcast || reply.To == lease.Address, reply.To)
		require.Zero(t, reply.MAC[0]&1)
		given := netip.AddrFrom4([4]byte(m.YourClientIP))
		if options[layers.DHCPOptMessageType][0] == byte(layers.DHCPMsgTypeNak) {
			require.True(t, given.IsUnspecified())
		} else {
			require.True(t, given == lease.Address || given.IsUnspecified(), given)
		}
	})
}
