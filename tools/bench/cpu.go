// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pin binds the calling thread to a CPU. The goroutine must be locked to its thread. The returned function undoes it.
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

// Real-time priorities of the measured threads, so that other load on the machine affects the figures less.
const (
	receivePriority = 1 + iota // of a program, by chrt
	sendPriority
	thiefPriority
)

// goFirst gives the calling thread a real-time priority; 0 restores the normal one. The goroutine must be locked to its
// thread.
func goFirst(priority uint32) error {
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}
	if priority == 0 {
		attr.Policy, attr.Flags = unix.SCHED_NORMAL, 0
	}
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
}

// threadTime returns the CPU time of the calling thread.
func threadTime() time.Duration { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

// processTime returns the CPU time of a process, of all its threads together.
func processTime(pid int) time.Duration {
	const ofProcess = 2
	return clock(int32(^pid<<3 | ofProcess)) // clock_getcpuclockid(3)
}

// threads returns the daemon's threads of a name.
func (d *daemon) threads(name string) ([]int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", d.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	var tids []int
	for _, task := range tasks {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/comm", d.cmd.Process.Pid, task.Name()))
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue // it has ended, or belongs to another part
		}
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, err
		}
		tids = append(tids, tid)
	}
	return tids, nil
}

// nicFirst has the daemon's worker and the test NIC's thread hardly wait for other threads, as if they had their CPUs:
// after some milliseconds there are more packets than a queue takes. A real-time priority would not do: Linux takes the
// CPU away from such a thread for 50 ms in a second, if others wait.
func (d *daemon) nicFirst() error {
	for _, name := range []string{"rte-worker-1", "eswitch"} {
		tids, err := d.threads(name)
		if err == nil && len(tids) == 0 {
			err = errors.New("there is none")
		}
		for _, tid := range tids {
			err = errors.Join(err, os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, tid, -20)))
		}
		if err != nil {
			return fmt.Errorf("threads %s: %w", name, err)
		}
	}
	return nil
}

// controlTime returns the CPU time of the daemon's control side, which is Go's threads.
func (d *daemon) controlTime() (time.Duration, error) {
	tids, err := d.threads("dpservice")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, tid := range tids {
		var ran int64
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", d.cmd.Process.Pid, tid))
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			return 0, fmt.Errorf("thread %d: %w", tid, err)
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

// thief uses up a CPU's time with a high priority, except for a share that it leaves to others.
type thief struct {
	stop, stopped chan struct{}
}

// thiefPeriod is short, so that programs that wait for the CPU need only small buffers.
const thiefPeriod = 10 * time.Millisecond

// steal starts to use up a CPU's time.
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
		for time.Until(next) > 0 { // busy loop
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
