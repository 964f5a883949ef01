// SPDX-License-Identifier: Apache-2.0

// Package graph is the packet graph: its control side. The packets themselves are handled in C, by package nodes.
package graph

import (
	"dpservice/cgo/mempool"
	"dpservice/graph/nodes"
	"errors"
	"net/netip"
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

// The values that cross this API; package nodes defines them.
type (
	MAC         = nodes.MAC
	PortConfig  = nodes.Port
	Interface   = nodes.Interface
	NextHop     = nodes.NextHop
	Uplink      = nodes.Uplink
	Punt        = nodes.Punt
	Origin      = nodes.Origin
	FlowKey     = nodes.FlowKey
	VerdictKind = nodes.VerdictKind
	Verdict     = nodes.Verdict
	FlowState   = nodes.FlowState
	Flow        = nodes.Flow
	EventKind   = nodes.EventKind
	FlowEvent   = nodes.FlowEvent
	NodeStats   = nodes.NodeStats
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
)

// Config is what a Graph is made of.
type Config struct {
	Ports        []PortConfig
	Workers      []int // worker lcores; the n-th serves RX and TX queue n of every port
	FlowCapacity int   // flows per worker; 0 is DefaultFlowCapacity
	Offload      bool  // announce flows that hardware could take over
	Pool         *mempool.Pool
	Name         string // prefix of the rte_graphs' names; empty is "dpservice"
}

// DefaultFlowCapacity is the number of flows a worker holds unless Config says otherwise.
const DefaultFlowCapacity = 65536

// Graph is a packet graph on its workers.
type Graph struct{}

var errTODO = errors.New("not there yet")

// New allocates the graph. On error nothing stays allocated. One Graph exists at a time.
func New(cfg Config) (*Graph, error) { return nil, errTODO }

// Start launches the workers. The ports must have been started.
func (g *Graph) Start() error { return errTODO }

// Stop ends the workers; they may be started again.
func (g *Graph) Stop() error { return errTODO }

// Close stops the workers and frees everything. The channels are closed.
func (g *Graph) Close() error { return errTODO }

// SetInterface adds the interface, or replaces the one that has its index.
func (g *Graph) SetInterface(i Interface) error { return errTODO }

// DeleteInterface removes an interface; its flows end.
func (g *Graph) DeleteInterface(index uint16) error { return errTODO }

// AddRoute sends a prefix of a virtual network to a next hop.
func (g *Graph) AddRoute(vni uint32, p netip.Prefix, hop NextHop) error { return errTODO }

// DeleteRoute removes a route.
func (g *Graph) DeleteRoute(vni uint32, p netip.Prefix) error { return errTODO }

// SetUplink sets or changes the addressing of an uplink.
func (g *Graph) SetUplink(u Uplink) error { return errTODO }

// Punts delivers the frames left to the slow path. A reader that is slow loses frames, which drop_punt_full counts.
func (g *Graph) Punts() <-chan Punt { return nil }

// Inject sends a frame out of a port.
func (g *Graph) Inject(port uint16, frame []byte) error { return errTODO }

// FlowEvents delivers the flows' beginnings and ends. None is lost if the reader is slow, but they come late.
func (g *Graph) FlowEvents() <-chan FlowEvent { return nil }

// SetOffloaded says whether hardware forwards a flow. One that it does has no timeout in software.
func (g *Graph) SetOffloaded(id uint64, on bool) error { return errTODO }

// DeleteFlow removes a flow; no event tells of it.
func (g *Graph) DeleteFlow(id uint64) error { return errTODO }

// Flows lists up to limit flows from cursor on; 0 is the beginning. A next of 0 is the end.
func (g *Graph) Flows(cursor uint64, limit int) (flows []Flow, next uint64) { return nil, 0 }

// Stats returns every node's counters.
func (g *Graph) Stats() []NodeStats { return nil }

// DOT draws the graph in Graphviz' language.
func (g *Graph) DOT() string { return "" }
