// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// cpus checks that the lcores' CPUs exist, and that the workers' CPUs are isolated.
func (x *examination) cpus() {
	const subject = "CPUs"
	lcores := x.eal.cpus
	online, _ := x.read("sys/devices/system/cpu/online")
	there := parseList(online)
	if len(lcores) == 0 {
		x.add(Note, subject, "name lcores with -l: the first is for control, each of the others is a worker",
			"the configuration names no lcores, EAL would take all of %s", online)
		return
	}
	var missing []int
	for _, cpu := range lcores {
		if !slices.Contains(there, cpu) {
			missing = append(missing, cpu)
		}
	}
	if len(missing) > 0 {
		x.add(Failed, subject, "name others with -l", "CPUs %v are not online; there are %s", missing, online)
		return
	}
	if len(lcores) < 2 {
		x.add(Failed, subject, "name two at least with -l", "lcore %v is the only one: none is left for a worker", lcores)
		return
	}
	text, _ := x.read("sys/devices/system/cpu/isolated")
	isolated := parseList(text)
	var shared []int
	for _, cpu := range lcores[1:] {
		if !slices.Contains(isolated, cpu) {
			shared = append(shared, cpu)
		}
	}
	if len(shared) > 0 {
		x.add(Warning, subject, "add isolcpus="+join(lcores[1:])+" to the kernel's command line, and reboot",
			"workers' CPUs %v also run other programs: packets wait meanwhile", shared)
		return
	}
	x.ok(subject, "control on %d, workers on %v, which are isolated", lcores[0], lcores[1:])
}

func join(numbers []int) string {
	text := make([]string, len(numbers))
	for i, n := range numbers {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ",")
}

// Sizes for the estimate of the memory that dpservice needs.
const (
	mbufOverhead = 256     // bytes of a packet buffer in addition to its data room
	dataRoom     = 2048    // bytes, the least data room of a packet buffer
	flowSize     = 256     // bytes of a flow in a worker's table, rounded up
	daemonMB     = 256     // MiB for the daemon itself
	kibibyte     = 1 << 10 // the unit of /proc and sysfs
	mebibyte     = 1 << 20
)

// neededMB returns the memory in MiB that EAL's arguments ask for, or else an estimate for tables and packet buffers.
func (x *examination) neededMB() int {
	if x.eal.memoryMB > 0 {
		return x.eal.memoryMB
	}
	buffers := x.cfg.Mbufs * (max(x.cfg.MbufSize, dataRoom) + mbufOverhead)
	flows := x.cfg.Flows.Capacity * flowSize * max(1, len(x.eal.cpus)-1)
	return (buffers+flows)/mebibyte + 1
}

// memory checks that there are enough hugepages, or enough memory if EAL uses no hugepages.
func (x *examination) memory() {
	need := x.neededMB()
	if x.eal.noHuge {
		x.plainMemory(need)
	} else {
		x.hugepages(need)
	}
}

func (x *examination) plainMemory(need int) {
	const subject = "memory"
	text, _ := x.read("proc/meminfo")
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "MemAvailable:")
		if !ok {
			continue
		}
		kib, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		if free := kib * kibibyte / mebibyte; free < need+daemonMB {
			x.add(Failed, subject, "free some, or ask for less with -m, mbufs and flows.capacity",
				"%d MiB are available, about %d are needed", free, need+daemonMB)
			return
		}
		x.ok(subject, "%d MiB without hugepages", need)
		return
	}
	x.add(Warning, subject, "", "/proc/meminfo does not say how much is available")
}

// hugepages checks the free hugepages of all NUMA nodes together, and of the card's node.
func (x *examination) hugepages(need int) {
	const subject = "hugepages"
	const fix = "echo PAGES >/sys/devices/system/node/nodeN/hugepages/hugepages-2048kB/nr_hugepages, early after the boot"
	if mounts, _ := x.read("proc/mounts"); !strings.Contains(mounts, " hugetlbfs ") {
		x.add(
			Failed,
			subject,
			"mount -t hugetlbfs none /dev/hugepages, or --no-huge to try things",
			"no hugetlbfs is mounted",
		)
		return
	}
	free := map[string]int{} // MiB by NUMA node
	total := 0
	for _, node := range x.list("sys/devices/system/node") {
		if !strings.HasPrefix(node, "node") {
			continue
		}
		dir := "sys/devices/system/node/" + node + "/hugepages"
		for _, size := range x.list(dir) {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(size, "hugepages-"), "kB"))
			if err == nil {
				free[node] += x.number(dir+"/"+size+"/free_hugepages") * kib * kibibyte / mebibyte
			}
		}
		total += free[node]
	}
	if total < need {
		x.add(Failed, subject, fix, "%d MiB are free, about %d are needed", total, need)
		return
	}
	for _, d := range x.eal.devices {
		node := x.numaNode(d.address)
		if node >= 0 && free["node"+strconv.Itoa(node)] < need {
			x.add(Warning, subject, fix, "node %d, where %s is, has only %d MiB free of the %d that are needed", node, d.address,
				free["node"+strconv.Itoa(node)], need)
			return
		}
	}
	x.ok(subject, "%d MiB are free, %d are needed", total, need)
}

// numaNode returns the NUMA node of a device; -1 if it is unknown.
func (x *examination) numaNode(address string) int {
	if _, ok := x.read("sys/bus/pci/devices/" + address + "/numa_node"); !ok {
		return -1
	}
	return x.number("sys/bus/pci/devices/" + address + "/numa_node")
}

// iommu checks that VFs can be passed to VMs.
func (x *examination) iommu() {
	const subject = "IOMMU"
	const fix = "switch it on in the BIOS, and with intel_iommu=on iommu=pt (AMD: iommu=pt) on the kernel's command line"
	if len(x.list("sys/class/iommu")) == 0 {
		x.add(Failed, subject, fix, "there is none: no VF can be passed to a VM")
		return
	}
	if cmdline, _ := x.read("proc/cmdline"); !slices.Contains(strings.Fields(cmdline), "iommu=pt") {
		x.add(
			Note,
			subject,
			"add iommu=pt to the kernel's command line",
			"it also translates the host's own accesses, which costs throughput",
		)
		return
	}
	x.ok(subject, "it is on, with iommu=pt")
}

// modules checks that the kernel modules and devices that net_mlx5 needs are there.
func (x *examination) modules() {
	const subject = "kernel modules"
	var missing []string
	for _, name := range []string{"mlx5_core", "mlx5_ib", "ib_uverbs"} {
		if _, err := fs.Stat(x.Root, "sys/module/"+name); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		x.add(Failed, subject, "modprobe "+strings.Join(missing, " "), "%s is not loaded", strings.Join(missing, ", "))
		return
	}
	if !slices.ContainsFunc(x.list("dev/infiniband"), func(n string) bool { return strings.HasPrefix(n, "uverbs") }) {
		x.add(
			Failed,
			subject,
			"pass /dev/infiniband through to this container, if it is one",
			"there is no /dev/infiniband/uverbs*",
		)
		return
	}
	x.ok(subject, "mlx5_core, mlx5_ib and ib_uverbs are loaded")
}
