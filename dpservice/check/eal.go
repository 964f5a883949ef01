// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strconv"
	"strings"
)

// ealArguments are the arguments of EAL that the checks use.
type ealArguments struct {
	noHuge   bool
	noPCI    bool
	memoryMB int // 0 if the arguments set none
	cpus     []int
	devices  []device // from -a
	vdevs    []string
}

// device is a PCI device that EAL's arguments allow.
type device struct {
	address      string // PCI address with the domain
	representors int    // how many the arguments ask for
}

// parseEAL reads EAL's arguments, and ignores those that it does not know.
func parseEAL(args []string) ealArguments {
	var e ealArguments
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		take := func() string {
			if !joined && i+1 < len(args) {
				i++
				return args[i]
			}
			return value
		}
		switch name {
		case "--no-huge":
			e.noHuge = true
		case "--no-pci":
			e.noPCI = true
		case "-m":
			e.memoryMB, _ = strconv.Atoi(take())
		case "-l":
			e.cpus = parseList(take())
		case "--lcores":
			e.cpus = lcoreCPUs(take())
		case "-a", "--allow":
			// The text is an address and devargs, which may contain equals signs, so it must not be cut at one.
			text := take()
			if joined {
				_, text, _ = strings.Cut(args[i], "=")
			}
			e.devices = append(e.devices, parseDevice(text))
		case "--vdev":
			e.vdevs = append(e.vdevs, take())
		}
	}
	return e
}

func parseDevice(text string) device {
	address, args, _ := strings.Cut(text, ",")
	d := device{address: address}
	if strings.Count(address, ":") == 1 {
		d.address = "0000:" + address
	}
	if _, rest, ok := strings.Cut(args, "representor="); ok {
		d.representors = countRepresentors(rest)
	}
	return d
}

// countRepresentors counts the representors in a text that begins with a list such as vf[0-3,7], or with one, as in
// vf0.
func countRepresentors(text string) int {
	open, end := strings.IndexByte(text, '['), strings.IndexByte(text, ']')
	if comma := strings.IndexByte(text, ','); open < 0 || end < open || comma >= 0 && comma < open {
		return 1
	}
	return len(parseList(text[open+1 : end]))
}

// lcoreCPUs returns the CPUs of a list of lcores such as 0,1@2,3@(4-5).
func lcoreCPUs(text string) []int {
	var cpus []int
	depth := 0
	for _, part := range strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth == 0
	}) {
		if _, set, ok := strings.Cut(part, "@"); ok {
			part = set
		}
		cpus = append(cpus, parseList(strings.Trim(part, "()"))...)
	}
	slices.Sort(cpus)
	return slices.Compact(cpus)
}

// parseList reads a list of numbers in the format of the kernel and EAL, such as 0,2-4.
func parseList(text string) []int {
	var all []int
	for _, part := range strings.Split(text, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		const most = 4096 // a typing error must not fill the memory
		for n := first; n <= last && len(all) < most; n++ {
			all = append(all, n)
		}
	}
	return all
}
