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

// hop is a next hop of a route.
type hop struct {
	gateway   netip.Addr
	prefixLen int
	metric    int
}

// isBetter orders hops: first the default route, then by shorter prefix, lower metric, and address so that the order is
// stable.
func (h hop) isBetter(other hop) bool {
	return cmp.Or(h.prefixLen-other.prefixLen, h.metric-other.metric, h.gateway.Compare(other.gateway)) < 0
}

// eachHop calls do for each next hop of a route, whether or not its interface has a carrier.
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

// readRoutes reads the next hops and their MACs again.
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
