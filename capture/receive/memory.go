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

// bufferShare is which part of the available memory a buffer may take: the kernel does not give it back when others
// need it, and ends programs instead.
const bufferShare = 4

// bufferFor is how large a buffer is to be, in bytes: as asked for, if there is memory for it, or the default.
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

// availableMemory is how many bytes this process could have without swapping: what the machine has, and what its
// control groups leave it. The files are below root.
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

// availableToGroup is what the control group of this process and those above it (cgroups, version 2) leave it.
func availableToGroup(root string) int {
	available := math.MaxInt
	text, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup")) // there need be none
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && group != "."; group = filepath.Dir(group) {
			available = min(available, leftOf(filepath.Join(root, "sys/fs/cgroup", group)))
			ok = group != "/"
		}
	}
	return available
}

// leftOf is what a control group may still take: files that it only remembers give way.
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
