// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/dpservice/fault"
)

// Names says which ports to take: ethdev names or kernel interface names, and for the VFs patterns of path.Match
// over ethdev names too. PF1 may be empty.
type Names struct {
	PF0, PF1 string
	VFs      []string
}

// Device is the part of package ethdev that a Manager needs. Ethdev is the real one.
type Device interface {
	Find(name string) (uint16, error)
	List() []uint16
	Info(id uint16) (ethdev.Info, error)
	Configure(id uint16, cfg ethdev.Config) error
	Start(id uint16) error
	Stop(id uint16) error
	Close(id uint16) error
	SetPromiscuous(id uint16, on bool) error
	Removed(id uint16) bool
	Link(id uint16) (ethdev.Link, error)
	Stats(id uint16) (ethdev.Stats, error)
	Xstats(id uint16) ([]ethdev.Xstat, error)
}

// Stats are a port's counters.
type Stats struct {
	Port Port
	ethdev.Stats
	Xstats []ethdev.Xstat
}

// A Manager holds the ports that dpservice was told to use. The set never changes.
type Manager struct {
	dev   Device
	ports []*entry // PF0 first, then PF1, then the VFs by index
}

type entry struct {
	Port
	info    ethdev.Info
	started atomic.Bool
	removed atomic.Bool // and it was logged

	linkMu sync.Mutex
	linkUp bool
	readAt time.Time // when the link was last read
}

// linkAge is how old the state of a link may be that is told: ports are looked up often, and to ask the driver takes time.
const linkAge = 50 * time.Millisecond

// Descriptors in each queue: bursts of 64 packets, several times.
const descriptors = 512

const macLen = 6

// Bits of a MAC's first byte.
const (
	multicast = 1
	local     = 2 // not given by a manufacturer
)

// Discover finds the ports with these names. Nothing is done to them.
func Discover(dev Device, names Names) (*Manager, error) {
	m := &Manager{dev: dev}
	for i, name := range []string{names.PF0, names.PF1} {
		if name == "" && i > 0 {
			continue
		}
		id, err := dev.Find(name)
		if err != nil {
			return nil, m.notFound(fmt.Sprintf("pf%d", i), name, err)
		}
		if err := m.add(id, PF, i); err != nil {
			return nil, err
		}
	}
	for _, pattern := range names.VFs {
		if err := m.addVFs(pattern); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(m.ports, func(a, b *entry) int {
		return strings.Compare(string(a.Role), string(b.Role))*1e6 + a.Index - b.Index
	})
	return m, nil
}

// addVFs adds the ports that match pattern and have no part yet.
func (m *Manager) addVFs(pattern string) error {
	ids, err := m.match(pattern)
	if err != nil {
		return m.notFound("vf", pattern, err)
	}
	for _, id := range ids {
		if _, taken := m.ByID(id); taken {
			continue
		}
		if err := m.add(id, VF, m.countVFs()); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) countVFs() int {
	n := 0
	for _, p := range m.ports {
		if p.Role == VF {
			n++
		}
	}
	return n
}

// match returns the ports with this name or, if it has wildcards, those whose ethdev name matches.
func (m *Manager) match(pattern string) ([]uint16, error) {
	if !strings.ContainsAny(pattern, `*?[\`) {
		id, err := m.dev.Find(pattern)
		return []uint16{id}, err
	}
	var ids []uint16
	for _, id := range m.dev.List() {
		info, err := m.dev.Info(id)
		if err != nil {
			return nil, err
		}
		if ok, err := path.Match(pattern, info.Name); err != nil {
			return nil, err
		} else if ok {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, ethdev.ErrNotFound
	}
	return ids, nil
}

// add takes a port in. index is its number unless it is a representor that knows its own.
func (m *Manager) add(id uint16, role Role, index int) error {
	info, err := m.dev.Info(id)
	if err != nil {
		return err
	}
	if other, taken := m.ByID(id); taken {
		return fmt.Errorf("port %s cannot be %s %d as well: it is %s %d", info.Name, role, index, other.Role, other.Index)
	}
	if role == VF && info.RepresentorID >= 0 {
		index = info.RepresentorID
	}
	mac, err := macOf(info)
	if err != nil {
		return err
	}
	m.ports = append(m.ports, &entry{info: info, Port: Port{
		ID: id, Name: info.Name, Role: role, Index: index, SwitchDomain: info.SwitchDomain, MAC: mac, MTU: info.MTU,
	}})
	return nil
}

// macOf is the device's MAC, or a random one for a device that has none, such as a net_ring: its peers need some address.
func macOf(info ethdev.Info) (net.HardwareAddr, error) {
	if !bytes.Equal(info.MAC, make(net.HardwareAddr, macLen)) {
		return info.MAC, nil
	}
	mac := make(net.HardwareAddr, macLen)
	if _, err := rand.Read(mac); err != nil {
		return nil, fmt.Errorf("%s: drawing a MAC: %w", info.Name, err)
	}
	mac[0] = mac[0]&^multicast | local
	return mac, nil
}

// notFound says which ports there are besides the one that is missing.
func (m *Manager) notFound(part, name string, err error) error {
	if !errors.Is(err, ethdev.ErrNotFound) {
		return err
	}
	var there []string
	for _, id := range m.dev.List() {
		if info, err := m.dev.Info(id); err == nil {
			there = append(there, info.Name)
		}
	}
	return fmt.Errorf("%s: no port %q; there are: %s: %w", part, name, strings.Join(there, ", "), err)
}

// Queues returns how many queues each way every port can have, up to most, and the port that has no more.
func (m *Manager) Queues(most int) (queues int, least Port) {
	queues = most
	for _, p := range m.ports {
		if n := int(min(p.info.MaxRxQueues, p.info.MaxTxQueues)); n < queues {
			queues, least = n, p.Port
		}
	}
	return queues, least
}

// Configure sets up every port with so many queues each way. Received packets go to pool.
func (m *Manager) Configure(pool *mempool.Pool, queues int) error {
	cfg := ethdev.Config{RxQueues: uint16(queues), TxQueues: uint16(queues), RxDescs: descriptors, TxDescs: descriptors, Pool: pool}
	for _, p := range m.ports {
		if err := m.dev.Configure(p.ID, cfg); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

// Start starts the configured ports, PF0 first: it may be the one through which the others' rules go. On an error
// all are stopped again.
func (m *Manager) Start() error {
	for _, p := range m.ports {
		if err := m.start(p); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", p.Name, err), m.Stop())
		}
	}
	return nil
}

func (m *Manager) start(p *entry) error {
	if err := m.dev.Start(p.ID); err != nil {
		return err
	}
	p.started.Store(true)
	p.forgetLink()
	err := m.dev.SetPromiscuous(p.ID, true) // for the neighbours' solicitations, which are multicast
	if errors.Is(err, syscall.ENOTSUP) {
		slog.Warn("the port cannot be made promiscuous: it may not receive neighbour solicitations", "port", p.Name)
		return nil
	}
	return err
}

// Stop stops the started ports, in the reverse order.
func (m *Manager) Stop() error {
	var errs []error
	for _, p := range slices.Backward(m.ports) {
		if !p.started.Swap(false) {
			continue
		}
		if err := m.dev.Stop(p.ID); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Close gives the stopped ports up.
func (m *Manager) Close() error {
	var errs []error
	for _, p := range slices.Backward(m.ports) {
		if err := m.dev.Close(p.ID); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}

// List returns all ports as they are now: PF0, PF1, then the VFs.
func (m *Manager) List() []Port {
	ports := make([]Port, len(m.ports))
	for i, p := range m.ports {
		ports[i] = m.now(p)
	}
	return ports
}

// now is the port with what changes about it.
func (m *Manager) now(e *entry) Port {
	p := e.Port
	p.Started = e.started.Load()
	p.Removed = m.isRemoved(e)
	p.LinkUp = !p.Removed && m.link(e)
	return p
}

// isRemoved asks the device. A port that is removed is logged once: the uplinks' links are read all the time, and all ports with
// them.
func (m *Manager) isRemoved(e *entry) bool {
	if m.dev.Removed(e.ID) && !e.removed.Swap(true) {
		slog.Error("a port was removed, or has reported a fatal error: it is not used any more", "port", e.Name)
	}
	return e.removed.Load()
}

// forgetLink has the link be read anew.
func (e *entry) forgetLink() {
	e.linkMu.Lock()
	defer e.linkMu.Unlock()
	e.readAt = time.Time{}
}

func (m *Manager) link(e *entry) bool {
	e.linkMu.Lock()
	defer e.linkMu.Unlock()
	if time.Since(e.readAt) >= linkAge {
		link, err := m.dev.Link(e.ID)
		e.linkUp, e.readAt = err == nil && link.Up, time.Now()
	}
	return e.linkUp
}

// ByID returns the port with this DPDK port id.
func (m *Manager) ByID(id uint16) (Port, bool) {
	return m.find(func(p *entry) bool { return p.ID == id })
}

// ByName returns the port with this ethdev name.
func (m *Manager) ByName(name string) (Port, bool) {
	return m.find(func(p *entry) bool { return p.Name == name })
}

// PF returns the physical port with this number.
func (m *Manager) PF(number int) (Port, bool) {
	return m.find(func(p *entry) bool { return p.Role == PF && p.Index == number })
}

func (m *Manager) find(match func(*entry) bool) (Port, bool) {
	i := slices.IndexFunc(m.ports, match)
	if i < 0 {
		return Port{}, false
	}
	return m.now(m.ports[i]), true
}

// Uplink returns PF0.
func (m *Manager) Uplink() Port { return m.now(m.ports[0]) }

// HasKernelTwin reports whether the kernel has an interface beside the port and shares its traffic.
func (m *Manager) HasKernelTwin(id uint16) bool { return m.KernelTwin(id) != 0 }

// KernelTwin is the index of the kernel's interface beside the port, which shares its traffic; 0 if there is none.
func (m *Manager) KernelTwin(id uint16) int {
	i := slices.IndexFunc(m.ports, func(p *entry) bool { return p.ID == id })
	if i < 0 {
		return 0
	}
	return m.ports[i].info.IfIndex
}

// PFs are the physical ports, by number.
func (m *Manager) PFs() []Port {
	return slices.DeleteFunc(m.List(), func(p Port) bool { return p.Role != PF })
}

// Driver is the name of the NIC's driver.
func (m *Manager) Driver() string { return m.ports[0].info.Driver }

// Stats reads the counters of every port, or of the one with this ethdev name.
func (m *Manager) Stats(name string) ([]Stats, error) {
	var all []Stats
	for _, p := range m.List() {
		if name != "" && name != p.Name {
			continue
		}
		s, err := m.stats(p)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if name != "" && all == nil {
		return nil, fault.New(fault.NotFound, name, "no port %q; there are: %s", name, m.names())
	}
	return all, nil
}

// stats of a removed port, which answers nothing, are zero.
func (m *Manager) stats(p Port) (Stats, error) {
	if p.Removed {
		return Stats{Port: p}, nil
	}
	basic, err := m.dev.Stats(p.ID)
	if err != nil {
		return Stats{}, err
	}
	xstats, err := m.dev.Xstats(p.ID)
	if err != nil {
		return Stats{}, err
	}
	return Stats{Port: p, Stats: basic, Xstats: xstats}, nil
}

func (m *Manager) names() string {
	var names []string
	for _, p := range m.ports {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
