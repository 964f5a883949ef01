// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"slices"

	"dpservice/dpservice/nic"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// departure is the removal of all rules that lead to an uplink.
type departure struct {
	uplink  uint16
	detours []*ruleset.Rule
	rules   []*rule // to be removed
	removed []*rule
}

// LeaveUplink has the rules of all flows removed that leave by an uplink. The caller has found it unusable, and the
// graph knows that already: it sends the flows' packets elsewhere. They must not wait until the last of many rules is
// removed, so before LeaveUplink returns, the NIC hands all packets of the guests with such flows to the software, by
// one rule for each guest. The rest is done by Run. What the NIC refuses to remove is tried again each second.
func (m *Manager) LeaveUplink(port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rules := m.rulesThat(func(r *rule) bool { return r.out == port })
	if len(rules) == 0 {
		return
	}
	m.beginRelease(port)
	guests := map[uint16]struct{}{}
	for _, r := range rules {
		guests[r.in] = struct{}{}
	}
	d := &departure{uplink: port, rules: rules}
	for guest := range guests {
		d.detours = append(d.detours, m.detour(guest, By(port)))
	}
	m.beginDetours(d.detours...)
	m.departures = append(m.departures, d)
	m.remind()
}

// depart removes a batch of the rules that lead to a lost uplink. After the last one, the NIC forwards again what the
// guests send.
func (m *Manager) depart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.departures) == 0 {
		return
	}
	d := m.departures[0]
	n := min(batchSize, len(d.rules))
	d.removed = append(d.removed, m.remove(slices.DeleteFunc(d.rules[:n], (*rule).isDropped))...)
	d.rules = d.rules[n:]
	if len(d.rules) == 0 {
		m.departures = m.departures[1:]
		m.endDetours(d.detours)
		m.endRelease(d.uplink, d.removed)
	}
	m.remind()
}

// detourOwner is the Owner of a detour: the guest's port.
type detourOwner uint16

func (o detourOwner) String() string { return fmt.Sprintf("detour/%d", uint16(o)) }

// detour makes the rule by which the NIC hands a guest's traffic to the software.
func (m *Manager) detour(port uint16, t Traffic) *ruleset.Rule {
	return &ruleset.Rule{Port: port, Owner: detourOwner(port), Spec: rteflow.Rule{
		Attr:    nic.InGroup(nicgroup.VNET, nicgroup.DetourPriority),
		Pattern: append([]rteflow.Item{m.cfg.NIC.PortItem(port)}, t.items()...),
		Actions: []rteflow.Action{nic.JumpTo(nicgroup.Software)},
	}}
}

// beginDetours has the NIC hand packets to the software. Where it refuses that, they follow their flows' rules until
// those are removed.
func (m *Manager) beginDetours(detours ...*ruleset.Rule) {
	for _, err := range m.cfg.Rules.ApplyEach(ruleset.Add(detours...)) {
		m.log.warn("the NIC does not hand a guest's packets to the software, and they go the old way until the rules of "+
			"their flows are removed", "err", err)
	}
}

// endDetours has the NIC forward packets again. What it refuses is tried again by age.
func (m *Manager) endDetours(detours []*ruleset.Rule) {
	detours = append(m.detours, detours...)
	m.detours = nil
	var ops []ruleset.Op
	for _, d := range detours {
		if m.cfg.Rules.Installed(d) {
			ops = append(ops, ruleset.Op{Rule: d, Remove: true})
		}
	}
	for _, err := range m.cfg.Rules.ApplyEach(ops) {
		m.log.warn("the NIC goes on handing a guest's packets to the software", "err", err)
		m.detours = append(m.detours, err.Op.Rule)
	}
}
