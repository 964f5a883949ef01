// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/state"
	"dpservice/dpservice/vnet"
)

// fakeNetworks has interfaces on the devices that a test names.
type fakeNetworks struct {
	devices    map[string]bool
	interfaces map[string]vnet.Interface
	routes     map[string]vnet.Route
	reserved   map[string]netip.Addr
	refuse     error // of a deletion
}

func (f *fakeNetworks) CreateInterface(r vnet.CreateRequest) (vnet.Interface, error) {
	if !f.devices[r.Device] {
		return vnet.Interface{}, fault.New(fault.NotFound, r.ID, "no device %q", r.Device)
	}
	i := vnet.Interface{
		ID: r.ID, Device: r.Device, VNI: r.VNI, IPv4: r.IPv4, IPv6: r.IPv6, UnderlayIP: r.UnderlayIP, Hostname: r.Hostname,
		PXE: r.PXE,
	}
	if !i.UnderlayIP.IsValid() {
		i.UnderlayIP = netip.MustParseAddr("fc00:1::1:1")
	}
	f.interfaces[r.ID] = i
	return i, nil
}

func (f *fakeNetworks) DeleteInterface(id string) error {
	if f.refuse != nil {
		return f.refuse
	}
	if _, ok := f.interfaces[id]; !ok {
		return fault.New(fault.NotFound, id, "no interface %q", id)
	}
	delete(f.interfaces, id)
	return nil
}

func (f *fakeNetworks) Reserve(id string, underlay netip.Addr) { f.reserved[id] = underlay }
func (f *fakeNetworks) Release(id string)                      { delete(f.reserved, id) }

func (f *fakeNetworks) Interface(string) (vnet.Interface, error) { panic("not asked") }
func (f *fakeNetworks) Interfaces() []vnet.Interface             { panic("not asked") }
func (f *fakeNetworks) Routes() []vnet.Route                     { panic("not asked") }

func (f *fakeNetworks) AddRoute(r vnet.Route) error {
	f.routes[routeKey(r)] = r
	return nil
}

func (f *fakeNetworks) DeleteRoute(r vnet.Route) error {
	if _, ok := f.routes[routeKey(r)]; !ok {
		return fault.New(fault.NotFound, "", "no route")
	}
	delete(f.routes, routeKey(r))
	return nil
}

// kept is a daemon's life on a folder.
type kept struct {
	*keptNetworks
	fake *fakeNetworks
	log  bytes.Buffer
}

func newKept(t *testing.T, dir string, devices ...string) *kept {
	t.Helper()
	store, err := state.Open(dir)
	require.NoError(t, err)
	k := &kept{fake: &fakeNetworks{
		devices: map[string]bool{}, interfaces: map[string]vnet.Interface{}, routes: map[string]vnet.Route{},
		reserved: map[string]netip.Addr{},
	}}
	for _, d := range devices {
		k.fake.devices[d] = true
	}
	k.keptNetworks = &keptNetworks{virtualNetworks: k.fake, store: store, onDelete: func() error { return nil }}
	require.NoError(t, k.restore(slog.New(slog.NewTextHandler(&k.log, nil))))
	return k
}

func (k *kept) end(t *testing.T) {
	t.Helper()
	require.NoError(t, k.store.Close())
}

var (
	vm1 = vnet.CreateRequest{
		ID: "vm-1", Device: "vf0", VNI: 100, IPv4: netip.MustParseAddr("10.0.0.1"), IPv6: netip.MustParseAddr("fd00::1"),
		Hostname: "guest", PXE: vnet.PXE{Server: "10.0.0.9", Filename: "boot"},
	}
	vm2       = vnet.CreateRequest{ID: "vm-2", Device: "vf1", VNI: 100, IPv4: netip.MustParseAddr("10.0.0.2")}
	someRoute = vnet.Route{
		VNI: 100, Prefix: netip.MustParsePrefix("10.1.0.0/16"), NextHopVNI: 100, NextHopIP: netip.MustParseAddr("fc00:2::1"),
	}
)

func TestNetworksSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	k := newKept(t, dir, "vf0", "vf1")
	created, err := k.CreateInterface(vm1)
	require.NoError(t, err)
	_, err = k.CreateInterface(vm2)
	require.NoError(t, err)
	require.NoError(t, k.AddRoute(someRoute))
	require.NoError(t, k.DeleteInterface("vm-2"))
	k.end(t)

	k = newKept(t, dir, "vf0", "vf1")
	assert.Equal(t, map[string]vnet.Interface{"vm-1": created}, k.fake.interfaces, "with the underlay address that it had")
	assert.Equal(t, map[string]vnet.Route{routeKey(someRoute): someRoute}, k.fake.routes)
	assert.Contains(t, k.log.String(), "interfaces=1 routes=1 failed=0")
	require.NoError(t, k.DeleteRoute(someRoute))
	require.NoError(t, k.DeleteInterface("vm-1"))
	k.end(t)

	k = newKept(t, dir, "vf0", "vf1")
	assert.Empty(t, k.fake.interfaces)
	assert.Empty(t, k.fake.routes)
	k.end(t)
}

// An interface whose port is gone is there again once the port is, unless it is deleted meanwhile.
func TestWhatCannotBeRestoredIsKept(t *testing.T) {
	dir := t.TempDir()
	k := newKept(t, dir, "vf0", "vf1")
	for _, vm := range []vnet.CreateRequest{vm1, vm2} {
		_, err := k.CreateInterface(vm)
		require.NoError(t, err)
	}
	k.end(t)

	k = newKept(t, dir)
	assert.Empty(t, k.fake.interfaces)
	assert.Contains(t, k.log.String(), `kept for the next start" interface=vm-1 err="no device \"vf0\""`)
	assert.Contains(t, k.log.String(), "interfaces=2 routes=0 failed=2")
	underlay := netip.MustParseAddr("fc00:1::1:1")
	assert.Equal(t, map[string]netip.Addr{"vm-1": underlay, "vm-2": underlay}, k.fake.reserved)
	require.NoError(t, k.DeleteInterface("vm-2"))
	assert.True(t, fault.Is(k.DeleteInterface("vm-2"), fault.NotFound))
	assert.NotContains(t, k.fake.reserved, "vm-2")
	k.fake.devices["vf0"] = true
	_, err := k.CreateInterface(vm1)
	require.NoError(t, err)
	assert.Empty(t, k.fake.reserved, "vm-1 has its address")
	k.end(t)

	k = newKept(t, dir, "vf0", "vf1")
	assert.Contains(t, k.fake.interfaces, "vm-1")
	assert.NotContains(t, k.fake.interfaces, "vm-2")
	k.end(t)
}

// What is refused is not kept, and what cannot be deleted stays.
func TestRefusedChanges(t *testing.T) {
	dir := t.TempDir()
	k := newKept(t, dir, "vf0")
	_, err := k.CreateInterface(vm2)
	require.True(t, fault.Is(err, fault.NotFound))
	_, err = k.CreateInterface(vm1)
	require.NoError(t, err)
	k.fake.refuse = fault.New(fault.RuleRejected, "vm-1", "the NIC says no")
	require.ErrorIs(t, k.DeleteInterface("vm-1"), k.fake.refuse)
	k.end(t)

	k = newKept(t, dir, "vf0", "vf1")
	assert.Contains(t, k.fake.interfaces, "vm-1")
	assert.NotContains(t, k.fake.interfaces, "vm-2")
	k.end(t)
}

// A change that the disk does not take fails, and leaves nothing.
func TestChangeThatCannotBeKept(t *testing.T) {
	k := newKept(t, t.TempDir(), "vf0")
	k.end(t)
	_, err := k.CreateInterface(vm1)
	require.ErrorContains(t, err, "keep vm-1 of interfaces")
	assert.Empty(t, k.fake.interfaces)
	require.ErrorContains(t, k.AddRoute(someRoute), "keep 100/10.1.0.0/16 of routes")
	assert.Empty(t, k.fake.routes)
	k.fake.routes[routeKey(someRoute)] = someRoute
	assert.ErrorContains(t, k.DeleteRoute(someRoute), "will be there again after a restart")
}
