// SPDX-License-Identifier: Apache-2.0

// Command confine runs a program with the capabilities, and under the system call filters, of a systemd unit, where
// there is no systemd to do so.
//
//	confine UNIT             the unit's own command
//	confine UNIT COMMAND...
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "confine:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: confine UNIT [COMMAND...]")
	}
	u, err := readUnit(args[0])
	if err != nil {
		return err
	}
	command := u.command
	if len(args) > 1 {
		command = args[1:]
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the limits are this thread's, which becomes the program
	if err := dropCapabilities(u.capabilities); err != nil {
		return err
	}
	if err := filterSyscalls(u); err != nil {
		return err
	}
	return syscall.Exec(program, command, os.Environ())
}

// capabilities are those that the unit may name.
var capabilities = map[string]int{
	"CAP_NET_ADMIN": unix.CAP_NET_ADMIN,
	"CAP_NET_RAW":   unix.CAP_NET_RAW,
	"CAP_IPC_LOCK":  unix.CAP_IPC_LOCK,
	"CAP_SYS_RAWIO": unix.CAP_SYS_RAWIO,
}

// dropCapabilities leaves root's programs no others than those.
func dropCapabilities(names []string) error {
	var kept []int
	for _, name := range names {
		number, ok := capabilities[name]
		if !ok {
			return fmt.Errorf("%s is not known here", name)
		}
		kept = append(kept, number)
	}
	for number := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(kept, number) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", number, err)
		}
	}
	return nil
}

// families by their names.
var families = map[string]uint64{
	"AF_UNIX":    unix.AF_UNIX,
	"AF_PACKET":  unix.AF_PACKET,
	"AF_NETLINK": unix.AF_NETLINK,
	"AF_INET":    unix.AF_INET,
	"AF_INET6":   unix.AF_INET6,
}

// filterSyscalls loads the unit's filters. What they refuse fails with EPERM.
func filterSyscalls(u unit) error {
	info, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("system calls: %w", err)
	}
	var allowed []string
	for _, name := range info.SyscallNumbers {
		if slices.Contains(u.syscalls, name) {
			allowed = append(allowed, name)
		}
	}
	other, err := otherFamilies(u.families)
	if err != nil {
		return err
	}
	for _, policy := range []seccomp.Policy{
		{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{{
			Action: seccomp.ActionErrno, NamesWithCondtions: append(writeExecute(), other),
		}}},
		// The last one, as it may refuse to load others.
		{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: allowed}}},
	} {
		if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Policy: policy}); err != nil {
			return fmt.Errorf("load the filter of %s: %w", strings.Join(policyNames(policy), ","), err)
		}
	}
	return nil
}

func policyNames(p seccomp.Policy) []string {
	var names []string
	for _, g := range p.Syscalls {
		names = append(names, g.Names...)
		for _, n := range g.NamesWithCondtions {
			names = append(names, n.Name)
		}
	}
	return names
}

// otherFamilies matches sockets of all families but those.
func otherFamilies(names []string) (seccomp.NameWithConditions, error) {
	match := seccomp.NameWithConditions{Name: "socket"}
	for _, name := range names {
		number, ok := families[name]
		if !ok {
			return match, fmt.Errorf("%s is not known here", name)
		}
		match.Conditions = append(match.Conditions, seccomp.Condition{Operation: seccomp.NotEqual, Value: number})
	}
	return match, nil
}

const shmExec = 0o100000 // SHM_EXEC

// writeExecute matches what makes memory executable that is, or was, writable: as MemoryDenyWriteExecute does.
func writeExecute() []seccomp.NameWithConditions {
	bits := func(value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: 2, Operation: seccomp.BitsSet, Value: value}
	}
	return []seccomp.NameWithConditions{
		{Name: "mmap", Conditions: seccomp.ArgumentConditions{bits(unix.PROT_EXEC), bits(unix.PROT_WRITE)}},
		{Name: "mprotect", Conditions: seccomp.ArgumentConditions{bits(unix.PROT_EXEC)}},
		{Name: "pkey_mprotect", Conditions: seccomp.ArgumentConditions{bits(unix.PROT_EXEC)}},
		{Name: "shmat", Conditions: seccomp.ArgumentConditions{bits(shmExec)}},
	}
}
