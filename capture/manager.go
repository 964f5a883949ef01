// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
)

// Manager starts and stops captures. It is safe for concurrent use.
type Manager struct {
	deps Deps

	mu       sync.Mutex
	settled  *sync.Cond // of mu: a session is no longer changing, or an interface no longer being deleted
	uplink   Uplink
	sessions []*session          // in the order of their starts
	history  []Session           // those that ended, the last one first
	deleting map[Target]struct{} // interfaces that are being deleted

	known    atomic.Pointer[snapshot] // never nil
	changing atomic.Bool              // who has the lock is making a change, and known is what was before it
}

// snapshot is what Status shows.
type snapshot struct{ sessions, ended []Session }

// maxHistory is how many sessions that ended are remembered.
const maxHistory = 16

// New returns a Manager without a session. Captures can start once UplinkChanged has named the router.
func New(deps Deps) *Manager {
	deps.MaxInterfaces = cmp.Or(deps.MaxInterfaces, DefaultMaxInterfaces)
	deps.MaxRules = min(cmp.Or(deps.MaxRules, DefaultMaxRules), MaxRules)
	m := &Manager{deps: deps, deleting: map[Target]struct{}{}}
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
	m.endChange()
	m.mu.Unlock()
}

// beginChange has Status show what is known now, until endChange.
func (m *Manager) beginChange() {
	m.refresh()
	m.changing.Store(true)
}

func (m *Manager) endChange() {
	m.publish()
	m.changing.Store(false)
}

// refresh shows what all counters are now.
func (m *Manager) refresh() {
	for _, s := range m.sessions {
		m.readCounters(s)
	}
	m.publish()
}

func (m *Manager) publish() {
	known := &snapshot{ended: slices.Clone(m.history)}
	for _, s := range m.sessions {
		known.sessions = append(known.sessions, m.view(s))
	}
	m.known.Store(known)
}

// await waits until nobody is changing a session. It may have ended then, and others may have begun.
func (m *Manager) await(s *session) {
	for s.changing {
		m.endChange()
		m.settled.Wait()
		m.beginChange()
	}
}

// Start begins to copy the packets of the request's targets to its sink. A start that fails changes nothing,
// unless its error is ROLLBACK_FAILED: then the session is Broken, and stopping it removes what is left. A dry
// run returns the session that would be, with the rules as testpmd commands, and changes nothing either.
func (m *Manager) Start(ctx context.Context, req Request) (Session, error) {
	if err := req.Validate(); err != nil {
		return Session{}, err
	}
	req = req.WithDefaults()
	s := &session{request: req, state: Active}
	if err := s.compile(m.deps.MaxRules); err != nil {
		return Session{}, err
	}
	m.lock()
	defer m.unlock()

	m.awaitDeletions(req.Targets)
	if err := m.prepare(s); err != nil {
		return Session{}, err
	}
	if err := ctx.Err(); err != nil { // the caller is gone
		return Session{}, err
	}
	start := startChange(s.copies, s.points)
	if req.DryRun {
		if err := m.check(start); err != nil {
			return Session{}, m.refused(s, "cannot start the capture", err)
		}
		s.state = DryRun
		return s.planned(start.ops), nil
	}
	s.startedAt = time.Now()
	err := m.begin(s, start)
	if err == nil || s.state == Broken {
		m.sessions = append(m.sessions, s)
	}
	if err != nil {
		return Session{}, err
	}
	m.readCounters(s)
	return m.view(s), nil
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
		if name != "" && name != s.name() {
			continue
		}
		found = true
		if m.await(s); s.state == Ended {
			continue
		}
		interfaces := targetCount(s.points)
		if err := m.end(s, Stopped, "cannot stop the capture"); err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
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
		names[i] = s.name()
	}
	return "there is " + strings.Join(names, ", ")
}

// Status returns the sessions, in the order of their starts and with their counters as of now, and those that have
// ended, the last one first, as far as they are remembered. While a change is under way it does not wait for the NIC:
// sessions and counters are those at the beginning of the change. What it returns is not to be changed.
func (m *Manager) Status() (sessions, ended []Session) {
	if m.lockToRead() {
		m.refresh()
		m.mu.Unlock()
	}
	known := m.known.Load()
	return known.sessions, known.ended
}

// lockToRead locks unless a change is under way. Others who read are done soon.
func (m *Manager) lockToRead() bool {
	for !m.mu.TryLock() {
		if m.changing.Load() {
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	return true
}

// UplinkChanged tells where copies leave from now on. Running captures follow, without a copy lost or doubled. Those of
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
		failed = cmp.Or(failed, m.follow(s))
	}
	return failed
}

// follow makes a session's copies leave where the uplink says.
func (m *Manager) follow(s *session) error {
	if s.state != Active {
		return nil
	}
	s.stale = ""
	header := headerOf(s.request, m.uplink)
	if header == s.copies.header {
		return nil
	}
	err := m.replaceHeader(s, header)
	if err != nil {
		s.stale = fmt.Sprintf("copies do not follow the change of the uplink yet: %v", err)
	}
	return err
}

// Deletion is an interface that is being deleted. Until Close is called, a capture of it cannot begin: Start waits.
type Deletion struct {
	manager *Manager
	target  Target
}

// BeginDeletion says that an interface is going to be deleted.
func (m *Manager) BeginDeletion(id string) *Deletion {
	m.lock()
	defer m.unlock()
	t := Target{VF: id}
	m.awaitDeletions([]Target{t})
	m.deleting[t] = struct{}{}
	return &Deletion{m, t}
}

// EndCapture ends the interface's part of its session, if there is one, and the session if it was the last one. On an error the
// capture goes on, or is Broken if it is ROLLBACK_FAILED, and the interface must not be deleted.
func (d *Deletion) EndCapture() error {
	m := d.manager
	m.lock()
	defer m.unlock()
	for s := m.capturing(d.target); s != nil; s = m.capturing(d.target) {
		if s.changing {
			m.await(s)
			continue
		}
		return m.endTarget(s, d.target)
	}
	return nil
}

// Close is called when the interface is gone, or stays.
func (d *Deletion) Close() {
	d.manager.mu.Lock()
	defer d.manager.mu.Unlock()
	delete(d.manager.deleting, d.target)
	d.manager.settled.Broadcast()
}

// awaitDeletions waits until none of the targets is being deleted.
func (m *Manager) awaitDeletions(targets []Target) {
	isDeleted := func(t Target) bool { _, ok := m.deleting[t]; return ok }
	for slices.ContainsFunc(targets, isDeleted) {
		m.endChange()
		m.settled.Wait()
		m.beginChange()
	}
}

// capturing finds the session that captures a target; nil if there is none.
func (m *Manager) capturing(t Target) *session {
	for _, s := range m.sessions {
		if slices.ContainsFunc(s.points, func(p point) bool { return p.target == t }) {
			return s
		}
	}
	return nil
}

// endTarget ends the capture of one of a session's interfaces.
func (m *Manager) endTarget(s *session, t Target) error {
	first := slices.IndexFunc(s.points, func(p point) bool { return p.target == t })
	behind := first
	for behind < len(s.points) && s.points[behind].target == t {
		behind++
	}
	if err := m.release(s, s.points[first:behind], "cannot end the capture of "+t.String()); err != nil {
		return err
	}
	if behind-first == len(s.points) {
		m.ended(s, InterfaceDeleted)
		return nil
	}
	for _, p := range s.points[first:behind] {
		s.gone = s.gone.Plus(p.copied())
	}
	s.warnings = append(s.warnings, fmt.Sprintf("interface %s was deleted: its part of the capture has ended", t))
	s.points = slices.Delete(s.points, first, behind)
	return nil
}

// end ends a session.
func (m *Manager) end(s *session, reason EndReason, what string) error {
	if err := m.release(s, s.points, what); err != nil {
		return err
	}
	m.ended(s, reason)
	return nil
}

// ended makes a session history.
func (m *Manager) ended(s *session, reason EndReason) {
	s.state, s.endedAt, s.reason = Ended, time.Now(), reason
	s.stale, s.broken, s.overdue = "", "", ""
	m.sessions = slices.DeleteFunc(m.sessions, func(other *session) bool { return other == s })
	m.history = append([]Session{s.view()}, m.history...)
	m.history = m.history[:min(len(m.history), maxHistory)]
}

// prepare completes a session of a valid request, as far as that is possible without changing anything.
func (m *Manager) prepare(s *session) error {
	if err := m.checkRoom(s); err != nil {
		return err
	}
	uplink, ok := m.deps.Ports.PF(0)
	if !ok {
		return fault.New(fault.NotFound, "pf0", "there is no PF0, through which copies leave")
	}
	s.copies = copies{session: s.name(), header: headerOf(s.request, m.uplink), out: uplink.ID, rules: m.newRegistry()}
	for _, t := range s.request.Targets {
		if err := m.prepareTarget(s, t, uplink); err != nil {
			return err
		}
	}
	if !m.uplink.resolved() {
		return fault.New(fault.NotFound, uplink.Name, "the underlay's router is not resolved yet, and copies go "+
			"through it: check PF0's link and that a router answers there, or configure underlay.router_mac")
	}
	return nil
}

// prepareTarget adds the points of an interface.
func (m *Manager) prepareTarget(s *session, t Target, uplink port.Port) error {
	p, err := m.findPort(t)
	if err != nil {
		return err
	}
	if other := m.capturing(t); other != nil {
		return fault.New(fault.AlreadyActive, t.String(), "%s is captured by session %s: stop that first", t, other.name())
	}
	directions, err := s.request.Directions(t)
	if err != nil {
		return err
	}
	rules := rulesOf(s.programs[linkOf(t)], linkOf(t))
	for _, d := range directions {
		s.points = append(s.points, m.pointsOf(t, d, p, uplink, rules)...)
	}
	if w := mtuWarning(t, p.MTU, uplink.MTU, s.copies.header.Len()); w != "" {
		s.warnings = append(s.warnings, w)
	}
	return nil
}

// checkRoom refuses a session whose name is taken, or that would make too many interfaces.
func (m *Manager) checkRoom(s *session) error {
	captured := 0
	for _, other := range m.sessions {
		if other.name() == s.name() {
			return fault.New(fault.AlreadyActive, s.name(), "capture %s is %s: stop it first, or give this one another name",
				s.name(), other.state)
		}
		captured += targetCount(other.points)
	}
	if n := captured + len(s.request.Targets); n > m.deps.MaxInterfaces {
		return fault.New(fault.LimitReached, "", "%d interfaces to capture, at most %d are possible at once", n, m.deps.MaxInterfaces)
	}
	return nil
}

// findPort returns the port that a target stands for.
func (m *Manager) findPort(t Target) (port.Port, error) {
	if t.VF != "" {
		return m.findInterface(t.VF)
	}
	return m.findPF(t.PF)
}

func (m *Manager) findInterface(id string) (port.Port, error) {
	p, ok := m.deps.Ports.Interface(id)
	if !ok {
		if _, ok := m.deps.Ports.Device(id); ok {
			return port.Port{}, fault.New(fault.NotFound, id, "%s is a device, not an interface: create an interface "+
				"on it to start it, and name the interface's id", id)
		}
		return port.Port{}, fault.New(fault.NotFound, id, "there is no interface %s", id)
	}
	if !p.Started {
		return port.Port{}, fault.New(fault.NotFound, id, "interface %s is not started: its port %s is stopped", id, p.Name)
	}
	return p, nil
}

func (m *Manager) findPF(number int) (port.Port, error) {
	name := Target{PF: number}.String()
	p, ok := m.deps.Ports.PF(number)
	if !ok {
		return port.Port{}, fault.New(fault.NotFound, name, "there is no PF%d to capture on", number)
	}
	if !p.Started {
		return port.Port{}, fault.New(fault.NotFound, name, "PF%d is not started: its port %s is stopped", number, p.Name)
	}
	return p, nil
}

// mtuWarning says which frames of a target are too long to be copied: an Ethernet frame in a UDP datagram becomes
// the payload of the uplink's frame.
func mtuWarning(t Target, mtu, uplinkMTU uint16, headerLen int) string {
	overhead := headerLen - ethLen // of the outer header, what counts towards the uplink's MTU
	need := int(mtu) + ethLen + overhead
	if need <= int(uplinkMTU) {
		return ""
	}
	return fmt.Sprintf("frames of %s can have %d bytes, their copies need an uplink MTU of %d, and it is %d: "+
		"frames longer than %d bytes are not captured", t, int(mtu)+ethLen, need, uplinkMTU, int(uplinkMTU)-overhead)
}

func (u Uplink) resolved() bool { return u.RouterMAC != rteflow.MAC{} && u.NodeIP.Is6() }

// headerOf is the header of a request's copies, but for the label.
func headerOf(r Request, u Uplink) Header {
	return Header{
		RouterMAC:  u.RouterMAC,
		UplinkMAC:  u.MAC,
		NodeIP:     u.NodeIP,
		Sink:       r.Sink,
		UDPSrcPort: r.UDPSrcPort,
		UDPDstPort: r.UDPDstPort,
		Encap:      r.Encap,
	}
}
