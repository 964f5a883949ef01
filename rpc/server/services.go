// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/netip"
	"time"

	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/dpservice/vnet"
	"dpservice/rpc/api"
)

// Services is everything that the API gives access to. All of them must be set, and be safe for concurrent use.
// A service refuses a request with a *fault.Error, however wrapped; any other error is an internal one.
type Services struct {
	System     System
	Ports      Ports
	Interfaces Interfaces
	Routes     Routes
	Flows      Flows
	Rules      Rules
	Graph      Graph
	Capture    Capture
}

// System describes the daemon.
type System interface {
	Info() api.SystemInfoResult // APIVersion is filled in by the server
}

// Ports knows the NIC's ports.
type Ports interface {
	List() []port.Port
	Stats(name string) ([]port.Stats, error) // of all ports if name is empty
}

// Interfaces manages the guests' interfaces.
type Interfaces interface {
	CreateInterface(vnet.CreateRequest) (vnet.Interface, error)
	Interface(id string) (vnet.Interface, error)
	Interfaces() []vnet.Interface
	DeleteInterface(id string) error
}

// Routes manages the virtual networks' routes.
type Routes interface {
	AddRoute(vnet.Route) error
	Routes() []vnet.Route
	DeleteRoute(vnet.Route) error // a next hop, where it names one, must be the route's
}

// Flows lists the flows that the dataplane knows.
type Flows interface {
	// Flows returns the flows from cursor on (0: the first ones) that fit, at most limit, and the cursor of those that
	// follow; 0 if there are none. Fewer than limit does not mean that there are no more: it looks at a bounded number
	// of flows. What fits is asked before the NIC's counters are added.
	Flows(cursor uint64, limit int, fits func(Flow) bool) (flows []Flow, next uint64, err error)
}

// Flow is one flow as the dataplane knows it.
type Flow struct {
	ID        uint64
	Interface string // id of the guest's interface that it leaves or enters by
	FromGuest bool   // else it comes from the wire
	VNI       uint32
	Src, Dst  netip.Addr
	Proto     uint8
	SrcPort   uint16 // TCP and UDP
	DstPort   uint16
	ICMPType  uint8  // ICMP and ICMPv6
	InPort    string // ethdev name
	OutPort   string // ethdev name; empty for a dropped flow
	Action    string // deliver, encap or drop
	State     string
	Offloaded bool
	Packets   uint64 // by software and by the NIC
	Bytes     uint64
	Idle      time.Duration // since its last packet
}

// Rules lists the rules that stand in the NIC.
type Rules interface {
	// Rules returns the rules that fit p, in any order. An unknown port is NotFound.
	Rules(p api.RuleListParams) ([]api.Rule, error)
}

// Graph describes the packet graph.
type Graph interface {
	Stats() []api.NodeStats
	DOT() string
}

// Capture manages the captures.
type Capture interface {
	Start(ctx context.Context, r spec.Request) (spec.Session, error)
	Stop(name string) (stopped int, err error)
	Status() (sessions, ended []spec.Session)
	Capabilities() []spec.PortCapabilities
}
