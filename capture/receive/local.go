// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// localFor is how long an answer of the kernel about an address is cached, and maxLocal is the size of the cache.
	localFor = time.Second
	maxLocal = 1024
)

// local tells which addresses belong to this machine. A ring sees packets before the kernel has routed them, so it also
// sees packets that this machine only forwards.
type local struct {
	routes  *netlink.Handle
	answers map[arrival]answer
	last    arrival // most copies go to one address: it is looked up without the map
	known   answer  // the answer for last
}

// arrival is the destination of a packet and the interface of this machine that received it.
type arrival struct {
	to        netip.Addr
	linkIndex int
}

type answer struct {
	local bool
	until int64 // in nanoseconds since 1970
}

func openLocal() (*local, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a socket to ask for routes: %w", err)
	}
	return &local{routes: h, answers: make(map[arrival]answer)}, nil
}

func (l *local) close() { l.routes.Close() }

// has reports whether this machine is the destination of a packet. The time is in nanoseconds since 1970.
func (l *local) has(to netip.Addr, linkIndex int, at int64) bool {
	key := arrival{to, linkIndex}
	if key == l.last && at < l.known.until {
		return l.known.local
	}
	a, ok := l.answers[key]
	if !ok || at >= a.until {
		if len(l.answers) >= maxLocal {
			clear(l.answers)
		}
		a = answer{l.ask(key), at + int64(localFor)}
		l.answers[key] = a
	}
	l.last, l.known = key, a
	return a.local
}

// ask asks the kernel how it would route the packet. An address without a route is not local. If the kernel does not
// answer, the address counts as local: the socket has the port, so nobody else receives such a packet.
func (l *local) ask(a arrival) bool {
	routes, err := l.routes.RouteGetWithOptions(a.to.AsSlice(), &netlink.RouteGetOptions{IifIndex: a.linkIndex})
	for _, r := range routes {
		return r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_ANYCAST
	}
	return !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH)
}
