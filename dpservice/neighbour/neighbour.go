// SPDX-License-Identifier: Apache-2.0

// Package neighbour follows the routers behind the kernel's interfaces. Where a port shares its wire with one of them,
// neighbour discovery happens in the kernel.
package neighbour

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dpservice/wire"
)

// Router is the next hop out of an interface as the kernel has it.
type Router struct {
	NextHop netip.Addr // invalid: the kernel has no IPv6 route with a gateway out of the interface
	MAC     wire.MAC   // zero: not resolved
}

// Watcher follows the routers of some interfaces of the network namespace that it runs in.
type Watcher struct {
	changed func(index int, r Router)
	log     *slog.Logger
	routers map[int]Router // by interface index; as last reported

	checking map[int]bool // interfaces whose known router is being probed
	checks   chan check   // results of probes; room for one of each interface
	warned   map[int]time.Time
}

// check is the result of probing a known router after the kernel has found another MAC for it.
type check struct {
	index int
	was   Router
	mac   wire.MAC // the other one
	alive bool
	err   error
}

const (
	retryPeriod = time.Second
	// routePeriod is how long after a change of routes all of them are read again.
	routePeriod = 50 * time.Millisecond
	// probePeriod is how often the kernel is made to check the router's MAC: by itself it does not while it sends nothing
	// there.
	probePeriod = 5 * time.Second
	// warnPeriod is the shortest time between two warnings that a station claims to be an interface's router.
	warnPeriod = 10 * time.Second
)

// New returns a Watcher of the interfaces with these indexes. Run calls changed for every change of their routers.
func New(interfaces []int, changed func(index int, r Router), log *slog.Logger) *Watcher {
	w := &Watcher{
		changed: changed, log: log, routers: map[int]Router{},
		checking: map[int]bool{}, checks: make(chan check, len(interfaces)), warned: map[int]time.Time{},
	}
	for _, index := range interfaces {
		w.routers[index] = Router{}
	}
	return w
}

// Run follows the kernel's routes and neighbours until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	for {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("cannot follow the kernel's neighbours", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryPeriod):
		}
	}
}

// follow returns when ctx is done, or with an error when a subscription fails or overflows.
func (w *Watcher) follow(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	neighbours, routes := make(chan netlink.NeighUpdate), make(chan netlink.RouteUpdate)
	if err := netlink.NeighSubscribe(neighbours, done); err != nil {
		return fmt.Errorf("subscribing to neighbours: %w", err)
	}
	defer drain(neighbours)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return fmt.Errorf("subscribing to routes: %w", err)
	}
	defer drain(routes)
	probe := time.NewTicker(probePeriod)
	defer probe.Stop()
	reread := time.After(0)
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case u, open := <-neighbours:
			if !open {
				return errEnded
			}
			err = w.neighbourChanged(u)
		case u, open := <-routes:
			if !open {
				return errEnded
			}
			if reread == nil && w.concerns(u.Route) {
				reread = time.After(routePeriod)
			}
		case <-reread:
			reread = nil
			err = w.readRoutes()
		case <-probe.C:
			err = w.readNeighbours(true)
		case c := <-w.checks:
			err = w.checked(c)
		}
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			reread = time.After(routePeriod)
		} else if err != nil {
			return err
		}
	}
}

var errEnded = errors.New("the subscription has ended")

// drain unblocks a subscription that is being closed.
func drain[T any](updates <-chan T) {
	go func() {
		for range updates {
		}
	}()
}

func (w *Watcher) neighbourChanged(u netlink.NeighUpdate) error {
	r, ours := w.routers[u.LinkIndex]
	ip, _ := netip.AddrFromSlice(u.IP)
	if !ours || ip != r.NextHop {
		return nil
	}
	return w.readNeighbour(u.LinkIndex, r.NextHop, false)
}

// readNeighbours reads all routers' MACs. With probe it makes the kernel check them.
func (w *Watcher) readNeighbours(probe bool) error {
	for index, r := range w.routers {
		if !r.NextHop.IsValid() {
			continue
		}
		if err := w.readNeighbour(index, r.NextHop, probe); err != nil {
			return err
		}
	}
	return nil
}

// States of the kernel's neighbours.
const (
	known     = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	unchecked = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY
)

// readNeighbour reads a router's MAC. It makes the kernel resolve it if it does not do so already.
func (w *Watcher) readNeighbour(index int, ip netip.Addr, probe bool) error {
	return w.readNeighbourAs(index, ip, probe, false)
}

// readNeighbourAs is readNeighbour for a MAC that needs no probe of the known router if it is certain.
func (w *Watcher) readNeighbourAs(index int, ip netip.Addr, probe, certain bool) error {
	all, err := netlink.NeighList(index, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("reading the neighbours of interface %d: %w", index, err)
	}
	var n netlink.Neigh
	for _, other := range all {
		if other.IP.Equal(ip.AsSlice()) {
			n = other
		}
	}
	r := Router{NextHop: ip}
	if n.State&known != 0 && len(n.HardwareAddr) == len(r.MAC) {
		r.MAC = wire.MAC(n.HardwareAddr)
	}
	switch {
	case n.State&(known|unix.NUD_INCOMPLETE) == 0:
		w.ask(netlink.Neigh{LinkIndex: index, IP: ip.AsSlice(), Flags: netlink.NTF_USE})
	case probe && n.State&unchecked != 0:
		w.ask(netlink.Neigh{LinkIndex: index, IP: ip.AsSlice(), State: unix.NUD_PROBE})
	}
	w.set(index, r, certain || n.State&unix.NUD_PERMANENT != 0)
	return nil
}

// ask makes the kernel solicit a neighbour. The kernel refuses if the interface is down or has changed; the next probe
// asks again.
func (w *Watcher) ask(n netlink.Neigh) {
	if err := netlink.NeighAppend(&n); err != nil {
		w.log.Debug("the kernel does not solicit a router", "interface", n.LinkIndex, "address", n.IP, "err", err)
	}
}

// set reports a router that has changed. Anybody on the link can make the kernel accept another MAC for the router.
// Unless the MAC is certain, the router is therefore probed first at the known MAC.
func (w *Watcher) set(index int, r Router, certain bool) {
	was := w.routers[index]
	if was == r {
		return
	}
	if !certain && was.NextHop == r.NextHop && was.MAC != (wire.MAC{}) && r.MAC != (wire.MAC{}) {
		w.check(index, was, r.MAC)
		return
	}
	w.routers[index] = r
	w.changed(index, r)
}

// check probes a router at its known MAC, unless a probe is under way.
func (w *Watcher) check(index int, was Router, mac wire.MAC) {
	if w.checking[index] {
		return
	}
	w.checking[index] = true
	go func() {
		alive, err := isAlive(index, was)
		w.checks <- check{index, was, mac, alive, err}
	}()
}

// checked accepts the kernel's other MAC if the router is silent at the known one, or cannot be probed. If the router
// answers, the next change or the next periodic check probes it again.
func (w *Watcher) checked(c check) error {
	delete(w.checking, c.index)
	if w.routers[c.index] != c.was {
		return nil
	}
	about := []any{"interface", c.index, "address", c.was.NextHop, "mac", c.was.MAC, "new_mac", c.mac}
	if c.alive {
		if now := time.Now(); now.Sub(w.warned[c.index]) >= warnPeriod {
			w.warned[c.index] = now
			w.log.Warn("a station claims to be an uplink's router, which is alive where it was", about...)
		}
		return nil
	}
	w.log.Warn("an uplink's router is silent: another MAC is followed", append(about, "err", c.err)...)
	return w.readNeighbourAs(c.index, c.was.NextHop, false, true)
}
