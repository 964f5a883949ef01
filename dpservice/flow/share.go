// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"container/list"
	"errors"
	"slices"
	"time"

	"dpservice/graph"
)

// holder is whose share of the NIC's rules a flow counts to, as in the flow table: a guest's port, and whether the flow comes
// from the guest, or to it from the wire.
type holder struct {
	port   uint16
	origin graph.Origin
}

func holderOf(f graph.Flow) holder {
	if f.Key.Origin == graph.FromWire {
		return holder{f.Verdict.TxPort, graph.FromWire}
	}
	return holder{f.Verdict.InPort, graph.FromGuest}
}

// share is what a holder has of the NIC's rules.
type share struct {
	rules            list.List // of *rule, the oldest first, but for those that were looked at to make room
	evicted, limited uint64
}

// Share tells of a share. It belongs to a port's guest: to what that sends, or to what comes to it from the wire.
type Share struct {
	Port    uint16
	Origin  graph.Origin
	Rules   int
	Evicted uint64 // rules that lost their borrowed places
	Limited uint64 // times a flow was left to the software since there was no place for its rule
}

// Shares are those of all that have, or had, rules.
func (m *Manager) Shares() []Share {
	m.mu.Lock()
	defer m.mu.Unlock()
	shares := make([]Share, 0, len(m.shares))
	for h, s := range m.shares {
		shares = append(shares, Share{Port: h.port, Origin: h.origin, Rules: s.rules.Len(), Evicted: s.evicted, Limited: s.limited})
	}
	slices.SortFunc(shares, func(a, b Share) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Origin, b.Origin)) })
	return shares
}

// Guaranteed is how many rules each share gets whatever others have.
func (m *Manager) Guaranteed() int { return m.cfg.Max / max(m.cfg.Shares, 1) }

func (m *Manager) share(h holder) *share {
	s := m.shares[h]
	if s == nil {
		s = &share{}
		m.shares[h] = s
	}
	return s
}

func (m *Manager) isOwed(s *share) bool { return s.rules.Len() < m.Guaranteed() }

// makeRoom has a place for another rule of the share. A share below its guarantee takes one of the largest share's, which is a
// borrower then.
func (m *Manager) makeRoom(s *share) bool {
	if len(m.rules) < m.cfg.Max {
		return true
	}
	if !m.isOwed(s) {
		return false
	}
	largest := s
	for _, other := range m.shares {
		if other.rules.Len() > largest.rules.Len() {
			largest = other
		}
	}
	victim := m.idlest(largest)
	if victim == nil || !m.remove(victim) {
		return false
	}
	largest.evicted++
	m.stats.Evicted++
	if err := m.cfg.Graph.SetOffloaded([]uint64{victim.id}, false); err != nil && !errors.Is(err, graph.ErrNotFound) {
		m.refused.warn("the graph does not take a flow back", "err", err)
	}
	return true
}

// sample is how many rules are looked at, of which one has to go.
const sample = 8

// idlest is the rule without a packet for the longest time, as far as the NIC tells, of those that are first in the share's
// list: they go to its end. It is nil if the NIC removes none of them.
func (m *Manager) idlest(s *share) (idlest *rule) {
	longest := time.Duration(-1)
	for range min(sample, s.rules.Len()) {
		first := s.rules.Front()
		s.rules.MoveToBack(first)
		r := first.Value.(*rule)
		if idle := m.idle(r); !r.doomed && idle > longest {
			idlest, longest = r, idle
		}
	}
	return idlest
}

// idle is how long the NIC has seen no packet of a flow, 0 if it does not tell.
func (m *Manager) idle(r *rule) time.Duration {
	for _, p := range r.paths {
		if age, err := m.cfg.Rules.Age(&p.Rule); err == nil && age.IdleKnown {
			return age.Idle
		}
	}
	return 0
}
