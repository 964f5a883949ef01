// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pin binds the calling thread, which has to be locked, to a CPU. The returned function undoes it.
func pin(cpu int) (back func(), err error) {
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return nil, fmt.Errorf("binding a thread to CPU %d: %w", cpu, err)
	}
	return func() { _ = unix.SchedSetaffinity(0, &before) }, nil // as it was allowed before
}

// Priorities of those that go before all else on their CPU: a machine that does other things as well moves the figures
// less.
const (
	receivePriority = 1 + iota // of a program, by chrt
	sendPriority
	thiefPriority
)

// goFirst gives the calling thread, which has to be locked, a priority; 0 takes it back.
func goFirst(priority uint32) error {
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}
	if priority == 0 {
		attr.Policy, attr.Flags = unix.SCHED_NORMAL, 0
	}
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
}

// threadTime is how long the calling thread has run.
func threadTime() time.Duration { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

// processTime is how long a process has run, all its threads together.
func processTime(pid int) time.Duration {
	const ofProcess = 2
	return clock(int32(^pid<<3 | ofProcess)) // clock_getcpuclockid(3)
}

// controlTime is how long the threads of the daemon's control side have run: those of Go.
func (d *daemon) controlTime() (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, thread := range threads {
		name, err := os.ReadFile(filepath.Join(thread, "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "dpservice" {
			continue // it has ended, or is another's
		}
		var ran int64
		text, err := os.ReadFile(filepath.Join(thread, "schedstat"))
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			return 0, fmt.Errorf("%s: %w", thread, err)
		}
		sum += time.Duration(ran)
	}
	return sum, nil
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// thief takes a CPU's time before all others can, but for a share of it.
type thief struct {
	stop, stopped chan struct{}
}

// thiefPeriod is short, so that what waits for the CPU needs little room.
const thiefPeriod = 10 * time.Millisecond

// steal begins to take a CPU's time.
func steal(cpu int, leave float64) (*thief, error) {
	t := &thief{stop: make(chan struct{}), stopped: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(t.stopped)
		runtime.LockOSThread() // never unlocked: the thread ends with its priority
		if _, err := pin(cpu); err != nil {
			ready <- err
			return
		}
		err := goFirst(thiefPriority)
		ready <- err
		if err == nil {
			t.run(time.Duration(leave * float64(thiefPeriod)))
		}
	}()
	return t, <-ready
}

func (t *thief) run(leave time.Duration) {
	for next := time.Now(); ; next = next.Add(thiefPeriod) {
		for time.Until(next) > 0 { // the CPU is taken
		}
		select {
		case <-t.stop:
			return
		default:
		}
		rest := unix.NsecToTimespec(int64(leave))
		_ = unix.Nanosleep(&rest, nil) // shorter if it is interrupted
	}
}

func (t *thief) end() {
	close(t.stop)
	<-t.stopped
}
