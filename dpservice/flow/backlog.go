// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"container/list"

	"dpservice/graph"
)

// backlogMax is how many flows from one port to another may wait for their rule.
const backlogMax = 16384

// portPair is the ports that flows come from and go to.
type portPair struct{ in, out uint16 }

// backlog holds the flows that wait for their rule, and the rules that wait for their removal. It serves the pairs of
// ports round robin, one entry at a time, so that a busy guest does not delay the others. Within a pair, removals come
// first: the NIC forwards packets by an outdated rule until then, while the software forwards a new flow correctly.
type backlog struct {
	pairs      map[portPair]*queues
	roundRobin list.List              // of *queues, the non-empty ones
	flows      map[uint64]*graph.Flow // the flows that wait for their rule, by id
	size       int                    // includes the tasks in progress
}

type queues struct {
	pair     portPair
	removals []removal
	flows    []*graph.Flow // ID is 0 if the flow has ended in the meantime
}

func newBacklog() *backlog {
	return &backlog{pairs: map[portPair]*queues{}, flows: map[uint64]*graph.Flow{}}
}

// addFlow queues a flow that needs a rule. It returns false if the queue is full. The backlog keeps the flow.
func (b *backlog) addFlow(f *graph.Flow) bool {
	b.drop(f.ID)
	q := b.queues(portPair{f.Verdict.InPort, f.Verdict.TxPort})
	if len(q.flows) >= backlogMax {
		return false
	}
	q.flows = append(q.flows, f)
	b.flows[f.ID] = f
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
	if f := b.flows[id]; f != nil {
		delete(b.flows, id)
		f.ID = 0
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

// dropPort forgets the flows from and to a port that wait for their rules, and returns them.
func (b *backlog) dropPort(port uint16) (flows []graph.Flow) {
	for _, f := range b.flows {
		if f.Verdict.InPort == port || f.Verdict.TxPort == port {
			flows = append(flows, *f)
		}
	}
	for _, f := range flows {
		b.drop(f.ID)
	}
	return flows
}

func (b *backlog) isEmpty() bool { return b.roundRobin.Len() == 0 }

// task is one entry of the backlog: a removal, or a flow that needs a rule. It is empty if that flow has ended.
type task struct {
	removal
	flow *graph.Flow
}

// next takes up to limit tasks out of the backlog. The size counts them until the caller has finished them.
func (b *backlog) next(limit int) (tasks []task) {
	for len(tasks) < limit && !b.isEmpty() {
		tasks = append(tasks, b.one())
	}
	return tasks
}

func (b *backlog) one() (t task) {
	first := b.roundRobin.Front()
	q := first.Value.(*queues)
	if len(q.removals) > 0 {
		t.removal, q.removals[0] = q.removals[0], removal{}
		q.removals = q.removals[1:]
	} else {
		if f := q.flows[0]; f.ID != 0 {
			t.flow = f
			delete(b.flows, f.ID)
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
