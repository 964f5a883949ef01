// SPDX-License-Identifier: Apache-2.0

package port

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
)

// fakeNIC is a Device with ports at 1, 2, ... that logs what is done to them.
type fakeNIC struct {
	infos  []Info
	fail   string // the call that fails
	err    error  // with this, or as something broken
	calls  []string
	queues uint16 // of the last port that was configured
	down   bool   // all links
	gone   uint16 // a port that was removed
	links  int    // times that a link was read
}

func (f *fakeNIC) call(name string, id uint16) error {
	call := fmt.Sprintf("%s %d", name, id)
	f.calls = append(f.calls, call)
	if call == f.fail {
		return cmp.Or(f.err, errors.New("broken"))
	}
	return nil
}

func (f *fakeNIC) Find(name string) (uint16, error) {
	for i, info := range f.infos {
		if info.Name == name {
			return uint16(i + 1), nil
		}
	}
	return 0, ErrNotFound
}

func (f *fakeNIC) List() []uint16 {
	var ids []uint16
	for i := range f.infos {
		ids = append(ids, uint16(i+1))
	}
	return ids
}

func (f *fakeNIC) Info(id uint16) (Info, error) { return f.infos[id-1], nil }
func (f *fakeNIC) Configure(id, queues, _ uint16) error {
	f.queues = queues
	return f.call("configure", id)
}
func (f *fakeNIC) Start(id uint16) error                  { return f.call("start", id) }
func (f *fakeNIC) Stop(id uint16) error                   { return f.call("stop", id) }
func (f *fakeNIC) Close(id uint16) error                  { return f.call("close", id) }
func (f *fakeNIC) SetPromiscuous(id uint16, _ bool) error { return f.call("promiscuous", id) }
func (f *fakeNIC) Removed(id uint16) bool                 { return id == f.gone }
func (f *fakeNIC) LinkUp(uint16) (bool, error) {
	f.links++
	return !f.down, nil
}
func (f *fakeNIC) Counters(id uint16) (Counters, error) { return Counters{RxPackets: uint64(id)}, nil }
func (f *fakeNIC) Xstats(uint16) ([]Xstat, error)       { return []Xstat{{Name: "hits", Value: 7}}, nil }

func newNIC() *fakeNIC {
	domain := uint16(3)
	return &fakeNIC{infos: []Info{
		{Name: "nic_representor_vf10", RepresentorID: 10, SwitchDomain: &domain},
		{Name: "nic_representor_vf2", RepresentorID: 2, SwitchDomain: &domain},
		{Name: "nic", Driver: "net_x", SwitchDomain: &domain, RepresentorID: -1},
		{Name: "nic_pf1", RepresentorID: -1, IfIndex: 5},
	}}
}

var all = Names{PF0: "nic", PF1: "nic_pf1", VFs: []string{"nic_representor_vf*", "nic_representor_vf2"}}

func TestDiscoverOrdersPorts(t *testing.T) {
	m, err := Discover(newNIC(), all, slog.Default())
	require.NoError(t, err)
	type short struct {
		id    uint16
		role  Role
		index int
	}
	var got []short
	for _, p := range m.List() {
		got = append(got, short{p.ID, p.Role, p.Index})
		assert.True(t, p.LinkUp)
		assert.False(t, p.Started)
	}
	assert.Equal(t, []short{{3, PF, 0}, {4, PF, 1}, {2, VF, 2}, {1, VF, 10}}, got)
	assert.Equal(t, "nic", m.Uplink().Name)
	assert.Equal(t, "net_x", m.Driver())
	assert.True(t, m.HasKernelTwin(4))
	assert.False(t, m.HasKernelTwin(3))
}

func TestQueuesOfEveryPort(t *testing.T) {
	nic := newNIC()
	for i := range nic.infos {
		nic.infos[i].MaxQueues = 8
	}
	nic.infos[1].MaxQueues, nic.infos[3].MaxQueues = 4, 3
	m, err := Discover(nic, all, slog.Default())
	require.NoError(t, err)
	queues, least := m.Queues(16)
	assert.Equal(t, 3, queues)
	assert.Equal(t, "nic_pf1", least.Name)
	queues, least = m.Queues(2)
	assert.Equal(t, 2, queues)
	assert.Empty(t, least.Name, "every port has enough")
	require.NoError(t, m.Configure(2))
	assert.EqualValues(t, 2, nic.queues)
}

func TestPortsThatAreNoRepresentorsAreCounted(t *testing.T) {
	m, err := Discover(newNIC(), Names{PF0: "nic", VFs: []string{"nic_pf1"}}, slog.Default())
	require.NoError(t, err)
	assert.Equal(t, 0, m.List()[1].Index)
	assert.Equal(t, VF, m.List()[1].Role)
}

func TestDiscoverErrors(t *testing.T) {
	tests := map[string]struct {
		names Names
		want  string
	}{
		"no pf0": {Names{PF0: "x"},
			`pf0: no port "x"; there are: nic_representor_vf10, nic_representor_vf2, nic, nic_pf1`},
		"no pf1":           {Names{PF0: "nic", PF1: "x"}, `pf1: no port "x"`},
		"no vf":            {Names{PF0: "nic", VFs: []string{"x*"}}, `vf: no port "x*"`},
		"one port for two": {Names{PF0: "nic", PF1: "nic"}, "port nic cannot be pf 1 as well: it is pf 0"},
		"bad pattern":      {Names{PF0: "nic", VFs: []string{"["}}, "syntax error in pattern"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Discover(newNIC(), tt.names, slog.Default())
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestStartStopsWhatItStarted(t *testing.T) {
	nic := newNIC()
	m, err := Discover(nic, all, slog.Default())
	require.NoError(t, err)
	nic.fail = "start 2"
	assert.ErrorContains(t, m.Start(), "nic_representor_vf2: broken")
	assert.Equal(t, []string{"start 3", "promiscuous 3", "start 4", "promiscuous 4", "start 2", "stop 4", "stop 3"},
		nic.calls)
}

func TestLifeCycle(t *testing.T) {
	nic := newNIC()
	m, err := Discover(nic, Names{PF0: "nic", VFs: []string{"nic_representor_vf2"}}, slog.Default())
	require.NoError(t, err)
	require.NoError(t, m.Configure(2))
	require.NoError(t, m.Start())
	vf, ok := m.ByName("nic_representor_vf2")
	assert.True(t, ok)
	assert.True(t, vf.Started)
	require.NoError(t, m.Stop())
	require.NoError(t, m.Close())
	assert.Equal(t, []string{
		"configure 3", "configure 2", "start 3", "promiscuous 3", "start 2", "promiscuous 2", "stop 2", "stop 3", "close 2",
		"close 3",
	}, nic.calls)
}

// A start brings the link up.
func TestAStartedPortHasItsLinkAtOnce(t *testing.T) {
	nic := newNIC()
	nic.down = true
	m, err := Discover(nic, all, slog.Default())
	require.NoError(t, err)
	assert.False(t, m.Uplink().LinkUp)
	nic.down = false
	require.NoError(t, m.Start())
	assert.True(t, m.Uplink().LinkUp)
}

func TestADeviceThatCannotBePromiscuousStarts(t *testing.T) {
	nic := newNIC()
	nic.fail, nic.err = "promiscuous 3", fmt.Errorf("ethdev: %w", syscall.ENOTSUP)
	m, err := Discover(nic, Names{PF0: "nic"}, slog.Default())
	require.NoError(t, err)
	require.NoError(t, m.Start())
	assert.True(t, m.Uplink().Started)
	nic.err = syscall.EIO
	assert.ErrorIs(t, m.Start(), syscall.EIO)
}

// A net_ring has the MAC 00:00:00:00:00:00.
func TestADeviceWithoutMACGetsOne(t *testing.T) {
	nic := &fakeNIC{infos: []Info{
		{Name: "ring0", RepresentorID: -1, MAC: make(net.HardwareAddr, 6)},
		{Name: "ring1", RepresentorID: -1, MAC: make(net.HardwareAddr, 6)},
		{Name: "real", RepresentorID: -1, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
	}}
	m, err := Discover(nic, Names{PF0: "real", VFs: []string{"ring*"}}, slog.Default())
	require.NoError(t, err)
	ports := m.List()
	assert.Equal(t, "02:00:00:00:00:01", ports[0].MAC.String())
	assert.NotEqual(t, ports[1].MAC, ports[2].MAC)
	for _, p := range ports[1:] {
		assert.EqualValues(t, 2, p.MAC[0]&3, "unicast, locally administered")
	}
	assert.Equal(t, ports, m.List(), "it stays")
}

func TestStats(t *testing.T) {
	m, err := Discover(newNIC(), all, slog.Default())
	require.NoError(t, err)
	stats, err := m.Stats("")
	require.NoError(t, err)
	assert.Len(t, stats, 4)
	stats, err = m.Stats("nic_pf1")
	require.NoError(t, err)
	assert.Equal(t, uint64(4), stats[0].RxPackets)
	assert.Equal(t, "hits", stats[0].Xstats[0].Name)
	_, err = m.Stats("x")
	assert.True(t, fault.Is(err, fault.NotFound))
}

func TestLookups(t *testing.T) {
	m, err := Discover(newNIC(), all, slog.Default())
	require.NoError(t, err)
	p, ok := m.PF(1)
	assert.True(t, ok)
	assert.Equal(t, "nic_pf1", p.Name)
	_, ok = m.PF(2)
	assert.False(t, ok)
	_, ok = m.ByID(99)
	assert.False(t, ok)
}

// A port that is removed stays so, and asks for nothing more; the others go on.
func TestARemovedPort(t *testing.T) {
	nic := newNIC()
	m, err := Discover(nic, all, slog.Default())
	require.NoError(t, err)
	require.True(t, m.Uplink().LinkUp)
	nic.gone = 3
	for range 2 {
		p := m.Uplink()
		assert.True(t, p.Removed)
		assert.False(t, p.LinkUp)
		nic.gone = 0
	}
	pf1, _ := m.PF(1)
	assert.False(t, pf1.Removed)
	assert.True(t, pf1.LinkUp)
	stats, err := m.Stats("")
	require.NoError(t, err)
	assert.Zero(t, stats[0].RxPackets)
	assert.Nil(t, stats[0].Xstats)
	assert.NotZero(t, stats[1].RxPackets)
}

// Ports are looked up for every rule of a list, say: the driver is not asked each time.
func TestLinksAreNotReadTooOften(t *testing.T) {
	nic := newNIC()
	m, err := Discover(nic, all, slog.Default())
	require.NoError(t, err)
	for range 1000 {
		_, ok := m.PF(0)
		require.True(t, ok)
	}
	assert.Less(t, nic.links, 100)
	assert.Len(t, m.PFs(), 2)
	assert.Equal(t, 5, m.KernelTwin(4))
}
