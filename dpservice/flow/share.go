// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
	"time"

	"dpservice/graph"
)

// holder is whose share of the NIC's rules a flow counts to, as in the flow table: a guest's port, and whether the flow
// comes from the guest, or to it from the wire.
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
	rules            []*rule // in no order
	hand             int     // where to look next for one that makes room: it goes round, as a clock's
	evicted, limited uint64
}

func (s *share) add(r *rule) {
	r.place = len(s.rules)
	s.rules = append(s.rules, r)
}

func (s *share) remove(r *rule) {
	end := len(s.rules) - 1
	last := s.rules[end]
	s.rules[r.place], last.place = last, r.place
	s.rules[end] = nil
	s.rules = s.rules[:end]
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
		shares = append(shares, Share{
			Port: h.port, Origin: h.origin, Rules: len(s.rules), Evicted: s.evicted, Limited: s.limited,
		})
	}
	slices.SortFunc(shares, func(a, b Share) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Origin, b.Origin))
	})
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

func (m *Manager) isOwed(s *share) bool { return len(s.rules) < m.Guaranteed() }

// makeRoom has room for another rule of the share. A share below its guarantee takes that of one of the largest share's
// rules, which is a borrower then.
func (b *batch) makeRoom(s *share) bool {
	if len(b.rules) < b.cfg.Max {
		return true
	}
	if !b.isOwed(s) {
		return false
	}
	largest := s
	for _, other := range b.shares {
		if len(other.rules) > len(largest.rules) {
			largest = other
		}
	}
	victim := b.idlest(largest)
	if victim == nil && len(b.fresh) > 0 {
		b.install() // one of these may have to go
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

// sample is how many rules are looked at, of which one has to go.
const sample = 8

// idlest is the installed rule without a packet for the longest time, as far as the NIC tells, of some of the share's:
// each time of others. It is nil if the NIC removes none of them.
func (m *Manager) idlest(s *share) (idlest *rule) {
	longest := time.Duration(-1)
	for range min(sample, len(s.rules)) {
		s.hand = (s.hand + 1) % len(s.rules)
		r := s.rules[s.hand]
		if len(r.paths) == 0 || m.doomed[r.id] != nil {
			continue
		}
		if idle := m.idle(r); idle > longest {
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
