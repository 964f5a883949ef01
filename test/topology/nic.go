// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The environment variables that choose the NIC of all labs.
const (
	nicVariable  = "DPLAB_NIC"  // net_eswitch (the default) or net_mlx5
	cardVariable = "DPLAB_CARD" // cx5, cx6dx (the default) or cx7
)

const (
	plugin  = "librte_net_eswitch.so"
	preload = "libconnectx.so"
)

// A NIC connects the wires and the guests of a lab's hypervisor.
type NIC interface {
	// Driver is the DPDK driver's name.
	Driver() string
	// PF and VF return the names of the ports in dpservice.
	PF(number int) string
	VF(number int) string
	// File is the name of this NIC's file in the build folder.
	File() string
	// ListsFlows reports whether the NIC lists its rules as the application made them, not as the driver translated them.
	ListsFlows() bool
	// ReportsDestroy reports whether the driver returns an error when the NIC does not destroy a rule.
	ReportsDestroy() bool
	// RefusalWords returns the driver's message for a fault that FaultCommand has injected.
	RefusalWords() string
	// SampleAndJump returns the message of a ConnectX-5's driver that it does not support a rule which copies and jumps.
	SampleAndJump() string
	// FaultCommand returns the telemetry command that injects faults (args is KEY=VALUE,... or "clear"), or queries them.
	FaultCommand(args string) string
	// RulesCommand returns the telemetry command that lists the NIC's rules, starting at this index.
	RulesCommand(first int) string
	// CountersCommand returns the telemetry command for the NIC's own counters by port; "" if port.stats has them.
	CountersCommand() string

	// ports returns the ports between the hypervisor's wires and guests. dir is the folder of the NIC's file.
	ports(h *Hypervisor, c DaemonConfig, dir string) PlainPorts
	// environment returns the variables that a daemon needs to find the NIC, as NAME=VALUE.
	environment(h *Hypervisor, c DaemonConfig, dir string) []string
	// twin returns the name of the kernel's device for a port, or "" if the NIC has none.
	twin(port string) string
}

// CurrentNIC returns the NIC of all labs of this process, which DPLAB_NIC and DPLAB_CARD choose.
func CurrentNIC() (NIC, error) {
	card := cmp.Or(os.Getenv(cardVariable), "cx6dx")
	switch name := cmp.Or(os.Getenv(nicVariable), "net_eswitch"); name {
	case "net_eswitch":
		return eswitch{card}, nil
	case "net_mlx5":
		return connectX{card}, nil
	default:
		return nil, fmt.Errorf("%s=%s: there is net_eswitch and net_mlx5", nicVariable, name)
	}
}

// eswitch is the software NIC: a DPDK driver whose far sides are DPDK ports.
type eswitch struct{ card string }

func (eswitch) Driver() string { return "net_eswitch" }

func (eswitch) PF(number int) string { return []string{"net_eswitch0", "net_eswitch0_pf1"}[number] }

func (eswitch) VF(number int) string { return fmt.Sprintf("net_eswitch0_representor_vf%d", number) }

func (eswitch) File() string { return plugin }

func (eswitch) ListsFlows() bool { return true }

func (eswitch) ReportsDestroy() bool { return true }

func (eswitch) RefusalWords() string { return "fault injected" }

func (eswitch) SampleAndJump() string { return "a ConnectX-5 cannot mirror a guest's packets and jump" }

func (eswitch) FaultCommand(args string) string {
	return strings.TrimSuffix("/net_eswitch/fault,net_eswitch0,"+args, ",")
}

func (eswitch) RulesCommand(first int) string {
	return fmt.Sprintf("/net_eswitch/rules,net_eswitch0,%d", first)
}

func (eswitch) CountersCommand() string { return "" }

func (e eswitch) ports(h *Hypervisor, c DaemonConfig, dir string) PlainPorts {
	driver := cmp.Or(c.FarSides, "net_af_packet")
	far := func(number int, iface string) string { return kernelPort(driver, number, iface) }
	args := []string{"--no-pci", "-d", filepath.Join(dir, plugin), far(0, "wire0")}
	nic := fmt.Sprintf("--vdev=net_eswitch0,pf0=%s0", driver)
	if !c.NoPF1 {
		args = append(args, far(1, "wire1"))
		nic += fmt.Sprintf(",pf1=%s1", driver)
	}
	for vf := range h.Guests {
		args = append(args, far(vf+2, fmt.Sprintf("guest%d", vf)))
		nic += fmt.Sprintf(",vf%d=%s%d", vf, driver, vf+2)
	}
	nic += ",card=" + cmp.Or(c.Card, e.card)
	if c.NICArgs != "" {
		nic += "," + c.NICArgs
	}
	return PlainPorts{EAL: append(args, nic), Names: portNames(e, c)}
}

func (eswitch) environment(*Hypervisor, DaemonConfig, string) []string { return nil }

func (eswitch) twin(string) string { return "" }

// connectX is a virtual ConnectX beneath the distribution's own net_mlx5.
type connectX struct{ card string }

func (connectX) Driver() string { return "mlx5_pci" }

func (connectX) PF(number int) string { return fmt.Sprintf("0000:03:00.%d", number) }

func (c connectX) VF(number int) string { return fmt.Sprintf("%s_representor_vf%d", c.PF(0), number) }

func (connectX) File() string { return preload }

func (connectX) ListsFlows() bool { return false }

// ReportsDestroy implements NIC. net_mlx5 ignores errors when it destroys a rule (flow_dv_remove).
func (connectX) ReportsDestroy() bool { return false }

func (connectX) RefusalWords() string { return "hardware refuses to create flow" }

func (connectX) SampleAndJump() string { return "sample and jump action combination is not supported" }

func (connectX) FaultCommand(args string) string {
	return strings.TrimSuffix("/connectx/fault,"+args, ",")
}

func (x connectX) RulesCommand(first int) string {
	return fmt.Sprintf("/connectx/rules,%s,%d", x.card, first)
}

func (connectX) CountersCommand() string { return "/connectx/ports" }

func (x connectX) ports(h *Hypervisor, c DaemonConfig, _ string) PlainPorts {
	device := x.PF(0) + ",dv_flow_en=1,dv_esw_en=1"
	if n := len(h.Guests); n > 0 {
		device += fmt.Sprintf(",representor=vf[0-%d]", n-1)
	}
	args := []string{"-a", device}
	if !c.NoPF1 {
		args = append(args, "-a", x.PF(1))
	}
	return PlainPorts{EAL: args, Names: portNames(x, c)}
}

func (x connectX) environment(h *Hypervisor, c DaemonConfig, dir string) []string {
	card := []string{"card=" + cmp.Or(c.Card, x.card), "pf0=wire0"}
	if !c.NoPF1 {
		card = append(card, "pf1=wire1")
	}
	for vf := range h.Guests {
		card = append(card, fmt.Sprintf("vf%d=guest%d", vf, vf))
	}
	if c.NICArgs != "" {
		card = append(card, c.NICArgs)
	}
	return []string{"CONNECTX=" + strings.Join(card, ","), "LD_PRELOAD=" + filepath.Join(dir, preload)}
}

func (connectX) twin(port string) string { return "cx" + port }

// portNames returns the text between the braces of `ports: {}` in the configuration.
func portNames(n NIC, c DaemonConfig) string {
	names := []string{fmt.Sprintf("pf0: %q", n.PF(0))}
	if !c.NoPF1 {
		names = append(names, fmt.Sprintf("pf1: %q", n.PF(1)))
	}
	vfs := strings.TrimSuffix(n.VF(0), "0") + "*"
	return strings.Join(append(names, fmt.Sprintf("vfs: %q", vfs)), ", ")
}
