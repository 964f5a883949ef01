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

	"dpservice/dpservice/fault"
)

// Names says which ports to use, by ethdev name or kernel interface name. VFs can also be patterns of path.Match over
// ethdev names. PF1 may be empty.
type Names struct {
	PF0, PF1 string
	VFs      []string
}

// A Manager holds the ports that dpservice uses. The set never changes. Its methods that read are safe for concurrent
// use.
type Manager struct {
	dev   Device
	log   *slog.Logger
	ports []*entry // PF0 first, then PF1, then the VFs by index
}

type entry struct {
	Port
	info    Info
	started atomic.Bool
	removed atomic.Bool // for good, and it was logged

	linkMu sync.Mutex
	linkUp bool
	readAt time.Time // when the link was last read
}

// linkAge is how long a link state is cached: ports are looked up often, and asking the driver takes time.
const linkAge = 10 * time.Millisecond

// Descriptors is the number in each queue: room for several bursts of 64 packets.
const Descriptors = 512

const macLen = 6

// Bits of a MAC's first byte.
const (
	multicast = 1
	local     = 2 // not given by a manufacturer
)

// Discover finds the ports with these names. It changes nothing about them.
func Discover(dev Device, names Names, log *slog.Logger) (*Manager, error) {
	m := &Manager{dev: dev, log: log}
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

// addVFs adds the ports that match pattern and have no role yet.
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
		return nil, ErrNotFound
	}
	return ids, nil
}

// add adds a port. A representor that knows its VF's number has that as its index, others the given one.
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

// macOf is the device's MAC, or a random one for a device that has none, such as a net_ring: its peers need some
// address.
func macOf(info Info) (net.HardwareAddr, error) {
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

// notFound returns an error that names the missing port and those that exist.
func (m *Manager) notFound(part, name string, err error) error {
	if !errors.Is(err, ErrNotFound) {
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

// Queues returns how many RX and TX queues every port can have, at most most, and the port that limits it, if one does.
func (m *Manager) Queues(most int) (queues int, least Port) {
	queues = most
	for _, p := range m.ports {
		if n := int(p.info.MaxQueues); n < queues {
			queues, least = n, p.Port
		}
	}
	return queues, least
}

// Configure sets up every port with so many RX and as many TX queues.
func (m *Manager) Configure(queues int) error {
	for _, p := range m.ports {
		if err := m.dev.Configure(p.ID, uint16(queues), Descriptors); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

// Start starts the configured ports, PF0 first, because the rules of other ports may go through it. On an error all are
// stopped again.
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
		m.log.Warn("the port cannot be made promiscuous: it may not receive neighbour solicitations", "port", p.Name)
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

// Close closes the stopped ports for good.
func (m *Manager) Close() error {
	var errs []error
	for _, p := range slices.Backward(m.ports) {
		if err := m.dev.Close(p.ID); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}

// List returns the present state of all ports: PF0, PF1, then the VFs.
func (m *Manager) List() []Port {
	ports := make([]Port, len(m.ports))
	for i, p := range m.ports {
		ports[i] = m.now(p)
	}
	return ports
}

// now returns the present state of a port.
func (m *Manager) now(e *entry) Port {
	p := e.Port
	p.Started = e.started.Load()
	p.Removed = m.isRemoved(e)
	p.LinkUp = !p.Removed && m.link(e)
	return p
}

// isRemoved asks the device. A removal is logged once only, because ports are looked up all the time.
func (m *Manager) isRemoved(e *entry) bool {
	if m.dev.Removed(e.ID) && !e.removed.Swap(true) {
		m.log.Error("a port was removed, or has reported a fatal error: it is not used any more", "port", e.Name)
	}
	return e.removed.Load()
}

// forgetLink makes the next lookup read the link.
func (e *entry) forgetLink() {
	e.linkMu.Lock()
	defer e.linkMu.Unlock()
	e.readAt = time.Time{}
}

func (m *Manager) link(e *entry) bool {
	e.linkMu.Lock()
	defer e.linkMu.Unlock()
	if time.Since(e.readAt) >= linkAge {
		up, err := m.dev.LinkUp(e.ID)
		e.linkUp, e.readAt = err == nil && up, time.Now()
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

// HasKernelTwin reports whether a kernel interface shares the port's traffic.
func (m *Manager) HasKernelTwin(id uint16) bool { return m.KernelTwin(id) != 0 }

// KernelTwin returns the index of the kernel interface that shares the port's traffic; 0 if there is none.
func (m *Manager) KernelTwin(id uint16) int {
	i := slices.IndexFunc(m.ports, func(p *entry) bool { return p.ID == id })
	if i < 0 {
		return 0
	}
	return m.ports[i].info.IfIndex
}

// PFs returns the physical ports, by number.
func (m *Manager) PFs() (pfs []Port) {
	for _, e := range m.ports {
		if e.Role == PF {
			pfs = append(pfs, m.now(e))
		}
	}
	return pfs
}

// Driver returns the name of the NIC's driver.
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

// stats reads the counters of a port, unless it was removed and cannot answer.
func (m *Manager) stats(p Port) (Stats, error) {
	if p.Removed {
		return Stats{Port: p}, nil
	}
	counters, err := m.dev.Counters(p.ID)
	if err != nil {
		return Stats{}, err
	}
	xstats, err := m.dev.Xstats(p.ID)
	if err != nil {
		return Stats{}, err
	}
	return Stats{Port: p, Counters: counters, Xstats: xstats}, nil
}

func (m *Manager) names() string {
	var names []string
	for _, p := range m.ports {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
