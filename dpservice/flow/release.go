// SPDX-License-Identifier: Apache-2.0

package flow

import "slices"

// Release is a port that is taken out of use: no flow from or to it gets a rule, until the caller ends it, once.
type Release struct {
	flows   *Manager
	port    uint16
	removed []*rule
}

// ReleasePort removes the rules of all flows from and to a port: the software forwards their packets. Until the Release
// ends, no flow of the port gets a rule. New ones are offered again later. On an error the port is not released, and
// the flows whose rules were removed begin again with their next packet.
//
// The rules are removed in batches, so that other callers wait for one batch only. The graph is not told: that takes
// longer than the removal, and the caller is about to delete the interface, which ends the flows.
func (m *Manager) ReleasePort(id uint16) (*Release, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beginRelease(id)
	removed, err := m.destroyAll(m.rulesThat(func(r *rule) bool { return r.in == id || r.out == id }))
	if err != nil {
		m.endRelease(id, removed)
		return nil, err
	}
	return &Release{m, id, removed}, nil
}

// beginRelease lets no flow from or to a port get a rule.
func (m *Manager) beginRelease(port uint16) {
	m.released[port] = struct{}{}
	for _, r := range m.backlog.ofPort(port) {
		m.waiting[r.id] = m.share(r.holder())
		m.backlog.drop(r.id)
	}
}

// rulesThat returns the rules that are to be removed, of each share the youngest first: neighbours are near to each
// other in memory then, and the shares need not move other rules as they lose these.
func (m *Manager) rulesThat(are func(r *rule) bool) (rules []*rule) {
	for _, s := range m.shares {
		for _, r := range slices.Backward(s.rules) {
			if are(r) {
				rules = append(rules, r)
			}
		}
	}
	return rules
}

// destroyAll removes rules in batches, between which others have their turn. It stops at the first error, and returns
// the rules that it has removed.
func (m *Manager) destroyAll(rules []*rule) (removed []*rule, err error) {
	removed = make([]*rule, 0, len(rules))
	for some := range slices.Chunk(rules, batchSize) {
		some = slices.DeleteFunc(some, (*rule).isDropped) // by others, meanwhile
		gone, err := m.destroy(some)
		removed = append(removed, gone...)
		if err != nil {
			return removed, err
		}
		m.mu.Unlock()
		m.mu.Lock()
	}
	return removed, nil
}

// End ends the release. If the port stays in use, its flows begin again with their next packets, and are offloaded.
func (r *Release) End() {
	r.flows.mu.Lock()
	defer r.flows.mu.Unlock()
	r.flows.endRelease(r.port, r.removed)
}

// endRelease ends the release of a port. The graph still believes that flows are offloaded whose rules were removed.
func (m *Manager) endRelease(port uint16, removed []*rule) {
	delete(m.released, port)
	m.unruled = append(m.unruled, removed...)
	m.remind()
}

// remind has Run call catchUp.
func (m *Manager) remind() {
	select {
	case m.reminder <- struct{}{}:
	default: // there is a reminder already
	}
}

// catchUp does a batch of what others have left to Run.
func (m *Manager) catchUp() {
	m.depart()
	m.forgetReleased()
}

// forgetReleased makes the graph forget a batch of the flows whose rules were removed by a release. Most have ended
// with their interface. But a flow of an interface that was created again in the same way would go on as an offloaded
// one, and would never get a rule.
func (m *Manager) forgetReleased() {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(batchSize, len(m.unruled))
	m.forget(m.unruled[:n])
	m.unruled = m.unruled[n:]
	if len(m.unruled) == 0 {
		m.unruled = nil // frees the rules
		return
	}
	m.remind()
}

func (m *Manager) isReleased(port uint16) bool { _, ok := m.released[port]; return ok }
