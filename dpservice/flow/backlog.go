// SPDX-License-Identifier: Apache-2.0

package flow

import "container/list"

// backlogMax is how many flows from one port to another may wait for their rule.
const backlogMax = 16384

// portPair is the ports that flows come from and go to.
type portPair struct{ in, out uint16 }

// backlog holds the flows that wait for their rule, and the rules that wait for their removal. It serves the pairs of
// ports round robin, one entry at a time, so that a busy guest does not delay the others. Within a pair, removals come
// first: the NIC forwards packets by an outdated rule until then, while the software forwards a new flow correctly.
type backlog struct {
	pairs      map[portPair]*queues
	roundRobin list.List        // of *queues, the non-empty ones
	flows      map[uint64]*rule // that wait to be installed, by the flow's id
	size       int              // includes the tasks in progress
	tasks      []task           // those in progress, or the last ones
}

type queues struct {
	pair     portPair
	removals []removal
	flows    []*rule // id is 0 if the flow has ended in the meantime
}

func newBacklog() *backlog {
	return &backlog{pairs: map[portPair]*queues{}, flows: map[uint64]*rule{}}
}

// addFlow queues the rule of a flow. It returns false if the queue is full.
func (b *backlog) addFlow(r *rule) bool {
	b.drop(r.id)
	q := b.queues(portPair{r.in, r.out})
	if len(q.flows) >= backlogMax {
		return false
	}
	q.flows = append(q.flows, r)
	b.flows[r.id] = r
	b.size++
	return true
}

// removal is a rule to remove: the graph has reported that its flow has ended, or the NIC that it has aged.
type removal struct {
	rule    *rule
	aged    bool
	reroute *reroute // that may have led the flow elsewhere, or nil
}

func (b *backlog) addRemoval(r removal) {
	q := b.queues(portPair{r.rule.in, r.rule.out})
	q.removals = append(q.removals, r)
	b.size++
}

// drop forgets a flow that waits for its rule.
func (b *backlog) drop(id uint64) {
	if r := b.flows[id]; r != nil {
		delete(b.flows, id)
		r.id = 0
	}
}

func (b *backlog) queues(p portPair) *queues {
	q := b.pairs[p]
	if q == nil {
		q = &queues{pair: p}
		b.pairs[p] = q
		b.roundRobin.PushBack(q)
	}
	return q
}

// ofPort returns the flows from and to a port that wait for their rules.
func (b *backlog) ofPort(port uint16) (flows []*rule) {
	for _, r := range b.flows {
		if r.in == port || r.out == port {
			flows = append(flows, r)
		}
	}
	return flows
}

func (b *backlog) isEmpty() bool { return b.roundRobin.Len() == 0 }

// task is one entry of the backlog: a removal, or the rule of a flow. It is empty if that flow has ended.
type task struct {
	removal
	flow *rule
}

// next takes up to limit tasks out of the backlog. The size counts them until the caller has finished them. They are
// valid until the next ones are taken.
func (b *backlog) next(limit int) []task {
	b.tasks = b.tasks[:0]
	for len(b.tasks) < limit && !b.isEmpty() {
		b.tasks = append(b.tasks, b.one())
	}
	return b.tasks
}

func (b *backlog) one() (t task) {
	first := b.roundRobin.Front()
	q := first.Value.(*queues)
	if len(q.removals) > 0 {
		t.removal, q.removals[0] = q.removals[0], removal{}
		q.removals = q.removals[1:]
	} else {
		if r := q.flows[0]; r.id != 0 {
			t.flow = r
			delete(b.flows, r.id)
		}
		q.flows[0], q.flows = nil, q.flows[1:]
	}
	if len(q.removals)+len(q.flows) > 0 {
		b.roundRobin.MoveToBack(first)
	} else {
		b.roundRobin.Remove(first)
		delete(b.pairs, q.pair)
	}
	return t
}
