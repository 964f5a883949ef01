// SPDX-License-Identifier: Apache-2.0

// Package neighbour follows the routers behind the kernel's interfaces. Where a port shares its wire with one of them, neighbour
// discovery happens in the kernel.
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

	"dpservice/dpservice/vnet"
)

// MAC is an Ethernet address; the zero value is "not known".
type MAC = vnet.MAC

// Router is the next hop out of an interface as the kernel has it.
type Router struct {
	NextHop netip.Addr // invalid: the kernel has no IPv6 route with a gateway out of the interface
	MAC     MAC        // zero: not resolved
}

// Watcher follows the routers of some interfaces of the network namespace that it runs in.
type Watcher struct {
	changed func(index int, r Router)
	log     *slog.Logger
	routers map[int]Router // by the interface's index; as last told

	checking map[int]bool // interfaces whose router is being asked whether it is where it was
	checks   chan check   // what came out; room for one of each interface
	warned   map[int]time.Time
}

// check is what came out of asking a router whether it is where it was, when the kernel has found another MAC for it.
type check struct {
	index int
	was   Router
	mac   MAC // the other one
	alive bool
	err   error
}

const (
	retryPeriod = time.Second
	// routePeriod is how long routes may come and go before they are read again, all of them.
	routePeriod = 50 * time.Millisecond
	// probePeriod is how often the kernel is made to look whether the router is still there with its MAC: left alone it does
	// not as long as it has nothing to send there.
	probePeriod = 5 * time.Second
	// warnPeriod is how often the log may say that somebody claims to be an interface's router.
	warnPeriod = 10 * time.Second
)

// New returns a Watcher of the interfaces with these indexes. changed is told, by Run, of every change of their routers.
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

// follow ends with ctx, or when the kernel has more news than there is room for, or none can be had.
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

// drain lets a subscription that was told to end do so.
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

// readNeighbours looks at all routers' MACs, and may have the kernel look whether they are right.
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

// readNeighbour looks at a router's MAC. The kernel is made to resolve it if it does not do so already.
func (w *Watcher) readNeighbour(index int, ip netip.Addr, probe bool) error {
	return w.readNeighbourAs(index, ip, probe, false)
}

// readNeighbourAs is readNeighbour, of a MAC that is certain or may be.
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
		r.MAC = MAC(n.HardwareAddr)
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

// ask has the kernel solicit a neighbour. It refuses for an interface that is down, or has changed meanwhile; then it is asked
// again by the next probe.
func (w *Watcher) ask(n netlink.Neigh) {
	if err := netlink.NeighAppend(&n); err != nil {
		w.log.Debug("the kernel does not solicit a router", "interface", n.LinkIndex, "address", n.IP, "err", err)
	}
}

// set tells of a router, if it is news. Anybody on the link can make the kernel take another MAC for the router's: unless it is certain,
// the router is asked first, at the MAC that is known.
func (w *Watcher) set(index int, r Router, certain bool) {
	was := w.routers[index]
	if was == r {
		return
	}
	if !certain && was.NextHop == r.NextHop && was.MAC != (MAC{}) && r.MAC != (MAC{}) {
		w.check(index, was, r.MAC)
		return
	}
	w.routers[index] = r
	w.changed(index, r)
}

// check has a router asked whether it is where it was, unless it is being asked.
func (w *Watcher) check(index int, was Router, mac MAC) {
	if w.checking[index] {
		return
	}
	w.checking[index] = true
	go func() {
		alive, err := isAlive(index, was)
		w.checks <- check{index, was, mac, alive, err}
	}()
}

// checked follows the kernel to another MAC if the router is silent at the one that was known, or cannot be asked. If it answers, the
// kernel's next news, or the next look, has it asked again.
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
