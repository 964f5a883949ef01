// SPDX-License-Identifier: Apache-2.0

package port

import (
	"net"

	"dpservice/cgo/ethdev"
)

// Ethdev is the Device of this process.
type Ethdev struct{}

// Find implements Device.
func (Ethdev) Find(name string) (uint16, error) { return ethdev.Find(name) }

// List implements Device.
func (Ethdev) List() []uint16 { return ethdev.List() }

// Info implements Device. Drivers over a kernel interface do not know that interface's MTU: the kernel does.
func (Ethdev) Info(id uint16) (ethdev.Info, error) {
	info, err := ethdev.GetInfo(id)
	if err != nil || info.IfIndex == 0 {
		return info, err
	}
	if i, err := net.InterfaceByIndex(info.IfIndex); err == nil && i.MTU <= 0xffff {
		info.MTU = uint16(i.MTU)
	}
	return info, nil
}

// Configure implements Device.
func (Ethdev) Configure(id uint16, cfg ethdev.Config) error { return ethdev.Configure(id, cfg) }

// Start implements Device.
func (Ethdev) Start(id uint16) error { return ethdev.Start(id) }

// Stop implements Device.
func (Ethdev) Stop(id uint16) error { return ethdev.Stop(id) }

// Close implements Device.
func (Ethdev) Close(id uint16) error { return ethdev.Close(id) }

// SetPromiscuous implements Device.
func (Ethdev) SetPromiscuous(id uint16, on bool) error { return ethdev.SetPromiscuous(id, on) }

// Removed implements Device.
func (Ethdev) Removed(id uint16) bool { return ethdev.Removed(id) }

// Link implements Device. Drivers over a kernel interface do not all know whether that has a carrier: the kernel does.
func (Ethdev) Link(id uint16) (ethdev.Link, error) {
	link, err := ethdev.GetLink(id)
	if err != nil || !link.Up {
		return link, err
	}
	info, err := ethdev.GetInfo(id)
	if err == nil && info.IfIndex != 0 {
		link.Up, err = hasCarrier(info.IfIndex)
	}
	return link, err
}

// Stats implements Device.
func (Ethdev) Stats(id uint16) (ethdev.Stats, error) { return ethdev.GetStats(id) }

// Xstats implements Device.
func (Ethdev) Xstats(id uint16) ([]ethdev.Xstat, error) { return ethdev.Xstats(id) }
