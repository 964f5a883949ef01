// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"os/exec"
	"slices"
	"strings"

	"dpservice/wire"
)

// mellanox is the PCI vendor of the ConnectX cards.
const mellanox = "0x15b3"

// model is a card that dpservice supports.
type model struct {
	name     string
	firmware release // the oldest supported one
	profile  bool    // whether FLEX_PARSER_PROFILE_ENABLE matters
}

// models are the supported cards by their PCI device id.
var models = map[string]model{
	"0x1017": {"ConnectX-5", release{16, 21, 1000}, true},
	"0x1019": {"ConnectX-5 Ex", release{16, 21, 1000}, true},
	"0x101d": {"ConnectX-6 Dx", release{22, 27, 90}, false},
	"0x1021": {"ConnectX-7", release{28, 33, 2028}, false},
}

// uplinkMTU is what an uplink needs for guests with an MTU of 1500: a copy has two outer headers.
const (
	guestMTU     = 1500
	uplinkMTU    = guestMTU + 102
	interfaceUp  = 1 // IFF_UP
	pciDevices   = "sys/bus/pci/devices"
	netDevices   = "sys/class/net"
	ipv6Settings = "proc/sys/net/ipv6/conf"
)

// card checks the ConnectX cards that the configuration uses.
func (x *examination) card(configured bool) {
	pfs := x.physicalFunctions()
	virtual := x.eal.noPCI || len(x.eal.devices) == 0 && len(x.eal.vdevs) > 0
	switch {
	case configured && virtual:
		x.add(
			Note,
			"card",
			"",
			"the configuration uses none: dpservice runs on %s",
			strings.Join(vdevNames(x.eal.vdevs), ", "),
		)
		return
	case len(pfs) == 0:
		x.add(
			Failed,
			"card",
			"to try dpservice without one, install dpservice-net-eswitch, a NIC in software, and follow README.md; "+
				"with offload: false any DPDK port will do, see plain-ports.md",
			"this machine has no NVIDIA ConnectX-5, -6 Dx or -7",
		)
		return
	}
	x.modules()
	x.iommu()
	used := x.usedFunctions(pfs)
	if len(used) == 0 {
		x.add(
			Note,
			"card",
			"name one with -a in eal, and its ports in ports",
			"the configuration uses none of %s",
			strings.Join(pfs, ", "),
		)
		used = pfs[:1]
	}
	for i, address := range used {
		x.firmware(address)
		if i == 0 { // only PF0 is in switchdev mode, PF1 stays in legacy mode
			x.switchdev(address)
		}
		x.uplink(address)
	}
	x.room()
}

func vdevNames(vdevs []string) []string {
	var names []string
	for _, v := range vdevs {
		name, _, _ := strings.Cut(v, ",")
		names = append(names, name)
	}
	return names
}

// physicalFunctions returns the PCI addresses of the supported cards' PFs.
func (x *examination) physicalFunctions() []string {
	var found []string
	for _, address := range x.list(pciDevices) {
		dir := pciDevices + "/" + address
		if vendor, _ := x.read(dir + "/vendor"); vendor != mellanox {
			continue
		}
		id, _ := x.read(dir + "/device")
		if _, known := models[id]; known {
			found = append(found, address)
		}
	}
	return found
}

// usedFunctions returns the PFs that EAL's arguments allow, in their order.
func (x *examination) usedFunctions(pfs []string) []string {
	var used []string
	for _, d := range x.eal.devices {
		if slices.Contains(pfs, d.address) {
			used = append(used, d.address)
		} else {
			x.add(Failed, "card", "lspci -Dd 15b3:", "there is no ConnectX at %s", d.address)
		}
	}
	return used
}

// firmware checks the version and the settings of a card's firmware.
func (x *examination) firmware(address string) {
	const subject = "firmware"
	id, _ := x.read(pciDevices + "/" + address + "/device")
	m := models[id]
	for _, name := range x.list(pciDevices + "/" + address + "/infiniband") {
		text, _ := x.read("sys/class/infiniband/" + name + "/fw_ver")
		if parseRelease(text).before(m.firmware) {
			x.add(
				Failed,
				subject,
				"upgrade it with mstflint",
				"%s, a %s, has %s; it needs %d.%d.%04d at least",
				address,
				m.name,
				text,
				m.firmware[0],
				m.firmware[1],
				m.firmware[2],
			)
		} else {
			x.ok(subject, "%s, a %s, has %s", address, m.name, text)
		}
	}
	x.firmwareSettings(address, m)
}

// firmwareSettings checks the firmware's settings, which it reads by mstconfig.
func (x *examination) firmwareSettings(address string, m model) {
	const subject = "firmware"
	text, err := x.Run(x.ctx, "mstconfig", "-d", address, "query")
	if errors.Is(err, exec.ErrNotFound) {
		x.add(Note, subject, "apt install mstflint", "%s: the settings cannot be read without mstconfig", address)
		return
	}
	if err != nil {
		x.add(Warning, subject, "run it as root", "%s: mstconfig failed: %v", address, err)
		return
	}
	want := [][2]string{{"SRIOV_EN", "1"}, {"UCTX_EN", "1"}}
	if m.profile {
		want = append(want, [2]string{"FLEX_PARSER_PROFILE_ENABLE", "2"})
	}
	var wrong, set []string
	for _, w := range want {
		if value := setting(text, w[0]); value != w[1] {
			wrong = append(wrong, w[0]+"="+value)
			set = append(set, w[0]+"="+w[1])
		}
	}
	if len(wrong) > 0 {
		x.add(
			Failed,
			subject,
			"mstconfig -d "+address+" set "+strings.Join(set, " ")+", and reboot",
			"%s has %s",
			address,
			strings.Join(wrong, ", "),
		)
		return
	}
	x.ok(subject, "%s has the settings that are needed", address)
}

// setting returns a value from mstconfig's table: the number, such as "2", also from the form "True(1)".
func setting(table, name string) string {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != name {
			continue
		}
		value := fields[1]
		if _, inner, ok := strings.Cut(value, "("); ok {
			value = strings.TrimSuffix(inner, ")")
		}
		return value
	}
	return "unknown"
}

// switchdev checks that the PF is in switchdev mode, and that it has VFs with representors.
func (x *examination) switchdev(address string) {
	dir := pciDevices + "/" + address
	vfs := x.number(dir + "/sriov_numvfs")
	netdev := x.netdev(address)
	id, ok := x.read(netDevices + "/" + netdev + "/phys_switch_id") // not readable in legacy mode
	if !ok || id == "" {
		x.add(Failed, "switchdev", "devlink dev eswitch set pci/"+address+" mode switchdev, before the VFs are made",
			"%s is in legacy mode: its NIC takes no rules", address)
	} else {
		x.ok("switchdev", "%s is in switchdev mode", address)
	}
	if vfs == 0 {
		x.add(Failed, "VFs", "echo N >/sys/bus/pci/devices/"+address+"/sriov_numvfs", "%s has none; it can have %d", address,
			x.number(dir+"/sriov_totalvfs"))
		return
	}
	asked := 0
	for _, d := range x.eal.devices {
		if d.address == address {
			asked = d.representors
		}
	}
	representors := x.representors(id)
	switch {
	case ok && len(representors) < vfs:
		x.add(
			Failed,
			"VFs",
			"make the VFs after the change to switchdev mode",
			"%s has %d VFs, but %d representors",
			address,
			vfs,
			len(representors),
		)
	case asked > vfs:
		x.add(
			Failed,
			"VFs",
			"make more VFs, or ask for fewer with representor=",
			"the configuration asks for %d of %s, there are %d",
			asked,
			address,
			vfs,
		)
	case asked == 0:
		x.add(
			Failed,
			"VFs",
			"add representor=vf[0-"+join([]int{vfs - 1})+"] to its -a in eal",
			"the configuration asks for none of the %d of %s",
			vfs,
			address,
		)
	default:
		x.ok("VFs", "%s has %d, the configuration asks for %d", address, vfs, asked)
	}
	x.representorTwins(representors)
}

// netdev returns the kernel's interface of a PF: the one that is not the representor of a VF.
func (x *examination) netdev(address string) string {
	for _, name := range x.list(pciDevices + "/" + address + "/net") {
		if port, _ := x.read(netDevices + "/" + name + "/phys_port_name"); !strings.Contains(port, "vf") {
			return name
		}
	}
	return ""
}

// representors returns the kernel's interfaces for the VFs of an E-Switch.
func (x *examination) representors(switchID string) []string {
	var found []string
	for _, name := range x.list(netDevices) {
		id, _ := x.read(netDevices + "/" + name + "/phys_switch_id")
		port, _ := x.read(netDevices + "/" + name + "/phys_port_name")
		if id == switchID && id != "" && strings.Contains(port, "vf") {
			found = append(found, name)
		}
	}
	return found
}

// representorTwins looks for representors with IPv6, on which the kernel would send packets to guests.
func (x *examination) representorTwins(names []string) {
	var speaking []string
	for _, name := range names {
		if off, ok := x.read(ipv6Settings + "/" + name + "/disable_ipv6"); ok && off == "0" {
			speaking = append(speaking, name)
		}
	}
	if len(speaking) > 0 {
		x.add(Warning, "kernel twins", "sysctl net.ipv6.conf."+speaking[0]+".disable_ipv6=1, and so on",
			"guests would hear the host's router solicitations by %s", strings.Join(speaking, ", "))
	}
}

// uplink checks the kernel's interface of a PF.
func (x *examination) uplink(address string) {
	const subject = "kernel twins"
	name := x.netdev(address)
	if name == "" {
		x.add(Failed, subject, "bind it to mlx5_core", "%s has no interface in the kernel", address)
		return
	}
	good := true
	wrong := func(level Level, fix, format string, args ...any) {
		x.add(level, subject, fix, format, args...)
		good = false
	}
	if x.number(netDevices+"/"+name+"/flags")&interfaceUp == 0 {
		wrong(Failed, "ip link set "+name+" up", "%s is down: it receives nothing", name)
	}
	if mtu := x.number(netDevices + "/" + name + "/mtu"); mtu < uplinkMTU {
		wrong(
			Warning,
			"ip link set "+name+" mtu 1602",
			"%s has an MTU of %d: packets of guests with %d, and copies of them, are lost",
			name,
			mtu,
			guestMTU,
		)
	}
	findsRouter := x.cfg.Underlay.RouterMAC == wire.MAC{}
	if off, _ := x.read(ipv6Settings + "/" + name + "/disable_ipv6"); off == "1" && findsRouter {
		wrong(Failed, "sysctl net.ipv6.conf."+name+".disable_ipv6=0, or set underlay.router_mac",
			"%s has no IPv6: the kernel does not find the router", name)
	}
	if good {
		x.ok(subject, "%s is up, with an MTU of %d", name, x.number(netDevices+"/"+name+"/mtu"))
	}
}

// room compares the number of configured ports with the number that DPDK supports.
func (x *examination) room() {
	ports := len(x.eal.devices)
	for _, d := range x.eal.devices {
		ports += d.representors
	}
	if ports > x.MaxPorts {
		x.add(Failed, "ports", "ask for fewer with representor=, or use a DPDK built with -Dmax_ethports=",
			"the configuration asks for %d, this DPDK has room for %d", ports, x.MaxPorts)
		return
	}
	x.ok("ports", "%d of the %d that this DPDK has room for", ports, x.MaxPorts)
}
