// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"log/slog"
	"testing"
	"time"

	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// encodingNIC encodes rules as the real one does, and has no NIC behind.
type encodingNIC struct {
	fakeNIC
	last rteflow.Handle
}

func (n *encodingNIC) CreateBatch(_ uint16, rules []rteflow.Rule) ([]rteflow.Handle, error) {
	if err := rteflow.Encode(rules); err != nil {
		return nil, err
	}
	handles := make([]rteflow.Handle, len(rules))
	for i := range handles {
		n.last++
		handles[i] = n.last
	}
	return handles, nil
}

func (n *encodingNIC) DestroyBatch(_ uint16, handles []rteflow.Handle) (int, error) {
	return len(handles), nil
}

// idleGraph agrees to everything.
type idleGraph struct{}

func (idleGraph) FlowEvents() <-chan []graph.FlowEvent { return nil }
func (idleGraph) SetOffloaded([]uint64, bool) error    { return nil }
func (idleGraph) DeleteFlows([]uint64) error           { return nil }
func (idleGraph) Generation() uint32                   { return 0 }

// BenchmarkFlow is what a flow costs from its event to its rule, and from its end to the rule's, but for the driver and
// the worker.
func BenchmarkFlow(b *testing.B) {
	const many = 1 << 14
	nic := &encodingNIC{}
	set := ruleset.New(nic)
	m := New(Config{
		Graph: idleGraph{}, NIC: nic, Rules: set, Tunnels: &fakeTunnels{}, Max: 2 * many, Timeout: time.Minute,
		HasInterface: func(uint16) bool { return true }, Log: slog.New(slog.DiscardHandler),
	})
	f := encap()
	events := make([]graph.FlowEvent, batchSize) // the graph makes none anew, either
	work := func(kind graph.EventKind, first int) {
		for i := range events {
			f.ID, f.Key.SrcPort = uint64(first+i), uint16(first+i)
			events[i] = graph.FlowEvent{Kind: kind, Flow: f}
		}
		m.take(events)
		for !m.backlog.isEmpty() {
			m.work()
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += batchSize {
		if done >= many {
			work(graph.FlowGone, done-many)
		}
		work(graph.FlowNew, done)
	}
}
