// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
)

// Manager starts and stops captures. It is safe for concurrent use.
type Manager struct {
	deps Deps

	mu       sync.Mutex
	uplink   Uplink
	sessions []*session // in the order of their starts
	history  []Session  // those that ended, the last one first
}

// maxHistory is how many sessions that ended are remembered.
const maxHistory = 16

// New returns a Manager without a session. Captures can start once UplinkChanged has named the router.
func New(deps Deps) *Manager {
	deps.MaxInterfaces = cmp.Or(deps.MaxInterfaces, DefaultMaxInterfaces)
	deps.MaxRules = min(cmp.Or(deps.MaxRules, DefaultMaxRules), MaxRules)
	return &Manager{deps: deps}
}

// Start begins to copy the packets of the request's targets to its sink. A start that fails changes nothing,
// unless its error is ROLLBACK_FAILED: then the session is Broken, and stopping it removes what is left. A dry
// run returns the session that would be, with the rules as testpmd commands, and changes nothing either.
func (m *Manager) Start(ctx context.Context, req Request) (Session, error) {
	if err := req.Validate(); err != nil {
		return Session{}, err
	}
	s := &session{request: req, state: Active}
	if err := s.compile(m.deps.MaxRules); err != nil {
		return Session{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()

	if err := m.prepare(s); err != nil {
		return Session{}, err
	}
	if err := ctx.Err(); err != nil { // the caller is gone
		return Session{}, err
	}
	ops := startOps(s.copies, s.points)
	if req.DryRun {
		if err := m.deps.Rules.Check(ops); err != nil {
			return Session{}, s.refused("cannot start the capture", err)
		}
		s.state = DryRun
		return s.planned(ops), nil
	}
	s.startedAt = time.Now()
	f := m.apply(s, "cannot start the capture", ops)
	if f == nil || s.state == Broken {
		m.sessions = append(m.sessions, s)
	}
	if f != nil {
		return Session{}, f
	}
	return m.view(s), nil
}

// Stop ends a session and removes its rules; without a name it ends all sessions. It returns how many
// interfaces were captured by those that it has ended. A session that cannot be ended stays as it is, or Broken if the
// error is ROLLBACK_FAILED, and keeps no other from being ended; it can be tried again.
func (m *Manager) Stop(name string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

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
		points := len(s.points)
		if f := m.end(s, Stopped, "cannot stop the capture"); f != nil {
			failed = cmp.Or(failed, error(f))
			continue
		}
		stopped += points
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
// ended, the last one first, as far as they are remembered.
func (m *Manager) Status() (sessions, ended []Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		sessions = append(sessions, m.view(s))
	}
	return sessions, slices.Clone(m.history)
}

// UplinkChanged tells where copies leave from now on. Running captures follow, without a copy lost or doubled. Those of
// which that fails go on as they were and say so in their warnings; the next call tries again. While the router is
// not known, running captures keep their last one.
func (m *Manager) UplinkChanged(u Uplink) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.uplink = u
	if !u.resolved() {
		return nil
	}
	var failed error
	for _, s := range m.sessions {
		if f := m.follow(s); f != nil {
			failed = cmp.Or(failed, error(f))
		}
	}
	return failed
}

// follow makes a session's copies leave where the uplink says.
func (m *Manager) follow(s *session) *fault.Error {
	if s.state == Broken {
		return nil
	}
	s.stale = ""
	header := s.request.header(m.uplink)
	if header == s.copies.header {
		return nil
	}
	f := m.replaceHeader(s, header)
	if f != nil {
		s.stale = fmt.Sprintf("copies do not follow the change of the uplink yet: %v", f)
	}
	return f
}

// DeleteInterface ends an interface's part of its session, and the session if it was the last one, and then has the
// interface deleted, before another capture of it can begin. If the capture cannot be ended, it goes on, and the interface
// is not deleted.
func (m *Manager) DeleteInterface(id string, deleteIt func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	if s, i := m.capturing(Target{VF: id}); s != nil {
		if f := m.endPoint(s, i); f != nil {
			return f
		}
	}
	return deleteIt()
}

// capturing finds the session that captures a target, and the point in it; nil if there is none.
func (m *Manager) capturing(t Target) (*session, int) {
	for _, s := range m.sessions {
		if i := slices.IndexFunc(s.points, func(p point) bool { return p.target == t }); i >= 0 {
			return s, i
		}
	}
	return nil, 0
}

// endPoint ends the capture of an interface.
func (m *Manager) endPoint(s *session, i int) *fault.Error {
	what := "cannot end the capture of " + s.points[i].target.String()
	if len(s.points) == 1 {
		return m.end(s, InterfaceDeleted, what)
	}
	if f := m.release(s, s.points[i:i+1], what); f != nil {
		return f
	}
	s.gone = sum(s.gone, s.points[i].copied())
	s.warnings = append(s.warnings, fmt.Sprintf("interface %s was deleted: its part of the capture has ended", s.points[i].target))
	s.points = slices.Delete(s.points, i, i+1)
	return nil
}

// end ends a session, which becomes history.
func (m *Manager) end(s *session, reason EndReason, what string) *fault.Error {
	if f := m.release(s, s.points, what); f != nil {
		return f
	}
	s.state, s.endedAt, s.reason = Ended, time.Now(), reason
	s.stale, s.broken, s.overdue = "", "", ""
	m.sessions = slices.DeleteFunc(m.sessions, func(other *session) bool { return other == s })
	m.history = append([]Session{s.view()}, m.history...)
	m.history = m.history[:min(len(m.history), maxHistory)]
	return nil
}

// prepare completes a session of a valid request, as far as that is possible without changing anything.
func (m *Manager) prepare(s *session) error {
	if !m.deps.Offload {
		return fault.New(fault.NotActive, "", "offload is disabled: no packet bypasses the software path, "+
			"and the NIC takes no capture rules; set offload: true")
	}
	if err := m.checkRoom(s); err != nil {
		return err
	}
	uplink, ok := m.deps.Ports.PF(0)
	if !ok {
		return fault.New(fault.NotFound, "pf0", "there is no PF0, through which copies leave")
	}
	s.copies = copies{session: s.name(), header: s.request.header(m.uplink), out: m.deps.NIC.PortAction(uplink.ID)}
	for _, t := range s.request.Targets {
		p, err := m.findPort(t, uplink)
		if err != nil {
			return err
		}
		if other, _ := m.capturing(t.key()); other != nil {
			return fault.New(fault.AlreadyActive, t.String(), "%s is captured by session %s: stop that first", t, other.name())
		}
		s.points = append(s.points, point{
			target:     t.key(),
			port:       p,
			from:       m.deps.NIC.PortItem(p.ID),
			patterns:   m.deps.NIC.BasePatterns(p),
			rules:      rulesOf(s.programs[linkOf(t)], linkOf(t)),
			generation: generations - 1,
		})
		if w := mtuWarning(t, p.MTU, uplink.MTU, s.copies.header.Len()); w != "" {
			s.warnings = append(s.warnings, w)
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
		if other.name() == s.name() {
			return fault.New(fault.AlreadyActive, s.name(), "capture %s is %s: stop it first, or give this one another name",
				s.name(), other.state)
		}
		captured += len(other.points)
	}
	if n := captured + len(s.request.Targets); n > m.deps.MaxInterfaces {
		return fault.New(fault.LimitReached, "", "%d interfaces to capture, at most %d are possible at once", n, m.deps.MaxInterfaces)
	}
	return nil
}

// findPort returns the port that a target stands for, if its packets can be captured.
func (m *Manager) findPort(t Target, uplink port.Port) (port.Port, error) {
	var p port.Port
	var err error
	if t.VF != "" {
		p, err = m.findInterface(t.VF)
	} else {
		p, err = m.findPF(t.PF)
	}
	if err != nil {
		return port.Port{}, err
	}
	if p.SwitchDomain == nil {
		return port.Port{}, fault.New(fault.NotSupported, t.String(), "port %s of %s is not in switchdev mode", p.Name, t)
	}
	if uplink.SwitchDomain == nil || *p.SwitchDomain != *uplink.SwitchDomain {
		return port.Port{}, fault.New(fault.NotSupported, t.String(), "port %s of %s is in another switch domain than "+
			"PF0, through which copies leave", p.Name, t)
	}
	return p, nil
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
	if number == 1 {
		return port.Port{}, fault.New(fault.NotSupported, name, "PF1 is not in switchdev mode: no rule can copy its packets")
	}
	p, ok := m.deps.Ports.PF(number)
	if number != 0 || !ok {
		return port.Port{}, fault.New(fault.NotFound, name, "there is no PF%d to capture on: only PF0 is possible", number)
	}
	if !p.Started {
		return port.Port{}, fault.New(fault.NotFound, name, "PF0 is not started: its port %s is stopped", p.Name)
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

// header is the copies' header, but for the label.
func (r Request) header(u Uplink) Header {
	return Header{
		RouterMAC:  u.RouterMAC,
		UplinkMAC:  u.MAC,
		NodeIP:     u.NodeIP,
		Sink:       r.Sink,
		UDPSrcPort: r.UDPSrcPort,
		UDPDstPort: r.udpDstPort(),
		Encap:      r.encap(),
	}
}
