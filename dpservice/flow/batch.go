// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"slices"

	"dpservice/dpservice/tunnel"
	"dpservice/graph"
	"dpservice/rteflow/ruleset"
)

// batchSize is how many flows get or lose their rules at once: enough to make the cost of calls and messages small, few
// enough for others to wait for about a millisecond.
const batchSize = 256

// work does what is next for some flows: first it removes rules, then it makes new ones.
func (m *Manager) work() {
	m.mu.Lock()
	tasks := m.backlog.next(batchSize)
	m.mu.Unlock()
	exists := m.interfacesOf(tasks) // a look into others' tables, so not under the lock
	m.lockToChange()
	defer m.mu.Unlock()
	replaced := m.end(tasks)
	b := batch{Manager: m}
	for _, t := range tasks {
		// If the NIC keeps the rule of the flow's last verdict, the flow gets no other.
		if f := t.begun; f != nil && exists[f.Key.Interface] && m.rules[f.ID] == nil {
			b.begin(f)
		}
	}
	b.install()
	// The graph takes these for offloaded.
	m.forget(slices.DeleteFunc(replaced, func(r *rule) bool { return m.rules[r.id] != nil }))
	m.backlog.size -= len(tasks)
	if m.backlog.isEmpty() {
		m.offerLate()
	}
}

// interfacesOf says which of the interfaces exist whose flows have begun.
func (m *Manager) interfacesOf(tasks []task) map[uint16]bool {
	exists := map[uint16]bool{}
	for _, t := range tasks {
		if t.begun == nil {
			continue
		}
		index := t.begun.Key.Interface
		if _, known := exists[index]; !known {
			exists[index] = m.cfg.HasInterface(index)
		}
	}
	return exists
}

// end removes the rules of flows that have ended or aged, and those of flows that begin anew, and returns the latter.
// The flow of an aged rule ends in the graph, too: should a packet be on its way, it begins the flow anew.
func (m *Manager) end(tasks []task) (replaced []*rule) {
	var rules, aged []*rule
	seen := map[uint64]struct{}{}
	for _, t := range tasks {
		id := t.id
		if t.begun != nil {
			id = t.begun.ID
			delete(m.waiting, id)
			delete(m.late, id)
		}
		r := m.rules[id]
		_, twice := seen[id]
		if r == nil || twice || t.aged && m.doomed[id] != nil {
			continue
		}
		seen[id] = struct{}{}
		rules = append(rules, r)
		switch {
		case t.begun != nil:
			replaced = append(replaced, r)
		case t.aged:
			aged = append(aged, r)
		}
	}
	m.remove(rules)
	isKept := func(r *rule) bool { return m.rules[r.id] != nil }
	aged = slices.DeleteFunc(aged, isKept)
	m.stats.Aged += uint64(len(aged))
	m.forget(aged)
	return slices.DeleteFunc(replaced, isKept)
}

// batch is the rules that flows get at once. They have their room before they are installed.
type batch struct {
	*Manager
	fresh   []newcomer
	evicted []*rule // rules that made room
}

// newcomer is a rule that is not installed yet.
type newcomer struct {
	*rule
	path *path
	flow *graph.Flow
}

// begin prepares a flow's rule. If there can be none, the flow stays in software: for good if its rule is one that the
// NIC does not know, else until it is offered again.
func (b *batch) begin(f *graph.Flow) {
	if !b.cfg.NIC.Has(f.Verdict.InPort) || !b.cfg.NIC.Has(f.Verdict.TxPort) {
		return
	}
	s := b.share(holderOf(*f))
	if b.isReleased(f.Verdict.InPort) || b.isReleased(f.Verdict.TxPort) {
		b.waiting[f.ID] = s
		return
	}
	if !b.makeRoom(s) {
		b.stats.Limited++
		s.limited++
		b.waiting[f.ID] = s
		b.refused.warn("a flow stays in software: as many rules as may be are in the NIC", "rules", len(b.rules))
		return
	}
	if err := b.prepare(f, s); err != nil {
		b.refuse(f, s, err)
	}
}

func (m *Manager) refuse(f *graph.Flow, s *share, err error) {
	m.stats.Refused++
	if isTransient(err) {
		m.waiting[f.ID] = s
	}
	m.refused.warn("a flow stays in software: the NIC cannot take its rule", "flow", f.Key, "err", err)
}

// prepare makes a flow's rule, and takes its room.
func (b *batch) prepare(f *graph.Flow, s *share) error {
	r := &rule{share: s}
	var mark uint16
	if f.Key.Origin == graph.FromWire {
		var err error
		r.by = &tunnel.Key{Tunnel: f.Tunnel, Inner: etherType(f.Key)}
		if mark, err = b.cfg.Tunnels.Acquire(*r.by); err != nil {
			return err
		}
	}
	r.compact = compactOf(f, mark)
	p := b.newPath(r, b.diverts[r.out])
	straight, err := b.straight(&r.compact)
	if p.via == 0 {
		p.Spec = straight
	}
	if err != nil {
		if r.by != nil {
			b.cfg.Tunnels.Release(*r.by)
		}
		return err
	}
	b.rules[r.id] = r
	s.add(r)
	b.fresh = append(b.fresh, newcomer{r, p, f})
	return nil
}

// install puts the prepared rules into the NIC, and tells the graph, also of the rules that made room.
func (b *batch) install() {
	ops := make([]ruleset.Op, len(b.fresh))
	for i, n := range b.fresh {
		ops[i] = ruleset.Op{Rule: &n.path.Rule}
	}
	failed := map[*ruleset.Rule]error{}
	for _, err := range b.cfg.Rules.ApplyEach(ops) {
		failed[err.Op.Rule] = err
	}
	ids := make([]uint64, 0, len(b.fresh))
	for _, n := range b.fresh {
		if err := failed[&n.path.Rule]; err != nil {
			b.drop(n.rule)
			b.refuse(n.flow, n.share, err)
			continue
		}
		n.paths = []*path{n.path}
		ids = append(ids, n.id)
	}
	b.stats.Created += uint64(len(ids))
	b.fresh = nil
	b.setOffloaded(ids)
	b.takeBack(b.evicted)
	b.evicted = nil
}

// setOffloaded tells the graph of flows that have rules. Those that have ended meanwhile lose them.
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

// takeBack has the graph forward flows again that have lost their rules; their next packets announce them.
func (m *Manager) takeBack(rules []*rule) {
	if len(rules) == 0 {
		return
	}
	ids := idsOf(rules)
	failed := m.failures("take back", ids, m.cfg.Graph.SetOffloaded(ids, false))
	m.waitFor(rules, failed)
}

// forget ends the flows of rules that are gone in the graph, unless they have ended there.
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

// waitFor has flows offered again that the graph could not change, lest they be taken for offloaded for good.
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

// failures are the flows for which the graph has not done what it was told.
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
			m.refused.warn("the graph does not do what flows need", "what", what, "flows", len(failed), "err", err)
			break
		}
	}
	return failed
}

// remove takes rules out of the NIC, and returns those that are gone. Those that the NIC keeps are tried again later.
func (m *Manager) remove(rules []*rule) (removed []*rule) {
	removed, err := m.destroy(rules)
	if err == nil {
		return removed
	}
	m.refused.warn("the NIC does not remove a flow's rule", "err", err)
	for _, r := range rules {
		if m.rules[r.id] == r {
			m.doomed[r.id] = r
		}
	}
	return removed
}

// destroy takes rules out of the NIC, and returns those that are gone. The NIC keeps the others as they are if there is
// an error.
func (m *Manager) destroy(rules []*rule) (removed []*rule, err error) {
	var ops []ruleset.Op
	for _, r := range rules {
		ops = append(ops, r.removeAll()...)
	}
	failed := m.cfg.Rules.ApplyEach(ops)
	removed = make([]*rule, 0, len(rules))
	for _, r := range rules {
		if len(failed) > 0 {
			r.paths = m.installed(r.paths)
		} else {
			r.paths = nil
		}
		if len(r.paths) == 0 {
			m.drop(r)
			removed = append(removed, r)
		}
	}
	if len(failed) > 0 {
		return removed, failed[0]
	}
	return removed, nil
}

// drop gives up the room of a rule that is not in the NIC.
func (m *Manager) drop(r *rule) {
	delete(m.rules, r.id)
	delete(m.doomed, r.id)
	r.share.remove(r)
	if r.by != nil {
		m.cfg.Tunnels.Release(*r.by)
	}
}
