// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"time"

	"dpservice/capture"
	"dpservice/dpservice/config"
	"dpservice/dpservice/port"
	"dpservice/dpservice/slowpath"
	"dpservice/graph"
	"dpservice/rteflow"
)

// retryPeriod is how long to wait after a change of the router could not be followed.
const retryPeriod = time.Second

func macOf(mac config.RouterMAC) slowpath.MAC {
	if len(mac) != len(slowpath.MAC{}) {
		return slowpath.MAC{}
	}
	return slowpath.MAC(mac)
}

// setUplinks tells the graph who the PFs are.
func (d *daemon) setUplinks() error {
	for _, p := range d.ports.List() {
		if p.Role != port.PF {
			continue
		}
		if err := d.graph.SetUplink(d.uplink(p, slowpath.MAC{})); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) uplink(p port.Port, router slowpath.MAC) graph.Uplink {
	return graph.Uplink{Port: p.ID, MAC: macBytes(p.MAC), RouterMAC: graph.MAC(router)}
}

func macBytes(mac net.HardwareAddr) [6]byte { return [6]byte(mac) }

// routerChanged notes that there is something to follow. It does not wait: it is called from the slow path.
func (d *daemon) routerChanged(slowpath.MAC) {
	select {
	case d.router <- struct{}{}:
	default: // noted already
	}
}

// followRouter has the graph and the captures use the router's MAC, whenever it changes.
func (d *daemon) followRouter(ctx context.Context) {
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.router:
		case <-retry:
		}
		retry = nil
		if err := d.useRouter(d.slow.RouterMAC()); err != nil {
			d.log.Error("cannot follow the underlay's router", "err", err)
			retry = time.After(retryPeriod)
		}
	}
}

func (d *daemon) useRouter(router slowpath.MAC) error {
	pf0 := d.ports.Uplink()
	if err := d.graph.SetUplink(d.uplink(pf0, router)); err != nil {
		return err
	}
	return d.capture.UplinkChanged(capture.Uplink{
		MAC: macBytes(pf0.MAC), RouterMAC: rteflow.MAC(router), NodeIP: d.cfg.Underlay.IP,
	})
}
