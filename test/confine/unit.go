// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// unit is the part of a systemd unit that limits what its program may do.
type unit struct {
	command         []string // of ExecStart
	capabilities    []string // CAP_NET_RAW and so on
	syscalls        []string // that are allowed; groups (@...) resolved
	families        []string // of addresses: AF_UNIX and so on
	noNewPrivileges bool
	noWriteExecute  bool // no memory that is writable and executable
}

// readUnit reads a unit's file. It must have all that a unit can have.
func readUnit(path string) (unit, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return unit{}, fmt.Errorf("read the unit: %w", err)
	}
	var u unit
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if err := u.set(key, value); err != nil {
			return unit{}, fmt.Errorf("%s: %s: %w", path, key, err)
		}
	}
	if len(u.command) == 0 || len(u.capabilities) == 0 || len(u.syscalls) == 0 || len(u.families) == 0 ||
		!u.noNewPrivileges || !u.noWriteExecute {
		return unit{}, fmt.Errorf("%s: the unit does not have all of the limits: %+v", path, u)
	}
	return u, nil
}

func (u *unit) set(key, value string) error {
	switch key {
	case "ExecStart":
		u.command = strings.Fields(value)
	case "CapabilityBoundingSet":
		u.capabilities = append(u.capabilities, strings.Fields(value)...)
	case "RestrictAddressFamilies":
		u.families = append(u.families, strings.Fields(value)...)
	case "NoNewPrivileges":
		u.noNewPrivileges = value == "yes"
	case "MemoryDenyWriteExecute":
		u.noWriteExecute = value == "yes"
	case "SystemCallFilter":
		return u.filter(value)
	}
	return nil
}

// filter adds system calls, or takes them away if the text begins with a tilde.
func (u *unit) filter(text string) error {
	text, deny := strings.CutPrefix(text, "~")
	for _, name := range strings.Fields(text) {
		names, err := resolve(name)
		if err != nil {
			return err
		}
		if deny {
			u.syscalls = slices.DeleteFunc(u.syscalls, func(s string) bool { return slices.Contains(names, s) })
		} else {
			u.syscalls = append(u.syscalls, names...)
		}
	}
	return nil
}

// resolve returns the system calls of a group, as this machine's systemd knows them.
func resolve(name string) ([]string, error) {
	if !strings.HasPrefix(name, "@") {
		return []string{name}, nil
	}
	out, err := exec.Command("systemd-analyze", "--no-pager", "syscall-filter", name).Output()
	if err != nil {
		return nil, fmt.Errorf("systemd-analyze syscall-filter %s: %w", name, err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		member := strings.TrimSpace(line)
		if member == "" || member == name || strings.HasPrefix(member, "#") {
			continue
		}
		resolved, err := resolve(member)
		if err != nil {
			return nil, err
		}
		names = append(names, resolved...)
	}
	if len(names) == 0 {
		return nil, errors.New("systemd knows no " + name)
	}
	return names, nil
}
