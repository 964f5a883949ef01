// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
	"time"

	"dpservice/graph"
)

// holder identifies the share of the NIC's rules that a flow counts to, as in the flow table: a guest's port, and
// whether the flow comes from the guest, or to the guest from the wire.
type holder struct {
	port   uint16
	origin graph.Origin
}

// share is the rules in the NIC that count to one holder.
type share struct {
	flows            *Manager
	rules            []*rule // in no order
	hand             int     // index where the search for a rule to evict continues, as in the clock algorithm
	evicted, limited uint64
}

func (s *share) add(r *rule) {
	r.place = int32(len(s.rules))
	s.rules = append(s.rules, r)
}

func (s *share) remove(r *rule) {
	end := len(s.rules) - 1
	last := s.rules[end]
	s.rules[r.place], last.place = last, r.place
	r.place = dropped
	s.rules[end] = nil
	s.rules = s.rules[:end]
}

// Share describes the rules of one guest in one direction: those for what the guest sends, or for what it receives from
// the wire.
type Share struct {
	Port    uint16
	Origin  graph.Origin
	Rules   int
	Evicted uint64 // rules that were removed to make room for a share below its guarantee
	Limited uint64 // how often a flow stayed in software because there was no room for its rule
}

// Shares returns all shares that have, or had, rules.
func (m *Manager) Shares() []Share {
	m.mu.Lock()
	defer m.mu.Unlock()
	shares := make([]Share, 0, len(m.shares))
	for h, s := range m.shares {
		shares = append(shares, Share{
			Port: h.port, Origin: h.origin, Rules: len(s.rules), Evicted: s.evicted, Limited: s.limited,
		})
	}
	slices.SortFunc(shares, func(a, b Share) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Origin, b.Origin))
	})
	return shares
}

// Guaranteed returns how many rules each share can have regardless of the others.
func (m *Manager) Guaranteed() int { return m.cfg.Max / max(m.cfg.Shares, 1) }

func (m *Manager) share(h holder) *share {
	s := m.shares[h]
	if s == nil {
		s = &share{flows: m}
		m.shares[h] = s
	}
	return s
}

func (m *Manager) isBelowGuarantee(s *share) bool { return len(s.rules) < m.Guaranteed() }

// makeRoom reports whether the share can have another rule. For a share below its guarantee it evicts a rule of the
// largest share, if there is no room: the largest share is above its guarantee then.
func (b *batch) makeRoom(s *share) bool {
	if len(b.rules) < b.cfg.Max {
		return true
	}
	if !b.isBelowGuarantee(s) {
		return false
	}
	largest := s
	for _, other := range b.shares {
		if len(other.rules) > len(largest.rules) {
			largest = other
		}
	}
	victim := b.idlest(largest)
	if victim == nil && len(b.pending) > 0 {
		b.install() // only installed rules can be evicted
		return b.makeRoom(s)
	}
	if victim == nil || len(b.remove([]*rule{victim})) == 0 {
		return false
	}
	largest.evicted++
	b.stats.Evicted++
	b.evicted = append(b.evicted, victim)
	return true
}

// sample is how many rules are compared to find the one to evict.
const sample = 8

// idlest compares the next few installed rules of the share, and returns the one that has seen no packet for the
// longest time, as far as the NIC reports it. It returns nil if none of them can be removed.
func (m *Manager) idlest(s *share) (idlest *rule) {
	longest := time.Duration(-1)
	for range min(sample, len(s.rules)) {
		s.hand = (s.hand + 1) % len(s.rules)
		r := s.rules[s.hand]
		if m.doomed[r.id] != nil || !m.cfg.Rules.Installed(&r.Rule) {
			continue
		}
		if idle := m.idle(r); idle > longest {
			idlest, longest = r, idle
		}
	}
	return idlest
}

// idle returns how long the NIC has seen no packet of a flow, or 0 if the NIC does not report it.
func (m *Manager) idle(r *rule) time.Duration {
	age, err := m.cfg.Rules.Age(&r.Rule)
	if err != nil || !age.IdleKnown {
		return 0
	}
	return age.Idle
}
