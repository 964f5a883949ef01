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

// NIC says what the tests have to know of a NIC, which connects the wires and the guests of a lab's hypervisor.
type NIC struct {
	Driver  string    // the DPDK driver's name
	PFs     [2]string // the names of the physical ports in dpservice
	File    string    // the NIC's file in the build folder
	Refusal string    // the driver's message for a fault that FaultCommand has injected
	// SampleAndJump is the message of a ConnectX-5's driver that it does not support a rule which copies and jumps.
	SampleAndJump string
	// ListsFlows says that the NIC lists its rules as the application made them, not as the driver translated them.
	ListsFlows bool
	// ReportsDestroy says that the driver returns an error when the NIC does not destroy a rule.
	ReportsDestroy bool
	// CountersCommand is the telemetry command for the NIC's own counters by port; "" if port.stats has them.
	CountersCommand string

	faultCommand string // injects faults
	rulesCommand string // lists the NIC's rules
	twinPrefix   string // of the kernel's devices for the ports; "" if there are none
	// attach returns the ports between the hypervisor's wires and guests, and the variables (NAME=VALUE) that a daemon
	// needs to find the NIC. dir is the folder of the NIC's file.
	attach func(n *NIC, h *Hypervisor, c DaemonConfig, dir string) (ports PlainPorts, environment []string)
	card   string
}

// VF returns the name of a VF's port in dpservice.
func (n *NIC) VF(number int) string { return fmt.Sprintf("%s_representor_vf%d", n.PFs[0], number) }

// FaultCommand returns the telemetry command that injects faults (args is KEY=VALUE,... or "clear"), or queries them.
func (n *NIC) FaultCommand(args string) string {
	return strings.TrimSuffix(n.faultCommand+","+args, ",")
}

// RulesCommand returns the telemetry command that lists the NIC's rules, starting at this index.
func (n *NIC) RulesCommand(first int) string { return fmt.Sprintf("%s,%d", n.rulesCommand, first) }

// twin returns the name of the kernel's device for a port, or "" if the NIC has none.
func (n *NIC) twin(port string) string {
	if n.twinPrefix == "" {
		return ""
	}
	return n.twinPrefix + port
}

// CurrentNIC returns the NIC of all labs of this process, which DPLAB_NIC and DPLAB_CARD choose.
func CurrentNIC() (*NIC, error) {
	card := cmp.Or(os.Getenv(cardVariable), "cx6dx")
	switch name := cmp.Or(os.Getenv(nicVariable), "net_eswitch"); name {
	case "net_eswitch":
		return eswitch(card), nil
	case "net_mlx5":
		return connectX(card), nil
	default:
		return nil, fmt.Errorf("%s=%s: there is net_eswitch and net_mlx5", nicVariable, name)
	}
}

// eswitch returns the software NIC: a DPDK driver whose far sides are DPDK ports.
func eswitch(card string) *NIC {
	return &NIC{
		Driver:         "net_eswitch",
		PFs:            [2]string{"net_eswitch0", "net_eswitch0_pf1"},
		File:           plugin,
		Refusal:        "fault injected",
		SampleAndJump:  "a ConnectX-5 cannot mirror a guest's packets and jump",
		ListsFlows:     true,
		ReportsDestroy: true,
		faultCommand:   "/net_eswitch/fault,net_eswitch0",
		rulesCommand:   "/net_eswitch/rules,net_eswitch0",
		attach:         attachESwitch,
		card:           card,
	}
}

func attachESwitch(n *NIC, h *Hypervisor, c DaemonConfig, dir string) (PlainPorts, []string) {
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
	nic += ",card=" + cmp.Or(c.Card, n.card)
	if c.NICArgs != "" {
		nic += "," + c.NICArgs
	}
	return PlainPorts{EAL: append(args, nic), Names: n.portNames(c)}, nil
}

// connectX returns a virtual ConnectX beneath the distribution's own net_mlx5. That driver ignores errors when it
// destroys a rule (flow_dv_remove).
func connectX(card string) *NIC {
	return &NIC{
		Driver:          "mlx5_pci",
		PFs:             [2]string{"0000:03:00.0", "0000:03:00.1"},
		File:            preload,
		Refusal:         "hardware refuses to create flow",
		SampleAndJump:   "sample and jump action combination is not supported",
		CountersCommand: "/connectx/ports",
		faultCommand:    "/connectx/fault",
		rulesCommand:    "/connectx/rules," + card,
		twinPrefix:      "cx",
		attach:          attachConnectX,
		card:            card,
	}
}

func attachConnectX(n *NIC, h *Hypervisor, c DaemonConfig, dir string) (PlainPorts, []string) {
	device := n.PFs[0] + ",dv_flow_en=1,dv_esw_en=1"
	if guests := len(h.Guests); guests > 0 {
		device += fmt.Sprintf(",representor=vf[0-%d]", guests-1)
	}
	args := []string{"-a", device}
	card := []string{"card=" + cmp.Or(c.Card, n.card), "pf0=wire0"}
	if !c.NoPF1 {
		args = append(args, "-a", n.PFs[1])
		card = append(card, "pf1=wire1")
	}
	for vf := range h.Guests {
		card = append(card, fmt.Sprintf("vf%d=guest%d", vf, vf))
	}
	if c.NICArgs != "" {
		card = append(card, c.NICArgs)
	}
	environment := []string{"CONNECTX=" + strings.Join(card, ","), "LD_PRELOAD=" + filepath.Join(dir, preload)}
	return PlainPorts{EAL: args, Names: n.portNames(c)}, environment
}

// portNames returns the text between the braces of `ports: {}` in the configuration.
func (n *NIC) portNames(c DaemonConfig) string {
	names := []string{fmt.Sprintf("pf0: %q", n.PFs[0])}
	if !c.NoPF1 {
		names = append(names, fmt.Sprintf("pf1: %q", n.PFs[1]))
	}
	vfs := strings.TrimSuffix(n.VF(0), "0") + "*"
	return strings.Join(append(names, fmt.Sprintf("vfs: %q", vfs)), ", ")
}
