// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
)

// Manager starts and stops captures, one at a time. It is safe for concurrent use.
type Manager struct {
	deps Deps

	mu      sync.Mutex
	uplink  Uplink
	session *session // nil while nothing is captured
}

// New returns a Manager without a session. Captures can start once UplinkChanged has named the router.
func New(deps Deps) *Manager { return &Manager{deps: deps} }

// Start begins to copy the packets of the request's targets to its sink. A start that fails changes nothing,
// unless its error is ROLLBACK_FAILED: then the session is Broken, and stopping it removes what is left. A dry
// run returns the session that would be, with the rules as testpmd commands, and changes nothing either.
func (m *Manager) Start(ctx context.Context, req Request) (Session, error) {
	if err := req.Validate(); err != nil {
		return Session{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()

	s, err := m.prepare(req)
	if err != nil {
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
	if f := m.apply(s, "cannot start the capture", ops); f != nil {
		if s.state == Broken {
			m.session = s
		}
		return Session{}, f
	}
	m.session = s
	return m.view(s), nil
}

// Stop ends a session and removes its rules; without a name it ends whatever session there is. It returns how many
// interfaces were captured. A stop that fails leaves the session as it is, or Broken if the error is
// ROLLBACK_FAILED; it can be tried again.
func (m *Manager) Stop(name string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	s := m.session
	if s == nil {
		return 0, fault.New(fault.NotActive, name, "no capture is active")
	}
	if name != "" && name != s.name() {
		return 0, fault.New(fault.NotFound, name, "no session %s: the active one is %s", name, s.name())
	}
	ops := stopOps(s.name(), s.points, m.deps.Rules.Has)
	if f := m.apply(s, "cannot stop the capture", ops); f != nil {
		return 0, f
	}
	m.session = nil
	return len(s.points), nil
}

// Status returns the sessions, with their counters as of now.
func (m *Manager) Status() []Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session == nil {
		return nil
	}
	return []Session{m.view(m.session)}
}

// UplinkChanged tells where copies leave from now on. Running captures follow, without a copy lost or doubled. If
// that fails they go on as they were and say so in their warnings; the next call tries again. While the router is
// not known, running captures keep their last one.
func (m *Manager) UplinkChanged(u Uplink) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.uplink = u
	s := m.session
	if s == nil || s.state == Broken || !u.resolved() {
		return nil
	}
	s.stale = ""
	header := s.request.header(u)
	if header == s.copies.header {
		return nil
	}
	if f := m.replaceHeader(s, header); f != nil {
		s.stale = fmt.Sprintf("copies do not follow the change of the uplink yet: %v", f)
		return f
	}
	return nil
}

// DeleteInterface ends an interface's part of its session, and the session if it was the last one, and then has the
// interface deleted, before another capture of it can begin. If the capture cannot be ended, it goes on, and the interface
// is not deleted.
func (m *Manager) DeleteInterface(id string, deleteIt func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	if err := m.endPoint(id); err != nil {
		return err
	}
	return deleteIt()
}

// endPoint ends the capture of an interface, if it is captured.
func (m *Manager) endPoint(id string) error {
	s := m.session
	if s == nil {
		return nil
	}
	i := slices.IndexFunc(s.points, func(p point) bool { return p.target.VF == id })
	if i < 0 {
		return nil
	}
	ops := stopOps(s.name(), s.points[i:i+1], m.deps.Rules.Has)
	if f := m.apply(s, "cannot end the capture of "+id, ops); f != nil {
		return f
	}
	s.points = slices.Delete(s.points, i, i+1)
	s.warnings = append(s.warnings, fmt.Sprintf("interface %s was deleted: its part of the capture has ended", id))
	if len(s.points) == 0 {
		m.session = nil
	}
	return nil
}

// prepare makes a session of a valid request, as far as that is possible without changing anything.
func (m *Manager) prepare(req Request) (*session, error) {
	if !m.deps.Offload {
		return nil, fault.New(fault.NotActive, "", "offload is disabled: no packet bypasses the software path, "+
			"and the NIC takes no capture rules; set offload: true")
	}
	if m.session != nil {
		return nil, fault.New(fault.AlreadyActive, m.session.name(), "capture %s is %s: stop it first",
			m.session.name(), m.session.state)
	}
	uplink, ok := m.deps.Ports.PF(0)
	if !ok {
		return nil, fault.New(fault.NotFound, "pf0", "there is no PF0, through which copies leave")
	}
	s := &session{request: req, state: Active}
	s.copies = copies{session: s.name(), header: req.header(m.uplink), out: m.deps.NIC.PortAction(uplink.ID)}
	for _, t := range req.Targets {
		p, err := m.findPort(t, uplink)
		if err != nil {
			return nil, err
		}
		s.points = append(s.points, point{
			target:   t.key(),
			port:     p,
			from:     m.deps.NIC.PortItem(p.ID),
			patterns: m.deps.NIC.BasePatterns(p),
			priority: samplePriorities - 1,
		})
		if w := mtuWarning(t, p.MTU, uplink.MTU, s.copies.header.Len()); w != "" {
			s.warnings = append(s.warnings, w)
		}
	}
	if !m.uplink.resolved() {
		return nil, fault.New(fault.NotFound, uplink.Name, "the underlay's router is not resolved yet, and copies go "+
			"through it: check PF0's link and that a router answers there, or configure underlay.router_mac")
	}
	return s, nil
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
