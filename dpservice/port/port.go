// SPDX-License-Identifier: Apache-2.0

// Package port finds the NIC's ports, gives each its role, starts and stops them. It links no DPDK: package dpdk does.
package port

import "net"

// Role is what a port is used for.
type Role string

// A port is an uplink (PF) or the representor of a virtual function (VF).
const (
	PF Role = "pf"
	VF Role = "vf"
)

// Port describes one DPDK port under dpservice's control.
type Port struct {
	ID    uint16 // DPDK port id
	Name  string // ethdev name
	Role  Role
	Index int // the PF's number, or the VF's representor id
	// SwitchDomain is the E-Switch that the port belongs to. It is nil for a port in legacy mode, which takes no transfer
	// rules.
	SwitchDomain *uint16
	MAC          net.HardwareAddr
	MTU          uint16 // bytes, Ethernet payload
	LinkUp       bool
	Started      bool
	Removed      bool // removed, or broken by a fatal error; for good, and LinkUp is false
}

// Counters are a port's basic counters.
type Counters struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxMissed             uint64 // dropped by the device: no room in the RX queue
	RxErrors, TxErrors   uint64
	RxNoMbuf             uint64 // dropped: there was no packet buffer
}

// Xstat is one of a driver's own counters.
type Xstat struct {
	Name  string
	Value uint64
}

// Stats are all counters of a port. Those of a removed port are zero.
type Stats struct {
	Port Port
	Counters
	Xstats []Xstat
}
