// SPDX-License-Identifier: Apache-2.0

// Package affinity keeps a process off CPUs that others need for themselves.
package affinity

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Leave moves every thread of this process off the given CPUs, except threads that may run on no other. New threads
// inherit the CPUs of the thread that creates them.
func Leave(cpus []int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("listing threads: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		if err := leave(tid, cpus); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
			return fmt.Errorf("moving thread %d: %w", tid, err)
		}
	}
	return nil
}

func leave(tid int, cpus []int) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(tid, &set); err != nil {
		return err
	}
	before := set.Count()
	for _, cpu := range cpus {
		set.Clear(cpu)
	}
	if set.Count() == 0 || set.Count() == before {
		return nil
	}
	return unix.SchedSetaffinity(tid, &set)
}
