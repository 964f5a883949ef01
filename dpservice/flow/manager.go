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

// Graph reports the flows that begin and end. *nodes.Graph implements it.
type Graph interface {
	FlowEvents() <-chan []graph.FlowEvent // each batch is valid until the next one is taken
	SetOffloaded(ids []uint64, on bool) error
	DeleteFlows(ids []uint64) error
	Generation() uint32
}

// NIC is where the rules are installed. *nic.NIC implements it.
type NIC interface {
	Ports
	// Has reports whether a port can have transfer rules.
	Has(id uint16) bool
	// Aged returns the contexts of rules that have seen no packet for their timeout.
	Aged() ([]uint64, error)
}

// Rules are the rules in the NIC. *ruleset.Set implements it.
type Rules interface {
	ApplyEach(ops []ruleset.Op) []*ruleset.ApplyError
	Installed(r *ruleset.Rule) bool
	Counters(r *ruleset.Rule) (rteflow.Counters, error)
	Age(r *ruleset.Rule) (rteflow.AgeState, error)
}

// Tunnels make the NIC decapsulate packets from the wire. *tunnel.Manager implements it.
type Tunnels interface {
	Acquire(k tunnel.Key) (mark uint16, err error)
	Release(k tunnel.Key)
	Tidy() error
}

// Config is what a Manager needs.
type Config struct {
	Graph   Graph
	NIC     NIC
	Rules   Rules
	Tunnels Tunnels
	// HasInterface reports whether there is an interface with this index.
	HasInterface func(index uint16) bool
	Max          int           // the largest number of rules
	Shares       int           // how many shares Max is divided into: two for each port with a guest
	Timeout      time.Duration // whole seconds
	Log          *slog.Logger
}

// Stats are the counters of the offload.
type Stats struct {
	Rules   int    // installed now
	Created uint64 // rules, in total
	Aged    uint64 // rules, in total
	Refused uint64 // how often a flow stayed in software because the NIC refused its rule
	Limited uint64 // how often a flow stayed in software because there was no room for its rule
	Evicted uint64 // rules that were removed to make room for another share
	Backlog int    // flows whose rule waits to be installed or removed, or that the graph has to forget
}

// Manager keeps the NIC's flow rules in step with the graph's flows. It is safe for concurrent use.
type Manager struct {
	cfg Config
	log rareLog

	mu        sync.Mutex
	rules     map[uint64]*rule            // by flow id
	doomed    map[uint64]*rule            // by flow id: rules whose removal the NIC has refused; it is tried again
	waiting   map[uint64]*share           // by flow id: flows without a rule that are to be offered again
	late      map[uint64]struct{}         // ids of flows that found the backlog full; they are offered once it is empty
	released  map[uint16]struct{}         // ports whose flows get no rules
	unruled   []*rule                     // removed ones; the graph believes that their flows are offloaded
	detours   []*ruleset.Rule             // that the NIC has refused to remove; it is tried again
	templates map[shape]*rteflow.Template // of the shapes, of which there are few, so that none is forgotten
	backlog   *backlog
	shares    map[holder]*share
	stats     Stats

	reroutes   []*reroute    // the oldest first
	resolved   uint32        // by which generation the graph has resolved all flows
	departures []*departure  // from uplinks
	reminder   chan struct{} // has an element while there are departures or unruled flows
}

// New returns a Manager without rules.
func New(cfg Config) *Manager {
	return &Manager{
		cfg: cfg, rules: map[uint64]*rule{}, doomed: map[uint64]*rule{}, waiting: map[uint64]*share{},
		late: map[uint64]struct{}{}, released: map[uint16]struct{}{}, templates: map[shape]*rteflow.Template{},
		shares: map[holder]*share{}, backlog: newBacklog(), reminder: make(chan struct{}, 1),
		log: rareLog{log: cfg.Log, every: 10 * time.Second},
	}
}

// agePeriod is how often the NIC is asked which rules have aged.
const agePeriod = time.Second

// Run installs and removes rules as the graph's flows begin and end, until ctx is done. The rules stay installed then.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(agePeriod)
	defer ticker.Stop()
	events := m.cfg.Graph.FlowEvents()
	always := make(chan struct{})
	close(always)
	for {
		var ready <-chan struct{} // nil, which blocks, while the backlog is empty
		if !m.backlog.isEmpty() {
			ready = always
		}
		select {
		case <-ctx.Done():
			return
		case batch, ok := <-events:
			if !ok {
				return
			}
			m.take(batch)
		case <-m.reminder:
			m.catchUp()
		case <-ticker.C:
			m.age()
		case <-ready:
			m.work()
		}
	}
}

// take puts events into the backlog. A flow that finds the backlog full is offered again later.
func (m *Manager) take(events []graph.FlowEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range events {
		switch f := &events[i].Flow; events[i].Kind {
		case graph.FlowNew:
			if !m.backlog.addFlow(newRule(f)) {
				m.late[f.ID] = struct{}{}
			}
		case graph.FlowGone:
			m.takeGone(f.ID)
		case graph.FlowsResolved:
			m.resolved = events[i].Generation
			m.endReroutes()
		}
	}
}

func (m *Manager) takeGone(id uint64) {
	m.backlog.drop(id)
	delete(m.waiting, id)
	delete(m.late, id)
	if r := m.rules[id]; r != nil {
		m.backlog.addRemoval(removal{rule: r, reroute: m.outdate(r)})
	}
}

// isTransient reports whether the NIC may accept the same rule later.
func isTransient(err error) bool {
	var refusal *rteflow.Error
	if errors.Is(err, tunnel.ErrFull) {
		return true
	}
	return errors.As(err, &refusal) && refusal.Errno != syscall.ENOTSUP && refusal.Errno != syscall.EINVAL
}

// offersAtOnce limits the work that repeats when a NIC refuses all rules.
const offersAtOnce = 64

// offerAgain makes the graph announce waiting flows again with their next packets, as far as there is room for rules.
func (m *Manager) offerAgain() {
	var ids []uint64
	room := m.cfg.Max - len(m.rules)
	for id, s := range m.waiting {
		if len(ids) == offersAtOnce {
			break
		}
		if room > 0 || m.isBelowGuarantee(s) {
			ids = append(ids, id)
			room--
		}
	}
	for _, id := range m.offer(ids) {
		delete(m.waiting, id)
	}
	m.offerLate()
}

// offerLate makes the graph announce the flows again that found the backlog full.
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

// offer makes the graph announce flows again. It returns the flows for which that succeeded, or that have ended. The
// workers of the other flows did not accept the request.
func (m *Manager) offer(ids []uint64) []uint64 {
	if len(ids) == 0 {
		return nil
	}
	failed := m.failures("offer again", ids, m.cfg.Graph.SetOffloaded(ids, false))
	return slices.DeleteFunc(ids, func(id uint64) bool {
		return failed[id] != nil && !errors.Is(failed[id], graph.ErrNotFound)
	})
}

// age queues the removal of aged rules, and tries again what the NIC has refused before.
func (m *Manager) age() {
	m.mu.Lock()
	defer m.mu.Unlock()
	aged, err := m.cfg.NIC.Aged()
	if err != nil {
		m.log.warn("the NIC does not tell which rules have aged", "err", err)
	}
	for _, id := range aged {
		// The NIC reports an aged rule each time until it is removed.
		if r := m.rules[id]; r != nil && !r.aged && m.doomed[id] == nil {
			r.aged = true
			m.backlog.addRemoval(removal{rule: r, aged: true})
		}
	}
	m.forget(m.remove(slices.Collect(maps.Values(m.doomed))))
	m.endDetours(nil)
	if err := m.cfg.Tunnels.Tidy(); err != nil {
		m.log.warn("the NIC does not remove the rule of a tunnel by which no flow comes", "err", err)
	}
	m.offerAgain()
}

// Count adds what the NIC has forwarded to the counters of flows.
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
	if c, err := m.cfg.Rules.Counters(&r.Rule); err == nil {
		f.Packets += c.Packets
		f.Bytes += c.Bytes
	}
	if age, err := m.cfg.Rules.Age(&r.Rule); err == nil && age.IdleKnown {
		f.Idle = min(f.Idle, age.Idle)
	}
}

// Stats returns the counters.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Rules, s.Backlog = len(m.rules), m.backlog.size+len(m.unruled)
	return s
}
