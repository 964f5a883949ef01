// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"slices"
	"time"

	"dpservice/capture/spec"
)

// snapshot is what Status shows.
type snapshot struct{ sessions, ended []spec.Session }

// Status returns the sessions, in the order of their starts and with their counters as of now, and those that have
// ended, the last one first, as far as they are remembered. While a change is under way it does not wait for the NIC:
// sessions and counters are those at the beginning of the change. What it returns is not to be changed.
func (m *Manager) Status() (sessions, ended []spec.Session) {
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

// refresh has Status show the sessions with counters as of now.
func (m *Manager) refresh() {
	known := &snapshot{ended: slices.Clone(m.history)}
	for _, s := range m.sessions {
		s.readCounters()
		known.sessions = append(known.sessions, s.view(m.uplink))
	}
	m.known.Store(known)
}

// view is the session as status shows it, while copies leave by an uplink.
func (s *session) view(u Uplink) spec.Session {
	v := s.viewAlone()
	v.Warnings = append(v.Warnings, s.unread...)
	if s.state != spec.Active {
		return v
	}
	if u.LinkDown {
		v.Warnings = append(v.Warnings, "the link of PF0 is down: copies leave by it alone, and are lost")
	}
	if !u.resolved() {
		v.Warnings = append(v.Warnings, "the router behind PF0 is not known any more: copies go to its last MAC")
	}
	return v
}

// viewAlone is the session as history shows it.
func (s *session) viewAlone() spec.Session {
	v := spec.Session{
		Name:       s.request.Name,
		State:      s.state,
		StartedAt:  s.startedAt,
		EndedAt:    s.endedAt,
		EndReason:  s.reason,
		Sink:       s.request.Sink,
		UDPSrcPort: s.request.UDPSrcPort,
		UDPDstPort: s.request.UDPDstPort,
		Encap:      s.request.Encap,
		Direction:  s.request.Direction,
		Drops:      s.request.Drops,
		Filter:     s.request.Filter,
		Limits:     s.request.Limits,
		Held:       s.request.Held,
		Warnings:   slices.Clone(s.warnings),
	}
	for _, w := range []string{s.stale, s.broken, s.overdue} {
		if w != "" {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, m := range s.mirrors {
		v.Interfaces = append(v.Interfaces, m.view(s.request.Filter != ""))
		v.Warnings = append(v.Warnings, m.missedWarnings()...)
	}
	total := s.copied()
	v.Packets, v.Bytes = total.Packets, total.Bytes
	return v
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
