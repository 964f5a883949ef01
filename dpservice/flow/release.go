// SPDX-License-Identifier: Apache-2.0

package flow

import "slices"

// Release is a port that is taken out of use: no flow from or to it gets a rule, until the caller ends it, once.
type Release struct {
	flows *Manager
	port  uint16
}

// ReleasePort removes the rules of all flows from and to a port. Until the Release ends, new flows of the port get no
// rules: they stay in software and are offered again later. On an error the port is not released, and the flows whose
// rules were removed begin again with their next packet.
//
// The rules are removed in batches, so that other callers wait for one batch only.
func (m *Manager) ReleasePort(id uint16) (*Release, error) {
	m.mu.Lock()
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
		// The lock was released between batches, so some rules may have been removed.
		some = slices.DeleteFunc(some, func(r *rule) bool { return m.rules[r.id] != r })
		removed, err := m.destroy(some)
		m.forget(removed)
		if err != nil {
			delete(m.released, id)
			return nil, err
		}
		m.mu.Unlock()
		m.mu.Lock()
	}
	return &Release{m, id}, nil
}

// End ends the release. If the port stays in use, its flows are offloaded again with their next packets.
func (r *Release) End() {
	r.flows.mu.Lock()
	defer r.flows.mu.Unlock()
	delete(r.flows.released, r.port)
}

func (m *Manager) isReleased(port uint16) bool { _, ok := m.released[port]; return ok }
