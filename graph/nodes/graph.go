// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"

	"dpservice/cgo/mempool"
	"dpservice/graph"
)

// Config is what a Graph is made of.
type Config struct {
	Ports        []graph.PortConfig
	Workers      []int          // worker lcores; the n-th serves RX and TX queue n of every port
	FlowCapacity int            // flows per worker; 0 is graph.DefaultFlowCapacity
	Timeouts     graph.Timeouts // zero is graph.DefaultTimeouts
	PuntRate     int            // of each port and kind, frames a second; 0 is graph.DefaultPuntRate
	PuntBurst    int            // such frames at once, and waiting; 0 is graph.DefaultPuntBurst
	NodeIP       netip.Addr     // on the underlay: control packets for others are dropped
	Offload      bool           // announce flows that hardware could take over
	Pool         *mempool.Pool
	Name         string // prefix of the rte_graphs' names; empty is "dpservice"
}

// channelSize is a batch of punts. When the channel is full the ring fills, and what finds no room in that is counted.
const channelSize = 64

// Graph is a packet graph on its workers. Its methods may be called concurrently.
//
// A change is made on all workers or on none, and after an error everything is as before. ErrTimeout: a worker has not
// taken the change for two seconds, as it has no CPU or is held up in a driver; it will not be made. All other calls
// wait meanwhile, and the caller may try again: those that follow uplinks and flows do each second, a client's request
// fails.
type Graph struct {
	mu      sync.RWMutex // Lock: control changes; RLock: reading, and sending frames
	n       *instance
	running bool
	punts   *relay[graph.Punt]
	events  *relay[[]graph.FlowEvent]
}

// one is the process's only Graph: DPDK's nodes are global.
var one atomic.Bool

// New allocates the graph. On error nothing stays allocated. One Graph exists at a time.
func New(cfg Config) (*Graph, error) {
	if cfg.FlowCapacity == 0 {
		cfg.FlowCapacity = graph.DefaultFlowCapacity
	}
	if cfg.Timeouts == (graph.Timeouts{}) {
		cfg.Timeouts = graph.DefaultTimeouts
	}
	cfg.PuntRate = cmp.Or(cfg.PuntRate, graph.DefaultPuntRate)
	cfg.PuntBurst = cmp.Or(cfg.PuntBurst, graph.DefaultPuntBurst)
	if cfg.PuntRate < 0 || cfg.PuntRate > math.MaxInt32 || cfg.PuntBurst < 0 || cfg.PuntBurst > graph.MaxPuntBurst {
		return nil, fmt.Errorf("graph: %d punts a second, %d at once: %w", cfg.PuntRate, cfg.PuntBurst, graph.ErrInvalid)
	}
	if cfg.Name == "" {
		cfg.Name = "dpservice"
	}
	if cfg.Pool == nil || cfg.FlowCapacity < 0 {
		return nil, fmt.Errorf("graph: no pool, or a negative flow capacity: %w", graph.ErrInvalid)
	}
	if !one.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("graph: another graph: %w", graph.ErrExists)
	}
	n, err := create(cfg)
	if err != nil {
		one.Store(false)
		return nil, fmt.Errorf("graph: create: %w", err)
	}
	return &Graph{
		n:      n,
		punts:  newRelay(int(n.dp.punt_fd), "punts", channelSize, newPuntReader(n).read),
		events: newRelay(int(n.dp.event_fd), "flow events", 0, eventBatches(newEventReader(n))),
	}, nil
}

// Start launches the workers. The ports have been started, with an RX and a TX queue for each worker; they are stopped
// after Stop.
func (g *Graph) Start() error {
	return g.change("start", func() error {
		if g.running {
			return graph.ErrExists
		}
		if err := g.n.start(); err != nil {
			return err
		}
		g.running = true
		return nil
	})
}

// SetTimeouts changes how long flows last in software without a packet, also those that there are.
func (g *Graph) SetTimeouts(t graph.Timeouts) error {
	return g.change("set timeouts", func() error { return g.n.setTimeouts(t) })
}

// Ping waits until each worker has answered, as it does between two walks through the graph. ErrTimeout: one has not
// for two seconds.
func (g *Graph) Ping() error {
	return g.change("ping", func() error { return g.n.ping() })
}

// Stop ends the workers; they may be started again. Stopping what is not running does nothing.
func (g *Graph) Stop() error {
	return g.change("stop", func() error {
		g.n.stop()
		g.running = false
		return nil
	})
}

// Close stops the workers and frees everything. The channels are closed.
func (g *Graph) Close() error {
	var n *instance
	err := g.change("close", func() error {
		n, g.n = g.n, nil
		n.stop()
		return nil
	})
	if err != nil {
		return err
	}
	err = errors.Join(g.punts.close(), g.events.close())
	n.free()
	one.Store(false)
	return err
}

// change does something to the instance that nothing else may do at the same time.
func (g *Graph) change(what string, do func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n == nil {
		return fmt.Errorf("graph: %s: %w", what, graph.ErrClosed)
	}
	if err := do(); err != nil {
		return fmt.Errorf("graph: %s: %w", what, err)
	}
	return nil
}

// SetInterface adds the interface, or replaces the one that has its index. ErrExists: its port, underlay address or an
// address in its VNI is another interface's.
func (g *Graph) SetInterface(i graph.Interface) error {
	return g.change(fmt.Sprintf("set interface %d", i.Index), func() error {
		if !isHost(i.Underlay) || !isHost(i.GatewayIPv6) || i.IPv4.IsValid() && !i.IPv4.Is4() || i.IPv6.IsValid() &&
			!is6(i.IPv6) {
			return fmt.Errorf("addresses %v, %v, underlay %v, gateway %v: %w", i.IPv4, i.IPv6, i.Underlay, i.GatewayIPv6,
				graph.ErrInvalid)
		}
		return g.n.setInterface(i)
	})
}

// DeleteInterface removes an interface; its flows end.
func (g *Graph) DeleteInterface(index uint16) error {
	return g.change(fmt.Sprintf("delete interface %d", index), func() error { return g.n.deleteInterface(index) })
}

// AddRoute sends a prefix of a virtual network to a next hop.
func (g *Graph) AddRoute(vni uint32, p netip.Prefix, hop graph.NextHop) error {
	return g.change(fmt.Sprintf("add route %v in VNI %d", p, vni), func() error {
		if !isRoutable(p) || !isHost(hop.Underlay) {
			return fmt.Errorf("next hop %v: %w", hop.Underlay, graph.ErrInvalid)
		}
		return g.n.addRoute(vni, p, hop)
	})
}

// DeleteRoute removes a route.
func (g *Graph) DeleteRoute(vni uint32, p netip.Prefix) error {
	return g.change(fmt.Sprintf("delete route %v in VNI %d", p, vni), func() error {
		if !isRoutable(p) {
			return graph.ErrInvalid
		}
		return g.n.deleteRoute(vni, p)
	})
}

// SetUplink sets or changes the state of an uplink. Flows of encapsulated packets are spread over the uplinks that are
// usable: whose router is known and whose link is up. A change moves only the flows of the uplink that has become
// unusable, or those that one which is usable again takes its share of; the verdicts of all that leave by it follow its
// router. Without a usable uplink such packets are dropped.
func (g *Graph) SetUplink(u graph.Uplink) error {
	return g.change(fmt.Sprintf("set uplink, port %d", u.Port), func() error { return g.n.setUplink(u) })
}

// SetTunnel gives a mark its meaning, before the NIC uses it: the tunnel whose packets carry it. The meaning is valid
// until the interface is deleted or the mark gets another one. ErrNotFound: there is no such interface with this
// underlay address.
func (g *Graph) SetTunnel(mark uint16, t graph.Tunnel) error {
	return g.change(fmt.Sprintf("set tunnel %d", mark), func() error { return g.n.setTunnel(mark, t) })
}

// SetTap begins to copy a port's packets, or goes on by other rules from the next packet on: none is copied by both, or
// by neither. A tap replaces that of its port and side, whose last counters are returned, and its own start at 0.
//
// ErrNotFound: no such port. ErrInvalid: the tap is not as its documentation says. ErrFull: no memory for it.
func (g *Graph) SetTap(t graph.Tap) (replaced graph.TapCounters, err error) {
	err = g.change(fmt.Sprintf("set tap, port %d", t.Port), func() error {
		replaced, err = g.n.setTap(t)
		return err
	})
	return replaced, err
}

// RemoveTap ends copying and returns the tap's last counters: nothing is counted or copied afterwards. ErrNotFound:
// there is no tap.
func (g *Graph) RemoveTap(port uint16, side graph.TapSide) (c graph.TapCounters, err error) {
	err = g.change(fmt.Sprintf("remove tap, port %d", port), func() error {
		c, err = g.n.removeTap(port, side)
		return err
	})
	return c, err
}

// TapCounters returns the counters of a tap. ErrNotFound: there is none.
func (g *Graph) TapCounters(port uint16, side graph.TapSide) (graph.TapCounters, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return graph.TapCounters{}, fmt.Errorf("graph: counters of a tap: %w", graph.ErrClosed)
	}
	c, err := g.n.tapCounters(port, side)
	if err != nil {
		return graph.TapCounters{}, fmt.Errorf("graph: counters of the tap, port %d: %w", port, err)
	}
	return c, nil
}

// StartTrace begins to follow packets through the graph. There is one trace at a time: ErrExists. While it runs, each
// packet takes the workers longer. At most 1000 packets a second are recorded.
//
// ErrNotFound: no such port. ErrInvalid: the trace is not as its documentation says. ErrFull: no memory for it.
func (g *Graph) StartTrace(t graph.Trace) error {
	return g.change(fmt.Sprintf("start trace, port %d", t.Port), func() error { return g.n.startTrace(t) })
}

// ReadTrace returns up to 64 packets that have left the graph, in order for each worker, and how many others the trace
// has missed since its start: there were too many. Without a trace there are none.
func (g *Graph) ReadTrace() (packets []graph.TracedPacket, missed uint64) {
	g.mu.Lock() // one reader at a time
	defer g.mu.Unlock()
	if g.n == nil {
		return nil, 0
	}
	return g.n.readTrace()
}

// StopTrace ends the trace; what was not read is lost. ErrNotFound: there is none.
func (g *Graph) StopTrace() error {
	return g.change("stop trace", func() error { return g.n.stopTrace() })
}

func is6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

func isHost(a netip.Addr) bool { return is6(a) && !a.IsUnspecified() && !a.IsMulticast() }

func isRoutable(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }

// Punts delivers the frames left to the slow path. A reader that is slow loses frames of those ports and kinds that
// have too many waiting, which drop_punt_full counts; drop_punt_rate counts what a port leaves of a kind beyond its
// rate.
func (g *Graph) Punts() <-chan graph.Punt { return g.punts.ch }

// FlowEvents delivers the flows' beginnings and ends in batches, as many as there are, to one reader. A batch is valid
// until the reader takes the next one. None is lost if the reader is slow, but they come late.
func (g *Graph) FlowEvents() <-chan []graph.FlowEvent { return g.events.ch }

// eventBatches reads a batch as the one thing that goes through the channel.
func eventBatches(r *eventReader) func() [][]graph.FlowEvent {
	return func() [][]graph.FlowEvent {
		if batch := r.read(); len(batch) > 0 {
			return [][]graph.FlowEvent{batch}
		}
		return nil
	}
}

// Inject sends a frame out of a port. ErrFull: the worker does not keep up.
func (g *Graph) Inject(port uint16, frame []byte) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return fmt.Errorf("graph: inject: %w", graph.ErrClosed)
	}
	if err := g.n.inject(port, frame); err != nil {
		return fmt.Errorf("graph: inject %d bytes to port %d: %w", len(frame), port, err)
	}
	return nil
}

// SetOffloaded says whether hardware forwards flows. One that it does has no timeout in software. When its rule has
// gone and SetOffloaded takes that back, the flow's next packet announces it again. An error wraps a graph.FlowErrors:
// the other flows are changed.
func (g *Graph) SetOffloaded(ids []uint64, on bool) error {
	if on {
		return g.changeFlows("set offloaded", offload, ids)
	}
	return g.changeFlows("set no longer offloaded", onload, ids)
}

// DeleteFlows removes flows; there are no events for it. An error wraps a graph.FlowErrors: the other flows are
// removed.
func (g *Graph) DeleteFlows(ids []uint64) error { return g.changeFlows("delete", remove, ids) }

func (g *Graph) changeFlows(what string, change flowChange, ids []uint64) error {
	return g.change(what, func() error { return g.n.changeFlows(change, ids) })
}

// CountFlows counts the flows by their state and whether hardware forwards them. It does not disturb the workers.
func (g *Graph) CountFlows() map[graph.FlowClass]int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return nil
	}
	return g.n.countFlows()
}

// Flows lists up to limit flows from cursor on; 0 is the beginning. A next of 0 is the end. The worker goes on
// meanwhile: a flow that lives throughout is listed once.
func (g *Graph) Flows(cursor uint64, limit int) (flows []graph.Flow, next uint64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil || limit <= 0 {
		return nil, 0
	}
	return g.n.readFlows(cursor, limit)
}

// Explain says what the graph would do with a packet now, and changes nothing. ErrNotFound: there is no flow with the
// question's ID, or no such port. ErrInvalid: its addresses are not of one family.
func (g *Graph) Explain(q graph.Question) (a graph.Answer, err error) {
	err = g.change("explain", func() error {
		a, err = g.n.explain(q)
		return err
	})
	return a, err
}

// Generation is the number of the configuration that packets are forwarded by. A change of interfaces, routes or
// uplinks makes it another one; it begins again after the largest.
func (g *Graph) Generation() uint32 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return 0
	}
	return g.n.generation()
}

// FlowTable returns how full the flow tables are.
func (g *Graph) FlowTable() graph.FlowTable {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return graph.FlowTable{}
	}
	return g.n.flowTable()
}

// Stats returns every node's counters.
func (g *Graph) Stats() []graph.NodeStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return nil
	}
	return g.n.stats()
}

// Drops counts the dropped packets by port and reason, in this order; what is 0 is left out.
func (g *Graph) Drops() []graph.Drops {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return nil
	}
	return g.n.drops()
}

// DOT draws the graph in Graphviz' language; a closed graph is empty.
func (g *Graph) DOT() string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return ""
	}
	return g.n.dot()
}
