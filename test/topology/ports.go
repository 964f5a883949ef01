// SPDX-License-Identifier: Apache-2.0

package topology

import "fmt"

// PlainPorts are DPDK ports, as written in the configuration of dpservice.
type PlainPorts struct {
	EAL   []string // EAL's arguments that make the ports
	Names string   // the text between the braces of `ports: {}`
	// Device returns the port of the guest with this number on its hypervisor.
	Device func(vf int) string
}

// kernelPort returns EAL's argument for a port on a kernel interface. The port has the interface's MAC, so that the
// neighbour entries of guests and router stay valid.
func kernelPort(driver string, number int, iface string) string {
	arg := fmt.Sprintf("--vdev=%s%d,iface=%s", driver, number, iface)
	switch driver {
	case "net_af_packet":
		// The default of 512 frames overflows when a few TCP streams send while the NIC's thread waits for a CPU.
		arg += ",framecnt=2048"
	case "net_pcap":
		arg += ",phy_mac=1"
	}
	return arg
}

// Plain returns ports on the hypervisor's wires and guests' links, of a driver for kernel interfaces: net_af_packet or
// net_pcap.
func (h *Hypervisor) Plain(driver string) *PlainPorts {
	name := func(number int) string { return fmt.Sprintf("%s%d", driver, number) }
	p := &PlainPorts{
		Names:  fmt.Sprintf("pf0: %s, pf1: %s, vfs: %q", name(0), name(1), driver+"*"),
		Device: func(vf int) string { return name(vf + 2) },
	}
	for i := range 2 {
		p.EAL = append(p.EAL, kernelPort(driver, i, fmt.Sprintf("wire%d", i)))
	}
	for vf := range h.Guests {
		p.EAL = append(p.EAL, kernelPort(driver, vf+2, fmt.Sprintf("guest%d", vf)))
	}
	return p
}
