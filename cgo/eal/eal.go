// SPDX-License-Identifier: Apache-2.0

// Package eal starts and ends DPDK's environment abstraction layer. EAL starts once per process, even after Cleanup.
package eal

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -D_GNU_SOURCE -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#include <stdlib.h>
#include <rte_lcore.h>
#include <rte_version.h>
#include "eal.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// ErrStarted is what a second Init gets: EAL starts once per process.
var ErrStarted = errors.New("eal: already started in this process")

type state int

const (
	fresh state = iota
	failed
	running
	ended
)

var eal struct {
	sync.Mutex
	state state
	calls chan func() // to the thread that is EAL's main lcore
	argv  **C.char    // kept, so that leak checkers see that it is not lost
}

// Init starts EAL with args, which do not include the program's name. EAL writes its log, and the details of a
// failure, to stderr. Since 25.11 it ends the process itself over an argument that it does not understand.
func Init(args []string) error {
	eal.Lock()
	defer eal.Unlock()
	if eal.state != fresh {
		return ErrStarted
	}
	eal.calls = make(chan func())
	go serve(eal.calls)
	var rc C.int
	var argc C.int
	argc, eal.argv = newArgv(args)
	onMainLcore(func() { rc = C.dps_eal_init(argc, eal.argv) })
	if rc < 0 {
		eal.state = failed
		return fmt.Errorf("eal: init with %q: %w", args, syscall.Errno(-rc))
	}
	eal.state = running
	return nil
}

// Cleanup releases what EAL holds. Ports must have been closed and workers have returned. Without a successful
// Init before, and when called again, it does nothing.
func Cleanup() error {
	eal.Lock()
	defer eal.Unlock()
	if eal.state != running {
		return nil
	}
	eal.state = ended
	var rc C.int
	onMainLcore(func() { rc = C.rte_eal_cleanup() })
	if rc < 0 {
		return fmt.Errorf("eal: cleanup: %w", syscall.Errno(-rc))
	}
	return nil
}

// Version is DPDK's version, as in "DPDK 22.11.11".
func Version() string { return C.GoString(C.rte_version()) }

// Lcores returns the ids of the main lcore and of the workers.
func Lcores() (main int, workers []int) {
	const all = ^C.uint(0)
	for id := C.rte_get_next_lcore(all, 1, 0); id < C.RTE_MAX_LCORE; id = C.rte_get_next_lcore(id, 1, 0) {
		workers = append(workers, int(id))
	}
	return int(C.rte_get_main_lcore()), workers
}

// CPUs returns the CPUs that the lcore's thread runs on.
func CPUs(lcore int) []int {
	set := C.rte_lcore_cpuset(C.uint(lcore))
	bits := (*[unsafe.Sizeof(set)]byte)(unsafe.Pointer(&set))
	var cpus []int
	for cpu := range 8 * len(bits) {
		if bits[cpu/8]>>(cpu%8)&1 != 0 { // little-endian words
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// serve makes its thread EAL's main lcore. EAL pins it and keeps its identity in thread-local variables, so the
// thread is never given back to Go.
func serve(calls <-chan func()) {
	runtime.LockOSThread()
	for f := range calls {
		f()
	}
}

func onMainLcore(f func()) {
	done := make(chan struct{})
	eal.calls <- func() { f(); close(done) }
	<-done
}

// newArgv copies args into C memory, which is one block. EAL permutes argv and keeps pointers into it for as long as it
// likes: it is never freed, which is bounded as Init runs once.
func newArgv(args []string) (C.int, **C.char) {
	args = append([]string{"dpservice"}, args...)
	text := strings.Join(args, "\x00") + "\x00"
	pointers := (len(args) + 1) * int(unsafe.Sizeof((*C.char)(nil)))
	block := C.calloc(1, C.size_t(pointers+len(text)))
	rest := unsafe.Slice((*byte)(unsafe.Add(block, pointers)), len(text))
	copy(rest, text)
	argv := (**C.char)(block)
	for i, arg := range args {
		unsafe.Slice(argv, len(args))[i] = (*C.char)(unsafe.Pointer(&rest[0]))
		rest = rest[len(arg)+1:]
	}
	return C.int(len(args)), argv
}
