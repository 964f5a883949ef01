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

// refresh publishes the sessions with counters as of now.
func (m *Manager) refresh() {
	for _, s := range m.sessions {
		s.readCounters()
	}
	m.publish()
}

func (m *Manager) publish() {
	known := &snapshot{ended: slices.Clone(m.history)}
	for _, s := range m.sessions {
		known.sessions = append(known.sessions, s.view(m.uplink))
	}
	m.known.Store(known)
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
	m.endChange()
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
