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

// Graph is where flows begin and end. A *graph.Graph is one.
type Graph interface {
	FlowEvents() <-chan graph.FlowEvent
	SetOffloaded(id uint64, on bool) error
	DeleteFlow(id uint64) error
}

// NIC is where the rules stand. A *nic.NIC is one.
type NIC interface {
	Ports
	// Has reports whether transfer rules can stand on a port.
	Has(id uint16) bool
	// Aged returns the contexts of rules that have seen no packet for their timeout.
	Aged() ([]uint64, error)
}

// Rules are the rules in the NIC. A *ruleset.Set is one.
type Rules interface {
	Apply(ops []ruleset.Op) error
	Has(port uint16, name string) bool
	Counters(port uint16, name string) (rteflow.Counters, error)
	Age(port uint16, name string) (rteflow.AgeState, error)
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
	Timeout      time.Duration // whole seconds
	Log          *slog.Logger
}

// Stats say how the offload fares.
type Stats struct {
	Rules   int    // that stand
	Created uint64 // ever
	Aged    uint64
	Refused uint64 // times a flow was left to the software since the NIC refused its rule
	Limited uint64 // and since there were Max rules
}

// Manager keeps the NIC's flow rules in step with the graph's flows. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	refused rareLog

	mu      sync.Mutex
	rules   map[uint64]*rule    // by flow id
	waiting map[uint64]struct{} // ids of flows in software that the NIC may take later
	diverts map[uint16]uint32   // the groups that packets to ports pass on their way
	stats   Stats
}

// New returns a Manager without rules.
func New(cfg Config) *Manager {
	return &Manager{
		cfg: cfg, rules: map[uint64]*rule{}, waiting: map[uint64]struct{}{}, diverts: map[uint16]uint32{},
		refused: rareLog{log: cfg.Log, every: 10 * time.Second},
	}
}

// agePeriod is how often the NIC is asked which rules have aged.
const agePeriod = time.Second

// Run follows the graph's flows until ctx is done. The rules that stand then stay.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(agePeriod)
	defer ticker.Stop()
	events := m.cfg.Graph.FlowEvents()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			m.handle(e)
		case <-ticker.C:
			m.age()
		}
	}
}

func (m *Manager) handle(e graph.FlowEvent) {
	// A look into others' tables, so before the lock.
	interfaceExists := m.cfg.HasInterface(e.Flow.Key.Interface)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiting, e.Flow.ID)
	old := m.rules[e.Flow.ID]
	if old != nil && !m.remove(old) {
		return
	}
	if e.Kind == graph.FlowGone || !interfaceExists {
		return
	}
	// A flow that comes again has another verdict. Until its new rule stands, the software does the right thing.
	m.offload(e.Flow)
	if old != nil && m.rules[e.Flow.ID] == nil {
		m.forget(e.Flow.ID) // the graph would take it for offloaded
	}
}

// offload makes a flow's rule, if the NIC will have it. If not, the flow stays in software: for good if its rule is one that
// the NIC does not know, else until it is offered again.
func (m *Manager) offload(f graph.Flow) {
	if !m.cfg.NIC.Has(f.Verdict.InPort) || !m.cfg.NIC.Has(f.Verdict.TxPort) {
		return
	}
	if len(m.rules) >= m.cfg.Max {
		m.stats.Limited++
		m.waiting[f.ID] = struct{}{}
		m.refused.warn("a flow stays in software: as many rules as may be stand in the NIC", "rules", len(m.rules))
		return
	}
	if err := m.create(f); err != nil {
		m.stats.Refused++
		if isTransient(err) {
			m.waiting[f.ID] = struct{}{}
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

// offerAgain has the graph announce flows that wait, with their next packets.
func (m *Manager) offerAgain() {
	offers := min(offersAtOnce, m.cfg.Max-len(m.rules))
	for id := range m.waiting {
		if offers <= 0 {
			return
		}
		offers--
		delete(m.waiting, id)
		if err := m.cfg.Graph.SetOffloaded(id, false); err != nil && !errors.Is(err, graph.ErrNotFound) {
			m.refused.warn("the graph does not offer a flow again", "err", err)
		}
	}
}

func (m *Manager) create(f graph.Flow) error {
	if f.Key.Origin != graph.FromWire {
		return m.createFor(f, nil, 0)
	}
	by := &tunnel.Key{Tunnel: f.Tunnel, Inner: etherType(f.Key)}
	mark, err := m.cfg.Tunnels.Acquire(*by)
	if err != nil {
		return err
	}
	if err := m.createFor(f, by, mark); err != nil {
		m.cfg.Tunnels.Release(*by)
		return err
	}
	return nil
}

// createFor makes the rule of a flow that comes by a tunnel with a mark, or from a guest.
func (m *Manager) createFor(f graph.Flow, by *tunnel.Key, mark uint16) error {
	spec, err := ruleFor(m.cfg.NIC, f, mark, uint32(m.cfg.Timeout/time.Second))
	if err != nil {
		return err
	}
	r := &rule{id: f.ID, in: f.Verdict.InPort, out: f.Verdict.TxPort, by: by, straight: spec}
	group := m.diverts[r.out]
	if err := m.cfg.Rules.Apply([]ruleset.Op{r.add(group)}); err != nil {
		return err
	}
	r.ways = []uint32{group}
	m.rules[r.id] = r
	m.stats.Created++
	if err := m.cfg.Graph.SetOffloaded(f.ID, true); err != nil {
		m.remove(r) // the flow has ended meanwhile
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
	if err := m.cfg.Rules.Apply(r.removeBut(none)); err != nil {
		if r.ways = m.standing(r, r.ways); len(r.ways) > 0 {
			return err
		}
	}
	delete(m.rules, r.id)
	if r.by != nil {
		m.cfg.Tunnels.Release(*r.by)
	}
	return nil
}

// age ends the flows whose rules have seen no packet for the timeout. Should one be on its way, it begins the flow anew.
func (m *Manager) age() {
	m.mu.Lock()
	defer m.mu.Unlock()
	aged, err := m.cfg.NIC.Aged()
	if err != nil {
		m.refused.warn("the NIC does not tell which rules have aged", "err", err)
	}
	for _, id := range aged {
		if r := m.rules[id]; r != nil && !r.doomed && m.remove(r) {
			m.stats.Aged++
			m.forget(id)
		}
	}
	for id, r := range m.rules {
		if r.doomed && m.remove(r) {
			m.forget(id)
		}
	}
	if err := m.cfg.Tunnels.Tidy(); err != nil {
		m.refused.warn("the NIC does not remove the rule of a tunnel by which no flow comes", "err", err)
	}
	m.offerAgain()
}

// forget ends a flow in the graph, unless it has ended there.
func (m *Manager) forget(id uint64) {
	delete(m.waiting, id)
	if err := m.cfg.Graph.DeleteFlow(id); err != nil && !errors.Is(err, graph.ErrNotFound) {
		m.refused.warn("the graph does not forget a flow", "err", err)
	}
}

// ReleasePort removes the rules of all flows that come from or go to a port and, before new ones can come, does what
// the port is released for. Flows that then go there go straight. If a rule cannot be removed, that is not done, and the flows
// that have lost theirs begin anew with their next packet: so they do if it fails.
func (m *Manager) ReleasePort(id uint16, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rules {
		if r.in != id && r.out != id {
			continue
		}
		if err := m.destroy(r); err != nil {
			return err
		}
		m.forget(r.id)
	}
	err := do()
	if err == nil {
		delete(m.diverts, id)
	}
	return err
}

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
	for _, group := range r.ways {
		if age, err := m.cfg.Rules.Age(r.in, r.name(group)); err == nil && age.IdleKnown {
			f.Idle = min(f.Idle, age.Idle)
		}
	}
}

// Stats returns the counters.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Rules = len(m.rules)
	return s
}
