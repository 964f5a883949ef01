// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"dpservice/dpservice/tunnel"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// Graph is where flows begin and end. A *nodes.Graph is one.
type Graph interface {
	FlowEvents() <-chan []graph.FlowEvent
	SetOffloaded(ids []uint64, on bool) error
	DeleteFlows(ids []uint64) error
}

// NIC is where the rules are installed. A *nic.NIC is one.
type NIC interface {
	Ports
	// Has reports whether a port can have transfer rules.
	Has(id uint16) bool
	// Aged returns the contexts of rules that have seen no packet for their timeout.
	Aged() ([]uint64, error)
}

// Rules are the rules in the NIC. A *ruleset.Set is one.
type Rules interface {
	Apply(ops []ruleset.Op) error
	Installed(r *ruleset.Rule) bool
	Counters(r *ruleset.Rule) (rteflow.Counters, error)
	Age(r *ruleset.Rule) (rteflow.AgeState, error)
}

// Tunnels have the NIC decapsulate what comes from the wire. A *tunnel.Manager is one.
type Tunnels interface {
	Acquire(k tunnel.Key) (mark uint16, err error)
	Release(k tunnel.Key)
	Tidy() error
}

// Config is what a Manager is made of.
type Config struct {
	Graph   Graph
	NIC     NIC
	Rules   Rules
	Tunnels Tunnels
	// HasInterface reports whether there is an interface with this index.
	HasInterface func(index uint16) bool
	Max          int           // rules at a time
	Shares       int           // that they are divided into: two of each port with a guest
	Timeout      time.Duration // whole seconds
	Log          *slog.Logger
}

// Stats say how the offload fares.
type Stats struct {
	Rules   int    // installed
	Created uint64 // ever
	Aged    uint64
	Refused uint64 // times a flow was left to the software since the NIC refused its rule
	Limited uint64 // and since there was no room for it
	Evicted uint64 // rules that made room for one of another share
	Backlog int    // flows that wait until their rule is made or removed
}

// Manager keeps the NIC's flow rules in step with the graph's flows. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	refused rareLog

	mu        sync.Mutex
	settled   *sync.Cond          // of mu: no diversion is under way
	rules     map[uint64]*rule    // by flow id
	waiting   map[uint64]*share   // of flows without a rule, by flow id, that are to be offered again
	diverts   map[uint16]uint32   // the groups via which packets go to ports, if not straight
	diversion *Diversion          // under way; nil: none
	released  map[uint16]struct{} // ports that flows get no rules from or to
	backlog   *backlog
	shares    map[holder]*share
	stats     Stats
}

// New returns a Manager without rules.
func New(cfg Config) *Manager {
	m := &Manager{
		cfg: cfg, rules: map[uint64]*rule{}, waiting: map[uint64]*share{}, diverts: map[uint16]uint32{},
		released: map[uint16]struct{}{}, shares: map[holder]*share{}, backlog: newBacklog(),
		refused: rareLog{log: cfg.Log, every: 10 * time.Second},
	}
	m.settled = sync.NewCond(&m.mu)
	return m
}

// agePeriod is how often the NIC is asked which rules have aged.
const agePeriod = time.Second

// Run follows the graph's flows until ctx is done. The rules then stay installed.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(agePeriod)
	defer ticker.Stop()
	events := m.cfg.Graph.FlowEvents()
	always := make(chan struct{})
	close(always)
	for {
		var turn <-chan struct{} // never, while nothing waits
		if !m.backlog.isEmpty() {
			turn = always
		}
		select {
		case <-ctx.Done():
			return
		case batch, ok := <-events:
			if !ok {
				return
			}
			m.take(batch)
		case <-ticker.C:
			m.age()
		case <-turn:
			m.work()
		}
	}
}

// take puts events into the backlog. A flow for which there is no place there is offered again later.
func (m *Manager) take(events []graph.FlowEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		id := e.Flow.ID
		if e.Kind == graph.FlowNew {
			if !m.backlog.begin(e.Flow) {
				m.waiting[id] = m.share(holderOf(e.Flow))
			}
			continue
		}
		m.backlog.drop(id)
		delete(m.waiting, id)
		if r := m.rules[id]; r != nil {
			m.backlog.end(lane{r.in, r.out}, ending{id: id})
		}
	}
}

// work does what is next.
func (m *Manager) work() {
	m.mu.Lock()
	e, begun := m.backlog.next()
	m.mu.Unlock()
	defer m.done()
	switch {
	case begun != nil:
		m.handle(graph.FlowEvent{Kind: graph.FlowNew, Flow: *begun})
	case e.aged:
		m.endAged(e.id)
	case e.id != 0:
		m.handle(graph.FlowEvent{Kind: graph.FlowGone, Flow: graph.Flow{ID: e.id}})
	}
}

func (m *Manager) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backlog.size--
}

func (m *Manager) handle(e graph.FlowEvent) {
	// A look into others' tables, so before the lock.
	interfaceExists := m.cfg.HasInterface(e.Flow.Key.Interface)
	m.lockToChange()
	defer m.mu.Unlock()
	delete(m.waiting, e.Flow.ID)
	old := m.rules[e.Flow.ID]
	if old != nil && !m.remove(old) {
		return
	}
	if e.Kind == graph.FlowGone || !interfaceExists {
		return
	}
	m.offload(e.Flow)
	if old != nil && m.rules[e.Flow.ID] == nil {
		m.forget(old) // the graph would take it for offloaded
	}
}

// offload makes a flow's rule, if the NIC will have it. If not, the flow stays in software: for good if its rule is one that
// the NIC does not know, else until it is offered again.
func (m *Manager) offload(f graph.Flow) {
	if !m.cfg.NIC.Has(f.Verdict.InPort) || !m.cfg.NIC.Has(f.Verdict.TxPort) {
		return
	}
	s := m.share(holderOf(f))
	if m.isReleased(f.Verdict.InPort) || m.isReleased(f.Verdict.TxPort) {
		m.waiting[f.ID] = s
		return
	}
	if !m.makeRoom(s) {
		m.stats.Limited++
		s.limited++
		m.waiting[f.ID] = s
		m.refused.warn("a flow stays in software: as many rules as may be stand in the NIC", "rules", len(m.rules))
		return
	}
	if err := m.create(f, s); err != nil {
		m.stats.Refused++
		if isTransient(err) {
			m.waiting[f.ID] = s
		}
		m.refused.warn("a flow stays in software: the NIC cannot take its rule", "flow", f.Key, "err", err)
	}
}

// isTransient reports whether the NIC may take the same rule another time.
func isTransient(err error) bool {
	var refusal *rteflow.Error
	if errors.Is(err, tunnel.ErrFull) {
		return true
	}
	return errors.As(err, &refusal) && refusal.Errno != syscall.ENOTSUP && refusal.Errno != syscall.EINVAL
}

// offersAtOnce bounds what a NIC that refuses everything costs.
const offersAtOnce = 64

// offerAgain has the graph announce flows that wait and for which there is a place, with their next packets.
func (m *Manager) offerAgain() {
	offers, room := offersAtOnce, m.cfg.Max-len(m.rules)
	for id, s := range m.waiting {
		if offers == 0 {
			return
		}
		if room <= 0 && !m.isOwed(s) {
			continue
		}
		offers--
		room--
		if err := m.cfg.Graph.SetOffloaded([]uint64{id}, false); err != nil && !errors.Is(err, graph.ErrNotFound) {
			m.refused.warn("the graph does not offer a flow again", "err", err)
			return // its worker is held up, and each try takes seconds
		}
		delete(m.waiting, id)
	}
}

func (m *Manager) create(f graph.Flow, s *share) error {
	if f.Key.Origin != graph.FromWire {
		return m.createFor(f, s, nil, 0)
	}
	by := &tunnel.Key{Tunnel: f.Tunnel, Inner: etherType(f.Key)}
	mark, err := m.cfg.Tunnels.Acquire(*by)
	if err != nil {
		return err
	}
	if err := m.createFor(f, s, by, mark); err != nil {
		m.cfg.Tunnels.Release(*by)
		return err
	}
	return nil
}

// createFor makes the rule of a flow that comes by a tunnel with a mark, or from a guest.
func (m *Manager) createFor(f graph.Flow, s *share, by *tunnel.Key, mark uint16) error {
	spec, err := ruleFor(m.cfg.NIC, f, mark, uint32(m.cfg.Timeout/time.Second))
	if err != nil {
		return err
	}
	r := &rule{id: f.ID, in: f.Verdict.InPort, out: f.Verdict.TxPort, by: by, straight: spec, share: s}
	p := r.newPath(m.diverts[r.out])
	if err := m.cfg.Rules.Apply(ruleset.Add(&p.Rule)); err != nil {
		return err
	}
	r.paths = []*path{p}
	m.rules[r.id] = r
	r.place = s.rules.PushBack(r)
	m.stats.Created++
	if err := m.cfg.Graph.SetOffloaded([]uint64{f.ID}, true); err != nil {
		if m.remove(r) && !errors.Is(err, graph.ErrNotFound) {
			m.waiting[f.ID] = s
		} // else the flow has ended meanwhile
	}
	return nil
}

// remove takes a rule out of the NIC. If that fails it is tried again later.
func (m *Manager) remove(r *rule) bool {
	err := m.destroy(r)
	if err != nil {
		r.doomed = true
		m.refused.warn("the NIC does not remove a flow's rule", "err", err)
	}
	return err == nil
}

// destroy takes a rule out of the NIC, or leaves it as it is.
func (m *Manager) destroy(r *rule) error {
	if err := m.cfg.Rules.Apply(r.removeAll()); err != nil {
		if r.paths = m.installed(r.paths); len(r.paths) > 0 {
			return err
		}
	}
	delete(m.rules, r.id)
	r.share.rules.Remove(r.place)
	if r.by != nil {
		m.cfg.Tunnels.Release(*r.by)
	}
	return nil
}

// endAged ends a flow whose rule has seen no packet for the timeout. Should one be on its way, it begins the flow anew.
func (m *Manager) endAged(id uint64) {
	m.lockToChange()
	defer m.mu.Unlock()
	if r := m.rules[id]; r != nil && !r.doomed && m.remove(r) {
		m.stats.Aged++
		m.forget(r)
	}
}

// age finds the rules that have aged, and tries again what the NIC has refused.
func (m *Manager) age() {
	m.lockToChange()
	defer m.mu.Unlock()
	aged, err := m.cfg.NIC.Aged()
	if err != nil {
		m.refused.warn("the NIC does not tell which rules have aged", "err", err)
	}
	for _, id := range aged {
		if r := m.rules[id]; r != nil && !r.doomed {
			m.backlog.end(lane{r.in, r.out}, ending{id, true})
		}
	}
	for _, r := range m.rules {
		if r.doomed && m.remove(r) {
			m.forget(r)
		}
	}
	if err := m.cfg.Tunnels.Tidy(); err != nil {
		m.refused.warn("the NIC does not remove the rule of a tunnel by which no flow comes", "err", err)
	}
	m.offerAgain()
}

// forget ends the flow of a rule that is gone in the graph, unless it has ended there. One that the graph cannot end is offered
// again, lest it be taken for offloaded for good.
func (m *Manager) forget(r *rule) {
	delete(m.waiting, r.id)
	if err := m.cfg.Graph.DeleteFlows([]uint64{r.id}); err != nil && !errors.Is(err, graph.ErrNotFound) {
		m.waiting[r.id] = r.share
		m.refused.warn("the graph does not forget a flow", "err", err)
	}
}

// Release is a port that flows get no rules from or to, until either Commit or Abort is called, once.
type Release struct {
	flows *Manager
	port  uint16
}

// ReleasePort removes the rules of all flows from and to a port, and keeps new ones from being made until the Release is ended: flows
// that begin meanwhile stay in software and are offered again. On an error the port is not released, and the flows
// that have lost their rules begin anew with their next packet.
func (m *Manager) ReleasePort(id uint16) (*Release, error) {
	m.lockToChange()
	defer m.mu.Unlock()
	for _, r := range m.rules {
		if r.in != id && r.out != id {
			continue
		}
		if err := m.destroy(r); err != nil {
			return nil, err
		}
		m.forget(r)
	}
	for _, f := range m.backlog.dropPort(id) {
		m.waiting[f.ID] = m.share(holderOf(f))
	}
	m.released[id] = struct{}{}
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

// Count adds to a flow's counters what the NIC has forwarded.
func (m *Manager) Count(f *graph.Flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rules[f.ID]
	if r == nil {
		return
	}
	c := m.counted(r)
	f.Packets += c.Packets
	f.Bytes += c.Bytes
	for _, p := range r.paths {
		if age, err := m.cfg.Rules.Age(&p.Rule); err == nil && age.IdleKnown {
			f.Idle = min(f.Idle, age.Idle)
		}
	}
}

// Stats returns the counters.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Rules, s.Backlog = len(m.rules), m.backlog.size
	return s
}
