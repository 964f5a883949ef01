// SPDX-License-Identifier: Apache-2.0

// Package port knows the NIC's ports: which are there, what part each plays, and whether it runs.
package port

import "net"

// Role is the part a port plays.
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
	// SwitchDomain is the E-Switch the port belongs to; nil for a port without one (legacy mode),
	// on which no transfer rule can stand.
	SwitchDomain *uint16
	MAC          net.HardwareAddr
	MTU          uint16 // bytes, Ethernet payload
	LinkUp       bool
	Started      bool
	Removed      bool // or has reported a fatal error: of no use any more, and its link is down
}
