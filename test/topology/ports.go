// SPDX-License-Identifier: Apache-2.0

package topology

import (
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
	vdevs, names := []string{"-d", plugin, "--vdev=net_af_packet0,iface=wire0"}, []string{"pf0: net_eswitch0"}
	nic := "--vdev=net_eswitch0,pf0=net_af_packet0"
	if !c.NoPF1 {
		vdevs = append(vdevs, "--vdev=net_af_packet1,iface=wire1")
		nic += ",pf1=net_af_packet1"
		names = append(names, "pf1: net_eswitch0_pf1")
	}
	for vf := range h.Guests {
		vdevs = append(vdevs, fmt.Sprintf("--vdev=net_af_packet%d,iface=guest%d", vf+2, vf))
		nic += fmt.Sprintf(",vf%d=net_af_packet%d", vf, vf+2)
	}
	if c.NICArgs != "" {
		nic += "," + c.NICArgs
	}
	names = append(names, `vfs: "net_eswitch0_representor_vf*"`)
	return PlainPorts{EAL: append(vdevs, nic), Names: strings.Join(names, ", ")}
}

// Plain are the ports of a driver that takes a kernel interface, net_af_packet or net_pcap, right on the hypervisor's wires
// and guests. Their MACs are the kernel's, as those of net_eswitch are: guests and router keep what they have learned.
func (h *Hypervisor) Plain(driver string) *PlainPorts {
	vdev := func(name, iface string) string {
		args := fmt.Sprintf("--vdev=%s,iface=%s", name, iface)
		if driver == "net_pcap" {
			args += ",phy_mac=1"
		}
		return args
	}
	name := func(number int) string { return fmt.Sprintf("%s%d", driver, number) }
	p := &PlainPorts{
		Names:  fmt.Sprintf("pf0: %s, pf1: %s, vfs: %q", name(0), name(1), driver+"*"),
		Device: func(vf int) string { return name(vf + 2) },
	}
	for i := range 2 {
		p.EAL = append(p.EAL, vdev(name(i), fmt.Sprintf("wire%d", i)))
	}
	for vf := range h.Guests {
		p.EAL = append(p.EAL, vdev(p.Device(vf), fmt.Sprintf("guest%d", vf)))
	}
	return p
}
