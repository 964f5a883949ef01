// SPDX-License-Identifier: Apache-2.0

package vnet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/wire"
)

// fakes is everything around a Manager, and logs the calls that it gets.
type fakes struct {
	log  []string
	fail error
}

func (f *fakes) SetInterface(a Attachment) error {
	return f.call("set %d %s %s %s", a.Index, a.ID, a.UnderlayIP, a.GuestMAC)
}
func (f *fakes) DeleteInterface(index uint16) error { return f.call("delete %d", index) }
func (f *fakes) AddRoute(r Route) error             { return f.call("add %d %s", r.VNI, r.Prefix) }
func (f *fakes) DeleteRoute(r Route) error {
	return f.call("del %d %s %s", r.VNI, r.Prefix, r.NextHopIP)
}

func (f *fakes) call(format string, args ...any) error {
	f.log = append(f.log, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fakes) List() []port.Port {
	ports := []port.Port{{ID: 0, Name: "pf0", Role: port.PF}}
	for i := range 4 {
		ports = append(ports, port.Port{
			ID: uint16(i + 1), Name: fmt.Sprintf("vf%d", i), Role: port.VF, Index: i, MAC: []byte{2, 0, 0, 0, 0, byte(i)},
		})
	}
	return ports
}

func (f *fakes) ByName(name string) (port.Port, bool) {
	for _, p := range f.List() {
		if p.Name == name {
			return p, true
		}
	}
	return port.Port{}, false
}

func newManager() (*Manager, *fakes) {
	f := &fakes{}
	return New(Config{
		NodeIP: netip.MustParseAddr("fc00:1::1"), Ports: f, Dataplane: f, GatewayPrefix: netip.MustParsePrefix("fd99::/64"),
		MaxInterfaces: 3, MaxRoutes: 2,
	}), f
}

// request asks for the n-th guest: vm-n on vf n.
func request(n int) CreateRequest {
	return CreateRequest{
		ID: fmt.Sprintf("vm-%d", n), Device: fmt.Sprintf("vf%d", n), VNI: 100,
		IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}),
		IPv6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", n+1)),
	}
}

func route(prefix string) Route {
	return Route{VNI: 100, Prefix: netip.MustParsePrefix(prefix), NextHopVNI: 100,
		NextHopIP: netip.MustParseAddr("fc00:2::1")}
}

func assertReason(t *testing.T, err error, reason fault.Reason, text string) {
	t.Helper()
	assert.Truef(t, fault.Is(err, reason), "%v is not %s", err, reason)
	assert.ErrorContains(t, err, text)
}

func TestCreateGetListDelete(t *testing.T) {
	m, f := newManager()
	created, err := m.CreateInterface(request(1))
	require.NoError(t, err)
	assert.Equal(t, Interface{
		ID: "vm-1", Device: "vf1", Port: 2, VNI: 100, IPv4: netip.MustParseAddr("10.0.0.2"),
		IPv6: netip.MustParseAddr("fd00::2"), UnderlayIP: netip.MustParseAddr("fc00:1::1:1"),
	}, created)
	_, err = m.CreateInterface(request(0))
	require.NoError(t, err)
	got, err := m.Interface("vm-1")
	require.NoError(t, err)
	assert.Equal(t, created, got)
	assert.Equal(t, []string{"vm-0", "vm-1"}, []string{m.Interfaces()[0].ID, m.Interfaces()[1].ID})
	require.NoError(t, m.DeleteInterface("vm-1"))
	_, err = m.Interface("vm-1")
	assertReason(t, err, fault.NotFound, "vm-1")
	assertReason(t, m.DeleteInterface("vm-1"), fault.NotFound, "vm-1")
	known := request(2)
	known.GuestMAC = wire.MAC{2, 0, 0, 0, 0, 9}
	_, err = m.CreateInterface(known)
	require.NoError(t, err)
	zero := wire.MAC{}.String()
	assert.Equal(t, []string{
		"set 0 vm-1 fc00:1::1:1 " + zero, "set 1 vm-0 fc00:1::1:2 " + zero, "delete 0",
		"set 0 vm-2 fc00:1::1:1 02:00:00:00:00:09",
	}, f.log)
}

func TestUnderlayIsTheLowestFree(t *testing.T) {
	m, _ := newManager()
	taken := request(0)
	taken.UnderlayIP = netip.MustParseAddr("fc00:1::1:2")
	_, err := m.CreateInterface(taken)
	require.NoError(t, err)
	first, err := m.CreateInterface(request(1))
	require.NoError(t, err)
	second, err := m.CreateInterface(request(2))
	require.NoError(t, err)
	assert.Equal(t, "fc00:1::1:1", first.UnderlayIP.String())
	assert.Equal(t, "fc00:1::1:3", second.UnderlayIP.String())
	require.NoError(t, m.DeleteInterface("vm-1"))
	third, err := m.CreateInterface(request(3))
	require.NoError(t, err)
	assert.Equal(t, "fc00:1::1:1", third.UnderlayIP.String())
}

// A reserved underlay address is for the interface with that id only.
func TestReservedUnderlay(t *testing.T) {
	m, _ := newManager()
	kept := netip.MustParseAddr("fc00:1::1:1")
	m.Reserve("vm-9", kept)
	i, err := m.CreateInterface(request(0))
	require.NoError(t, err)
	assert.Equal(t, kept.Next(), i.UnderlayIP)
	asking := request(1)
	asking.UnderlayIP = kept
	_, err = m.CreateInterface(asking)
	assertReason(t, err, fault.AlreadyExists, `kept for interface "vm-9"`)

	owner := request(2)
	owner.ID = "vm-9"
	i, err = m.CreateInterface(owner)
	require.NoError(t, err)
	assert.Equal(t, kept, i.UnderlayIP)
	require.NoError(t, m.DeleteInterface("vm-9"))
	m.Release("vm-9")
	i, err = m.CreateInterface(request(1))
	require.NoError(t, err)
	assert.Equal(t, kept, i.UnderlayIP)
}

func TestUnderlayIsNeverTheNodes(t *testing.T) {
	m, _ := newManager()
	m.cfg.NodeIP = netip.MustParseAddr("fc00:1::1:1")
	i, err := m.CreateInterface(request(0))
	require.NoError(t, err)
	assert.Equal(t, "fc00:1::1:2", i.UnderlayIP.String())
}

func TestCreateRefuses(t *testing.T) {
	ip := netip.MustParseAddr
	tests := map[string]struct {
		change func(*CreateRequest)
		reason fault.Reason
		text   string
	}{
		"duplicate id":  {func(r *CreateRequest) { r.ID = "vm-0" }, fault.AlreadyExists, `"vm-0" exists`},
		"device in use": {func(r *CreateRequest) { r.Device = "vf0" }, fault.AlreadyExists, `in use by interface "vm-0"`},
		"ipv4 in use": {func(r *CreateRequest) { r.IPv4 = ip("10.0.0.1") }, fault.AlreadyExists,
			"ipv4 10.0.0.1 is in use"},
		"ipv6 in use":     {func(r *CreateRequest) { r.IPv6 = ip("fd00::1") }, fault.AlreadyExists, "ipv6 fd00::1 is in use"},
		"underlay in use": {func(r *CreateRequest) { r.UnderlayIP = ip("fc00:1::1:1") }, fault.AlreadyExists, "is in use"},
		"node's underlay": {func(r *CreateRequest) { r.UnderlayIP = ip("fc00:1::1") }, fault.AlreadyExists, "the node's own"},
		"unknown device":  {func(r *CreateRequest) { r.Device = "vf9" }, fault.NotFound, "there are: vf0, vf1, vf2, vf3"},
		"physical port":   {func(r *CreateRequest) { r.Device = "pf0" }, fault.InvalidParams, "is a physical port"},
		"empty id":        {func(r *CreateRequest) { r.ID = "" }, fault.InvalidParams, "id"},
		"long id":         {func(r *CreateRequest) { r.ID = strings.Repeat("a", 64) }, fault.InvalidParams, "id"},
		"id with a blank": {func(r *CreateRequest) { r.ID = "a b" }, fault.InvalidParams, "id"},
		"id with newline": {func(r *CreateRequest) { r.ID = "a\n" }, fault.InvalidParams, "id"},
		"vni 0":           {func(r *CreateRequest) { r.VNI = 0 }, fault.InvalidParams, "vni 0"},
		"vni too large":   {func(r *CreateRequest) { r.VNI = 1 << 24 }, fault.InvalidParams, "vni 16777216"},
		"no address": {func(r *CreateRequest) { r.IPv4, r.IPv6 = netip.Addr{}, netip.Addr{} }, fault.InvalidParams,
			"neither"},
		"v6 as ipv4":    {func(r *CreateRequest) { r.IPv4 = ip("fd00::9") }, fault.InvalidParams, "ipv4 fd00::9"},
		"multicast":     {func(r *CreateRequest) { r.IPv4 = ip("224.0.0.1") }, fault.InvalidParams, "ipv4"},
		"broadcast":     {func(r *CreateRequest) { r.IPv4 = ip("255.255.255.255") }, fault.InvalidParams, "ipv4"},
		"class e":       {func(r *CreateRequest) { r.IPv4 = ip("240.0.0.1") }, fault.InvalidParams, "ipv4"},
		"this network":  {func(r *CreateRequest) { r.IPv4 = ip("0.0.0.1") }, fault.InvalidParams, "ipv4"},
		"the gateway":   {func(r *CreateRequest) { r.IPv4 = ip("169.254.0.1") }, fault.InvalidParams, "ipv4"},
		"link-local":    {func(r *CreateRequest) { r.IPv6 = ip("fe80::2") }, fault.InvalidParams, "ipv6"},
		"mapped":        {func(r *CreateRequest) { r.IPv6 = ip("::ffff:1.2.3.4") }, fault.InvalidParams, "ipv6"},
		"zone":          {func(r *CreateRequest) { r.IPv6 = ip("fd00::9%eth0") }, fault.InvalidParams, "ipv6"},
		"underlay ipv4": {func(r *CreateRequest) { r.UnderlayIP = ip("10.0.0.9") }, fault.InvalidParams, "underlay_ip"},
		"group's MAC":   {func(r *CreateRequest) { r.GuestMAC = wire.MAC{1} }, fault.InvalidParams, "mac 01:"},
		"hostname":      {func(r *CreateRequest) { r.Hostname = "a b" }, fault.InvalidParams, "hostname"},
		"long hostname": {func(r *CreateRequest) { r.Hostname = strings.Repeat("a", 64) }, fault.InvalidParams, "hostname"},
		"pxe":           {func(r *CreateRequest) { r.PXE.Server = "10.0.0.9" }, fault.InvalidParams, "pxe"},
		"underlay away": {func(r *CreateRequest) { r.UnderlayIP = ip("fc00:2::1:1") }, fault.InvalidParams,
			"is not in fc00:1::/64, the node's prefix"},
		"underlay mcast": {func(r *CreateRequest) { r.UnderlayIP = ip("ff02::1") }, fault.InvalidParams, "underlay_ip"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, f := newManager()
			_, err := m.CreateInterface(request(0))
			require.NoError(t, err)
			before := len(f.log)
			req := request(1)
			tt.change(&req)
			_, err = m.CreateInterface(req)
			assertReason(t, err, tt.reason, tt.text)
			assert.Len(t, m.Interfaces(), 1)
			assert.Len(t, f.log, before, "the dataplane was not touched")
		})
	}
}

func TestSameAddressesInAnotherNetwork(t *testing.T) {
	m, _ := newManager()
	_, err := m.CreateInterface(request(0))
	require.NoError(t, err)
	other := request(1)
	other.VNI, other.IPv4, other.IPv6 = 200, request(0).IPv4, request(0).IPv6
	_, err = m.CreateInterface(other)
	assert.NoError(t, err)
}

func TestOneFamilyIsEnough(t *testing.T) {
	m, _ := newManager()
	for n := range 2 {
		req := request(n)
		req.IPv6 = netip.Addr{}
		_, err := m.CreateInterface(req)
		assert.NoError(t, err)
	}
}

func TestLimits(t *testing.T) {
	m, _ := newManager()
	for n := range 3 {
		_, err := m.CreateInterface(request(n))
		require.NoError(t, err)
	}
	_, err := m.CreateInterface(request(3))
	assertReason(t, err, fault.LimitReached, "3 interfaces")
	require.NoError(t, m.AddRoute(route("10.1.0.0/16")))
	require.NoError(t, m.AddRoute(route("10.2.0.0/16")))
	assertReason(t, m.AddRoute(route("10.3.0.0/16")), fault.LimitReached, "2 routes")
}

func TestADataplaneThatFailsChangesNothing(t *testing.T) {
	m, f := newManager()
	_, err := m.CreateInterface(request(0))
	require.NoError(t, err)
	require.NoError(t, m.AddRoute(route("10.1.0.0/16")))
	before := m.Attachments()
	f.fail = errors.New("worker does not answer")

	_, err = m.CreateInterface(request(1))
	assert.ErrorIs(t, err, f.fail)
	assert.ErrorIs(t, m.DeleteInterface("vm-0"), f.fail)
	assert.ErrorIs(t, m.LearnMAC(1, wire.MAC{2, 1}), f.fail)
	assert.ErrorIs(t, m.AddRoute(route("10.2.0.0/16")), f.fail)
	assert.ErrorIs(t, m.DeleteRoute(route("10.1.0.0/16")), f.fail)
	assert.Equal(t, before, m.Attachments())
	assert.Len(t, m.Routes(), 1)
}

func TestLearnMAC(t *testing.T) {
	m, f := newManager()
	_, err := m.CreateInterface(request(0))
	require.NoError(t, err)
	f.log = nil
	mac := wire.MAC{2, 0, 0, 0, 0, 9}
	require.NoError(t, m.LearnMAC(1, mac))
	require.NoError(t, m.LearnMAC(1, mac), "nothing new")
	require.NoError(t, m.LearnMAC(2, mac), "no interface there")
	assert.Equal(t, []string{"set 0 vm-0 fc00:1::1:1 02:00:00:00:00:09"}, f.log)
	a, ok := m.OnPort(1)
	assert.True(t, ok)
	assert.Equal(t, mac, a.GuestMAC)
	byIndex, ok := m.ByIndex(a.Index)
	assert.True(t, ok)
	assert.Equal(t, a, byIndex)
	_, ok = m.ByIndex(a.Index + 1)
	assert.False(t, ok)
	assert.True(t, m.HasUnderlay(a.UnderlayIP))
	assert.False(t, m.HasUnderlay(m.cfg.NodeIP))
}

func TestRoutes(t *testing.T) {
	m, f := newManager()
	v4, v6 := route("10.1.0.0/16"), route("::/0")
	require.NoError(t, m.AddRoute(v6))
	require.NoError(t, m.AddRoute(v4))
	assert.Equal(t, []Route{v4, v6}, m.Routes())
	assertReason(t, m.AddRoute(v4), fault.AlreadyExists, "10.1.0.0/16")

	elsewhere := v4
	elsewhere.NextHopIP = netip.MustParseAddr("fc00:3::1")
	assertReason(t, m.DeleteRoute(elsewhere), fault.NotFound, "by fc00:2::1")
	require.NoError(t, m.DeleteRoute(Route{VNI: 100, Prefix: v4.Prefix}))
	require.NoError(t, m.DeleteRoute(v6))
	assertReason(t, m.DeleteRoute(v6), fault.NotFound, "no route to ::/0")
	assert.Equal(t, []string{
		"add 100 ::/0", "add 100 10.1.0.0/16",
		"del 100 10.1.0.0/16 fc00:2::1", "del 100 ::/0 fc00:2::1",
	}, f.log)
}

func TestAddRouteRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*Route)
		text   string
	}{
		"vni":             {func(r *Route) { r.VNI = 0 }, "vni 0"},
		"next hop's vni":  {func(r *Route) { r.NextHopVNI = 1 << 24 }, "next_hop_vni"},
		"no prefix":       {func(r *Route) { r.Prefix = netip.Prefix{} }, "prefix"},
		"host bits":       {func(r *Route) { r.Prefix = netip.MustParsePrefix("10.1.2.3/16") }, "the network is 10.1.0.0/16"},
		"multicast":       {func(r *Route) { r.Prefix = netip.MustParsePrefix("224.0.0.0/4") }, "multicast"},
		"ipv4 next hop":   {func(r *Route) { r.NextHopIP = netip.MustParseAddr("10.0.0.1") }, "next_hop_ip"},
		"no next hop":     {func(r *Route) { r.NextHopIP = netip.Addr{} }, "next_hop_ip"},
		"multicast hop":   {func(r *Route) { r.NextHopIP = netip.MustParseAddr("ff02::1") }, "next_hop_ip"},
		"link-local hop":  {func(r *Route) { r.NextHopIP = netip.MustParseAddr("fe80::1") }, "next_hop_ip"},
		"unspecified hop": {func(r *Route) { r.NextHopIP = netip.IPv6Unspecified() }, "next_hop_ip"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, f := newManager()
			r := route("10.1.0.0/16")
			tt.change(&r)
			assertReason(t, m.AddRoute(r), fault.InvalidParams, tt.text)
			assert.Empty(t, f.log)
		})
	}
}

// Every VNI's gateway has an address of its own, which no guest can have.
func TestGatewayIPv6(t *testing.T) {
	m, _ := newManager()
	created, err := m.CreateInterface(request(0))
	require.NoError(t, err)
	a, ok := m.OnPort(created.Port)
	require.True(t, ok)
	assert.Equal(t, netip.MustParseAddr("fd99::64"), a.GatewayIPv6)
	assert.Equal(t, netip.MustParseAddr("fd99::ff:ffff"), Gateway(netip.MustParsePrefix("fd99::/96"), MaxVNI))

	req := request(1)
	req.IPv6 = a.GatewayIPv6
	_, err = m.CreateInterface(req)
	assertReason(t, err, fault.InvalidParams, "gateway")
	req.VNI++
	_, err = m.CreateInterface(req)
	assert.NoError(t, err, "in another VNI")
}
