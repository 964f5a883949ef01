// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"

	"dpservice/dpservice/config"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/port"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/graph/nodes"
)

// dataplane implements vnet.Dataplane with the packet graph.
type dataplane struct {
	graph    *nodes.Graph
	underlay config.Underlay
	// reroute makes a change after which guests' traffic may go elsewhere.
	reroute func(t flow.Traffic, change func() error) error
}

func (d dataplane) SetInterface(a vnet.Attachment) error {
	return graphFault(a.ID, d.graph.SetInterface(graph.Interface{
		Index: a.Index, Port: a.Port, VNI: a.VNI, IPv4: a.IPv4, IPv6: a.IPv6, Underlay: a.UnderlayIP,
		GatewayMAC: a.GatewayMAC, GatewayIPv6: a.GatewayIPv6, GuestMAC: a.GuestMAC,
		AnyPeer: !d.underlay.ChecksSource(a.VNI),
	}))
}

func (d dataplane) DeleteInterface(index uint16) error { return d.graph.DeleteInterface(index) }

func (d dataplane) AddRoute(r vnet.Route) error {
	return graphFault("", d.reroute(flow.To(r.VNI, r.Prefix), func() error {
		return d.graph.AddRoute(r.VNI, r.Prefix, graph.NextHop{Underlay: r.NextHopIP})
	}))
}

func (d dataplane) DeleteRoute(r vnet.Route) error {
	return d.reroute(flow.To(r.VNI, r.Prefix), func() error { return d.graph.DeleteRoute(r.VNI, r.Prefix) })
}

// graphFault gives an error of the packet graph its reason.
func graphFault(iface string, err error) error {
	switch {
	case errors.Is(err, graph.ErrFull):
		return fault.Wrap(err, fault.LimitReached, iface, "no room in the packet graph")
	case errors.Is(err, graph.ErrExists):
		return fault.Wrap(err, fault.AlreadyExists, iface, "taken in the packet graph")
	default:
		return err
	}
}

// capturePorts implements capture.Ports.
type capturePorts struct {
	ports *port.Manager
	vnet  *vnet.Manager
}

func (c capturePorts) Interface(id string) (port.Port, bool) {
	i, err := c.vnet.Interface(id)
	if err != nil {
		return port.Port{}, false
	}
	return c.ports.ByID(i.Port)
}

func (c capturePorts) Device(name string) (port.Port, bool) {
	p, ok := c.ports.ByName(name)
	return p, ok && p.Role == port.VF
}

func (c capturePorts) All() []port.Port { return c.ports.List() }

func (c capturePorts) PF(number int) (port.Port, bool) { return c.ports.PF(number) }
