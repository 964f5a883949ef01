// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hop is a way out of an interface.
type hop struct {
	gateway   netip.Addr
	prefixLen int
	metric    int
}

// isBetter orders hops: the default route is first, then the shorter prefix, the lower metric, and at last any order that lasts.
func (h hop) isBetter(other hop) bool {
	return cmp.Or(h.prefixLen-other.prefixLen, h.metric-other.metric, h.gateway.Compare(other.gateway)) < 0
}

// eachHop goes through a route's ways out of interfaces, whether these have a carrier or not.
func eachHop(r netlink.Route, do func(index int, h hop)) {
	h := hop{metric: r.Priority}
	if r.Dst != nil {
		h.prefixLen, _ = r.Dst.Mask.Size()
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
	}
	for _, n := range hops {
		if gateway, ok := gatewayOf(n.Gw); ok {
			h.gateway = gateway
			do(n.LinkIndex, h)
		}
	}
}

func gatewayOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a, ok && a.Is6() && !a.IsUnspecified()
}

// concerns reports whether a route leads out of one of the interfaces.
func (w *Watcher) concerns(r netlink.Route) bool {
	_, ours := w.routers[r.LinkIndex]
	for _, n := range r.MultiPath {
		_, this := w.routers[n.LinkIndex]
		ours = ours || this
	}
	return ours
}

// readRoutes finds the next hops anew, and looks at their MACs.
func (w *Watcher) readRoutes() error {
	best := map[int]hop{}
	err := netlink.RouteListFilteredIter(netlink.FAMILY_V6, &netlink.Route{Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TYPE,
		func(r netlink.Route) bool {
			eachHop(r, func(index int, h hop) {
				if old, found := best[index]; !found || h.isBetter(old) {
					best[index] = h
				}
			})
			return true
		})
	if err != nil {
		return fmt.Errorf("reading the routes: %w", err)
	}
	for index, r := range w.routers {
		next := best[index].gateway
		if !next.IsValid() {
			w.set(index, Router{}, true)
		} else if r.NextHop != next {
			w.set(index, Router{NextHop: next}, true)
		}
	}
	return w.readNeighbours(false)
}
