// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"slices"

	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// batchSize is how many flows get or lose their rules at once. It is large enough to share the cost of calls and
// messages, and small enough that other callers wait for about a millisecond only.
const batchSize = 256

// work takes a batch of tasks from the backlog. It removes rules first, then it installs new ones.
func (m *Manager) work() {
	m.mu.Lock()
	tasks := m.backlog.next(batchSize)
	m.mu.Unlock()
	exists := m.interfacesOf(tasks) // HasInterface takes another lock, so mu is not held here
	m.mu.Lock()
	defer m.mu.Unlock()
	replaced := m.removeEnded(tasks)
	b := batch{Manager: m, pending: make([]*rule, 0, len(tasks))}
	for _, t := range tasks {
		// A flow gets no second rule while the NIC keeps the rule of its previous verdict.
		if r := t.flow; r != nil && exists[r.iface] && m.rules[r.id] == nil {
			b.begin(r)
		}
	}
	b.install()
	// These flows have no rule any more, but the graph still believes that they are offloaded.
	m.forget(slices.DeleteFunc(replaced, func(r *rule) bool { return m.rules[r.id] != nil }))
	m.backlog.size -= len(tasks)
	if m.backlog.isEmpty() {
		m.offerLate()
	}
}

// interfacesOf looks up which interfaces of the new flows exist.
func (m *Manager) interfacesOf(tasks []task) map[uint16]bool {
	exists := map[uint16]bool{}
	for _, t := range tasks {
		if t.flow == nil {
			continue
		}
		if _, known := exists[t.flow.iface]; !known {
			exists[t.flow.iface] = m.cfg.HasInterface(t.flow.iface)
		}
	}
	return exists
}

// removeEnded removes the rules of flows that have ended or aged, and of flows that have begun again with another
// verdict. It returns the latter. It also deletes the flow of an aged rule from the graph: if another packet arrives,
// the flow begins again.
func (m *Manager) removeEnded(tasks []task) (replaced []*rule) {
	var rules, aged []*rule
	for _, t := range tasks {
		if t.reroute != nil {
			t.reroute.left--
		}
		r := t.rule
		if t.flow != nil {
			delete(m.waiting, t.flow.id)
			delete(m.late, t.flow.id)
			r = m.rules[t.flow.id]
		}
		if r == nil || r.isDropped() || r.ending || t.aged && m.doomed[r.id] != nil {
			continue
		}
		r.ending = true
		rules = append(rules, r)
		switch {
		case t.flow != nil:
			replaced = append(replaced, r)
		case t.aged:
			aged = append(aged, r)
		}
	}
	for _, r := range rules {
		r.ending = false // it is tried again if the NIC refuses
	}
	m.remove(rules)
	m.endReroutes()
	inNIC := func(r *rule) bool { return !r.isDropped() }
	aged = slices.DeleteFunc(aged, inNIC)
	m.stats.Aged += uint64(len(aged))
	m.forget(aged)
	return slices.DeleteFunc(replaced, inNIC)
}

// batch is a set of rules that are installed together. Each already counts to its share before it is installed.
type batch struct {
	*Manager
	pending []*rule
	evicted []*rule // rules that were removed to make room
}

// begin prepares the rule of a new flow. If that fails, the flow stays in software: forever if the NIC does not support
// the rule, otherwise until the flow is offered again.
func (b *batch) begin(r *rule) {
	if !b.cfg.NIC.Has(r.in) || !b.cfg.NIC.Has(r.out) {
		return
	}
	r.share = b.share(r.holder())
	if b.isReleased(r.in) || b.isReleased(r.out) {
		b.waiting[r.id] = r.share
		return
	}
	if !b.makeRoom(r.share) {
		b.stats.Limited++
		r.share.limited++
		b.waiting[r.id] = r.share
		b.log.warn("a flow stays in software: as many rules as may be are in the NIC", "rules", len(b.rules))
		return
	}
	if err := b.prepare(r); err != nil {
		b.refuse(r, err)
	}
}

func (m *Manager) refuse(r *rule, err error) {
	m.stats.Refused++
	if isTransient(err) {
		m.waiting[r.id] = r.share
	}
	m.log.warn("a flow stays in software: the NIC cannot take its rule", "flow", r.flow().Key, "err", err)
}

// prepare completes a flow's rule and adds it to its share.
func (b *batch) prepare(r *rule) (err error) {
	if r.by != nil {
		if r.mark, err = b.cfg.Tunnels.Acquire(*r.by); err != nil {
			return err
		}
	}
	if r.template, err = b.templateOf(&r.compact); err != nil {
		if r.by != nil {
			b.cfg.Tunnels.Release(*r.by)
		}
		return err
	}
	r.Rule = ruleset.Rule{Port: r.in, Owner: r, Spec: rteflow.Rule{Attr: attrOf(r.origin)}}
	b.rules[r.id] = r
	r.share.add(r)
	b.pending = append(b.pending, r)
	return nil
}

// install installs the prepared rules, and reports to the graph which flows got a rule and which were evicted.
func (b *batch) install() {
	ops := make([]ruleset.Op, len(b.pending))
	for i, r := range b.pending {
		ops[i] = ruleset.Op{Rule: &r.Rule}
	}
	failed := map[*ruleset.Rule]error{}
	for _, err := range b.cfg.Rules.ApplyEach(ops) {
		failed[err.Op.Rule] = err
	}
	ids := make([]uint64, 0, len(b.pending))
	for _, r := range b.pending {
		if err := failed[&r.Rule]; err != nil {
			b.drop(r)
			b.refuse(r, err)
			continue
		}
		ids = append(ids, r.id)
	}
	b.stats.Created += uint64(len(ids))
	b.pending = nil
	b.setOffloaded(ids)
	b.returnToSoftware(b.evicted)
	b.evicted = nil
}

// setOffloaded reports to the graph which flows have a rule now. It removes the rules of flows that have ended in the
// meantime.
func (m *Manager) setOffloaded(ids []uint64) {
	if len(ids) == 0 {
		return
	}
	failed := m.failures("set offloaded", ids, m.cfg.Graph.SetOffloaded(ids, true))
	var rules []*rule
	for id := range failed {
		rules = append(rules, m.rules[id])
	}
	for _, r := range m.remove(rules) {
		if !errors.Is(failed[r.id], graph.ErrNotFound) {
			m.waiting[r.id] = r.share
		}
	}
}

// returnToSoftware makes the graph forward flows whose rules were removed. The next packet of each announces it again.
func (m *Manager) returnToSoftware(rules []*rule) {
	if len(rules) == 0 {
		return
	}
	ids := idsOf(rules)
	failed := m.failures("take back", ids, m.cfg.Graph.SetOffloaded(ids, false))
	m.waitFor(rules, failed)
}

// forget deletes the flows of removed rules from the graph, unless they have ended there already.
func (m *Manager) forget(rules []*rule) {
	if len(rules) == 0 {
		return
	}
	ids := idsOf(rules)
	for _, id := range ids {
		delete(m.waiting, id)
	}
	failed := m.failures("forget", ids, m.cfg.Graph.DeleteFlows(ids))
	m.waitFor(rules, failed)
}

// waitFor schedules flows that the graph failed to change to be offered again. Otherwise the graph would believe
// forever that they are offloaded.
func (m *Manager) waitFor(rules []*rule, failed graph.FlowErrors) {
	for _, r := range rules {
		if err := failed[r.id]; err != nil && !errors.Is(err, graph.ErrNotFound) {
			m.waiting[r.id] = r.share
		}
	}
}

func idsOf(rules []*rule) []uint64 {
	ids := make([]uint64, len(rules))
	for i, r := range rules {
		ids[i] = r.id
	}
	return ids
}

// failures returns the flows for which a call to the graph failed, and logs one of the errors.
func (m *Manager) failures(what string, ids []uint64, err error) (failed graph.FlowErrors) {
	if err == nil {
		return nil
	}
	if !errors.As(err, &failed) {
		failed = graph.FlowErrors{}
		for _, id := range ids {
			failed[id] = err
		}
	}
	for _, err := range failed {
		if !errors.Is(err, graph.ErrNotFound) {
			m.log.warn("the graph does not do what flows need", "what", what, "flows", len(failed), "err", err)
			break
		}
	}
	return failed
}

// remove removes rules from the NIC, and returns the removed ones. The others are tried again later.
func (m *Manager) remove(rules []*rule) (removed []*rule) {
	removed, err := m.destroy(rules)
	if err == nil {
		return removed
	}
	m.log.warn("the NIC does not remove a flow's rule", "err", err)
	for _, r := range rules {
		if m.rules[r.id] == r {
			m.doomed[r.id] = r
		}
	}
	return removed
}

// destroy removes rules from the NIC, and returns the removed ones. On an error, the others stay installed, unchanged.
func (m *Manager) destroy(rules []*rule) (removed []*rule, err error) {
	ops := make([]ruleset.Op, len(rules))
	for i, r := range rules {
		ops[i] = ruleset.Op{Rule: &r.Rule, Remove: true}
	}
	failed := m.cfg.Rules.ApplyEach(ops)
	removed = make([]*rule, 0, len(rules))
	for _, r := range rules {
		if len(failed) > 0 && m.cfg.Rules.Installed(&r.Rule) {
			continue
		}
		m.drop(r)
		removed = append(removed, r)
	}
	if len(failed) > 0 {
		return removed, failed[0]
	}
	return removed, nil
}

// drop forgets a rule that is not in the NIC, and frees its slot in its share.
func (m *Manager) drop(r *rule) {
	delete(m.rules, r.id)
	delete(m.doomed, r.id)
	r.share.remove(r)
	if r.by != nil {
		m.cfg.Tunnels.Release(*r.by)
	}
}
