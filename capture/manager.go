// SPDX-License-Identifier: Apache-2.0

// Package capture makes the NIC, and where no rule reaches the packet graph, duplicate the packets of chosen
// interfaces and send the copies, encapsulated, to a sink node.
package capture

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/wire"
)

// Manager keeps the sessions: it starts and stops captures, and has them follow the uplink. It is safe for concurrent
// use.
type Manager struct {
	deps Deps

	mu       sync.Mutex
	settled  *sync.Cond // of mu: a session is no longer changing, or an interface no longer being deleted
	uplink   Uplink
	sessions []*session               // in the order of their starts
	history  []spec.Session           // those that ended, the last one first
	deleting map[spec.Target]struct{} // interfaces that are being deleted

	known    atomic.Pointer[snapshot] // never nil
	changing atomic.Bool              // who has the lock is making a change, and known is what was before it
}

// maxHistory is how many sessions that ended are remembered.
const maxHistory = 16

// New returns a Manager without a session. Captures can start once UplinkChanged has named the router.
func New(deps Deps) *Manager {
	deps.MaxInterfaces = cmp.Or(deps.MaxInterfaces, spec.DefaultMaxInterfaces)
	deps.MaxRules = min(cmp.Or(deps.MaxRules, spec.DefaultMaxRules), spec.MaxRules)
	m := &Manager{deps: deps, deleting: map[spec.Target]struct{}{}}
	m.settled = sync.NewCond(&m.mu)
	m.known.Store(&snapshot{})
	return m
}

// lock and unlock are around a change.
func (m *Manager) lock() {
	m.mu.Lock()
	m.beginChange()
}

func (m *Manager) unlock() {
	m.changing.Store(false)
	m.mu.Unlock()
}

// beginChange has Status show what is known now until the change ends.
func (m *Manager) beginChange() {
	m.refresh()
	m.changing.Store(true)
}

// await waits until nobody is changing a session. It may have ended then, and others may have begun.
func (m *Manager) await(s *session) {
	for s.changing {
		m.waitSettled()
	}
}

// awaitDeletions waits until none of the targets is being deleted.
func (m *Manager) awaitDeletions(targets []spec.Target) {
	isDeleted := func(t spec.Target) bool { _, ok := m.deleting[t]; return ok }
	for slices.ContainsFunc(targets, isDeleted) {
		m.waitSettled()
	}
}

// waitSettled lets others have the lock until something has settled.
func (m *Manager) waitSettled() {
	m.changing.Store(false)
	m.settled.Wait()
	m.beginChange()
}

// waitForCounters waits, in the middle of a change of a session, until the NIC's counters are up to date. Other
// sessions may be changed meanwhile.
func (m *Manager) waitForCounters(s *session) {
	s.changing = true
	m.unlock()
	time.Sleep(m.deps.CounterLag)
	m.lock()
	s.changing = false
	m.settled.Broadcast()
}

// Start begins to copy the packets of the request's targets to its sink. A start that fails changes nothing,
// unless its error is ROLLBACK_FAILED: then the session is Broken, and stopping it removes what is left. A dry
// run returns the session that would be, with the rules as testpmd commands, and changes nothing either. A held session
// ends soon after ctx. The request has its defaults filled in.
func (m *Manager) Start(ctx context.Context, req spec.Request) (spec.Session, error) {
	if err := req.Validate(); err != nil {
		return spec.Session{}, err
	}
	s, err := newSession(m.deps, req, m.waitForCounters)
	if err != nil {
		return spec.Session{}, err
	}
	m.lock()
	defer m.unlock()
	m.awaitDeletions(req.Targets)

	if err := m.prepare(s); err != nil {
		return spec.Session{}, err
	}
	if err := ctx.Err(); err != nil { // the caller is gone
		return spec.Session{}, err
	}
	if req.DryRun {
		return s.dryRun()
	}
	s.startedAt = time.Now()
	if req.Held {
		s.holder = ctx.Done()
	}
	err = s.carryOut("cannot start the capture", plan.Start(plansOf(s.mirrors)))
	if err == nil || s.state == spec.Broken {
		m.sessions = append(m.sessions, s)
	}
	if err != nil {
		return spec.Session{}, err
	}
	s.readCounters()
	return s.view(m.uplink), nil
}

// prepare completes a session as far as that is possible without changing anything.
func (m *Manager) prepare(s *session) error {
	if err := m.checkRoom(s); err != nil {
		return err
	}
	uplink, ok := m.deps.Ports.PF(0)
	if !ok {
		return fault.New(fault.NotFound, "pf0", "there is no PF0, through which copies leave")
	}
	s.copies = plan.Copies{Session: s.request.Name, Header: m.uplink.header(s.request), Out: uplink.ID}
	node := plan.Node{NIC: m.deps.NIC, Uplink: uplink}
	for _, t := range s.request.Targets {
		if other := m.capturing(t); other != nil {
			return fault.New(fault.AlreadyActive, t.String(), "%s is captured by session %s: stop that first", t,
				other.request.Name)
		}
		if err := s.addTarget(t, node); err != nil {
			return err
		}
	}
	if !m.uplink.resolved() {
		return fault.New(fault.NotFound, uplink.Name, "the underlay's router is not resolved yet, and copies go "+
			"through it: check PF0's link and that a router answers there, or configure underlay.router_mac")
	}
	return nil
}

// checkRoom refuses a session whose name is taken, or that would make too many interfaces.
func (m *Manager) checkRoom(s *session) error {
	captured := 0
	for _, other := range m.sessions {
		if other.request.Name == s.request.Name {
			return fault.New(fault.AlreadyActive, s.request.Name,
				"capture %s is %s: stop it first, or give this one another name",
				s.request.Name, other.state)
		}
		captured += other.targetCount()
	}
	if n := captured + len(s.request.Targets); n > m.deps.MaxInterfaces {
		return fault.New(fault.LimitReached, "", "%d interfaces to capture, at most %d are possible at once",
			n, m.deps.MaxInterfaces)
	}
	return nil
}

// Stop ends a session and removes its rules; without a name it ends all sessions. It returns how many
// interfaces were captured by those that it has ended. A session that cannot be ended stays as it is, or Broken if the
// error is ROLLBACK_FAILED, and keeps no other from being ended; it can be tried again.
func (m *Manager) Stop(name string) (int, error) {
	m.lock()
	defer m.unlock()

	if len(m.sessions) == 0 {
		return 0, fault.New(fault.NotActive, name, "no capture is active")
	}
	stopped, found := 0, false
	var failed error
	for _, s := range slices.Clone(m.sessions) {
		if name != "" && name != s.request.Name {
			continue
		}
		found = true
		if m.await(s); s.state == spec.Ended {
			continue
		}
		interfaces := s.targetCount()
		if err := s.end(spec.Stopped, "cannot stop the capture"); err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		m.remember(s)
		stopped += interfaces
	}
	if !found {
		return 0, fault.New(fault.NotFound, name, "no session %s: %s", name, m.names())
	}
	return stopped, failed
}

// names lists the sessions for a person.
func (m *Manager) names() string {
	names := make([]string, len(m.sessions))
	for i, s := range m.sessions {
		names[i] = s.request.Name
	}
	return "there is " + strings.Join(names, ", ")
}

// remember makes a session that has ended history.
func (m *Manager) remember(s *session) {
	m.sessions = slices.DeleteFunc(m.sessions, func(other *session) bool { return other == s })
	ended := s.viewAlone()
	m.history = append([]spec.Session{ended}, m.history...)
	m.history = m.history[:min(len(m.history), maxHistory)]
	if m.deps.Ended != nil {
		m.deps.Ended(ended)
	}
}

// UplinkChanged says where copies leave from now on. Running captures follow, without a copy lost or doubled. Those of
// which that fails go on as they were and say so in their warnings; the next call tries again. While the router is
// not known, running captures keep their last one.
func (m *Manager) UplinkChanged(u Uplink) error {
	m.lock()
	defer m.unlock()

	m.uplink = u
	if !u.resolved() {
		return nil
	}
	var failed error
	for _, s := range slices.Clone(m.sessions) {
		m.await(s)
		failed = cmp.Or(failed, s.follow(m.uplink.header(s.request)))
	}
	return failed
}

// capturing finds the session that captures a target; nil if there is none.
func (m *Manager) capturing(t spec.Target) *session {
	for _, s := range m.sessions {
		if s.captures(t) {
			return s
		}
	}
	return nil
}

// Uplink is what is known of PF0 in the underlay network: the header of a copy is made of it.
type Uplink struct {
	MAC       wire.MAC   // PF0's own
	RouterMAC wire.MAC   // the next hop's; zero while it is not resolved
	NodeIP    netip.Addr // this node's underlay address
	LinkDown  bool       // copies are lost meanwhile
}

func (u Uplink) resolved() bool { return u.RouterMAC != wire.MAC{} && u.NodeIP.Is6() }

// header is the header of a request's copies, but for the label.
func (u Uplink) header(r spec.Request) wire.CopyHeader {
	return wire.CopyHeader{
		RouterMAC:  u.RouterMAC,
		UplinkMAC:  u.MAC,
		NodeIP:     u.NodeIP,
		Sink:       r.Sink,
		UDPSrcPort: r.UDPSrcPort,
		UDPDstPort: r.UDPDstPort,
		Encap:      r.Encap,
	}
}
