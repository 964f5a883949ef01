// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
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
	ApplyEach(ops []ruleset.Op) []*ruleset.ApplyError
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
	doomed    map[uint64]*rule    // those that should be gone, but that the NIC would not remove
	waiting   map[uint64]*share   // of flows without a rule, by flow id, that are to be offered again
	late      map[uint64]struct{} // flows that found the backlog full: to be offered again when it is empty
	diverts   map[uint16]uint32   // the groups that packets to ports pass on their way
	diversion *Diversion          // under way; nil: none
	released  map[uint16]struct{} // ports that flows get no rules from or to
	backlog   *backlog
	shares    map[holder]*share
	stats     Stats
}

// New returns a Manager without rules.
func New(cfg Config) *Manager {
	m := &Manager{
		cfg: cfg, rules: map[uint64]*rule{}, doomed: map[uint64]*rule{}, waiting: map[uint64]*share{},
		late: map[uint64]struct{}{}, diverts: map[uint16]uint32{},
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

// take puts events into the backlog. A flow for which there is no room there is offered again later.
func (m *Manager) take(events []graph.FlowEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range events {
		f := &events[i].Flow
		if events[i].Kind == graph.FlowNew {
			if !m.backlog.begin(f) {
				m.late[f.ID] = struct{}{}
			}
			continue
		}
		m.backlog.drop(f.ID)
		delete(m.waiting, f.ID)
		delete(m.late, f.ID)
		if r := m.rules[f.ID]; r != nil {
			m.backlog.end(lane{r.in, r.out}, ending{id: f.ID})
		}
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

// offerAgain has the graph announce flows that wait and for which there is room, with their next packets.
func (m *Manager) offerAgain() {
	var ids []uint64
	room := m.cfg.Max - len(m.rules)
	for id, s := range m.waiting {
		if len(ids) == offersAtOnce {
			break
		}
		if room > 0 || m.isOwed(s) {
			ids = append(ids, id)
			room--
		}
	}
	for _, id := range m.offer(ids) {
		delete(m.waiting, id)
	}
	m.offerLate()
}

// offerLate has the graph announce flows that found the backlog full.
func (m *Manager) offerLate() {
	var ids []uint64
	for id := range m.late {
		if len(ids) == backlogMax {
			break
		}
		ids = append(ids, id)
	}
	for _, id := range m.offer(ids) {
		delete(m.late, id)
	}
}

// offer has the graph announce flows. It returns those that are announced or have ended: the workers of the others are
// held up.
func (m *Manager) offer(ids []uint64) []uint64 {
	if len(ids) == 0 {
		return nil
	}
	failed := m.failures("offer again", ids, m.cfg.Graph.SetOffloaded(ids, false))
	return slices.DeleteFunc(ids, func(id uint64) bool {
		return failed[id] != nil && !errors.Is(failed[id], graph.ErrNotFound)
	})
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
		// The NIC tells of it until the rule is removed.
		if r := m.rules[id]; r != nil && !r.aged && m.doomed[id] == nil {
			r.aged = true
			m.backlog.end(lane{r.in, r.out}, ending{id, true})
		}
	}
	m.forget(m.remove(slices.Collect(maps.Values(m.doomed))))
	if err := m.cfg.Tunnels.Tidy(); err != nil {
		m.refused.warn("the NIC does not remove the rule of a tunnel by which no flow comes", "err", err)
	}
	m.offerAgain()
}

// Count adds to flows' counters what the NIC has forwarded of them.
func (m *Manager) Count(flows []graph.Flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range flows {
		if r := m.rules[flows[i].ID]; r != nil {
			m.countOne(&flows[i], r)
		}
	}
}

func (m *Manager) countOne(f *graph.Flow, r *rule) {
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
