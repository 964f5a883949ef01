// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"fmt"
	"strings"
)

// PlainPorts are DPDK ports as the configuration of dpservice has them.
type PlainPorts struct {
	EAL   []string // EAL's arguments that make the ports
	Names string   // what stands within `ports: {}`
	// Device is the port of the guest with this number on its hypervisor.
	Device func(vf int) string
}

// nicPorts are the ports of a net_eswitch between the hypervisor's wires and guests.
func (h *Hypervisor) nicPorts(c DaemonConfig, plugin string) PlainPorts {
	driver := cmp.Or(c.FarSides, "net_af_packet")
	far := func(number int, iface string) string { return kernelPort(driver, number, iface) }
	vdevs, names := []string{"-d", plugin, far(0, "wire0")}, []string{"pf0: net_eswitch0"}
	nic := fmt.Sprintf("--vdev=net_eswitch0,pf0=%s0", driver)
	if !c.NoPF1 {
		vdevs = append(vdevs, far(1, "wire1"))
		nic += fmt.Sprintf(",pf1=%s1", driver)
		names = append(names, "pf1: net_eswitch0_pf1")
	}
	for vf := range h.Guests {
		vdevs = append(vdevs, far(vf+2, fmt.Sprintf("guest%d", vf)))
		nic += fmt.Sprintf(",vf%d=%s%d", vf, driver, vf+2)
	}
	if c.NICArgs != "" {
		nic += "," + c.NICArgs
	}
	names = append(names, `vfs: "net_eswitch0_representor_vf*"`)
	return PlainPorts{EAL: append(vdevs, nic), Names: strings.Join(names, ", ")}
}

// kernelPort is EAL's argument that makes a port of a kernel interface, with the interface's MAC: so guests and router keep
// what they have learned.
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

// Plain are the ports of a driver that takes a kernel interface, net_af_packet or net_pcap, right on the hypervisor's wires
// and guests.
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
