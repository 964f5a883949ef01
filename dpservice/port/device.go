// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"net"
)

// ErrNotFound means that a Device has no such port.
var ErrNotFound = errors.New("no such port")

// Device is what a Manager needs of the NIC. Package dpdk has the real one.
type Device interface {
	// Find returns the port with this ethdev name or, failing that, the one beside the kernel interface of this name.
	// Without one the error is ErrNotFound.
	Find(name string) (uint16, error)
	List() []uint16
	Info(id uint16) (Info, error)
	// Configure sets up a stopped port with as many RX as TX queues, and so many descriptors in each.
	Configure(id, queues, descriptors uint16) error
	Start(id uint16) error
	Stop(id uint16) error
	Close(id uint16) error
	// SetPromiscuous makes a port receive frames for any MAC. ENOTSUP means that it cannot.
	SetPromiscuous(id uint16, on bool) error
	// Removed reports whether a port was removed or has failed for good.
	Removed(id uint16) bool
	LinkUp(id uint16) (bool, error)
	Counters(id uint16) (Counters, error)
	Xstats(id uint16) ([]Xstat, error)
}

// Info describes a port of a Device.
type Info struct {
	Name          string // ethdev name
	Driver        string
	MAC           net.HardwareAddr
	MTU           uint16  // bytes, Ethernet payload
	IfIndex       int     // of the kernel interface that shares the port's traffic; 0 if there is none
	MaxQueues     uint16  // RX and TX queues that the port can have
	RepresentorID int     // number of the VF that the port represents; -1 for other ports
	SwitchDomain  *uint16 // E-Switch that the port belongs to; nil if there is none
}
