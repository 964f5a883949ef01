// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/dpservice/status"
	"dpservice/dpservice/vnet"
)

// Services is everything that the API gives access to. All of them must be set, and be safe for concurrent use.
// A service refuses a request with a *fault.Error, possibly wrapped; any other error is an internal one.
type Services struct {
	System     System
	Ports      Ports
	Interfaces Interfaces
	Routes     Routes
	Flows      Flows
	Rules      Rules
	Graph      Graph
	Capture    Capture
	Waiting    func() []spec.Session // captures from before a restart that could not be restored yet
	Trace      Trace
	Explain    Explain
}

// System describes the daemon.
type System interface {
	Info() status.System
	// Report looks at the machine and may take seconds. Several clients get it one after the other.
	Report(ctx context.Context) (status.Report, error)
}

// Ports reads the NIC's ports.
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
	DeleteRoute(vnet.Route) error // the next hop must match, unless it is zero
}

// Flows lists the flows of the packet graph.
type Flows interface {
	// Flows returns at most limit flows that fit, from cursor on (0: from the first one), and the cursor of the next ones
	// (0: there are none). It looks at a bounded number of flows, so the answer can be shorter than limit although more
	// follow. It calls fits before it adds the NIC's counters.
	Flows(cursor uint64, limit int, fits func(status.Flow) bool) (flows []status.Flow, next uint64, err error)
}

// Rules lists the rules in the NIC.
type Rules interface {
	// Rules returns the rules of a port (empty: of all) in a group (nil: in all), in any order. An unknown port is
	// NotFound.
	Rules(port string, group *uint32) ([]status.Rule, error)
}

// Graph describes the packet graph.
type Graph interface {
	Stats() []status.Node
	Drops() []status.Drops // by port, then reason
	DOT() string
}

// Capture manages the captures.
type Capture interface {
	Start(ctx context.Context, r spec.Request) (spec.Session, error)
	Stop(name string) (stopped int, err error)
	Status() (sessions, ended []spec.Session)
	Capabilities() []spec.PortCapabilities
}

// Trace follows packets through the packet graph. A trace belongs to the connection that has started it: ctx is the
// connection's, and the trace ends with it.
type Trace interface {
	// Start returns what is to be known of the trace. There is one at a time: fault.AlreadyActive.
	Start(ctx context.Context, r status.TraceRequest) (warnings []string, err error)
	// Read waits up to a second for packets. Without a trace of this connection, Read and Stop return fault.NotActive.
	Read(ctx context.Context) (status.Trace, error)
	Stop(ctx context.Context) error
}

// Explain says what would be done with packets.
type Explain interface {
	Explain(r status.ExplainRequest) (status.Explanation, error)
}
