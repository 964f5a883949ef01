// SPDX-License-Identifier: Apache-2.0

// Package trace follows packets through the packet graph for clients, one trace at a time, and says in words what
// became of each packet.
package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dpservice/capture/filter"
	"dpservice/capture/plan"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/status"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
)

// Graph is the packet graph. *nodes.Graph implements it.
type Graph interface {
	StartTrace(t graph.Trace) error
	ReadTrace() (packets []graph.TracedPacket, missed uint64)
	StopTrace() error
}

// Config is what a Manager is made of.
type Config struct {
	Graph     Graph
	Networks  func() vnet.Networks
	Offload   bool                           // the NIC forwards flows by itself
	Offloaded func(port uint16) int          // how many flows of a guest's port the NIC forwards; nil without offload
	Describe  func(f graph.Flow) status.Flow // names what a flow's numbers mean
	PortName  func(id uint16) string         // ethdev name
	Log       *slog.Logger
}

const (
	readWait   = time.Second           // how long Read waits for packets
	readPeriod = 20 * time.Millisecond // how often it looks for them
	maxClient  = 128                   // bytes of a client's name
	stopPeriod = time.Second           // how often it is tried to stop a trace that could not be stopped
)

// Manager holds the trace that runs. It is safe for concurrent use.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	current *run // nil: none
}

// run is a trace.
type run struct {
	request status.TraceRequest
	on      vnet.Attachment
	since   time.Time
	holder  <-chan struct{} // closed when the connection is gone that has started it
	left    uint64          // packets until it ends
	endless bool
}

// New returns a Manager without a trace.
func New(cfg Config) *Manager { return &Manager{cfg: cfg} }

// Start begins a trace that ends with ctx at the latest, and returns what is to be known of it. The error is a
// *fault.Error if the request is at fault, or another trace runs: then nothing has begun.
func (m *Manager) Start(ctx context.Context, r status.TraceRequest) (warnings []string, err error) {
	if len(r.Client) > maxClient {
		return nil, fault.New(fault.InvalidParams, "", "the client's name has more than %d bytes", maxClient)
	}
	t, on, warnings, err := m.plan(r)
	if err != nil {
		return nil, err
	}
	started := &run{request: r, on: on, since: time.Now(), holder: ctx.Done(), left: r.Count, endless: r.Count == 0}
	if err := m.start(started, t); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { m.end(started) })
	return warnings, nil
}

func (m *Manager) start(r *run, t graph.Trace) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.current; c != nil {
		return fault.New(fault.AlreadyActive, c.request.Interface,
			"%s traces interface %s since %s, and there is one trace at a time",
			cmp.Or(c.request.Client, "another client"), c.request.Interface, c.since.Format(time.TimeOnly))
	}
	if err := m.cfg.Graph.StartTrace(t); err != nil {
		if errors.Is(err, graph.ErrFull) {
			return fault.Wrap(err, fault.LimitReached, r.request.Interface, "no memory for a trace")
		}
		return fmt.Errorf("start a trace of %s: %w", r.request.Interface, err)
	}
	m.current = r
	return nil
}

// plan is the graph's trace for a request.
func (m *Manager) plan(r status.TraceRequest) (t graph.Trace, on vnet.Attachment, warnings []string, err error) {
	on, ok := m.cfg.Networks().ByID(r.Interface)
	if !ok {
		return t, on, nil, fault.New(fault.NotFound, r.Interface, "no interface %q", r.Interface)
	}
	t = graph.Trace{Port: on.Port, Interface: on.Index, Underlay: on.UnderlayIP, Drops: r.Drops}
	guest, err := filter.Compile(r.Filter, filter.Ethernet, graph.MaxTapRules)
	if err != nil {
		return t, on, nil, fault.New(filter.Reason(err), r.Interface, "%v", err)
	}
	t.Guest = plan.TapRules(guest.Rules)
	warnings = append(warnings, guest.Notes...)
	if wire, err := filter.Compile(r.Filter, filter.IP, graph.MaxTapRules); err == nil {
		t.Wire = plan.TapRules(wire.Rules)
	} else {
		warnings = append(warnings, fmt.Sprintf(
			"only what the guest sends is followed, as a tunnel carries no frames (%v)", err))
	}
	if m.cfg.Offloaded != nil {
		warnings = append(warnings, fmt.Sprintf("packets that the NIC forwards by itself are not seen: it does so for "+
			"%d flows of %s now", m.cfg.Offloaded(on.Port), r.Interface))
	}
	return t, on, warnings, nil
}

// Read returns the packets that the trace has recorded which was started with ctx. It waits up to a second for the
// first one. It returns fault.NotActive if there is no such trace, and fault.NotFound when its interface was deleted,
// which ends it.
func (m *Manager) Read(ctx context.Context) (status.Trace, error) {
	deadline := time.After(readWait)
	tick := time.NewTicker(readPeriod)
	defer tick.Stop()
	for {
		packets, result, err := m.readOwn(ctx)
		if err != nil || len(packets) > 0 || result.Ended {
			d := m.describer()
			for _, p := range packets {
				result.Packets = append(result.Packets, d.describe(p))
			}
			return result, err
		}
		select {
		case <-ctx.Done():
			return status.Trace{}, ctx.Err()
		case <-deadline:
			return result, nil
		case <-tick.C:
		}
	}
}

// readOwn takes what there is of the interface that the client was to trace. Once that is deleted, the packets may be
// of another that has its port.
func (m *Manager) readOwn(ctx context.Context) ([]graph.TracedPacket, status.Trace, error) {
	packets, r, result, err := m.read(ctx)
	if err != nil {
		return nil, result, err
	}
	now, ok := m.cfg.Networks().ByID(r.on.ID)
	if ok && now.Port == r.on.Port && now.VNI == r.on.VNI && now.UnderlayIP == r.on.UnderlayIP {
		return packets, result, nil
	}
	m.tryEnd(r) // else with its connection
	return nil, result, fault.New(fault.NotFound, r.on.ID, "interface %q was deleted, so its trace has ended", r.on.ID)
}

// read takes what there is. It ends the trace with its last packet.
func (m *Manager) read(ctx context.Context) ([]graph.TracedPacket, *run, status.Trace, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.current
	if c == nil || c.holder != ctx.Done() {
		return nil, nil, status.Trace{}, noTrace()
	}
	packets, missed := m.cfg.Graph.ReadTrace()
	if c.endless {
		return packets, c, status.Trace{Missed: missed}, nil
	}
	packets = packets[:min(uint64(len(packets)), c.left)]
	c.left -= uint64(len(packets))
	result := status.Trace{Missed: missed, Ended: c.left == 0}
	if result.Ended {
		return packets, c, result, m.stop()
	}
	return packets, c, result, nil
}

func noTrace() error {
	return fault.New(fault.NotActive, "", "this connection has no trace: trace.start begins one")
}

// Stop ends the trace that was started with ctx, or returns fault.NotActive. After another error it goes on.
func (m *Manager) Stop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current == nil || m.current.holder != ctx.Done() {
		return noTrace()
	}
	return m.stop()
}

// stop ends the trace that runs.
func (m *Manager) stop() error {
	if err := m.cfg.Graph.StopTrace(); err != nil {
		return fmt.Errorf("stop the trace of %s: %w", m.current.request.Interface, err)
	}
	m.current = nil
	return nil
}

// end ends a trace whose client is gone. A worker that does not answer is asked again.
func (m *Manager) end(r *run) {
	for !m.tryEnd(r) {
		time.Sleep(stopPeriod)
	}
}

func (m *Manager) tryEnd(r *run) (ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current != r {
		return true
	}
	err := m.stop()
	if err != nil {
		m.cfg.Log.Warn("a trace whose client is gone goes on", "error", err)
	}
	return err == nil || errors.Is(err, graph.ErrClosed)
}
