// SPDX-License-Identifier: Apache-2.0

// Package tunnel has the NIC decapsulate what comes from the wire: it keeps the rules of the first stage, one for
// each tunnel through which offloaded flows arrive. Packets of other tunnels reach the software as they arrived, with
// their outer headers.
package tunnel

import (
	"errors"
	"math"
	"net/netip"
	"sync"

	"dpservice/graph"
	"dpservice/rteflow/ruleset"
)

// ErrFull says that there are as many tunnels as there are marks.
var ErrFull = errors.New("no mark is left for another tunnel")

// Graph learns which tunnel has a mark. A *nodes.Graph is one.
type Graph interface {
	SetTunnel(mark uint16, t graph.Tunnel) error
}

// NIC writes the rules. A *nic.NIC is one.
type NIC interface {
	// TunnelRule makes the rule that decapsulates a tunnel's packets with this EtherType inside, and gives them a mark.
	TunnelRule(mark uint16, t graph.Tunnel, inner uint16) *ruleset.Rule
}

// Rules are the rules in the NIC. A *ruleset.Set is one.
type Rules interface {
	Apply(ops []ruleset.Op) error
	Installed(r *ruleset.Rule) bool
}

// Config is what a Manager is made of.
type Config struct {
	Graph Graph
	NIC   NIC
	Rules Rules
}

// Key names a rule: a tunnel, and the EtherType of what is inside.
type Key struct {
	graph.Tunnel
	Inner uint16
}

// tunnel is one whose rule is installed.
type tunnel struct {
	mark  uint16
	rule  *ruleset.Rule
	flows int  // offloaded flows that arrive through it
	kept  bool // also without flows
}

// Manager keeps the tunnels' rules. It is safe for concurrent use.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	tunnels map[Key]*tunnel
	marks   map[uint16]struct{} // in use
	next    uint16              // mark to try: one that was given up rests, as packets with it may still be in the NIC
}

// New returns a Manager without tunnels.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, tunnels: map[Key]*tunnel{}, marks: map[uint16]struct{}{}}
}

// Acquire has the NIC decapsulate a tunnel's packets for a flow, and returns the mark that they bear. Flows share a
// tunnel's rule. On an error it is as before; it wraps ErrFull, graph.ErrNotFound if the interface is gone, or the
// driver's refusal.
func (m *Manager) Acquire(k Key) (mark uint16, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.open([]Key{k}); err != nil {
		return 0, err
	}
	t := m.tunnels[k]
	t.flows++
	return t.mark, nil
}

// Release ends a flow's use of a tunnel. Its rule stays until Tidy, for the flow that may come next.
func (m *Manager) Release(k Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tunnels[k]; t != nil {
		t.flows--
	}
}

// Tidy removes the rules of tunnels by which no flow comes. What it cannot remove, it tries again when it is called
// again.
func (m *Manager) Tidy() error {
	return m.remove(func(_ Key, t *tunnel) bool { return t.flows == 0 && !t.kept })
}

// Keep has the NIC decapsulate all packets of a tunnel until RemoveInterface. On an error it is as before.
func (m *Manager) Keep(t graph.Tunnel, inner ...uint16) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []Key
	for _, i := range inner {
		keys = append(keys, Key{t, i})
	}
	if err := m.open(keys); err != nil {
		return err
	}
	for _, k := range keys {
		m.tunnels[k].kept = true
	}
	return nil
}

// RemoveInterface removes the rules of all tunnels to an interface, or on an error none. No offloaded flow may arrive
// through them.
func (m *Manager) RemoveInterface(underlay netip.Addr) error {
	return m.remove(func(k Key, _ *tunnel) bool { return k.Underlay == underlay })
}

// open adds the rules of those tunnels that have none, or of none.
func (m *Manager) open(keys []Key) error {
	defer m.settle(keys)
	var rules []*ruleset.Rule
	for _, k := range keys {
		if m.tunnels[k] != nil {
			continue
		}
		mark, err := m.takeMark()
		if err != nil {
			return err
		}
		t := &tunnel{mark: mark, rule: m.cfg.NIC.TunnelRule(mark, k.Tunnel, k.Inner)}
		m.tunnels[k] = t
		if err := m.cfg.Graph.SetTunnel(mark, k.Tunnel); err != nil {
			return err
		}
		rules = append(rules, t.rule)
	}
	return m.cfg.Rules.Apply(ruleset.Add(rules...))
}

func (m *Manager) remove(which func(Key, *tunnel) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []Key
	var rules []*ruleset.Rule
	for k, t := range m.tunnels {
		if which(k, t) {
			keys, rules = append(keys, k), append(rules, t.rule)
		}
	}
	defer m.settle(keys)
	return m.cfg.Rules.Apply(ruleset.Remove(rules...))
}

// settle forgets the tunnels whose rules are not installed, whatever became of a change.
func (m *Manager) settle(keys []Key) {
	for _, k := range keys {
		if t := m.tunnels[k]; t != nil && !m.cfg.Rules.Installed(t.rule) {
			delete(m.marks, t.mark)
			delete(m.tunnels, k)
		}
	}
}

func (m *Manager) takeMark() (uint16, error) {
	for range math.MaxUint16 + 1 {
		mark := m.next
		m.next++
		if _, used := m.marks[mark]; !used {
			m.marks[mark] = struct{}{}
			return mark, nil
		}
	}
	return 0, ErrFull
}
