// SPDX-License-Identifier: Apache-2.0

// Package uplink decides by which uplinks packets can leave: it follows their links and their routers.
package uplink

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"dpservice/dpservice/port"
	"dpservice/wire"
)

// Source says where a router's MAC is from.
type Source string

// The sources, by precedence. The kernel is a source if it has a route out of the interface that shares the port's
// traffic.
const (
	Configuration Source = "configuration"
	Kernel        Source = "kernel"
	Discovery     Source = "neighbour_discovery"
)

// Uplink is the state of one.
type Uplink struct {
	Number    int // the PF's
	Port      uint16
	Name      string // the port's
	MAC       wire.MAC
	LinkUp    bool
	RouterMAC wire.MAC
	Source    Source // where RouterMAC is from
}

// Usable reports whether packets can leave by the uplink.
func (u Uplink) Usable() bool { return u.LinkUp && u.RouterMAC != (wire.MAC{}) }

// Ports are where the uplinks are. A *port.Manager is one.
type Ports interface {
	// PFs are the physical ports as they are now.
	PFs() []port.Port
}

// Config is what a Manager is made of.
type Config struct {
	Ports     Ports
	RouterMAC wire.MAC // of all uplinks; zero: to be found out
	// Use has the packets leave as the uplink's state says. It is called by Run, for every uplink at first and then
	// whenever one has changed; if it fails, again after a while.
	Use func(u Uplink) error
	// LinkChanged is called by Run when a link goes down or comes up.
	LinkChanged func(port uint16, up bool)
	Log         *slog.Logger
}

// Manager knows the uplinks. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	changed chan struct{} // has an element when a router may have changed

	mu      sync.Mutex
	uplinks []*uplink // by number
}

// uplink is one with what is known of its router, and what was made of that.
type uplink struct {
	Uplink
	discovered wire.MAC
	kernel     wire.MAC
	hasKernel  bool // it has a route here
	kernelKnew bool // and has known the router: from then on its word counts

	used    bool
	last    Uplink    // that was used
	retryAt time.Time // not before, after a failure
}

const (
	// linkPeriod is how often the links are looked at: the NIC loses the packets of offloaded flows until it is noticed.
	linkPeriod = 20 * time.Millisecond
	// retryPeriod is how long to wait after a change could not be followed.
	retryPeriod = time.Second
)

// New returns a Manager of the ports' PFs.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, changed: make(chan struct{}, 1)}
	for _, p := range cfg.Ports.PFs() {
		m.uplinks = append(m.uplinks, &uplink{Uplink: Uplink{Number: p.Index, Port: p.ID, Name: p.Name, MAC: wire.MAC(p.MAC),
			LinkUp: p.LinkUp}})
	}
	return m
}

// Run watches the uplinks until ctx is done.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(linkPeriod)
	defer ticker.Stop()
	for {
		m.useAll()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.readLinks()
		case <-m.changed:
		}
	}
}

func (m *Manager) readLinks() {
	for i, p := range m.cfg.Ports.PFs() {
		m.mu.Lock()
		changed := m.uplinks[i].LinkUp != p.LinkUp
		m.uplinks[i].LinkUp = p.LinkUp
		m.mu.Unlock()
		if changed {
			m.cfg.LinkChanged(p.ID, p.LinkUp)
		}
	}
}

// useAll has every change followed.
func (m *Manager) useAll() {
	for i, now := range m.List() {
		u := m.uplinks[i]
		if u.used && u.last == now || time.Now().Before(u.retryAt) {
			continue
		}
		if err := m.cfg.Use(now); err != nil {
			m.cfg.Log.Error("cannot follow the change of an uplink", "uplink", now.Name, "err", err)
			u.used, u.retryAt = false, time.Now().Add(retryPeriod)
			continue
		}
		if was := u.used && u.last.Usable(); was != now.Usable() {
			m.cfg.Log.Info("an uplink has changed", "uplink", now.Name, "usable", now.Usable(), "link_up", now.LinkUp, "router",
				now.RouterMAC, "from", now.Source)
		}
		u.used, u.last = true, now
	}
}

// List returns the uplinks as they are now, by number.
func (m *Manager) List() []Uplink {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Uplink, len(m.uplinks))
	for i, u := range m.uplinks {
		list[i] = u.Uplink
		list[i].RouterMAC, list[i].Source = m.router(u)
	}
	return list
}

// router is the MAC that counts. The lock is held.
func (m *Manager) router(u *uplink) (wire.MAC, Source) {
	switch {
	case m.cfg.RouterMAC != (wire.MAC{}):
		return m.cfg.RouterMAC, Configuration
	case u.hasKernel && u.kernelKnew:
		return u.kernel, Kernel
	default:
		return u.discovered, Discovery
	}
}

// FindsRouter reports whether neighbour discovery is to find the router of an uplink.
func (m *Manager) FindsRouter(port uint16) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.find(port)
	if u == nil {
		return false
	}
	_, source := m.router(u)
	return source == Discovery
}

// Discovered takes what neighbour discovery has found; a zero MAC is none. It does not wait.
func (m *Manager) Discovered(port uint16, router wire.MAC) {
	m.change(port, func(u *uplink) { u.discovered = router })
}

// KernelRouter takes what the kernel knows of the router behind the interface beside a port, if it has a route there: a
// zero MAC is not resolved. A kernel that has not resolved it yet may never do so, as the port may get all that comes
// for the two: until then neighbour discovery looks, too. It does not wait.
func (m *Manager) KernelRouter(port uint16, hasRoute bool, router wire.MAC) {
	m.change(port, func(u *uplink) {
		u.hasKernel, u.kernel = hasRoute, router
		u.kernelKnew = hasRoute && (u.kernelKnew || router != wire.MAC{})
	})
}

func (m *Manager) change(port uint16, do func(u *uplink)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.find(port); u != nil {
		do(u)
	}
	select {
	case m.changed <- struct{}{}:
	default: // noted already
	}
}

// find returns an uplink; nil if the port is none. The lock is held.
func (m *Manager) find(port uint16) *uplink {
	for _, u := range m.uplinks {
		if u.Port == port {
			return u
		}
	}
	return nil
}
