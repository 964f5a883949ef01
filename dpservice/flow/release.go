// SPDX-License-Identifier: Apache-2.0

package flow

import "slices"

// Release is a port that flows get no rules from or to, until either Commit or Abort is called, once.
type Release struct {
	flows *Manager
	port  uint16
}

// ReleasePort removes the rules of all flows from and to a port, and keeps new ones from being made until the Release
// is ended: flows that begin meanwhile stay in software and are offered again. On an error the port is not released,
// and the flows that have lost their rules begin anew with their next packet.
//
// The rules are removed a batch at a time: other flows, and who asks about any, hardly wait.
func (m *Manager) ReleasePort(id uint16) (*Release, error) {
	m.lockToChange()
	defer m.mu.Unlock()
	m.released[id] = struct{}{}
	for _, f := range m.backlog.dropPort(id) {
		m.waiting[f.ID] = m.share(holderOf(f))
	}
	var rules []*rule
	for _, r := range m.rules {
		if r.in == id || r.out == id {
			rules = append(rules, r)
		}
	}
	for some := range slices.Chunk(rules, batchSize) {
		// Some may have gone while others had their turn.
		some = slices.DeleteFunc(some, func(r *rule) bool { return m.rules[r.id] != r })
		removed, err := m.destroy(some)
		m.forget(removed)
		if err != nil {
			delete(m.released, id)
			return nil, err
		}
		m.mu.Unlock()
		m.lockToChange()
	}
	return &Release{m, id}, nil
}

// Commit is called when the port has been given up: flows that go there later go straight.
func (r *Release) Commit() {
	r.flows.mu.Lock()
	defer r.flows.mu.Unlock()
	delete(r.flows.diverts, r.port)
	delete(r.flows.released, r.port)
}

// Abort is called when the port stays in use: its flows are offloaded again with their next packets.
func (r *Release) Abort() {
	r.flows.mu.Lock()
	defer r.flows.mu.Unlock()
	delete(r.flows.released, r.port)
}

func (m *Manager) isReleased(port uint16) bool { _, ok := m.released[port]; return ok }
