// SPDX-License-Identifier: Apache-2.0

package capture

import "dpservice/capture/spec"

// Deletion is an interface that is being deleted. Until Close is called, a capture of it cannot begin: Start waits.
type Deletion struct {
	manager *Manager
	target  spec.Target
}

// BeginDeletion says that an interface is going to be deleted.
func (m *Manager) BeginDeletion(id string) *Deletion {
	m.lock()
	defer m.unlock()
	t := spec.Target{VF: id}
	m.awaitDeletions([]spec.Target{t})
	m.deleting[t] = struct{}{}
	return &Deletion{m, t}
}

// EndCapture ends the interface's part of its session, if there is one, and the session if it was the last one. On an
// error the capture goes on, or is Broken if it is ROLLBACK_FAILED, and the interface must not be deleted.
func (d *Deletion) EndCapture() error {
	m := d.manager
	m.lock()
	defer m.unlock()
	s := m.capturing(d.target)
	for s != nil && s.changing {
		m.await(s)
		s = m.capturing(d.target)
	}
	if s == nil {
		return nil
	}
	err := s.endTarget(d.target)
	if s.state == spec.Ended {
		m.remember(s)
	}
	return err
}

// Close is called when the interface is gone, or stays.
func (d *Deletion) Close() {
	d.manager.mu.Lock()
	defer d.manager.mu.Unlock()
	delete(d.manager.deleting, d.target)
	d.manager.settled.Broadcast()
}
