// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"container/list"

	"dpservice/graph"
)

// backlogMax is how many flows from one port to another may wait for their rule.
const backlogMax = 16384

// lane is the way of flows from one port to another.
type lane struct{ in, out uint16 }

// backlog is what is to be done about flows. The lanes take turns: however much a guest has to be done for its flows,
// others wait for one turn of each lane. In a lane the flows that have gone come first: the NIC does the wrong thing to
// their packets, while the software does the right thing to those of new ones.
type backlog struct {
	lanes map[lane]*queues
	turns list.List              // of the *queues that are not empty
	begun map[uint64]*graph.Flow // those that wait for their rule, by id
	size  int                    // with what is being done
}

type queues struct {
	lane  lane
	gone  []ending
	begun []*graph.Flow // an ID of 0: it has gone meanwhile
}

func newBacklog() *backlog {
	return &backlog{lanes: map[lane]*queues{}, begun: map[uint64]*graph.Flow{}}
}

// begin has a flow wait for its rule. False: too many do. The backlog keeps the flow.
func (b *backlog) begin(f *graph.Flow) bool {
	b.drop(f.ID)
	q := b.queues(lane{f.Verdict.InPort, f.Verdict.TxPort})
	if len(q.begun) >= backlogMax {
		return false
	}
	q.begun = append(q.begun, f)
	b.begun[f.ID] = f
	b.size++
	return true
}

// ending is a rule that is to go, since the graph has told that its flow has gone, or the NIC that it has aged.
type ending struct {
	id   uint64
	aged bool
}

// end has a rule in this lane wait for its end.
func (b *backlog) end(l lane, e ending) {
	q := b.queues(l)
	q.gone = append(q.gone, e)
	b.size++
}

// drop forgets a flow that waits for its rule.
func (b *backlog) drop(id uint64) {
	if f := b.begun[id]; f != nil {
		delete(b.begun, id)
		f.ID = 0
	}
}

func (b *backlog) queues(l lane) *queues {
	q := b.lanes[l]
	if q == nil {
		q = &queues{lane: l}
		b.lanes[l] = q
		b.turns.PushBack(q)
	}
	return q
}

// dropPort forgets the flows from and to a port that wait for their rules, and returns them.
func (b *backlog) dropPort(port uint16) (flows []graph.Flow) {
	for _, f := range b.begun {
		if f.Verdict.InPort == port || f.Verdict.TxPort == port {
			flows = append(flows, *f)
		}
	}
	for _, f := range flows {
		b.drop(f.ID)
	}
	return flows
}

func (b *backlog) isEmpty() bool { return b.turns.Len() == 0 }

// task is what is to be done about a flow: its rule is to go, or it is to have one. Neither: the flow has gone.
type task struct {
	ending
	begun *graph.Flow
}

// next takes up to so many tasks out of the backlog. They count to its size until they are done.
func (b *backlog) next(most int) (tasks []task) {
	for len(tasks) < most && !b.isEmpty() {
		tasks = append(tasks, b.one())
	}
	return tasks
}

func (b *backlog) one() (t task) {
	first := b.turns.Front()
	q := first.Value.(*queues)
	if len(q.gone) > 0 {
		t.ending, q.gone = q.gone[0], q.gone[1:]
	} else {
		if f := q.begun[0]; f.ID != 0 {
			t.begun = f
			delete(b.begun, f.ID)
		}
		q.begun[0], q.begun = nil, q.begun[1:]
	}
	if len(q.gone)+len(q.begun) > 0 {
		b.turns.MoveToBack(first)
	} else {
		b.turns.Remove(first)
		delete(b.lanes, q.lane)
	}
	return t
}
