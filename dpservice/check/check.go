// SPDX-License-Identifier: Apache-2.0

// Package check examines a machine before dpservice is started there: its card, its CPUs and memory, and the number of
// ports. It changes nothing, and needs neither DPDK nor a card.
package check

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"dpservice/dpservice/access"
	"dpservice/dpservice/config"
)

// Level is the severity of a finding.
type Level string

// The levels. If a finding has the level Failed, dpservice does not start, or does not forward.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Failed  Level = "failed"
)

// Finding is the result of one check.
type Finding struct {
	Level   Level
	Subject string // what was checked, such as "hugepages"
	Text    string // what was found
	Fix     string // what to do; empty if there is nothing to do
}

// Machine gives access to the machine to check.
type Machine struct {
	Root     fs.FS // "/"; symbolic links are followed
	DPDK     string
	MaxPorts int // the largest number of ports of this DPDK
	Names    access.Names
	// Run runs a program and returns its output. The error is exec.ErrNotFound if the program is not installed.
	Run func(ctx context.Context, argv ...string) (string, error)
}

// examination is a run of all checks on a machine.
type examination struct {
	Machine
	ctx      context.Context
	cfg      config.Config
	eal      ealArguments
	findings []Finding
}

// Examine checks the machine for a daemon with this configuration. configErr is not nil if there is no valid
// configuration; then Examine does the checks that need none.
func Examine(ctx context.Context, m Machine, cfg config.Config, configErr error) []Finding {
	x := &examination{Machine: m, ctx: ctx, cfg: cfg, eal: parseEAL(cfg.EAL)}
	x.configuration(configErr)
	x.access()
	x.versions()
	x.cpus()
	x.memory()
	x.card(configErr == nil)
	return x.findings
}

func (x *examination) add(level Level, subject, fix, format string, args ...any) {
	x.findings = append(x.findings, Finding{level, subject, fmt.Sprintf(format, args...), fix})
}

func (x *examination) ok(subject, format string, args ...any) {
	x.add(OK, subject, "", format, args...)
}

func (x *examination) configuration(err error) {
	const subject = "configuration"
	switch {
	case err != nil:
		x.add(Failed, subject, "mend the file; configuration.md has its keys", "%v", err)
	case len(x.cfg.EAL) == 0:
		x.add(
			Failed,
			subject,
			"set eal; connectx.md has an example",
			"there are no arguments for EAL: it would use every device and CPU",
		)
	default:
		x.ok(subject, "it is valid")
	}
}

// Write writes the findings as text, one per line, and below each what to do.
func Write(w io.Writer, findings []Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%-8s %-14s %s\n", f.Level, f.Subject, f.Text); err != nil {
			return err
		}
		if f.Fix == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-8s %-14s   do: %s\n", "", "", f.Fix); err != nil {
			return err
		}
	}
	return nil
}

// Count returns how many findings have a level.
func Count(findings []Finding, level Level) int {
	n := 0
	for _, f := range findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// read returns a file's text without surrounding white space, and whether the file could be read.
func (x *examination) read(path string) (string, bool) {
	text, err := fs.ReadFile(x.Root, path)
	return strings.TrimSpace(string(text)), err == nil
}

// number returns the number in a file; 0 if there is none.
func (x *examination) number(path string) int {
	text, _ := x.read(path)
	n, err := strconv.ParseInt(text, 0, 0)
	if err != nil {
		return 0
	}
	return int(n)
}

// list returns the names in a folder; nil if there is no such folder.
func (x *examination) list(path string) []string {
	entries, err := fs.ReadDir(x.Root, path)
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}
