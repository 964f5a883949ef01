// SPDX-License-Identifier: Apache-2.0

// Package dpdk is the NIC of this process: a port.Device over DPDK's Ethernet ports.
package dpdk

import (
	"errors"
	"fmt"
	"net"

	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/dpservice/port"
)

// Device implements port.Device.
type Device struct {
	Pool *mempool.Pool // for received packets; must be set before Configure
}

// Find implements port.Device.
func (*Device) Find(name string) (uint16, error) {
	id, err := ethdev.Find(name)
	if errors.Is(err, ethdev.ErrNotFound) {
		return 0, fmt.Errorf("%w: %w", port.ErrNotFound, err)
	}
	return id, err
}

// List implements port.Device.
func (*Device) List() []uint16 { return ethdev.List() }

// Info implements port.Device. A driver over a kernel interface does not know its MTU, so that is read from the kernel.
func (*Device) Info(id uint16) (port.Info, error) {
	d, err := ethdev.GetInfo(id)
	if err != nil {
		return port.Info{}, err
	}
	info := port.Info{
		Name: d.Name, Driver: d.Driver, MAC: d.MAC, MTU: d.MTU, IfIndex: d.IfIndex,
		MaxQueues: min(d.MaxRxQueues, d.MaxTxQueues), RepresentorID: d.RepresentorID, SwitchDomain: d.SwitchDomain,
	}
	if d.IfIndex == 0 {
		return info, nil
	}
	if i, err := net.InterfaceByIndex(d.IfIndex); err == nil && i.MTU <= 0xffff {
		info.MTU = uint16(i.MTU)
	}
	return info, nil
}

// Configure implements port.Device.
func (d *Device) Configure(id, queues, descriptors uint16) error {
	return ethdev.Configure(id, ethdev.Config{
		RxQueues: queues, TxQueues: queues, RxDescs: descriptors, TxDescs: descriptors, Pool: d.Pool,
	})
}

// Start implements port.Device.
func (*Device) Start(id uint16) error { return ethdev.Start(id) }

// Stop implements port.Device.
func (*Device) Stop(id uint16) error { return ethdev.Stop(id) }

// Close implements port.Device.
func (*Device) Close(id uint16) error { return ethdev.Close(id) }

// SetPromiscuous implements port.Device.
func (*Device) SetPromiscuous(id uint16, on bool) error { return ethdev.SetPromiscuous(id, on) }

// Removed implements port.Device.
func (*Device) Removed(id uint16) bool { return ethdev.Removed(id) }

// LinkUp implements port.Device. Not every driver over a kernel interface knows whether that has a carrier, so the
// kernel is asked.
func (*Device) LinkUp(id uint16) (bool, error) {
	link, err := ethdev.GetLink(id)
	if err != nil || !link.Up {
		return false, err
	}
	info, err := ethdev.GetInfo(id)
	if err != nil || info.IfIndex == 0 {
		return true, err
	}
	return hasCarrier(info.IfIndex)
}

// Counters implements port.Device.
func (*Device) Counters(id uint16) (port.Counters, error) {
	stats, err := ethdev.GetStats(id)
	return port.Counters(stats), err
}

// Xstats implements port.Device.
func (*Device) Xstats(id uint16) ([]port.Xstat, error) {
	xstats, err := ethdev.Xstats(id)
	if err != nil {
		return nil, err
	}
	all := make([]port.Xstat, len(xstats))
	for i, x := range xstats {
		all[i] = port.Xstat(x)
	}
	return all, nil
}
