// SPDX-License-Identifier: Apache-2.0

package flow

import "dpservice/rteflow/ruleset"

// RuleOf returns the NIC's rule of a flow that the graph has announced; nil if there is none, and then why.
func (m *Manager) RuleOf(id uint64) (r *ruleset.Rule, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.rules[id]; r != nil {
		return &r.Rule, ""
	}
	_, late := m.late[id]
	switch {
	case m.waiting[id] != nil:
		return nil, "has no rule: there was no room for it, or the NIC has refused it; the flow is offered again"
	case late || m.backlog.flows[id] != nil:
		return nil, "has no rule yet: the flow waits behind others"
	default:
		return nil, "has no rule: it does not take one for this flow, as the log says, or the flow has just ended"
	}
}
