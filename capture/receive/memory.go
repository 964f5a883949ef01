// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// bufferShare limits a buffer to this fraction of the available memory: one in bufferShare. The kernel does not release
// the buffer when memory is short, but kills processes instead.
const bufferShare = 4

// bufferFor returns the size of the buffer in bytes: the requested size if there is enough memory for it, or the
// default.
func bufferFor(asked int) (int, error) {
	available, err := availableMemory("/")
	if err != nil {
		return 0, fmt.Errorf("how much memory is available: %w", err)
	}
	return bufferWithin(asked, available)
}

func bufferWithin(asked, available int) (int, error) {
	most := available / bufferShare
	switch {
	case asked == 0:
		return min(DefaultBuffer, most), nil
	case asked > most:
		return 0, fmt.Errorf("a buffer of %d MiB is more than a quarter of the %d MiB of memory that are available: at most %d MiB",
			asked>>20, available>>20, most>>20)
	}
	return asked, nil
}

// availableMemory returns how many bytes this process can allocate without swapping: the minimum of what the machine
// has available and what the limits of its control groups leave. The files are read below root.
func availableMemory(root string) (int, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0, err
	}
	available := -1
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			available = kib << 10
		}
	}
	if available < 0 {
		return 0, fmt.Errorf("no MemAvailable in /proc/meminfo")
	}
	return min(available, availableToGroup(root)), nil
}

// availableToGroup returns how much the control group of this process and its parents (cgroups, version 2) can still
// allocate.
func availableToGroup(root string) int {
	available := math.MaxInt
	text, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup")) // without the file there is no limit
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && group != "."; group = filepath.Dir(group) {
			available = min(available, leftOf(filepath.Join(root, "sys/fs/cgroup", group)))
			ok = group != "/"
		}
	}
	return available
}

// leftOf returns how much a control group can still allocate. The page cache does not count as used, since the kernel
// reclaims it.
func leftOf(dir string) int {
	limit, limited := readNumber(filepath.Join(dir, "memory.max"))
	used, known := readNumber(filepath.Join(dir, "memory.current"))
	if !limited || !known {
		return math.MaxInt
	}
	text, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
	for line := range strings.Lines(string(text)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.Atoi(number); err == nil && (name == "active_file" || name == "inactive_file") {
			used -= n
		}
	}
	return max(0, limit-used)
}

func readNumber(file string) (int, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return n, err == nil
}
