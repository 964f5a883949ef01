// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"dpservice/capture"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/neighbour"
	"dpservice/dpservice/slowpath"
	"dpservice/dpservice/uplink"
	"dpservice/graph"
)

func (d *daemon) newUplinks() *uplink.Manager {
	return uplink.New(uplink.Config{
		Ports: d.ports, RouterMAC: d.cfg.Underlay.RouterMAC, Use: d.useUplink, Log: d.log,
		LinkChanged: func(port uint16, up bool) { d.slow.LinkChanged(port, up) },
	})
}

// slowPathUplinks returns the uplinks for the slow path.
func (d *daemon) slowPathUplinks() (uplinks []slowpath.Uplink) {
	for _, u := range d.uplinks.List() {
		uplinks = append(uplinks, slowpath.Uplink{Port: u.Port, MAC: u.MAC})
	}
	return uplinks
}

// newKernelWatcher returns a watcher of the kernel interfaces that share the uplinks' traffic.
func (d *daemon) newKernelWatcher() *neighbour.Watcher {
	ports := map[int]uint16{}
	var interfaces []int
	for _, p := range d.ports.PFs() {
		if index := d.ports.KernelTwin(p.ID); index != 0 {
			ports[index] = p.ID
			interfaces = append(interfaces, index)
		}
	}
	return neighbour.New(interfaces, func(index int, r neighbour.Router) {
		d.uplinks.KernelRouter(ports[index], r.NextHop.IsValid(), r.MAC)
	}, d.log)
}

// setUplinks registers the PFs in the graph. Their links and routers follow once they are known.
func (d *daemon) setUplinks() error {
	for _, u := range d.uplinks.List() {
		if err := d.graph.SetUplink(graph.Uplink{Port: u.Port, MAC: u.MAC}); err != nil {
			return err
		}
	}
	return nil
}

// reroute makes a change of the graph after which guests' traffic may go elsewhere, and has the NIC follow it.
func (d *daemon) reroute(t flow.Traffic, change func() error) error {
	if d.flows == nil {
		return change()
	}
	return d.flows.Reroute(t, change)
}

// useUplink passes the state of an uplink to the graph. Flows in the NIC follow its router, and leave an uplink that is
// not usable. As copies leave by PF0 only, the captures get the state of PF0.
func (d *daemon) useUplink(u uplink.Uplink) error {
	if err := d.followUplink(u); err != nil {
		return err
	}
	if u.Number != 0 {
		return nil
	}
	return d.capture.UplinkChanged(capture.Uplink{
		MAC: u.MAC, RouterMAC: u.RouterMAC, NodeIP: d.cfg.Underlay.IP, LinkDown: !u.LinkUp,
	})
}

// followUplink has the graph's packets and the flows in the NIC follow the state of an uplink.
func (d *daemon) followUplink(u uplink.Uplink) error {
	set := func() error {
		return d.graph.SetUplink(graph.Uplink{Port: u.Port, MAC: u.MAC, RouterMAC: u.RouterMAC, LinkUp: u.LinkUp})
	}
	if u.Usable() {
		return d.reroute(flow.By(u.Port), set)
	}
	if err := set(); err != nil {
		return err
	}
	if d.flows != nil {
		d.flows.LeaveUplink(u.Port)
	}
	return nil
}
