// SPDX-License-Identifier: Apache-2.0

// Package slowpath answers the protocols between neighbours: ARP and neighbour discovery from the guests and on the
// uplinks, and from the guests also router solicitations and DHCP. It learns the guests' MACs and finds the routers of
// the underlay. What it reads comes from guests and from the wire, and may be anything.
package slowpath

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dpservice/dpservice/vnet"
	"dpservice/wire"
)

// The guests' gateway has these addresses, and the MAC of the VF that the guest is behind.
var (
	gatewayIPv4 = netip.AddrFrom4([4]byte{169, 254, 0, 1})
	gatewayIPv6 = netip.MustParseAddr("fe80::1")
)

// Guests knows the interfaces. A *vnet.Manager is one.
type Guests interface {
	OnPort(id uint16) (vnet.Attachment, bool)
	Attachments() []vnet.Attachment
	HasUnderlay(ip netip.Addr) bool
	LearnMAC(port uint16, mac wire.MAC) error
}

// Config is what a SlowPath is made of.
type Config struct {
	Guests  Guests
	Send    func(port uint16, frame []byte) error
	Uplinks []Uplink
	NodeIP  netip.Addr
	// FindsRouter reports whether an uplink's router is to be found out, now: otherwise somebody else knows it.
	FindsRouter func(port uint16) bool
	OnRouter    func(port uint16,
		router wire.MAC) // called when a router's MAC becomes known, changes or is forgotten (zero)
	Network Network
	Now     func() time.Time // time.Now
	Log     *slog.Logger
}

// Network is what all guests get by DHCP and router advertisements.
type Network struct {
	DNS       []netip.Addr // IPv4 and IPv6
	MTU       uint16       // bytes
	LeaseTime time.Duration
}

// SlowPath handles the frames that the packet graph leaves to it. It is safe for concurrent use.
type SlowPath struct {
	cfg     Config
	uplinks map[uint16]*uplink // by port
	nonce   [8]byte            // tells replies to our own echo requests

	counts [numOutcomes]atomic.Uint64

	mu         sync.Mutex
	moved      map[uint16]time.Time // when the guest's MAC on a port last changed
	solicited  map[uint16]time.Time // when the guest on a port was last asked for its MAC
	advertised map[uint16]time.Time // when the router was last advertised on a port
	warned     map[uint16]time.Time // when it was last said that somebody claims to be an uplink's router
}

// The periods: guests whose MAC is not known are asked every second, the others now and then, as one that got another
// MAC may be silent. The routers are asked more often, since a change shall be followed within a second: it is noticed
// in up to a round, or two if the router is another one, and then probes take their time.
const (
	solicitPeriod = time.Second
	refreshPeriod = 30 * time.Second
	routerPeriod  = 250 * time.Millisecond
	probePeriod   = 60 * time.Millisecond
	warnPeriod    = 10 * time.Second
)

// New returns a SlowPath that has not sent anything yet.
func New(cfg Config) *SlowPath {
	s := &SlowPath{
		cfg: cfg, uplinks: newUplinks(cfg.Uplinks),
		moved: map[uint16]time.Time{}, solicited: map[uint16]time.Time{}, advertised: map[uint16]time.Time{},
		warned: map[uint16]time.Time{},
	}
	_, _ = rand.Read(s.nonce[:]) // never fails
	return s
}

// Run asks for the guests' MACs and the routers', and advertises the guests' gateway, until ctx is done.
func (s *SlowPath) Run(ctx context.Context) {
	guests := time.NewTicker(solicitPeriod)
	defer guests.Stop()
	router := time.NewTicker(routerPeriod)
	defer router.Stop()
	probe := time.NewTicker(probePeriod)
	defer probe.Stop()
	s.askForRouters()
	for {
		select {
		case <-ctx.Done():
			return
		case <-guests.C:
			s.SolicitGuests()
			s.advertiseToGuests()
		case <-router.C:
			s.askForRouters()
		case <-probe.C:
			s.probeRouters()
		}
	}
}

// Greet asks the guest on a port for its MAC and advertises the gateway to it, without waiting for the next round.
func (s *SlowPath) Greet(port uint16) {
	if a, ok := s.cfg.Guests.OnPort(port); ok {
		s.solicit(a)
		s.advertise(a)
	}
}

// SolicitGuests solicits every guest whose MAC is not known, and those that have not been solicited for long.
func (s *SlowPath) SolicitGuests() {
	for _, a := range s.cfg.Guests.Attachments() {
		if a.GuestMAC == (wire.MAC{}) || s.mayAsk(a.Port, refreshPeriod) {
			s.solicit(a)
		}
	}
}

// mayAsk reports whether the guest on a port was last solicited at least a period ago, and records that it is solicited
// now.
func (s *SlowPath) mayAsk(port uint16, period time.Duration) bool {
	return s.due(s.solicited, port, period)
}

// due reports whether something last happened on a port so long ago, and notes that it happens now.
func (s *SlowPath) due(last map[uint16]time.Time, port uint16, period time.Duration) bool {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(last[port]) < period {
		return false
	}
	last[port] = now
	return true
}

func (s *SlowPath) solicit(a vnet.Attachment) {
	if a.IPv4.IsValid() {
		s.send(a.Port, arpRequest(a.GatewayMAC, gatewayIPv4, a.IPv4))
	}
	if a.IPv6.IsValid() {
		s.send(a.Port, neighbourSolicitation(a.GatewayMAC, gatewayIPv6, a.IPv6))
	}
}

// Outcome is what became of a frame that the SlowPath has read, or of one of its own.
type Outcome uint8

// What became of a frame: it was answered or taught something new, or nothing was due, or it could not be parsed. The
// SlowPath's own frames count only if there was no room to send them.
const (
	Used Outcome = iota
	Ignored
	Malformed
	Unsent
	numOutcomes
)

// String is the outcome's name, as counters have it.
func (o Outcome) String() string { return [...]string{"used", "ignored", "malformed", "unsent"}[o] }

// Counts returns how many frames have come to each Outcome.
func (s *SlowPath) Counts() (counts [numOutcomes]uint64) {
	for o := range counts {
		counts[o] = s.counts[o].Load()
	}
	return counts
}

// Handle reads a frame that came from behind a port, and answers it where due. The frame is not kept.
func (s *SlowPath) Handle(port uint16, frame []byte) { s.counts[s.handle(port, frame)].Add(1) }

func (s *SlowPath) handle(port uint16, frame []byte) Outcome {
	if u := s.uplinks[port]; u != nil {
		return s.fromWire(u, frame)
	}
	if a, ok := s.cfg.Guests.OnPort(port); ok {
		return s.fromGuest(a, frame)
	}
	return Ignored
}

// used returns the outcome of a frame that was, or was not, useful.
func used(any bool) Outcome {
	if any {
		return Used
	}
	return Ignored
}

// send sends a frame, unless it is nil, and reports whether there was one.
func (s *SlowPath) send(port uint16, frame []byte) bool {
	if frame == nil {
		return false
	}
	if err := s.cfg.Send(port, frame); err != nil {
		s.counts[Unsent].Add(1)
		s.cfg.Log.Debug("cannot send a frame of the slow path", "port", port, "err", err)
	}
	return true
}

// eui64 is the link-local address that RFC 4291 makes of a MAC.
func eui64(mac wire.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3],
		14: mac[4], 15: mac[5]})
}
