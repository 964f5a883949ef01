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
	// localFor is how long an answer of the kernel's about an address counts, and maxLocal how many are kept.
	localFor = time.Second
	maxLocal = 1024
)

// local knows which addresses are this machine's: a ring sees packets before that is decided, and so also those that
// are only forwarded here.
type local struct {
	routes  *netlink.Handle
	answers map[arrival]answer
	last    arrival // as most copies are to one address
	known   answer  // about last
}

// arrival is where a packet goes, and through which of this machine's interfaces it has come.
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

// has reports whether a packet to an address ends here, at a time.
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

// ask asks the kernel what it does with the packet. An address without a route is not this machine's; if there is no
// answer, the port's socket would have taken the packet, or nobody.
func (l *local) ask(a arrival) bool {
	routes, err := l.routes.RouteGetWithOptions(a.to.AsSlice(), &netlink.RouteGetOptions{IifIndex: a.linkIndex})
	for _, r := range routes {
		return r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_ANYCAST
	}
	return !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH)
}
