// SPDX-License-Identifier: Apache-2.0

// Package graph is the packet graph: its control side. The packets themselves are handled in C, by package nodes.
package graph

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dpservice/cgo/mempool"
	"dpservice/graph/nodes"
)

// The errors that a caller can act on. They come wrapped.
var (
	ErrExists   = nodes.ErrExists
	ErrNotFound = nodes.ErrNotFound
	ErrFull     = nodes.ErrFull
	ErrTimeout  = nodes.ErrTimeout
	ErrInvalid  = nodes.ErrInvalid
	ErrClosed   = nodes.ErrClosed
)

// The values that cross this API are package nodes'; it documents their fields.
type (
	// MAC is an Ethernet address; all zero is unknown.
	MAC = nodes.MAC
	// PortConfig is a DPDK port that the graph receives from and sends to.
	PortConfig = nodes.Port
	// Timeouts are how long a flow lasts without a packet.
	Timeouts = nodes.Timeouts
	// Interface is a guest's attachment, as the packet path needs it.
	Interface = nodes.Interface
	// NextHop is where a route leads.
	NextHop = nodes.NextHop
	// Tunnel is what brings packets from the wire to an interface.
	Tunnel = nodes.Tunnel
	// Uplink is the state of a physical port.
	Uplink = nodes.Uplink
	// Punt is a frame that the graph leaves to the slow path.
	Punt = nodes.Punt
	// Origin is the side on which a flow's packets enter.
	Origin = nodes.Origin
	// FlowKey identifies a flow in one direction.
	FlowKey = nodes.FlowKey
	// VerdictKind is what the graph does with a flow's packets.
	VerdictKind = nodes.VerdictKind
	// Verdict is how a flow's packets are forwarded.
	Verdict = nodes.Verdict
	// FlowState is the life of a flow as its own direction shows it.
	FlowState = nodes.FlowState
	// Flow is one entry of the flow table.
	Flow = nodes.Flow
	// FlowTable is how full the flow tables are.
	FlowTable = nodes.FlowTable
	// FlowShare is what a port holds of the flow tables.
	FlowShare = nodes.FlowShare
	// EventKind says what happened to a flow.
	EventKind = nodes.EventKind
	// FlowEvent tells the control side of a flow's beginning or end.
	FlowEvent = nodes.FlowEvent
	// FlowClass is what flows are told apart by when they are counted.
	FlowClass = nodes.FlowClass
	// FlowErrors says by id why a change was not made to flows.
	FlowErrors = nodes.FlowErrors
	// Tap copies packets of a port, as the NIC's capture rules do.
	Tap = nodes.Tap
	// TapSide says which of a port's packets a tap copies.
	TapSide = nodes.TapSide
	// TapRule says whether packets are copied.
	TapRule = nodes.TapRule
	// TapCondition is a masked comparison of a field.
	TapCondition = nodes.TapCondition
	// TapField is a part of a packet that a tap's rules look at.
	TapField = nodes.TapField
	// TapCounters is what a tap has done.
	TapCounters = nodes.TapCounters
	// TapCount is packets and bytes.
	TapCount = nodes.TapCount
	// NodeStats is what a graph node has done since the start.
	NodeStats = nodes.NodeStats
)

// The named values of these types.
const (
	FromGuest        = nodes.FromGuest
	FromWire         = nodes.FromWire
	Deliver          = nodes.Deliver
	Encap            = nodes.Encap
	StateNew         = nodes.StateNew
	StateEstablished = nodes.StateEstablished
	StateClosing     = nodes.StateClosing
	FlowNew          = nodes.FlowNew
	FlowGone         = nodes.FlowGone
	TapRX            = nodes.TapRX
	TapTX            = nodes.TapTX
	TapEthDst        = nodes.TapEthDst
	TapEthSrc        = nodes.TapEthSrc
	TapTagged        = nodes.TapTagged
	TapEtherType     = nodes.TapEtherType
	TapVLANTCI       = nodes.TapVLANTCI
	TapVLANType      = nodes.TapVLANType
	TapProto         = nodes.TapProto
	TapTOS           = nodes.TapTOS
	TapTTL           = nodes.TapTTL
	TapFragment      = nodes.TapFragment
	TapSrc           = nodes.TapSrc
	TapDst           = nodes.TapDst
	TapL4            = nodes.TapL4
	TapSrcPort       = nodes.TapSrcPort
	TapDstPort       = nodes.TapDstPort
	TapTCPFlags      = nodes.TapTCPFlags
	TapICMPType      = nodes.TapICMPType
	TapICMPCode      = nodes.TapICMPCode
)

// MarkMask are the bits that all marks have in common.
var MarkMask = nodes.MarkMask

// Mark is the source MAC by which the graph knows that the NIC has decapsulated a frame. See package nodes.
func Mark(tunnel uint16) MAC { return nodes.Mark(tunnel) }

// Config is what a Graph is made of.
type Config struct {
	Ports        []PortConfig
	Workers      []int      // worker lcores; the n-th serves RX and TX queue n of every port
	FlowCapacity int        // flows per worker; 0 is DefaultFlowCapacity
	Timeouts     Timeouts   // zero is DefaultTimeouts
	PuntRate     int        // frames a second of each kind that a port may leave to the slow path; 0 is DefaultPuntRate
	PuntBurst    int        // such frames at once, and waiting; 0 is DefaultPuntBurst
	NodeIP       netip.Addr // on the underlay: control packets for others are dropped
	Offload      bool       // announce flows that hardware could take over
	Pool         *mempool.Pool
	Name         string // prefix of the rte_graphs' names; empty is "dpservice"
}

// DefaultFlowCapacity is the number of flows a worker holds unless Config says otherwise.
const DefaultFlowCapacity = 65536

// What each port may leave to the slow path of each kind (neighbours, routers, echo, the rest) unless Config says otherwise: frames
// a second, and at once.
const (
	DefaultPuntRate  = 1000
	DefaultPuntBurst = 200
)

// MaxPuntBurst bounds how many packet buffers may wait for the slow path, for each port and kind.
const MaxPuntBurst = 1024

// DefaultTimeouts is how long idle flows last unless Config says otherwise.
var DefaultTimeouts = Timeouts{
	TCPNew:         30 * time.Second,
	TCPEstablished: 2 * time.Minute,
	TCPClosing:     10 * time.Second,
	UDP:            30 * time.Second,
	ICMP:           30 * time.Second,
	Other:          30 * time.Second,
}

// channelSize is a batch of punts; behind the channel is the ring, whose fullness is counted.
const channelSize = 64

// Graph is a packet graph on its workers. Its methods may be called concurrently.
//
// A change is made on all workers or on none, and after an error everything is as before. ErrTimeout: a worker has not taken
// the change for two seconds, as it has no CPU or is held up in a driver; it will not be made. All other calls wait meanwhile,
// and the caller may try again: those that follow uplinks and flows do each second, a client's request fails.
type Graph struct {
	mu      sync.RWMutex // Lock: control changes; RLock: reading, and sending frames
	n       *nodes.Instance
	running bool
	punts   *relay[Punt]
	events  *relay[[]FlowEvent]
}

// one is the process's only Graph: DPDK's nodes are global.
var one atomic.Bool

// New allocates the graph. On error nothing stays allocated. One Graph exists at a time.
func New(cfg Config) (*Graph, error) {
	if cfg.FlowCapacity == 0 {
		cfg.FlowCapacity = DefaultFlowCapacity
	}
	if cfg.Timeouts == (Timeouts{}) {
		cfg.Timeouts = DefaultTimeouts
	}
	cfg.PuntRate = cmp.Or(cfg.PuntRate, DefaultPuntRate)
	cfg.PuntBurst = cmp.Or(cfg.PuntBurst, DefaultPuntBurst)
	if cfg.PuntRate < 0 || cfg.PuntRate > math.MaxInt32 || cfg.PuntBurst < 0 || cfg.PuntBurst > MaxPuntBurst {
		return nil, fmt.Errorf("graph: %d punts a second, %d at once: %w", cfg.PuntRate, cfg.PuntBurst, ErrInvalid)
	}
	if cfg.Name == "" {
		cfg.Name = "dpservice"
	}
	if cfg.Pool == nil || cfg.FlowCapacity < 0 {
		return nil, fmt.Errorf("graph: no pool, or a negative flow capacity: %w", ErrInvalid)
	}
	if !one.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("graph: another graph: %w", ErrExists)
	}
	n, err := nodes.Create(nodes.Config{
		Name:         cfg.Name,
		Ports:        cfg.Ports,
		Workers:      cfg.Workers,
		FlowCapacity: cfg.FlowCapacity,
		Timeouts:     cfg.Timeouts,
		PuntRate:     uint32(cfg.PuntRate),
		PuntBurst:    uint32(cfg.PuntBurst),
		NodeIP:       cfg.NodeIP,
		Offload:      cfg.Offload,
		Pool:         cfg.Pool.Ptr(),
	})
	if err != nil {
		one.Store(false)
		return nil, fmt.Errorf("graph: create: %w", err)
	}
	return &Graph{
		n:      n,
		punts:  newRelay(n.PuntFD(), "punts", channelSize, nodes.NewPuntReader(n).Read),
		events: newRelay(n.EventFD(), "flow events", 0, eventBatches(nodes.NewEventReader(n))),
	}, nil
}

// Start launches the workers. The ports have been started, with an RX and a TX queue for each worker; they are stopped
// after Stop.
func (g *Graph) Start() error {
	return g.change("start", func() error {
		if g.running {
			return ErrExists
		}
		if err := g.n.Start(); err != nil {
			return err
		}
		g.running = true
		return nil
	})
}

// Stop ends the workers; they may be started again. Stopping what is not running does nothing.
func (g *Graph) Stop() error {
	return g.change("stop", func() error {
		g.n.Stop()
		g.running = false
		return nil
	})
}

// Close stops the workers and frees everything. The channels are closed.
func (g *Graph) Close() error {
	var n *nodes.Instance
	err := g.change("close", func() error {
		n, g.n = g.n, nil
		n.Stop()
		return nil
	})
	if err != nil {
		return err
	}
	err = errors.Join(g.punts.close(), g.events.close())
	n.Free()
	one.Store(false)
	return err
}

// change does something to the instance that nothing else may do at the same time.
func (g *Graph) change(what string, do func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n == nil {
		return fmt.Errorf("graph: %s: %w", what, ErrClosed)
	}
	if err := do(); err != nil {
		return fmt.Errorf("graph: %s: %w", what, err)
	}
	return nil
}

// SetInterface adds the interface, or replaces the one that has its index. ErrExists: its port, underlay address or an
// address in its VNI is another interface's.
func (g *Graph) SetInterface(i Interface) error {
	return g.change(fmt.Sprintf("set interface %d", i.Index), func() error {
		if !isHost(i.Underlay) || !isHost(i.GatewayIPv6) || i.IPv4.IsValid() && !i.IPv4.Is4() || i.IPv6.IsValid() && !is6(i.IPv6) {
			return fmt.Errorf("addresses %v, %v, underlay %v, gateway %v: %w", i.IPv4, i.IPv6, i.Underlay, i.GatewayIPv6, ErrInvalid)
		}
		return g.n.SetInterface(i)
	})
}

// DeleteInterface removes an interface; its flows end.
func (g *Graph) DeleteInterface(index uint16) error {
	return g.change(fmt.Sprintf("delete interface %d", index), func() error { return g.n.DeleteInterface(index) })
}

// AddRoute sends a prefix of a virtual network to a next hop.
func (g *Graph) AddRoute(vni uint32, p netip.Prefix, hop NextHop) error {
	return g.change(fmt.Sprintf("add route %v in VNI %d", p, vni), func() error {
		if !isRoutable(p) || !isHost(hop.Underlay) {
			return fmt.Errorf("next hop %v: %w", hop.Underlay, ErrInvalid)
		}
		return g.n.AddRoute(vni, p, hop)
	})
}

// DeleteRoute removes a route.
func (g *Graph) DeleteRoute(vni uint32, p netip.Prefix) error {
	return g.change(fmt.Sprintf("delete route %v in VNI %d", p, vni), func() error {
		if !isRoutable(p) {
			return ErrInvalid
		}
		return g.n.DeleteRoute(vni, p)
	})
}

// SetUplink sets or changes the state of an uplink. Flows of encapsulated packets are spread over the uplinks that are usable:
// whose router is known and whose link is up. A change moves only the flows of the uplink that has become unusable, or those
// that one which is usable again takes its share of; the verdicts of all that leave by it follow its router. Without a usable
// uplink such packets are dropped.
func (g *Graph) SetUplink(u Uplink) error {
	return g.change(fmt.Sprintf("set uplink, port %d", u.Port), func() error { return g.n.SetUplink(u) })
}

// SetTunnel says what the NIC decapsulates under a mark, before it does. It stands until the interface is deleted, or the mark is
// said to stand for another one. ErrNotFound: there is no such interface with this underlay address.
func (g *Graph) SetTunnel(mark uint16, t Tunnel) error {
	return g.change(fmt.Sprintf("set tunnel %d", mark), func() error { return g.n.SetTunnel(mark, t) })
}

// SetTap begins to copy a port's packets, or goes on by other rules from the next packet on: none is copied by both, or by
// neither. A tap replaces that of its port and side, whose last counters are returned, and its own start at 0.
//
// ErrNotFound: no such port. ErrInvalid: the tap is not as its documentation says. ErrFull: no memory for it.
func (g *Graph) SetTap(t Tap) (replaced TapCounters, err error) {
	err = g.change(fmt.Sprintf("set tap, port %d", t.Port), func() error {
		replaced, err = g.n.SetTap(t)
		return err
	})
	return replaced, err
}

// RemoveTap ends copying and returns the tap's last counters: nothing is counted or copied afterwards. ErrNotFound: there
// is no tap.
func (g *Graph) RemoveTap(port uint16, side TapSide) (c TapCounters, err error) {
	err = g.change(fmt.Sprintf("remove tap, port %d", port), func() error {
		c, err = g.n.RemoveTap(port, side)
		return err
	})
	return c, err
}

// TapCounters returns the counters of a tap. ErrNotFound: there is none.
func (g *Graph) TapCounters(port uint16, side TapSide) (TapCounters, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return TapCounters{}, fmt.Errorf("graph: counters of a tap: %w", ErrClosed)
	}
	c, err := g.n.TapCounters(port, side)
	if err != nil {
		return TapCounters{}, fmt.Errorf("graph: counters of the tap, port %d: %w", port, err)
	}
	return c, nil
}

func is6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

func isHost(a netip.Addr) bool { return is6(a) && !a.IsUnspecified() && !a.IsMulticast() }

func isRoutable(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }

// Punts delivers the frames left to the slow path. A reader that is slow loses frames of those ports and kinds that have too many
// waiting, which drop_punt_full counts; drop_punt_rate counts what a port leaves of a kind beyond its rate.
func (g *Graph) Punts() <-chan Punt { return g.punts.ch }

// FlowEvents delivers the flows' beginnings and ends in batches, as many as there are. None is lost if the reader is slow, but
// they come late.
func (g *Graph) FlowEvents() <-chan []FlowEvent { return g.events.ch }

// eventBatches reads a batch as the one thing that goes through the channel.
func eventBatches(r *nodes.EventReader) func() [][]FlowEvent {
	return func() [][]FlowEvent {
		if batch := r.Read(); len(batch) > 0 {
			return [][]FlowEvent{batch}
		}
		return nil
	}
}

// Inject sends a frame out of a port. ErrFull: the worker does not keep up.
func (g *Graph) Inject(port uint16, frame []byte) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return fmt.Errorf("graph: inject: %w", ErrClosed)
	}
	if err := g.n.Inject(port, frame); err != nil {
		return fmt.Errorf("graph: inject %d bytes to port %d: %w", len(frame), port, err)
	}
	return nil
}

// SetOffloaded says whether hardware forwards flows. One that it does has no timeout in software. When its rule has
// gone and SetOffloaded takes that back, the flow's next packet announces it again. An error wraps a FlowErrors: the other flows
// are changed.
func (g *Graph) SetOffloaded(ids []uint64, on bool) error {
	if on {
		return g.changeFlows("set offloaded", nodes.Offload, ids)
	}
	return g.changeFlows("set no longer offloaded", nodes.Onload, ids)
}

// DeleteFlows removes flows; no events tell of it. An error wraps a FlowErrors: the other flows are removed.
func (g *Graph) DeleteFlows(ids []uint64) error { return g.changeFlows("delete", nodes.Delete, ids) }

func (g *Graph) changeFlows(what string, change nodes.FlowChange, ids []uint64) error {
	return g.change(what, func() error { return g.n.ChangeFlows(change, ids) })
}

// CountFlows counts the flows by their state and whether hardware forwards them. It does not disturb the workers.
func (g *Graph) CountFlows() map[FlowClass]int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return nil
	}
	return g.n.CountFlows()
}

// Flows lists up to limit flows from cursor on; 0 is the beginning. A next of 0 is the end. The worker goes on meanwhile:
// a flow that lives throughout is listed once.
func (g *Graph) Flows(cursor uint64, limit int) (flows []Flow, next uint64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil || limit <= 0 {
		return nil, 0
	}
	return g.n.ReadFlows(cursor, limit)
}

// FlowTable returns how full the flow tables are.
func (g *Graph) FlowTable() FlowTable {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return FlowTable{}
	}
	return g.n.FlowTable()
}

// Stats returns every node's counters.
func (g *Graph) Stats() []NodeStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return nil
	}
	return g.n.Stats()
}

// DOT draws the graph in Graphviz' language; a closed graph is empty.
func (g *Graph) DOT() string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.n == nil {
		return ""
	}
	return g.n.DOT()
}
