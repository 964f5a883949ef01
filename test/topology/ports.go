// SPDX-License-Identifier: Apache-2.0

package topology

import "fmt"

// PlainPorts are DPDK ports as the configuration of dpservice has them.
type PlainPorts struct {
	EAL   []string // EAL's arguments that make the ports
	Names string   // what stands within `ports: {}`
	// Device is the port of the guest with this number on its hypervisor.
	Device func(vf int) string
}

// kernelPort is EAL's argument that makes a port of a kernel interface, with the interface's MAC: so guests and router
// keep what they have learned.
func kernelPort(driver string, number int, iface string) string {
	arg := fmt.Sprintf("--vdev=%s%d,iface=%s", driver, number, iface)
	switch driver {
	case "net_af_packet":
		// A few TCP streams send more at once than its 512 frames hold until the NIC's thread gets a CPU.
		arg += ",framecnt=2048"
	case "net_pcap":
		arg += ",phy_mac=1"
	}
	return arg
}

// Plain are the ports of a driver that takes a kernel interface, net_af_packet or net_pcap, right on the hypervisor's
// wires and guests.
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
