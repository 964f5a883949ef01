// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

func (a *app) systemReport() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Collect what a report of a fault needs into one file",
		Long: `Collect what a report of a fault needs into one file, a tar.gz that only you can read: versions, configuration (no key
of it is a secret), the check of the machine, the last lines of the log, ports with all counters, interfaces, routes,
captures, rules, the packet graph, and how many flows there are of each kind. It has addresses of guests: look at it
before you send it to others. What the daemon does not tell is named in errors.txt, and the command fails.
With -o - the file goes to the standard output.`,
		Example: "  dpctl system report\n  dpctl --socket ./forwarded.sock system report -o report.tar.gz\n  ssh host dpctl system report -o - >report.tar.gz",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			r := report{now: now}
			if err := a.collect(cmd.Context(), &r); err != nil {
				return err
			}
			archive, err := r.archive()
			if err != nil {
				return failure{err}
			}
			if file == "-" {
				_, err = cmd.OutOrStdout().Write(archive)
			} else {
				file = cmp.Or(file, "dpservice-report-"+now.UTC().Format("20060102T150405Z")+".tar.gz")
				if err = writeWhole(file, archive); err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), file)
				}
			}
			if err == nil && len(r.missing) > 0 {
				err = fmt.Errorf("the report is not complete:\n  %s", strings.Join(r.missing, "\n  "))
			}
			if err != nil {
				return failure{err}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "`file` to write, or - (default dpservice-report-TIME.tar.gz)")
	return cmd
}

// report is a report of a fault that is being collected.
type report struct {
	now     time.Time
	files   []reportFile
	missing []string // what could not be collected, and why
}

type reportFile struct {
	name string
	text []byte
}

func (r *report) add(name string, text []byte) { r.files = append(r.files, reportFile{name, text}) }

// plain are the methods whose answers are files of a report as they are.
var plain = []struct {
	file   string
	method api.AnyMethod
}{
	{"system.json", api.MethodSystemInfo},
	{"access.json", api.MethodSystemAccess},
	{"ports.json", api.MethodPortList},
	{"port-stats.json", api.MethodPortStats},
	{"interfaces.json", api.MethodInterfaceList},
	{"routes.json", api.MethodRouteList},
	{"rules.json", api.MethodRuleList},
	{"captures.json", api.MethodCaptureStatus},
	{"capture-capabilities.json", api.MethodCaptureCapabilities},
	{"graph-stats.json", api.MethodGraphStats},
}

// collect asks the daemon for everything. It fails at once if there is no daemon; what else fails is missing.
func (a *app) collect(ctx context.Context, r *report) error {
	for _, p := range plain {
		result, err := a.call(ctx, p.method, nil)
		if errors.Is(err, client.ErrNoDaemon) {
			return err
		}
		r.keep(p.file, err, func(w *bytes.Buffer) error { return writeJSON(w, result) })
	}
	graph, err := answer(ctx, a, api.MethodGraphDOT, api.None{})
	r.keep("graph.dot", err, func(w *bytes.Buffer) error { _, err := w.WriteString(graph.DOT); return err })
	flows, err := a.countFlows(ctx)
	r.keep("flows.txt", err, func(w *bytes.Buffer) error { writeFlowCounts(w, flows); return nil })
	own, err := answer(ctx, a, api.MethodSystemReport, api.None{})
	r.keep("configuration.yaml", err, func(w *bytes.Buffer) error { _, err := w.WriteString(own.Configuration); return err })
	r.keep("check.txt", err, func(w *bytes.Buffer) error { writeFindings(w, own.Check); return nil })
	r.keep("log.txt", err, func(w *bytes.Buffer) error {
		for _, line := range own.Log {
			fmt.Fprintln(w, line)
		}
		return nil
	})
	return nil
}

// keep adds a file that write writes, unless err says that it is missing.
func (r *report) keep(name string, err error, write func(*bytes.Buffer) error) {
	var text bytes.Buffer
	if err == nil {
		err = write(&text)
	}
	if err != nil {
		r.missing = append(r.missing, fmt.Sprintf("%s: %v", name, err))
		return
	}
	r.add(name, text.Bytes())
}

// answer calls a method.
func answer[P, R any](ctx context.Context, a *app, m api.Method[P, R], params P) (r R, err error) {
	result, err := a.call(ctx, m, params)
	if err == nil {
		err = json.Unmarshal(result, &r)
	}
	return r, err
}

// flowKind is what flows of a report have in common.
type flowKind struct {
	iface, origin, proto, action, state string
	offloaded                           bool
}

type flowCount struct {
	flowKind
	flows          int
	packets, bytes uint64
}

// maxPages bounds how long flows are counted: there may be more and more of them.
const maxPages = 1000

// countFlows counts the flows by kind, ordered by the kinds.
func (a *app) countFlows(ctx context.Context) ([]flowCount, error) {
	counts := map[flowKind]*flowCount{}
	limit := api.MaxFlows
	params := api.FlowListParams{Limit: &limit}
	for page := 0; page == 0 || params.Cursor != "" && page < maxPages; page++ {
		flows, err := answer(ctx, a, api.MethodFlowList, params)
		if err != nil {
			return nil, err
		}
		for _, f := range flows.Flows {
			kind := flowKind{f.Interface, f.Origin, f.Proto, f.Action, f.State, f.Offloaded}
			c, ok := counts[kind]
			if !ok {
				c = &flowCount{flowKind: kind}
				counts[kind] = c
			}
			c.flows, c.packets, c.bytes = c.flows+1, c.packets+f.Packets, c.bytes+f.Bytes
		}
		params.Cursor = flows.NextCursor
	}
	var all []flowCount
	for _, c := range counts {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b flowCount) int {
		return strings.Compare(fmt.Sprint(a.flowKind), fmt.Sprint(b.flowKind))
	})
	return all, nil
}

func writeFlowCounts(w io.Writer, counts []flowCount) {
	table(w, "INTERFACE ORIGIN PROTO ACTION STATE HW FLOWS PACKETS BYTES", each(counts, func(c flowCount) []any {
		return []any{c.iface, c.origin, c.proto, c.action, c.state, c.offloaded, c.flows, c.packets, c.bytes}
	}))
}

// writeFindings writes findings as dpservice check does.
func writeFindings(w io.Writer, findings []api.Finding) {
	fmt.Fprintln(w, "Seen while dpservice runs: what it holds itself, such as hugepages, is not free.")
	for _, f := range findings {
		fmt.Fprintf(w, "%-8s %-14s %s\n", f.Level, f.Subject, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(w, "%-8s %-14s   do: %s\n", "", "", f.Fix)
		}
	}
}

// archive returns the report as a tar.gz.
func (r *report) archive() ([]byte, error) {
	if len(r.missing) > 0 {
		r.add("errors.txt", []byte(strings.Join(r.missing, "\n")+"\n"))
	}
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	w := tar.NewWriter(gz)
	for _, f := range r.files {
		header := &tar.Header{Name: "dpservice-report/" + f.name, Mode: 0o600, Size: int64(len(f.text)), ModTime: r.now}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	err := errors.Join(w.Close(), gz.Close())
	return packed.Bytes(), err
}

// writeWhole writes a file that only its owner can read, whole or not at all.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".dpservice-report-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
